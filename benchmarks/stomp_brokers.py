"""The systems of a comparison of STOMP: which there are, and how each is started.

Each is started once and kept for the whole table, with data on disk in a directory of its own: a
virtual machine that compiles what runs often would otherwise be measured before it has.
"""

import contextlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

import msgspec

from .machine import pinned
from .peer import PeerProcess
from .server import ServerProcess
from .stomp_plan import OURS
from .systems import activemq, rabbitmq
from .systems.activemq import ActiveMQProcess
from .systems.rabbitmq import RabbitMQProcess

__all__ = ["PEERS", "SYSTEMS", "Running", "missing", "started", "version_of"]

PEERS: Final = ("activemq", "rabbitmq")
SYSTEMS: Final = (OURS, *PEERS)
_URL: Final = "stomp://127.0.0.1:0"


class Running(msgspec.Struct, frozen=True):
    """Where a broker listens, and its process."""

    host: str
    port: int
    pid: int


def missing(system: str) -> str:
    """Why a system cannot be started; "" when it can."""
    if system == "activemq":
        return activemq.why_not()
    return rabbitmq.why_not() if system == "rabbitmq" else ""


def version_of(system: str) -> str:
    """Which version would be started; "" when none is there."""
    if system == "activemq":
        return activemq.version()
    return rabbitmq.version() if system == "rabbitmq" else package_version("braidmq")


@contextlib.contextmanager
def started(systems: Sequence[str], directory: str, core: int) -> Iterator[dict[str, Running]]:
    """Brokers by name, on a core or (-1) on all. Raises ServerFailed."""
    with contextlib.ExitStack() as stack:
        yield {name: _start(stack, name, Path(directory, name), core) for name in systems}


def _start(stack: contextlib.ExitStack, name: str, directory: Path, core: int) -> Running:
    directory.mkdir()
    with pinned(core):  # what it starts inherits the core
        if name == OURS:
            server = ServerProcess(str(directory), ("--listen", _URL))
            stack.enter_context(server)
            return Running("127.0.0.1", server.port("stomp"), server.pid)
        kind: type[PeerProcess] = ActiveMQProcess if name == "activemq" else RabbitMQProcess
        peer = stack.enter_context(kind(str(directory)))
    return Running(peer.host, peer.port, peer.pid)

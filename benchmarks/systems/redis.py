"""Redis: the server, with its append-only file for all that has to last."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..peer import PeerProcess, find_program, program_version
from .certificates import Certificate, issue
from .system import Running

__all__ = ["RedisProcess", "RedisSystem", "configuration", "version", "why_not"]

_FILE: Final = "redis.conf"
# By durability: what is in the configuration, and what that means.
_PERSISTENCE: Final = {
    "sync": {
        "appendonly": "yes",
        "appendfsync": "always",  # before any command of a loop turn is answered
    },
    "os": {"appendonly": "yes", "appendfsync": "everysec"},
    "memory": {"appendonly": "no"},
}


def _find() -> str:
    return find_program("redis-server")


def version() -> str:
    """Its version, "" when it is not installed."""
    return program_version(_find(), "--version")


def why_not() -> str:
    """Why there is no server; "" when there is."""
    return "" if _find() else "redis-server is not installed (apt install redis-server)"


def configuration(
    ports: Sequence[int], directory: str, durability: str, certificate: Certificate | None = None
) -> str:
    """Its configuration file; durability is sync, os (written, synced each second) or memory.

    Two ports: the second is for TLS, with the certificate.
    """
    lines = [
        "bind 127.0.0.1",
        "protected-mode no",  # else 127.0.0.2 is a stranger; we come from many such addresses
        f"port {ports[0]}",
        f"dir {directory}",
        'save ""',  # no snapshots beside the log
        *(f"{name} {value}" for name, value in _PERSISTENCE[durability].items()),
        "auto-aof-rewrite-percentage 0",  # no second process in the middle of a run
        "client-output-buffer-limit normal 0 0 0",
    ]
    if certificate is not None:
        lines += [
            f"tls-port {ports[1]}",
            f"tls-cert-file {certificate.certificate}",
            f"tls-key-file {certificate.key}",
            f"tls-ca-cert-file {certificate.authority}",
            "tls-auth-clients no",
        ]
    return "\n".join(lines) + "\n"


class RedisProcess(PeerProcess):
    """``with RedisProcess(directory, "sync") as broker: connect(broker.host, broker.port)``."""

    name = "redis"
    why_not = staticmethod(why_not)

    def __init__(
        self, directory: str, durability: str, certificate: Certificate | None = None
    ) -> None:
        super().__init__(directory)
        self._durability = durability
        self._certificate = certificate
        self.listeners = 1 if certificate is None else 2

    def _prepare(self, port: int) -> None:
        words = configuration(self.ports, self.directory, self._durability, self._certificate)
        Path(self.directory, _FILE).write_text(words)

    def _command(self, port: int) -> Sequence[str]:
        return _find(), os.path.join(self.directory, _FILE)


class RedisSystem:
    """See ``system.System``."""

    name = "redis"
    schemes = frozenset({"redis"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        durability = "sync" if durable else "memory"
        certificate = issue(directory)
        broker = stack.enter_context(RedisProcess(directory, durability, certificate))
        urls = [{"redis": f"redis://{broker.host}:{port}"} for port in broker.ports]
        meaning = (
            "a confirmation follows the fsync of the append-only file"
            if durable
            else "nothing is written to disk"
        )
        return Running(
            version=version(),
            urls=urls[0],
            pid=broker.pid,
            settings={
                **_PERSISTENCE[durability],
                "save": "never: no snapshots",
                "auto-aof-rewrite-percentage": "0: the file is not rewritten during a run",
                "client-output-buffer-limit normal": "none",
                "durability": meaning,
            },
            tls_urls=urls[1] if certificate else {},
            tls_ca=certificate.authority if certificate else "",
            restart=broker.restart,
        )

"""Eclipse Mosquitto as the peer, configured as the test needs it.

Its defaults are made for small machines: 20 messages in flight and 1,000 queued for a client, the
rest is dropped. A comparison has to lift that, or mosquitto would be quick by throwing away. It
cannot sync: what it is to keep, it writes to a file once a second, as a whole.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..peer import PeerProcess, find_program, program_version
from .certificates import Certificate, issue
from .system import Running

__all__ = ["MosquittoProcess", "MosquittoSystem", "configuration", "version", "why_not"]

_FILE: Final = "mosquitto.conf"


def _find() -> str:
    return find_program("mosquitto")


def version() -> str:
    """Its version, "" when it is not installed."""
    return program_version(_find(), "-h")


def why_not() -> str:
    """Why there is no server; "" when there is."""
    return "" if _find() else "mosquitto is not installed (apt install mosquitto)"


def configuration(
    ports: Sequence[int], directory: str = "", certificate: Certificate | None = None
) -> str:
    """Its configuration file; ``directory``: where it saves sessions, "": nowhere.

    Two ports: the second is for TLS, with the certificate.
    """
    lines = [f"listener {ports[0]} 127.0.0.1"]
    if certificate is not None:
        files = [f"certfile {certificate.certificate}", f"keyfile {certificate.key}"]
        lines += [f"listener {ports[1]} 127.0.0.1", *files]
    lines += [
        "allow_anonymous true",
        "max_inflight_messages 0",  # no limit; 20 would make every window wait
        "max_queued_messages 0",  # no limit; 1,000 and then it drops
        "max_queued_bytes 0",  # no limit, which is the default
        "set_tcp_nodelay true",  # ours has it, too
        "sys_interval 0",  # no $SYS messages
        "connection_messages false",  # no log lines for each connection
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")  # it would become another user, who may not exist
    if directory:
        lines += ["persistence true", f"persistence_location {directory}/", "autosave_interval 1"]
    else:
        lines.append("persistence false")
    return "\n".join(lines) + "\n"


class MosquittoProcess(PeerProcess):
    """``with MosquittoProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "mosquitto"
    why_not = staticmethod(why_not)

    def __init__(
        self, directory: str, saving: bool = False, certificate: Certificate | None = None
    ) -> None:
        super().__init__(directory)
        self._saving = saving
        self._certificate = certificate
        self.listeners = 2 if certificate is not None else 1

    def _prepare(self, port: int) -> None:
        saved = self.directory if self._saving else ""
        words = configuration(self.ports, saved, self._certificate)
        Path(self.directory, _FILE).write_text(words)

    def _command(self, port: int) -> Sequence[str]:
        return _find(), "-c", os.path.join(self.directory, _FILE)


class MosquittoSystem:
    """See ``system.System``."""

    name = "mosquitto"
    schemes = frozenset({"mqtt", "mqtt5"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        certificate = issue(directory)
        broker = stack.enter_context(MosquittoProcess(directory, durable, certificate))
        where = [f"{broker.host}:{port}" for port in broker.ports]
        urls = [{scheme: f"{scheme}://{place}" for scheme in self.schemes} for place in where]
        persistence = "true, autosave_interval 1 s" if durable else "false"
        meaning = (
            "a confirmation means that it is in memory; a copy is written each second, never synced"
            if durable
            else "nothing is written to disk"
        )
        return Running(
            version=version(),
            urls=urls[0],
            pid=broker.pid,
            settings={
                "limits": "none on messages in flight or waiting",
                "persistence": persistence,
                "durability": meaning,
            },
            tls_urls=urls[1] if certificate else {},
            tls_ca=certificate.authority if certificate else "",
            restart=broker.restart,
        )

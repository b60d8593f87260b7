"""BraidMQ itself: one daemon for all its protocols, with the limits lifted that peers do not have.

Rules:

1. All listeners are in one daemon, with TLS beside each where a certificate can be made.
2. What is durable is said when it is declared, not here. Queues that STOMP declares by using them
   are always on disk; a message to MQTT clients is as durable as their sessions.
"""

import contextlib
import json
from collections.abc import Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ..server import ServerProcess
from .certificates import Certificate, issue
from .system import Running

__all__ = ["LIFTED", "BraidMQSystem", "configuration"]

# Limits that drop messages would make a broker quick by that; others would end a run.
LIFTED: Final = """\
[limits]
connections_max = 100000
connections_unauthenticated_max = 100000
live_queue_messages_max = 1000000
live_queue_bytes_max = 1073741824
session_messages_max = 100000000
session_bytes_max = 68719476736
subscriptions_per_session_max = 1000000

[mqtt]
receive_maximum = 65535
in_flight_maximum = 65535
maximum_packet_size_bytes = 8388608
"""
_SCHEMES: Final = ("braid", "mqtt", "stomp")
_FILE: Final = "bench.toml"


def configuration(urls: Sequence[str], certificate: Certificate | None) -> str:
    """Its configuration file; schemes of TLS end with s."""
    listeners = []
    for url in urls:
        if urlsplit(url).scheme in _SCHEMES or certificate is None:
            listeners.append(json.dumps(url))
            continue
        files = (certificate.certificate, certificate.key)
        words = "{{ url = {}, tls_certificate = {}, tls_key = {} }}"
        listeners.append(words.format(*map(json.dumps, (url, *files))))
    return f"listeners = [{', '.join(listeners)}]\n\n{LIFTED}"


class BraidMQSystem:
    """See ``system.System``."""

    name = "braidmq"
    schemes = frozenset({"braid", "mqtt", "mqtt5", "stomp"})

    def why_not(self) -> str:
        """It is always there."""
        return ""

    def version(self) -> str:
        """Its version."""
        return package_version("braidmq")

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        certificate = issue(directory)
        file = Path(directory, _FILE)
        schemes = [*_SCHEMES, *(f"{each}s" for each in _SCHEMES if certificate)]
        file.write_text(configuration([f"{each}://127.0.0.1:0" for each in schemes], certificate))
        server = ServerProcess(directory, ("--config", str(file)), listen=())
        stack.enter_context(server)

        def restart() -> int:
            file.write_text(configuration(server.urls, certificate))
            server.kill()
            server.start()
            return server.pid

        meaning = (
            "a confirmation follows the fdatasync of what was declared durable"
            if durable
            else "in memory where it is declared so; queues that STOMP declares are synced"
        )
        return Running(
            version=self.version(),
            urls=_by_driver(server, ""),
            pid=server.pid,
            settings={"limits": "lifted, as the peers' are", "durability": meaning},
            tls_urls=_by_driver(server, "s") if certificate else {},
            tls_ca=certificate.authority if certificate else "",
            restart=restart,
        )


def _by_driver(server: ServerProcess, suffix: str) -> dict[str, str]:
    """URLs as drivers know them, where the daemon listens for its schemes with this suffix."""
    ports = {scheme: server.port(scheme + suffix) for scheme in _SCHEMES}
    ports["mqtt5"] = ports["mqtt"]
    return {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}

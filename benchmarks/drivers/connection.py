"""How a client of any driver reaches its broker: the socket, TLS, and what is asked before the run.

Rules:

1. A socket blocks, with a timeout, until the driver hands it over; then it does not.
2. On Linux, clients of a broker on loopback come from several loopback addresses, by their client
   identifiers: one address has 28,000 ports, and a connection that ended holds its for a minute.
"""

import contextlib
import functools
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit
from zlib import crc32

from .driver import Client, Refused, Wiring

__all__ = [
    "ADDRESSES",
    "address",
    "ask",
    "converse",
    "hang_up",
    "login",
    "new_socket",
    "open_socket",
    "say_first",
]

ADDRESSES: Final = 16  # of loopback that connections come from

_HANDSHAKE_SECONDS: Final = 60.0
_PARTING_SECONDS: Final = 1.0
_READ_BYTES: Final = 1024 * 1024
# Leaves the choice of a port to connect(), which knows which are free (linux/in.h).
_IP_BIND_ADDRESS_NO_PORT: Final = 24


def address(url: str) -> tuple[str, int]:
    """Host and port of a URL. Raises ValueError when one is missing."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise ValueError(f"{url} has to name a host and a port")
    return parts.hostname, parts.port


def login(url: str) -> tuple[str, str]:
    """User and password of a URL; "" for each that it does not have."""
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


@functools.cache
def _context(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


def new_socket(wiring: Wiring) -> socket.socket:
    """A socket that is not connected yet. Raises OSError, ValueError."""
    host, port = address(wiring.url)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if host.startswith("127.") and sys.platform == "linux" and wiring.client_id:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        number = crc32(wiring.client_id.encode()) % ADDRESSES
        sock.bind((f"127.0.0.{number + 1}", 0))
    return sock


def open_socket(wiring: Wiring) -> socket.socket:
    """A connection that blocks, with TLS where that is wanted. Raises OSError, ValueError."""
    sock = new_socket(wiring)
    try:
        sock.settimeout(_HANDSHAKE_SECONDS)
        sock.connect(address(wiring.url))
        if wiring.tls_ca:
            host = address(wiring.url)[0]
            return _context(wiring.tls_ca).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    return sock


def ask(sock: socket.socket, request: bytes, is_whole: Callable[[bytes], bool]) -> bytes:
    """Send, and wait for an answer that is whole: all that was read.

    Raises Refused when the connection ends, OSError (TimeoutError too).
    """
    sock.sendall(request)
    answer = b""
    while not is_whole(answer):
        data = sock.recv(_READ_BYTES)
        if not data:
            raise Refused(f"the connection was closed after {answer[:200]!r}")
        answer += data
    return answer


def converse(client: Client, is_done: Callable[[], bool]) -> None:
    """Write what a client has to say and feed it what comes, until it is done.

    Its socket blocks meanwhile, and does not afterwards. When it cannot go on the socket is closed.

    Raises Refused, OSError (TimeoutError too).
    """
    sock = client.socket
    try:
        sock.settimeout(_HANDSHAKE_SECONDS)
        while True:
            sock.sendall(client.out)
            client.out.clear()
            if is_done():
                sock.setblocking(False)
                return
            data = sock.recv(_READ_BYTES)
            if not data:
                raise Refused("the broker closed the connection")
            client.feed(data)
    except BaseException:
        sock.close()
        raise


def say_first(client: Client) -> None:
    """Send what a client has to say before anything comes: that it wants messages.

    Raises OSError.
    """
    client.socket.settimeout(_HANDSHAKE_SECONDS)
    client.socket.sendall(client.out)
    client.socket.setblocking(False)
    client.out.clear()


def hang_up(sock: socket.socket, goodbye: bytes = b"", answer: bytes = b"") -> None:
    """Say goodbye if the broker still listens, wait for its answer, and close; never raises."""
    with contextlib.suppress(OSError):
        sock.settimeout(_PARTING_SECONDS)
        sock.sendall(goodbye)
        came = b""
        while answer not in came and (data := sock.recv(_READ_BYTES)):
            came = came[-len(answer) :] + data
    sock.close()

"""Conversations with stream brokers: each is a socket, and what is said on it.

A driver (``redis_stream.py``, ``jetstream.py``, ``stream_native.py``) makes sockets that have
shaken hands, and exchanges: pure objects that are fed what arrived and return what to send next.
Rules:

1. What is sent was built before the run; what arrives is counted and compared, not decoded.
2. A reader asks for more when it has the whole answer; a producer sends when the run says so.
3. One loop serves all exchanges of a run, and never waits for a socket that is not ready.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .drivers.driver import Refused

__all__ = ["Driver", "Exchange", "Link", "Loop", "open_socket"]

_READ_BYTES: Final = 1024 * 1024
_SOCKET_BYTES: Final = 4 * 1024 * 1024
_HANDSHAKE_SECONDS: Final = 60.0


class Exchange(Protocol):
    """One conversation, without its socket."""

    def request(self) -> bytes:
        """What to send first; of a producer: what to send next."""

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Take whole answers off the front: (records they confirm or hold, what to send now).

        Raises Refused.
        """

    @property
    def corrupt(self) -> int:
        """Records that were not what was due."""


class Driver(Protocol):
    """How to speak with one system; all of it is made for one plan.

    Every link has a new connection that has shaken hands. All raise OSError, Refused.
    """

    def prepare(self) -> None:
        """Make what the plan needs."""

    def appender(self, batch: int) -> "Link":
        """Sends batches of the cycle, from its beginning."""

    def replayer(self) -> "Link":
        """Reads all ``plan.records``, again and again, in order."""

    def follower(self) -> "Link":
        """Reads from the beginning, and goes on with what comes."""

    def member(self, number: int) -> "Link":
        """Shares what there is with the other members of a group, and confirms what it read."""

    def publisher(self) -> "Link":
        """Publishes single bodies to ``plan.targets`` queues; a record is one that got it."""

    def stored(self) -> int:
        """How many records there are now."""


def open_socket(host: str, port: int) -> socket.socket:
    """A connection with buffers for whole batches."""
    sock = socket.create_connection((host, port), _HANDSHAKE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
    return sock


class Link:
    """A socket and its exchange; ``asked_ns``: when something was sent last."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self.socket = sock
        self.exchange = exchange
        self.asked_ns = 0
        self._in = bytearray()
        self._out = memoryview(b"")
        sock.setblocking(False)

    def send(self, data: bytes) -> bool:
        """Send as much as goes now; whether that was all."""
        self.asked_ns = time.monotonic_ns()
        self._out = memoryview(bytes(self._out) + data) if self._out else memoryview(data)
        return self.flush()

    def flush(self) -> bool:
        """Send what has not left yet; whether that was all."""
        try:
            while self._out:
                self._out = self._out[self.socket.send(self._out) :]
        except BlockingIOError:
            return False
        return True

    def read(self) -> tuple[int, bytes]:
        """Read once: what came, and what to send now. Raises Refused."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return 0, b""
        if not data:
            raise Refused("the broker closed a connection")
        self._in += data
        return self.exchange.feed(self._in)


class Loop:
    """Serves links: ``on_records(link, records)`` is called for each answer."""

    def __init__(self, links: Sequence[Link], on_records: Callable[[Link, int], None]) -> None:
        self._links = {link.socket.fileno(): link for link in links}
        self._on_records = on_records
        self._writing: set[int] = set()
        self._poller = select.epoll()
        for number in self._links:
            self._poller.register(number, select.EPOLLIN)

    def start(self, links: Sequence[Link] | None = None) -> None:
        """Send the first request of each, or of some."""
        for link in list(self._links.values()) if links is None else links:
            self.send(link, link.exchange.request())

    def send(self, link: Link, data: bytes) -> None:
        """Send, and go on with what does not go at once when the socket is ready."""
        if not link.send(data):
            number = link.socket.fileno()
            self._writing.add(number)
            self._poller.modify(number, select.EPOLLIN | select.EPOLLOUT)

    def turn(self, seconds: float) -> None:
        """Serve what is ready, after waiting so long at most. Raises Refused."""
        for number, events in self._poller.poll(seconds):
            link = self._links[number]
            if events & ~select.EPOLLOUT:
                records, following = link.read()
                if following:
                    self.send(link, following)
                if records:
                    self._on_records(link, records)
            if number in self._writing and link.flush():
                self._writing.discard(number)
                self._poller.modify(number, select.EPOLLIN)

    def close(self) -> None:
        """Close all connections."""
        self._poller.close()
        for link in self._links.values():
            link.socket.close()

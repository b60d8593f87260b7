"""STOMP 1.2 as the load speaks it: prebuilt frames out, and no parsing of what comes in.

A message is one of a cycle (``stream_cycle``), its receipt is its number there. Everything behind
the destination is the same for all producers, so that a window of frames is one ``bytes.join``.
Bodies hold no line feed, and their mark stands nowhere else: so MESSAGEs are cut apart at the mark,
and their ``ack`` headers are found by looking for them. Each message is acknowledged by itself
(``client-individual``), all of a read in one write.
"""

import re
import socket
from collections import Counter
from typing import Final

from .drivers.connection import ask
from .drivers.driver import Refused
from .stream_cycle import MARK, Checker, StreamCycle
from .stream_exchange import Link, open_socket
from .stream_plan import NUMBER_BYTES

__all__ = [
    "Consuming",
    "Producing",
    "StompCycle",
    "connect",
    "consumer",
    "disconnect",
    "leftover",
    "producer",
]

_CYCLE: Final = 4_000  # messages, several times the largest window: a number means one of them
_SENTINEL: Final = b"the last message"  # holds no mark
_END: Final = b"\n\n\0"
_ACK: Final = b"ACK\nid:"
_ACK_HEADER: Final = b"\nack:"
_RECEIPTS: Final = re.compile(rb"\nreceipt-id:(\d+)")
_CONNECT: Final = b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n\n\0"


class StompCycle:
    """The messages of a run, over and over: bodies to check, and the ends of their frames."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.bodies = StreamCycle(size, _CYCLE, seed)
        self.ends = [
            b"%d\ncontent-length:%d\n\n%b\0" % (number, size, body)
            for number, body in enumerate(self.bodies.bodies)
        ]


def _raise_error(data: bytes | bytearray) -> None:
    """An ERROR is the last frame of a connection."""
    if data.lstrip(b"\r\n").startswith(b"ERROR") and b"\0" in data:
        words = bytes(data).strip(b"\r\n\0").decode("utf-8", "replace")
        raise Refused(" / ".join(filter(None, words.splitlines())))


class Producing:
    """Sends the messages of a cycle to a queue; says which of them were confirmed.

    Attributes:
        sent: messages so far.
        answered: the numbers of those that the last ``feed`` confirmed.
    """

    corrupt = 0

    def __init__(self, cycle: StompCycle, queue: str, window: int) -> None:
        self.sent = 0
        self.answered: list[int] = []
        self._ends = cycle.ends
        self._window = window
        self._head = b"SEND\ndestination:/queue/%b\npersistent:true\nreceipt:" % queue.encode()

    def request(self) -> bytes:
        """A window of messages."""
        return self.frames(self._window)

    def frames(self, count: int) -> bytes:
        """The next messages."""
        at = self.sent % len(self._ends)
        ends = self._ends[at : at + count]
        if len(ends) < count:
            ends += self._ends[: count - len(ends)]
        self.sent += count
        return self._head + self._head.join(ends)

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Count receipts. Raises Refused."""
        end = data.rfind(b"\0") + 1
        self.answered = list(map(int, _RECEIPTS.findall(data, 0, end)))
        if len(self.answered) < data.count(b"\0"):
            _raise_error(data)
        del data[:end]
        return len(self.answered), b""


class Consuming:
    """Checks the messages of a queue, and acknowledges each.

    Attributes:
        came: where there is no order, how often each number of the cycle did.
    """

    def __init__(self, cycle: StompCycle, ordered: bool) -> None:
        """``ordered``: nobody else sends to the queue, or reads from it."""
        self.came: Counter[bytes] = Counter()
        self._ordered = ordered
        self._checker = Checker(cycle.bodies, ordered)
        self._whole = cycle.size + 1  # a body and the NUL behind it

    @property
    def corrupt(self) -> int:
        """Messages that were not what was due."""
        return self._checker.corrupt

    def request(self) -> bytes:
        """It is subscribed already."""
        return b""

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Take whole messages off the front. Raises Refused."""
        last = data.rfind(MARK)
        if len(data) - last < self._whole:  # not whole yet: the one before it is
            last = data.rfind(MARK, 0, max(0, last))
        if last < 0:
            _raise_error(data)
            return 0, b""
        end = last + self._whole
        frames = bytes(data[:end])
        del data[:end]
        pieces = frames.split(MARK)[1:]
        names = [each[: each.find(b"\n")] for each in frames.split(_ACK_HEADER)[1:]]
        if len(names) != len(pieces):
            raise Refused(f"{len(pieces)} messages have {len(names)} ack headers")
        self._checker.pieces(pieces)
        if not self._ordered:
            self.came.update([each[: NUMBER_BYTES - 1] for each in pieces])
        return len(pieces), _ACK + (_END + _ACK).join(names) + _END


def connect(host: str, port: int) -> socket.socket:
    """A connection that has shaken hands. Raises OSError, Refused."""
    sock = open_socket(host, port)
    try:
        ask(sock, _CONNECT, _is_frame)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_frame(data: bytes) -> bool:
    _raise_error(data)
    return b"\0" in data


def _ask(sock: socket.socket, frame: bytes, receipt: bytes) -> bytes:
    """Send a frame and wait for its receipt. Raises OSError, Refused."""

    def is_whole(data: bytes) -> bool:
        _raise_error(data)
        found = data.find(b"\nreceipt-id:%b\n" % receipt)
        return found >= 0 and data.find(b"\0", found) >= 0

    return ask(sock, frame, is_whole)


def _subscribe(sock: socket.socket, queue: str, ack: bytes, prefetch: int) -> bytes:
    head = b"SUBSCRIBE\nid:0\ndestination:/queue/%b\nack:%b\n" % (queue.encode(), ack)
    limits = b"prefetch-count:%d\nactivemq.prefetchSize:%d\n" % (prefetch, prefetch)
    return _ask(sock, head + limits + b"receipt:subscribed\n\n\0", b"subscribed")


def producer(sock: socket.socket, cycle: StompCycle, queue: str, window: int) -> Link:
    """A link that sends to a queue."""
    return Link(sock, Producing(cycle, queue, window))


def consumer(
    sock: socket.socket, cycle: StompCycle, queue: str, prefetch: int, ordered: bool
) -> Link:
    """A link that has subscribed to a queue, which is empty. Raises OSError, Refused."""
    _subscribe(sock, queue, b"client-individual", prefetch)
    return Link(sock, Consuming(cycle, ordered))


def disconnect(sock: socket.socket) -> None:
    """Close when all that was sent was dealt with. Raises OSError, Refused."""
    sock.settimeout(60)
    _ask(sock, b"DISCONNECT\nreceipt:bye\n\n\0", b"bye")
    sock.close()


def leftover(host: str, port: int, queue: str) -> int:
    """How many messages a queue still has, which takes them. Raises OSError, Refused.

    One more is sent: what comes before it was there.
    """
    with connect(host, port) as sock:
        head = b"SEND\ndestination:/queue/%b\npersistent:true\nreceipt:last" % queue.encode()
        length = b"\ncontent-length:%d\n\n" % len(_SENTINEL)
        _ask(sock, head + length + _SENTINEL + b"\0", b"last")
        disconnect(sock)
    with connect(host, port) as sock:
        came = _subscribe(sock, queue, b"auto", 1_000)
        came += ask(sock, b"", lambda data: _SENTINEL + b"\0" in came + data)
        disconnect(sock)
    return came.count(b"MESSAGE\n") - 1  # no body has a line feed

"""beanstalkd: queues, which it calls tubes.

Rules:

1. A name is a tube; the messages of a batch are written together, but each is a put, with an answer
   (and, where it is durable, an ``fsync``) of its own.
2. A client asks for each message by a ``reserve``. In a round of them only the first may wait, and
   only when nothing is reserved (``pulling.py``); how many a round has follows from how many
   messages the last one brought, since each that finds nothing costs the broker an answer; and
   more than ``ROUND_MAX`` are never written at once, because as many deletes with an ``fsync``
   each would keep the next messages away for seconds.
3. To acknowledge is to delete, to reject is to release, which makes it ready again at once.
4. Delays are in whole seconds, rounded up: a message is never early.
5. A job that is not deleted for ``RESERVED_SECONDS`` is ready again; no run lasts so long.
"""

import re
import socket
from collections.abc import Sequence
from typing import Final

from .connection import ask, hang_up, open_socket, say_first
from .driver import Kind, Refused, Wiring
from .incoming import Incoming
from .pulling import Pulling

__all__ = [
    "PRIORITY",
    "RESERVED_SECONDS",
    "ROUND_MAX",
    "BeanstalkClient",
    "BeanstalkConsumer",
    "BeanstalkDriver",
    "BeanstalkProducer",
]

PRIORITY: Final = 1_024  # of every message; the same, so that order is by age
RESERVED_SECONDS: Final = 86_400
ROUND_MAX: Final = 50  # messages

_LINE: Final = b"\r\n"
_QUIT: Final = b"quit\r\n"
_JOB: Final = re.compile(rb"(?:RESERVED|FOUND) (\d+) (\d+)\r\n")
_NOTHING: Final = frozenset({b"TIMED_OUT", b"DEADLINE_SOON"})  # answers to reserve
_DONE: Final = frozenset({b"DELETED", b"RELEASED"})
_STATES: Final = ("ready", "delayed", "buried")


def _refusal(line: bytes) -> Refused:
    return Refused(line.decode("utf-8", "replace"))


def _said(sock: socket.socket, request: bytes, expected: bytes) -> None:
    """Ask for what is answered by one line. Raises OSError, Refused."""
    answer = ask(sock, request, lambda data: data.endswith(_LINE))
    if not answer.startswith(expected):
        raise _refusal(answer.removesuffix(_LINE))


class BeanstalkClient:
    """A connection, and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.out = bytearray()

    def feed(self, data: bytes) -> None:
        """Nothing is asked, so only an error can come. Raises Refused."""
        raise _refusal(data.partition(_LINE)[0])

    def close(self) -> None:
        """See ``driver.Client``."""
        hang_up(self.socket, bytes(self.out) + _QUIT)


class BeanstalkProducer(BeanstalkClient):
    """See ``driver.Producer``."""

    confirms = True

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.confirmed: list[int] = []
        self.refused: list[int] = []  # never: it is full, or it ends, or the message is too large
        self._tubes = [name.encode() for name in wiring.names]
        self._used = -1
        self._answered = 0
        self._rest = b""

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """A put for each; keys are not beanstalkd's."""
        if to != self._used:
            self._used = to
            self.out += b"use %b\r\n" % self._tubes[to]
        start = b"put %d %d %d " % (PRIORITY, -(-delay_ms // 1_000), RESERVED_SECONDS)
        self.out += b"".join([b"%b%d\r\n%b\r\n" % (start, len(body), body) for body in bodies])

    def feed(self, data: bytes) -> None:
        """Count what was inserted. Raises Refused."""
        lines = (self._rest + data).split(_LINE)
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"INSERTED "):
                self.confirmed.append(self._answered)
                self._answered += 1
            elif not line.startswith(b"USING "):
                raise _refusal(line)


class BeanstalkConsumer(BeanstalkClient):
    """See ``driver.Consumer``."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        """A client that watches its tubes already."""
        super().__init__(sock)
        self.bodies: list[bytes] = []
        self.receipts: list[bytes] = []
        self._pulling = Pulling(wiring.prefetch, acknowledges=True)
        self._incoming = Incoming()
        self._round = 1  # how many the next round asks for
        self._unanswered = 0  # of the round under way
        self._brought = 0
        self._ask()

    def _ask(self) -> None:
        """Begin a round, if it is time to."""
        waits = self._pulling.waits
        if self._pulling.ask(self._round):
            self._unanswered, self._brought = self._round, 0
            if waits:
                self.out += b"reserve\r\n"
            self.out += b"reserve-with-timeout 0\r\n" * (self._round - waits)

    def feed(self, data: bytes) -> None:
        """Take messages; ask for more when the round is over. Raises Refused."""
        data = self._incoming.add(data)
        before = len(self.receipts)
        at, wanted_bytes = self._take(data)
        self._incoming.keep(data[at:], wanted_bytes)
        count = len(self.receipts) - before
        self._brought += count
        self._pulling.came(count)
        if self._pulling.under_way and not self._unanswered:
            grown = 2 * self._round if self._brought == self._round else max(1, self._brought)
            self._round = min(grown, self._pulling.round_max, ROUND_MAX)
            if self._pulling.ended():
                self._ask()

    def _take(self, data: bytes) -> tuple[int, int]:
        """Where what is not whole begins, and how many bytes it takes; 0: nobody knows."""
        at, size, job = 0, len(data), _JOB.match
        while at < size:
            if found := job(data, at):
                start = found.end()
                end = start + int(found[2])
                if end + 2 > size:
                    return at, end + 2 - at
                self.bodies.append(data[start:end])
                self.receipts.append(found[1])
                self._unanswered -= 1
                at = end + 2
                continue
            end = data.find(_LINE, at)
            if end < 0:
                return at, 0
            line = data[at:end]
            if line in _NOTHING:
                self._unanswered -= 1
            elif line not in _DONE:
                raise _refusal(line)
            at = end + 2
        return at, 0

    def acknowledge(self, receipts: Sequence[bytes]) -> None:
        """One delete for each."""
        self.out += b"".join([b"delete %b\r\n" % receipt for receipt in receipts])
        self._settled(len(receipts))

    def reject(self, receipts: Sequence[bytes]) -> None:
        """One release for each: they are ready again."""
        end = b" %d 0\r\n" % PRIORITY
        self.out += b"".join([b"release %b%b" % (receipt, end) for receipt in receipts])
        self._settled(len(receipts))

    def _settled(self, count: int) -> None:
        self._pulling.unacknowledged -= count
        self._ask()


class BeanstalkDriver:
    """See ``driver.Driver``."""

    kinds: frozenset[Kind] = frozenset({"queue"})
    features = frozenset({"confirms", "delay", "reject"})

    def declare(self, wiring: Wiring) -> None:
        """Delete what is in the tubes. What others have reserved cannot be: raises Refused."""
        with open_socket(wiring) as sock:
            for name in wiring.names:
                _said(sock, b"use %b\r\n" % name.encode(), b"USING ")
                for state in _STATES:
                    _empty(sock, b"peek-%b\r\n" % state.encode())
                _refuse_reserved(sock, name)

    def connect(self, wiring: Wiring) -> BeanstalkClient:
        """See ``driver.Driver``."""
        return BeanstalkClient(open_socket(wiring))

    def greeting(self, wiring: Wiring) -> bytes:
        """The protocol has no handshake; this is the cheapest thing that is answered."""
        return b"list-tube-used\r\n"

    def is_greeted(self, data: bytes) -> bool:
        """Whether the answer is whole. Raises Refused."""
        if data.endswith(_LINE) and not data.startswith(b"USING "):
            raise _refusal(data.removesuffix(_LINE))
        return data.endswith(_LINE)

    def producer(self, wiring: Wiring) -> BeanstalkProducer:
        """See ``driver.Driver``."""
        return BeanstalkProducer(open_socket(wiring), wiring)

    def consumer(self, wiring: Wiring) -> BeanstalkConsumer:
        """A client that watches its tubes, and not the default one."""
        sock = open_socket(wiring)
        try:
            for name in wiring.names:
                _said(sock, b"watch %b\r\n" % name.encode(), b"WATCHING ")
            if "default" not in wiring.names:
                _said(sock, b"ignore default\r\n", b"WATCHING ")
            consumer = BeanstalkConsumer(sock, wiring)
            say_first(consumer)
        except BaseException:
            sock.close()
            raise
        return consumer


def _empty(sock: socket.socket, peek: bytes) -> None:
    """Delete all jobs of the used tube that are in a state."""

    def is_whole(answer: bytes) -> bool:
        found = _JOB.match(answer)
        if found:
            return len(answer) >= found.end() + int(found[2]) + 2
        return answer.endswith(_LINE) and not answer.startswith(b"FOUND")

    while found := _JOB.match(answer := ask(sock, peek, is_whole)):
        _said(sock, b"delete %b\r\n" % found[1], b"DELETED")
    if answer != b"NOT_FOUND\r\n":
        raise _refusal(answer.removesuffix(_LINE))


def _refuse_reserved(sock: socket.socket, name: str) -> None:
    """Raises Refused when somebody has reserved jobs of the used tube."""

    def is_whole(answer: bytes) -> bool:
        head, line, rest = answer.partition(_LINE)
        if not line or not head.startswith(b"OK "):
            return bool(line)
        return len(rest) >= int(head[3:]) + 2

    answer = ask(sock, b"stats-tube %b\r\n" % name.encode(), is_whole)
    found = re.search(rb"current-jobs-reserved: (\d+)", answer)
    if found is None:
        raise _refusal(answer.partition(_LINE)[0])
    if int(found[1]):
        raise Refused(f"{int(found[1])} jobs of {name} are reserved by others")

"""Redis Streams: what is said to a server (RESP).

A batch is as many pipelined XADDs; replay is XRANGE with COUNT, a tail XREAD with BLOCK, a group
XREADGROUP and one XACK for what was read. Publishing to many is a transaction of XADDs, which is
all or nothing as well. Everything waits for ``fsync`` with ``appendfsync always``.
"""

import re
import socket
from collections.abc import Sequence
from typing import Final

from .drivers.connection import ask
from .drivers.driver import Refused
from .drivers.redis import command
from .stream_cycle import MARK, Checker, StreamCycle
from .stream_exchange import Exchange, Link, open_socket
from .stream_plan import StreamPlan

__all__ = ["Asking", "Entries", "Member", "RedisDriver"]

_STREAM: Final = b"bench"
_GROUP: Final = b"members"
_FIELD: Final = b"b"
_COUNT: Final = 500  # of entries in an answer
_IDS: Final = re.compile(rb"\r\n(\d+-\d+)\r\n\*2\r\n")  # of entries; the fields follow
_ERROR: Final = re.compile(rb"(?:^|\n)-([^\r]*)")


class RedisDriver:
    """See ``stream_exchange.Driver``."""

    def __init__(self, plan: StreamPlan, cycle: StreamCycle) -> None:
        self._plan = plan
        self._cycle = cycle

    def prepare(self) -> None:
        """Make the group; wait until the log is read, after a restart."""
        with self._connect() as sock:
            while ask(sock, command(b"PING"), _is_line).startswith(b"-LOADING"):
                pass
            if self._plan.shape == "group":
                arguments = (b"XGROUP", b"CREATE", _STREAM, _GROUP, b"0", b"MKSTREAM")
                answer = ask(sock, command(*arguments), _is_line)
                if answer.startswith(b"-") and not answer.startswith(b"-BUSYGROUP"):
                    raise Refused(answer.decode())

    def _connect(self) -> socket.socket:
        return open_socket(self._plan.host, self._plan.port)

    def _link(self, exchange: Exchange) -> Link:
        return Link(self._connect(), exchange)

    def appender(self, batch: int) -> Link:
        """Pipelined XADDs; each is answered by two lines."""
        requests = [self._adds(some) for some in self._cycle.batches(batch)]
        return self._link(Asking(requests, batch, 2 * batch))

    def _adds(self, bodies: list[bytes]) -> bytes:
        return b"".join([command(b"XADD", _STREAM, b"*", _FIELD, body) for body in bodies])

    def replayer(self) -> Link:
        """XRANGE, from the beginning when the end was reached."""
        return self._link(Entries(self._cycle, self._plan.size, b"XRANGE", again=True))

    def follower(self) -> Link:
        """XREAD that waits."""
        return self._link(Entries(self._cycle, self._plan.size, b"XREAD", again=False))

    def member(self, number: int) -> Link:
        """XREADGROUP and XACK."""
        return self._link(Member(self._cycle, self._plan.size, b"c%d" % number))

    def publisher(self) -> Link:
        """MULTI, an XADD for each target, EXEC."""
        count = self._plan.targets
        requests = []
        for body in self._cycle.bodies[: max(2, 10_000 // count)]:
            adds = [command(b"XADD", b"q%d" % n, b"*", _FIELD, body) for n in range(count)]
            requests.append(b"".join([command(b"MULTI"), *adds, command(b"EXEC")]))
        return self._link(Asking(requests, count, 1 + count + 1 + 2 * count))

    def stored(self) -> int:
        """XLEN; of the last target."""
        fanout = self._plan.shape == "fanout"
        name = b"q%d" % (self._plan.targets - 1) if fanout else _STREAM
        with self._connect() as sock:
            answer = ask(sock, command(b"XLEN", name), _is_line)
        return int(answer[1:]) * (self._plan.targets if fanout else 1)


def _is_line(answer: bytes) -> bool:
    return answer.endswith(b"\r\n")


def _refuse_errors(data: bytearray) -> None:
    if error := _ERROR.search(data):
        raise Refused(error[1].decode("utf-8", "replace"))


class Asking:
    """Sends requests in turn; each is answered by so many lines."""

    corrupt = 0

    def __init__(self, requests: Sequence[bytes], records: int, lines: int) -> None:
        self._requests = requests
        self._records = records
        self._wanted = lines
        self._lines = 0
        self._sent = 0

    def request(self) -> bytes:
        """The next request."""
        self._sent += 1
        return self._requests[(self._sent - 1) % len(self._requests)]

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Count lines."""
        end = data.rfind(b"\n") + 1
        if data.startswith(b"-") or b"\n-" in data:
            _refuse_errors(data)
        self._lines += data.count(b"\n", 0, end)
        del data[:end]
        answered, self._lines = divmod(self._lines, self._wanted)
        return answered * self._records, b""


class Entries:
    """Reads entries by XRANGE or XREAD, each request from the last one on."""

    def __init__(self, cycle: StreamCycle, size: int, verb: bytes, again: bool) -> None:
        self._checker = Checker(cycle)
        self._tail = size + 2
        self._verb = verb
        self._again = again
        self._last = b""
        self._seen = 0  # of the answer under way: how far it was searched, and marks in it
        self._marks = 0

    @property
    def corrupt(self) -> int:
        """Bodies that were not what was due."""
        return self._checker.corrupt

    def request(self) -> bytes:
        """What follows the last entry."""
        count = b"%d" % _COUNT
        if self._verb == b"XRANGE":
            first = b"(" + self._last if self._last else b"-"
            return command(b"XRANGE", _STREAM, first, b"+", b"COUNT", count)
        last = self._last or b"0-0"
        return command(b"XREAD", b"COUNT", count, b"BLOCK", b"0", b"STREAMS", _STREAM, last)

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Wait for the whole answer, check it, ask for the next."""
        found = _whole_entries(data, self._tail, self._seen, self._marks)
        self._seen, self._marks, wanted = found
        if wanted < 0:
            return 0, b""
        if wanted:
            self._checker.pieces(bytes(data).split(MARK)[1:])
            self._last = _last_id(data)
        ended = self._again and wanted < _COUNT
        if ended:
            self._last = b""
            self._checker.rewind()
        data.clear()
        self._seen = self._marks = 0
        return wanted, self.request()


def _whole_entries(data: bytearray, tail: int, seen: int, marks: int) -> tuple[int, int, int]:
    """Whether an answer is whole: (searched so far, marks there, its entries; -1: not whole)."""
    head = b"$%d\r\n%b\r\n" % (len(_STREAM), _STREAM)
    marks += data.count(MARK, seen)
    seen = len(data)
    at = 0
    if data.startswith(b"*1\r\n*2\r\n$"):  # of XREAD: a list of streams
        at = data.find(head) + len(head) if head in data[:64] else -1
    end = data.find(b"\r\n", at) if at >= 0 else -1
    if end < 0:
        return seen, marks, -1
    if data[at : at + 1] != b"*":
        raise Refused(bytes(data[at:end]).decode("utf-8", "replace"))
    wanted = max(0, int(data[at + 1 : end]))  # *-1: none
    if marks < wanted or (wanted and len(data) - data.rfind(MARK) < tail):
        return seen, marks, -1
    return seen, marks, wanted


def _last_id(data: bytearray) -> bytes:
    """The id of the last entry of an answer."""
    fields = data.rfind(b"\r\n*2\r\n", 0, data.rfind(MARK))
    return bytes(data[data.rfind(b"\n", 0, fields) + 1 : fields])


class Member:
    """Reads new entries of the group, and confirms each answer before it asks for the next."""

    def __init__(self, cycle: StreamCycle, size: int, name: bytes) -> None:
        self._checker = Checker(cycle, ordered=False)
        self._tail = size + 2
        self._ask = command(
            *(b"XREADGROUP", b"GROUP", _GROUP, name),
            *(b"COUNT", b"%d" % _COUNT, b"STREAMS", _STREAM, b">"),
        )
        self._unconfirmed = 0  # entries that an answer to XACK is due for

    @property
    def corrupt(self) -> int:
        """Bodies that were not what was due."""
        return self._checker.corrupt

    def request(self) -> bytes:
        """The first read."""
        return self._ask

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """An answer to XACK, then entries. They count when they are confirmed."""
        confirmed = 0
        if data.startswith(b":"):
            end = data.find(b"\r\n")
            if end < 0:
                return 0, b""
            if int(data[1:end]) != self._unconfirmed:
                raise Refused(f"{data[1:end].decode()} of {self._unconfirmed} were confirmed")
            confirmed, self._unconfirmed = self._unconfirmed, 0
            del data[: end + 2]
        if not data:
            return confirmed, b""
        wanted = _whole_entries(data, self._tail, 0, 0)[2]
        if wanted < 0:
            return confirmed, b""
        answer = b""
        if wanted:
            self._checker.pieces(bytes(data).split(MARK)[1:])
            self._unconfirmed = wanted
            answer = command(b"XACK", _STREAM, _GROUP, *_IDS.findall(data)) + self._ask
        data.clear()
        return confirmed, answer

"""Redis Streams (RESP2), as streams, with groups, and as queues.

Rules:

1. An entry has one field, the body. Nothing is trimmed.
2. A batch is as many XADDs in one write. Redis deals with what it reads of a connection at once
   and syncs its log once before it answers, so they share an ``fsync``; they are not atomic.
3. A stream is read with XREAD, by whoever wants all of it, and with XREADGROUP by a group, which
   acknowledges with XACK.
4. A queue is a stream with one group. What is acknowledged there is deleted too (XDEL): a queue
   that keeps all that ever went through it grows until there is no room. That is one command more
   for each acknowledgement, which is of many messages.
5. Who comes back by its ``client_id`` first reads what it had and did not acknowledge, which
   belongs to it as long as nobody claims it.
6. Nobody can hand a message back. To reject is to XCLAIM it for oneself, without waiting for it
   to be idle: it comes again, as one delivery more. Nothing becomes a dead letter by itself.
"""

import re
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from .connection import ask, hang_up, login, open_socket, say_first
from .driver import Kind, Refused, Wiring
from .incoming import Incoming
from .pulling import Pulling

__all__ = ["RedisClient", "RedisConsumer", "RedisDriver", "RedisProducer", "command"]

_FIELD: Final = b"b"
_LOADING: Final = b"-LOADING"
_LOADING_SECONDS: Final = 0.05  # between looking whether the log was read, after a restart
_LINE: Final = b"\r\n"
_ERROR: Final = re.compile(rb"^-.*(?=\r\n)", re.MULTILINE)
_HEAD_BYTES_MAX: Final = 512  # of what stands before a body
_STREAM: Final = re.compile(rb"\*2\r\n\$\d+\r\n([^\r]*)\r\n\*(\d+)\r\n")
_ENTRY: Final = re.compile(
    rb"\*2\r\n\$\d+\r\n(\d+-\d+)\r\n\*2\r\n\$1\r\n" + _FIELD + rb"\r\n\$(\d+)\r\n"
)

Receipt = tuple[bytes, bytes]  # the stream and the id of an entry


def command(*arguments: bytes) -> bytes:
    """A request."""
    parts = [b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _refuse(line: bytes) -> Refused:
    return Refused(line.removeprefix(b"-").decode("utf-8", "replace"))


def _lines_of(answer: bytes) -> list[bytes]:
    return answer.split(_LINE)[:-1]


def _ask_lines(sock: socket.socket, requests: Sequence[bytes]) -> list[bytes]:
    """Ask for what is answered by a line each. Raises OSError, Refused."""
    if not requests:
        return []
    wanted = len(requests)
    answer = ask(
        sock,
        b"".join(requests),
        lambda data: data.endswith(_LINE) and data.count(_LINE) >= wanted,
    )
    return _lines_of(answer)


def _greeting(wiring: Wiring) -> list[bytes]:
    user, password = login(wiring.url)
    who = [user.encode()] if user else []
    return [command(b"AUTH", *who, password.encode())] if password else []


def _open(wiring: Wiring) -> socket.socket:
    """A connection to a server that has read its log. Raises OSError, Refused."""
    sock = open_socket(wiring)
    try:
        while True:
            lines = _ask_lines(sock, [*_greeting(wiring), command(b"PING")])
            for line in lines:
                if line.startswith(b"-") and not line.startswith(_LOADING):
                    raise _refuse(line)
            if not lines[-1].startswith(_LOADING):
                return sock
            time.sleep(_LOADING_SECONDS)
    except BaseException:
        sock.close()
        raise


class RedisClient:
    """A connection, and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.out = bytearray()

    def feed(self, data: bytes) -> None:
        """Nothing is asked, so only an error can come. Raises Refused."""
        raise _refuse(data.partition(_LINE)[0])

    def close(self) -> None:
        """See ``driver.Client``."""
        hang_up(self.socket, bytes(self.out))


class RedisProducer(RedisClient):
    """See ``driver.Producer``. Every XADD is answered by two lines: how long the id is, the id."""

    confirms = True

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.confirmed: list[int] = []
        self.refused: list[int] = []  # never: what Redis will not take, it will never take
        self._answered = 0
        self._half = 0  # lines of an answer that is not whole
        self._rest = b""
        self._heads = [
            command(b"XADD", name.encode(), b"*", _FIELD, b"")[: -len(b"$0\r\n\r\n")]
            for name in wiring.names
        ]

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """One XADD for each; keys and delays are not Redis's."""
        head = self._heads[to]
        self.out += b"".join([b"%b$%d\r\n%b\r\n" % (head, len(body), body) for body in bodies])

    def feed(self, data: bytes) -> None:
        """Count lines. Raises Refused, behind what was confirmed before."""
        if self._rest:
            data = self._rest + data
        error = _ERROR.search(data) if data.startswith(b"-") or b"\n-" in data else None
        end = error.start() if error else data.rfind(b"\n") + 1
        self._rest = data[end:]
        count, self._half = divmod(self._half + data.count(b"\n", 0, end), 2)
        self.confirmed += range(self._answered, self._answered + count)
        self._answered += count
        if error:
            raise _refuse(error[0])


class RedisConsumer(RedisClient):
    """See ``driver.Consumer``.

    Answers are taken entry by entry: ``_streams`` and ``_entries`` say what is still to come of
    the one under way, ``_due`` which lists follow.
    """

    def __init__(self, sock: socket.socket, wiring: Wiring, after: Iterable[bytes]) -> None:
        """``after``: the ids behind which a reader without a group begins."""
        super().__init__(sock)
        self.bodies: list[bytes] = []
        self.receipts: list[Receipt] = []
        self._names = [name.encode() for name in wiring.names]
        self._group = wiring.sharing.encode()
        self._name = wiring.client_id.encode() or b"consumer"
        self._deletes = wiring.kind == "queue"
        self._last = dict(zip(self._names, after, strict=True))
        self._pulling = Pulling(wiring.prefetch, acknowledges=bool(self._group))
        self._due: deque[bytes] = deque()  # b"" for a read, else the stream of an XCLAIM
        self._incoming = Incoming()
        self._streams = 0
        self._entries = 0
        self._stream = b""
        self._is_claim = False
        self._is_over = False  # the round that the answer belonged to
        self._is_back = bool(wiring.client_id and self._group)
        self._ask()

    def _ask(self) -> None:
        """Ask for more, if it is time to."""
        pulling, names = self._pulling, self._names
        share = max(1, pulling.round_max // len(names))  # COUNT is for each stream
        if self._is_back:
            share = pulling.prefetch  # it cannot have had more
        if not pulling.ask(share * len(names)):
            return
        parts = [b"COUNT", b"%d" % share]
        if pulling.waits:
            parts += [b"BLOCK", b"0"]
        if self._group:
            parts = [b"XREADGROUP", b"GROUP", self._group, self._name, *parts]
            behind = b"0" if self._is_back else b">"  # 0: what was read before; it never waits
            self._is_back = False
            parts += [b"STREAMS", *names, *[behind] * len(names)]
        else:
            parts = [b"XREAD", *parts, b"STREAMS", *names, *self._last.values()]
        self._due.append(b"")
        self.out += command(*parts)

    def feed(self, data: bytes) -> None:
        """Take entries; ask for more behind them. Raises Refused."""
        data = self._incoming.add(data)
        at, wanted_bytes = self._take(data)
        self._incoming.keep(data[at:], wanted_bytes)
        if self._is_over:
            self._is_over = False
            if self._pulling.ended():
                self._ask()

    def _take(self, data: bytes) -> tuple[int, int]:
        """Where what is not whole begins, and how many bytes it takes; 0: nobody knows."""
        at, size = 0, len(data)
        while at < size:
            if self._entries:
                at, wanted_bytes = self._take_entries(data, at)
                if self._entries:
                    return at, wanted_bytes
                self._is_over |= not self._streams and not self._is_claim
            elif self._streams:
                found = _STREAM.match(data, at)
                if found is None:
                    _check_head(data, at)
                    return at, 0
                self._stream, self._entries = found[1], int(found[2])
                self._streams -= 1
                self._is_over |= not (self._entries or self._streams)
                at = found.end()
            else:
                end = data.find(_LINE, at)
                if end < 0:
                    return at, 0
                self._begin(data[at:end])
                at = end + 2
        return at, 0

    def _begin(self, line: bytes) -> None:
        """Take the first line of an answer."""
        if line.startswith(b":"):  # how many were acknowledged or deleted
            return
        if not line.startswith(b"*"):
            raise _refuse(line)
        count = int(line[1:])  # -1: none
        stream = self._due.popleft()
        self._is_claim = bool(stream)
        if self._is_claim:
            self._stream, self._entries = stream, count
        elif count > 0:
            self._streams = count
        else:
            self._is_over = True

    def _take_entries(self, data: bytes, at: int) -> tuple[int, int]:
        size, wanted_bytes, left = len(data), 0, self._entries
        entry, stream = _ENTRY.match, self._stream
        add_body, add_receipt = self.bodies.append, self.receipts.append
        while left:
            found = entry(data, at)
            if found is None:
                _check_head(data, at)
                break
            start = found.end()
            end = start + int(found[2])
            if end + 2 > size:
                wanted_bytes = end + 2 - at
                break
            add_body(data[start:end])
            add_receipt((stream, found[1]))
            at = end + 2
            left -= 1
        count, self._entries = self._entries - left, left
        if count and not self._group:
            self._last[stream] = self.receipts[-1][1]
        if not self._is_claim:  # what is claimed was never acknowledged, so it counts already
            self._pulling.came(count)
        return at, wanted_bytes

    def acknowledge(self, receipts: Sequence[Receipt]) -> None:
        """XACK for each stream, and XDEL where it is a queue."""
        if not self._group:
            return
        self._say(b"XACK", (self._group,), receipts)
        if self._deletes:
            self._say(b"XDEL", (), receipts)
        self._pulling.unacknowledged -= len(receipts)
        self._ask()

    def reject(self, receipts: Sequence[Receipt]) -> None:
        """XCLAIM, which has them come again."""
        self._due += self._say(b"XCLAIM", (self._group, self._name, b"0"), receipts)

    def _say(
        self, verb: bytes, arguments: tuple[bytes, ...], receipts: Sequence[Receipt]
    ) -> list[bytes]:
        """A request for each stream that the receipts name: these streams."""
        by_stream: dict[bytes, list[bytes]] = {}
        for stream, number in receipts:
            by_stream.setdefault(stream, []).append(number)
        for stream, numbers in by_stream.items():
            self.out += command(verb, stream, *arguments, *numbers)
        return list(by_stream)


def _check_head(data: bytes, at: int) -> None:
    """Raises Refused when what stands there was not understood, rather than not whole."""
    if len(data) - at >= _HEAD_BYTES_MAX:
        raise Refused(f"not an entry of this tool: {data[at : at + 80]!r}")


class RedisDriver:
    """See ``driver.Driver``."""

    kinds: frozenset[Kind] = frozenset({"stream", "queue"})
    features = frozenset({"confirms", "reject", "groups", "tls"})

    def declare(self, wiring: Wiring) -> None:
        """Unlink the streams, and make the groups, which makes them anew."""
        groups = dict.fromkeys(filter(None, (wiring.sharing, *wiring.groups)))
        requests = []
        for name in wiring.names:
            requests.append(command(b"UNLINK", name.encode()))
            for group in groups:
                arguments = (name.encode(), group.encode(), b"0", b"MKSTREAM")
                requests.append(command(b"XGROUP", b"CREATE", *arguments))
        with _open(wiring) as sock:
            for line in _ask_lines(sock, requests):
                if line.startswith(b"-"):
                    raise _refuse(line)

    def connect(self, wiring: Wiring) -> RedisClient:
        """See ``driver.Driver``."""
        return RedisClient(_open(wiring))

    def greeting(self, wiring: Wiring) -> bytes:
        """AUTH where the URL has a password, and PING."""
        return b"".join(_greeting(wiring)) + command(b"PING")

    def is_greeted(self, data: bytes) -> bool:
        """Whether PONG came. Raises Refused."""
        for line in _lines_of(data):
            if line.startswith(b"-"):
                raise _refuse(line)
        return data.endswith(b"+PONG\r\n")

    def producer(self, wiring: Wiring) -> RedisProducer:
        """See ``driver.Driver``."""
        return RedisProducer(_open(wiring), wiring)

    def consumer(self, wiring: Wiring) -> RedisConsumer:
        """A reader that begins behind what there is now, if it is not to begin at the start."""
        sock = _open(wiring)
        try:
            after = [b"0-0"] * len(wiring.names)
            if wiring.kind == "stream" and not wiring.group and not wiring.from_start:
                after = [_last_id(sock, name.encode()) for name in wiring.names]
            consumer = RedisConsumer(sock, wiring, after)
            say_first(consumer)
        except BaseException:
            sock.close()
            raise
        return consumer


def _last_id(sock: socket.socket, name: bytes) -> bytes:
    """The id of the last entry of a stream. Raises OSError, Refused."""
    head = b"*1\r\n"

    def is_whole(answer: bytes) -> bool:
        found = _ENTRY.match(answer, len(head))
        if found:
            return len(answer) == found.end() + int(found[2]) + 2
        return answer == b"*0\r\n" or (answer[:1] == b"-" and answer.endswith(_LINE))

    answer = ask(sock, command(b"XREVRANGE", name, b"+", b"-", b"COUNT", b"1"), is_whole)
    if answer.startswith(b"-"):
        raise _refuse(_lines_of(answer)[0])
    found = _ENTRY.match(answer, len(head))
    return found[1] if found else b"0-0"

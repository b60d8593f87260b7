"""NATS JetStream: what is said to a server.

A durable batch is an atomic batch publish with ``sync_interval: always``, which is the quickest
that is as durable as ours: one answer, and six syncs whatever its size; 20 to 40 times as quick as
one for each message. Without, single publishes are quicker, and are used. Replay and tail are
a consumer that pushes without acknowledgements, the quickest of four ways that were tried; a group
is four clients that pull from one consumer and acknowledge each message.
"""

import json
import os
import re
import socket
from collections.abc import Sequence
from typing import Any, Final

from .drivers.connection import ask
from .drivers.driver import Refused
from .drivers.nats import publication
from .stream_cycle import MARK, Checker, StreamCycle
from .stream_exchange import Link, open_socket
from .stream_plan import StreamPlan

__all__ = ["JetStreamDriver", "Publishing", "Pulling", "Pushed"]

_STREAM: Final = "BENCH"
_SUBJECT: Final = b"bench"
_API: Final = b"$JS.API."
_BATCH_ID: Final = b"@" * 16  # in a prepared batch, where its id goes
_ACK: Final = b'"seq":'
_REPLIES: Final = re.compile(rb"(?:^|\n)MSG \S+ \d+ (\$JS\.ACK\S+) \d+\r\n")
_ANSWER: Final = re.compile(rb"MSG \S+ \d+ \d+\r\n(\{.*\})\r\n")  # of the API
_PING, _PONG = b"PING\r\n", b"PONG\r\n"


class JetStreamDriver:
    """See ``stream_exchange.Driver``. Every connection has an inbox of its own."""

    def __init__(self, plan: StreamPlan, cycle: StreamCycle) -> None:
        self._plan = plan
        self._cycle = cycle
        self._connections = 0
        self._atomic = False

    def prepare(self) -> None:
        """Make the stream, and the consumer of a group."""
        config: dict[str, Any] = {"name": _STREAM, "subjects": [_SUBJECT.decode()]}
        config |= {"storage": "file", "num_replicas": 1, "allow_atomic": True}
        found = self._api("STREAM.CREATE." + _STREAM, config)
        self._atomic = bool(found["config"].get("allow_atomic")) and self._plan.durability == "sync"
        if self._plan.shape == "group":
            consumer = {"durable_name": "members", "ack_policy": "explicit", "max_ack_pending": -1}
            body = {"stream_name": _STREAM, "config": consumer}
            self._api(f"CONSUMER.DURABLE.CREATE.{_STREAM}.members", body)

    def _api(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        payload = json.dumps(body).encode()
        sock, inbox = self._connect()
        with sock:
            request = publication(_API + what.encode(), inbox, payload)
            answer = ask(sock, request, lambda data: bool(_ANSWER.search(data)))
        content = _ANSWER.search(answer)
        assert content is not None
        found: dict[str, Any] = json.loads(content[1])
        if "error" in found:
            raise Refused(str(found["error"].get("description")))
        return found

    def _connect(self) -> tuple[socket.socket, bytes]:
        """A connection, and the inbox it is subscribed to."""
        self._connections += 1
        inbox = b"_INBOX.%d.%d" % (os.getpid(), self._connections)
        sock = open_socket(self._plan.host, self._plan.port)
        ask(sock, b"", lambda data: data.endswith(b"\r\n"))
        options = b'{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}'
        greeting = b"CONNECT %b\r\nSUB %b 1\r\n%b" % (options, inbox, _PING)
        ask(sock, greeting, lambda data: _PONG in data)  # an INFO may follow
        return sock, inbox

    def appender(self, batch: int) -> Link:
        """Single publishes, or an atomic batch."""
        sock, inbox = self._connect()
        batches = self._cycle.batches(batch)
        if self._atomic and batch > 1:
            requests = [_atomically(some, inbox) for some in batches]
            return Link(sock, Publishing(requests, batch, 1, self._connections))
        requests = [
            b"".join([publication(_SUBJECT, inbox, each) for each in some]) for some in batches
        ]
        return Link(sock, Publishing(requests, batch, batch))

    def replayer(self) -> Link:
        """A pushing consumer, and another one when all was read."""
        return self._pushed(self._plan.records)

    def follower(self) -> Link:
        """A pushing consumer."""
        return self._pushed(0)

    def _pushed(self, records: int) -> Link:
        sock, inbox = self._connect()
        return Link(sock, Pushed(self._cycle, inbox, self._plan.size, records))

    def member(self, number: int) -> Link:
        """A client of the group's consumer."""
        sock, inbox = self._connect()
        return Link(sock, Pulling(self._cycle, inbox, self._plan.size, self._plan.batch))

    def publisher(self) -> Link:
        """There is no such thing: a message is in one stream here."""
        raise Refused("one publish does not reach several streams")

    def stored(self) -> int:
        """What the stream says it holds."""
        return int(self._api("STREAM.INFO." + _STREAM, {})["state"]["messages"])


def _atomically(bodies: list[bytes], inbox: bytes) -> bytes:
    """An atomic batch without its id."""
    parts = []
    for number, body in enumerate(bodies, 1):
        head = b"NATS/1.0\r\nNats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n"
        last = number == len(bodies)
        commit = b"Nats-Batch-Commit: 1\r\n\r\n" if last else b"\r\n"
        reply = inbox if last else b""
        parts.append(publication(_SUBJECT, reply, body, head % (_BATCH_ID, number) + commit))
    return b"".join(parts)


def _housekeeping(data: bytearray) -> bytes:
    """Look for errors and pings: what to send at once. Raises Refused."""
    for error in (b'"error"', b"-ERR"):
        if error in data:
            raise Refused(bytes(data[data.index(error) :][:200]).decode("utf-8", "replace"))
    if _PING not in data:
        return b""
    data[:] = data.replace(_PING, b"")
    return _PONG


class Publishing:
    """Sends requests in turn; each has so many answers."""

    corrupt = 0

    def __init__(
        self, requests: Sequence[bytes], records: int, answers: int, number: int = 0
    ) -> None:
        """``number``: of the connection, when requests are atomic batches, which need ids."""
        self._number = number
        self._requests = requests
        self._records = records
        self._wanted = answers
        self._answers = 0
        self._sent = 0

    def request(self) -> bytes:
        """The next request."""
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        if self._number:
            request = request.replace(_BATCH_ID, b"%06d%010d" % (self._number, self._sent))
        return request

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Count answers."""
        answer = _housekeeping(data)
        end = data.rfind(b"\n") + 1
        self._answers += data.count(_ACK, 0, end)
        del data[:end]
        answered, self._answers = divmod(self._answers, self._wanted)
        return answered * self._records, answer


def _take_bodies(data: bytearray, size: int) -> list[bytes]:
    """Cut whole bodies off the front, each without its mark and with what follows.

    What stands before a body that is not whole is cut off as well.
    """
    last = data.rfind(MARK)
    if last < 0:
        return []
    end = last + size + 2 if len(data) - last >= size + 2 else last
    pieces = bytes(data[:end]).split(MARK)[1:]
    del data[:end]
    return pieces


class Pushed:
    """Has a consumer push all that there is."""

    def __init__(self, cycle: StreamCycle, inbox: bytes, size: int, records: int) -> None:
        """``records``: begin again when so many came; 0: never."""
        self._checker = Checker(cycle)
        self._inbox = inbox
        self._size = size
        self._due = records
        self._came = 0
        self._consumers = 0
        self._name = ""

    @property
    def corrupt(self) -> int:
        """Bodies that were not what was due."""
        return self._checker.corrupt

    def request(self) -> bytes:
        """Have a consumer made, instead of the one before it."""
        request = self._delete() if self._consumers else b""
        self._consumers += 1
        self._name = f"{self._inbox.decode().replace('.', '-')}-{self._consumers}"
        config = {
            "durable_name": self._name,
            "deliver_subject": self._inbox.decode(),
            "deliver_policy": "all",
            "ack_policy": "none",
            "mem_storage": True,
        }
        body = json.dumps({"stream_name": _STREAM, "config": config}).encode()
        subject = f"CONSUMER.DURABLE.CREATE.{_STREAM}.{self._name}".encode()
        return request + publication(_API + subject, self._inbox, body)

    def _delete(self) -> bytes:
        subject = f"CONSUMER.DELETE.{_STREAM}.{self._name}".encode()
        return publication(_API + subject, self._inbox, b"")

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Check what came."""
        answer = _housekeeping(data)
        pieces = _take_bodies(data, self._size)
        if not pieces:
            return 0, answer
        self._checker.pieces(pieces)
        self._came += len(pieces)
        if self._due and self._came >= self._due:
            self._came = 0
            self._checker.rewind()
            answer += self.request()
        return len(pieces), answer


class Pulling:
    """Asks for a batch, acknowledges each message of it, asks for the next."""

    def __init__(self, cycle: StreamCycle, inbox: bytes, size: int, batch: int) -> None:
        self._checker = Checker(cycle, ordered=False)
        self._size = size
        self._batch = batch
        body = b'{"batch":%d}' % batch
        subject = b"%bCONSUMER.MSG.NEXT.%b.members" % (_API, _STREAM.encode())
        self._ask = publication(subject, inbox, body)
        self._replies: list[bytes] = []  # subjects that acknowledge; of a body that is not whole
        self._came = 0

    @property
    def corrupt(self) -> int:
        """Bodies that were not what was due."""
        return self._checker.corrupt

    def request(self) -> bytes:
        """The first batch."""
        return self._ask

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Acknowledge what came."""
        answer = _housekeeping(data)
        before = bytes(data)
        pieces = _take_bodies(data, self._size)
        self._replies += _REPLIES.findall(before[: len(before) - len(data)])
        if not pieces:
            return 0, answer
        self._checker.pieces(pieces)
        replies, self._replies = self._replies[: len(pieces)], self._replies[len(pieces) :]
        answer += b"".join([b"PUB %b 0\r\n\r\n" % reply for reply in replies])
        self._came += len(pieces)
        if self._came >= self._batch:
            self._came -= self._batch
            answer += self._ask
        return len(pieces), answer

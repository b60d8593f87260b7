"""JetStream, the part of NATS that keeps messages: streams, with groups, and queues.

Rules:

1. Each name is a stream of its own, whose only subject is the name. Durable ones are in files,
   others in memory.
2. Every publish has a subject for its answer, which holds the number of the message.
3. A batch is an atomic batch publish where the server has that (2.12), the stream is durable, and
   the batch has ``ATOMIC_MIN`` messages: one answer, and six syncs instead of one for each
   message. Else the messages are published one by one, in one write, which is quicker then.
4. A stream is pushed to whoever wants all of it, without acknowledgements: of the ways that were
   tried it is the quickest. A group is a durable consumer that its members pull from.
5. A queue is a stream with work-queue retention and one such group: what is acknowledged is gone.
   There is no acknowledgement of many messages; each is a publish. What is not acknowledged for
   30 seconds, the server's default, comes again.
"""

import json
import socket
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from .connection import ask, say_first
from .driver import Kind, Refused, Wiring
from .nats import (
    NatsClient,
    NatsConsumer,
    greeting,
    is_greeted,
    open_nats,
    publication,
    subscribe,
    subscription,
)

__all__ = [
    "API",
    "ATOMIC_MIN",
    "BATCH_MAX",
    "JetStreamConsumer",
    "JetStreamDriver",
    "JetStreamProducer",
    "request",
]

API: Final = "$JS.API."
ATOMIC_MIN: Final = 10  # messages; with fewer, an atomic batch takes longer than they do alone
BATCH_MAX: Final = 1_000  # messages of an atomic batch, by the server's default

_ATOMIC_SINCE: Final = (2, 12)
_ERROR: Final = b'"error"'
_NOT_FOUND: Final = 404

Request = tuple[str, dict[str, Any]]


def _stream(name: str) -> str:
    """The stream of a subject; dots may not be in its name."""
    return name.replace(".", "-")


def _consumer(wiring: Wiring, name: str) -> str:
    """Whom those who share a stream pull from."""
    return f"{_stream(name)}.{wiring.sharing}"


def _inbox() -> str:
    return f"_INBOX.{uuid.uuid4().hex}"


class _Answers(NatsClient):
    _receipt = 1


def request(wiring: Wiring, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Ask the API: the answers, in the order of the requests. Raises OSError, Refused."""
    inbox = _inbox()
    text = subscription(f"{inbox}.*", 1) + b"".join(
        publication(f"{API}{what}".encode(), b"%b.%d" % (inbox.encode(), number), _json_of(body))
        for number, (what, body) in enumerate(requests)
    )
    sock = open_nats(wiring)[0]
    answers = _Answers(sock)
    sock.setblocking(True)
    try:
        while len(answers.bodies) < len(requests):
            answers.feed(ask(sock, text, bool))
            text = bytes(answers.out)
            answers.out.clear()
    finally:
        answers.close()
    numbers = [int(subject.rpartition(b".")[2]) for subject in answers.receipts]
    found = dict(zip(numbers, map(json.loads, answers.bodies), strict=True))
    return [found[number] for number in range(len(requests))]


def _json_of(body: dict[str, Any]) -> bytes:
    """A payload; nothing where there is nothing to say."""
    return json.dumps(body).encode() if body else b""


def _refuse_errors(answers: Iterable[dict[str, Any]]) -> None:
    for answer in answers:
        if "error" in answer:
            raise Refused(str(answer["error"].get("description", answer["error"])))


class JetStreamProducer(NatsClient):
    """See ``driver.Producer``."""

    _receipt = 1

    confirms = True

    def __init__(self, sock: socket.socket, wiring: Wiring, is_atomic: bool) -> None:
        """``is_atomic``: whether batches are published as such."""
        super().__init__(sock)
        self.confirmed: list[int] = []
        self.refused: list[int] = []  # never: what is wrong with one message is wrong with all
        self._subjects = [name.encode() for name in wiring.names]
        self._is_atomic = is_atomic
        self._inbox = _inbox().encode()
        self._published = 0
        self.out += subscription(f"{self._inbox.decode()}.>", 1)

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """Atomic batches, or one PUB for each; keys and delays are not JetStream's."""
        subject, first = self._subjects[to], self._published
        self._published += len(bodies)
        if self._is_atomic and len(bodies) >= ATOMIC_MIN:
            for at in range(0, len(bodies), BATCH_MAX):
                self._publish_atomically(subject, bodies[at : at + BATCH_MAX], first + at)
            return
        start = b"PUB %b %b." % (subject, self._inbox)
        self.out += b"".join(
            [
                b"%b%d %d\r\n%b\r\n" % (start, number, len(body), body)
                for number, body in enumerate(bodies, first)
            ]
        )

    def _publish_atomically(self, subject: bytes, bodies: Sequence[bytes], first: int) -> None:
        head = b"NATS/1.0\r\nNats-Batch-Id: %b-%d\r\nNats-Batch-Sequence: %%d\r\n" % (
            self._inbox[-32:],
            first,
        )
        self.out += b"".join(
            [
                publication(subject, b"", body, head % number + b"\r\n")
                for number, body in enumerate(bodies[:-1], 1)
            ]
        )
        head = head % len(bodies) + b"Nats-Batch-Commit: 1\r\n\r\n"
        reply = b"%b.%d.%d" % (self._inbox, first, len(bodies))
        self.out += publication(subject, reply, bodies[-1], head)

    def feed(self, data: bytes) -> None:
        """Take answers. Raises Refused, behind what was confirmed before."""
        try:
            super().feed(data)
        finally:
            self._confirm()

    def _confirm(self) -> None:
        """Take account of the answers that came. Raises Refused."""
        skipped = len(self._inbox) + 1
        for body, subject in zip(self.bodies, self.receipts, strict=True):
            if _ERROR in body:
                _refuse_errors([json.loads(body)])
            number, _, count = subject[skipped:].partition(b".")
            if count:
                self.confirmed += range(int(number), int(number) + int(count))
            else:
                self.confirmed.append(int(number))
        self.bodies.clear()
        self.receipts.clear()


class JetStreamConsumer(NatsClient):
    """See ``driver.Consumer``. Pulls; a request waits at the server until it is used up."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        count = len(wiring.names)
        inbox = _inbox()
        self._share = max(1, wiring.prefetch // count)  # of each name
        self._prefetch = self._share * count
        self._unacknowledged = 0
        self._due = [0] * count  # messages that were asked for, of each name
        self._pulls = [
            (f"{API}CONSUMER.MSG.NEXT.{_consumer(wiring, name)}".encode(), f"{inbox}.{n}".encode())
            for n, name in enumerate(wiring.names)
        ]
        if count > 1:
            self._receipt = 0  # the subscription says which name it is
        for number, (_, reply) in enumerate(self._pulls):
            self.out += subscription(reply.decode(), number)
        self._ask()

    def _ask(self) -> None:
        """Ask for more of each name of which half of its share is used up."""
        room = self._prefetch - self._unacknowledged - sum(self._due)
        for number, due in enumerate(self._due):
            count = min(self._share - due, room)
            if count > 0 and count * 2 >= self._share:
                subject, reply = self._pulls[number]
                self.out += publication(subject, reply, b'{"batch":%d}' % count)
                self._due[number] += count
                room -= count

    def feed(self, data: bytes) -> None:
        """Take messages; ask for more behind them. Raises Refused."""
        before = len(self.bodies)
        super().feed(data)
        count = len(self.bodies) - before
        if not count:
            return
        if self._receipt:
            self._due[0] -= count
        else:
            lines = [line.split(b" ", 4) for line in self.receipts[before:]]
            self.receipts[before:] = [reply for _, _, _, reply, _ in lines]
            for _, _, number, _, _ in lines:
                self._due[int(number)] -= 1
        self._unacknowledged += count
        self._ask()

    def acknowledge(self, receipts: Sequence[bytes]) -> None:
        """One empty publish for each."""
        self._answer(receipts, b"")

    def reject(self, receipts: Sequence[bytes]) -> None:
        """They come again at once."""
        self._answer(receipts, b"-NAK")

    def _answer(self, receipts: Sequence[bytes], word: bytes) -> None:
        end = b" %d\r\n%b\r\n" % (len(word), word)
        self.out += b"".join([b"PUB %b%b" % (receipt, end) for receipt in receipts])
        self._unacknowledged -= len(receipts)
        self._ask()


class JetStreamDriver:
    """See ``driver.Driver``."""

    kinds: frozenset[Kind] = frozenset({"stream", "queue"})
    features = frozenset({"confirms", "reject", "groups"})

    def declare(self, wiring: Wiring) -> None:
        """Delete the streams, make them anew, and what their groups pull from."""
        streams = [_stream(name) for name in wiring.names]
        for answer in request(wiring, [(f"STREAM.DELETE.{stream}", {}) for stream in streams]):
            if "error" in answer and answer["error"].get("code") != _NOT_FOUND:
                _refuse_errors([answer])
        config = {
            "storage": "file" if wiring.durable else "memory",
            "retention": "workqueue" if wiring.kind == "queue" else "limits",
            "num_replicas": 1,
            "allow_atomic": True,
        }
        made: list[Request] = [
            (f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [name], **config})
            for stream, name in zip(streams, wiring.names, strict=True)
        ]
        _refuse_errors(request(wiring, made))
        for group in dict.fromkeys(filter(None, (wiring.sharing, *wiring.groups))):
            consumer = {
                "durable_name": group,
                "ack_policy": "explicit",
                "max_ack_pending": -1,  # who pulls takes care of that
                "mem_storage": not wiring.durable,
            }
            made = [
                (
                    f"CONSUMER.DURABLE.CREATE.{stream}.{group}",
                    {"stream_name": stream, "config": consumer},
                )
                for stream in streams
            ]
            _refuse_errors(request(wiring, made))

    def connect(self, wiring: Wiring) -> NatsClient:
        """See ``driver.Driver``."""
        return NatsClient(open_nats(wiring)[0])

    def greeting(self, wiring: Wiring) -> bytes:
        """CONNECT and PING."""
        return greeting(wiring)

    def is_greeted(self, data: bytes) -> bool:
        """Whether PONG came. Raises Refused."""
        return is_greeted(data)

    def producer(self, wiring: Wiring) -> JetStreamProducer:
        """See ``driver.Driver``."""
        sock, info = open_nats(wiring)
        numbers = str(info["version"]).split(".")[:2]
        is_atomic = wiring.durable and tuple(map(int, numbers)) >= _ATOMIC_SINCE
        return JetStreamProducer(sock, wiring, is_atomic)

    def consumer(self, wiring: Wiring) -> JetStreamConsumer | NatsConsumer:
        """A client that pulls, or that is pushed to."""
        sock = open_nats(wiring)[0]
        try:
            if not wiring.sharing:
                return _pushed(sock, wiring)
            # Before 2.10, who pulls from what is not there is not told.
            asked: list[Request] = [
                (f"CONSUMER.INFO.{_consumer(wiring, name)}", {}) for name in wiring.names
            ]
            _refuse_errors(request(wiring, asked))
            consumer = JetStreamConsumer(sock, wiring)
            say_first(consumer)
        except BaseException:
            sock.close()
            raise
        return consumer


def _pushed(sock: socket.socket, wiring: Wiring) -> NatsConsumer:
    """A client that every stream is pushed to. Raises OSError, Refused."""
    inbox = _inbox()
    answer = subscribe(sock, subscription(inbox, 1))
    config = {
        "deliver_subject": inbox,
        "deliver_policy": "all" if wiring.from_start else "new",
        "ack_policy": "none",
        "mem_storage": True,
    }
    made = []
    for name in wiring.names:
        stream = _stream(name)
        made.append((f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config}))
    _refuse_errors(request(wiring, made))
    consumer = NatsConsumer(sock)
    consumer.feed(answer)
    return consumer

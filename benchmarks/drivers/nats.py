"""NATS: topics, at most once. JetStream, which keeps messages, speaks it too (``jetstream.py``).

Rules:

1. Nothing is confirmed: what was written is on its way, and whoever is not subscribed misses it.
2. ``*`` is one level, as everywhere; ``#`` becomes ``>``, which is one level or more: a filter
   ``a.#`` does not match ``a``.
3. A group is a queue group: each message goes to one of its members.
4. The server asks by PING whether a client is alive, and cuts it off unless PONG comes.
"""

import json
import re
import socket
from collections.abc import Sequence
from typing import Any, Final

from .connection import ask, hang_up, login, open_socket
from .driver import Kind, Refused, Wiring
from .incoming import Incoming

__all__ = [
    "INFO",
    "NatsClient",
    "NatsConsumer",
    "NatsDriver",
    "NatsProducer",
    "greeting",
    "is_greeted",
    "open_nats",
    "publication",
    "subscribe",
    "subscription",
]

INFO: Final = re.compile(rb"INFO (\{[^\r]*\})")

_PING, _PONG = b"PING\r\n", b"PONG\r\n"
_LINE: Final = b"\r\n"
# Servers before 2.10 write two spaces where there is no subject for an answer.
_MESSAGE: Final = re.compile(rb"MSG (\S+) \S+ (?:(\S+) )? ?(\d+)\r\n")
_MESSAGE_WITH_HEADERS: Final = re.compile(rb"HMSG (\S+) \S+ (?:(\S+) )? ?(\d+) (\d+)\r\n")
_STATUS: Final = re.compile(rb"NATS/1\.0 +([^\r]+)")  # instead of a message


def publication(subject: bytes, reply: bytes, payload: bytes, headers: bytes = b"") -> bytes:
    """A PUB, or an HPUB with headers; ``reply``: the subject of the answer, or b""."""
    to = subject + b" " + reply if reply else subject
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload)
    sizes = (len(headers), len(headers) + len(payload))
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to, *sizes, headers, payload)


def subscription(subject: str, number: int, group: str = "") -> bytes:
    """A SUB."""
    return " ".join(filter(None, ("SUB", subject, group, f"{number}\r\n"))).encode()


def greeting(wiring: Wiring) -> bytes:
    """What a client says first: the server need not have spoken."""
    user, password = login(wiring.url)
    options: dict[str, Any] = {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "protocol": 1,
        "name": wiring.client_id,
    }
    if user:
        options |= {"user": user, "pass": password}
    return b"CONNECT %b\r\n%b" % (json.dumps(options).encode(), _PING)


def is_greeted(data: bytes) -> bool:
    """Whether PONG came. Raises Refused."""
    if (at := data.find(b"-ERR")) >= 0:
        raise _refusal(data[at:])
    return _PONG in data and data.endswith(_LINE)  # another INFO may follow


def _refusal(words: bytes) -> Refused:
    line = words.partition(_LINE)[0].removeprefix(b"-ERR ")
    return Refused(line.decode("utf-8", "replace").strip("'"))


def open_nats(wiring: Wiring) -> tuple[socket.socket, dict[str, Any]]:
    """A connection that has shaken hands, and what the server says of itself.

    Raises OSError, Refused.
    """
    sock = open_socket(wiring)
    try:
        found = INFO.search(ask(sock, greeting(wiring), is_greeted))
        if found is None:
            raise Refused("a server of NATS would say INFO first")
    except BaseException:
        sock.close()
        raise
    return sock, dict(json.loads(found[1]))


def subscribe(sock: socket.socket, subscriptions: bytes) -> bytes:
    """Wait until the server knows of them: what came meanwhile, PONG and perhaps messages.

    Raises OSError, Refused.
    """
    return ask(sock, subscriptions + _PING, lambda answer: _PONG in answer)


class NatsClient:
    """A connection: answers pings, and gathers the messages that come.

    Attributes:
        bodies: of the messages.
        receipts: as many; the subjects that their answers go to.
    """

    _receipt = 2  # of _MESSAGE: 0 is the whole line, 1 the subject, 2 where the answer goes

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.out = bytearray()
        self.bodies: list[bytes] = []
        self.receipts: list[bytes] = []
        self._incoming = Incoming()

    def feed(self, data: bytes) -> None:
        """Take messages, answer pings. Raises Refused."""
        data = self._incoming.add(data)
        at, wanted_bytes = self._take(data)
        self._incoming.keep(data[at:], wanted_bytes)

    def _take(self, data: bytes) -> tuple[int, int]:
        """Where what is not whole begins, and how many bytes it takes; 0: nobody knows."""
        at, size, receipt = 0, len(data), self._receipt
        add_body, add_receipt, message = self.bodies.append, self.receipts.append, _MESSAGE.match
        while at < size:
            if found := message(data, at):
                body, end = found.end(), found.end() + int(found[3])
            elif found := _MESSAGE_WITH_HEADERS.match(data, at):
                body, end = found.end() + int(found[3]), found.end() + int(found[4])
            else:
                end = data.find(_LINE, at)
                if end < 0:
                    return at, 0
                self._on_line(data[at : end + 2])
                at = end + 2
                continue
            if end + 2 > size:
                return at, end + 2 - at
            if body > found.end() and (status := _STATUS.match(data, found.end())):
                raise Refused(status[1].decode("utf-8", "replace"))
            add_body(data[body:end])
            add_receipt(found[receipt])
            at = end + 2
        return at, 0

    def _on_line(self, line: bytes) -> None:
        if line == _PING:
            self.out += _PONG
        elif line.startswith(b"-ERR"):
            raise _refusal(line)
        elif line != _PONG and not line.startswith((b"INFO ", b"+OK")):
            raise Refused(f"not understood: {line[:80]!r}")

    def close(self) -> None:
        """See ``driver.Client``."""
        hang_up(self.socket, bytes(self.out))


class NatsProducer(NatsClient):
    """See ``driver.Producer``."""

    confirms = False

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self._subjects = [name.encode() for name in wiring.names]

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """One PUB for each; keys and delays are not NATS's."""
        subject = self._subjects[to]
        self.out += b"".join(
            [b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body) for body in bodies]
        )


class NatsConsumer(NatsClient):
    """See ``driver.Consumer``. There is nothing to acknowledge."""

    def acknowledge(self, receipts: Sequence[bytes]) -> None:
        """Say nothing."""

    def reject(self, receipts: Sequence[bytes]) -> None:
        """Say nothing."""


class NatsDriver:
    """See ``driver.Driver``."""

    kinds: frozenset[Kind] = frozenset({"topic"})
    features = frozenset({"wildcards", "groups"})

    def declare(self, wiring: Wiring) -> None:
        """There is nothing to declare."""

    def connect(self, wiring: Wiring) -> NatsClient:
        """See ``driver.Driver``."""
        return NatsClient(open_nats(wiring)[0])

    def greeting(self, wiring: Wiring) -> bytes:
        """CONNECT and PING."""
        return greeting(wiring)

    def is_greeted(self, data: bytes) -> bool:
        """Whether PONG came. Raises Refused."""
        return is_greeted(data)

    def producer(self, wiring: Wiring) -> NatsProducer:
        """See ``driver.Driver``."""
        return NatsProducer(open_nats(wiring)[0], wiring)

    def consumer(self, wiring: Wiring) -> NatsConsumer:
        """A client whose subscriptions were made before PING was answered."""
        sock = open_nats(wiring)[0]
        try:
            subscriptions = b"".join(
                subscription(name.replace("#", ">"), number, wiring.group)
                for number, name in enumerate(wiring.names, 1)
            )
            answer = subscribe(sock, subscriptions)
            consumer = NatsConsumer(sock)
            consumer.feed(answer)
        except BaseException:
            sock.close()
            raise
        return consumer

"""STOMP 1.2 (``stomp://``): prebuilt heads out, and of what comes in only what is needed.

Rules:

1. Queues are declared by use. Declaring empties them: STOMP has no word for that, so all that is
   there is read, up to a mark that is sent behind it.
2. A message is persistent where ``durable``, and each asks for a receipt, whose id is its number.
3. A consumer acknowledges each message by itself (``client-individual``).
4. ``durable`` consumers of topics have durable subscriptions, named by ``client_id``.
5. Keys are message groups (``JMSXGroupID``), whose messages go to one consumer in order: that is
   what a FIFO queue is here.
6. Frames end their lines with LF alone, as all brokers that are measured here have it.
"""

import re
import secrets
import socket
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from .connection import converse, hang_up, login, open_socket
from .driver import Kind, Refused, Wiring
from .incoming import Incoming

__all__ = ["StompClient", "StompConsumer", "StompDriver", "StompProducer"]

# The head of a frame: its command, and of its headers a length, what to acknowledge it by, and the
# number that it is a receipt for.
_HEAD: Final = re.compile(
    rb"\n*([A-Z]+)\n(?:content-length:(.*)\n|ack:(.*)\n|receipt-id:(\d+)\n|.+\n)*+\n"
)
_RECEIPTS: Final = re.compile(rb"RECEIPT\n(?:.+\n)*?receipt-id:(\d+)")
_HEAD_BYTES_MAX: Final = 65_536  # of a frame, before its body
_SUBSCRIPTIONS_AT_ONCE: Final = 100  # while queues are emptied
_END: Final = b"\n\n\0"
_ACK: Final = b"ACK\nid:"
_NACK: Final = b"NACK\nid:"
_GOODBYE: Final = b"DISCONNECT\nreceipt:goodbye\n\n\0"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", ":": "\\c"})


def _value(text: str) -> bytes:
    """A header's value."""
    return text.translate(_ESCAPES).encode()


def _error(head: bytes, body: bytes) -> Refused:
    """An ERROR in its own words: its message, and the first line of its body."""
    words = [line.partition(b":")[2] for line in head.split(b"\n") if line.startswith(b"message:")]
    words.append(body.strip(b"\0").partition(b"\n")[0])
    text = b" / ".join(filter(None, words)).decode("utf-8", "replace")
    return Refused("ERROR: " + text.replace("\\c", ":").replace("\\n", "\n").replace("\\\\", "\\"))


class StompClient:
    """A connection; what it says and hears beside messages.

    Attributes:
        greeted: whether the broker has let it in.
        server: how it calls itself.
        subscribed: SUBSCRIBEs that have their receipts.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.out = bytearray()
        self.greeted = False
        self.server = ""
        self.subscribed = 0
        self._incoming = Incoming()

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises Refused."""
        buffer = self._incoming.add(data)
        at, size, wanted_bytes = 0, len(buffer), 0
        while found := _HEAD.match(buffer, at):
            begin, length = found.end(), found[2]
            if length is None:
                end = buffer.find(b"\0", begin)
                if end < 0:
                    break
            elif not length.isdigit():
                raise Refused(f"not STOMP: {found[0]!r}")
            else:
                end = begin + int(length)
                if end >= size:
                    wanted_bytes = end + 1 - at
                    break
            self._take(found, buffer[begin:end])
            at = end + 1
        else:
            if size - at > _HEAD_BYTES_MAX:
                raise Refused(f"not STOMP: {buffer[at : at + 32]!r}")
        self._incoming.keep(buffer[at:], wanted_bytes)

    def close(self) -> None:
        """Say goodbye."""
        hang_up(self.socket, bytes(self.out) + _GOODBYE)

    def _take(self, head: re.Match[bytes], body: bytes) -> None:
        """A whole frame."""
        if head[1] == b"CONNECTED":
            self.greeted = True
            if named := re.search(rb"\nserver:(.*)\n", head[0]):
                self.server = named[1].decode("utf-8", "replace")
        elif head[1] == b"RECEIPT":
            self.subscribed += 1
        elif head[1] == b"ERROR":
            raise _error(head[0], body)
        else:
            raise Refused(f"a frame that nobody expected: {head[0][:32]!r}")


class StompProducer(StompClient):
    """Sends to queues or topics."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.confirms = True
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self._places = [_destination(wiring, name) for name in wiring.names]
        self._persistent = b"persistent:true\n" if wiring.durable else b""
        self._heads: dict[tuple[int, int], bytes] = {}  # by number of the name, and delay
        self._number = 0

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """Put messages for ``names[to]`` into ``out``."""
        head = self._heads.get((to, delay_ms)) or self._head(to, delay_ms)
        first = self._number
        self._number += len(bodies)
        if not keys:
            self.out += b"".join(
                b"%b%d\ncontent-length:%d\n\n%b\0" % (head, number, len(body), body)
                for number, body in enumerate(bodies, first)
            )
            return
        self.out += b"".join(
            b"%b%d\nJMSXGroupID:%b\ncontent-length:%d\n\n%b\0"
            % (head, number, _value(key), len(body), body)
            for number, (body, key) in enumerate(zip(bodies, keys, strict=True), first)
        )

    def feed(self, data: bytes) -> None:
        """Take what was read: mostly receipts, and then all of them at once. Raises Refused."""
        buffer = self._incoming.add(data)
        end = buffer.rfind(b"\0") + 1
        numbers = _RECEIPTS.findall(buffer, 0, end)
        if numbers and len(numbers) == buffer.count(b"\0", 0, end):
            self.confirmed += map(int, numbers)
            self._incoming.keep(buffer[end:])
        else:
            super().feed(buffer)

    def _head(self, to: int, delay_ms: int) -> bytes:
        delay = b"AMQ_SCHEDULED_DELAY:%d\n" % delay_ms if delay_ms else b""
        parts = (b"SEND\ndestination:", self._places[to], b"\n", self._persistent, delay)
        head = self._heads[to, delay_ms] = b"".join((*parts, b"receipt:"))
        return head

    def _take(self, head: re.Match[bytes], body: bytes) -> None:
        if head[1] == b"RECEIPT" and head[4]:
            self.confirmed.append(int(head[4]))
        else:
            super()._take(head, body)


class StompConsumer(StompClient):
    """Is subscribed. A receipt is the ``ack`` header of a message, as it came."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.bodies: list[bytes] = []
        self.receipts: list[Any] = []

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """Put acknowledgements into ``out``."""
        if receipts:
            self.out += _ACK + (_END + _ACK).join(receipts) + _END

    def reject(self, receipts: Sequence[Any]) -> None:
        """A NACK for each: ActiveMQ makes dead letters of them, RabbitMQ sends them again."""
        if receipts:
            self.out += _NACK + (_END + _NACK).join(receipts) + _END

    def close(self) -> None:
        """Say goodbye, when the broker has dealt with all that was said before."""
        hang_up(self.socket, bytes(self.out) + _GOODBYE, b"receipt-id:goodbye")

    def _take(self, head: re.Match[bytes], body: bytes) -> None:
        if head[1] != b"MESSAGE":
            super()._take(head, body)
            return
        if head[3] is None:
            raise Refused(f"a message that cannot be acknowledged: {head[0]!r}")
        self.bodies.append(body)
        self.receipts.append(head[3])


def _destination(wiring: Wiring, name: str) -> bytes:
    return (b"/topic/" if wiring.kind == "topic" else b"/queue/") + _value(name)


def _is_remembered(wiring: Wiring) -> bool:
    """Whether a consumer's subscription outlives its connection."""
    return wiring.kind == "topic" and wiring.durable and bool(wiring.client_id)


def _connect(wiring: Wiring, client_id: str = "") -> bytes:
    user, password = login(wiring.url)
    named = {"login": user, "passcode": password, "client-id": client_id}
    lines = "".join(f"{name}:{value}\n" for name, value in named.items() if value)
    return b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n%b\n\0" % lines.encode()


def _subscribes(wiring: Wiring, server: str) -> list[bytes]:
    """A SUBSCRIBE for each name; ``>`` is how ActiveMQ spells any number of words."""
    rest = b"\nack:client-individual\nprefetch-count:%d\nactivemq.prefetchSize:%d\n" % (
        *(wiring.prefetch, wiring.prefetch),
    )
    frames = []
    for number, name in enumerate(wiring.names):
        place = _destination(wiring, name)
        if server.startswith("ActiveMQ"):
            place = place.replace(b"#", b">")
        named, kept = b"%d" % number, b""
        if _is_remembered(wiring):
            named = _value(f"{wiring.client_id}-{number}")
            kept = b"activemq.subscriptionName:%b\ndurable:true\nauto-delete:false\n" % named
        head = b"SUBSCRIBE\nid:%b\nreceipt:%d\ndestination:" % (named, number)
        frames.append(head + place + rest + kept + b"\n\0")
    return frames


class StompDriver:
    """STOMP 1.2."""

    kinds: frozenset[Kind] = frozenset({"fifo", "queue", "topic"})
    features = frozenset({"confirms", "delay", "keys", "reject", "tls", "wildcards"})

    def declare(self, wiring: Wiring) -> None:
        """Empty queues, which are there by that; topics are there. Raises OSError, Refused."""
        if wiring.kind == "topic":
            self.connect(wiring).close()
            return
        for at in range(0, len(wiring.names), _SUBSCRIPTIONS_AT_ONCE):
            self._empty(replace(wiring, names=wiring.names[at : at + _SUBSCRIPTIONS_AT_ONCE]))

    def _empty(self, wiring: Wiring) -> None:
        """Read what is there, up to a mark of our own in each queue."""
        mark = secrets.token_bytes(16)
        producer, consumer = self.producer(wiring), self.consumer(wiring)
        missing = len(wiring.names)

        def are_empty() -> bool:
            nonlocal missing
            missing -= consumer.bodies.count(mark)
            consumer.acknowledge(consumer.receipts)
            consumer.bodies.clear()
            consumer.receipts.clear()
            return not missing

        try:
            for number in range(missing):
                producer.publish([mark], number)
            converse(producer, lambda: len(producer.confirmed) == len(wiring.names))
            converse(consumer, are_empty)
        finally:
            producer.close()
            consumer.close()

    def connect(self, wiring: Wiring) -> StompClient:
        """A client that does nothing. Raises OSError, Refused."""
        client = StompClient(open_socket(wiring))
        _greet(client, wiring)
        return client

    def greeting(self, wiring: Wiring) -> bytes:
        """A CONNECT."""
        return _connect(wiring)

    def is_greeted(self, data: bytes) -> bool:
        """Whether there is a CONNECTED. Raises Refused."""
        if b"\n\n" not in data or not data.endswith((b"\0", b"\0\n")):
            return False
        if not data.startswith(b"CONNECTED\n"):
            raise _error(*data.split(b"\n\n", 1))
        return True

    def producer(self, wiring: Wiring) -> StompProducer:
        """A client that publishes. Raises OSError, Refused."""
        client = StompProducer(open_socket(wiring), wiring)
        _greet(client, wiring)
        return client

    def consumer(self, wiring: Wiring) -> StompConsumer:
        """A client that is subscribed when this returns. Raises OSError, Refused."""
        client = StompConsumer(open_socket(wiring), wiring)
        _greet(client, wiring, wiring.client_id if _is_remembered(wiring) else "")
        client.out += b"".join(_subscribes(wiring, client.server))
        converse(client, lambda: client.subscribed == len(wiring.names))
        return client


def _greet(client: StompClient, wiring: Wiring, client_id: str = "") -> None:
    client.out += _connect(wiring, client_id)
    converse(client, lambda: client.greeted)

"""MQTT 3.1.1 (``mqtt://``) and 5 (``mqtt5://``): packets by offsets, acknowledgements in bulk.

Rules:

1. A topic is a topic, its subscription is to filters; with a group it is a shared one. A queue is
   a shared subscription of a topic, which all brokers have alike: who publishes before the first
   consumer is there, publishes to nobody.
2. ``durable`` consumers above QoS 0 have sessions that outlive their connections, named by
   ``client_id``: a message for them is as safe as the broker can make it. A session that is there
   already is resumed, so runs need client identifiers of their own.
3. Confirmed is what the broker acknowledged: with PUBACK, or with PUBCOMP for QoS 2. No more is
   sent than it takes unacknowledged (its Receive Maximum; 65,535 before MQTT 5), the rest waits.
4. Delays are whole seconds, by ``$delayed/``. MQTT cannot reject a message.
"""

import socket
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from struct import pack
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from .connection import converse, hang_up, login, open_socket
from .driver import Kind, Refused, Wiring, slashed
from .incoming import Incoming
from .mqtt_packets import (
    CONNACK,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    Malformed,
    connect_packet,
    next_packet,
    read_integer,
    receive_maximum,
    refusal,
    subscribe_packet,
    variable_integer,
)

__all__ = ["MqttClient", "MqttConsumer", "MqttDriver", "MqttProducer"]

_IDENTIFIERS: Final = 65_535  # of packets: 1 to this
_HEAD_BYTES_MAX: Final = 5  # of a packet: its first byte, and its length
_FILTERS_AT_ONCE: Final = 50  # in a SUBSCRIBE; brokers limit that
_PUBACK_BITS: Final = 0x40020000  # a PUBACK as a number, but for the identifier
_PUBREC_BITS: Final = 0x50020000
_PUBREL_BITS: Final = 0x62020000
_PUBCOMP_BITS: Final = 0x70020000
_SENT: Final = 1  # a message that was published, and is on its way
_RECEIVED: Final = 2  # one of QoS 2 that the broker has, and has not completed
_FAILURE: Final = 0x80

_Client = TypeVar("_Client", bound="MqttClient")


def _version(wiring: Wiring) -> int:
    return 5 if urlsplit(wiring.url).scheme == "mqtt5" else 4


def _filters(wiring: Wiring) -> list[str]:
    share = f"$share/{wiring.sharing}/" if wiring.sharing else ""
    return [share + slashed(name) for name in wiring.names]


def _connect(wiring: Wiring, clean: bool = True) -> bytes:
    return connect_packet(
        *(_version(wiring), wiring.client_id, clean, login(wiring.url)),
        receive_maximum=min(wiring.prefetch, _IDENTIFIERS),
    )


class MqttClient:
    """A connection; what it says and hears beside messages.

    Attributes:
        version: 4 (of MQTT 3.1.1) or 5.
        greeted: whether the broker has let it in.
        subscribed: SUBSCRIBEs that were answered.
        receive_maximum: messages that the broker takes unacknowledged.
    """

    def __init__(self, sock: socket.socket, version: int) -> None:
        self.socket = sock
        self.out = bytearray()
        self.version = version
        self.greeted = False
        self.subscribed = 0
        self.receive_maximum = _IDENTIFIERS
        self._incoming = Incoming()

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises Refused."""
        buffer = self._incoming.add(data)
        at, size, wanted_bytes = 0, len(buffer), 0
        take = self._take
        try:
            while at + 2 <= size:
                begin, length = at + 2, buffer[at + 1]
                if length > 0x7F:
                    if at + _HEAD_BYTES_MAX > size:
                        break  # its length may not be whole; that of its body is 128 at least
                    length, begin = read_integer(buffer, at + 1)
                end = begin + length
                if end > size:
                    wanted_bytes = end - at
                    break
                take(buffer[at], buffer, begin, end)
                at = end
        except (Malformed, IndexError) as error:
            raise Refused(f"not MQTT: {buffer[at : at + 32]!r} ({error})") from error
        self._incoming.keep(buffer[at:], wanted_bytes)

    def close(self) -> None:
        """Say goodbye; a session that outlives its connection stays."""
        hang_up(self.socket, bytes(self.out) + DISCONNECT)

    def _take(self, first: int, buffer: bytes, begin: int, end: int) -> None:
        """A whole packet, from its first byte to what is in it."""
        body = memoryview(buffer)[begin:end]
        if words := refusal(self.version, first, body):
            raise Refused(words)
        if first >> 4 == CONNACK:
            self.greeted = True
            if self.version == 5:
                self.receive_maximum = receive_maximum(body)
        elif first >> 4 == SUBACK:
            self.subscribed += 1


class MqttProducer(MqttClient):
    """Publishes to topics."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        version = _version(wiring)
        super().__init__(sock, version)
        self.confirms = wiring.qos > 0
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self._names = wiring.names
        self._first = PUBLISH << 4 | wiring.qos << 1 | wiring.retain
        # Between topic and body: an identifier, and of MQTT 5 no properties.
        self._middle_bytes = (2 if wiring.qos else 0) + (1 if version == 5 else 0)
        self._middle_shift = 8 if version == 5 else 0
        self._topics: dict[tuple[int, int], bytes] = {}  # by number and delay, encoded
        self._starts: dict[int, bytes] = {}  # by what is behind them, in bytes
        self._waiting: deque[tuple[bytes, bytes]] = deque()  # topics and bodies
        self._in_flight: dict[int, int] = {}  # by identifier, how far they are
        self._sent = 0  # messages; their numbers choose their identifiers

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """Put messages for ``names[to]`` into ``out``, as many as the broker takes now.

        Raises Refused when the delay is no whole seconds.
        """
        topic = self._topics.get((to, delay_ms)) or self._encoded(to, delay_ms)
        self._waiting.extend(zip(repeat(topic), bodies))
        self._flush()

    def _encoded(self, to: int, delay_ms: int) -> bytes:
        name = slashed(self._names[to])
        if delay_ms % 1000:
            raise Refused(f"MQTT delays by whole seconds, not by {delay_ms} ms")
        if delay_ms:
            name = f"$delayed/{delay_ms // 1000}/{name}"
        words = name.encode()
        topic = self._topics[to, delay_ms] = len(words).to_bytes(2, "big") + words
        return topic

    def _flush(self) -> None:
        """Send of what waits as much as the broker takes."""
        room = len(self._waiting)
        if self.confirms:
            room = min(room, self.receive_maximum - len(self._in_flight))
        middle_bytes, shift = self._middle_bytes, self._middle_shift
        in_flight, starts, sent = self._in_flight, self._starts, self._sent
        parts: list[bytes] = []
        for _ in range(room):
            packet_id = 0
            if self.confirms:
                packet_id = sent % _IDENTIFIERS + 1
                if packet_id in in_flight:
                    break  # answered out of order: the first of all is still on its way
                in_flight[packet_id] = _SENT
            topic, body = self._waiting.popleft()
            size = len(topic) + middle_bytes + len(body)
            start = starts.get(size)
            if start is None:
                start = starts[size] = bytes([self._first]) + variable_integer(size)
            parts += (start, topic, (packet_id << shift).to_bytes(middle_bytes, "big"), body)
            sent += 1
        self._sent = sent
        self.out += b"".join(parts)

    def _take(self, first: int, buffer: bytes, begin: int, end: int) -> None:
        kind = first >> 4
        if kind not in (PUBACK, PUBREC, PUBCOMP):
            super()._take(first, buffer, begin, end)
            return
        packet_id = buffer[begin] << 8 | buffer[begin + 1]
        reason = buffer[begin + 2] if end - begin > 2 else 0
        if self._in_flight.get(packet_id) != (_RECEIVED if kind == PUBCOMP else _SENT):
            raise Refused(f"{buffer[begin - 2 : end]!r} answers what is not in flight")
        if kind == PUBREC and reason < _FAILURE:
            self._in_flight[packet_id] = _RECEIVED
            self.out += (_PUBREL_BITS | packet_id).to_bytes(4, "big")
            return
        last = self._sent - 1
        number = last - (last - packet_id + 1) % _IDENTIFIERS
        (self.confirmed if reason < _FAILURE else self.refused).append(number)
        del self._in_flight[packet_id]
        if self._waiting:
            self._flush()


class MqttConsumer(MqttClient):
    """Is subscribed. A receipt is the packet that acknowledges, as a number; 0 for QoS 0."""

    def __init__(self, sock: socket.socket, version: int) -> None:
        super().__init__(sock, version)
        self.bodies: list[bytes] = []
        self.receipts: list[Any] = []
        self._open: set[int] = set()  # identifiers of QoS 2 that the broker has not released

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """Put acknowledgements into ``out``."""
        packets = [receipt for receipt in receipts if receipt]
        self.out += pack(f">{len(packets)}I", *packets)

    def reject(self, receipts: Sequence[Any]) -> None:
        """MQTT cannot. Raises Refused."""
        raise Refused("MQTT has no way to reject a message")

    def _take(self, first: int, buffer: bytes, begin: int, end: int) -> None:
        if first >> 4 != PUBLISH:
            if first >> 4 != PUBREL:
                super()._take(first, buffer, begin, end)
                return
            packet_id = buffer[begin] << 8 | buffer[begin + 1]
            self._open.discard(packet_id)
            self.out += (_PUBCOMP_BITS | packet_id).to_bytes(4, "big")
            return
        receipt = 0
        at = begin + 2 + (buffer[begin] << 8 | buffer[begin + 1])
        if first & 6:
            packet_id = buffer[at] << 8 | buffer[at + 1]
            at += 2
            receipt = _PUBACK_BITS | packet_id
            if first & 4:
                receipt = _PUBREC_BITS | packet_id
                if packet_id in self._open:  # it is here already
                    self.out += receipt.to_bytes(4, "big")
                    return
                self._open.add(packet_id)
        if self.version == 5:
            size, at = read_integer(buffer, at)
            at += size
        if at > end:
            raise Malformed("a PUBLISH that ends too early")
        self.bodies.append(buffer[at:end])
        self.receipts.append(receipt)


def _opened(client: _Client, greeting: bytes, subscribes: Sequence[bytes] = ()) -> _Client:
    """Have a client let in, and subscribed. Raises OSError, Refused."""
    client.out += greeting
    converse(client, lambda: client.greeted)
    client.out += b"".join(subscribes)
    converse(client, lambda: client.subscribed == len(subscribes))
    return client


class MqttDriver:
    """MQTT 3.1.1 and 5."""

    kinds: frozenset[Kind] = frozenset({"queue", "topic"})
    features = frozenset(
        {"confirms", "delay", "groups", "qos2", "retain", "tls", "wildcards"},
    )

    def declare(self, wiring: Wiring) -> None:
        """Topics are there; what they retain is forgotten. Raises OSError, Refused."""
        cleaner = self.producer(replace(wiring, qos=1, retain=True))
        try:
            if wiring.retain:
                for number in range(len(wiring.names)):
                    cleaner.publish([b""], number)
                converse(cleaner, lambda: len(cleaner.confirmed) == len(wiring.names))
        finally:
            cleaner.close()

    def connect(self, wiring: Wiring) -> MqttClient:
        """A client that does nothing. Raises OSError, Refused."""
        return _opened(MqttClient(open_socket(wiring), _version(wiring)), _connect(wiring))

    def greeting(self, wiring: Wiring) -> bytes:
        """A CONNECT."""
        return _connect(wiring)

    def is_greeted(self, data: bytes) -> bool:
        """Whether there is a CONNACK. Raises Refused."""
        try:
            found = next_packet(memoryview(data), 0)
            if found is None:
                return False
            first, begin, end = found
            words = refusal(5, first, memoryview(data)[begin:end])  # fits 3.1.1 as well
        except (Malformed, IndexError) as error:
            raise Refused(f"not MQTT: {data[:32]!r} ({error})") from error
        if words:
            raise Refused(words)
        return True

    def producer(self, wiring: Wiring) -> MqttProducer:
        """A client that publishes. Raises OSError, Refused."""
        return _opened(MqttProducer(open_socket(wiring), wiring), _connect(wiring))

    def consumer(self, wiring: Wiring) -> MqttConsumer:
        """A client that is subscribed when this returns. Raises OSError, Refused."""
        stays = wiring.durable and wiring.qos > 0 and bool(wiring.client_id)
        client = MqttConsumer(open_socket(wiring), _version(wiring))
        filters = _filters(wiring)
        subscribes = [
            subscribe_packet(client.version, 1, filters[at : at + _FILTERS_AT_ONCE], wiring.qos)
            for at in range(0, len(filters), _FILTERS_AT_ONCE)
        ]
        return _opened(client, _connect(wiring, clean=not stays), subscribes)

"""Runs: equal packets that stand one behind the other, taken and made as one.

A client that publishes quickly sends many PUBLISH packets of one topic and one size in a row; only
the packet identifiers and the payloads differ. Such a run is found by comparing prefixes, becomes
one publication, and leaves as it came: for QoS 0 as the very bytes, for QoS 1 and 2 with other
packet identifiers written into a copy by strides. So what a message costs is mostly copying.

    prefix   first byte, remaining length, topic        the same for all packets of a run
    packet identifier                                   QoS 1 and 2 only
    after    MQTT 5: the property block                 the same for all packets of a run
    payload
"""

from collections.abc import Sequence

from ...broker.access import Principal
from ...broker.publication import Publication
from ...broker.session import Session
from ...broker.topics import Route
from .packets import V5, publish_head

__all__ = [
    "PACKET_IDS",
    "RUN_PACKETS_MAX",
    "SHAPES_CACHED_MAX",
    "Run",
    "Shape",
    "Topic",
    "ack_run",
    "has_zero",
    "packet_ids",
    "puback_run",
    "run_length",
    "write_packet_ids",
]

SHAPES_CACHED_MAX = 16_384
RUN_PACKETS_MAX = 512  # then whoever is slow may say so

# Every packet identifier as it stands in a packet.
PACKET_IDS = [number.to_bytes(2, "big") for number in range(65_536)]


class Topic:
    """A topic as packets name it, and as headers of the broker do (qos -> packed headers)."""

    __slots__ = ("attributes", "name", "wire")

    def __init__(self, name: str, wire: bytes) -> None:
        self.name = name
        self.wire = wire
        self.attributes: dict[object, bytes] = {}


class Shape:
    """What the packets of a run have in common.

    Attributes:
        size: of a whole packet. head: of what stands before the payload.
        id_at, after_at: where the packet identifier stands, and what follows it.
        after: what stands between packet identifier and payload; with QoS 0 behind the prefix.
        forward: the properties that go on. expiry_seconds: None when there is none.
        stream: which its messages are appended to, by ``$stream/NAME``; "" when it is a topic.
        route, who, stamp: who gets it, when ``who`` publishes it and the stamp is that of now;
            None when it is not known, or too many to hold on to for as long as there are shapes.
    """

    __slots__ = (
        "after",
        "after_at",
        "attributes",
        "expiry_seconds",
        "forward",
        "head",
        "id_at",
        "prefix",
        "qos",
        "retain",
        "route",
        "size",
        "stamp",
        "stream",
        "topic",
        "version",
        "who",
    )

    def __init__(
        self,
        topic: Topic,
        version: int,
        qos: int,
        retain: bool,
        prefix: bytes,
        after: bytes,
        size: int,
    ) -> None:
        self.topic = topic
        self.version = version
        self.qos = qos
        self.retain = retain
        self.prefix = prefix
        self.after = after
        self.size = size
        self.id_at = len(prefix)
        self.after_at = len(prefix) + (2 if qos else 0)
        self.head = self.after_at + len(after)
        self.stream = ""
        self.route: Route | None = None
        self.who: Principal | None = None
        self.stamp = -1
        self.forward = b""
        self.attributes = b""
        self.expiry_seconds: int | None = None

    def remember(self, route: Route, who: Principal, stamp: int) -> None:
        """Keep who gets it, if these are few."""
        self.route = route if route.small else None
        self.who = who
        self.stamp = stamp if route.small else -1


def run_length(data: bytes, at: int, end: int, shape: Shape) -> int:
    """How many whole packets of this shape stand at ``at``; 0 when the first is another."""
    prefix, size = shape.prefix, shape.size
    startswith = data.startswith
    stop = min(end, at + size * RUN_PACKETS_MAX) - size
    begin = at
    if not shape.after:
        while at <= stop and startswith(prefix, at):
            at += size
    else:
        after = shape.after
        offset = shape.after_at
        while at <= stop and startswith(prefix, at) and startswith(after, at + offset):
            at += size
    return (at - begin) // size


class Run(Publication):
    """A run of PUBLISH packets in a buffer that was read."""

    uniform = True

    __slots__ = ("_bodies", "_data", "_end", "_raw", "_start", "shape")

    def __init__(
        self,
        shape: Shape,
        data: bytes,
        start: int,
        count: int,
        now_ms: int,
        session: Session | None,
    ) -> None:
        # All that the base has, without a call: this is made for every message that is alone.
        self.topic = shape.topic.name
        self.qos = shape.qos
        self.retain = shape.retain
        seconds = shape.expiry_seconds
        self.expire_ms = 0 if seconds is None else now_ms + seconds * 1000
        self.count = count
        self.session = session
        self.inbound = 0
        self.wire = {}
        self.shape = shape
        self._data = data
        self._start = start
        self._end = start + count * shape.size
        self._bodies: Sequence[bytes] | None = None
        self._raw = True

    def rewrite(self) -> None:
        """Never pass the packet on as it is: it has an alias, or says that it was sent before."""
        self._raw = False

    def _is_same(self, version: int, qos: int) -> bool:
        """Whether a packet of this version and quality is a copy of what came."""
        shape = self.shape
        same = version == shape.version or (version != V5 and shape.version != V5)
        return same and qos == shape.qos and self._raw

    @property
    def bodies(self) -> Sequence[bytes]:
        bodies = self._bodies
        if bodies is None:
            data, size, head = self._data, self.shape.size, self.shape.head
            bodies = self._bodies = [
                data[at + head : at + size] for at in range(self._start, self._end, size)
            ]
        return bodies

    @property
    def attributes(self) -> bytes:
        return self.shape.attributes

    def packets(self, version: int, qos: int, retain: bool) -> bytes | bytearray:
        """The run as packets of another version or quality; identifiers are still to be written.

        What only differs in them is a copy of what came; the caller owns a run of QoS 1 or 2.
        """
        shape = self.shape
        if self._is_same(version, qos) and retain == shape.retain:
            packets = self._data[self._start : self._end]
            return bytearray(packets) if qos else packets
        properties = self.properties if version == V5 else b""
        length = shape.size - shape.head
        before, after = publish_head(
            version, shape.topic.wire, qos, retain, False, properties, length
        )
        head = before + b"\0\0" + after if qos else before
        if not length:
            return bytearray(head * self.count) if qos else head * self.count
        joined = head + head.join(self.bodies)
        return bytearray(joined) if qos else joined

    def sizes(self, version: int, qos: int) -> tuple[int, int]:
        """Of a packet in :meth:`packets`: its size, and where its identifier stands."""
        shape = self.shape
        if self._is_same(version, qos):
            return shape.size, shape.id_at
        properties = self.properties if version == V5 else b""
        length = shape.size - shape.head
        before, after = publish_head(
            version, shape.topic.wire, qos, False, False, properties, length
        )
        return len(before) + len(after) + length + (2 if qos else 0), len(before)

    @property
    def properties(self) -> bytes:
        """The property block's content for other MQTT 5 clients."""
        return self.expiry + self.shape.forward

    @property
    def expiry(self) -> bytes:
        """The property that tells how long the messages have; nothing when that is not limited."""
        seconds = self.shape.expiry_seconds
        return b"" if seconds is None else b"\x02" + seconds.to_bytes(4, "big")


def puback_run(data: bytes, at: int, end: int) -> int:
    """How many PUBACKs without a reason stand in a row at ``at``."""
    most = (end - at) // 4
    if most <= 1:
        return int(most == 1 and data[at] == 0x40 and data[at + 1] == 2)
    count = _same(data[at : at + 4 * most : 4], 0x40)
    return _same(data[at + 1 : at + 4 * count : 4], 2)


def _same(values: bytes, value: int) -> int:
    """How many of ``values``, from the first on, are ``value``."""
    return len(values) - len(values.lstrip(bytes((value,))))


def packet_ids(data: bytes, at: int, stride: int, count: int) -> bytes:
    """The packet identifiers of ``count`` packets, the first at ``at``, each of two bytes."""
    if stride == 2:
        return data[at : at + 2 * count]
    ids = bytearray(2 * count)
    stop = at + stride * (count - 1) + 1
    ids[0::2] = data[at:stop:stride]
    ids[1::2] = data[at + 1 : stop + 1 : stride]
    return bytes(ids)


def write_packet_ids(packets: bytearray, at: int, stride: int, ids: bytes) -> None:
    """Write identifiers of two bytes each into a run, the first at ``at``."""
    packets[at::stride] = ids[0::2]
    packets[at + 1 :: stride] = ids[1::2]


def ack_run(first: int, ids: bytes, reason: int = 0) -> bytes:
    """Acknowledgements: the byte ``first``, the length, an identifier, a reason other than 0."""
    after = bytes((reason,)) if reason else b""
    if len(ids) == 2:
        return bytes((first, 2 + len(after))) + ids + after
    count = len(ids) >> 1
    size = 4 + len(after)
    acks = bytearray((bytes((first, 2 + len(after), 0, 0)) + after) * count)
    acks[2::size] = ids[0::2]
    acks[3::size] = ids[1::2]
    return bytes(acks)


def has_zero(ids: bytes) -> bool:
    """Whether one of these packet identifiers is 0, which none may be."""
    return any(ids[at : at + 2] == b"\0\0" for at in range(0, len(ids), 2))

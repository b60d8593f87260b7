"""MQTT packets as bytes, for the tests: small encoders, and a decoder that checks what it reads.

It shares no code with the broker's codec, so that a mistake in one is not made in the other. The
encoders write whatever they are told, also what no specification allows; the decoder accepts only
what a server may send and raises AssertionError otherwise, so every packet that any test reads is
checked. Where a standard demands what it checks, the id stands above it.
"""

from dataclasses import dataclass, field
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)
NAMES = (
    "RESERVED CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE"
    " UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH"
).split()

V31, V311, V5 = 3, 4, 5

# Property identifiers, as section 2.2.2.2 names them.
PAYLOAD_FORMAT = 0x01
MESSAGE_EXPIRY = 0x02
CONTENT_TYPE = 0x03
RESPONSE_TOPIC = 0x08
CORRELATION_DATA = 0x09
SUBSCRIPTION_ID = 0x0B
SESSION_EXPIRY = 0x11
ASSIGNED_CLIENT_ID = 0x12
SERVER_KEEP_ALIVE = 0x13
AUTH_METHOD = 0x15
AUTH_DATA = 0x16
REQUEST_PROBLEM_INFO = 0x17
WILL_DELAY = 0x18
REQUEST_RESPONSE_INFO = 0x19
RESPONSE_INFO = 0x1A
SERVER_REFERENCE = 0x1C
REASON_STRING = 0x1F
RECEIVE_MAXIMUM = 0x21
TOPIC_ALIAS_MAXIMUM = 0x22
TOPIC_ALIAS = 0x23
MAXIMUM_QOS = 0x24
RETAIN_AVAILABLE = 0x25
USER_PROPERTY = 0x26
MAXIMUM_PACKET_SIZE = 0x27
WILDCARD_AVAILABLE = 0x28
SUBSCRIPTION_ID_AVAILABLE = 0x29
SHARED_AVAILABLE = 0x2A

# How each property is written, and which packets of a server may carry it.
_DIAGNOSTIC = {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}
PROPERTIES: dict[int, tuple[str, set[int]]] = {
    PAYLOAD_FORMAT: ("u8", {PUBLISH}),
    MESSAGE_EXPIRY: ("u32", {PUBLISH}),
    CONTENT_TYPE: ("text", {PUBLISH}),
    RESPONSE_TOPIC: ("text", {PUBLISH}),
    CORRELATION_DATA: ("binary", {PUBLISH}),
    SUBSCRIPTION_ID: ("varint", {PUBLISH}),
    # [MQTT-3.14.2-2] never in a DISCONNECT of a server
    SESSION_EXPIRY: ("u32", {CONNACK}),
    ASSIGNED_CLIENT_ID: ("text", {CONNACK}),
    SERVER_KEEP_ALIVE: ("u16", {CONNACK}),
    AUTH_METHOD: ("text", {CONNACK, AUTH}),
    AUTH_DATA: ("binary", {CONNACK, AUTH}),
    REQUEST_PROBLEM_INFO: ("u8", set()),
    WILL_DELAY: ("u32", set()),
    REQUEST_RESPONSE_INFO: ("u8", set()),
    RESPONSE_INFO: ("text", {CONNACK}),
    SERVER_REFERENCE: ("text", {CONNACK, DISCONNECT}),
    REASON_STRING: ("text", _DIAGNOSTIC),
    RECEIVE_MAXIMUM: ("u16", {CONNACK}),
    TOPIC_ALIAS_MAXIMUM: ("u16", {CONNACK}),
    TOPIC_ALIAS: ("u16", {PUBLISH}),
    MAXIMUM_QOS: ("u8", {CONNACK}),
    RETAIN_AVAILABLE: ("u8", {CONNACK}),
    USER_PROPERTY: ("pair", _DIAGNOSTIC | {PUBLISH}),
    MAXIMUM_PACKET_SIZE: ("u32", {CONNACK}),
    WILDCARD_AVAILABLE: ("u8", {CONNACK}),
    SUBSCRIPTION_ID_AVAILABLE: ("u8", {CONNACK}),
    SHARED_AVAILABLE: ("u8", {CONNACK}),
}
REPEATABLE = {USER_PROPERTY, SUBSCRIPTION_ID}

# The reason codes that a server may use, by packet (section 2.4).
REASONS: dict[int, set[int]] = {
    CONNACK: {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91)}
    | {*range(0x93, 0xA3)},
    AUTH: {0x00, 0x18},
}

Properties = list[tuple[int, Any]]


# --- writing ---


def varint(value: int, width: int = 0) -> bytes:
    """A Variable Byte Integer, in at least `width` bytes (which may be overlong)."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        more = value > 0 or len(out) + 1 < width
        out.append(low | 0x80 if more else low)
        if not more:
            return bytes(out)


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def binary(value: str | bytes) -> bytes:
    """A two-byte length and the bytes; text is encoded, bytes go out as they are."""
    data = value.encode() if isinstance(value, str) else value
    return u16(len(data)) + data


def one_property(key: int, value: Any) -> bytes:
    """A property; a value given as `raw(...)` is not encoded."""
    kind = PROPERTIES[key][0]
    if kind == "pair":
        body = binary(value[0]) + binary(value[1])
    elif kind in ("text", "binary"):
        body = binary(value)
    elif kind == "varint":
        body = varint(value)
    else:
        body = int(value).to_bytes(int(kind[1:]) // 8, "big")
    return bytes([key]) + body


def properties(pairs: Properties | bytes | None, version: int = V5) -> bytes:
    """The property field of a packet: nothing before version 5. Bytes go out as they are."""
    if version < V5:
        return b""
    if isinstance(pairs, bytes):
        return pairs
    body = b"".join(one_property(key, value) for key, value in pairs or [])
    return varint(len(body)) + body


def packet(kind: int, flags: int, body: bytes = b"") -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


@dataclass
class Will:
    topic: str | bytes
    payload: str | bytes = b"gone"
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=list)


def connect(
    client_id: str | bytes = "",
    *,
    version: int = V5,
    clean: bool = True,
    keep_alive: int = 60,
    will: Will | None = None,
    username: str | bytes | None = None,
    password: str | bytes | None = None,
    properties: Properties | bytes | None = None,
    protocol: str | bytes | None = None,
    level: int | None = None,
    flags: int | None = None,
) -> bytes:
    """A CONNECT; `protocol`, `level` and `flags` replace what belongs there."""
    bits, payload = int(clean) << 1, binary(client_id)
    if will is not None:
        bits |= 0x04 | will.qos << 3 | int(will.retain) << 5
        payload += _properties(will.properties, version) + binary(will.topic) + binary(will.payload)
    if username is not None:
        bits |= 0x80
        payload += binary(username)
    if password is not None:
        bits |= 0x40
        payload += binary(password)
    name = protocol if protocol is not None else "MQIsdp" if version == V31 else "MQTT"
    head = binary(name) + bytes([version if level is None else level])
    head += bytes([bits if flags is None else flags]) + u16(keep_alive)
    return packet(CONNECT, 0, head + _properties(properties, version) + payload)


_properties = properties


def publish(
    topic: str | bytes,
    payload: str | bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    version: int = V5,
    properties: Properties | bytes | None = None,
) -> bytes:
    data = payload.encode() if isinstance(payload, str) else payload
    body = binary(topic) + (u16(packet_id) if qos else b"")
    flags = int(dup) << 3 | qos << 1 | int(retain)
    return packet(PUBLISH, flags, body + _properties(properties, version) + data)


def ack(kind: int, packet_id: int, reason: int | None = None) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, in the short form unless a reason code is given."""
    body = u16(packet_id) + (b"" if reason is None else bytes([reason]))
    return packet(kind, 2 if kind == PUBREL else 0, body)


def subscribe(
    *filters: tuple[str | bytes, int],
    packet_id: int = 1,
    version: int = V5,
    properties: Properties | bytes | None = None,
) -> bytes:
    """Each filter comes with its options byte, which before version 5 is the QoS."""
    payload = b"".join(binary(text) + bytes([options]) for text, options in filters)
    return packet(SUBSCRIBE, 2, u16(packet_id) + _properties(properties, version) + payload)


def unsubscribe(
    *filters: str | bytes,
    packet_id: int = 1,
    version: int = V5,
    properties: Properties | bytes | None = None,
) -> bytes:
    payload = b"".join(binary(text) for text in filters)
    return packet(UNSUBSCRIBE, 2, u16(packet_id) + _properties(properties, version) + payload)


def disconnect(reason: int | None = None, properties: Properties | bytes | None = None) -> bytes:
    """The short form; with a reason or properties that of version 5."""
    if reason is None and properties is None:
        return packet(DISCONNECT, 0)
    body = bytes([reason or 0])
    return packet(DISCONNECT, 0, body + (b"" if properties is None else _properties(properties)))


def auth(reason: int, properties: Properties | None = None) -> bytes:
    return packet(AUTH, 0, bytes([reason]) + _properties(properties))


PING = packet(PINGREQ, 0)

# Options of `Client.connect` for a session that outlives its connection, in every version.
DURABLE: dict[str, Any] = {"clean": False, "properties": [(SESSION_EXPIRY, 300)]}

# Subscription options of version 5.
NO_LOCAL = 0x04
RETAIN_AS_PUBLISHED = 0x08
RETAIN_IF_NEW = 0x10
RETAIN_NEVER = 0x20


# --- reading ---


class Reader:
    """What is left of a packet."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        assert len(self.data) >= count, f"the packet ends early: {self.data.hex(' ')}"
        head, self.data = self.data[:count], self.data[count:]
        return head

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                # [MQTT-1.5.5-1] in the minimum number of bytes
                assert byte or not shift, "an overlong Variable Byte Integer"
                return value
        raise AssertionError("a Variable Byte Integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        # [MQTT-1.5.4-1] [MQTT-1.5.4-2] strict UTF-8, no surrogates, no null character
        text = self.binary().decode()
        assert "\0" not in text
        return text

    def properties(self, kind: int) -> Properties:
        inner = Reader(self.take(self.varint()))
        found: Properties = []
        while inner.data:
            key = inner.varint()
            assert key in PROPERTIES, f"unknown property {key:#x}"
            how, packets = PROPERTIES[key]
            assert kind in packets, f"property {key:#x} in {NAMES[kind]} of a server"
            assert key in REPEATABLE or key not in dict(found), f"property {key:#x} twice"
            value: Any
            match how:
                case "text":
                    value = inner.text()
                case "binary":
                    value = inner.binary()
                case "pair":
                    value = (inner.text(), inner.text())
                case "varint":
                    value = inner.varint()
                case _:
                    value = inner.number(int(how[1:]) // 8)
            found.append((key, value))
        return found


@dataclass
class Packet:
    """A packet of a server, decoded; fields that its kind lacks keep their defaults."""

    kind: int
    flags: int
    body: bytes
    raw: bytes
    packet_id: int = 0
    reason: int = 0
    codes: list[int] = field(default_factory=list)
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    properties: Properties = field(default_factory=list)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    def get(self, key: int, default: Any = None) -> Any:
        """The value of a property that stands there at most once."""
        return dict(self.properties).get(key, default)

    def all(self, key: int) -> list[Any]:
        return [value for each, value in self.properties if each == key]

    def __repr__(self) -> str:
        return f"{NAMES[self.kind]}[{self.raw[:80].hex(' ')}]"


def decode(head: int, body: bytes, version: int, raw: bytes) -> Packet:
    """A packet that a server sent. Raises AssertionError if no server may send it."""
    found = Packet(head >> 4, head & 15, body, raw)
    kind, rest = found.kind, Reader(body)
    five = version == V5
    if kind != PUBLISH:
        # [MQTT-2.1.3-1] [MQTT-2.2.2-1] reserved flags have their listed values
        assert found.flags == (2 if kind == PUBREL else 0), f"reserved flags: {found}"
    match kind:
        case 2:
            _read_connack(found, rest, five)
        case 3:
            _read_publish(found, rest, five)
        case 4 | 5 | 6 | 7:
            found.packet_id = rest.number(2)
            _read_reason(found, rest, five)
        case 9 | 11:
            found.packet_id = rest.number(2)
            found.properties = rest.properties(kind) if five else []
            found.codes = list(rest.take(len(rest.data)))
            if kind == UNSUBACK and not five:
                assert not found.codes, "an UNSUBACK has no payload before version 5"
            allowed = REASONS[kind] if five else {0, 1, 2, 0x80}
            # [MQTT-3.9.3-2] [MQTT-3.11.3-2]
            assert set(found.codes) <= allowed, found
        case 13:
            pass
        case 14 | 15 if five:
            _read_reason(found, rest, five)
        case _:
            raise AssertionError(f"a server never sends {found} in version {version}")
    assert not rest.data, f"bytes left over: {found}"
    return found


def _read_connack(found: Packet, rest: Reader, five: bool) -> None:
    flags = rest.number(1)
    # [MQTT-3.2.2-1] bits 7 to 1 are reserved
    assert flags in (0, 1), found
    found.session_present = bool(flags)
    found.reason = rest.number(1)
    # [MQTT-3.2.2-8]
    assert found.reason in (REASONS[CONNACK] if five or found.reason >= 0x80 else range(6)), found
    # [MQTT-3.2.2-6], and [MQTT-3.2.2-4] of version 3.1.1
    assert not (found.reason and found.session_present), found
    if five or rest.data:  # a client that is not understood may be answered in version 5
        found.properties = rest.properties(CONNACK)


def _read_publish(found: Packet, rest: Reader, five: bool) -> None:
    # [MQTT-3.3.1-4] never both QoS bits
    assert found.qos < 3, found
    # [MQTT-3.3.1-2] DUP is 0 at QoS 0
    assert found.qos or not found.dup, found
    found.topic = rest.text()
    # [MQTT-3.3.2-2] no wildcards
    assert not set(found.topic) & set("+#"), found
    if found.qos:
        found.packet_id = rest.number(2)
        # [MQTT-2.2.1-4] [MQTT-2.3.1-1] never 0
        assert found.packet_id, found
    if five:
        found.properties = rest.properties(PUBLISH)
    assert found.topic or found.get(TOPIC_ALIAS), found
    assert found.get(TOPIC_ALIAS) != 0, found
    found.payload = rest.take(len(rest.data))


def _read_reason(found: Packet, rest: Reader, five: bool) -> None:
    if five and rest.data:
        found.reason = rest.number(1)
        # [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1]
        # [MQTT-3.15.2-1]
        assert found.reason in REASONS[found.kind], found
        if rest.data:
            found.properties = rest.properties(found.kind)

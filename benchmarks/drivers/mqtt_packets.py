"""MQTT 3.1.1 and 5 as the load generator speaks it: packets are built once and sent many times.

Independent of the broker's own codec on purpose: a mistake in that one must not hide itself. Only
what a load needs is here. Byte layouts: MQTT Version 3.1.1 and 5.0, OASIS, chapters 2 and 3.
"""

from typing import Final, NamedTuple

__all__ = [
    "CONNACK",
    "DISCONNECT",
    "PUBACK",
    "PUBACK_HEAD",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "Delivery",
    "Malformed",
    "connect_packet",
    "next_packet",
    "parse_publish",
    "properties",
    "publish_packet",
    "read_integer",
    "receive_maximum",
    "refusal",
    "subscribe_packet",
    "variable_integer",
]

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBACK: Final = 9
DISCONNECT: Final = b"\xe0\x00"
PUBACK_HEAD: Final = b"\x40\x02"  # a PUBACK without a reason: this, then the packet identifier

# Answers by kind: the name, where the reason is, where properties begin.
_ANSWERS: Final = {
    CONNACK: ("CONNACK", 1, 2),
    PUBACK: ("PUBACK", 2, 3),
    PUBREC: ("PUBREC", 2, 3),
    PUBREL: ("PUBREL", 2, 3),
    PUBCOMP: ("PUBCOMP", 2, 3),
    SUBACK: ("SUBACK", 2, 2),
    14: ("DISCONNECT", 0, 1),
}
_FAILURE: Final = 0x80  # reasons from here on are errors
_SESSION_EXPIRY: Final = b"\x11\xff\xff\xff\xff"  # never
_RECEIVE_MAXIMUM: Final = b"\x21"
_REASON_STRING: Final = 0x1F
_U16_MAX: Final = 65_535
# Properties of a CONNACK that are no text: by kind, bytes of the value.
_FIXED_PROPERTIES: Final = {
    **{0x11: 4, 0x27: 4, 0x13: 2, 0x21: 2, 0x22: 2},
    **{0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2A: 1},
}
_CONTENT_TYPE: Final = b"\x03\x00\x0atext/plain"
_USER_PROPERTY: Final = b"\x26\x00\x06source\x00\x05bench"


class Malformed(ValueError):
    """The broker sent what is no MQTT."""


class Delivery(NamedTuple):
    """A PUBLISH that came in; ``head`` is all of its body before the payload."""

    topic: bytes
    qos: int
    packet_id: int  # 0 for QoS 0
    packet_id_at: int  # its place in the body, 0 for QoS 0
    head: bytes
    payload: bytes


def variable_integer(value: int) -> bytes:
    """A Variable Byte Integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + variable_integer(len(body)) + body


def connect_packet(
    version: int,
    client: str,
    clean: bool = True,
    login: tuple[str, str] = ("", ""),
    receive_maximum: int = _U16_MAX,
) -> bytes:
    """CONNECT without keep alive; ``clean=False`` leaves a session that never expires.

    MQTT 5 has a clean start and a session that stays apart: there ``clean`` means both. ``login``
    is user and password; ``receive_maximum`` is for MQTT 5, too.
    """
    user, password = login
    flags = (0x02 if clean else 0) | (0x80 if user else 0) | (0x40 if password else 0)
    head = _text(b"MQTT") + bytes([version, flags]) + b"\x00\x00"
    if version == 5:
        wanted = _RECEIVE_MAXIMUM + receive_maximum.to_bytes(2, "big")
        wanted += b"" if clean else _SESSION_EXPIRY
        head += variable_integer(len(wanted)) + wanted
    words = [client, *filter(None, (user, password))]
    return _packet(0x10, head + b"".join(_text(each.encode()) for each in words))


def subscribe_packet(version: int, packet_id: int, filters: list[str], qos: int) -> bytes:
    """SUBSCRIBE to all of ``filters``."""
    head = packet_id.to_bytes(2, "big") + (b"\x00" if version == 5 else b"")
    option = bytes([qos])
    return _packet(0x82, head + b"".join(_text(each.encode()) + option for each in filters))


def properties(version: int) -> bytes:
    """What every PUBLISH carries besides topic and payload; nothing before MQTT 5."""
    if version < 5:
        return b""
    carried = _CONTENT_TYPE + _USER_PROPERTY
    return variable_integer(len(carried)) + carried


def publish_packet(version: int, qos: int, topic: str, packet_id: int, payload: bytes) -> bytes:
    """PUBLISH; the identifier is left out for QoS 0."""
    name = _text(topic.encode()) + (packet_id.to_bytes(2, "big") if qos else b"")
    return _packet(0x30 | qos << 1, name + properties(version) + payload)


def next_packet(buffer: memoryview, start: int) -> tuple[int, int, int] | None:
    """(first byte, begin of the body, end) of the packet at ``start``; None for more.

    Raises Malformed.
    """
    try:
        size, at = read_integer(buffer, start + 1)
    except IndexError:
        return None
    return (buffer[start], at, at + size) if at + size <= len(buffer) else None


def read_integer(body: bytes | memoryview, at: int) -> tuple[int, int]:
    """A Variable Byte Integer, and where it ends. Raises IndexError, Malformed."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed("an integer of more than four bytes")


def parse_publish(version: int, first: int, body: memoryview) -> Delivery:
    """Take a PUBLISH apart. Raises Malformed."""
    qos = first >> 1 & 3
    try:
        name_end = 2 + int.from_bytes(body[:2], "big")
        at = name_end + (2 if qos else 0)
        packet_id = int.from_bytes(body[name_end:at], "big")
        head_end = at
        if version == 5:
            size, at = read_integer(body, at)
            head_end = at + size
    except IndexError:
        raise Malformed("a PUBLISH that ends too early") from None
    if first >> 4 != PUBLISH or head_end > len(body):
        raise Malformed(f"not a PUBLISH: {bytes(body[:32])!r}")
    place = name_end if qos else 0
    head, payload = bytes(body[:head_end]), bytes(body[head_end:])
    return Delivery(bytes(body[2:name_end]), qos, packet_id, place, head, payload)


def receive_maximum(connack: memoryview) -> int:
    """What a CONNACK of MQTT 5 grants; 65,535 when it does not say. Raises Malformed."""
    found = _find_property(connack, 2, _RECEIVE_MAXIMUM[0])
    return int.from_bytes(found, "big") if found is not None else _U16_MAX


def _find_property(body: memoryview, at: int, wanted: int) -> memoryview | None:
    """The value of a property; they begin at ``at`` with their length. Raises Malformed."""
    try:
        size, at = read_integer(body, at)
        end = at + size
        while at < end:
            kind = body[at]
            size = _property_bytes(kind, body[at + 1 :])
            if kind == wanted:
                return body[at + 1 : at + 1 + size]
            at += 1 + size
    except IndexError:
        raise Malformed("properties that end too early") from None
    return None


def _property_bytes(kind: int, value: memoryview) -> int:
    """How long a property of a CONNACK is."""
    if kind in _FIXED_PROPERTIES:
        return _FIXED_PROPERTIES[kind]
    size = 2 + int.from_bytes(value[:2], "big")
    if kind == _USER_PROPERTY[0]:
        size += 2 + int.from_bytes(value[size : size + 2], "big")
    return size


def refusal(version: int, first: int, body: memoryview) -> str:
    """Why an answer means no, "" when it means yes. Raises Malformed."""
    kind = first >> 4
    if kind not in _ANSWERS:
        return f"a packet that nobody expected: {first:#04x}"
    name, reason_at, properties_at = _ANSWERS[kind]
    if kind == SUBACK:
        start = properties_at
        if version == 5:
            size, start = read_integer(body, properties_at)
            start += size
        refused = [reason for reason in body[start:] if reason >= _FAILURE]
        why = f"{name} with {refused[0]} for {len(refused)} filters" if refused else ""
    else:
        reason = body[reason_at] if len(body) > reason_at else 0
        is_refusal = kind == DISCONNECT[0] >> 4 or reason >= (1 if kind == CONNACK else _FAILURE)
        why = f"{name} with {reason}" if is_refusal else ""
    if why and version == 5 and len(body) > properties_at:
        words = _find_property(body, properties_at, _REASON_STRING)
        if words is not None:
            why += f": {bytes(words[2:]).decode('utf-8', 'replace')}"
    return why

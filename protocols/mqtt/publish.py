"""PUBLISH, both ways, and the properties that travel with a message. The hot half of the codec.

Rules:

1. The properties of a message are checked once and forwarded as the bytes that came, in their
   order; only what belongs to this hop (alias, subscription identifiers) or changes on the way
   (expiry) is cut out. [MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-20]
2. A PUBLISH is written in two halves, before and after the packet identifier, so that a message
   that goes to many is written once.
3. Whether a topic may have that name, and what an alias stands for, is not decided here.
"""

from collections.abc import Iterable, Sequence
from struct import Struct as Layout
from typing import Final

import msgspec

from .kinds import V5, V311
from .primitives import (
    Buffer,
    binary,
    encode_length,
    read_binary,
    read_length,
    read_text,
    read_u16,
    read_u32,
    text,
)
from .properties import USER_PROPERTIES_MAX, USER_PROPERTY, encode_user, read_block
from .reasons import Malformed, Reason

__all__ = [
    "CONTENT_TYPE",
    "CORRELATION_DATA",
    "MESSAGE_EXPIRY",
    "PAYLOAD_FORMAT",
    "RESPONSE_TOPIC",
    "SUBSCRIPTION_IDENTIFIER",
    "TOPIC_ALIAS",
    "USER_PROPERTY",
    "WILL_DELAY",
    "Publish",
    "PublishProperties",
    "decode_publish",
    "encode_hop_properties",
    "encode_message_properties",
    "encode_publish",
    "is_topic",
    "publish_head",
    "scan_publish_properties",
    "scan_will_properties",
]

PAYLOAD_FORMAT: Final = 0x01
MESSAGE_EXPIRY: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_IDENTIFIER: Final = 0x0B
WILL_DELAY: Final = 0x18
TOPIC_ALIAS: Final = 0x23


class PublishProperties(msgspec.Struct, gc=False):
    """What MQTT 5 says of a message. ``forward`` is what of it goes on to others, as it came."""

    forward: bytes = b""
    payload_format: int | None = None
    expiry_seconds: int | None = None
    topic_alias: int | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    content_type: str | None = None
    user: Sequence[tuple[str, str]] = ()
    subscription_ids: Sequence[int] = ()


class Publish(msgspec.Struct, gc=False):
    """A message. ``packet_id`` is 0 with QoS 0; ``properties`` is None when there are none."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: PublishProperties | None = None


# --- reading ---


def decode_publish(
    version: int,
    flags: int,
    body: bytes,
    user_properties_max: int = USER_PROPERTIES_MAX,
    subscription_ids_max: int = 0,
) -> Publish:
    """A PUBLISH from what follows its fixed header. Raises Malformed.

    An empty topic comes with a topic alias. What a client sends has no subscription identifiers.
    """
    qos = flags >> 1 & 3
    # [MQTT-3.3.1-4]
    if qos == 3:
        raise Malformed("a message with both bits of QoS set")
    # [MQTT-3.3.1-2]
    if flags & 8 and not qos and version >= V311:
        raise Malformed("a message with QoS 0 that was sent before")
    end = len(body)
    topic, at = read_text(body, 0, end)
    packet_id = 0
    if qos:
        if at + 2 > end:
            raise Malformed("a message without its packet identifier")
        packet_id = body[at] << 8 | body[at + 1]
        # [MQTT-2.2.1-3]
        if not packet_id:
            raise Malformed("a message with packet identifier 0", Reason.PROTOCOL_ERROR)
        at += 2
    properties = None
    if version == V5:
        if at < end and not body[at]:
            at += 1
        else:
            at, stop = read_block(body, at, end)
            properties = scan_publish_properties(
                body, at, stop, user_properties_max, subscription_ids_max
            )
            at = stop
    # [MQTT-4.7.3-1]
    if not topic and (properties is None or properties.topic_alias is None):
        raise Malformed("a message without a topic", Reason.PROTOCOL_ERROR)
    retain = flags & 1 == 1
    return Publish(topic, body[at:], qos, retain, flags & 8 == 8, packet_id, properties)


def scan_publish_properties(
    buffer: Buffer,
    at: int,
    end: int,
    user_properties_max: int = USER_PROPERTIES_MAX,
    subscription_ids_max: int = 0,
) -> PublishProperties:
    """Check and take apart the content of a PUBLISH's property block. Raises Malformed."""
    return _scan(buffer, at, end, user_properties_max, subscription_ids_max, False)[0]


def scan_will_properties(
    buffer: Buffer, at: int, end: int, user_properties_max: int = USER_PROPERTIES_MAX
) -> tuple[PublishProperties, int]:
    """The same for a will: its properties, and its delay in seconds. Raises Malformed."""
    properties, delay_seconds = _scan(buffer, at, end, user_properties_max, 0, True)
    return properties, delay_seconds or 0


def _scan(
    buffer: Buffer, at: int, end: int, user_max: int, ids_max: int, will: bool
) -> tuple[PublishProperties, int | None]:
    found = PublishProperties()
    user: list[tuple[str, str]] = []
    ids: list[int] = []
    delay = None
    kept = b""  # what goes on, up to `start`
    start = at
    while at < end:
        mark = at
        identifier = buffer[at]
        at += 1
        if identifier == USER_PROPERTY:
            if len(user) == user_max:
                problem = f"more than {user_max} user properties"
                raise Malformed(problem, Reason.QUOTA_EXCEEDED)
            name, at = read_text(buffer, at, end)
            value, at = read_text(buffer, at, end)
            user.append((name, value))
            continue
        if identifier in _FORWARDED:
            at = _read_forwarded(found, identifier, buffer, at, end)
            continue
        if identifier == MESSAGE_EXPIRY:
            _once(found.expiry_seconds, "the message expiry")
            found.expiry_seconds, at = read_u32(buffer, at, end)
        elif will and identifier == WILL_DELAY:
            _once(delay, "the will delay")
            delay, at = read_u32(buffer, at, end)
        elif identifier == TOPIC_ALIAS and not will:
            _once(found.topic_alias, "the topic alias")
            found.topic_alias, at = read_u16(buffer, at, end)
            # [MQTT-3.3.2-8]
            if not found.topic_alias:
                raise Malformed("the topic alias is 0", Reason.TOPIC_ALIAS_INVALID)
        elif identifier == SUBSCRIPTION_IDENTIFIER and not will:
            number, at = _read_subscription_id(buffer, at, end)
            # [MQTT-3.3.4-6]
            if len(ids) == ids_max:
                problem = f"more than {ids_max} subscription identifiers"
                raise Malformed(problem, Reason.PROTOCOL_ERROR)
            ids.append(number)
        else:
            raise Malformed(f"property 0x{identifier:02X} has no place in a message")
        kept += buffer[start:mark]
        start = at
    found.forward = kept + bytes(buffer[start:end])
    found.user = user
    found.subscription_ids = ids
    return found, delay


def _read_forwarded(
    found: PublishProperties, identifier: int, buffer: Buffer, at: int, end: int
) -> int:
    """Read one of ``_FORWARDED`` into ``found``; where it ends."""
    if identifier == CONTENT_TYPE:
        _once(found.content_type, "the content type")
        found.content_type, at = read_text(buffer, at, end)
    elif identifier == CORRELATION_DATA:
        _once(found.correlation_data, "the correlation data")
        found.correlation_data, at = read_binary(buffer, at, end)
    elif identifier == RESPONSE_TOPIC:
        _once(found.response_topic, "the response topic")
        found.response_topic, at = read_text(buffer, at, end)
        # [MQTT-3.3.2-14], [MQTT-4.7.3-1]
        if not is_topic(found.response_topic):
            raise Malformed("a response topic that is no topic", Reason.PROTOCOL_ERROR)
    else:
        _once(found.payload_format, "the payload format")
        if at >= end:
            raise Malformed("a property ends too early")
        found.payload_format = buffer[at]
        if found.payload_format > 1:
            raise Malformed("the payload format is neither 0 nor 1", Reason.PROTOCOL_ERROR)
        at += 1
    return at


_FORWARDED = {PAYLOAD_FORMAT, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA}


def _once(value: object, what: str) -> None:
    if value is not None:
        raise Malformed(f"{what} is there twice", Reason.PROTOCOL_ERROR)


def _read_subscription_id(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    found = read_length(buffer, at, end)
    if found is None:
        raise Malformed("a property ends too early")
    # [MQTT-3.8.2-1] is what the numbers are; 0 is none of them
    if not found[0]:
        raise Malformed("the subscription identifier is 0", Reason.PROTOCOL_ERROR)
    return found


def is_topic(name: str) -> bool:
    """Whether a message could be published there: not empty, no wildcards."""
    return bool(name) and "+" not in name and "#" not in name


# --- writing ---


def publish_head(
    version: int,
    topic: bytes,
    qos: int,
    retain: bool,
    dup: bool,
    properties: bytes,
    payload_length: int,
) -> tuple[bytes, bytes]:
    """What stands before the packet identifier, and what between it and the payload.

    With QoS 0 there is no packet identifier and everything is in the first part. ``topic`` has at
    most TEXT_BYTES_MAX bytes; ``properties`` is the content of the block, not looked at before
    MQTT 5. ValueError for a packet that is longer than LENGTH_MAX.
    """
    size = 2 + len(topic) + payload_length
    if version == V5:
        after = encode_length(len(properties)) + properties if properties else b"\0"
        size += len(after)
    else:
        after = b""
    first = 0x30 | dup << 3 | qos << 1 | retain
    if qos:
        size += 2
    if size < 128:
        head = _HEAD_1(first, size, len(topic)) + topic
    elif size < 16_384:
        head = _HEAD_2(first, size & 127 | 128, size >> 7, len(topic)) + topic
    else:
        head = b"%c%b%b%b" % (first, encode_length(size), len(topic).to_bytes(2, "big"), topic)
    return (head, after) if qos else (head + after, b"")


_HEAD_1 = Layout(">BBH").pack
_HEAD_2 = Layout(">BBBH").pack


def encode_publish(
    version: int,
    topic: str,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int = 0,
    properties: bytes = b"",
) -> bytes:
    """A whole PUBLISH. ValueError for text that cannot be written."""
    name = text(topic)[2:]
    before, after = publish_head(version, name, qos, retain, dup, properties, len(payload))
    return before + (packet_id.to_bytes(2, "big") if qos else b"") + after + payload


def encode_message_properties(
    *,
    payload_format: int | None = None,
    content_type: str | None = None,
    response_topic: str | None = None,
    correlation_data: bytes | None = None,
    user: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The properties that go on with a message. ValueError for text that cannot be written."""
    out = b""
    if payload_format is not None:
        out += bytes((PAYLOAD_FORMAT, payload_format))
    if content_type is not None:
        out += b"\x03" + text(content_type)
    if response_topic is not None:
        out += b"\x08" + text(response_topic)
    if correlation_data is not None:
        out += b"\x09" + binary(correlation_data)
    return out + encode_user(user)


def encode_hop_properties(
    *,
    expiry_seconds: int | None = None,
    topic_alias: int | None = None,
    subscription_ids: Iterable[int] = (),
) -> bytes:
    """The properties that are new on every hop; join them with ``forward``, in either order."""
    out = b""
    if expiry_seconds is not None:
        out += b"\x02" + expiry_seconds.to_bytes(4, "big")
    if topic_alias is not None:
        out += b"\x23" + topic_alias.to_bytes(2, "big")
    for number in subscription_ids:
        out += b"\x0b" + encode_length(number)
    return out

"""The packets of MQTT 3.1, 3.1.1 and 5.0: bytes <-> typed packets, both ways.

A packet is one byte (type and flags), the length of the rest, and the rest::

     0          1 .. 4              5 at most
     +----+----+-------------------+---------------------- - - -
     |type|flag| remaining length  | body
     +----+----+-------------------+---------------------- - - -

Rules:

1. Pure functions over bytes: no socket, no clock, no session. Encode and decode are neighbours.
2. A decoder gets the version, the flags (the low half of the first byte) and the whole body, and
   returns a Struct or raises ``Malformed`` with the reason MQTT 5 has for it. Nothing else comes
   out of it. Nothing is made from a length that was only declared.
3. Encoders take properties as bytes: the content of the block, from ``encode_properties``. Before
   MQTT 5 they are left out. A reason is always one of MQTT 5.
4. Whether a topic or a filter may be used is not decided here.

This module is what a session imports; the parts that are large are next to it: ``primitives``,
``properties``, ``publish``, ``connect``, ``reasons``.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from .connect import (
    Connack,
    Connect,
    Will,
    decode_connack,
    decode_connect,
    encode_connack,
    encode_connect,
    peek_level,
)
from .primitives import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    LENGTH_MAX,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V31,
    V311,
    encode_length,
    read_length,
    read_text,
    read_u16,
    text,
)
from .properties import (
    NO_PROPERTIES,
    USER_PROPERTIES_MAX,
    Properties,
    block,
    encode_properties,
    read_properties,
)
from .publish import (
    Publish,
    PublishProperties,
    decode_publish,
    encode_hop_properties,
    encode_message_properties,
    encode_publish,
    publish_head,
    scan_publish_properties,
)
from .reasons import CONNACK_V3, Malformed, Reason

__all__ = [
    "AUTH",
    "CLIENT_DECODERS",
    "CONNACK",
    "CONNACK_V3",
    "CONNECT",
    "DECODERS",
    "DISCONNECT",
    "LENGTH_MAX",
    "NO_PROPERTIES",
    "PINGREQ",
    "PINGREQ_PACKET",
    "PINGRESP",
    "PINGRESP_PACKET",
    "PUBACK",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "SUBSCRIBE",
    "UNSUBACK",
    "UNSUBSCRIBE",
    "USER_PROPERTIES_MAX",
    "V5",
    "V31",
    "V311",
    "Ack",
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "Malformed",
    "Properties",
    "Publish",
    "PublishProperties",
    "Reason",
    "Request",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "decode",
    "decode_auth",
    "decode_connack",
    "decode_connect",
    "decode_disconnect",
    "decode_ping",
    "decode_puback",
    "decode_pubcomp",
    "decode_publish",
    "decode_pubrec",
    "decode_pubrel",
    "decode_suback",
    "decode_subscribe",
    "decode_unsuback",
    "decode_unsubscribe",
    "encode_ack",
    "encode_auth",
    "encode_connack",
    "encode_connect",
    "encode_disconnect",
    "encode_hop_properties",
    "encode_length",
    "encode_message_properties",
    "encode_properties",
    "encode_publish",
    "encode_suback",
    "encode_subscribe",
    "encode_unsuback",
    "encode_unsubscribe",
    "peek_level",
    "publish_head",
    "read_length",
    "scan_publish_properties",
]

PINGREQ_PACKET: Final = b"\xc0\0"
PINGRESP_PACKET: Final = b"\xd0\0"


class Ack(msgspec.Struct, gc=False):
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    packet_id: int
    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Request(NamedTuple):
    """One subscription that is asked for. Before MQTT 5 only its QoS can be chosen."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0  # 0 send retained messages, 1 if the subscription is new, 2 do not


class Subscribe(msgspec.Struct, gc=False):
    """SUBSCRIBE: one or more requests."""

    packet_id: int
    requests: list[Request]
    properties: Properties = NO_PROPERTIES


class Unsubscribe(msgspec.Struct, gc=False):
    """UNSUBSCRIBE: one or more filters."""

    packet_id: int
    filters: list[str]
    properties: Properties = NO_PROPERTIES


class Suback(msgspec.Struct, gc=False):
    """A reason for each request; in 3.1 and 3.1.1 the granted QoS or 0x80."""

    packet_id: int
    reasons: Sequence[int]
    properties: Properties = NO_PROPERTIES


class Unsuback(msgspec.Struct, gc=False):
    """A reason for each filter; none in 3.1 and 3.1.1."""

    packet_id: int
    reasons: Sequence[int]
    properties: Properties = NO_PROPERTIES


class Disconnect(msgspec.Struct, gc=False):
    """Why the sender hangs up; before MQTT 5 always 0."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Auth(msgspec.Struct, gc=False):
    """A step of an authentication exchange, MQTT 5 only."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


Decoder = Callable[[int, int, bytes, int], Any]


def _check_flags(version: int, flags: int, expected: int) -> None:
    # [MQTT-2.1.3-1]. In 3.1 these packets have QoS 1 and may say that they are sent again.
    if version == V31 and expected:
        flags &= ~8
    if flags != expected:
        raise Malformed("reserved flags are set")


def _check_end(at: int, body: bytes) -> None:
    if at != len(body):
        raise Malformed("it goes on after its last field")


def _read_packet_id(body: bytes) -> tuple[int, int]:
    packet_id, at = read_u16(body, 0, len(body))
    # [MQTT-2.2.1-3]
    if not packet_id:
        raise Malformed("the packet identifier is 0", Reason.PROTOCOL_ERROR)
    return packet_id, at


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_length(len(body)) + body


# --- PUBACK, PUBREC, PUBREL, PUBCOMP ---


def decode_puback(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Ack:
    """A PUBACK: a message with QoS 1 has arrived."""
    return _decode_ack(PUBACK, version, flags, body, user_properties_max)


def decode_pubrec(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Ack:
    """A PUBREC: a message with QoS 2 has arrived."""
    return _decode_ack(PUBREC, version, flags, body, user_properties_max)


def decode_pubrel(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Ack:
    """A PUBREL: its sender has forgotten the message with QoS 2."""
    return _decode_ack(PUBREL, version, flags, body, user_properties_max)


def decode_pubcomp(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Ack:
    """A PUBCOMP: its sender has forgotten the packet identifier."""
    return _decode_ack(PUBCOMP, version, flags, body, user_properties_max)


def _decode_ack(kind: int, version: int, flags: int, body: bytes, user_properties_max: int) -> Ack:
    # [MQTT-3.6.1-1]
    _check_flags(version, flags, 2 if kind == PUBREL else 0)
    packet_id, at = _read_packet_id(body)
    reason, properties, end = 0, NO_PROPERTIES, len(body)
    if version == V5 and at < end:
        reason = body[at]
        at += 1
        # [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
        _check_reason(kind, reason)
        if at < end:
            properties, at = read_properties(kind, body, at, end, user_properties_max)
    _check_end(at, body)
    return Ack(packet_id, reason, properties)


def encode_ack(
    kind: int, version: int, packet_id: int, reason: int = 0, properties: bytes = b""
) -> bytes:
    """A packet of type ``kind``, one of the four. Before MQTT 5 there is no reason to be told."""
    first = _ACK_FIRST[kind]
    if version != V5 or not (reason or properties):
        return bytes((first, 2, packet_id >> 8, packet_id & 255))
    body = bytes((packet_id >> 8, packet_id & 255, reason))
    return _packet(first, body + block(V5, properties) if properties else body)


_ACK_FIRST: Final = {PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70}


# --- SUBSCRIBE, SUBACK ---


def decode_subscribe(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Subscribe:
    """A SUBSCRIBE. Whether the filters make sense is answered one by one, in the SUBACK."""
    # [MQTT-3.8.1-1]
    _check_flags(version, flags, 2)
    packet_id, at = _read_packet_id(body)
    properties, end = NO_PROPERTIES, len(body)
    if version == V5:
        properties, at = read_properties(SUBSCRIBE, body, at, end, user_properties_max)
    requests: list[Request] = []
    while at < end:
        filter, at = read_text(body, at, end)
        if at == end:
            raise Malformed("a filter without its options")
        requests.append(_read_options(version, filter, body[at]))
        at += 1
    # [MQTT-3.8.3-2]
    if not requests:
        raise Malformed("a SUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Subscribe(packet_id, requests, properties)


def _read_options(version: int, filter: str, options: int) -> Request:
    qos = options & 3
    if qos == 3:
        raise Malformed("a subscription with QoS 3", Reason.PROTOCOL_ERROR)
    if version != V5:
        # [MQTT-3.8.3-4] of 3.1.1; 3.1 says that the other bits are not used
        if options != qos and version != V31:
            raise Malformed("reserved bits of a subscription are set")
        return Request(filter, qos)
    # [MQTT-3.8.3-5]
    if options & 0xC0:
        raise Malformed("reserved bits of a subscription are set")
    if options & 0x30 == 0x30:
        raise Malformed("a subscription with retain handling 3", Reason.PROTOCOL_ERROR)
    return Request(filter, qos, options & 4 == 4, options & 8 == 8, options >> 4)


def encode_subscribe(
    version: int, packet_id: int, requests: Iterable[Request], properties: bytes = b""
) -> bytes:
    """A SUBSCRIBE. Before MQTT 5 the options other than QoS are left out."""
    parts = [packet_id.to_bytes(2, "big"), block(version, properties)]
    for request in requests:
        options = request.qos
        if version == V5:
            options |= request.no_local << 2 | request.retain_as_published << 3
            options |= request.retain_handling << 4
        parts += (text(request.filter), bytes((options,)))
    return _packet(0x82, b"".join(parts))


def decode_suback(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Suback:
    """A SUBACK."""
    _check_flags(version, flags, 0)
    packet_id, at = _read_packet_id(body)
    properties = NO_PROPERTIES
    if version == V5:
        properties, at = read_properties(SUBACK, body, at, len(body), user_properties_max)
    reasons = body[at:]
    if not reasons:
        raise Malformed("a SUBACK without a reason", Reason.PROTOCOL_ERROR)
    for reason in reasons:
        # [MQTT-3.9.3-2]
        if version == V5:
            _check_reason(SUBACK, reason)
        elif reason > 2 and reason != 0x80:
            raise Malformed(f"a subscription cannot be answered with {reason}")
    return Suback(packet_id, tuple(reasons), properties)


def encode_suback(
    version: int, packet_id: int, reasons: Iterable[int], properties: bytes = b""
) -> bytes:
    """A SUBACK. 3.1.1 knows one failure, 0x80; 3.1 none, and gets the same.

    A client of 3.1 that ignores it is not harmed; to grant what was refused would be a lie.
    """
    if version != V5:
        reasons = [min(reason, 0x80) for reason in reasons]
    return _packet(0x90, packet_id.to_bytes(2, "big") + block(version, properties) + bytes(reasons))


# --- UNSUBSCRIBE, UNSUBACK ---


def decode_unsubscribe(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Unsubscribe:
    """An UNSUBSCRIBE."""
    # [MQTT-3.10.1-1]
    _check_flags(version, flags, 2)
    packet_id, at = _read_packet_id(body)
    properties, end = NO_PROPERTIES, len(body)
    if version == V5:
        properties, at = read_properties(UNSUBSCRIBE, body, at, end, user_properties_max)
    filters: list[str] = []
    while at < end:
        filter, at = read_text(body, at, end)
        filters.append(filter)
    # [MQTT-3.10.3-2]
    if not filters:
        raise Malformed("an UNSUBSCRIBE without a filter", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, filters, properties)


def encode_unsubscribe(
    version: int, packet_id: int, filters: Iterable[str], properties: bytes = b""
) -> bytes:
    """An UNSUBSCRIBE."""
    parts = [packet_id.to_bytes(2, "big"), block(version, properties), *map(text, filters)]
    return _packet(0xA2, b"".join(parts))


def decode_unsuback(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Unsuback:
    """An UNSUBACK."""
    _check_flags(version, flags, 0)
    packet_id, at = _read_packet_id(body)
    if version != V5:
        _check_end(at, body)
        return Unsuback(packet_id, ())
    properties, at = read_properties(UNSUBACK, body, at, len(body), user_properties_max)
    reasons = body[at:]
    if not reasons:
        raise Malformed("an UNSUBACK without a reason", Reason.PROTOCOL_ERROR)
    for reason in reasons:
        # [MQTT-3.11.3-2]
        _check_reason(UNSUBACK, reason)
    return Unsuback(packet_id, tuple(reasons), properties)


def encode_unsuback(
    version: int, packet_id: int, reasons: Iterable[int] = (), properties: bytes = b""
) -> bytes:
    """An UNSUBACK. Before MQTT 5 it says nothing but that it came."""
    if version != V5:
        return bytes((0xB0, 2, packet_id >> 8, packet_id & 255))
    return _packet(0xB0, packet_id.to_bytes(2, "big") + block(V5, properties) + bytes(reasons))


# --- PINGREQ, PINGRESP, DISCONNECT, AUTH ---


def decode_ping(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> None:
    """A PINGREQ or a PINGRESP: there is nothing in it."""
    _check_flags(version, flags, 0)
    _check_end(0, body)


def decode_disconnect(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Disconnect:
    """A DISCONNECT, of either side."""
    # [MQTT-3.14.1-1]
    _check_flags(version, flags, 0)
    if version != V5:
        _check_end(0, body)
    if not body:
        return Disconnect()
    reason, properties, at, end = body[0], NO_PROPERTIES, 1, len(body)
    # [MQTT-3.14.2-1]
    _check_reason(DISCONNECT, reason)
    if at < end:
        properties, at = read_properties(DISCONNECT, body, at, end, user_properties_max)
    _check_end(at, body)
    return Disconnect(reason, properties)


def encode_disconnect(version: int, reason: int = 0, properties: bytes = b"") -> bytes:
    """A DISCONNECT. Before MQTT 5 only a client sends one, and it says nothing."""
    if version != V5 or not (reason or properties):
        return b"\xe0\0"
    if not properties:
        return bytes((0xE0, 1, reason))
    return _packet(0xE0, bytes((reason,)) + block(V5, properties))


def decode_auth(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Auth:
    """An AUTH, of either side; a malformed packet before MQTT 5."""
    # [MQTT-3.15.1-1]
    _check_flags(version, flags, 0)
    if version != V5:
        raise Malformed("there is no packet of type 15")
    if not body:
        return Auth()
    # [MQTT-3.15.2-1]
    _check_reason(AUTH, body[0])
    properties, at = read_properties(AUTH, body, 1, len(body), user_properties_max)
    _check_end(at, body)
    return Auth(body[0], properties)


def encode_auth(reason: int = 0, properties: bytes = b"") -> bytes:
    """An AUTH."""
    if not (reason or properties):
        return b"\xf0\0"
    return _packet(0xF0, bytes((reason,)) + block(V5, properties))


# --- the tables ---


def _check_reason(kind: int, reason: int) -> None:
    if reason not in _REASONS[kind]:
        problem = f"reason 0x{reason:02X} has no place in this packet"
        raise Malformed(problem, Reason.PROTOCOL_ERROR)


_TAKEN = frozenset([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
_RELEASED = frozenset([0x00, 0x92])
# What each packet may say, from either side: MQTT 5.0 section 2.4.
_REASONS: Final = {
    PUBACK: _TAKEN,
    PUBREC: _TAKEN,
    PUBREL: _RELEASED,
    PUBCOMP: _RELEASED,
    SUBACK: frozenset([0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]),
    UNSUBACK: frozenset([0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    DISCONNECT: frozenset([0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89])
    | frozenset([*range(0x8B, 0x91), *range(0x93, 0xA3)]),
    AUTH: frozenset([0x00, 0x18, 0x19]),
}


def _decode_delivery(version: int, flags: int, body: bytes, user_properties_max: int) -> Publish:
    return decode_publish(version, flags, body, user_properties_max, _SUBSCRIPTION_IDS_MAX)


_SUBSCRIPTION_IDS_MAX = 1_024  # in one message, on the client's side

# What may come from a client after its CONNECT, and from a server.
DECODERS: Final[dict[int, Decoder]] = {
    PUBLISH: decode_publish,
    PUBACK: decode_puback,
    PUBREC: decode_pubrec,
    PUBREL: decode_pubrel,
    PUBCOMP: decode_pubcomp,
    SUBSCRIBE: decode_subscribe,
    UNSUBSCRIBE: decode_unsubscribe,
    PINGREQ: decode_ping,
    DISCONNECT: decode_disconnect,
    AUTH: decode_auth,
}
CLIENT_DECODERS: Final[dict[int, Decoder]] = {
    CONNACK: decode_connack,
    PUBLISH: _decode_delivery,
    PUBACK: decode_puback,
    PUBREC: decode_pubrec,
    PUBREL: decode_pubrel,
    PUBCOMP: decode_pubcomp,
    SUBACK: decode_suback,
    UNSUBACK: decode_unsuback,
    PINGRESP: decode_ping,
    DISCONNECT: decode_disconnect,
    AUTH: decode_auth,
}


def decode(
    decoders: dict[int, Decoder],
    version: int,
    first: int,
    body: bytes,
    user_properties_max: int = USER_PROPERTIES_MAX,
) -> Any:
    """The packet that begins with the byte ``first``, by one of the tables. Raises Malformed."""
    decoder = decoders.get(first >> 4)
    if decoder is None:
        problem = f"a packet of type {first >> 4} is not expected here"
        # Type 0 does not exist; the others exist, but not in this direction or not now.
        reason = Reason.PROTOCOL_ERROR if first >> 4 else Reason.MALFORMED_PACKET
        raise Malformed(problem, reason)
    return decoder(version, first & 15, body, user_properties_max)

"""The packets of MQTT 3.1, 3.1.1 and 5.0: bytes <-> typed packets, both ways.

A packet is one byte (type and flags), the length of the rest, and the rest::

     0         1 to 4 bytes
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
``properties``, ``publish``, ``connect``, ``subscribe``, ``reasons``, ``kinds``.
"""

from collections.abc import Callable
from typing import Any, Final

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
from .kinds import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
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
)
from .primitives import (
    LENGTH_MAX,
    check_end,
    check_flags,
    encode_length,
    encode_packet,
    read_length,
    read_packet_id,
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
from .reasons import CONNACK_V3, Malformed, Reason, check_reason
from .subscribe import (
    Request,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    decode_suback,
    decode_subscribe,
    decode_unsuback,
    decode_unsubscribe,
    encode_suback,
    encode_subscribe,
    encode_unsuback,
    encode_unsubscribe,
)

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


class Disconnect(msgspec.Struct, gc=False):
    """Why the sender hangs up; before MQTT 5 always 0."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


class Auth(msgspec.Struct, gc=False):
    """A step of an authentication exchange, MQTT 5 only."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


Decoder = Callable[[int, int, bytes, int], Any]


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
    check_flags(version, flags, 2 if kind == PUBREL else 0)
    packet_id, at = read_packet_id(body, 0)
    reason, properties, end = 0, NO_PROPERTIES, len(body)
    if version == V5 and at < end:
        reason = body[at]
        at += 1
        # [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
        check_reason(kind, reason)
        if at < end:
            properties, at = read_properties(kind, body, at, end, user_properties_max)
    check_end(at, body)
    return Ack(packet_id, reason, properties)


def encode_ack(
    kind: int, version: int, packet_id: int, reason: int = 0, properties: bytes = b""
) -> bytes:
    """A packet of type ``kind``, one of the four. Before MQTT 5 there is no reason to be told."""
    first = _ACK_FIRST[kind]
    if version != V5 or not (reason or properties):
        return bytes((first, 2, packet_id >> 8, packet_id & 255))
    body = bytes((packet_id >> 8, packet_id & 255, reason))
    return encode_packet(first, body + block(V5, properties) if properties else body)


_ACK_FIRST: Final = {PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70}


# --- PINGREQ, PINGRESP, DISCONNECT, AUTH ---


def decode_ping(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> None:
    """A PINGREQ or a PINGRESP: there is nothing in it."""
    check_flags(version, flags)
    check_end(0, body)


def decode_disconnect(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Disconnect:
    """A DISCONNECT, of either side."""
    # [MQTT-3.14.1-1]
    check_flags(version, flags)
    if version != V5:
        check_end(0, body)
    if not body:
        return Disconnect()
    reason, properties, at, end = body[0], NO_PROPERTIES, 1, len(body)
    # [MQTT-3.14.2-1]
    check_reason(DISCONNECT, reason)
    if at < end:
        properties, at = read_properties(DISCONNECT, body, at, end, user_properties_max)
    check_end(at, body)
    return Disconnect(reason, properties)


def encode_disconnect(version: int, reason: int = 0, properties: bytes = b"") -> bytes:
    """A DISCONNECT. Before MQTT 5 only a client sends one, and it says nothing."""
    if version != V5 or not (reason or properties):
        return b"\xe0\0"
    if not properties:
        return bytes((0xE0, 1, reason))
    return encode_packet(0xE0, bytes((reason,)) + block(V5, properties))


def decode_auth(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Auth:
    """An AUTH, of either side; a malformed packet before MQTT 5."""
    # [MQTT-3.15.1-1]
    check_flags(version, flags)
    if version != V5:
        raise Malformed("there is no packet of type 15")
    if not body:
        return Auth()
    # [MQTT-3.15.2-1]
    check_reason(AUTH, body[0])
    properties, at = read_properties(AUTH, body, 1, len(body), user_properties_max)
    check_end(at, body)
    return Auth(body[0], properties)


def encode_auth(reason: int = 0, properties: bytes = b"") -> bytes:
    """An AUTH."""
    if not (reason or properties):
        return b"\xf0\0"
    return encode_packet(0xF0, bytes((reason,)) + block(V5, properties))


# --- the tables ---


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

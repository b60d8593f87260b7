"""SUBSCRIBE and UNSUBSCRIBE, and their answers.

Whether a filter may be used is not decided here, but for each filter on its own in the answer: one
bad filter does not take the others with it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from .kinds import SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, V5, V31
from .primitives import check_end, check_flags, encode_packet, read_packet_id, read_text, text
from .properties import NO_PROPERTIES, USER_PROPERTIES_MAX, Properties, block, read_properties
from .reasons import Malformed, Reason, check_reason

__all__ = [
    "Request",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "decode_suback",
    "decode_subscribe",
    "decode_unsuback",
    "decode_unsubscribe",
    "encode_suback",
    "encode_subscribe",
    "encode_unsuback",
    "encode_unsubscribe",
]


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


# --- SUBSCRIBE, SUBACK ---


def decode_subscribe(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Subscribe:
    """A SUBSCRIBE. Whether the filters make sense is answered one by one, in the SUBACK."""
    # [MQTT-3.8.1-1]
    check_flags(version, flags, 2)
    packet_id, at = read_packet_id(body, 0)
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
    return encode_packet(0x82, b"".join(parts))


def decode_suback(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Suback:
    """A SUBACK."""
    check_flags(version, flags)
    packet_id, at = read_packet_id(body, 0)
    properties = NO_PROPERTIES
    if version == V5:
        properties, at = read_properties(SUBACK, body, at, len(body), user_properties_max)
    reasons = body[at:]
    if not reasons:
        raise Malformed("a SUBACK without a reason", Reason.PROTOCOL_ERROR)
    for reason in reasons:
        # [MQTT-3.9.3-2]
        if version == V5:
            check_reason(SUBACK, reason)
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
    return encode_packet(
        0x90, packet_id.to_bytes(2, "big") + block(version, properties) + bytes(reasons)
    )


# --- UNSUBSCRIBE, UNSUBACK ---


def decode_unsubscribe(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Unsubscribe:
    """An UNSUBSCRIBE."""
    # [MQTT-3.10.1-1]
    check_flags(version, flags, 2)
    packet_id, at = read_packet_id(body, 0)
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
    return encode_packet(0xA2, b"".join(parts))


def decode_unsuback(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Unsuback:
    """An UNSUBACK."""
    check_flags(version, flags)
    packet_id, at = read_packet_id(body, 0)
    if version != V5:
        check_end(at, body)
        return Unsuback(packet_id, ())
    properties, at = read_properties(UNSUBACK, body, at, len(body), user_properties_max)
    reasons = body[at:]
    if not reasons:
        raise Malformed("an UNSUBACK without a reason", Reason.PROTOCOL_ERROR)
    for reason in reasons:
        # [MQTT-3.11.3-2]
        check_reason(UNSUBACK, reason)
    return Unsuback(packet_id, tuple(reasons), properties)


def encode_unsuback(
    version: int, packet_id: int, reasons: Iterable[int] = (), properties: bytes = b""
) -> bytes:
    """An UNSUBACK. Before MQTT 5 it says nothing but that it came."""
    if version != V5:
        return bytes((0xB0, 2, packet_id >> 8, packet_id & 255))
    return encode_packet(
        0xB0, packet_id.to_bytes(2, "big") + block(V5, properties) + bytes(reasons)
    )

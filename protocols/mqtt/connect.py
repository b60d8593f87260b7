"""CONNECT and CONNACK: the handshake, its flags and the will.

What is wrong here is told by one return code, and 3.1 has no way to tell the rest: a client that
names a level nobody knows gets "unsupported version" and no other packet of its own is looked at.
"""

from typing import Final

import msgspec

from .kinds import CONNACK, CONNECT, V5, V31, V311
from .primitives import (
    binary,
    check_end,
    check_flags,
    encode_packet,
    read_binary,
    read_text,
    read_u16,
    text,
)
from .properties import (
    NO_PROPERTIES,
    USER_PROPERTIES_MAX,
    Properties,
    block,
    read_block,
    read_properties,
)
from .publish import PublishProperties, encode_hop_properties, scan_will_properties
from .reasons import CONNACK_V3, CONNACK_V3_OTHER, Malformed, Reason, check_reason

__all__ = [
    "Connack",
    "Connect",
    "Will",
    "decode_connack",
    "decode_connect",
    "encode_connack",
    "encode_connect",
    "peek_level",
]

# [MQTT-3.1.2-1]
_NAMES: Final = {V31: b"\0\x06MQIsdp", V311: b"\0\x04MQTT", V5: b"\0\x04MQTT"}

_CLEAN, _WILL, _WILL_RETAIN, _PASSWORD, _USERNAME = 0x02, 0x04, 0x20, 0x40, 0x80


class Will(msgspec.Struct, gc=False):
    """What is published for a client that is gone. ``properties`` is None before MQTT 5."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: PublishProperties | None = None
    delay_seconds: int = 0


class Connect(msgspec.Struct, gc=False):
    """Who wants in, and how. ``keep_alive`` is in seconds."""

    level: int
    clean_start: bool
    keep_alive: int
    client_id: str
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = NO_PROPERTIES


class Connack(msgspec.Struct, gc=False):
    """The answer. ``reason`` is the return code of 3.1.1 when that is the version."""

    session_present: bool
    reason: int
    properties: Properties = NO_PROPERTIES


# --- CONNECT ---


def peek_level(body: bytes) -> int:
    """The version that a CONNECT's body names, however broken the rest is; 0 for none of ours.

    It decides in which version a refused CONNECT is answered.
    """
    for level, name in _NAMES.items():
        if body[: len(name) + 1] == name + bytes((level,)):
            return level
    return 0


def decode_connect(
    flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Connect:
    """A CONNECT from what follows its fixed header. Raises Malformed."""
    # [MQTT-2.1.3-1]
    check_flags(V5, flags)
    level, end = peek_level(body), len(body)
    name, at = read_text(body, 0, end)
    if not level:
        # [MQTT-3.1.2-2]; a bridge's bit in the level is no part of the standard
        problem = f"protocol {name[:16]!r} level {body[at : at + 1].hex()} is not spoken here"
        raise Malformed(problem, Reason.UNSUPPORTED_PROTOCOL_VERSION)
    at += 1
    if at >= end:
        raise Malformed("it ends before its flags")
    bits = body[at]
    _check_bits(level, bits)
    keep_alive, at = read_u16(body, at + 1, end)
    properties = NO_PROPERTIES
    if level == V5:
        properties, at = read_properties(CONNECT, body, at, end, user_properties_max)
    client_id, at = read_text(body, at, end)
    will = None
    if bits & _WILL:
        will, at = _read_will(level, bits, body, at, user_properties_max)
    username = password = None
    # 3.1 allows that a flag is set and the field is missing at the end.
    if bits & _USERNAME and not (level == V31 and at == end):
        username, at = read_text(body, at, end)
    if bits & _PASSWORD and not (level == V31 and at == end):
        password, at = read_binary(body, at, end)
    check_end(at, body)
    clean = bits & _CLEAN != 0
    return Connect(level, clean, keep_alive, client_id, will, username, password, properties)


def _check_bits(level: int, bits: int) -> None:
    # [MQTT-3.1.2-3]; 3.1 says that the bit is not used
    if bits & 1 and level != V31:
        raise Malformed("the reserved connect flag is set")
    # [MQTT-3.1.2-12]
    if bits >> 3 & 3 == 3:
        raise Malformed("the will has both bits of QoS set")
    # [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    if not bits & _WILL and bits & 0x38:
        raise Malformed("the flags of a will without a will")
    # [MQTT-3.1.2-22] of 3.1.1; MQTT 5 allows it
    if bits & _PASSWORD and not bits & _USERNAME and level != V5:
        raise Malformed("a password without a user name")


def _read_will(
    level: int, bits: int, body: bytes, at: int, user_properties_max: int
) -> tuple[Will, int]:
    properties, delay_seconds, end = None, 0, len(body)
    if level == V5:
        at, stop = read_block(body, at, end)
        if at < stop:
            properties, delay_seconds = scan_will_properties(body, at, stop, user_properties_max)
        at = stop
    topic, at = read_text(body, at, end)
    payload, at = read_binary(body, at, end)
    retain = bits & _WILL_RETAIN != 0
    return Will(topic, payload, bits >> 3 & 3, retain, properties, delay_seconds), at


def encode_connect(connect: Connect, properties: bytes = b"") -> bytes:
    """A CONNECT. ``properties`` is the content of its block; ``connect.properties`` is not used."""
    level, will = connect.level, connect.will
    bits = _CLEAN if connect.clean_start else 0
    payload = text(connect.client_id)
    if will is not None:
        bits |= _WILL | will.qos << 3 | (_WILL_RETAIN if will.retain else 0)
        payload += block(level, _will_content(will)) + text(will.topic) + binary(will.payload)
    if connect.username is not None:
        bits |= _USERNAME
        payload += text(connect.username)
    if connect.password is not None:
        bits |= _PASSWORD
        payload += binary(connect.password)
    start = _NAMES[level] + bytes((level, bits)) + connect.keep_alive.to_bytes(2, "big")
    body = start + block(level, properties) + payload
    return encode_packet(0x10, body)


def _will_content(will: Will) -> bytes:
    content = b""
    if will.delay_seconds:
        content += b"\x18" + will.delay_seconds.to_bytes(4, "big")
    if will.properties is not None:
        content += encode_hop_properties(expiry_seconds=will.properties.expiry_seconds)
        content += will.properties.forward
    return content


# --- CONNACK ---


def decode_connack(
    version: int, flags: int, body: bytes, user_properties_max: int = USER_PROPERTIES_MAX
) -> Connack:
    """A CONNACK from what follows its fixed header. Raises Malformed."""
    check_flags(version, flags)
    if len(body) < 2:
        raise Malformed("it ends too early")
    # [MQTT-3.2.2-1]; 3.1 does not use the byte
    if body[0] > 1 and version != V31:
        raise Malformed("reserved acknowledge flags are set")
    present, reason = body[0] == 1, body[1]
    # [MQTT-3.2.2-6] and, in 3.1.1, [MQTT-3.2.2-4]
    if present and reason and version != V31:
        raise Malformed("a session is present and refused", Reason.PROTOCOL_ERROR)
    properties, at = NO_PROPERTIES, 2
    if version == V5:
        properties, at = read_properties(CONNACK, body, 2, len(body), user_properties_max)
    check_end(at, body)
    if version == V5:
        check_reason(CONNACK, reason)
    elif reason > 5:
        raise Malformed(f"a connection cannot be answered with {reason}")
    return Connack(present, reason, properties)


def encode_connack(
    version: int, session_present: bool, reason: int, properties: bytes = b""
) -> bytes:
    """A CONNACK. ``reason`` is one of MQTT 5 and is translated for the others (CONNACK_V3)."""
    if version != V5:
        # [MQTT-3.2.2-4]; 3.1 has no such flag
        present = session_present and not reason and version == V311
        return bytes((0x20, 2, present, CONNACK_V3.get(reason, CONNACK_V3_OTHER)))
    # [MQTT-3.2.2-6]
    body = bytes((session_present and not reason, reason)) + block(V5, properties)
    return encode_packet(0x20, body)

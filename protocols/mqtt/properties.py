"""The properties of MQTT 5: what may stand where, once or often, and with which values.

One table (``RULES``) says it all; ``Properties`` has a field for each. The properties of a PUBLISH
and of a will belong to a message, travel with it, and have a home of their own: ``publish.py``.

Names are the specification's; an interval ends in its unit. Source: MQTT 5.0 section 2.2.2.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from .kinds import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    V5,
)
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
from .reasons import Malformed, Reason

__all__ = [
    "NO_PROPERTIES",
    "RULES",
    "USER_PROPERTIES_MAX",
    "USER_PROPERTY",
    "Properties",
    "Rule",
    "block",
    "encode_properties",
    "encode_user",
    "read_block",
    "read_properties",
]

USER_PROPERTY: Final = 0x26
USER_PROPERTIES_MAX: Final = 64  # in one packet, where the caller says nothing else


class Properties(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a packet says of itself beside its fields. None: it does not say."""

    session_expiry_seconds: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive_seconds: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None  # 0 or 1, as all that asks or offers
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    maximum_packet_size: int | None = None  # bytes
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None
    subscription_identifier: int | None = None
    user: tuple[tuple[str, str], ...] = ()


NO_PROPERTIES: Final = Properties()


# --- how the values are written ---


def _read_byte(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    if at >= end:
        raise Malformed("a property ends too early")
    return buffer[at], at + 1


def _read_number(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    found = read_length(buffer, at, end)
    if found is None:
        raise Malformed("a property ends too early")
    return found


class Rule(msgspec.Struct, frozen=True):
    """Where a property may stand, and how it is written."""

    field: str
    read: Callable[[Buffer, int, int], tuple[Any, int]]
    write: Callable[[Any], bytes]
    packets: frozenset[int]
    least: int
    most: int


def _rule(field: str, kind: str, packets: set[int], least: int = 0, most: int = 2**32 - 1) -> Rule:
    read, write = _KINDS[kind]
    return Rule(field, read, write, frozenset(packets), least, most)


_KINDS: dict[str, tuple[Callable[..., tuple[Any, int]], Callable[[Any], bytes]]] = {
    "byte": (_read_byte, lambda value: int.to_bytes(value, 1, "big")),
    "u16": (read_u16, lambda value: int.to_bytes(value, 2, "big")),
    "u32": (read_u32, lambda value: int.to_bytes(value, 4, "big")),
    "length": (_read_number, encode_length),
    "text": (read_text, text),
    "binary": (read_binary, binary),
}
_EXPLAINED = {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}

RULES: Final[dict[int, Rule]] = {
    0x0B: _rule("subscription_identifier", "length", {SUBSCRIBE}, 1),
    0x11: _rule("session_expiry_seconds", "u32", {CONNECT, CONNACK, DISCONNECT}),
    0x12: _rule("assigned_client_identifier", "text", {CONNACK}),
    0x13: _rule("server_keep_alive_seconds", "u16", {CONNACK}),
    0x15: _rule("authentication_method", "text", {CONNECT, CONNACK, AUTH}),
    0x16: _rule("authentication_data", "binary", {CONNECT, CONNACK, AUTH}),
    0x17: _rule("request_problem_information", "byte", {CONNECT}, 0, 1),
    0x19: _rule("request_response_information", "byte", {CONNECT}, 0, 1),
    0x1A: _rule("response_information", "text", {CONNACK}),
    0x1C: _rule("server_reference", "text", {CONNACK, DISCONNECT}),
    0x1F: _rule("reason_string", "text", _EXPLAINED),
    0x21: _rule("receive_maximum", "u16", {CONNECT, CONNACK}, 1),
    0x22: _rule("topic_alias_maximum", "u16", {CONNECT, CONNACK}),
    0x24: _rule("maximum_qos", "byte", {CONNACK}, 0, 1),
    0x25: _rule("retain_available", "byte", {CONNACK}, 0, 1),
    0x27: _rule("maximum_packet_size", "u32", {CONNECT, CONNACK}, 1),
    0x28: _rule("wildcard_subscription_available", "byte", {CONNACK}, 0, 1),
    0x29: _rule("subscription_identifier_available", "byte", {CONNACK}, 0, 1),
    0x2A: _rule("shared_subscription_available", "byte", {CONNACK}, 0, 1),
}


# --- blocks ---


def read_block(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """Where the content of the property block at ``at`` begins and ends."""
    found = read_length(buffer, at, end)
    if found is None or found[1] + found[0] > end:
        raise Malformed("the properties are longer than their packet")
    length, start = found
    return start, start + length


def read_properties(
    packet: int, buffer: Buffer, at: int, end: int, user_properties_max: int = USER_PROPERTIES_MAX
) -> tuple[Properties, int]:
    """The property block at ``at`` of a packet of type ``packet``, and where it ends."""
    at, stop = read_block(buffer, at, end)
    if at == stop:
        return NO_PROPERTIES, stop
    found: dict[str, Any] = {}
    user: list[tuple[str, str]] = []
    while at < stop:
        # An identifier is a variable byte integer, and all that exist are below 128.
        identifier = buffer[at]
        at += 1
        if identifier == USER_PROPERTY:
            name, at = read_text(buffer, at, stop)
            value, at = read_text(buffer, at, stop)
            if len(user) == user_properties_max:
                problem = f"more than {user_properties_max} user properties"
                raise Malformed(problem, Reason.QUOTA_EXCEEDED)
            user.append((name, value))
            continue
        rule = RULES.get(identifier)
        if rule is None or packet not in rule.packets:
            raise Malformed(f"property 0x{identifier:02X} has no place in this packet")
        if rule.field in found:
            raise Malformed(f"{rule.field} is there twice", Reason.PROTOCOL_ERROR)
        value, at = rule.read(buffer, at, stop)
        if isinstance(value, int) and not rule.least <= value <= rule.most:
            raise Malformed(f"{rule.field} may not be {value}", Reason.PROTOCOL_ERROR)
        found[rule.field] = value
    if "authentication_data" in found and "authentication_method" not in found:
        raise Malformed("authentication data without a method", Reason.PROTOCOL_ERROR)
    return Properties(**found, user=tuple(user)), stop


def encode_properties(properties: Properties) -> bytes:
    """The content of a property block, without its length."""
    parts = [
        bytes((identifier,)) + rule.write(value)
        for identifier, rule in RULES.items()
        if (value := getattr(properties, rule.field)) is not None
    ]
    return b"".join(parts) + encode_user(properties.user)


def encode_user(pairs: Iterable[tuple[str, str]]) -> bytes:
    """User properties, as they stand in a property block."""
    return b"".join([b"\x26" + text(name) + text(value) for name, value in pairs])


def block(version: int, content: bytes) -> bytes:
    """A property block with its length; nothing before MQTT 5."""
    return encode_length(len(content)) + content if version == V5 else b""

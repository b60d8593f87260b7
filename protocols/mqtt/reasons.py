"""Why something was refused: the reason codes of MQTT 5, and what 3.1 and 3.1.1 have of them.

Everything here speaks in MQTT 5 codes, whatever the client's version: the encoders translate for
the older ones. Source: MQTT 5.0 section 2.4; MQTT 3.1.1 table 3.1.
"""

from enum import IntEnum
from typing import Final

from .kinds import AUTH, CONNACK, DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK

__all__ = ["ALLOWED", "CONNACK_V3", "CONNACK_V3_OTHER", "Malformed", "Reason", "check_reason"]


class Reason(IntEnum):
    """Every reason code of MQTT 5, under its name. 0 has three names."""

    SUCCESS = 0x00
    NORMAL_DISCONNECTION = 0x00
    GRANTED_QOS_0 = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


# The return code of a CONNACK in 3.1 and 3.1.1. They have five; whatever else may be wrong is
# "server unavailable" to them, because that is the one a client may try again after.
CONNACK_V3: Final[dict[int, int]] = {
    Reason.SUCCESS: 0,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: 1,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: 2,
    Reason.SERVER_UNAVAILABLE: 3,
    Reason.BAD_USER_NAME_OR_PASSWORD: 4,
    Reason.NOT_AUTHORIZED: 5,
    Reason.BANNED: 5,
}
CONNACK_V3_OTHER: Final = 3


class Malformed(Exception):
    """What came cannot be taken: answer with ``reason`` where the version has a way to, hang up.

    Its text may be shown to the peer as MQTT 5's reason string.
    """

    def __init__(self, text: str, reason: int = Reason.MALFORMED_PACKET) -> None:
        super().__init__(text)
        self.reason = int(reason)


_TAKEN = frozenset([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
_RELEASED = frozenset([0x00, 0x92])

# What each packet may say in MQTT 5, from either side.
ALLOWED: Final[dict[int, frozenset[int]]] = {
    CONNACK: frozenset([0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F]),
    PUBACK: _TAKEN,
    PUBREC: _TAKEN,
    PUBREL: _RELEASED,
    PUBCOMP: _RELEASED,
    SUBACK: frozenset([0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]),
    UNSUBACK: frozenset([0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    DISCONNECT: frozenset([0, 4, *range(0x80, 0x84), 0x87, 0x89, *range(0x8B, 0x91)])
    | frozenset(range(0x93, 0xA3)),
    AUTH: frozenset([0x00, 0x18, 0x19]),
}


def check_reason(kind: int, reason: int) -> None:
    """Refuse a reason that a packet of type ``kind`` may not say in MQTT 5."""
    # [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1],
    # [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1]
    if reason not in ALLOWED[kind]:
        problem = f"reason 0x{reason:02X} has no place in this packet"
        raise Malformed(problem, Reason.PROTOCOL_ERROR)

"""What an MQTT listener grants its clients: ``[mqtt]``, and ``[listeners.mqtt]`` for one listener.

Much of it an MQTT 5 client is told in CONNACK; clients of 3.1 and 3.1.1 cannot be told and are
held to it where the standard gives a way. What MQTT shares with the other dialects (topics,
subscriptions, sessions, retained messages) is limited in ``limits.py``.
"""

from typing import Literal

import msgspec

from ..storage.log import RECORD_BYTES_MAX

__all__ = ["OPTION_RANGES", "MqttOptions"]

_DAY_SECONDS = 24 * 3600
_U16_MAX = 65_535
_U32_MAX = 2**32 - 1

# (least, most), as far as the standard or common sense draws them.
OPTION_RANGES: dict[str, tuple[int, int]] = {
    "receive_maximum": (1, _U16_MAX),
    "in_flight_maximum": (1, _U16_MAX),
    "topic_alias_maximum": (0, _U16_MAX),
    "topic_alias_maximum_out": (0, _U16_MAX),
    # Its record has more than the packet: names of headers, and a target for each session.
    "maximum_packet_size_bytes": (1_024, RECORD_BYTES_MAX // 2),
    "server_keep_alive_seconds": (0, _U16_MAX),
    "keep_alive_seconds_max": (0, _U16_MAX),
    "maximum_qos": (0, 2),
    "session_expiry_seconds_max": (0, _U32_MAX),
    "session_expiry_v3_seconds": (0, _U32_MAX),
    "user_properties_max": (0, _U16_MAX),
    "filters_per_subscribe_max": (1, _U16_MAX),
}
_TEXT_BYTES_MAX = _U16_MAX


class MqttOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of MQTT 3.1, 3.1.1 and 5. Raises ValueError, naming all that are out of range.

    Attributes:
        receive_maximum: QoS 1 and 2 messages that a client may have unacknowledged; told to MQTT 5.
        receive_maximum_strict: close with 0x93 a client that exceeds it; else it is only counted,
            since widely used ones (MQTT.js) never look at what they are told.
        in_flight_maximum: QoS 1 and 2 messages sent to a client ahead of its acknowledgements; a
            smaller Receive Maximum of the client wins.
        topic_alias_maximum: aliases a client may use; 0 allows none.
        topic_alias_maximum_out: aliases used towards a client that allows as many.
        maximum_packet_size_bytes: largest packet taken from a client.
        server_keep_alive_seconds: keep-alive that every MQTT 5 client gets instead of its own.
        keep_alive_seconds_max: longest keep-alive of an MQTT 5 client; one that names none, or a
            longer one, is told this one. A client of 3.x keeps what it named, since it cannot be
            told. 0 is no limit.
        maximum_qos: QoS of publications and subscriptions at most.
        retain_available: whether messages may be retained.
        wildcard_available: whether filters may have wildcards.
        shared_available: whether ``$share`` subscriptions are allowed.
        subscription_identifiers_available: whether MQTT 5 subscriptions may have identifiers.
        overlapping: a message that several subscriptions of a session match comes ``once``, with
            the highest QoS of them, or once for ``each``.
        session_expiry_seconds_max: longest a session may outlive its connection.
        session_expiry_v3_seconds: how long a session with clean session 0 of a 3.x client outlives
            its connection; at most the one above.
        allow_zero_length_client_id: let the server choose an id for clients that bring none.
        redirect: refuse every client with 0x9C (``use-another``) or 0x9D (``moved``).
        server_reference: the other server, told to MQTT 5 clients with it.
        response_information: prefix of response topics, for MQTT 5 clients that ask.
        user_properties_max: user properties of one packet.
        filters_per_subscribe_max: filters of one SUBSCRIBE; those beyond it are refused with 0x97.
    """

    receive_maximum: int = 256
    receive_maximum_strict: bool = False
    in_flight_maximum: int = 1_024
    topic_alias_maximum: int = 64
    topic_alias_maximum_out: int = 64
    maximum_packet_size_bytes: int = 1024 * 1024
    server_keep_alive_seconds: int = 0
    keep_alive_seconds_max: int = 600
    maximum_qos: int = 2
    retain_available: bool = True
    wildcard_available: bool = True
    shared_available: bool = True
    subscription_identifiers_available: bool = True
    overlapping: Literal["once", "each"] = "once"
    session_expiry_seconds_max: int = 30 * _DAY_SECONDS
    session_expiry_v3_seconds: int = 30 * _DAY_SECONDS
    allow_zero_length_client_id: bool = True
    redirect: Literal["", "use-another", "moved"] = ""
    server_reference: str = ""
    response_information: str = ""
    user_properties_max: int = 64
    filters_per_subscribe_max: int = 1_000

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, (least, most) in OPTION_RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                problems.append(f"{name} is {value}; it is between {least} and {most}")
        for name in ("server_reference", "response_information"):
            text = getattr(self, name)
            if len(text.encode("utf-8", "surrogatepass")) > _TEXT_BYTES_MAX or "\0" in text:
                problems.append(f"{name} is longer than {_TEXT_BYTES_MAX} bytes, or holds a NUL")
        if problems:
            raise ValueError(", and ".join(problems))

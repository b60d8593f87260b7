"""The last packet of a connection: why the server ends it, or does not let the client in.

MQTT 5 has a reason for everything; a text goes with it if the client has room for it. Before MQTT 5
there is no DISCONNECT of a server, and a refusal is one of five return codes.
"""

from .packets import (
    V5,
    Properties,
    Reason,
    encode_connack,
    encode_disconnect,
    encode_properties,
)

__all__ = ["goodbye", "refusal"]

_MOVED = (Reason.USE_ANOTHER_SERVER, Reason.SERVER_MOVED)


def goodbye(reason: int, text: str, packet_bytes_max: int) -> bytes:
    """A DISCONNECT of MQTT 5."""
    if text:
        properties = encode_properties(Properties(reason_string=text))
        packet = encode_disconnect(V5, reason, properties)
        if len(packet) <= packet_bytes_max:
            return packet
    return encode_disconnect(V5, reason)  # [MQTT-3.14.2-3]


def refusal(
    version: int, reason: Reason, text: str, server_reference: str, packet_bytes_max: int
) -> bytes:
    """A CONNACK that refuses. ``server_reference`` is told to whoever shall go there."""
    if version == V5:
        reference = (server_reference or None) if reason in _MOVED else None
        for string in (text or None, None):
            content = Properties(reason_string=string, server_reference=reference)
            packet = encode_connack(V5, False, reason, encode_properties(content))
            if len(packet) <= packet_bytes_max:
                return packet
    return encode_connack(version, False, reason)  # [MQTT-3.2.2-19]

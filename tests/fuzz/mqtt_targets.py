"""No matter what bytes come, the MQTT decoders give a packet or Malformed, and never guess.

What they took can be written again, and is then read as the same; a reason they give can be told.
The functions here are fed by hypothesis and by atheris.
"""

from typing import Any

from braidmq.protocols.mqtt import packets as p
from braidmq.protocols.mqtt.reasons import ALLOWED

__all__ = ["PREFIXES", "check_connect", "check_lengths", "check_packets", "encoded", "split"]

VERSIONS = (p.V31, p.V311, p.V5)
# What every CONNECT of ours begins with.
PREFIXES = {p.V31: b"\0\x06MQIsdp\x03", p.V311: b"\0\x04MQTT\x04", p.V5: b"\0\x04MQTT\x05"}


def split(packet: bytes) -> tuple[int, bytes]:
    """A packet's first byte and its body."""
    found = p.read_length(packet, 1, len(packet))
    assert found is not None and found[0] + found[1] == len(packet)
    return packet[0], packet[found[1] :]


def check_lengths(data: bytes) -> None:
    """A length is a number of one to four bytes, or more is needed, or it is malformed."""
    try:
        found = p.read_length(data, 0, len(data))
    except p.Malformed:
        assert len(data) > 1
        return
    if found is None:
        assert len(data) < 4
    else:
        assert p.encode_length(found[0]) == data[: found[1]]


def check_packets(data: bytes) -> None:
    """Take the bytes for a packet (first byte, body), in every version and direction."""
    for version in VERSIONS:
        for decoders in (p.DECODERS, p.CLIENT_DECODERS):
            packet = _decoded(decoders, version, data)
            if packet is not None:
                first, body = split(encoded(version, data[0], packet))
                again = p.decode(decoders, version, first, body)
                assert _plain(again) == _plain(packet)


def _decoded(decoders: Any, version: int, data: bytes) -> Any:
    if not data:
        return None
    try:
        return p.decode(decoders, version, data[0], data[1:])
    except p.Malformed as malformed:
        assert malformed.reason in ALLOWED[p.DISCONNECT] and str(malformed)
        return None


def check_connect(data: bytes) -> None:
    """Take the bytes for a CONNECT's body, as they are and after each of our beginnings."""
    for body in (data, *(prefix + data for prefix in PREFIXES.values())):
        level = p.peek_level(body)
        try:
            connect = p.decode_connect(0, body)
        except p.Malformed as malformed:
            assert malformed.reason in ALLOWED[p.CONNACK] and str(malformed)
            assert level or malformed.reason in (0x81, 0x84)
            continue
        assert connect.level == level
        properties = p.encode_properties(connect.properties)
        first, again = split(p.encode_connect(connect, properties))
        assert (first, p.decode_connect(0, again)) == (0x10, connect)


def encoded(version: int, first: int, packet: Any) -> bytes:
    """A packet that was decoded, written again."""
    properties = getattr(packet, "properties", None)
    content = p.encode_properties(properties) if isinstance(properties, p.Properties) else b""
    match packet:
        case p.Publish(topic, payload, qos, retain, dup, packet_id, said):
            if said is not None:
                content = said.forward + p.encode_hop_properties(
                    expiry_seconds=said.expiry_seconds,
                    topic_alias=said.topic_alias,
                    subscription_ids=said.subscription_ids,
                )
            return p.encode_publish(version, topic, payload, qos, retain, dup, packet_id, content)
        case p.Ack(packet_id, reason):
            return p.encode_ack(first >> 4, version, packet_id, reason, content)
        case p.Subscribe(packet_id, requests):
            return p.encode_subscribe(version, packet_id, requests, content)
        case p.Suback(packet_id, reasons):
            return p.encode_suback(version, packet_id, reasons, content)
        case p.Unsubscribe(packet_id, filters):
            return p.encode_unsubscribe(version, packet_id, filters, content)
        case p.Unsuback(packet_id, reasons):
            return p.encode_unsuback(version, packet_id, reasons, content)
        case p.Connack(present, reason) if version == p.V5:
            return p.encode_connack(version, present, reason, content)
        case p.Connack(present, reason):
            return bytes((0x20, 2, present, reason))
        case p.Disconnect(reason):
            return p.encode_disconnect(version, reason, content)
        case p.Auth(reason):
            return p.encode_auth(reason, content)
    raise AssertionError(f"nobody writes {packet}")


def _plain(packet: Any) -> Any:
    """Without what may be said in two ways: an empty property block of a PUBLISH."""
    if isinstance(packet, p.Publish) and packet.properties is not None:
        said = packet.properties
        if not said.forward and said.expiry_seconds is None and not said.subscription_ids:
            if said.topic_alias is None:
                packet.properties = None
    return packet

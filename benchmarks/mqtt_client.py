"""A raw MQTT connection of the load: the handshakes, answered before it returns; then bytes."""

import socket
from typing import Final

from .drivers.driver import Refused
from .drivers.mqtt_packets import (
    CONNACK,
    DISCONNECT,
    PUBACK_HEAD,
    PUBLISH,
    SUBACK,
    Malformed,
    connect_packet,
    next_packet,
    parse_publish,
    publish_packet,
    receive_maximum,
    refusal,
    subscribe_packet,
)

__all__ = ["MqttClient", "learn_heads"]

_HANDSHAKE_SECONDS: Final = 30.0
_FILTERS_AT_ONCE: Final = 50  # in a SUBSCRIBE; brokers limit that
_ADDRESSES: Final = 16  # of loopback that connections come from, so that no port runs out


class MqttClient:
    """One connection; until :meth:`start` its socket blocks."""

    def __init__(self, host: str, port: int, version: int, name: str, clean: bool = True) -> None:
        self.version = version
        self.receive_maximum = 65_535  # QoS 1 messages that the broker takes unacknowledged
        self._buffer = b""
        self.socket = socket.create_connection((host, port), _HANDSHAKE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            granted = self._request(connect_packet(version, name, clean), CONNACK)
            if version == 5:
                self.receive_maximum = receive_maximum(memoryview(granted))
        except BaseException:
            self.socket.close()
            raise

    @staticmethod
    def open_socket(host: str, port: int, number: int) -> socket.socket:
        """A socket that comes from one of several loopback addresses, if ``host`` is loopback."""
        source = None
        if host.startswith("127."):
            source = (f"127.0.0.{number % _ADDRESSES + 1}", 0)
        return socket.create_connection((host, port), _HANDSHAKE_SECONDS, source)

    def subscribe(self, filters: list[str], qos: int) -> None:
        """Subscribe, many filters in one packet. Raises Refused."""
        for first in range(0, len(filters), _FILTERS_AT_ONCE):
            some = filters[first : first + _FILTERS_AT_ONCE]
            self._request(subscribe_packet(self.version, 1, some, qos), SUBACK)

    def packet(self) -> tuple[int, bytes]:
        """Wait for a packet: its first byte, its body. Raises Refused."""
        while (found := next_packet(memoryview(self._buffer), 0)) is None:
            data = self.socket.recv(65_536)
            if not data:
                raise Refused("the broker hung up")
            self._buffer += data
        first, begin, end = found
        body, self._buffer = self._buffer[begin:end], self._buffer[end:]
        return first, body

    def start(self) -> bytes:
        """End of the handshakes: the socket no longer blocks; what was already read."""
        self.socket.setblocking(False)
        rest, self._buffer = self._buffer, b""
        return rest

    def close(self) -> None:
        """Say goodbye."""
        try:
            self.socket.setblocking(True)
            self.socket.settimeout(_HANDSHAKE_SECONDS)
            self.socket.sendall(DISCONNECT)
        except OSError:
            pass  # it is gone already
        self.socket.close()

    def _request(self, packet: bytes, wanted: int) -> bytes:
        self.socket.sendall(packet)
        while True:
            first, body = self.packet()
            if first >> 4 == wanted:
                break
            if first >> 4 != PUBLISH:
                raise Refused(refusal(self.version, first, memoryview(body)))
        if why := refusal(self.version, first, memoryview(body)):
            raise Refused(why)
        return body


def learn_heads(client: MqttClient, topics: dict[int, str], qos: int) -> dict[int, bytes]:
    """How the broker spells the head of a PUBLISH of each topic, identifiers as zeros.

    ``client`` must be subscribed to all of ``topics``. Raises Malformed, Refused.
    """
    heads: dict[int, bytes] = {}
    for number, topic in topics.items():
        payload = b"head of " + topic.encode()
        client.socket.sendall(publish_packet(client.version, qos, topic, 1, payload))
        while number not in heads:
            first, body = client.packet()
            if first >> 4 != PUBLISH:
                continue  # the acknowledgement of ours
            found = parse_publish(client.version, first, memoryview(body))
            if found.qos:
                client.socket.sendall(PUBACK_HEAD + found.packet_id.to_bytes(2, "big"))
            if found.payload != payload or found.topic != topic.encode():
                raise Malformed(f"published {payload!r} to {topic}, got {body!r}")
            at = found.packet_id_at
            zeroed = found.head[:at] + b"\0\0" + found.head[at + 2 :] if at else found.head
            heads[number] = zeroed
    return heads

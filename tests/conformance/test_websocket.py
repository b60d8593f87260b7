"""Chapter 6 of both versions: MQTT over WebSocket, with a client that frames by hand.

BRAIDMQ_TEST_MQTT_WS=host:port is where another broker listens for WebSocket.
"""

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from .client import GUARD_SECONDS
from .conftest import EXTERNAL, Address, ThreadedBroker, address_of
from .packets import PING, binary, connect, publish, subscribe
from .requirements import v5, v311

CONTINUATION, TEXT, BINARY, CLOSE, WS_PING = 0, 1, 2, 8, 9
MASK = b"\x01\x02\x03\x04"


@pytest.fixture(scope="module")
def ws_address() -> Iterator[Address]:
    if EXTERNAL:
        if "BRAIDMQ_TEST_MQTT_WS" not in os.environ:
            pytest.skip("where is its WebSocket? BRAIDMQ_TEST_MQTT_WS tells")
        yield address_of(os.environ["BRAIDMQ_TEST_MQTT_WS"])
        return
    with ThreadedBroker("ws://127.0.0.1:0") as broker:
        yield address_of(broker.urls[0])


class Carrier:
    """A WebSocket connection: frames out, bytes of binary frames in."""

    def __init__(self, address: Address, protocols: str | None = "mqtt") -> None:
        self.socket = socket.create_connection(address, timeout=GUARD_SECONDS)
        offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols is not None else ""
        self.socket.sendall(
            f"GET /mqtt HTTP/1.1\r\nHost: localhost:{address[1]}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{offer}\r\n".encode()
        )
        self.received = b""
        self.answer = b""
        while b"\r\n\r\n" not in self.answer:
            data = self.socket.recv(4_096)
            if not data:
                break
            self.answer += data
        self.answer, _, self.received = self.answer.partition(b"\r\n\r\n")

    def header(self, name: str) -> str | None:
        for line in self.answer.decode().split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def frame(self, data: bytes, kind: int = BINARY, last: bool = True, claimed: int = 0) -> None:
        size = claimed or len(data)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65_536:
            length = b"\xfe" + size.to_bytes(2, "big")
        else:
            length = b"\xff" + size.to_bytes(8, "big")
        masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))
        head = bytes([(0x80 if last else 0) | kind]) + length + MASK
        try:
            self.socket.sendall(head + masked)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def read(self, count: int) -> bytes | None:
        """So many bytes; None when the connection ends before."""
        while len(self.received) < count:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.received += data
        head, self.received = self.received[:count], self.received[count:]
        return head

    def payload(self) -> bytes | None:
        """What the next frame with data carries; None when the broker closes."""
        while True:
            head = self.read(2)
            if head is None or head[0] & 15 == CLOSE:
                return None
            size = head[1] & 127
            if size > 125:
                more = self.read(2 if size == 126 else 8)
                assert more is not None
                size = int.from_bytes(more, "big")
            data = self.read(size)
            if head[0] & 15 in (WS_PING, 10):
                continue
            # [MQTT-6.0.0-1]
            assert head[0] & 15 in (BINARY, CONTINUATION), head
            return data

    def expect(self, wanted: bytes) -> None:
        """These bytes come, in as many frames as the broker likes."""
        found = b""
        while len(found) < len(wanted):
            part = self.payload()
            assert part is not None, f"closed after {found.hex(' ')}"
            found += part
        assert found == wanted

    def closed(self) -> None:
        while self.payload() is not None:
            pass


@pytest.fixture
def carry(ws_address: Address) -> Iterator[Callable[..., Carrier]]:
    carriers: list[Carrier] = []

    def open_carrier(protocols: str | None = "mqtt") -> Carrier:
        carriers.append(Carrier(ws_address, protocols))
        return carriers[-1]

    yield open_carrier
    for each in carriers:
        each.socket.close()


CONNACK = b"\x20\x02\0\0"
SUBACK = b"\x90\x03\0\x01\0"
PONG = b"\xd0\0"


@v5("MQTT-6.0.0-4", "MQTT-6.0.0-3")
@v311("MQTT-6.0.0-4", "MQTT-6.0.0-3")
@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqttv3.1, mqtt"])
def test_the_subprotocol_is_mqtt(carry, name, offered):
    carrier = carry(offered)
    assert carrier.answer.startswith(b"HTTP/1.1 101 ")
    assert carrier.header("Sec-WebSocket-Protocol") in ("mqtt", "mqttv3.1")
    if "3.1" not in offered:
        assert carrier.header("Sec-WebSocket-Protocol") == "mqtt"
    carrier.frame(connect(name, version=4))
    carrier.expect(CONNACK)


@v5("MQTT-6.0.0-4", "MQTT-6.0.0-3")
@v311("MQTT-6.0.0-4", "MQTT-6.0.0-3")
@pytest.mark.parametrize("offered", [None, "chat", "MQTTT"])
def test_without_the_subprotocol_no_mqtt_is_spoken(carry, name, offered):
    """Whatever the handshake says, no other subprotocol is selected and no CONNACK comes."""
    carrier = carry(offered)
    assert carrier.header("Sec-WebSocket-Protocol") is None
    if carrier.answer.startswith(b"HTTP/1.1 101 "):
        carrier.frame(connect(name, version=4))
        assert carrier.payload() in (None, b"")


@v5("MQTT-6.0.0-2", "MQTT-6.0.0-1")
@v311("MQTT-6.0.0-2", "MQTT-6.0.0-1")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_packets_are_not_aligned_on_frames(carry, name, size):
    carrier = carry()
    stream = connect(name, version=4) + subscribe((name, 0), version=4)
    stream += publish(name, b"x" * 300, version=4) + PING
    for start in range(0, len(stream), size):
        carrier.frame(stream[start : start + size])
    message = b"\x30\xb0\x02"[:1] + bytes(
        [(len(name) + 302) % 128 | 0x80, (len(name) + 302) // 128]
    )
    carrier.expect(CONNACK + SUBACK + message + binary(name) + b"x" * 300 + PONG)


@v5("MQTT-6.0.0-2")
@v311("MQTT-6.0.0-2")
def test_a_fragmented_message_is_one_stream(carry, name):
    carrier = carry()
    stream = connect(name, version=4) + PING
    carrier.frame(stream[:5], BINARY, last=False)
    carrier.frame(b"hello", WS_PING)
    carrier.frame(b"", CONTINUATION, last=False)
    carrier.frame(stream[5:], CONTINUATION)
    carrier.expect(CONNACK + PONG)


@v5("MQTT-6.0.0-1")
@v311("MQTT-6.0.0-1")
@pytest.mark.parametrize("when", ["before CONNECT", "after CONNECT"])
def test_a_text_frame_closes(carry, name, when):
    carrier = carry()
    if when == "after CONNECT":
        carrier.frame(connect(name, version=4))
        carrier.expect(CONNACK)
        carrier.frame(PING, TEXT)
        carrier.closed()
    else:
        carrier.frame(connect(name, version=4), TEXT)
        assert carrier.payload() is None


# --- notes on security, row 3 ---


def test_a_packet_longer_than_its_frame_waits_for_the_next(carry, name):
    """The Remaining Length says more than the frame holds: nothing is read beyond it."""
    carrier = carry()
    carrier.frame(connect(name, version=4))
    carrier.expect(CONNACK)
    carrier.frame(b"\x82\xff\x01" + b"\0\1")
    carrier.frame(b"\0\x7b" + b"a" * 123 + b"\0")
    carrier.frame(b"\0\x7a" + b"a")
    assert carrier.received == b""
    carrier.socket.close()
    again = carry()
    again.frame(connect(name, version=4) + PING)
    again.expect(CONNACK + PONG)


def test_many_packets_in_one_frame(carry, name):
    carrier = carry()
    carrier.frame(connect(name, version=4) + PING * 500)
    carrier.expect(CONNACK + PONG * 500)


def test_a_frame_that_is_not_masked_closes(carry, name):
    carrier = carry()
    packet = connect(name, version=4)
    carrier.socket.sendall(bytes([0x82, len(packet)]) + packet)
    assert carrier.payload() is None


def test_a_frame_that_claims_to_be_huge_closes(carry, name):
    carrier = carry()
    carrier.frame(connect(name, version=4))
    carrier.expect(CONNACK)
    carrier.frame(b"x", claimed=2**62)
    carrier.closed()

"""A client of MQTT 3.1.1 and 5 that shares no code with ours: sockets, and packets by the standard.

A mistake made on both sides of our own codec cannot hide here what the audit looks for. One call
sends one packet; nothing is retried and no answer is made up: who uses it keeps the state of the
protocol. What comes is told to a :class:`Listener` while its bytes are being parsed, in order.
"""

import asyncio
from typing import Any, NamedTuple, cast

__all__ = [
    "PUBACK",
    "PUBCOMP",
    "PUBREC",
    "PUBREL",
    "V5",
    "V311",
    "Gone",
    "Listener",
    "Message",
    "MqttWire",
    "Refused",
    "connect_packet",
    "packet",
    "publish_packet",
    "subscribe_packet",
    "unsubscribe_packet",
    "varint",
]

V311, V5 = 4, 5
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14
SESSION_EXPIRY, RECEIVE_MAXIMUM, REASON_STRING = 0x11, 0x21, 0x1F
NO_SUBSCRIPTION_EXISTED = 0x11
UNAVAILABLE = (0x88, 3)  # in CONNACK: the broker stops, or its log has failed
_PING = b"\xc0\0"


class Gone(Exception):
    """The connection is no more: what was sent may or may not have arrived."""


class Refused(Exception):
    """CONNACK or SUBACK says no."""

    def __init__(self, reason: int) -> None:
        super().__init__(f"0x{reason:02X}")
        self.reason = reason


class Message(NamedTuple):
    """A PUBLISH of the broker."""

    topic: str
    body: bytes
    qos: int
    dup: bool
    retain: bool
    packet_id: int


class Listener:
    """What comes; each method does nothing unless it is overridden."""

    def connected(self, wire: "MqttWire", present: bool) -> None:
        """CONNACK: whether the broker had the session."""

    def message(self, message: Message) -> None:
        """PUBLISH."""

    def acknowledged(self, kind: int, packet_id: int, reason: int) -> None:
        """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    def gone(self) -> None:
        """The connection ended."""


# --- writing ---


def varint(value: int) -> bytes:
    """A variable byte integer."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def packet(first: int, body: bytes) -> bytes:
    """A whole packet: its first byte, its length, its body."""
    return bytes([first]) + varint(len(body)) + body


def _text(text: str) -> bytes:
    wire = text.encode()
    return len(wire).to_bytes(2, "big") + wire


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def connect_packet(
    client_id: str,
    version: int = V5,
    clean: bool = True,
    expiry_seconds: int = 0,
    receive_maximum: int = 0,
    keep_alive_seconds: int = 0,
) -> bytes:
    """CONNECT. In 3.1.1 a session outlives its connection if it is not clean."""
    body = _text("MQTT") + bytes([version, 2 * clean]) + _u16(keep_alive_seconds)
    if version == V5:
        properties = b""
        if expiry_seconds:
            properties += bytes([SESSION_EXPIRY]) + expiry_seconds.to_bytes(4, "big")
        if receive_maximum:
            properties += bytes([RECEIVE_MAXIMUM]) + _u16(receive_maximum)
        body += varint(len(properties)) + properties
    return packet(0x10, body + _text(client_id))


def publish_packet(
    version: int,
    topic: str,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    dup: bool = False,
    retain: bool = False,
    properties: bytes = b"",
) -> bytes:
    """PUBLISH; ``properties`` are what stands in the property block of version 5."""
    body = _text(topic) + (_u16(packet_id) if qos else b"")
    if version == V5:
        body += varint(len(properties)) + properties
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def subscribe_packet(version: int, packet_id: int, filters: dict[str, int]) -> bytes:
    """SUBSCRIBE: filters, each with its QoS."""
    body = _u16(packet_id) + (b"\0" if version == V5 else b"")
    body += b"".join(_text(filter) + bytes([qos]) for filter, qos in filters.items())
    return packet(0x82, body)


def unsubscribe_packet(version: int, packet_id: int, filters: list[str]) -> bytes:
    """UNSUBSCRIBE."""
    body = _u16(packet_id) + (b"\0" if version == V5 else b"")
    return packet(0xA2, body + b"".join(map(_text, filters)))


# --- reading ---


def _read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """(value, where it ends). Raises IndexError when it is not whole."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a variable byte integer of five bytes")


def _read_message(flags: int, body: bytes, version: int) -> Message:
    end = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:end].decode()
    qos = flags >> 1 & 3
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(body[end : end + 2], "big")
        end += 2
    if version == V5:
        length, end = _read_varint(body, end)
        end += length
    return Message(topic, body[end:], qos, bool(flags & 8), bool(flags & 1), packet_id)


class MqttWire(asyncio.Protocol):
    """One connection. ``await MqttWire.open(port, client_id)``, then its methods."""

    def __init__(self, version: int, listener: Listener) -> None:
        self.version = version
        self.gone = False
        self.reason = 0  # why the broker hung up, if it said so
        self.received = 0  # messages
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._connack: asyncio.Future[int] = self._loop.create_future()
        self._pings: list[asyncio.Future[None]] = []
        self._subacks: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 60_000  # of SUBSCRIBE: away from those of messages

    @classmethod
    async def open(
        cls,
        port: int,
        client_id: str,
        version: int = V5,
        clean: bool = True,
        expiry_seconds: int = 0,
        receive_maximum: int = 0,
        keep_alive_seconds: int = 0,
        listener: Listener | None = None,
    ) -> "MqttWire":
        """Connect, and wait for CONNACK. Raises Refused, and Gone if the broker is about to be."""
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(
                lambda: cls(version, listener or Listener()), "127.0.0.1", port
            )
        except OSError as error:
            raise Gone(str(error)) from None
        wire.send(
            connect_packet(
                client_id, version, clean, expiry_seconds, receive_maximum, keep_alive_seconds
            )
        )
        try:
            if reason := await wire._connack:
                raise Gone("unavailable") if reason in UNAVAILABLE else Refused(reason)
        except BaseException:  # also when nobody waits any more: who has no wire cannot hang up
            wire.abort()
            raise
        return wire

    # What the loop calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 2:
            try:
                length, body_at = _read_varint(buffer, at + 1)
            except IndexError:
                break
            if body_at + length > len(buffer):
                break
            self._on_packet(buffer[at], bytes(buffer[body_at : body_at + length]))
            at = body_at + length
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        if self.gone:
            return
        self.gone = True
        waiting: list[asyncio.Future[Any]] = [self._connack, *self._pings, *self._subacks.values()]
        for each in waiting:
            if not each.done():
                each.set_exception(Gone(f"connection lost, 0x{self.reason:02X}"))
                each.exception()  # perhaps nobody waits any more
        self._listener.gone()

    def _on_packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == PUBLISH:
            self.received += 1
            self._listener.message(_read_message(first & 15, body, self.version))
        elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            reason = body[2] if len(body) > 2 else 0
            self._listener.acknowledged(kind, int.from_bytes(body[:2], "big"), reason)
        elif kind == CONNACK:
            if not body[1]:
                self._listener.connected(self, bool(body[0]))
            if not self._connack.done():
                self._connack.set_result(body[1])
        elif kind in (SUBACK, UNSUBACK):
            answer = self._subacks.pop(int.from_bytes(body[:2], "big"))
            length, at = _read_varint(body, 2) if self.version == V5 else (0, 2)
            if not answer.done():
                answer.set_result(body[at + length :])
        elif kind == PINGRESP:
            answer_ping = self._pings.pop(0)
            if not answer_ping.done():
                answer_ping.set_result(None)
        elif kind == DISCONNECT:
            self.reason = body[0] if body else 0
        else:
            raise AssertionError(f"a broker never sends packet type {kind}")

    # What the audit calls ---------------------------------------------------------------------

    def send(self, packet: bytes) -> None:
        """Send bytes as they are."""
        if not self.gone:
            self._transport.write(packet)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        packet_id: int = 0,
        dup: bool = False,
        retain: bool = False,
    ) -> None:
        """Send a message."""
        self.send(publish_packet(self.version, topic, payload, qos, packet_id, dup, retain))

    def acknowledge(self, kind: int, packet_id: int) -> None:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.send(packet(kind << 4 | 2 * (kind == PUBREL), _u16(packet_id)))

    async def subscribe(self, filters: dict[str, int]) -> None:
        """Subscribe to filters, each with its QoS. Raises Refused, Gone."""
        reasons = await self.ask_to_subscribe(filters)
        for reason, qos in zip(reasons, filters.values(), strict=True):
            if reason != qos:
                raise Refused(reason)

    async def ask_to_subscribe(self, filters: dict[str, int]) -> bytes:
        """The reason for each filter in SUBACK. Raises Gone."""
        self._next_id += 1
        return await self._ask(subscribe_packet(self.version, self._next_id, filters))

    async def unsubscribe(self, filters: list[str]) -> None:
        """End subscriptions, whether they are there or not. Raises Refused, Gone."""
        self._next_id += 1
        for reason in await self._ask(unsubscribe_packet(self.version, self._next_id, filters)):
            if reason not in (0, NO_SUBSCRIPTION_EXISTED):  # in 3.1.1 there is none
                raise Refused(reason)

    async def _ask(self, asking: bytes) -> bytes:
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._subacks[self._next_id] = answer
        if self.gone:
            raise Gone("before SUBSCRIBE")
        self.send(asking)
        return await answer

    def post_ping(self) -> "asyncio.Future[None]":
        """Ask; the future is done when the broker has handled all that was sent before."""
        answer = self._loop.create_future()
        if self.gone:
            answer.set_exception(Gone("before PINGREQ"))
        else:
            self._pings.append(answer)
            self.send(_PING)
        return answer

    async def ping(self) -> None:
        """Wait until the broker has handled all that was sent before. Raises Gone."""
        await self.post_ping()

    @property
    def unsent_bytes(self) -> int:
        """What the socket did not take yet."""
        return 0 if self.gone else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Read nothing more."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.gone:
            self._transport.resume_reading()

    def close(self) -> None:
        """DISCONNECT, and hang up."""
        self.send(b"\xe0\0")
        if not self.gone:
            self._transport.close()

    def abort(self) -> None:
        """Hang up without a word."""
        if not self.gone:
            self._transport.abort()
            self.connection_lost(None)

"""A WebSocket client, RFC 6455, that shares no code with ours: a transport for another protocol.

Whoever is carried sees a connection as every other: its bytes go out as text frames, one for each
write, and come as they come. What the broker may not do raises, and so ends the test.
"""

import asyncio
import base64
import hashlib
import os
from typing import cast

__all__ = ["WebSocket"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING = 0, 1, 2, 8, 9
_FINAL, _MASKED = 0x80, 0x80
_LENGTH_IN_2, _LENGTH_IN_8 = 126, 127


class WebSocket(asyncio.Protocol, asyncio.Transport):
    """Carries ``inner`` in frames; it may write from the beginning."""

    def __init__(self, inner: asyncio.Protocol, subprotocol: str) -> None:
        super().__init__()
        self._inner = inner
        self._subprotocol = subprotocol
        self._key = base64.b64encode(os.urandom(16))
        self._is_open = False
        self._early: list[bytes] = []  # written before the handshake was over
        self._buffer = bytearray()
        self._carrier: asyncio.Transport

    # What asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._carrier = cast(asyncio.Transport, transport)
        lines = [
            "GET /stomp HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self._key.decode()}",
            f"Sec-WebSocket-Protocol: {self._subprotocol}",
        ]
        self._carrier.write("\r\n".join([*lines, "", ""]).encode())
        self._inner.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open and b"\r\n\r\n" in self._buffer:
            self._opened()
        while self._is_open and (frame := self._next()) is not None:
            opcode, payload = frame
            if opcode in (_CONTINUATION, _TEXT, _BINARY):
                self._inner.data_received(payload)
            elif opcode == _CLOSE:
                self._carrier.close()
            else:
                assert opcode != _PING, "the broker pings nobody"

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)

    def _opened(self) -> None:
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        proof = base64.b64encode(hashlib.sha1(self._key + _GUID).digest())
        lines = head.lower().split(b"\r\n")
        assert lines[0].startswith(b"http/1.1 101"), head
        assert b"sec-websocket-accept: " + proof.lower() in lines, head
        assert f"sec-websocket-protocol: {self._subprotocol}".encode() in lines, head
        self._buffer[:] = rest
        self._is_open = True
        for data in self._early:
            self.write(data)

    def _next(self) -> tuple[int, bytes] | None:
        """The next frame that is whole: its opcode and payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        assert not buffer[1] & _MASKED, "a broker masks nothing"
        length, start = buffer[1], 2
        if length >= _LENGTH_IN_2:
            start += 8 if length == _LENGTH_IN_8 else 2
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return opcode, payload

    # What is carried calls --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a text frame; first the handshake has to be over."""
        data = bytes(data)
        if not self._is_open:
            self._early.append(data)
            return
        length = len(data)
        if length < _LENGTH_IN_2:
            told = bytes([_MASKED | length])
        elif length < 1 << 16:
            told = bytes([_MASKED | _LENGTH_IN_2]) + length.to_bytes(2, "big")
        else:
            told = bytes([_MASKED | _LENGTH_IN_8]) + length.to_bytes(8, "big")
        mask = os.urandom(4)
        pad = (mask * (length // 4 + 1))[:length]
        masked = int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")
        frame = bytes([_FINAL | _TEXT]) + told + mask + masked.to_bytes(length, "big")
        self._carrier.write(frame)

    def abort(self) -> None:
        self._carrier.abort()

    def is_closing(self) -> bool:
        return self._carrier.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._carrier.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._carrier.pause_reading()

    def resume_reading(self) -> None:
        self._carrier.resume_reading()

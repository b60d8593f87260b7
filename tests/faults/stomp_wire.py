"""A client of STOMP that shares no code with ours: sockets, and frames by the specifications.

A mistake made on both sides of our own codec cannot hide here what the audit looks for. One call
sends one frame; nothing is retried. What comes is told while its bytes are being parsed, in order:
messages to whoever subscribed, receipts to whoever asked for one.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from .audit import FAIL, INFO, OK
from .stomp_websocket import WebSocket

__all__ = ["Answered", "Frame", "FrameReader", "Gone", "StompWire", "frame_bytes"]

Answered = Callable[[str], None]  # OK, FAIL or INFO

# What a backslash and a letter stand for; 1.0 has no escapes.
_MEANINGS = {"1.0": {}, "1.1": {"\\": "\\", "n": "\n", "c": ":"}}
_MEANINGS["1.2"] = {**_MEANINGS["1.1"], "r": "\r"}
_ESCAPES = {
    version: {meant: f"\\{letter}" for letter, meant in meanings.items()}
    for version, meanings in _MEANINGS.items()
}
_PLAIN = ("CONNECT", "CONNECTED")  # "will not escape", STOMP 1.2 "Value Encoding"


class Gone(Exception):
    """The connection is no more: what was sent may or may not have arrived."""


class Frame(NamedTuple):
    """A frame of the broker."""

    command: str
    headers: dict[str, str]
    body: bytes


def _version_of(command: str, version: str) -> str:
    """By whose rules the headers of a frame are written."""
    return "1.0" if command in _PLAIN else version


def _escaped(text: str, version: str) -> str:
    escapes = _ESCAPES[version]
    return "".join(escapes.get(each, each) for each in text)


def _unescaped(text: str, version: str) -> str:
    if version == "1.0":
        return text
    meanings = _MEANINGS[version]
    first, *parts = text.split("\\")
    out, at = first, 0
    while at < len(parts):
        part = parts[at]
        at += 1
        if part:
            out += meanings[part[0]] + part[1:]
        else:  # two backslashes: what follows them is no escape
            out += "\\" + parts[at]
            at += 1
    return out


def frame_bytes(
    command: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    has_length: bool = True,
    version: str = "1.2",
) -> bytes:
    """A frame as it goes over the wire; ``has_length``: the body's length is told."""
    rules = _version_of(command, version)
    lines = [command]
    for name, value in headers.items():
        lines.append(f"{_escaped(name, rules)}:{_escaped(value, rules)}")
    if body and has_length:
        lines.append(f"content-length:{len(body)}")
    return "\n".join([*lines, "", ""]).encode() + body + b"\0"


class FrameReader:
    """Bytes in, frames out."""

    def __init__(self, version: str = "1.2") -> None:
        self._version = version
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises ValueError or LookupError when it is no STOMP."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        start = len(buffer) - len(buffer.lstrip(b"\r\n"))
        end = buffer.find(b"\n\n", start)
        if end < 0:
            return None
        command, *lines = bytes(buffer[start:end]).decode().split("\n")
        rules = _version_of(command, self._version)
        headers: dict[str, str] = {}
        for line in lines:
            # Only where there are no escapes is a colon in a value one.
            name, value = line.split(":", 1 if rules == "1.0" else -1)
            headers.setdefault(_unescaped(name, rules), _unescaped(value, rules))
        body = end + 2
        if "content-length" in headers:
            after = body + int(headers["content-length"])
            if len(buffer) <= after:
                return None
        else:
            after = buffer.find(0, body)
            if after < 0:
                return None
        if buffer[after]:
            raise ValueError("a body does not end in NUL")
        frame = Frame(command, headers, bytes(buffer[body:after]))
        del buffer[: after + 1]
        return frame


class StompWire(asyncio.Protocol):
    """One connection. ``await StompWire.open(port)``, then its methods.

    Attributes:
        version: that was asked for.
        gone: the connection ended. error: what the broker said before it hung up.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.gone = False
        self.error: Frame | None = None
        self.received = 0
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._reader = FrameReader(version)
        self._next = 1
        self._answers: dict[str, Answered] = {}
        self._messages: dict[str, Callable[[Frame], None]] = {}

    @classmethod
    async def open(
        cls, port: int, client_id: str = "", version: str = "1.2", over: str = "tcp"
    ) -> "StompWire":
        """Connect and greet; ``over`` "tcp" or "websocket". Raises Gone."""
        loop = asyncio.get_running_loop()
        wire = cls(version)
        outer: asyncio.Protocol = wire
        if over == "websocket":
            outer = WebSocket(wire, f"v{version.replace('.', '')}.stomp")
        try:
            await loop.create_connection(lambda: outer, "127.0.0.1", port)
        except OSError as error:
            raise Gone(str(error)) from error
        headers = {} if version == "1.0" else {"accept-version": version, "host": "127.0.0.1"}
        wire.post("CONNECT", headers | ({"client-id": client_id} if client_id else {}))
        try:
            await wire._connected
        except BaseException:
            wire.abort()
            raise
        return wire

    # What asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.gone:
            return
        for frame in self._reader.feed(data):
            self._on_frame(frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _on_frame(self, frame: Frame) -> None:
        if frame.command == "MESSAGE":
            self.received += 1
            self._messages[frame.headers["subscription"]](frame)
        elif frame.command == "RECEIPT":
            self._answers.pop(frame.headers["receipt-id"])(OK)
        elif frame.command == "CONNECTED":
            assert frame.headers["version"] == self.version, frame
            self._connected.set_result(None)
        else:
            self.error = frame
            refused = self._answers.pop(frame.headers.get("receipt-id", ""), None)
            if refused is not None:
                refused(FAIL)

    def _end(self) -> None:
        self.gone = True
        answers, self._answers = self._answers, {}
        for answered in answers.values():
            answered(INFO)
        if not self._connected.done():
            self._connected.set_exception(Gone("before CONNECTED"))
            self._connected.exception()  # it may be that nobody waits for it

    # What clients do --------------------------------------------------------------------------

    def post(
        self,
        command: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        answered: Answered | None = None,
        has_length: bool = True,
    ) -> None:
        """Send a frame; ``answered`` asks for a receipt, and hears what became of it. Gone."""
        if self.gone or self._transport.is_closing():
            raise Gone(command)
        if answered is not None:
            headers = {**headers, "receipt": f"r:{self._next}"}
            self._answers[headers["receipt"]] = answered
            self._next += 1
        self._transport.write(frame_bytes(command, headers, body, has_length, self.version))

    def post_bytes(self, data: bytes) -> None:
        """Send whatever it is."""
        self._transport.write(data)

    async def ask(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame, and wait for its receipt. Raises Gone."""
        answer: asyncio.Future[str] = self._loop.create_future()

        def answered(outcome: str) -> None:
            if not answer.done():
                answer.set_result(outcome)

        self.post(command, headers, body, answered)
        if await answer != OK:
            raise Gone(f"{command}: {self.error}")

    def hear(self, subscription: str, on_message: Callable[[Frame], None]) -> None:
        """Have the messages of a subscription told; to be called before SUBSCRIBE is sent."""
        self._messages[subscription] = on_message

    @property
    def unsent_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def unanswered(self) -> int:
        """How many receipts are awaited."""
        return len(self._answers)

    def pause_reading(self) -> None:
        """Read nothing more, until :meth:`resume_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def abort(self) -> None:
        """End without a word."""
        if not self.gone:
            self._end()
            self._transport.abort()

"""A client of the native protocol that shares no code with ours: sockets and the msgpack library.

Written from PROTOCOL.md alone, so that a mistake made on both sides of our own code cannot hide
what the audit looks for. One call is one request; nothing is retried, nothing is smoothed over.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgpack

__all__ = [
    "ACK",
    "BROKER_INFO",
    "BROWSE",
    "CANCEL",
    "CONSUME",
    "CREDIT",
    "DECLARE_QUEUE",
    "LIST_SCHEDULES",
    "LIST_SESSIONS",
    "NACK",
    "PURGE",
    "QUEUE_INFO",
    "RECEIVE",
    "SCHEDULE",
    "SEND",
    "TRANSACT",
    "Delivered",
    "Gone",
    "Refusal",
    "Wire",
    "pack_frame",
]

HELLO, PING, SEND, RECEIVE, CONSUME, CREDIT, CANCEL, ACK, NACK = 1, 2, 3, 4, 5, 6, 7, 8, 9
BROWSE, SCHEDULE, LIST_SCHEDULES, TRANSACT = 12, 96, 97, 101
PURGE, DECLARE_QUEUE, QUEUE_INFO, BROKER_INFO, LIST_SESSIONS = 13, 16, 19, 24, 30
WELCOME, ERROR, DELIVER = 65, 67, 71

_LENGTH = struct.Struct(">I")
Delivered = Callable[[list[list[Any]], bool], None]


class Gone(Exception):
    """The connection is no more: what was asked for may or may not have happened."""


class Refusal(Exception):
    """The broker answered with an error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def pack_frame(message: Sequence[Any]) -> bytes:
    """A frame as it goes over the wire."""
    payload: bytes = msgpack.packb(message, use_bin_type=True)
    return _LENGTH.pack(len(payload)) + payload


class Wire(asyncio.Protocol):
    """One connection. ``await Wire.open(port)``, then :meth:`call`."""

    def __init__(self) -> None:
        self.welcome: list[Any] = []
        self.gone = False
        self.reason = ""  # what the broker said when it hung up
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._next = 1
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}
        self._listeners: dict[int, Delivered] = {}

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """Connect and greet. Raises Gone."""
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(cls, "127.0.0.1", port)
        except OSError as error:
            raise Gone(str(error)) from None
        try:
            wire.welcome = await wire.call(HELLO, 1, 1, "audit", 60_000)
        except BaseException:  # also when nobody waits any more: who has no wire cannot hang up
            wire.abort()
            raise
        return wire

    # --- what the loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            end = at + 4 + _LENGTH.unpack_from(buffer, at)[0]
            if end > len(buffer):
                break
            self._on_frame(msgpack.unpackb(bytes(buffer[at + 4 : end]), raw=False))
            at = end
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._listeners.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Gone(self.reason or "connection lost"))
        self._answers.clear()

    def _on_frame(self, frame: list[Any]) -> None:
        operation, request = frame[0], frame[1]
        if operation == DELIVER and request in self._listeners:
            if frame[2]:
                self._listeners.pop(request)(frame[3], True)
            else:
                self._listeners[request](frame[3], False)
            return
        if operation == ERROR and request == 0:
            self.reason = f"{frame[2]}: {frame[3]}"
            return
        answer = self._answers.pop(request, None)
        if answer is None or answer.done():
            self._listeners.pop(request, None)  # a consumer that the broker ended
        elif operation == ERROR:
            answer.set_exception(Refusal(frame[2], frame[3]))
        else:
            answer.set_result(frame)

    # --- what the audit calls ---

    def post(self, operation: int, request: int, *fields: Any) -> None:
        """Send a request without waiting for an answer."""
        if not self.gone:
            self._transport.write(pack_frame([operation, request, *fields]))

    def ask(self, operation: int, *fields: Any) -> "asyncio.Future[list[Any]]":
        """Send a request; the future has the reply, Refusal or Gone."""
        request = self._request()
        answer = self._loop.create_future()
        if self.gone:
            answer.set_exception(Gone(self.reason))
        else:
            self._answers[request] = answer
            self.post(operation, request, *fields)
        return answer

    async def call(self, operation: int, *fields: Any) -> list[Any]:
        """Send a request and wait for its reply."""
        return await self.ask(operation, *fields)

    async def receive(
        self, queue: str, most: int, wait_ms: int, lease_ms: int, take: Callable[[list[Any]], None]
    ) -> None:
        """Receive once: ``take`` gets each message while its bytes are being parsed."""
        request = self._request()
        answer = self._loop.create_future()
        if self.gone:
            raise Gone(self.reason)

        def delivered(messages: list[list[Any]], last: bool) -> None:
            for message in messages:
                take(message)
            if last:
                self._answers.pop(request, None)
                if not answer.done():
                    answer.set_result([])

        self._answers[request] = answer
        self._listeners[request] = delivered
        self.post(RECEIVE, request, queue, most, wait_ms, lease_ms)
        try:
            await answer
        finally:
            self._listeners.pop(request, None)

    async def consume(self, queue: str, credit: int, take: Delivered) -> int:
        """Have messages pushed to ``take``; return the consumer's number, for credit and cancel."""
        request = self._request()
        answer = self._loop.create_future()
        if self.gone:
            raise Gone(self.reason)
        self._answers[request] = answer
        self._listeners[request] = take
        self.post(CONSUME, request, queue, credit)
        await answer
        return request

    def _request(self) -> int:
        self._next += 1
        return self._next

    def abort(self) -> None:
        """Hang up without a word."""
        if not self.gone:
            self._transport.abort()

"""The native protocol as the load generator speaks it: little work for each message.

The client library (``connect``) would be measured along with the broker, so the generator has its
own connections. A SEND is built once; each request only writes the request number and the stamps
into it. Answers are looked at, not decoded, as long as they say that all went well: the last byte
of such a SENT or SETTLED is the empty list of errors. One write for each read.
"""

import asyncio
from collections import deque
from typing import Any, Final, cast

import msgspec

from ..protocols.native.frames import VERSION, FrameBuffer, append_frame, decode_reply
from ..protocols.native.operations import (
    OPERATIONS,
    ErrorReply,
    SentReply,
    SettledReply,
    Welcome,
)
from .integrity import STAMP_BYTES, Account, Stamper
from .meter import Meter, Plan

__all__ = ["Connection", "Producer", "Puller", "Pusher", "SendFrame", "request_of"]

_FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
_EMPTY_LIST: Final = 0x90
_REQUEST_PLACE: Final = 0x7FFF  # a number that MessagePack writes in three bytes
_RECEIVE_WAIT_MS: Final = 500
_ACK_REQUEST_FIRST: Final = 2  # a pushed consumer itself is request 1
_REQUEST_MAX: Final = 2**31

_HELLO = OPERATIONS["HELLO"]
_SEND = OPERATIONS["SEND"]
_RECEIVE = OPERATIONS["RECEIVE"]
_CONSUME = OPERATIONS["CONSUME"]
_CREDIT = OPERATIONS["CREDIT"]
_ACK = OPERATIONS["ACK"]
_SENT = OPERATIONS["SENT"]
_SETTLED = OPERATIONS["SETTLED"]
_DELIVER = OPERATIONS["DELIVER"]

_Item = tuple[int, int, int, int, int, bytes, bytes]
_decode_deliver = msgspec.msgpack.Decoder(tuple[int, int, bool, list[_Item]]).decode


def request_of(payload: memoryview) -> int:
    """The request number of a reply."""
    first = payload[2]
    if first < 0x80:
        return first
    size = {0xCC: 1, 0xCD: 2, 0xCE: 4}[first]
    return int.from_bytes(payload[3 : 3 + size], "big")


class SendFrame:
    """A SEND of ``batch`` messages, ready but for the request number and the stamps."""

    def __init__(self, queue: str, payload: bytes, batch: int) -> None:
        body = bytes(STAMP_BYTES) + payload
        message = msgspec.msgpack.encode([body])
        head = bytearray(msgspec.msgpack.encode((_SEND, _REQUEST_PLACE, queue)))
        head[0] += 1  # and the list of messages
        head += msgspec.msgpack.encode([None] * batch)[:-batch]
        size = len(head) + batch * len(message)
        self._frame = bytearray(size.to_bytes(4, "big") + head + message * batch)
        assert self._frame[6] == 0xCD
        first = 4 + len(head) + len(message) - len(body)
        self._stamps = [
            slice(at, at + STAMP_BYTES)
            for at in range(first, first + batch * len(message), len(message))
        ]

    def fill(self, request: int, stamper: Stamper, sequence: int, time_ns: int) -> bytes:
        """The frame for these sequence numbers, from ``sequence`` on."""
        frame = self._frame
        frame[7:9] = request.to_bytes(2, "big")
        for place in self._stamps:
            frame[place] = stamper.stamp(sequence, time_ns)
            sequence += 1
        return bytes(frame)


class Connection(asyncio.Protocol):
    """A connection: shakes hands, then gives each frame to :meth:`on_frame`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self.meter = meter
        self.closing = False
        self.user = ""
        self.password = b""
        self.transport = cast(asyncio.Transport, None)
        self._frames = FrameBuffer(_FRAME_BYTES_MAX)
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = "braidmq-bench"
        self.write((_HELLO, 1, VERSION, VERSION, name, 0, self.user, self.password))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the broker closed the connection"))
        if not self.closing:
            self.meter.problem(f"a connection was lost: {error or 'the broker closed it'}")

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        frames.feed(data)
        now_ns = self.meter.now_ns()
        while (payload := frames.next_frame()) is not None:
            if self._open:
                self.on_frame(payload[1], payload, now_ns)
            else:
                self._greeted(payload)
        self.on_read()

    def _greeted(self, payload: memoryview) -> None:
        reply = decode_reply(payload)
        if isinstance(reply, Welcome):
            self._open = True
            self.ready.set_result(None)
        else:
            text = getattr(reply, "text", str(reply))
            self.ready.set_exception(ConnectionError(f"the broker refused: {text}"))

    def write(self, message: object) -> None:
        """Send one frame now."""
        out = bytearray()
        append_frame(out, message)
        self.transport.write(out)

    def close(self) -> None:
        """Hang up."""
        self.closing = True
        self.transport.close()

    def on_frame(self, operation: int, payload: memoryview, now_ns: int) -> None:
        """A frame came; the view is good until this returns."""
        raise NotImplementedError

    def on_read(self) -> None:
        """All frames of a read were handled."""

    def on_error(self, payload: memoryview) -> tuple[int, str]:
        """An ERROR: which request, and why."""
        reply = decode_reply(payload)
        if isinstance(reply, ErrorReply):
            self.meter.problem(f"{reply.code}: {reply.text}")
            return reply.request, reply.code
        self.meter.problem(f"an answer nobody expected: {type(reply).__name__}")
        return 0, ""


class Producer(Connection):
    """Sends: as soon as an answer comes (closed loop), or when it is told to (open loop)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        meter: Meter,
        plan: Plan,
        account: Account,
        payload: bytes,
    ) -> None:
        super().__init__(loop, meter)
        self._account = account
        self._stamper = Stamper(account.producer, payload)
        self._frame = SendFrame(plan.queue, payload, plan.batch)
        self._batch = plan.batch
        self._idle = list(range(plan.window, 0, -1))  # request numbers
        self._first = [0] * (plan.window + 1)  # by request: its first sequence
        self._sent_ns = [0] * (plan.window + 1)  # ... and when it was sent, or meant to be
        self._held_back: deque[int] = deque()  # open loop: due, but the window is full
        self._closed_loop = not plan.rate
        self._left = -(-plan.messages // (plan.producers * plan.batch)) if plan.messages else -1
        self._out: list[bytes] = []
        self._stopped = False

    @property
    def unanswered(self) -> int:
        """How many requests wait for their answer."""
        return len(self._first) - 1 - len(self._idle)

    def start(self) -> None:
        """Fill the window (closed loop)."""
        if self._closed_loop:
            now_ns = self.meter.now_ns()
            while self._idle and self._left:
                self._send(self._idle.pop(), now_ns)
            self.on_read()

    def due(self, intended_ns: int) -> None:
        """A request should have been sent at ``intended_ns``; :meth:`on_read` writes it."""
        if self._idle and self._left:
            self._send(self._idle.pop(), intended_ns)
        else:
            self._held_back.append(intended_ns)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        self._held_back.clear()

    def give_up(self) -> None:
        """Nobody knows any more what becomes of requests that were not answered."""
        waiting = set(range(1, len(self._first))) - set(self._idle)
        for request in waiting:
            first = self._first[request]
            self._account.unsure.update(range(first, first + self._batch))

    def _send(self, request: int, time_ns: int) -> None:
        account = self._account
        sequence = account.sent
        account.sent = sequence + self._batch
        self._first[request] = sequence
        self._sent_ns[request] = time_ns
        self._left -= 1
        self._out.append(self._frame.fill(request, self._stamper, sequence, time_ns))

    def on_frame(self, operation: int, payload: memoryview, now_ns: int) -> None:
        refused: list[int] = []
        if operation == _SENT:
            request = request_of(payload)
            if payload[-1] != _EMPTY_LIST:
                reply = cast(SentReply, decode_reply(payload))
                refused = [error.index for error in reply.errors]
                if reply.errors:
                    self.meter.problem(f"{reply.errors[0].code}: {reply.errors[0].text}")
        else:
            request, _ = self.on_error(payload)
            if not request:
                return
            refused = list(range(self._batch))
        if refused:
            first = self._first[request]
            self._account.unsure.update(first + index for index in refused)
            self.meter.refused += len(refused)
        accepted = self._batch - len(refused)
        if accepted:
            self.meter.confirm(self._account, accepted, now_ns - self._sent_ns[request])
        if self._stopped or not self._left:
            self._idle.append(request)
        elif self._held_back:
            self._send(request, self._held_back.popleft())
        elif self._closed_loop:
            self._send(request, now_ns)
        else:
            self._idle.append(request)

    def on_read(self) -> None:
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()


class Pusher(Connection):
    """A consumer that gets messages pushed, and acknowledges them in batches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter, plan: Plan) -> None:
        super().__init__(loop, meter)
        self._queue = plan.queue
        self._credit = plan.credit
        self._ack_batch = plan.ack_batch
        self._acks: dict[int, tuple[int, int]] = {}  # request -> (when, how many)
        self._next_request = _ACK_REQUEST_FIRST
        self._used = 0  # credit to be given again
        self._out = bytearray()

    def start(self) -> None:
        """Ask for messages."""
        self.write((_CONSUME, 1, self._queue, self._credit))

    def on_frame(self, operation: int, payload: memoryview, now_ns: int) -> None:
        if operation == _DELIVER:
            self._take(_decode_deliver(payload)[3], now_ns)
        elif operation == _SETTLED:
            sent_ns, count = self._acks.pop(request_of(payload))
            self._used += count
            count -= _failures(self.meter, payload)
            self.meter.settle(count, now_ns, now_ns - sent_ns)
        elif operation != OPERATIONS["DONE"]:
            self.on_error(payload)

    def _take(self, items: list[_Item], now_ns: int) -> None:
        deliver = self.meter.deliver
        for item in items:
            deliver(item[6], now_ns)
        receipts = [item[:2] for item in items]
        step = self._ack_batch or len(receipts) or 1
        for at in range(0, len(receipts), step):
            chunk = receipts[at : at + step]
            request = self._next_request
            self._next_request = request + 1 if request < _REQUEST_MAX else _ACK_REQUEST_FIRST
            self._acks[request] = (now_ns, len(chunk))
            append_frame(self._out, (_ACK, request, self._queue, chunk))

    def on_read(self) -> None:
        if self._used:
            append_frame(self._out, (_CREDIT, 1, self._used))
            self._used = 0
        if self._out:
            self.transport.write(self._out)
            self._out = bytearray()


class Puller(Connection):
    """A consumer that asks for each batch: RECEIVE, ACK, and again; ``window`` at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter, plan: Plan) -> None:
        super().__init__(loop, meter)
        self._queue = plan.queue
        self._batch = plan.batch
        self._window = plan.window
        self._acks: dict[int, tuple[int, int]] = {}
        self._parts: dict[int, list[Any]] = {}
        self._out = bytearray()

    def start(self) -> None:
        """Ask for messages. A RECEIVE has an odd number, its ACK the even one after it."""
        for slot in range(self._window):
            self._receive(2 * slot + 1)
        self.on_read()

    def _receive(self, request: int) -> None:
        fields = (_RECEIVE, request, self._queue, self._batch, _RECEIVE_WAIT_MS)
        append_frame(self._out, fields)

    def on_frame(self, operation: int, payload: memoryview, now_ns: int) -> None:
        if operation == _DELIVER:
            _, request, last, items = _decode_deliver(payload)
            for item in items:
                self.meter.deliver(item[6], now_ns)
            receipts = self._parts.pop(request, []) + [item[:2] for item in items]
            if not last:
                self._parts[request] = receipts
            elif receipts:
                self._acks[request + 1] = (now_ns, len(receipts))
                append_frame(self._out, (_ACK, request + 1, self._queue, receipts))
            else:
                self._receive(request)
        elif operation == _SETTLED:
            request = request_of(payload)
            sent_ns, count = self._acks.pop(request)
            count -= _failures(self.meter, payload)
            self.meter.settle(count, now_ns, now_ns - sent_ns)
            self._receive(request - 1)
        else:
            self.on_error(payload)

    def on_read(self) -> None:
        if self._out and not self.closing:
            self.transport.write(self._out)
            self._out = bytearray()


def _failures(meter: Meter, payload: memoryview) -> int:
    """How many items of a SETTLED failed."""
    if payload[-1] == _EMPTY_LIST:
        return 0
    reply = cast(SettledReply, decode_reply(payload))
    for error in reply.errors[:1]:
        meter.problem(f"{error.code}: {error.text}")
    return len(reply.errors)

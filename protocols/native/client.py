"""The native client: ``connect("braid://host:7450")`` gives what ``Broker`` gives, over a wire.

Rules:

1. Calls are pipelined: each has a request number, all written in one loop turn go out in one write.
2. When the connection is lost, every call under way raises Disconnected: it may have happened. Only
   reads are asked again. Whoever sends to a FIFO queue with a ``dedup_id`` may safely repeat it.
3. A lost connection is made again, after a pause that grows and is never quite the same. Calls wait
   for it up to ``timeout``. Consumers resume on it; what they held went back to the queue when the
   old one ended, so acknowledging that raises LeaseLost.
4. A receive that is cancelled is cancelled at the broker too; messages that were already under way
   are given back uncounted.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ...broker.errors import BraidError, Disconnected, InvalidArgument, error_from_code
from ...broker.face import BrokerFace
from ...broker.lease import Exclusivity
from ...broker.limits import Limits
from ...broker.message import Browsed, Delivery, Outgoing, Receipt, Sent
from ...broker.settings import QueueSettings
from ...broker.verbs import BrokerInfo, Consumption, QueueInfo, RedriveInfo, Verbs
from . import operations as op
from .batches import (
    limits_told,
    message_fields,
    note_sent,
    settled,
    split_messages,
    split_receipts,
)
from .consumption import RemoteConsumption, RemoteFlow
from .frames import VERSION, FrameBuffer, Malformed, Refused, append_frame, decode_reply
from .scheduleclient import ScheduleCalls
from .stream_operations import ChunkReply, GroupEventReply
from .streamclient import StreamCalls
from .topicclient import TopicCalls
from .transactionclient import TransactionCalls
from .webhookclient import WebhookCalls

__all__ = ["NativeClient", "RemoteBroker", "connect"]

PORT = 7450
_O = op.OPERATIONS
_READS_REPEATED = 3
_PAUSE_SECONDS_FIRST = 0.05
_PAUSE_SECONDS_MAX = 5.0
_CLIENT_NAME = "braidmq-python"
_FRAME_BYTES_MAX = 64 * 1024 * 1024  # we trust the broker that we chose, within reason


class _Wire(asyncio.Protocol):
    """One connection: requests out, replies to whom they belong."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        self.on_lost: Callable[[], object] = bool
        self.error: BraidError | None = None  # what the broker said at the end
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.consumers: dict[int, RemoteFlow[Any]] = {}
        self.writable = asyncio.Event()
        self.writable.set()
        self._parts: dict[int, list[Any]] = {}  # of answers in several frames
        self._abandoned: dict[int, str] = {}  # cancelled receives: their queue
        self._cancels: dict[int, int] = {}  # CANCEL requests: what they end
        self._frames = FrameBuffer(_FRAME_BYTES_MAX)
        self._out = bytearray()
        self._last_request = 0
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._timer: asyncio.TimerHandle | None = None
        self._half_seconds = 0.0
        self._heard = True
        self._sent = True
        self._silent = 0

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._frames.feed(data)
        try:
            while (payload := self._frames.next_frame()) is not None:
                try:
                    self._take(decode_reply(payload))
                except Refused:
                    continue  # a reply of a later version
        except Malformed as malformed:
            self.error = Disconnected(f"the broker sent what is no frame: {malformed}")
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        reason = self.error or Disconnected(f"the connection is gone: {error or 'it was closed'}")
        self.error = reason
        pending, self.pending = self.pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(_again(reason))
        consumers, self.consumers = self.consumers, {}
        for consumption in consumers.values():
            consumption.detach()
        self.writable.set()
        self.lost.set_result(None)
        self.on_lost()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # --- requests ---

    def new_request(self) -> int:
        request = self._last_request
        while True:
            request = request % 0xFFFF_FFFF + 1
            if request not in self.pending and request not in self.consumers:
                self._last_request = request
                return request

    def send(self, message: object) -> None:
        """Have a frame written when the loop turn is over."""
        if not self._out:
            self.loop.call_soon(self._flush)
        append_frame(self._out, message)

    def call(self, operation: int, *fields: object) -> "asyncio.Future[Any]":
        """Send a request; what is returned gets the reply."""
        request = self.new_request()
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.lost.done():
            future.set_exception(_again(self.error))
            return future
        self.pending[request] = future
        self.send((operation, request, *fields))
        return future

    async def receive(self, queue: str, *fields: object) -> list[Delivery]:
        """A RECEIVE, which leaves nothing held when it is cancelled."""
        future = self.call(_O["RECEIVE"], queue, *fields)
        request = self._last_request
        try:
            found: list[Delivery] = await future
            return found
        except asyncio.CancelledError:
            if self.lost.done():
                pass
            elif future.cancelled():
                self.pending.pop(request, None)
                self._give_back(queue, self._parts.pop(request, []))
                self._abandoned[request] = queue
                cancel = self.new_request()
                self._cancels[cancel] = request
                self.send((_O["CANCEL"], cancel, request, []))
            elif future.exception() is None:
                self._give_back(queue, future.result())
            raise

    async def poll(self, operation: int, *fields: object) -> Any:
        """A call that may wait at the broker, which is told when nobody waits any more."""
        future = self.call(operation, *fields)
        request = self._last_request
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled() and not self.lost.done():
                self.pending.pop(request, None)
                self.send((_O["CANCEL"], self.new_request(), request, []))
            raise

    def heartbeat(self, heartbeat_ms: int) -> None:
        """Be heard, and expect to hear, at least so often."""
        self._half_seconds = heartbeat_ms / 2000
        self._timer = self.loop.call_later(self._half_seconds, self._beat)

    def close(self) -> None:
        """Write what there is, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        out = self._out
        if out and not self._transport.is_closing():
            self._sent = True
            self._transport.write(out)
        self._out = bytearray()

    def _beat(self) -> None:
        self._silent = 0 if self._heard else self._silent + 1
        if self._silent >= 4:
            self.error = Disconnected("the broker is silent")
            self._transport.abort()
            return
        if not self._sent or self._silent:
            self.send((_O["PING"], self.new_request()))
            self._flush()
        self._heard = self._sent = False
        self._timer = self.loop.call_later(self._half_seconds, self._beat)

    # --- replies ---

    def _take(self, reply: op.Reply) -> None:
        request = reply.request
        if isinstance(reply, op.Deliver | op.BrowsedReply):
            self._take_messages(reply)
        elif isinstance(reply, op.Event | ChunkReply | GroupEventReply) and (
            flow := self.consumers.get(request)
        ):
            flow.take(reply)
        elif isinstance(reply, op.ErrorReply):
            error = error_from_code(reply.code, reply.text)
            future = self.pending.pop(request, None)
            consumption = self.consumers.pop(request, None)
            if request == 0:
                self.error = error
            if future is not None and not future.done():
                future.set_exception(error)
            elif consumption is not None:
                consumption.end(error)
        else:
            future = self.pending.pop(request, None)
            if future is not None:
                if not future.done():
                    future.set_result(reply)
            elif request in self._cancels:
                self._abandoned.pop(self._cancels.pop(request), None)

    def _take_messages(self, reply: op.Deliver | op.BrowsedReply) -> None:
        request = reply.request
        messages: list[Any] = reply.messages
        consumption = self.consumers.get(request)
        if consumption is not None:
            consumption.put(messages)
        elif request in self._abandoned:
            self._give_back(self._abandoned[request], messages)
        elif not reply.last:
            self._parts.setdefault(request, []).extend(messages)
        else:
            if request in self._parts:
                messages = self._parts.pop(request) + messages
            future = self.pending.pop(request, None)
            if future is not None and not future.done():
                future.set_result(messages)

    def _give_back(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            receipts = [delivery.receipt for delivery in deliveries]
            self.send((_O["NACK"], self.new_request(), queue, receipts, 0, False))


def _again(error: BraidError | None) -> BraidError:
    """What a call that was under way raises when the connection ends with ``error``."""
    if isinstance(error, Disconnected):
        return Disconnected(str(error))
    return Disconnected(f"the broker closed the connection: {error}")


class NativeClient(ScheduleCalls, TopicCalls, WebhookCalls, StreamCalls, TransactionCalls):
    """``Verbs`` over ``braid://``, on a connection that is made again when it is lost."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None, timeout: float, heartbeat: float, resume: bool
    ) -> None:
        try:
            parts = urlsplit(url)
            self._port = PORT if parts.port is None else parts.port
        except ValueError as error:
            raise InvalidArgument(f"{url}: {error}") from None
        if parts.scheme not in ("braid", "braids") or not parts.hostname:
            raise InvalidArgument("expected a URL like braid://host:7450 or braids://host:7450")
        self._host = parts.hostname
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "braids":
            self._tls = tls or ssl.create_default_context()
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "").encode()
        self._timeout = timeout
        self._heartbeat_ms = round(heartbeat * 1000)
        self.resumes = resume
        self.loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self.where = f"{parts.scheme}://{self._host}:{self._port}"
        self.welcome: op.Welcome | None = None
        self.limits = Limits()
        self._wire: _Wire | None = None
        self._ready = asyncio.Event()
        self._last_error: BaseException | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.flows: dict[RemoteFlow[Any], None] = {}

    # --- the connection ---

    async def open(self) -> None:
        """Connect once. Raises Disconnected, Unauthenticated."""
        self.loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise Disconnected(f"cannot connect to {self.where}: {reason}") from error
        self._keeper = self.loop.create_task(self._keep_connected())

    async def close(self) -> None:
        """Close; calls under way raise Disconnected."""
        self.resumes = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._ready.set()
        wire = self._wire
        if wire is not None:
            wire.close()
            await asyncio.wait([wire.lost], timeout=1)
        for consumption in list(self.flows):
            consumption.end(Disconnected("the client was closed"))

    async def _connect(self) -> None:
        loop = self.loop
        wire: _Wire | None = None
        try:
            async with asyncio.timeout(self._timeout):
                _, wire = await loop.create_connection(
                    lambda: _Wire(loop), self._host, self._port, ssl=self._tls
                )
                welcome = await wire.call(
                    _O["HELLO"],
                    VERSION,
                    VERSION,
                    _CLIENT_NAME,
                    self._heartbeat_ms,
                    self._user,
                    self._password,
                )
        except BaseException as error:
            if wire is not None:
                wire.close()
                if isinstance(error, Disconnected) and wire.error is not None:
                    raise wire.error from None
            raise
        if not isinstance(welcome, op.Welcome):
            wire.close()
            raise Disconnected(f"{self.where} does not speak this protocol")
        self._adopt(wire, welcome)

    def _adopt(self, wire: _Wire, welcome: op.Welcome) -> None:
        self.welcome = welcome
        self.limits = limits_told(welcome)
        wire.heartbeat(welcome.heartbeat_ms)
        wire.on_lost = self._ready.clear
        self._wire = wire
        for consumption in self.flows:
            consumption.attach(wire)
        self._ready.set()

    async def _keep_connected(self) -> None:
        while self._wire is not None:
            await asyncio.wait([self._wire.lost])
            self._last_error = self._wire.error
            if not self.resumes:
                return
            self._wire = None
            pause = _PAUSE_SECONDS_FIRST
            while self._wire is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _PAUSE_SECONDS_MAX)
                try:
                    await self._connect()
                except (OSError, TimeoutError, BraidError) as error:
                    self._last_error = error

    async def connected(self) -> _Wire:
        """The connection, once it is there and takes more."""
        if not self._ready.is_set() and self.resumes:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._ready.wait()
        wire = self._wire
        if wire is None or wire.lost.done():
            raise Disconnected(f"no connection to {self.where}: {self._last_error}")
        if not wire.writable.is_set():
            await wire.writable.wait()
        return wire

    def forget(self, consumption: RemoteFlow[Any]) -> None:
        """A consumer has ended."""
        self.flows.pop(consumption, None)

    async def call(self, operation: str, *fields: object) -> Any:
        wire = await self.connected()
        return await wire.call(_O[operation], *fields)

    async def read(self, operation: str, *fields: object) -> Any:
        """A call that changes nothing, and may be asked again."""
        for _ in range(_READS_REPEATED - 1):
            try:
                return await self.call(operation, *fields)
            except Disconnected:
                if not self.resumes:
                    raise
        return await self.call(operation, *fields)

    async def _settle(
        self, operation: str, queue: str, receipts: Sequence[Receipt], *fields: object
    ) -> list[BraidError | None]:
        results: list[BraidError | None] = []
        for part in split_receipts(receipts):
            results += settled(len(part), await self.call(operation, queue, part, *fields))
        return results

    # --- the verbs ---

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> list[Sent | BraidError]:
        wire = await self.connected()
        batches, results = split_messages(messages, self.limits)
        calls = [
            wire.call(_O["SEND"], queue, [message_fields(messages[index]) for index in batch])
            for batch in batches
        ]
        replies = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        for batch, reply in zip(batches, replies, strict=True):
            note_sent(results, batch, reply)
        return cast(list[Sent | BraidError], results)

    async def receive(
        self,
        queue: str,
        max_messages: int,
        wait_ms: int,
        lease_ms: int = 0,
        selector: str = "",
        attempt: str = "",
    ) -> list[Delivery]:
        wire = await self.connected()
        return await wire.receive(queue, max_messages, wait_ms, lease_ms, selector, attempt)

    async def consume(
        self,
        queue: str,
        credit: int,
        selector: str = "",
        priority: int = 0,
        exclusive: Exclusivity = Exclusivity.SHARED,
    ) -> Consumption:
        wire = await self.connected()
        consumption = RemoteConsumption(self, queue, credit, selector, priority, exclusive)
        self.flows[consumption] = None
        consumption.attach(wire)
        try:
            await asyncio.shield(consumption.opened)
        except BaseException:
            consumption.abandon()
            raise
        return consumption

    async def ack(self, queue: str, receipts: Sequence[Receipt]) -> list[BraidError | None]:
        return await self._settle("ACK", queue, receipts)

    async def nack(
        self, queue: str, receipts: Sequence[Receipt], delay_ms: int = 0, counted: bool = True
    ) -> list[BraidError | None]:
        return await self._settle("NACK", queue, receipts, delay_ms, counted)

    async def extend(
        self, queue: str, receipts: Sequence[Receipt], lease_ms: int
    ) -> list[BraidError | None]:
        return await self._settle("EXTEND", queue, receipts, lease_ms)

    async def dead_letter(
        self, queue: str, receipts: Sequence[Receipt], reason: str
    ) -> list[BraidError | None]:
        return await self._settle("DEAD_LETTER", queue, receipts, reason)

    async def declare_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        return _one(await self.call("DECLARE_QUEUE", name, settings))

    async def update_queue(self, name: str, changes: dict[str, Any]) -> QueueInfo:
        return _one(await self.call("UPDATE_QUEUE", name, changes))

    async def delete_queue(self, name: str, if_empty: bool = False) -> None:
        await self.call("DELETE_QUEUE", name, if_empty)

    async def queue_info(self, name: str) -> QueueInfo:
        return _one(await self.read("QUEUE_INFO", name))

    async def list_queues(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[QueueInfo]:
        found: list[QueueInfo] = (await self.read("LIST_QUEUES", prefix, after, limit)).queues
        return found

    async def purge(self, queue: str) -> int:
        count: int = (await self.call("PURGE", queue)).count
        return count

    async def browse(
        self, queue: str, after: int = 0, limit: int = 100, selector: str = "", state: str = "all"
    ) -> list[Browsed]:
        page: list[Browsed] = await self.read("BROWSE", queue, after, limit, selector, state)
        return page

    async def redrive(
        self, source: str, target: str = "", rate: float = 0, limit: int = 0
    ) -> RedriveInfo:
        reply = await self.call("REDRIVE", source, target, rate, limit)
        info: RedriveInfo = reply.redrives[0]
        return info

    async def list_redrives(self) -> list[RedriveInfo]:
        found: list[RedriveInfo] = (await self.read("LIST_REDRIVES")).redrives
        return found

    async def cancel_redrive(self, id: int) -> RedriveInfo:
        info: RedriveInfo = (await self.call("CANCEL_REDRIVE", id)).redrives[0]
        return info

    async def broker_info(self) -> BrokerInfo:
        info: BrokerInfo = (await self.read("BROKER_INFO")).broker
        return info


def _one(reply: op.QueuesReply) -> QueueInfo:
    return reply.queues[0]


class RemoteBroker(BrokerFace):
    """A broker at the other end of a connection: what :func:`connect` returns."""

    def __init__(self, client: NativeClient) -> None:
        self._client = client

    @property
    def verbs(self) -> Verbs:
        """The verbs, over the connection."""
        return self._client

    @property
    def instance(self) -> int:
        """Half of every message's id: which log it is in."""
        if self._client.welcome is None:
            raise Disconnected("not connected: use `async with connect(...) as broker`")
        return self._client.welcome.instance

    @property
    def limits(self) -> Limits:
        """The broker's limits, as far as it told them."""
        return self._client.limits

    async def __aenter__(self) -> "RemoteBroker":
        await self._client.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close_inbox()
        finally:
            await self._client.close()


def connect(
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float = 10.0,
    heartbeat: float = 30.0,
    resume: bool = True,
) -> RemoteBroker:
    """A broker elsewhere: ``async with connect("braid://user:password@host:7450") as broker: ...``

    Args:
        url: ``braid://``, or ``braids://`` for TLS.
        tls: what to trust, for ``braids://``; None: what the system trusts.
        timeout: seconds to connect, and that a call waits for a lost connection to come back.
        heartbeat: seconds after which a silent peer is asked; after two of them it is given up.
        resume: whether a lost connection is made again.

    Entering raises Disconnected when nobody answers, Unauthenticated, InvalidArgument.
    """
    return RemoteBroker(NativeClient(url, tls, timeout, heartbeat, resume))

"""The objects people use: queues and messages, the same in process and over the wire.

Built on nothing but ``Verbs``, so that ``Broker`` (``runtime.py``) and ``connect()``
(``protocols/native/client.py``) cannot differ. Rules:

1. Times are seconds (int or float) or ``timedelta``. Bodies are bytes. Sizes and counts are checked
   by the broker, which knows its limits.
2. What was received is held until it is settled, its lease runs out, or its consumer ends.
3. A cancelled call leaves nothing held: what it would have returned goes back uncounted.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, TypeVar, Unpack, overload

from .errors import BraidError, InvalidArgument, LeaseLost
from .limits import Limits
from .message import (
    GROUP_ID,
    PRIORITY_DEFAULT,
    Delivery,
    HeaderMap,
    Headers,
    Outgoing,
    Receipt,
    Sent,
    pack_headers,
    unpack_headers,
)
from .settings import settings_from
from .values import (
    BrowsedMessage,
    NewMessage,
    QueueChanges,
    QueueOptions,
    Seconds,
    SentMessage,
    StateName,
    message_id,
    milliseconds,
    moment,
    setting_values,
)
from .verbs import BrokerInfo, Consumption, QueueInfo, RedriveInfo, Verbs

__all__ = ["BrokerFace", "Message", "MessageConsumer", "Queue", "finish"]

_CHUNK_MESSAGES = 1_000  # send_many sends so many at a time
_CHUNK_BYTES = 1024 * 1024
_WAIT_MS = 20_000  # a longer receive is several
_PAGE_MESSAGES = 100
_PAGE_QUEUES = 1_000
_REDRIVE_LOOK_SECONDS = 0.25

_T = TypeVar("_T")


async def finish(task: "asyncio.Task[_T]") -> _T:
    """Wait for the end of ``task`` even when cancelled meanwhile; then be cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()


class Message:
    """A received message: yours until you settle it, or until its lease ends.

    ``async with message:`` acknowledges it at the end, and gives it back when the block raises or
    is cancelled.

    Attributes:
        body: the bytes that were sent. sequence: its number in the queue.
        receives: how often it was received, this time included.
        settled: whether it was acknowledged, given back or dead-lettered here.
    """

    __slots__ = ("_consumer", "_delivery", "_headers", "_queue", "settled")

    def __init__(
        self, queue: "Queue", delivery: Delivery, consumer: "MessageConsumer | None" = None
    ) -> None:
        self._queue = queue
        self._delivery = delivery
        self._consumer = consumer
        self._headers: Headers | None = None
        self.settled = False

    def __repr__(self) -> str:
        return f"<Message {self.sequence} of {self._queue.name}, {len(self.body)} bytes>"

    @property
    def body(self) -> bytes:
        return self._delivery.body

    @property
    def sequence(self) -> int:
        return self._delivery.seq

    @property
    def receives(self) -> int:
        return self._delivery.receives

    @property
    def id(self) -> str:
        """32 hex digits, unique in the whole world; kept through every hop."""
        return message_id(self._queue.broker.instance, self._delivery.id)

    @property
    def headers(self) -> Headers:
        """The header map: text or bytes by name."""
        if self._headers is None:
            self._headers = unpack_headers(self._delivery.attributes)
        return self._headers

    @property
    def group(self) -> str:
        """The message group of a FIFO queue, "" for none."""
        return str(self.headers.get(GROUP_ID, ""))

    @property
    def sent_at(self) -> datetime:
        """When the broker took it, UTC."""
        return moment(self._delivery.time_ms)

    @property
    def receipt(self) -> Receipt:
        """What proves that the message is held here."""
        return self._delivery.receipt

    async def ack(self) -> None:
        """Done with it: it is never delivered again. Raises LeaseLost if it is not yours."""
        verbs = self._queue.broker.verbs
        self._settle(await verbs.ack(self._queue.name, [self.receipt]))

    async def nack(self, delay: Seconds = 0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds. Raises LeaseLost."""
        delay_ms = milliseconds(delay, "delay")
        verbs = self._queue.broker.verbs
        self._settle(await verbs.nack(self._queue.name, [self.receipt], delay_ms))

    async def dead_letter(self, reason: str = "") -> None:
        """Move it to the queue's dead-letter queue now. Raises LeaseLost, or InvalidArgument."""
        verbs = self._queue.broker.verbs
        self._settle(await verbs.dead_letter(self._queue.name, [self.receipt], reason))

    async def extend(self, lease: Seconds) -> None:
        """Hold it for ``lease`` seconds from now on. Raises LeaseLost."""
        lease_ms = milliseconds(lease, "lease")
        verbs = self._queue.broker.verbs
        (error,) = await verbs.extend(self._queue.name, [self.receipt], lease_ms)
        if error is not None:
            raise error

    def _settle(self, results: list[BraidError | None]) -> None:
        (error,) = results
        if error is None or isinstance(error, LeaseLost):
            if not self.settled:
                self.settled = True
                if self._consumer is not None:
                    self._consumer.one_settled()
        if error is not None:
            raise error

    async def __aenter__(self) -> "Message":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.settled:
            return
        if error is None:
            await self.ack()
            return
        try:
            await finish(asyncio.ensure_future(self.nack()))
        except BraidError as failure:
            error.add_note(f"and the message could not be given back: {failure}")


class MessageConsumer:
    """Messages as they come: ``async for message in queue.consume(): ...``

    At most ``prefetch`` messages are held at a time; each settled one makes room for another. They
    are held as long as this lives: when the loop ends by ``break``, an exception or cancellation,
    everything unsettled goes back to the queue, what was not handed out yet without counting as
    received. Over a connection it resumes by itself when that comes back.

    Use ``async with queue.consume() as messages: async for message in messages: ...`` to decide the
    moment of the end.
    """

    def __init__(self, queue: "Queue", prefetch: int, where: str) -> None:
        if prefetch < 1:
            raise InvalidArgument("prefetch is at least 1")
        self._queue = queue
        self._prefetch = prefetch
        self._where = where
        self._consumption: Consumption | None = None
        self._ready: list[Delivery] = []  # the next one is the last
        self._settled = 0
        self._closed = False
        self._managed = False
        self._closing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> "MessageConsumer":
        self._managed = True
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        task = None if self._managed else asyncio.current_task()
        try:
            if task is not None:
                # An exception leaves this generator where it is until it is collected, which a
                # task that keeps its exception may put off for ever.
                task.add_done_callback(self._on_task_done)
            consumption = await self._open()
            while not self._closed:
                if not self._ready:
                    self._ready = (await consumption.next())[::-1]
                    continue
                yield Message(self._queue, self._ready.pop(), self)
        finally:
            if task is not None:
                task.remove_done_callback(self._on_task_done)
                await self.close()

    def _on_task_done(self, task: "asyncio.Task[object]") -> None:
        self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """Give everything back that is not settled. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        consumption = self._consumption
        if consumption is not None:
            receipts = [delivery.receipt for delivery in self._ready]
            self._ready = []
            await finish(asyncio.ensure_future(consumption.close(receipts)))

    async def _open(self) -> Consumption:
        if self._closed:
            raise InvalidArgument("this consumer was closed")
        if self._consumption is None:
            verbs = self._queue.broker.verbs
            opening = asyncio.ensure_future(
                verbs.consume(self._queue.name, self._prefetch, self._where)
            )
            try:
                self._consumption = await finish(opening)
            except asyncio.CancelledError:
                if opening.exception() is None:
                    await finish(asyncio.ensure_future(opening.result().close()))
                raise
        return self._consumption

    def one_settled(self) -> None:
        """Make room for another message, some at a time."""
        self._settled += 1
        if self._settled * 4 >= self._prefetch and not self._closed:
            assert self._consumption is not None
            self._consumption.credit(self._settled)
            self._settled = 0


class Queue:
    """A queue by its name. Making one asks nobody; a missing queue shows when it is used."""

    __slots__ = ("broker", "name")

    def __init__(self, broker: "BrokerFace", name: str) -> None:
        self.broker = broker
        self.name = name

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    # --- sending ---

    async def send(
        self,
        body: bytes,
        *,
        headers: HeaderMap | None = None,
        delay: Seconds | None = None,
        ttl: Seconds = 0,
        priority: int = PRIORITY_DEFAULT,
        group: str = "",
        dedup_id: str = "",
    ) -> SentMessage:
        """Send one message; returns when it is as durable as the queue promises.

        Args:
            headers: text names, text or bytes values.
            delay: seconds before it can be received; None: as the queue is set.
            ttl: seconds after which it expires; 0: as the queue is set.
            priority: 0 to 9, higher first.
            group: FIFO: messages of one group are delivered in order, one batch at a time.
            dedup_id: FIFO: a second one with the same id within 5 minutes is not taken.

        Raises:
            NotFound, QueueFull, TooLarge, InvalidArgument, PermissionDenied: it was not taken.
            StorageFull, Overloaded: not taken; trying again later can succeed.
            Disconnected: it may or may not have been taken.
        """
        message = NewMessage(
            body=body,
            headers=headers or {},
            delay=delay,
            ttl=ttl,
            priority=priority,
            group=group,
            dedup_id=dedup_id,
        )
        (result,) = await self.broker.verbs.send(self.name, [self._outgoing(message)])
        return self._sent(result)

    @overload
    async def send_many(self, messages: Iterable[bytes | NewMessage]) -> list[SentMessage]: ...

    @overload
    async def send_many(
        self, messages: Iterable[bytes | NewMessage], *, return_errors: Literal[True]
    ) -> list[SentMessage | BraidError]: ...

    async def send_many(
        self, messages: Iterable[bytes | NewMessage], *, return_errors: bool = False
    ) -> list[SentMessage] | list[SentMessage | BraidError]:
        """Send messages in order, in few commits; one result for each, in order.

        If some are refused, the others are sent all the same, and the first refusal is raised, or
        with ``return_errors`` stands in its place in the list. Raises as :meth:`send` does.
        """
        chunks: list[list[Outgoing]] = [[]]
        size = 0
        for message in messages:
            if isinstance(message, bytes):
                outgoing = Outgoing(message)
            elif isinstance(message, NewMessage):
                outgoing = self._outgoing(message)
            else:
                raise InvalidArgument(f"a body is bytes, not {type(message).__name__}")
            size += len(outgoing.body)
            if len(chunks[-1]) >= _CHUNK_MESSAGES or (size > _CHUNK_BYTES and chunks[-1]):
                chunks.append([])
                size = len(outgoing.body)
            chunks[-1].append(outgoing)
        results: list[SentMessage | BraidError] = []
        for chunk in chunks:
            for each in await self.broker.verbs.send(self.name, chunk) if chunk else ():
                results.append(each if isinstance(each, BraidError) else self._sent(each))
        refused = [result for result in results if isinstance(result, BraidError)]
        if refused and not return_errors:
            refused[0].add_note(f"{len(refused)} of {len(results)} messages were refused")
            raise refused[0]
        return results

    def _outgoing(self, message: NewMessage) -> Outgoing:
        if not isinstance(message.body, bytes):
            raise InvalidArgument(f"a body is bytes, not {type(message.body).__name__}")
        return Outgoing(
            message.body,
            pack_headers(message.headers, self.broker.limits),
            -1 if message.delay is None else milliseconds(message.delay, "delay"),
            milliseconds(message.ttl, "ttl"),
            message.priority,
            message.group,
            message.dedup_id,
        )

    def _sent(self, result: Sent | BraidError) -> SentMessage:
        if isinstance(result, BraidError):
            raise result
        return SentMessage(self.broker.instance, result.id, result.seq, result.duplicate)

    # --- receiving ---

    async def receive(
        self,
        max: int = 1,
        wait: Seconds = 0,
        lease: Seconds | None = None,
        where: str = "",
        attempt: str = "",
    ) -> list[Message]:
        """Take up to ``max`` messages, waiting up to ``wait`` seconds for the first.

        Args:
            lease: seconds they are yours; None: the queue's visibility timeout.
            where: a selector on headers, such as ``tenant = 'a' AND total > 100``.
            attempt: FIFO: repeating a receive with the same id returns the same messages.

        Raises NotFound, InvalidArgument, PermissionDenied, InFlightFull, Disconnected.
        """
        lease_ms = 0 if lease is None else milliseconds(lease, "lease")
        if lease is not None and not lease_ms:
            raise InvalidArgument("lease is more than 0")
        wait_ms = milliseconds(wait, "wait")
        end = time.monotonic() + wait_ms / 1000
        verbs = self.broker.verbs
        while True:
            now_ms = min(wait_ms, _WAIT_MS, self.broker.limits.receive_wait_ms_max)
            found = await verbs.receive(self.name, max, now_ms, lease_ms, where, attempt)
            wait_ms = round((end - time.monotonic()) * 1000)
            if found or wait_ms <= 0:
                return [Message(self, delivery) for delivery in found]

    async def receive_one(
        self, wait: Seconds = 0, lease: Seconds | None = None, where: str = ""
    ) -> Message | None:
        """One message, or None when none came within ``wait`` seconds. See :meth:`receive`."""
        found = await self.receive(1, wait, lease, where)
        return found[0] if found else None

    def consume(self, prefetch: int = 32, where: str = "") -> MessageConsumer:
        """Messages as they come, at most ``prefetch`` held. See :class:`MessageConsumer`."""
        return MessageConsumer(self, prefetch, where)

    async def ack_many(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages of this queue in one commit.

        If some leases are lost, the others are acknowledged all the same, and LeaseLost is raised.
        """
        receipts = [message.receipt for message in messages]
        results = await self.broker.verbs.ack(self.name, receipts)
        lost: BraidError | None = None
        for message, error in zip(messages, results, strict=True):
            try:
                message._settle([error])
            except BraidError as failure:
                lost = lost or failure
        if lost is not None:
            raise lost

    async def browse(
        self, where: str = "", state: StateName = "all"
    ) -> AsyncIterator[BrowsedMessage]:
        """Look at the messages in order of their sequence numbers, without any effect on them."""
        after = 0
        while True:
            page = await self.broker.verbs.browse(self.name, after, _PAGE_MESSAGES, where, state)
            if not page:
                return
            for browsed in page:
                yield BrowsedMessage(browsed, self.broker.instance)
            after = page[-1].seq

    # --- managing ---

    async def info(self) -> QueueInfo:
        """The queue as it is now: settings, depths, counters. Raises NotFound."""
        return await self.broker.verbs.queue_info(self.name)

    async def purge(self) -> int:
        """Delete all its messages, also those in flight and delayed; how many they were."""
        return await self.broker.verbs.purge(self.name)

    async def delete(self, *, if_empty: bool = False) -> None:
        """Delete it and its messages. Raises NotFound, or Conflict when it must be empty."""
        await self.broker.verbs.delete_queue(self.name, if_empty)

    async def update(self, **changes: Unpack[QueueChanges]) -> QueueInfo:
        """Change the settings that are given; 0 or "" takes a limit away. See QueueChanges."""
        return await self.broker.verbs.update_queue(self.name, setting_values(changes))

    async def redrive(
        self,
        to: str = "",
        *,
        rate: float = 0,
        limit: int = 0,
        progress: Callable[[RedriveInfo], None] | None = None,
    ) -> RedriveInfo:
        """Move this queue's dead letters, and wait until that is done; cancelling stops it.

        Args:
            to: the queue where they go; "": each back to where it came from.
            rate: messages a second, 0: as fast as possible.
            limit: how many at most, 0: all that are there now.
            progress: called a few times a second with the state of things.
        """
        verbs = self.broker.verbs
        info = await verbs.redrive(self.name, to, rate, limit)
        try:
            while info.state == "running":
                await asyncio.sleep(_REDRIVE_LOOK_SECONDS)
                now = {each.id: each for each in await verbs.list_redrives()}
                if info.id not in now:
                    break
                info = now[info.id]
                if progress is not None:
                    progress(info)
        except asyncio.CancelledError:
            await finish(asyncio.ensure_future(verbs.cancel_redrive(info.id)))
            raise
        return info


class BrokerFace:
    """What a broker can be asked, in process or over the wire."""

    @property
    def verbs(self) -> Verbs:
        """The verbs below these methods: batches, milliseconds, packed headers."""
        raise NotImplementedError

    @property
    def instance(self) -> int:
        """Half of every message's id: which log it is in."""
        raise NotImplementedError

    @property
    def limits(self) -> Limits:
        """The broker's limits."""
        raise NotImplementedError

    def queue(self, name: str) -> Queue:
        """The queue of that name. Asks nobody: a missing queue shows when it is used."""
        return Queue(self, name)

    async def declare_queue(self, name: str, **settings: Unpack[QueueOptions]) -> Queue:
        """Make the queue, or find it with these very settings: those of ``QueueOptions``.

        Raises Conflict when it exists with other settings, InvalidArgument, PermissionDenied.
        """
        await self.verbs.declare_queue(name, settings_from(setting_values(settings)))
        return Queue(self, name)

    async def queues(self, prefix: str = "") -> AsyncIterator[QueueInfo]:
        """The queues that you may see, by name."""
        after = ""
        while True:
            page = await self.verbs.list_queues(prefix, after, _PAGE_QUEUES)
            for info in page:
                yield info
            if len(page) < _PAGE_QUEUES:
                return
            after = page[-1].name

    async def redrives(self) -> list[RedriveInfo]:
        """Redrives that run, and those that ended lately."""
        return await self.verbs.list_redrives()

    async def cancel_redrive(self, id: int) -> RedriveInfo:
        """Stop one; what was moved stays moved. Raises NotFound."""
        return await self.verbs.cancel_redrive(id)

    async def info(self) -> BrokerInfo:
        """The broker as it is now."""
        return await self.verbs.broker_info()

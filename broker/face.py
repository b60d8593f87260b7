"""The objects people use: queues, the same in process and over the wire.

Built on nothing but ``Verbs``, so that ``Broker`` (``runtime.py``) and ``connect()``
(``protocols/native/client.py``) cannot differ; what is received is in ``received.py``, topics are
in ``topicface.py``, webhooks in ``webhookface.py``, bindings in ``bindingface.py``,
replays in ``replayface.py``, schedules in ``scheduleface.py``, transactions in
``transactionface.py``. Rules for all:

1. Times are seconds (int or float) or ``timedelta``. Bodies are bytes. Sizes and counts are checked
   by the broker, which knows its limits.
2. What was received is held until it is settled, its lease runs out, or its consumer ends.
3. A cancelled call leaves nothing held: what it would have returned goes back uncounted.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Literal, Unpack, overload

from .errors import BraidError, InvalidArgument
from .message import PRIORITY_DEFAULT, HeaderMap, Outgoing, Sent, pack_headers
from .paging import paged
from .received import Message, MessageConsumer, finish
from .scheduleface import ScheduleFace
from .settings import settings_from
from .streamface import StreamFace
from .topicface import TopicFace
from .transactionface import Transaction
from .values import (
    BrowsedMessage,
    ExclusivityName,
    NewMessage,
    QueueChanges,
    QueueOptions,
    Seconds,
    SentMessage,
    StateName,
    milliseconds,
    setting_values,
)
from .verbs import BrokerInfo, QueueInfo, RedriveInfo
from .webhookface import WebhookFace

__all__ = ["BrokerFace", "Queue"]

_CHUNK_MESSAGES = 1_000  # send_many sends so many at a time
_CHUNK_BYTES = 1024 * 1024
_WAIT_MS = 20_000  # a longer receive is several
_PAGE_MESSAGES = 100
_REDRIVE_LOOK_SECONDS = 0.25


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
        (result,) = await self.broker.verbs.send(self.name, [self.broker._outgoing(message)])
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
                outgoing = self.broker._outgoing(message)
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

    def consume(
        self,
        prefetch: int = 32,
        where: str = "",
        *,
        priority: int = 0,
        exclusive: ExclusivityName = "shared",
    ) -> MessageConsumer:
        """Messages as they come, at most ``prefetch`` held. See :class:`MessageConsumer`.

        Args:
            where: as in :meth:`receive`.
            priority: consumers with a higher one are served first, as long as they have room.
            exclusive: "preferred": it alone is served while it is there; of several such the one
                with the highest priority, then the oldest. "sole": there may be no other.

        Raises Conflict, when it begins, where one is or wants to be the sole consumer; NotFound,
        InvalidArgument, LimitExceeded, PermissionDenied.
        """
        return MessageConsumer(self, prefetch, where, priority, exclusive)

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


class BrokerFace(ScheduleFace, TopicFace, WebhookFace, StreamFace):
    """What a broker can be asked, in process or over the wire."""

    def queue(self, name: str) -> Queue:
        """The queue of that name. Asks nobody: a missing queue shows when it is used."""
        return Queue(self, name)

    async def declare_queue(self, name: str, **settings: Unpack[QueueOptions]) -> Queue:
        """Make the queue, or find it with these very settings: those of ``QueueOptions``.

        Raises Conflict when it exists with other settings, InvalidArgument, PermissionDenied.
        """
        await self.verbs.declare_queue(name, settings_from(setting_values(settings)))
        return Queue(self, name)

    def queues(self, prefix: str = "") -> AsyncIterator[QueueInfo]:
        """The queues that you may see, by name."""
        return paged(partial(self.verbs.list_queues, prefix), attrgetter("name"))

    def _outgoing(self, message: NewMessage) -> Outgoing:
        if not isinstance(message.body, bytes):
            raise InvalidArgument(f"a body is bytes, not {type(message.body).__name__}")
        return Outgoing(
            message.body,
            pack_headers(message.headers, self.limits),
            -1 if message.delay is None else milliseconds(message.delay, "delay"),
            milliseconds(message.ttl, "ttl"),
            message.priority,
            message.group,
            message.dedup_id,
        )

    def transaction(self) -> Transaction:
        """Steps that happen together or not at all: ``async with broker.transaction() as tx: ...``

        See :class:`braidmq.broker.transactionface.Transaction`.
        """
        return Transaction(self)

    async def redrives(self) -> list[RedriveInfo]:
        """Redrives that run, and those that ended lately."""
        return await self.verbs.list_redrives()

    async def cancel_redrive(self, id: int) -> RedriveInfo:
        """Stop one; what was moved stays moved. Raises NotFound."""
        return await self.verbs.cancel_redrive(id)

    async def info(self) -> BrokerInfo:
        """The broker as it is now."""
        return await self.verbs.broker_info()

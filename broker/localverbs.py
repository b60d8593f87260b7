"""``Verbs`` on a core in this process: plain calls, and futures for what has to wait.

The core calls back in the middle of its work, so nothing here does more than wake somebody.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ..storage.log import Durability
from .access import Principal
from .core import Core
from .errors import BraidError, Unavailable
from .feed import Feed
from .lease import Consumer, Exclusivity
from .localgroups import LocalGroups
from .localschedules import LocalSchedules
from .localwebhooks import LocalWebhooks
from .message import Browsed, Delivery, Outgoing, Receipt, Sent
from .publishing import Posted, Published
from .settings import QueueSettings
from .transactionverbs import Result, Step
from .verbs import (
    BrokerInfo,
    Consumption,
    Interest,
    LevelInfo,
    QueueInfo,
    RedriveInfo,
    SessionInfo,
    TopicConsumption,
    TopicInfo,
)

__all__ = ["LocalVerbs"]


class _LocalConsumption:
    """Messages pushed to a consumer in this process. See ``Consumption``."""

    def __init__(self, verbs: "LocalVerbs", queue: str) -> None:
        self._verbs = verbs
        self._queue = queue
        self._ready: list[Delivery] = []
        self._error: BraidError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.consumer: Consumer | None = None

    def put(self, deliveries: list[Delivery]) -> None:
        self._ready.extend(deliveries)
        self._wake()

    def end(self, error: BraidError) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[Delivery]:
        """Wait for the next deliveries."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        ready = self._ready
        self._ready = []
        return ready

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""
        if self._error is None:
            self._verbs.give_credit(self, count)

    async def close(self, unprocessed: Sequence[Receipt] = ()) -> None:
        """Stop; what is held goes back."""
        if self._error is None:
            receipts = [*unprocessed, *(delivery.receipt for delivery in self._ready)]
            self._verbs.end(self, receipts)


class _LocalFeed:
    """Messages of a subscription in this process. See ``TopicConsumption``."""

    def __init__(self, verbs: "LocalVerbs") -> None:
        self._verbs = verbs
        self._error: BraidError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.feed: Feed | None = None

    @property
    def dropped(self) -> int:
        """How many live messages found no room."""
        return 0 if self.feed is None else self.feed.dropped

    @property
    def resumed(self) -> bool:
        """Whether the durable session was there before."""
        return self.feed is not None and self.feed.resumed

    def wake(self) -> None:
        """There may be something to take."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, error: BraidError) -> None:
        """Nothing more will come."""
        if self._error is None:
            self._error = error
        self.wake()

    async def next(self) -> list[Published]:
        """Wait for the next messages."""
        while True:
            assert self.feed is not None
            if self._error is not None:
                raise self._error
            found = self._verbs.take(self.feed)
            if found:
                return found
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""
        if self._error is None and self.feed is not None:
            self.feed.grant(count)

    async def close(self, unprocessed: Sequence[Published] = ()) -> None:
        """Stop; what is held goes back."""
        if self._error is None:
            self._error = Unavailable("this subscription was closed")
            self._verbs.leave(self, unprocessed)
            self.wake()


class LocalVerbs(LocalSchedules, LocalGroups, LocalWebhooks):
    """``Verbs`` on a core in this process, for one principal."""

    def __init__(
        self,
        core: Core,
        who: Principal,
        now_ms: Callable[[], int],
        connections: Callable[[], int],
    ) -> None:
        super().__init__(core, who, now_ms)
        self._connections = connections
        self._waiting: set[asyncio.Future[list[Delivery]]] = set()
        self._consumptions: set[_LocalConsumption] = set()
        self._feeds: set[_LocalFeed] = set()
        self._closed = False

    # --- what the core calls ---

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Hand over leased messages; give them back when nobody waits any more."""
        tag = consumer.tag
        if isinstance(tag, _LocalConsumption):
            tag.put(deliveries)
            return
        assert isinstance(tag, asyncio.Future)
        if not tag.done():
            tag.set_result(deliveries)
        elif deliveries:
            self._loop.call_soon(self._give_back, consumer.queue_name, deliveries)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The queue is gone, or cannot be read."""
        tag = consumer.tag
        if isinstance(tag, _LocalConsumption):
            self._consumptions.discard(tag)
            tag.end(error)
        elif isinstance(tag, asyncio.Future) and not tag.done():
            tag.set_exception(error)

    def feed_ready(self, feed: Feed) -> None:
        """There may be something to take."""
        if isinstance(feed.tag, _LocalFeed):
            feed.tag.wake()

    def feed_ended(self, feed: Feed, error: BraidError) -> None:
        """The broker ended a subscription."""
        if isinstance(feed.tag, _LocalFeed):
            self._feeds.discard(feed.tag)
            feed.tag.end(error)

    # --- small things ---

    def close(self) -> None:
        """The broker closes: end what waits, refuse what comes."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Unavailable("the broker was closed"))
        for consumption in list(self._consumptions):
            self.end(consumption, ())
            consumption.end(Unavailable("the broker was closed"))
        for each in list(self._feeds):
            self.leave(each, ())
            each.end(Unavailable("the broker was closed"))
        self.end_answers(Unavailable("the broker was closed"))

    def fail(self, error: BraidError) -> None:
        """The broker has failed: end what would wait for ever."""
        for each in list(self._feeds):
            self._feeds.discard(each)
            each.end(error)
        self.end_answers(error)

    def take(self, feed: Feed) -> list[Published]:
        """What came for a subscription."""
        return list(feed.take(self._now_ms()))

    def leave(self, local: _LocalFeed, unprocessed: Sequence[Published]) -> None:
        """End a subscription; what it holds goes back."""
        self._feeds.discard(local)
        if local.feed is None or self._core.failed is not None:
            return
        receipts = [published.receipt for published in unprocessed if published.queue]
        local.feed.close(self._now_ms(), receipts)

    def give_credit(self, consumption: _LocalConsumption, count: int) -> None:
        """Allow a consumer ``count`` more messages."""
        if consumption.consumer is not None:
            self._core.credit(consumption.consumer, count)

    def end(self, consumption: _LocalConsumption, unprocessed: Sequence[Receipt]) -> None:
        """End a consumer; what it holds goes back."""
        self._consumptions.discard(consumption)
        if consumption.consumer is not None:
            self._core.cancel(consumption.consumer, unprocessed, self._now_ms())

    async def kept(self, level: Durability) -> None:
        """Wait until all that was asked so far is kept."""
        if level is Durability.MEMORY:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._core.when_kept(level, _release, waiter)
        await waiter

    def _check_open(self) -> Core:
        if self._closed:
            raise Unavailable("the broker was closed")
        return self._core

    def _give_back(self, queue: str, deliveries: list[Delivery]) -> None:
        if self._core.failed is None:
            receipts = [delivery.receipt for delivery in deliveries]
            self._core.nack(self._who, queue, receipts, 0, False, self._now_ms())

    # --- the verbs ---

    async def declare_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        info = self._check_open().declare_queue(self._who, name, settings, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def update_queue(self, name: str, changes: dict[str, Any]) -> QueueInfo:
        info = self._check_open().update_queue(self._who, name, changes, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def delete_queue(self, name: str, if_empty: bool = False) -> None:
        self._check_open().delete_queue(self._who, name, if_empty, self._now_ms())
        await self.kept(Durability.SYNC)

    async def queue_info(self, name: str) -> QueueInfo:
        return self._check_open().queue_info(self._who, name)

    async def list_queues(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[QueueInfo]:
        return self._check_open().list_queues(self._who, prefix, after, limit)

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> list[Sent | BraidError]:
        core = self._check_open()
        level, results = core.send(self._who, queue, messages, self._now_ms())
        await self.kept(level)
        return results

    async def receive(
        self,
        queue: str,
        max_messages: int,
        wait_ms: int,
        lease_ms: int = 0,
        selector: str = "",
        attempt: str = "",
    ) -> list[Delivery]:
        core = self._check_open()
        waiter: asyncio.Future[list[Delivery]] = self._loop.create_future()
        now_ms = self._now_ms()
        consumer = core.receive(
            self._who,
            queue,
            self,
            max_messages,
            wait_ms,
            lease_ms,
            selector,
            attempt,
            waiter,
            now_ms,
        )
        self._waiting.add(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                core.cancel(consumer, (), self._now_ms())
            elif waiter.exception() is None and waiter.result():
                self._give_back(queue, waiter.result())
            raise
        finally:
            self._waiting.discard(waiter)

    async def consume(
        self,
        queue: str,
        credit: int,
        selector: str = "",
        priority: int = 0,
        exclusive: Exclusivity = Exclusivity.SHARED,
    ) -> Consumption:
        core = self._check_open()
        consumption = _LocalConsumption(self, queue)
        consumption.consumer = core.consume(
            self._who,
            queue,
            self,
            credit,
            selector,
            consumption,
            self._now_ms(),
            priority,
            exclusive,
        )
        self._consumptions.add(consumption)
        return consumption

    async def ack(self, queue: str, receipts: Sequence[Receipt]) -> list[BraidError | None]:
        level, results = self._check_open().ack(self._who, queue, receipts, self._now_ms())
        await self.kept(level)
        return results

    async def nack(
        self, queue: str, receipts: Sequence[Receipt], delay_ms: int = 0, counted: bool = True
    ) -> list[BraidError | None]:
        core = self._check_open()
        level, results = core.nack(self._who, queue, receipts, delay_ms, counted, self._now_ms())
        await self.kept(level)
        return results

    async def extend(
        self, queue: str, receipts: Sequence[Receipt], lease_ms: int
    ) -> list[BraidError | None]:
        return self._check_open().extend(self._who, queue, receipts, lease_ms, self._now_ms())

    async def dead_letter(
        self, queue: str, receipts: Sequence[Receipt], reason: str
    ) -> list[BraidError | None]:
        core = self._check_open()
        level, results = core.dead_letter(self._who, queue, receipts, reason, self._now_ms())
        await self.kept(level)
        return results

    async def purge(self, queue: str) -> int:
        level, count = self._check_open().purge(self._who, queue, self._now_ms())
        await self.kept(level)
        return count

    async def browse(
        self, queue: str, after: int = 0, limit: int = 100, selector: str = "", state: str = "all"
    ) -> list[Browsed]:
        waiter: asyncio.Future[list[Browsed]] = self._loop.create_future()
        self._check_open().browse(self._who, queue, after, limit, selector, state, _answer, waiter)
        return await waiter

    async def redrive(
        self, source: str, target: str = "", rate: float = 0, limit: int = 0
    ) -> RedriveInfo:
        core = self._check_open()
        return core.redrive(self._who, source, target, rate, limit, self._now_ms())

    async def list_redrives(self) -> list[RedriveInfo]:
        return self._check_open().list_redrives(self._who)

    async def cancel_redrive(self, id: int) -> RedriveInfo:
        return self._check_open().cancel_redrive(self._who, id)

    async def broker_info(self) -> BrokerInfo:
        core = self._check_open()
        return core.broker_info(self._who, self._now_ms(), self._connections())

    async def transact(self, steps: Sequence[Step]) -> list[Result]:
        core = self._check_open()
        level, results = core.transact(self._who, steps, self._now_ms())
        await self.kept(level)
        return results

    # --- topics and sessions ---

    async def publish(
        self, topic: str, messages: Sequence[Posted], qos: int = 1
    ) -> list[int | BraidError]:
        core = self._check_open()
        level, results = core.publish(self._who, topic, messages, qos, self._now_ms())
        await self.kept(level)
        return results

    async def subscribe(self, interest: Interest, credit: int) -> TopicConsumption:
        core = self._check_open()
        local = _LocalFeed(self)
        level, local.feed = core.subscribe(self._who, interest, self, local, self._now_ms())
        self._feeds.add(local)
        local.feed.grant(credit)
        try:
            await self.kept(level)
        except BaseException:
            self.leave(local, ())
            raise
        return local

    async def unsubscribe(self, durable: str) -> None:
        self._check_open().unsubscribe(self._who, durable, self._now_ms())
        await self.kept(Durability.SYNC)

    async def list_topics(
        self, filter: str = "#", after: str = "", limit: int = 1000
    ) -> list[TopicInfo]:
        waiter: asyncio.Future[list[TopicInfo]] = self._loop.create_future()
        self._check_open().list_topics(self._who, filter, after, limit, _listed, waiter)
        return await waiter

    async def topic_tree(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[LevelInfo]:
        waiter: asyncio.Future[list[LevelInfo]] = self._loop.create_future()
        self._check_open().topic_tree(self._who, prefix, after, limit, _listed, waiter)
        return await waiter

    async def list_sessions(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[SessionInfo]:
        return self._check_open().list_sessions(self._who, prefix, after, limit)

    async def session_info(self, name: str) -> SessionInfo:
        return self._check_open().session_info(self._who, name)

    async def kick_session(self, name: str, discard: bool = False) -> None:
        self._check_open().kick_session(self._who, name, discard, self._now_ms())
        await self.kept(Durability.SYNC)


def _release(waiter: object, error: BraidError | None) -> None:
    assert isinstance(waiter, asyncio.Future)
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


def _answer(waiter: object, result: list[Browsed] | BraidError) -> None:
    assert isinstance(waiter, asyncio.Future)
    if waiter.done():
        return
    if isinstance(result, BraidError):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)


def _listed(waiter: object, result: list[Any]) -> None:
    assert isinstance(waiter, asyncio.Future)
    if not waiter.done():
        waiter.set_result(result)

"""The load inside one process with the broker: the Python face, and the core below it.

``face`` is what an application does: tasks that await ``queue.send`` and ``queue.receive``.
``core`` is what a dialect does, without its bytes: synchronous calls, one callback of the log for
all that a client asked in one go. Generator and broker share the process here, so CPU figures count
both.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ..broker.access import SYSTEM
from ..broker.errors import BraidError
from ..broker.face import Queue
from ..broker.lease import Consumer
from ..broker.message import Delivery, Outgoing, Receipt
from ..broker.received import Message
from ..broker.runtime import Broker
from ..storage.log import Durability
from .integrity import STAMP_BYTES, Account, Stamper
from .meter import Meter, Plan

__all__ = ["CoreDriver", "FaceDriver"]

_RECEIVE_WAIT_SECONDS: Final = 0.2
_PULL_MIN: Final = 100  # a consumer asks for a good number, as people do


class _Local:
    """What both drivers share: a broker of their own."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        self.plan = plan
        self.meter = meter
        self.broker = Broker(plan.directory or None)
        self.queue: Queue
        self.stopped = False  # producing
        self.finished = False  # consuming as well
        self.waiting = 0
        chance = random.Random(plan.seed)
        self.payloads = [chance.randbytes(plan.size - STAMP_BYTES) for _ in meter.accounts]
        self.stampers = [
            Stamper(account.producer, payload)
            for account, payload in zip(meter.accounts, self.payloads, strict=True)
        ]

    @property
    def unanswered(self) -> int:
        """Sends that wait for their answer."""
        return self.waiting

    def cpu_seconds(self) -> float:
        """What this process has used so far."""
        return time.process_time()

    async def syncs(self) -> tuple[int, float]:
        """Synced commits so far, and the seconds they took."""
        log = (await self.broker.info()).log
        return log["synced_commits"], log["sync_seconds_total"]

    async def open(self) -> None:
        """Open the broker, make the queue."""
        await self.broker.__aenter__()
        plan = self.plan
        self.queue = await self.broker.declare_queue(plan.queue, durability=plan.durability)

    def stop(self) -> None:
        """Send no more."""
        self.stopped = True

    async def finish(self) -> int:
        """Close the broker; how many messages the queue still held."""
        self.stopped = self.finished = True
        await self.end()
        left = (await self.queue.info()).messages
        if self.plan.shape != "fill":
            await self.queue.delete()
        await self.broker.__aexit__(None, None, None)
        return left

    async def end(self) -> None:
        """End what still runs."""

    def bodies(self, account: Account) -> list[bytes]:
        """The next batch of a producer."""
        first, now_ns = account.sent, self.meter.now_ns()
        account.sent = first + self.plan.batch
        stamp, payload = self.stampers[account.producer].stamp, self.payloads[account.producer]
        return [stamp(sequence, now_ns) + payload for sequence in range(first, account.sent)]

    def enough(self, account: Account) -> bool:
        """Whether this producer has sent its share."""
        plan = self.plan
        return self.stopped or 0 < plan.messages <= account.sent * plan.producers


class FaceDriver(_Local):
    """Tasks that await the methods of ``Queue``."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        super().__init__(plan, meter)
        self._tasks: set[asyncio.Task[None]] = set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.meter.problem(f"{type(task.exception()).__name__}: {task.exception()}")

    def produce(self) -> None:
        """``window`` tasks for each producer."""
        for account in self.meter.accounts:
            for _ in range(self.plan.window):
                self._start(self._send(account))

    async def _send(self, account: Account) -> None:
        meter, queue, batch = self.meter, self.queue, self.plan.batch
        while not self.enough(account):
            first = account.sent
            bodies = self.bodies(account)
            start_ns = meter.now_ns()
            self.waiting += 1
            try:
                if batch == 1:
                    await queue.send(bodies[0])
                else:
                    await queue.send_many(bodies)
            except BraidError as error:
                account.unsure.update(range(first, first + batch))
                meter.refused += batch
                meter.problem(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.01)
            else:
                meter.confirm(account, batch, meter.now_ns() - start_ns)
            finally:
                self.waiting -= 1

    async def consume(self) -> None:
        """A task for each pulling consumer and place in its window, or for each pushed one."""
        plan = self.plan
        for _ in range(plan.consumers):
            if plan.mode == "push":
                self._start(self._iterate())
            else:
                for _ in range(plan.window):
                    self._start(self._receive())

    async def _receive(self) -> None:
        meter, queue = self.meter, self.queue
        count = max(_PULL_MIN, self.plan.batch)
        while not self.finished:
            messages = await queue.receive(count, wait=_RECEIVE_WAIT_SECONDS)
            if messages:
                now_ns = meter.now_ns()
                for message in messages:
                    meter.deliver(message.body, now_ns)
                await queue.ack_many(messages)
                end_ns = meter.now_ns()
                meter.settle(len(messages), end_ns, end_ns - now_ns)

    async def _iterate(self) -> None:
        async with self.queue.consume(prefetch=self.plan.credit) as messages:
            async for message in messages:
                self._start(self._ack(message))

    async def _ack(self, message: Message) -> None:
        start_ns = self.meter.now_ns()
        self.meter.deliver(message.body, start_ns)
        await message.ack()
        end_ns = self.meter.now_ns()
        self.meter.settle(1, end_ns, end_ns - start_ns)

    async def end(self) -> None:
        """Cancel what still waits."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class CoreDriver(_Local):
    """Synchronous calls of the core, as a session makes them."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        super().__init__(plan, meter)
        self._loop = asyncio.get_running_loop()
        self._consumers: dict[Consumer, list[Receipt]] = {}  # delivered, not yet acknowledged
        self._due = False

    def _kept(
        self, level: Durability, callback: Callable[[object, BraidError | None], None], what: object
    ) -> None:
        """Call back when all is kept, never from within this call."""
        if level is Durability.MEMORY:
            self._loop.call_soon(callback, what, None)
        else:
            self.broker.core.when_kept(level, callback, what)

    def produce(self) -> None:
        """Send the window of each producer."""
        for account in self.meter.accounts:
            self._send(account)

    def _send(self, account: Account) -> None:
        """All that the window allows; it is answered by one callback."""
        broker, plan = self.broker, self.plan
        core, level, count, start_ns = broker.core, Durability.SYNC, 0, self.meter.now_ns()
        while count < plan.window and not self.enough(account):
            outgoing = [Outgoing(body) for body in self.bodies(account)]
            level, results = core.send(SYSTEM, plan.queue, outgoing, broker.now_ms())
            refused = [i for i, result in enumerate(results) if isinstance(result, BraidError)]
            if refused:
                first = account.sent - plan.batch
                account.unsure.update(first + index for index in refused)
                self.meter.refused += len(refused)
            count += 1
        if count:
            self.waiting += count
            self._kept(level, self._sent, (account, count, start_ns))

    def _sent(self, what: object, error: BraidError | None) -> None:
        assert isinstance(what, tuple)
        account, count, start_ns = what
        self.waiting -= count
        if error is not None:
            self.meter.problem(str(error))
            return
        latency_ns = self.meter.now_ns() - start_ns
        for _ in range(count):
            self.meter.confirm(account, self.plan.batch, latency_ns)
        self._loop.call_soon(self._send, account)

    async def consume(self) -> None:
        """Consumers with credit; this object is their sink."""
        broker, plan = self.broker, self.plan
        for _ in range(plan.consumers):
            consumer = broker.core.consume(
                SYSTEM, plan.queue, self, plan.credit, "", None, broker.now_ms()
            )
            self._consumers[consumer] = []

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """The core calls this; acknowledging comes after it has returned."""
        now_ns = self.meter.now_ns()
        for delivery in deliveries:
            self.meter.deliver(delivery.body, now_ns)
        receipts = self._consumers[consumer]
        if not receipts:
            self._loop.call_soon(self._ack, consumer)
        receipts += [(delivery.seq, delivery.token) for delivery in deliveries]

    def _ack(self, consumer: Consumer) -> None:
        receipts, self._consumers[consumer] = self._consumers[consumer], []
        if not self.finished:
            broker = self.broker
            level, errors = broker.core.ack(SYSTEM, self.plan.queue, receipts, broker.now_ms())
            failed = sum(error is not None for error in errors)
            what = (consumer, len(receipts), failed, self.meter.now_ns())
            self._kept(level, self._settled, what)

    def _settled(self, what: object, error: BraidError | None) -> None:
        assert isinstance(what, tuple)
        consumer, count, failed, start_ns = what
        if error is not None or failed:
            self.meter.problem(str(error) if error else f"{failed} leases were lost")
        now_ns = self.meter.now_ns()
        self.meter.settle(count - failed, now_ns, now_ns - start_ns)
        if not self.finished:
            self.broker.core.credit(consumer, count)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The core calls this when a queue is gone."""
        if not self.finished:
            self.meter.problem(str(error))

    async def end(self) -> None:
        """End the consumers."""
        for consumer in self._consumers:
            self.broker.core.cancel(consumer, (), self.broker.now_ms())

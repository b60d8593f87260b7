"""A run of streams in one process with the broker: what a dialect does, without its bytes.

Synchronous calls of the core, one callback of the log for each request. Generator and broker share
the process and its core here, so CPU figures count both. What is read is decoded to bodies and
compared with what was sent, as readers over sockets do.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from ..broker.access import SYSTEM
from ..broker.bindings import BindingSettings
from ..broker.bindingverbs import Target
from ..broker.errors import BraidError
from ..broker.group import Member
from ..broker.groupverbs import GroupEvent
from ..broker.limits import Limits
from ..broker.publishing import Posted
from ..broker.runtime import Broker
from ..broker.settings import QueueSettings
from ..broker.stream_settings import StreamSettings
from ..broker.streamreading import Chunk, ChunkAnswer
from ..broker.streams import Appending
from ..broker.streamverbs import Start
from ..storage.block import decode_block
from ..storage.log import Durability
from .drivers.driver import Refused
from .histogram import Histogram
from .stream_cycle import Checker, StreamCycle
from .stream_plan import HOT_BYTES, StreamPlan, StreamSide
from .stream_run import Window

__all__ = ["carry_out_here"]

_NAME: Final = "bench"
_TOPIC: Final = "bench/topic"
_READ_RECORDS: Final = 10_000
_READ_BYTES: Final = 1024 * 1024
_WAIT_MS: Final = 1_000
_COLD_SECONDS: Final = 30.0


def carry_out_here(plan: StreamPlan, cycle: StreamCycle) -> StreamSide:
    """Open a broker in ``plan.directory`` and do what the plan's shape says. Raises Refused."""
    return uvloop.run(_carry_out(plan, cycle))


async def _carry_out(plan: StreamPlan, cycle: StreamCycle) -> StreamSide:
    shapes: dict[str, Callable[[_Local], Coroutine[Any, Any, None]]] = {
        "append": _Local.append,
        "replay": _Local.replay,
        "tail": _Local.tail,
        "group": _Local.group,
        "fanout": _Local.fanout,
    }
    if plan.restarted:
        async with Broker(plan.directory) as broker:
            local = _Local(plan, cycle, broker)
            await local.declare()
            await local.preload()
    limits = Limits(shard_hot_bytes_max=HOT_BYTES) if plan.restarted else None
    async with Broker(plan.directory, limits=limits) as broker:
        local = _Local(plan, cycle, broker)
        await local.declare()
        if plan.restarted:
            await local.rehomed()
        elif plan.shape in ("replay", "group"):
            await local.preload()
        await shapes[plan.shape](local)
        return local.finish()


class _Local:
    """One plan, carried out with one broker."""

    def __init__(self, plan: StreamPlan, cycle: StreamCycle, broker: Broker) -> None:
        self.plan = plan
        self.broker = broker
        self.side = StreamSide()
        self.count = 0
        self.latency = Histogram()
        self.lag = Histogram()
        self.checker = Checker(cycle, ordered=plan.shape != "group")
        self._window = Window(plan, self.side)
        self._batches = cycle.batches(1 if plan.shape == "tail" else plan.batch)
        self._keys = [b""] * plan.batch
        self._bodies = cycle.bodies
        self._stopped = False
        self._waiting = 0
        self._quiet = asyncio.Event()  # set: no append waits for its answer, or all was read
        self._due = (0.0, 0.0, 0, 0)  # tail: begin, interval, first and last number that count

    def finish(self) -> StreamSide:
        """What was found."""
        side = self.side
        side.corrupt = self.checker.corrupt
        side.latency, side.lag = self.latency.dump(), self.lag.dump()
        return side

    async def declare(self) -> None:
        """Have the stream, or the queues that are bound."""
        core, now_ms = self.broker.core, self.broker.now_ms()
        durability = Durability[self.plan.durability.upper()]
        if self.plan.shape == "fanout":
            for number in range(self.plan.targets):
                name = f"q{number}"
                core.declare_queue(SYSTEM, name, QueueSettings(durability=durability), now_ms)
                core.bind(SYSTEM, _TOPIC, Target("queue", name), BindingSettings(), now_ms)
        else:
            settings = StreamSettings(durability=durability, retention_ms=0)
            core.declare_stream(SYSTEM, _NAME, settings, self.plan.shards, now_ms)
        await self._kept(durability)

    async def _kept(self, level: Durability) -> None:
        """Wait until all asked for so far is kept."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(_: object, error: BraidError | None) -> None:
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

        self.broker.core.when_kept(level, tell, None)
        await waiter

    async def preload(self) -> None:
        """Append ``plan.records``, in the order of the cycle."""
        core, plan = self.broker.core, self.plan
        for first in range(0, plan.records, plan.batch):
            bodies = self._batches[first // plan.batch % len(self._batches)]
            batch = Appending(bodies, self._keys)
            core.append(SYSTEM, _NAME, batch, self.broker.now_ms())
            await self._kept(Durability.SYNC)  # a disk that falls behind would refuse more

    async def rehomed(self) -> None:
        """Wait until what was appended before a restart stands in files."""
        end = time.monotonic() + _COLD_SECONDS
        while time.monotonic() < end:
            info = self.broker.core.stream_info(SYSTEM, _NAME)
            if all(shard.files for shard in info.shards):
                return
            await asyncio.sleep(0.1)
        raise Refused("old records were not moved into files in time")

    async def _measure(self) -> None:
        plan = self.plan
        await asyncio.sleep(plan.warmup)
        self.latency.clear()
        before = self.count
        self._window.open()
        await asyncio.sleep(plan.seconds)
        self._window.close(self.count - before)
        self._stopped = True

    # Append -----------------------------------------------------------------------------------

    async def append(self) -> None:
        """Producers with one batch under way each."""
        for _ in range(self.plan.producers):
            self._append_next(0)
        await self._measure()
        await self._quiet.wait()
        self.side.confirmed = self.count
        info = self.broker.core.stream_info(SYSTEM, _NAME)
        self.side.lost = max(0, self.count - info.records)

    def _append_next(self, at: int) -> None:
        self._waiting += 1
        self._quiet.clear()
        following = (at + 1) % len(self._batches)
        what = (self._append_next, following, self.plan.batch, time.monotonic_ns())
        self._append(self._batches[at], self._on_kept, what)

    def _append(
        self, bodies: list[bytes], kept: Callable[[object, BraidError | None], None], what: object
    ) -> None:
        core = self.broker.core
        batch = Appending(bodies, self._keys[: len(bodies)])
        level, results = core.append(SYSTEM, _NAME, batch, self.broker.now_ms())
        self.side.problems += [str(each) for each in results if isinstance(each, BraidError)][:10]
        core.when_kept(level, kept, what)

    def _on_kept(self, what: object, error: BraidError | None) -> None:
        assert isinstance(what, tuple)
        go_on, following, count, start_ns = what
        self._waiting -= 1
        if error is None:
            self.count += count
            self.latency.record(time.monotonic_ns() - start_ns)
        else:
            self.side.problems.append(str(error))
        if error is None and not self._stopped:
            go_on(following)
        elif not self._waiting:
            self._quiet.set()

    # Read -------------------------------------------------------------------------------------

    async def replay(self) -> None:
        """Read all that is there, again and again."""
        self._read(1, self._on_chunk)
        await self._measure()

    def _read(self, number: int, answer: ChunkAnswer) -> None:
        """Read once; at the end of the stream wait for what comes."""
        self.broker.core.read_shard(
            *(SYSTEM, _NAME, 0, number, _READ_RECORDS, _READ_BYTES, _WAIT_MS),
            *(answer, None, self.broker.now_ms()),
        )

    def _on_chunk(self, _: object, chunk: Chunk | BraidError) -> None:
        if isinstance(chunk, BraidError):
            self.side.problems.append(str(chunk))
            return
        self._take(chunk)
        following = chunk.next
        if self.plan.shape == "replay" and following > self.plan.records:
            following = 1
            self.checker.rewind()
        if not self._stopped:
            self._read(following, self._on_chunk)

    def _take(self, chunk: Chunk) -> None:
        skip, left = chunk.skip, chunk.count
        for content in chunk.blocks:
            bodies = decode_block(content, 0).bodies(skip)[:left]
            self.checker.bodies(bodies)
            left -= len(bodies)
            skip = 0
        self.count += chunk.count

    # Tail -------------------------------------------------------------------------------------

    async def tail(self) -> None:
        """Append single records when they are due; from then until they are read."""
        plan = self.plan
        interval = 1 / plan.rate
        first = round(plan.warmup * plan.rate)
        total = first + round(plan.seconds * plan.rate)
        begun = time.monotonic()
        self._due = (begun, interval, first, total)
        self._read(1, self._on_tail)
        for number in range(total):
            due = begun + number * interval
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self.lag.record(round((time.monotonic() - due) * 1e9))
            if number == first:
                self._window.open()
            self._append(self._batches[number % len(self._batches)], self._on_tail_kept, None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), plan.patience)
        self._window.close(max(0, self.count - first))
        self._stopped = True
        self.side.lost = total - self.count

    def _on_tail_kept(self, _: object, error: BraidError | None) -> None:
        if error is not None:
            self.side.problems.append(str(error))

    def _on_tail(self, _: object, chunk: Chunk | BraidError) -> None:
        if isinstance(chunk, BraidError):
            self.side.problems.append(str(chunk))
            return
        now, before = time.monotonic(), self.count
        self._take(chunk)
        begun, interval, first, total = self._due
        for number in range(max(before, first), min(self.count, total)):
            self.latency.record(round((now - begun - number * interval) * 1e9))
        if self.count >= total:
            self._quiet.set()
        if not self._stopped:
            self._read(chunk.next, self._on_tail)

    # Group ------------------------------------------------------------------------------------

    async def group(self) -> None:
        """Have the members read all that is there, once, and checkpoint each chunk."""
        plan, core = self.plan, self.broker.core
        self._window.open()
        for number in range(plan.members):
            core.join_group(
                *(SYSTEM, _NAME, "members", Start(), plan.batch, _READ_BYTES),
                *(self, number, self.broker.now_ms()),
            )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), plan.patience)
        self._window.close(self.count)
        self.side.lost = max(0, plan.records - self.count)

    def group_event(self, member: Member, event: GroupEvent) -> None:
        """The core calls this in the middle of its work; checkpoints come after it."""
        if event.chunk is not None:
            asyncio.get_running_loop().call_soon(self._checkpoint, member, event, event.chunk)

    def _checkpoint(self, member: Member, event: GroupEvent, chunk: Chunk) -> None:
        core = self.broker.core
        self._take(chunk)
        try:
            level = core.checkpoint(
                member, event.shard, event.epoch, chunk.next, self.broker.now_ms()
            )
        except BraidError as error:
            self.side.problems.append(str(error))
            return
        core.when_kept(level, self._on_checkpoint, (member, event))

    def _on_checkpoint(self, what: object, error: BraidError | None) -> None:
        assert isinstance(what, tuple)
        member, event = what
        if error is not None:
            self.side.problems.append(str(error))
        elif self.count >= self.plan.records:
            self._quiet.set()
        else:
            self.broker.core.more_records(member, event.shard, event.epoch)

    def group_ended(self, member: Member, error: BraidError) -> None:
        """The core calls this when a membership is over."""
        self.side.problems.append(str(error))

    # Fan-out ----------------------------------------------------------------------------------

    async def fanout(self) -> None:
        """Publish single messages that every bound queue gets."""
        plan = self.plan
        for _ in range(plan.producers):
            self._publish_next(0)
        await self._measure()
        await self._quiet.wait()
        self.side.confirmed = self.count
        info = self.broker.core.queue_info(SYSTEM, f"q{plan.targets - 1}")
        self.side.lost = max(0, self.count - info.messages * plan.targets)

    def _publish_next(self, at: int) -> None:
        self._waiting += 1
        self._quiet.clear()
        core, count = self.broker.core, self.plan.targets
        what = (self._publish_next, (at + 1) % len(self._bodies), count, time.monotonic_ns())
        posted = [Posted(self._bodies[at])]
        level, results = core.publish(SYSTEM, _TOPIC, posted, 1, self.broker.now_ms())
        if results != [count]:
            self.side.problems.append(f"{results[0]} got a message, not {count}")
        core.when_kept(level, self._on_kept, what)

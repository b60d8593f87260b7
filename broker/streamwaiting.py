"""Reads that wait at the end of a shard: for records, until these are kept, or until they give up.

A read waits in ``Stream.waiting``, by its shard, and once among the deadlines. Whatever may have
something for it lets it go on (:meth:`ShardRead.step`), which looks for itself, and may wait again.
"""

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ..storage.log import Durability
from .errors import BraidError, LimitExceeded
from .shard import Shard
from .stream import Stream
from .streamreading import ShardRead

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["StreamWaiting"]

_DEADLINES_STALE = 64  # tolerated among the deadlines


class StreamWaiting:
    """The reads of a broker that wait. See the module.

    Attributes:
        count: how many there are.
    """

    def __init__(self, engine: "Engine", set_alarm: Callable[[], None]) -> None:
        self._engine = engine
        self._set_alarm = set_alarm
        self.count = 0
        self._deadlines: list[tuple[int, int, ShardRead]] = []
        self._deadlines_max = _DEADLINES_STALE  # then those of reads that are over are sorted out
        self._turn = 0
        self._unsettled: dict[Shard, Stream] = {}  # with reads that wait for what is not kept yet

    def wait(self, read: ShardRead) -> None:
        """Let a read wait at the end of its shard."""
        engine = self._engine
        if engine.failed is not None:
            read.fail(engine.failed)
            return
        if self.count >= engine.limits.stream_reads_waiting_max:
            read.fail(LimitExceeded("as many reads wait for records as may"))
            return
        stream = read.stream
        self.count += 1
        stream.waiting.setdefault(read.shard.index, {})[read] = None
        if not read.has_deadline:
            read.has_deadline = True
            self._add_deadline(read)
        self._note_unsettled(stream, read.shard)

    def _add_deadline(self, read: ShardRead) -> None:
        self._turn += 1
        heappush(self._deadlines, (read.deadline_ms, self._turn, read))
        if len(self._deadlines) > self._deadlines_max:
            self._deadlines = sorted(each for each in self._deadlines if not each[2].closed)
            self._deadlines_max = 2 * len(self._deadlines) + _DEADLINES_STALE
        self._set_alarm()

    def came(self, stream: Stream, shard: Shard) -> None:
        """Records came into a shard."""
        if shard.index in stream.waiting:
            if shard.durability is Durability.MEMORY:
                self.wake(stream, shard.index)
            else:
                self._note_unsettled(stream, shard)

    def _note_unsettled(self, stream: Stream, shard: Shard) -> None:
        if not shard.is_settled():
            self._unsettled[shard] = stream

    def progressed(self) -> None:
        """More of the log is kept."""
        for shard, stream in list(self._unsettled.items()):
            if shard.is_settled():
                del self._unsettled[shard]
            readable = shard.readable()
            ended = shard.has_ended(readable)
            reads = stream.waiting.get(shard.index)
            if reads and (ended or any(readable > read.number for read in reads)):
                self.wake(stream, shard.index)

    def wake(self, stream: Stream, index: int) -> None:
        """Let those go on that wait at the end of a shard, in the next turn."""
        reads = stream.waiting.pop(index, {})
        self.count -= len(reads)
        for read in reads:
            self._engine.later(read.step)

    def forget(self, read: ShardRead) -> bool:
        """A read waits no longer; whether it did."""
        reads = read.stream.waiting.get(read.shard.index, {})
        if read not in reads:
            return False
        del reads[read]
        if not reads:
            del read.stream.waiting[read.shard.index]
        self.count -= 1
        return True

    def fail(self, stream: Stream, error: BraidError) -> None:
        """End all that wait for records of a stream."""
        waiting, stream.waiting = stream.waiting, {}
        for reads in waiting.values():
            self.count -= len(reads)
            for read in reads:
                self._engine.later(partial(read.fail, error))

    # Time -------------------------------------------------------------------------------------

    def due_ms(self) -> int:
        """When the next one gives up, at the earliest; 0: none will."""
        return self._deadlines[0][0] if self._deadlines else 0

    def tick(self, now_ms: int) -> None:
        """End those that waited long enough."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            read = heappop(self._deadlines)[2]
            if self.forget(read):
                self._engine.later(read.step)  # else it is under way, and sees that it is late

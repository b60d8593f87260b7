"""A tail: shards of a stream read on and on, as far as whoever reads has room.

The server of the native protocol and programs in this process read by it: one read is under way
for each shard, what it brings is told at once. Rules:

- No more than the credit, in bytes of blocks, is told: a chunk that finds none left is dropped, and
  read again when there is some.
- A shard begins when no shard that came before it, parent or older, is in the tail any more. When
  one that was split or merged has been read to its end, its children go on for it, if they are to
  be followed. So none is begun before a parent that is itself still to come, nor read twice.
- ``tail_chunk`` is never called from within the call that made the tail, gave credit or closed it.
"""

from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from .access import Principal
from .errors import BraidError, InvalidArgument, NotFound, PermissionDenied, Throttled
from .shard import Shard
from .stream import Stream
from .streamreading import Chunk, ShardRead

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["CHUNK_BYTES_MAX", "Tail", "TailSink"]

CHUNK_BYTES_MAX: Final = 1024 * 1024  # of one read; one block may be more
_CHUNK_BYTES_MIN = 64 * 1024
_WAIT_MS = 365 * 24 * 3600 * 1000  # at the end of a shard; then it waits on
_RETRY_MS = 50  # before a shard whose rate was used up is read again
_IDS = count(-1_000, -1)  # for the engine's alarms


class TailSink(Protocol):
    """Who gets what is read. Called in the middle of the broker's work: take a note."""

    def tail_chunk(self, tail: "Tail", shard: int, chunk: Chunk, last: bool) -> bool:
        """Records of a shard, perhaps none when it ends. ``last``: all shards have ended.

        Returns whether they were taken. If not, there is no credit any more, and they come again
        when there is some.
        """

    def tail_ended(self, tail: "Tail", error: BraidError) -> None:
        """The broker ended it."""


class Tail:
    """Shards that are read on and on. See the module's rules.

    Args:
        starts: the number to begin with in each shard, by its index; 0: its oldest record.
        credit: bytes that may be told. follow: the children of the shards are read as well.
        until_end: a shard ends where its records end when it begins to be read.

    Attributes:
        credit: what is left of it. closed: it has ended, or was closed.

    Raises NotFound, InvalidArgument.
    """

    def __init__(
        self,
        engine: "Engine",
        who: Principal,
        stream: Stream,
        starts: dict[int, int],
        credit: int,
        follow: bool,
        until_end: bool,
        sink: TailSink,
        tag: object,
    ) -> None:
        if not starts:
            raise InvalidArgument("a tail reads at least one shard")
        for index, number in starts.items():
            if 0 <= index < stream.next_index and index not in stream.shards:
                continue  # it was there, and all of it has been let go
            shard = stream.shard(index)
            if not 0 <= number <= shard.next:
                text = f"shard {index} goes from {shard.first} to {shard.next}"
                raise InvalidArgument(text)
        self.id = next(_IDS)
        self.alarm_ms = 0
        self.tag = tag
        self.closed = False
        self._engine = engine
        self._who = who
        self._stream = stream
        self._sink = sink
        self.credit = credit
        self._follow = follow
        self._until_end = until_end
        self._numbers = dict(starts)  # to go on with, of each shard that has not ended
        self._ends: dict[int, int] = {}  # of those that are being read, with ``until_end``
        self._reads: dict[int, ShardRead] = {}
        self._idle: dict[int, None] = dict.fromkeys(starts)  # not being read, the next one first
        self._ahead = set(starts)  # not begun yet
        self._flow_soon()

    def grant(self, size: int) -> None:
        """Allow ``size`` more bytes."""
        self.credit += size
        self._flow_soon()

    def close(self) -> None:
        """Nobody wants more; the sink is not called any more."""
        self.closed = True
        reads, self._reads = self._reads, {}
        for read in reads.values():
            self._engine.streams.cancel(read)
        self._idle.clear()

    def tick(self, now_ms: int) -> None:
        """Try again what was throttled."""
        self.alarm_ms = 0
        self._flow()

    def _flow_soon(self) -> None:
        if self._idle and self.credit > 0:
            self._engine.later(self._flow)

    def _flow(self) -> None:
        """Begin to read the shards that are idle, as far as there is credit."""
        if self.closed or self.credit <= 0:
            return
        if self._engine.stream_store.by_name.get(self._stream.name) is not self._stream:
            self._fail(NotFound(f"stream {self._stream.name} was deleted"))
            return
        for index in list(self._idle):
            shard = self._stream.shards.get(index)
            if shard is None:  # all of it has been let go, and so it is
                children = self._stream.children(index)
                self._told(index, Chunk([], 0, 0, self._numbers[index], 0, True, children))
            elif index not in self._ahead or not self._comes_later(shard):
                self._ahead.discard(index)
                self._read(index)
            if self.closed:
                return

    def _comes_later(self, shard: Shard) -> bool:
        """Whether the tail has a shard that came before this one: it, or its child, is first."""
        before = list(shard.definition.parents)
        known = set(before)
        while before:
            index = before.pop()
            if index in self._numbers:
                return True
            older = self._stream.shards.get(index)
            if older is not None:
                new = set(older.definition.parents) - known
                known |= new
                before += new
        return False

    def _read(self, index: int) -> None:
        shard = self._stream.shards[index]
        number = shard.present(self._numbers[index])
        records_max = self._engine.limits.receive_messages_max
        if self._until_end:
            end = self._ends.setdefault(index, shard.readable())
            if number >= end:
                ended = shard.has_ended(number)
                children = self._stream.children(index) if ended else []
                self._told(index, Chunk([], 0, 0, number, 0, ended, children))
                return
            records_max = min(records_max, end - number)
        read = ShardRead(
            self._engine.streams,
            self._stream,
            shard,
            number,
            records_max,
            min(max(self.credit // len(self._numbers), _CHUNK_BYTES_MIN), CHUNK_BYTES_MAX),
            self._engine.now_ms + _WAIT_MS,
            self._on_chunk,
            index,
        )
        try:
            self._engine.streams.begin(read)
        except Throttled:
            if not self.alarm_ms:
                self.alarm_ms = self._engine.now_ms + _RETRY_MS
                self._engine.alarm(self, self.alarm_ms)
        else:
            self._reads[index] = read
            del self._idle[index]

    def _on_chunk(self, argument: object, chunk: Chunk | BraidError) -> None:
        assert isinstance(argument, int)
        if self.closed:
            return
        del self._reads[argument]
        name = self._stream.name
        if isinstance(chunk, BraidError):
            self._fail(chunk)
        elif not self._who.allows("stream:Read", name):
            self._fail(PermissionDenied(f"{self._who.name} may not read the stream {name}"))
        elif chunk.count and self.credit <= 0:
            self._idle[argument] = None  # others were first
        elif chunk.count or chunk.ended:
            self._told(argument, chunk)
            self._flow_soon()
        else:
            self._idle[argument] = None
            self._flow_soon()

    def _told(self, index: int, chunk: Chunk) -> None:
        """Tell of a chunk, and see who goes on."""
        ended = chunk.ended or (self._until_end and chunk.next >= self._ends[index])
        children = chunk.children if chunk.ended and self._follow else []
        last = ended and not children and len(self._numbers) == 1
        self._idle[index] = None
        try:
            taken = self._sink.tail_chunk(self, index, chunk, last)
        except Exception as fault:
            self._engine.on_fault(fault)
            self._fail(BraidError("this tail was ended by an error of the broker"))
            return
        if self.closed:
            return
        if not taken:
            self.credit = min(self.credit, 0)
            return
        self.credit -= sum(map(len, chunk.blocks))
        self._numbers[index] = chunk.next
        if ended:
            self._end_shard(index, children)
        if last:
            self.close()
        self._flow_soon()

    def _end_shard(self, index: int, children: list[int]) -> None:
        """Let the children of a shard that has ended go on for it."""
        del self._numbers[index], self._idle[index]
        self._ends.pop(index, None)
        for child in children:
            if child not in self._numbers:
                self._numbers[child] = 0
                self._idle[child] = None
                self._ahead.add(child)

    def _fail(self, error: BraidError) -> None:
        if self.closed:
            return
        self.close()
        try:
            self._sink.tail_ended(self, error)
        except Exception as fault:
            self._engine.on_fault(fault)

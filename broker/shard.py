"""A shard: records in one order, which go in at the end and are read from anywhere.

All ways in which a shard changes stand here, live and in recovery; decisions stand in
``streams.py``. Records have numbers from 1 on, without gaps in their shard. Where they are:

    first ............ cold files ............ | ............ hot blocks ............ next
                (contiguous, immutable)           (records of the log: STREAM, or MESSAGE
                                                   for what came by a topic)

A hot block costs 32 bytes of memory, a cold file about 100. Every change is an absolute statement,
so that applying it to a state that has it already does nothing. There are holes only where a loss
was accepted, and, while the log is replayed, in shards that it will delete further on. A number
that somebody was told is never given again: what is lost stays a hole.

A checkpoint holds a shard as sections::

    SHARD    MessagePack: its entity, and all but the hot blocks
    BLOCKS   u32 entity, u32 count, then count * u64 for each column of hot blocks
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from struct import Struct

import msgspec

from ..storage.cold import ColdFile
from ..storage.log import Durability, Log
from .index import LSN_MASK

__all__ = [
    "BLOCKS",
    "HASH_KEY_END",
    "SHARD",
    "STREAM_SECTION",
    "Shard",
    "ShardDefinition",
    "ShardState",
]

# Section kinds. Numbers are on disk; the others stand in state.py, retained.py and groupstore.py.
STREAM_SECTION, BLOCKS, SHARD = 7, 8, 10

HASH_KEY_END = 1 << 128  # hash keys are below
_SECTION = Struct("<II")
_BLOCKS_PER_SECTION = 16_384


class ShardDefinition(msgspec.Struct, kw_only=True):
    """What a stream's definition says of a shard. Hash keys are text: MessagePack has 64 bits."""

    id: int  # the entity
    index: int  # its number in its stream
    first_hash: str
    last_hash: str
    parents: list[int]  # indexes
    start: int  # the number of its first record
    end: int = 0  # of a closed one: the number behind its last record
    created_ms: int
    closed_ms: int = 0  # 0: open


class ShardState(msgspec.Struct, kw_only=True):
    """What a checkpoint keeps of a shard besides its hot blocks."""

    id: int
    first: int
    next: int
    last_ms: int
    generation: int
    cold: list[ColdFile]
    holes: list[tuple[int, int]] = []


class Shard:
    """The records of one shard. See the module.

    Attributes:
        first: the oldest number that may be read. next: the number of the next record.
        closed_lsn: where the log says that it is closed; 0 if that was so when the log was opened.
        last_ms: when the newest record came, unix ms; never goes back.
        hot_bytes, cold_bytes: of blocks and of files, as they are stored.
        generation: of the newest cold file; rises with each.
        holes: numbers whose hot blocks were lost, from each first one to below its second one.
        sweep_ms: before that time its files need not be searched for what is too old.
    """

    __slots__ = (
        "closed_lsn",
        "cold",
        "cold_bytes",
        "definition",
        "durability",
        "first",
        "first_hash",
        "firsts",
        "generation",
        "holes",
        "hot_bytes",
        "last_hash",
        "last_ms",
        "log",
        "lsns",
        "next",
        "sizes",
        "sweep_ms",
        "times",
    )

    def __init__(self, definition: ShardDefinition, durability: Durability, log: Log) -> None:
        self.definition = definition
        self.first_hash = int(definition.first_hash)
        self.last_hash = int(definition.last_hash)
        self.durability = durability
        self.log = log
        self.first = self.next = definition.start
        self.closed_lsn = self.last_ms = 0
        self.hot_bytes = self.cold_bytes = 0
        self.sweep_ms = 0
        self.generation = 0
        self.cold: list[ColdFile] = []
        self.holes: list[tuple[int, int]] = []
        self.firsts = array("Q")  # of each hot block: its first number, where it stands,
        self.lsns = array("Q")
        self.sizes = array("Q")  # ... how many bytes it has, and its time
        self.times = array("Q")

    @property
    def id(self) -> int:
        """Its entity in the log."""
        return self.definition.id

    @property
    def index(self) -> int:
        """Its number in its stream."""
        return self.definition.index

    @property
    def closed(self) -> bool:
        """Whether it was split or merged: nothing comes any more."""
        return self.definition.closed_ms != 0

    @property
    def stored_bytes(self) -> int:
        """Of all that may be read, as it is stored."""
        return self.hot_bytes + self.cold_bytes

    @property
    def cold_end(self) -> int:
        """The number behind the last record in a cold file; 0 when there is none."""
        return self.cold[-1].end if self.cold else 0

    def oldest_ms(self) -> int:
        """When the oldest record that may be read came, or a little before; 0: there is none."""
        if self.cold:
            return self.cold[0].time_first_ms
        return self.times[0] if self.times else 0

    def readable(self) -> int:
        """The number behind the last record that is as durable as the stream promises."""
        if not self.lsns:
            return self.next
        frontier = self.frontier()
        if self.lsns[-1] < frontier:
            return self.next
        return self.firsts[bisect_left(self.lsns, frontier)]

    def has_ended(self, number: int) -> bool:
        """Whether nothing ever comes from ``number`` on: it is closed, and that is kept."""
        return self.closed and number >= self.next and self._end_is_kept()

    def is_settled(self) -> bool:
        """Whether all of it may be read, and its end is kept."""
        return self._end_is_kept() and not (self.lsns and self.lsns[-1] >= self.frontier())

    def _end_is_kept(self) -> bool:
        # On disk also where records need not be: who hears of it leaves the shard for good.
        return self.durability is Durability.MEMORY or self.closed_lsn < self.log.durable_lsn

    def frontier(self) -> int:
        """Blocks below this LSN may be read."""
        if self.durability is Durability.SYNC:
            return self.log.durable_lsn
        if self.durability is Durability.OS:
            return self.log.written_lsn
        return LSN_MASK

    def cold_file(self, number: int) -> ColdFile:
        """The file that holds ``number``, which is below :attr:`cold_end`, or the one behind it."""
        return self.cold[bisect_right(self.cold, number, key=_end)]

    def present(self, number: int) -> int:
        """The first number from ``number`` on that is neither trimmed nor lost."""
        number = max(number, self.first)
        if number < self.cold_end:
            return max(number, self.cold_file(number).first)
        number = max(number, self.firsts[0] if self.firsts else self.next)
        for first, end in self.holes:
            if first <= number < end:
                number = end
        return number

    def run_end(self, number: int) -> int:
        """How far records stand in one place without a hole, from one that is :meth:`present`."""
        if number < self.cold_end:
            return self.cold_file(number).end
        return next((first for first, _ in self.holes if first > number), self.next)

    def block_of(self, number: int) -> int:
        """Which hot block holds ``number``, or would."""
        return bisect_right(self.firsts, number) - 1

    def block_end(self, index: int) -> int:
        """Where the block behind a hot block begins: behind its last record, if none is lost."""
        return self.firsts[index + 1] if index + 1 < len(self.firsts) else self.next

    def number_at(self, time_ms: int) -> int | ColdFile:
        """The first number that came at ``time_ms`` or later, or the file to look for it in."""
        for file in self.cold:
            if file.time_last_ms >= time_ms:
                return max(file.first, self.first) if file.time_first_ms >= time_ms else file
        index = bisect_left(self.times, time_ms)
        return max(self.firsts[index], self.first) if index < len(self.firsts) else self.next

    # Apply ------------------------------------------------------------------------------------

    def put(self, number: int, count: int, lsn: int, size: int, time_ms: int) -> None:
        """Records from ``number`` on stand at ``lsn``. Nothing happens if they were put before."""
        if number < self.next:
            return
        if number > self.next:
            self.reach(number)
        if time_ms > self.last_ms:
            self.last_ms = time_ms
        self.firsts.append(number)
        self.lsns.append(lsn)
        self.sizes.append(size)
        self.times.append(self.last_ms)
        self.next = number + count
        self.hot_bytes += size

    def reach(self, number: int) -> None:
        """The numbers below ``number`` were given: those that are not there were lost."""
        if number > self.next:
            self.holes.append((self.next, number))
            self.next = number

    def trim(self, first: int) -> tuple["array[int]", list[ColdFile]]:
        """Records below ``first`` are gone: (LSNs, files) that nobody needs any more."""
        self.first = max(self.first, min(first, self.next))
        files = [file for file in self.cold if file.end <= self.first]
        del self.cold[: len(files)]
        self.holes = [hole for hole in self.holes if hole[1] > self.first]
        self.cold_bytes -= sum(file.bytes for file in files)
        index = bisect_right(self.firsts, self.first) - 1
        if self.first == self.next:
            index = len(self.firsts)
        return self._drop_blocks(max(index, 0)), files

    def rehome(
        self, file: ColdFile, replaces: Collection[int]
    ) -> tuple["array[int]", list[ColdFile]]:
        """Records stand in ``file`` from now on: (LSNs, files) that nobody needs any more.

        ``replaces`` are the generations of files that it has taken in.
        """
        if file.generation <= self.generation:
            return array("Q"), []
        self.generation = file.generation
        if file.end <= self.first:
            return array("Q"), [file]
        replaced = [each for each in self.cold if each.generation in replaces]
        self.cold = [each for each in self.cold if each.generation not in replaces]
        self.cold.append(file)
        self.cold.sort(key=_first)
        self.cold_bytes += file.bytes - sum(each.bytes for each in replaced)
        return self._drop_blocks(bisect_left(self.firsts, file.end)), replaced

    def lose(self, file: ColdFile) -> None:
        """A file is not there any more, and that was accepted."""
        self.cold.remove(file)
        self.cold_bytes -= file.bytes

    def _drop_blocks(self, count: int) -> "array[int]":
        lsns = self.lsns[:count]
        if count:
            self.hot_bytes -= sum(self.sizes[:count])
            for column in (self.firsts, self.lsns, self.sizes, self.times):
                del column[:count]
        return lsns

    # Checkpoint -------------------------------------------------------------------------------

    def sections(self) -> Iterator[tuple[int, bytes]]:
        """It as sections of a checkpoint, each in less than 1 ms.

        All of them are as of the first one, but for what has been trimmed or moved to a file
        meanwhile: replay does that again.
        """
        next = self.next
        state = ShardState(
            id=self.id,
            first=self.first,
            next=next,
            last_ms=self.last_ms,
            generation=self.generation,
            cold=self.cold,
            holes=self.holes,
        )
        yield SHARD, msgspec.msgpack.encode(state)
        number = 0
        while number < next:
            begin = bisect_left(self.firsts, number)
            end = min(begin + _BLOCKS_PER_SECTION, bisect_left(self.firsts, next))
            if begin >= end:
                return
            number = self.firsts[end - 1] + 1
            columns = [c[begin:end] for c in (self.firsts, self.lsns, self.sizes, self.times)]
            head = _SECTION.pack(self.id, end - begin)
            yield BLOCKS, head + b"".join(column.tobytes() for column in columns)

    def load(self, state: ShardState) -> None:
        """Take back a SHARD section."""
        self.first, self.next, self.last_ms = state.first, state.next, state.last_ms
        self.generation = state.generation
        self.cold = state.cold
        self.holes = state.holes
        self.cold_bytes = sum(file.bytes for file in state.cold)

    def load_blocks(self, content: bytes) -> None:
        """Take back a BLOCKS section."""
        _, count = _SECTION.unpack_from(content)
        at = _SECTION.size
        for column in (self.firsts, self.lsns, self.sizes, self.times):
            column.frombytes(content[at : at + 8 * count])
            at += 8 * count
        self.hot_bytes += sum(self.sizes[-count:])


def _first(file: ColdFile) -> int:
    return file.first


def _end(file: ColdFile) -> int:
    return file.end

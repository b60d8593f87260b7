"""A shard: records in one order, which go in at the end and are read from anywhere.

All ways in which a shard changes stand here, live and in recovery; decisions stand in
``streams.py``. Records have numbers from 1 on, without gaps in their shard. Where they are:

    first ............ cold files ............ | ............ hot blocks ............ next
                (contiguous, immutable)           (records of the log: STREAM, or MESSAGE
                                                   for what came by a topic)

A hot block costs 32 bytes of memory, a cold file about 100. Every change is an absolute statement,
so that applying it to a state that has it already does nothing.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from struct import Struct

import msgspec

from ..storage.cold import ColdFile
from ..storage.log import Durability, Log
from .index import LSN_MASK

__all__ = ["HASH_KEY_END", "SHARD", "STREAM_SECTION", "Shard", "ShardDefinition", "ShardState"]

# Section kinds. Numbers are on disk; the others stand in state.py and retained.py.
STREAM_SECTION, SHARD = 7, 8

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

    first: int
    next: int
    last_ms: int
    generation: int
    cold: list[ColdFile]


class Shard:
    """The records of one shard. See the module.

    Attributes:
        first: the oldest number that may be read. next: the number of the next record.
        last_ms: when the newest record came, unix ms; never goes back.
        bytes: of all that may be read, as it is stored.
        generation: of the newest cold file; rises with each.
    """

    __slots__ = (
        "bytes",
        "cold",
        "definition",
        "durability",
        "first",
        "first_hash",
        "firsts",
        "generation",
        "last_hash",
        "last_ms",
        "log",
        "lsns",
        "next",
        "sizes",
        "times",
    )

    def __init__(self, definition: ShardDefinition, durability: Durability, log: Log) -> None:
        self.definition = definition
        self.first_hash = int(definition.first_hash)
        self.last_hash = int(definition.last_hash)
        self.durability = durability
        self.log = log
        self.first = self.next = definition.start
        self.last_ms = 0
        self.bytes = 0
        self.generation = 0
        self.cold: list[ColdFile] = []
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

    def frontier(self) -> int:
        """Blocks below this LSN may be read."""
        if self.durability is Durability.SYNC:
            return self.log.durable_lsn
        if self.durability is Durability.OS:
            return self.log.written_lsn
        return LSN_MASK

    def block_of(self, number: int) -> int:
        """Which hot block holds ``number``, or would."""
        return bisect_right(self.firsts, number) - 1

    def block_end(self, index: int) -> int:
        """The number behind the last record of a hot block."""
        return self.firsts[index + 1] if index + 1 < len(self.firsts) else self.next

    def number_at(self, time_ms: int) -> int | ColdFile:
        """The first number that came at ``time_ms`` or later, or the file to look for it in."""
        for file in self.cold:
            if file.time_last_ms >= time_ms:
                return max(file.first, self.first) if file.time_first_ms >= time_ms else file
        index = bisect_left(self.times, time_ms)
        return self.firsts[index] if index < len(self.firsts) else self.next

    # Apply ------------------------------------------------------------------------------------

    def put(self, number: int, count: int, lsn: int, size: int, time_ms: int) -> None:
        """Records from ``number`` on stand at ``lsn``. Nothing happens if they were put before."""
        if number < self.next:
            return
        assert number == self.next, "the numbers of a shard have no gaps"
        if time_ms > self.last_ms:
            self.last_ms = time_ms
        self.firsts.append(number)
        self.lsns.append(lsn)
        self.sizes.append(size)
        self.times.append(self.last_ms)
        self.next = number + count
        self.bytes += size

    def trim(self, first: int) -> tuple["array[int]", list[ColdFile]]:
        """Records below ``first`` are gone: (LSNs, files) that nobody needs any more."""
        self.first = max(self.first, min(first, self.next))
        files = [file for file in self.cold if file.end <= self.first]
        del self.cold[: len(files)]
        self.bytes -= sum(file.bytes for file in files)
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
        self.bytes += file.bytes - sum(each.bytes for each in replaced)
        return self._drop_blocks(bisect_left(self.firsts, file.end)), replaced

    def _drop_blocks(self, count: int) -> "array[int]":
        lsns = self.lsns[:count]
        if count:
            self.bytes -= sum(self.sizes[:count])
            for column in (self.firsts, self.lsns, self.sizes, self.times):
                del column[:count]
        return lsns

    # Checkpoint -------------------------------------------------------------------------------

    def state(self) -> ShardState:
        """What a checkpoint keeps of it besides its hot blocks."""
        return ShardState(
            first=self.first,
            next=self.next,
            last_ms=self.last_ms,
            generation=self.generation,
            cold=list(self.cold),
        )

    def sections(self) -> list[bytes]:
        """Its hot blocks, as they are now."""
        sections: list[bytes] = []
        for begin in range(0, len(self.firsts), _BLOCKS_PER_SECTION):
            end = begin + _BLOCKS_PER_SECTION
            columns = [c[begin:end] for c in (self.firsts, self.lsns, self.sizes, self.times)]
            head = _SECTION.pack(self.id, len(columns[0]))
            sections.append(head + b"".join(column.tobytes() for column in columns))
        return sections

    def load(self, state: ShardState) -> None:
        """Take back what :meth:`state` gave."""
        self.first, self.next, self.last_ms = state.first, state.next, state.last_ms
        self.generation = state.generation
        self.cold = state.cold
        self.bytes = sum(file.bytes for file in state.cold)

    def load_blocks(self, content: bytes) -> None:
        """Take back a section."""
        _, count = _SECTION.unpack_from(content)
        at = _SECTION.size
        for column in (self.firsts, self.lsns, self.sizes, self.times):
            column.frombytes(content[at : at + 8 * count])
            at += 8 * count
        self.bytes += sum(self.sizes[-count:])


def _first(file: ColdFile) -> int:
    return file.first

"""Re-homing: what the log holds of a shard moves into a file of its own, once it is settled there.

So a shard's older records stand together: reading them is large sequential reads, letting them go
is unlinking a file, and the log's segments are free again. A job like compaction, in steps; its
file work runs in another thread. Rules:

- Only what stands below ``Log.sealed_lsn`` moves: its segment gets nothing any more. What is not in
  memory is read by the job itself, so that it waits in a thread, and takes nothing of the cache.
- A shard's blocks move when they are many, or when they keep an old segment from being freed. So
  the files of many slow shards do not become many small ones.
- The new file takes in the shard's last file as long as that is not larger than what moves, and
  both have at most ``FILE_BYTES_MAX``. So the files of a slow shard stay few, and each byte is
  copied a number of times that grows with the logarithm of the file. One that is damaged is left
  alone: whoever reads it is told.
- A file counts from its COLD record on. Should the broker end before, the file belongs to nobody
  and is removed when the log is opened; the blocks are still in the log.
"""

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ..storage.block import Block
from ..storage.checkpoint import Task
from ..storage.cold import ColdFile
from ..storage.errors import Corrupt, StorageError
from ..storage.log import ColdStore, ColdWriter, Extent, Job
from ..storage.streams import encode_cold
from .shard import Shard
from .stream import Stream
from .streamreading import block_at
from .streamstore import StreamStore

__all__ = ["FILE_BYTES_MAX", "rehome", "rehoming_due"]

FILE_BYTES_MAX = 64 * 1024 * 1024
_RETENTION_PART = 16  # of the bytes that a stream may have, in a file: files go as a whole
_BLOCKS_MAX = 65_536  # that move in one go
_WRITE_BYTES = 1024 * 1024  # collected before they are written
_STEP_BLOCKS = 64  # in one step on the loop

T = TypeVar("T")


def rehoming_due(
    store: StreamStore, sealed_lsn: int, bytes_max: int, lag_bytes_max: int
) -> Iterator[tuple[Stream, Shard]]:
    """The shards whose blocks should move: beyond ``bytes_max``, or ``lag_bytes_max`` behind.

    A shard that has more than what moves in one go comes again.
    """
    shards = [(each, shard) for each in store.by_id.values() for shard in each.shards.values()]
    for stream, shard in shards:
        while shard.lsns and shard.lsns[0] < sealed_lsn and shard.log.cold is not None:
            first = shard.firsts[0]
            if shard.hot_bytes <= bytes_max and sealed_lsn - shard.lsns[0] <= lag_bytes_max:
                break
            yield stream, shard
            if shard.firsts and shard.firsts[0] == first:
                break  # it did not work


def rehome(store: StreamStore, stream: Stream, shard: Shard) -> Iterator[Job]:
    """Move what is settled of one shard: run it like a checkpoint.

    Nothing is moved when the shard is trimmed in the middle of it, or deleted: another one will.

    Raises:
        StorageError: what was to be moved cannot be read, or there is no room. It stays.
    """
    log = shard.log
    cold = log.cold
    assert cold is not None
    count = min(bisect_left(shard.lsns, log.sealed_lsn), _BLOCKS_MAX)
    if not count or shard.id not in store.shards:
        return
    first, end = shard.firsts[0], shard.block_end(count - 1)
    replaced = _mergeable(stream, shard, sum(shard.sizes[:count]))
    generation = shard.generation + 1
    writer = _Writer(cold.begin(shard.id, generation))
    try:
        if replaced and not (yield from writer.take_in(cold, replaced)):
            replaced = []
            writer = _Writer(cold.begin(shard.id, generation))
        if not (yield from _copy(shard, first, end, writer)):
            yield from writer.run(writer.file.abandon)
            return
        found = yield from writer.run(writer.file.finish)
    except StorageError:
        yield from writer.run(writer.file.abandon)
        raise
    if store.shards.get(shard.id) is not shard:
        yield cold.unlink([found])
        return
    generations = [file.generation for file in replaced]
    log.append((encode_cold(found, generations),))
    store.rehome(found, generations)


def _mergeable(stream: Stream, shard: Shard, moving: int) -> list[ColdFile]:
    """The files that the new one takes in, which gets ``moving`` bytes besides."""
    replaced: list[ColdFile] = []
    bytes_max = FILE_BYTES_MAX
    if stream.settings.retention_bytes:
        bytes_max = min(bytes_max, stream.settings.retention_bytes // _RETENTION_PART)
    follows = shard.firsts[0]
    for file in reversed(shard.cold):
        if file.bytes > moving or moving + file.bytes > bytes_max or file.end != follows:
            break
        replaced.insert(0, file)
        moving += file.bytes
        follows = file.first
    return replaced


def _copy(shard: Shard, first: int, end: int, writer: "_Writer") -> Generator[Job, None, bool]:
    """Have the hot blocks from ``first`` up to ``end`` written, or up to where some are lost.

    Whether all of them still were there.
    """
    log = shard.log
    number = first
    extent: Extent | None = None
    size = steps = 0
    while number < end:
        if not shard.firsts or number < shard.firsts[0]:
            return False
        index = shard.block_of(number)
        if shard.firsts[index] != number:
            break
        lsn = shard.lsns[index]
        if extent is None or not extent.start <= lsn < extent.end:
            extent = log.get(lsn)
        if extent is None:
            extent = yield from writer.run(log.reading(lsn))
            continue
        block = block_at(shard, extent, index)
        writer.blocks.append(block)
        size += block.length
        steps += 1
        number = block.end
        if size >= _WRITE_BYTES:
            size = 0
            yield from writer.run(writer.write)
        elif not steps % _STEP_BLOCKS:
            yield None
    yield from writer.run(writer.write)
    return True


class _Writer:
    """Writes the file, in another thread than the broker's, which waits meanwhile."""

    def __init__(self, file: ColdWriter) -> None:
        self.file = file
        self.blocks: list[Block] = []  # to be written next

    def run(self, call: Callable[[], T]) -> Generator[Job, None, T]:
        """Have something done there; what it raises is raised here."""
        task = Task(call)
        yield task
        return task.result()

    def take_in(self, cold: ColdStore, files: Sequence[ColdFile]) -> Generator[Job, None, bool]:
        """Write the blocks of files; whether they could be read. If not, nothing was written."""
        try:
            for file in files:
                yield from self.run(partial(self.file.add, cold.blocks(file)))
        except Corrupt:
            yield from self.run(self.file.abandon)
            return False
        return True

    def write(self) -> None:
        """Write what was collected."""
        blocks, self.blocks = self.blocks, []
        if blocks:
            self.file.add(blocks)

"""Re-homing: what the log holds of a shard moves into a file of its own, once it is settled there.

So a shard's older records stand together: reading them is large sequential reads, letting them go
is unlinking a file, and the log's segments are free again. A job like compaction, in steps; its
file work runs in another thread. Rules:

- Only what stands below ``Log.sealed_lsn`` moves: its segment gets nothing any more.
- The new file takes in the shard's last file as long as that is not larger than what moves, and
  both have at most ``FILE_BYTES_MAX``. So the files of a slow shard stay few, and each byte is
  copied a number of times that grows with the logarithm of the file.
- A file counts from its COLD record on. Should the broker end before, the file belongs to nobody
  and is removed when the log is opened; the blocks are still in the log.
"""

from bisect import bisect_left
from collections.abc import Generator, Iterator

from ..storage.block import Block
from ..storage.cold import ColdFile
from ..storage.errors import StorageError
from ..storage.log import ColdStore, ColdWriter, Extent, Job
from ..storage.streams import encode_cold
from .shard import Shard
from .streamreading import block_at
from .streamstore import StreamStore

__all__ = ["FILE_BYTES_MAX", "rehome", "rehoming_due"]

FILE_BYTES_MAX = 64 * 1024 * 1024
_STEP_BYTES = 1024 * 1024  # collected before they are written


def rehoming_due(store: StreamStore, sealed_lsn: int) -> Iterator[Shard]:
    """The shards with blocks that can move."""
    for shard in list(store.shards.values()):
        if shard.lsns and shard.lsns[0] < sealed_lsn and shard.log.cold is not None:
            yield shard


def rehome(store: StreamStore, shard: Shard) -> Iterator[Job]:
    """Move what is settled of one shard: run it like a checkpoint.

    Nothing is moved when the shard is trimmed in the middle of it, or deleted: another one will.

    Raises:
        StorageError: what was to be moved cannot be read, or there is no room. It stays.
    """
    log = shard.log
    cold = log.cold
    assert cold is not None
    count = bisect_left(shard.lsns, log.sealed_lsn)
    if not count:
        return
    moving = sum(shard.sizes[:count])
    end = shard.block_end(count - 1)
    replaced: list[ColdFile] = []
    for file in reversed(shard.cold):
        if file.bytes > moving or moving + file.bytes > FILE_BYTES_MAX:
            break
        replaced.insert(0, file)
        moving += file.bytes
    generations = [file.generation for file in replaced]
    writer = _Writer(cold, shard, replaced)
    try:
        if (yield from _copy(shard, end, writer)):
            yield writer.finish
    finally:
        if writer.file is None:
            yield writer.abandon
    if writer.file is not None and store.shards.get(shard.id) is shard:
        log.append((encode_cold(writer.file, generations),))
        store.rehome(writer.file, generations)


def _copy(shard: Shard, end: int, writer: "_Writer") -> Generator[Job, None, bool]:
    """Have the hot blocks below ``end`` written; whether all of them still were there."""
    log = shard.log
    number = shard.firsts[0]
    extent: Extent | None = None
    size = 0
    while number < end:
        if not shard.firsts or number < shard.firsts[0]:
            return False
        index = shard.block_of(number)
        lsn = shard.lsns[index]
        if extent is None or not extent.start <= lsn < extent.end:
            extent = log.get(lsn)
        if extent is None:
            fetched: list[Extent | StorageError] = []
            log.fetch(lsn, _fetched, fetched)
            while not fetched:
                yield None
            if isinstance(fetched[0], StorageError):
                raise fetched[0]
            extent = fetched[0]
            continue
        block = block_at(shard, extent, index)
        writer.blocks.append(block)
        size += block.length
        number = block.end
        if size >= _STEP_BYTES:
            size = 0
            yield writer.write
    yield writer.write
    return True


def _fetched(found: object, extent: Extent | None, error: StorageError | None) -> None:
    assert isinstance(found, list)
    found.append(extent if error is None else error)


class _Writer:
    """Writes the file, in another thread than the broker's, which waits meanwhile."""

    def __init__(self, cold: ColdStore, shard: Shard, replaced: list[ColdFile]) -> None:
        self.blocks: list[Block] = []  # to be written next
        self.file: ColdFile | None = None  # when it is done
        self._cold = cold
        self._shard = shard.id
        self._generation = shard.generation + 1
        self._replaced = replaced
        self._writer: ColdWriter | None = None

    def write(self) -> None:
        """Write what was collected; first of all, the files that are taken in."""
        if self._writer is None:
            self._writer = self._cold.begin(self._shard, self._generation)
            for file in self._replaced:
                self._writer.add(self._cold.blocks(file))
        blocks, self.blocks = self.blocks, []
        if blocks:
            self._writer.add(blocks)

    def finish(self) -> None:
        """Make it durable."""
        assert self._writer is not None
        self.file = self._writer.finish()

    def abandon(self) -> None:
        """Leave nothing of it."""
        if self._writer is not None:
            self._writer.abandon()

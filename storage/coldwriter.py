"""Writing a cold file: blocks are merged, gathered into frames, compressed and written.

Rules:

- The file has its name only when all of it is on stable storage: what has the name is whole.
- What is held in memory is a frame and the blocks of one merge, whatever the file's size.
- A failure here harms nothing: the records still stand where they were.
"""

from array import array
from collections.abc import Callable, Iterable

from .block import BLOCK_SPAN_MS, Block, merge_blocks
from .checkpoint import create_anew
from .codec import Compressor
from .coldfile import (
    FOOT_BYTES,
    INDEX_ROW_BYTES,
    ColdFrame,
    ColdIndex,
    cold_name,
    cold_shard,
    encode_cold_frame,
    encode_cold_index,
)
from .disk import Disk
from .errors import DiskFull, StorageError
from .reserve import NO_ROOM
from .streams import ColdFile

__all__ = ["FRAME_BYTES_MAX", "MERGED_BYTES_MAX", "SYNC_BYTES", "ColdFileWriter"]

FRAME_BYTES_MAX = 1024 * 1024  # of a frame's content, not compressed; a larger block is alone
SYNC_BYTES = 4 * 1024 * 1024  # between two syncs; less slows the file down, more the commits
MERGED_BYTES_MAX = 64 * 1024  # of the blocks that are merged into one


class _Span:
    """What a run of records covers."""

    __slots__ = ("bytes", "end", "first", "newest_ms", "oldest_ms")

    def __init__(self) -> None:
        self.first = self.end = 0  # numbers; 0: no records yet
        self.oldest_ms = self.newest_ms = 0
        self.bytes = 0

    def cover(self, first: int, end: int, oldest_ms: int, newest_ms: int, size: int) -> None:
        """Add records that follow."""
        if not self.end:
            self.first, self.oldest_ms, self.newest_ms = first, oldest_ms, newest_ms
        self.end = end
        self.oldest_ms = min(self.oldest_ms, oldest_ms)
        self.newest_ms = max(self.newest_ms, newest_ms)
        self.bytes += size

    def covers_time(self, oldest_ms: int, newest_ms: int) -> bool:
        """Whether a block can hold these times together with those that are covered."""
        span_ms = max(self.newest_ms, newest_ms) - min(self.oldest_ms, oldest_ms)
        return span_ms < BLOCK_SPAN_MS


class ColdFileWriter:
    """Writes one cold file. See :class:`braidmq.storage.log.ColdWriter`."""

    def __init__(
        self, disk: Disk, directory: str, shard: int, generation: int, compressor: Compressor
    ) -> None:
        """Begin; nothing is touched before there is a frame to write."""
        self._disk = disk
        self._directory = f"{directory}/{cold_shard(shard)}"
        self._temporary = f"{self._directory}/{generation:08x}.tmp"
        self._shard = shard
        self._generation = generation
        self._compressor = compressor
        self._handle = -1
        self._size = self._synced = 0
        self._end = 0  # of what was added
        self._blocks: list[Block] = []  # to be merged
        self._merging = _Span()
        self._contents: list[bytes] = []  # merged, to be a frame
        self._framing = _Span()
        self._written = _Span()
        self._index = ColdIndex(array("Q"), array("Q"), array("Q"))

    def add(self, blocks: Iterable[Block]) -> None:
        """Write blocks that follow those added before, without a gap.

        Raises:
            DiskFull, StorageError: see ``ColdWriter``.
            ValueError: they do not follow, or are another shard's.
        """
        for block in blocks:
            if block.shard != self._shard or self._end not in (0, block.first):
                raise ValueError(f"{block.first} of {block.shard} does not follow {self._end}")
            self._end = block.end
            merging = self._merging
            newest_ms = block.time_last_ms
            if self._blocks and (
                merging.bytes + block.length > MERGED_BYTES_MAX
                or not merging.covers_time(block.time_ms, newest_ms)
            ):
                self._merge()
            self._blocks.append(block)
            self._merging.cover(block.first, block.end, block.time_ms, newest_ms, block.length)

    def _merge(self) -> None:
        content = merge_blocks(self._blocks)
        if self._contents and self._framing.bytes + len(content) > FRAME_BYTES_MAX:
            self._write_frame()
        span = self._merging
        self._contents.append(content)
        self._framing.cover(span.first, span.end, span.oldest_ms, span.newest_ms, len(content))
        self._blocks = []
        self._merging = _Span()

    def _write_frame(self) -> None:
        span = self._framing
        codec, content = self._compressor.compress(b"".join(self._contents))
        count = span.end - span.first
        frame = encode_cold_frame(
            ColdFrame(codec, span.first, count, span.bytes, span.oldest_ms, content)
        )
        self._index.numbers.append(span.first)
        self._index.offsets.append(self._size)
        self._index.times_last_ms.append(span.newest_ms)
        self._call(lambda: self._write_through(frame))
        self._written.cover(span.first, span.end, span.oldest_ms, span.newest_ms, len(frame))
        self._contents = []
        self._framing = _Span()

    def _write_through(self, frame: bytes) -> None:
        """Write, and sync now and then: the log's fdatasync waits for what gathers meanwhile."""
        self._write(frame)
        if self._size - self._synced >= SYNC_BYTES:
            self._disk.fdatasync(self._handle)
            self._synced = self._size

    def _write(self, content: bytes) -> None:
        if self._handle < 0:
            self._disk.makedirs(self._directory)
            self._handle = create_anew(self._disk, self._temporary)
        self._disk.pwrite(self._handle, self._size, (content,))
        self._size += len(content)

    def finish(self) -> ColdFile:
        """Make the file durable under its name.

        Raises:
            DiskFull, StorageError: see ``ColdWriter``. ValueError: no block was added.
        """
        if not self._end:
            raise ValueError("a cold file without records")
        self._merge()
        self._write_frame()
        span = self._written
        file = ColdFile(
            self._shard,
            self._generation,
            span.first,
            span.end,
            self._size + INDEX_ROW_BYTES * len(self._index.numbers) + FOOT_BYTES,
            span.oldest_ms,
            span.newest_ms,
        )
        self._call(lambda: self._write(encode_cold_index(file, self._index)))
        assert self._size == file.bytes
        self._call(lambda: self._publish(cold_name(file.first, file.generation)))
        return file

    def _publish(self, name: str) -> None:
        disk, handle = self._disk, self._handle
        disk.fdatasync(handle)
        self._handle = -1
        disk.close(handle)
        disk.rename(self._temporary, f"{self._directory}/{name}")
        disk.fsync_dir(self._directory)

    def abandon(self) -> None:
        """Remove what was written; what the disk does not let go is left to the next sweep."""
        if self._handle >= 0:
            self._disk.close(self._handle)
            self._handle = -1
        try:
            self._disk.unlink(self._temporary)
        except OSError:
            pass

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(f"{self._temporary}: no room for a cold file") from error
            raise StorageError(f"{self._temporary} cannot be written: {error}") from error

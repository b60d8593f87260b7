"""Reading cold files: large preads of whole frames, each checked before anything is handed out.

Rules:

- For one thread at a time. It keeps the last few files open, with their indexes, and the last few
  frames as blocks, because what was asked for is usually followed by what stands behind it.
- Every frame's CRC is checked each time it is read. What cannot be read is ``ColdCorrupt``, with
  the file and the offset.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

import msgspec

from .block import Block
from .codec import decompress
from .coldfile import (
    FOOT_BYTES,
    INDEX_ROW_BYTES,
    ColdIndex,
    cold_name,
    cold_shard,
    decode_cold_foot,
    decode_cold_frame,
    decode_cold_index,
    frame_blocks,
)
from .disk import Disk
from .errors import ColdCorrupt, FormatUnknown
from .frame import VERSION, VERSIONS_READ
from .streams import ColdFile

__all__ = ["FILES_MAX", "FRAME_CACHE_BYTES_MAX", "ColdReader", "cold_path", "read_cold_index"]

FILES_MAX = 32  # open at a time, with their indexes: 24 bytes for each MiB
FRAME_CACHE_BYTES_MAX = 8 * 1024 * 1024  # of blocks
_END_BYTES = 16 * 1024  # read first from a file's end: its foot, and the index of 600 frames


def cold_path(directory: str, file: ColdFile) -> str:
    """Where ``file`` stands, below the directory of all cold files."""
    return f"{directory}/{cold_shard(file.shard)}/{cold_name(file.first, file.generation)}"


class _OpenFile(msgspec.Struct, gc=False):
    """A file that is open for reading."""

    handle: int
    path: str
    index: ColdIndex


_end = attrgetter("end")
_Frame = tuple[int, int, int]  # shard, generation, index


class ColdReader:
    """Reads blocks back from cold files. See the module's rules."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        files_max: int = FILES_MAX,
        cache_bytes_max: int = FRAME_CACHE_BYTES_MAX,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._files_max = files_max
        self._files: OrderedDict[ColdFile, _OpenFile] = OrderedDict()
        self._cache_bytes_max = cache_bytes_max
        self._cache_bytes = 0
        self._cache: OrderedDict[_Frame, list[Block]] = OrderedDict()

    def read(self, file: ColdFile, number: int, records_max: int, bytes_max: int) -> list[Block]:
        """The block that holds ``number`` and those behind it, as far as they are asked for.

        At most ``bytes_max`` bytes, unless the first block alone is larger, and none but the first
        that begins ``records_max`` or more behind ``number``.

        Raises:
            Corrupt: something cannot be read as it was written.
        """
        assert file.first <= number < file.end
        index = self._open(file).index
        end = min(number + records_max, file.end)
        blocks: list[Block] = []
        total = 0
        for at in range(index.frame_of(number), len(index.numbers)):
            frame = self._frame(file, at)
            first = 0 if blocks else bisect_right(frame, number, key=_end)
            for block in islice(frame, first, None):
                total += block.length
                if blocks and (total > bytes_max or block.first >= end):
                    return blocks
                blocks.append(block)
            if total >= bytes_max or blocks[-1].end >= end:
                break
        return blocks

    def seek(self, file: ColdFile, time_ms: int) -> int:
        """The number of the first record appended at ``time_ms`` or later, or ``file.end``.

        Raises:
            Corrupt: something cannot be read as it was written.
        """
        at = self._open(file).index.frame_at(time_ms)
        if at is not None:
            for block in self._frame(file, at):
                number = block.number_at(time_ms)
                if number < block.end:
                    return number
        return file.end

    def frames(self, file: ColdFile) -> Iterator[list[Block]]:
        """All blocks of ``file``, those of a frame at a time; nothing of it is kept.

        Raises:
            Corrupt: something cannot be read as it was written.
        """
        for at in range(len(self._open(file).index.numbers)):
            yield self._read_frame(file, at)

    def _frame(self, file: ColdFile, at: int) -> list[Block]:
        key = (file.shard, file.generation, at)
        blocks = self._cache.get(key)
        if blocks is not None:
            self._cache.move_to_end(key)
            return blocks
        blocks = self._read_frame(file, at)
        size = len(blocks[0].buffer)
        if size <= self._cache_bytes_max:
            self._cache[key] = blocks
            self._cache_bytes += size
            while self._cache_bytes > self._cache_bytes_max:
                self._forget_frame(next(iter(self._cache)))
        return blocks

    def _forget_frame(self, key: _Frame) -> None:
        self._cache_bytes -= len(self._cache.pop(key)[0].buffer)

    def _read_frame(self, file: ColdFile, at: int) -> list[Block]:
        opened = self._open(file)
        start, end = opened.index.offsets[at], opened.index.offsets[at + 1]
        try:
            buffer = self._disk.pread(opened.handle, start, end - start)
            if len(buffer) != end - start:
                raise ValueError("the file ends in a frame")
            frame = decode_cold_frame(buffer)
            if frame.number != opened.index.numbers[at]:
                raise ValueError(f"a frame of {frame.number}, not of {opened.index.numbers[at]}")
            plain = decompress(frame.codec, frame.content, frame.plain_bytes)
            return frame_blocks(frame, file.shard, plain)
        except (OSError, ValueError) as error:
            raise ColdCorrupt(opened.path, start, str(error)) from error
        except FormatUnknown as error:
            raise FormatUnknown(f"{opened.path}: {error}") from None

    def _open(self, file: ColdFile) -> _OpenFile:
        opened = self._files.get(file)
        if opened is not None:
            self._files.move_to_end(file)
            return opened
        path = cold_path(self._directory, file)
        try:
            handle = self._disk.open(path)
        except OSError as error:
            raise ColdCorrupt(path, 0, f"it cannot be opened: {error}") from error
        try:
            opened = _OpenFile(handle, path, read_cold_index(self._disk, handle, path, file))
        except BaseException:
            self._disk.close(handle)
            raise
        while len(self._files) >= self._files_max:
            self._disk.close(self._files.popitem(last=False)[1].handle)
        self._files[file] = opened
        return opened

    def forget(self, file: ColdFile) -> None:
        """Close ``file`` and keep nothing of it."""
        opened = self._files.pop(file, None)
        if opened is not None:
            self._disk.close(opened.handle)
        for key in [key for key in self._cache if key[:2] == (file.shard, file.generation)]:
            self._forget_frame(key)

    def close(self) -> None:
        """Keep nothing."""
        for file in list(self._files):
            self.forget(file)
        self._cache.clear()
        self._cache_bytes = 0


def read_cold_index(disk: Disk, handle: int, path: str, file: ColdFile) -> ColdIndex:
    """Read the index of ``file``, open as ``handle``.

    Raises:
        Corrupt: it cannot be read as it was written. FormatUnknown: a later version wrote it.
    """
    size = file.bytes
    start = max(size - _END_BYTES, 0)
    try:
        buffer = disk.pread(handle, start, size - start)
        if len(buffer) != size - start:
            raise ValueError(f"the file is shorter than {size} bytes")
        found, version, frames = decode_cold_foot(buffer, size)
        start = size - INDEX_ROW_BYTES * frames - FOOT_BYTES
        if size - start > len(buffer):
            buffer = disk.pread(handle, start, size - start)
        index = decode_cold_index(buffer[start - size :], size)
        if version not in VERSIONS_READ:  # only now: before, it may be damage
            raise FormatUnknown(f"{path}: format {version}; this BraidMQ reads format {VERSION}")
        if found != file or index.numbers[0] != file.first:
            raise ValueError(f"it is the foot of {found}, not of {file}")
    except (OSError, ValueError) as error:
        raise ColdCorrupt(path, start, str(error)) from error
    return index

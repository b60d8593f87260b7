"""Segments: the files of the log, and how much of each is still needed.

A segment holds the frames from its base LSN to the base of the next one; byte ``lsn - base`` of
the file is byte ``lsn`` of the log. It has no header of its own::

    wal-<base lsn, 16 hex digits>-<epoch, 8 hex digits>.log

Rules:

- A segment is written by one opening of the log, under its epoch, and never appended to by a
  later one. When two epochs hold the same range, the higher one is right: a segment is effective
  only up to the base of the first segment of a higher epoch.
- Behind the last frame of a file there may be zeros, which the writer wrote ahead: where there is
  nothing but zeros, nothing was written.
- Liveness is counted in references: a record brings some when it is appended, each is released
  once. A segment without live references is unlinked after the next checkpoint.
"""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from .disk import Disk
from .errors import Corrupt
from .frame import FRAME_BYTES, FRAME_MAGIC
from .log import Extent, LogStatistics
from .record import RECORD_BYTES_MIN, record_is_intact, record_length

__all__ = [
    "EXTENT_BYTES",
    "SEGMENT_BYTES",
    "Segment",
    "SegmentFiles",
    "Segments",
    "effective_segments",
    "parse_segment_name",
    "read_once",
    "segment_name",
    "size_without_zeros",
    "verified_end",
]

EXTENT_BYTES = 256 * 1024
SEGMENT_BYTES = 64 * 1024 * 1024
_HANDLES_MAX = 16
_ADOPT_SLICE = 65_536
_NAME = re.compile(r"wal-([0-9a-f]{16})-([0-9a-f]{8})\.log")


def segment_name(base: int, epoch: int) -> str:
    """The file name of a segment."""
    return f"wal-{base:016x}-{epoch:08x}.log"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """(base, epoch) when ``name`` is that of a segment, else None."""
    match = _NAME.fullmatch(name)
    return (int(match[1], 16), int(match[2], 16)) if match else None


class Segment:
    """One file of the log."""

    __slots__ = ("base", "end", "epoch", "live", "total")

    def __init__(self, base: int, epoch: int, end: int) -> None:
        self.base = base
        self.epoch = epoch
        self.end = end  # where its effective range ends
        self.live = 0  # references not released yet
        self.total = 0  # references its records came with

    @property
    def name(self) -> str:
        return segment_name(self.base, self.epoch)

    @property
    def size(self) -> int:
        return self.end - self.base

    @property
    def live_bytes(self) -> int:
        """An estimate: as if every reference stood for the same number of bytes."""
        if not self.total:
            return 0
        return self.size * min(self.live, self.total) // self.total


def effective_segments(names: Iterable[str], epoch: int) -> tuple[list[Segment], list[str]]:
    """Return the segments that count, in order, and the names of those that do not.

    Those of a higher epoch than ``epoch`` were left by a recovery that did not finish; those that
    begin where, or after, a later opening of the log began again hold a tail it dropped.
    ``end`` of the last one is its base: only its size tells.
    """
    found: list[tuple[int, int]] = []
    ignored: list[str] = []
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is None:
            continue
        if parsed[1] > epoch:
            ignored.append(name)
        else:
            found.append(parsed)
    found.sort(key=lambda each: (-each[1], each[0]))
    kept: list[Segment] = []
    limit: int | None = None  # the base of the first segment of any higher epoch
    lowest: int | None = None
    current = -1
    for base, its_epoch in found:
        if its_epoch != current:
            limit, current = lowest, its_epoch
        if limit is not None and base >= limit:
            ignored.append(segment_name(base, its_epoch))
            continue
        kept.append(Segment(base, its_epoch, base))
        lowest = base if lowest is None else min(lowest, base)
    kept.sort(key=lambda segment: segment.base)
    for segment, following in pairwise(kept):
        segment.end = following.base
    return kept, ignored


class Segments:
    """The table of segments, in order of their base."""

    def __init__(self, segments: list[Segment], segment_bytes: int = SEGMENT_BYTES) -> None:
        """Take over ``segments``; the last one is the one being written."""
        self.items = segments
        self.segment_bytes = segment_bytes
        self._bases = [segment.base for segment in segments]

    @property
    def active(self) -> Segment:
        """The segment that is written now."""
        return self.items[-1]

    def place(self, lsn: int, end: int, references: int, live: int) -> int:
        """Decide which segment the frame [lsn, end) goes to; return that segment's base.

        Its records came with ``references``; of these ``live`` were not released meanwhile.
        """
        active = self.items[-1]
        assert lsn == active.end
        if active.size and end - active.base > self.segment_bytes:
            active = Segment(lsn, active.epoch, lsn)
            self.items.append(active)
            self._bases.append(lsn)
        active.end = end
        active.live += live
        active.total += references
        return active.base

    def find(self, lsn: int) -> Segment | None:
        """The segment that holds ``lsn``, or None when there is none."""
        index = bisect_right(self._bases, lsn) - 1
        if index < 0 or lsn >= self.items[index].end:
            return None
        return self.items[index]

    def release(self, lsn: int) -> None:
        """One reference to the record at ``lsn`` is gone."""
        self.items[bisect_right(self._bases, lsn) - 1].live -= 1

    def adopt(self, lsn: int) -> None:
        """One reference more to the record at ``lsn``."""
        self.items[bisect_right(self._bases, lsn) - 1].live += 1

    def release_many(self, lsns: Sequence[int]) -> None:
        """One reference to each of the records at ``lsns``, in any order, is gone."""
        if not lsns:
            return
        index = bisect_right(self._bases, min(lsns)) - 1
        if index + 1 == len(self._bases) or max(lsns) < self._bases[index + 1]:
            self.items[index].live -= len(lsns)
        else:
            for lsn in lsns:
                self.release(lsn)

    def adopt_many(self, lsns: "array[int]") -> None:
        """One reference more for each of ``lsns``, in any order (nearly ascending is fastest)."""
        for first in range(0, len(lsns), _ADOPT_SLICE):
            ordered = sorted(lsns[first : first + _ADOPT_SLICE])
            start = 0
            index = max(bisect_right(self._bases, ordered[0]) - 1, 0)
            while start < len(ordered):
                if index + 1 < len(self._bases):
                    stop = bisect_left(ordered, self._bases[index + 1], start)
                else:
                    stop = len(ordered)
                self.items[index].live += stop - start
                start = stop
                index += 1

    def summarize(self, statistics: LogStatistics) -> None:
        """Say how many there are now, and how much is in them."""
        statistics.segments = len(self.items)
        statistics.bytes_in_segments = sum(each.size for each in self.items)
        statistics.bytes_live_estimate = sum(each.live_bytes for each in self.items)

    def sealed_lsn(self, durable_lsn: int) -> int:
        """The last base that ``durable_lsn`` has reached: all below it is sealed and durable."""
        for base in reversed(self._bases):
            if base <= durable_lsn:
                return base
        return 0

    def dead(self, below: int) -> list[Segment]:
        """The segments wholly below ``below`` that nobody needs; never the active one."""
        return [each for each in self.items[:-1] if each.end <= below and each.live <= 0]

    def remove(self, segments: list[Segment]) -> None:
        """Forget segments that were unlinked."""
        gone = set(map(id, segments))
        self.items = [segment for segment in self.items if id(segment) not in gone]
        self._bases = [segment.base for segment in self.items]


class SegmentFiles:
    """Open files for reading, the most recently used few. For one thread at a time."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._handles: dict[str, int] = {}

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read from a segment; fewer bytes only where the file ends."""
        handle = self._handles.pop(name, None)
        if handle is None:
            handle = self._disk.open(f"{self._directory}/{name}")
            if len(self._handles) >= _HANDLES_MAX:
                oldest = next(iter(self._handles))
                self._disk.close(self._handles.pop(oldest))
        self._handles[name] = handle
        return self._disk.pread(handle, offset, size)

    def read_extent(self, name: str, base: int, lsn: int, stop: int) -> Extent:
        """Read the record at ``lsn`` and what follows it, at most up to ``stop``, and verify it.

        Raises:
            Corrupt: the record fails its CRC, or the file cannot be read.
        """
        offset = lsn - base
        try:
            buffer = self.read(name, offset, min(EXTENT_BYTES, stop - lsn))
            if len(buffer) >= RECORD_BYTES_MIN:
                length = record_length(buffer)
                if len(buffer) < length <= stop - lsn:
                    buffer = self.read(name, offset, length)
        except OSError as error:
            raise Corrupt(lsn, f"{name} cannot be read: {error}") from error
        end = verified_end(buffer, lsn)
        if end == lsn:
            raise Corrupt(lsn, f"{name}: the record there is not whole, or fails its CRC")
        return Extent(lsn, end, buffer)

    def close(self) -> None:
        """Close what is open."""
        while self._handles:
            self._disk.close(self._handles.popitem()[1])


def size_without_zeros(disk: Disk, path: str) -> int:
    """The size of a file but for the zeros that it ends with, whether a frame has them or none."""
    size = disk.size(path)
    handle = disk.open(path)
    try:
        while size:
            start = max(size - EXTENT_BYTES, 0)
            rest = disk.pread(handle, start, size - start).rstrip(b"\0")
            size = start + len(rest)
            if rest:
                break
        return size
    finally:
        disk.close(handle)


def read_once(disk: Disk, directory: str, segment: Segment, lsn: int, stop: int) -> Extent:
    """As ``read_extent``, with the file open for that long only: in any thread."""
    files = SegmentFiles(disk, directory)
    try:
        return files.read_extent(segment.name, segment.base, lsn, stop)
    finally:
        files.close()


def verified_end(buffer: bytes, lsn: int) -> int:
    """How far ``buffer``, the log's bytes from the record at ``lsn`` on, holds intact records.

    Returns the LSN behind the last whole record whose CRC holds; ``lsn`` when the first one is
    not whole or damaged. Between frames there are up to 7 zeros and a header: no record begins
    with those bytes, because read as a length they exceed every limit.
    """
    at = 0
    size = len(buffer)
    while size - at >= RECORD_BYTES_MIN:
        if record_is_intact(buffer, at):
            at += record_length(buffer, at)
            continue
        header = at + -(lsn + at) % 8
        if (
            at == 0
            or buffer[header : header + 4] != FRAME_MAGIC
            or buffer[at:header].strip(b"\0")
            or not record_is_intact(buffer, header + FRAME_BYTES)
        ):
            break
        at = header + FRAME_BYTES
    return lsn + at

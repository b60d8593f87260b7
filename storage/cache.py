"""What is kept in memory of the log: the frames written last, and what was read back.

A message is usually delivered moments after it was published, so its frame is kept as it was
built, up to a limit in bytes. What is older is read in extents of 256 KiB that begin at the record
wanted, because the records behind it are usually wanted next.

Rules:

- A frame is never dropped before it is written: nothing else could produce it then.
- What was read back is verified record by record before it gets here.
- The limits are bytes held; the bookkeeping of an entry is counted with ``_ENTRY_BYTES``.
"""

from bisect import bisect_right, insort
from collections import OrderedDict

from .commit import Frame
from .log import Extent
from .segment import EXTENT_BYTES

__all__ = ["ExtentCache", "FrameCache"]

_ENTRY_BYTES = 400


class FrameCache:
    """The most recent frames, found by bisect."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._starts: list[int] = []
        self._frames: list[Frame] = []

    def add(self, frame: Frame, written_lsn: int) -> None:
        """Keep ``frame``, the newest; drop the oldest of those below ``written_lsn``."""
        if frame.count:
            self._starts.append(frame.lsn)
            self._frames.append(frame)
            self.bytes += frame.payload_length + _ENTRY_BYTES
        if self.bytes > self.bytes_max:
            self._drop(written_lsn)

    def _drop(self, written_lsn: int) -> None:
        goal = self.bytes_max - self.bytes_max // 8  # many at once: the lists are moved once
        count = 0
        for frame in self._frames:
            if self.bytes <= goal or frame.end > written_lsn:
                break
            self.bytes -= frame.payload_length + _ENTRY_BYTES
            count += 1
        del self._starts[:count], self._frames[:count]

    def find(self, lsn: int) -> Extent | None:
        """The frame's records, when the record at ``lsn`` is in a frame that is here."""
        index = bisect_right(self._starts, lsn) - 1
        if index < 0:
            return None
        frame = self._frames[index]
        return frame.extent() if lsn < frame.end else None


class ExtentCache:
    """What was read back, least recently used out first."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._starts: list[int] = []
        self._extents: OrderedDict[int, Extent] = OrderedDict()

    def add(self, extent: Extent) -> None:
        """Keep ``extent``; one larger than an eighth of the limit is not worth the others."""
        size = len(extent.buffer) + _ENTRY_BYTES
        if size > self.bytes_max // 8 and size > EXTENT_BYTES + _ENTRY_BYTES:
            return
        if extent.start in self._extents:
            self._remove(extent.start)
        insort(self._starts, extent.start)
        self._extents[extent.start] = extent
        self.bytes += size
        while self.bytes > self.bytes_max and len(self._extents) > 1:
            self._remove(next(iter(self._extents)))

    def _remove(self, start: int) -> None:
        self.bytes -= len(self._extents.pop(start).buffer) + _ENTRY_BYTES
        del self._starts[bisect_right(self._starts, start) - 1]

    def find(self, lsn: int) -> Extent | None:
        """The extent that holds the whole record at ``lsn``."""
        index = bisect_right(self._starts, lsn) - 1
        if index < 0:
            return None
        start = self._starts[index]
        extent = self._extents[start]
        if lsn >= extent.end:
            return None
        self._extents.move_to_end(start)
        return extent

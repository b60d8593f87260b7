"""Reading back: what left the cache is read by a thread of its own, never by the owner's.

Rules:

- A read that another one under way will probably cover waits for that one.
- A record that cannot be read is an error to who asked for it, and to nobody else.
- ``find`` and ``read`` are the owner's; ``_run`` alone is the worker's.
"""

from collections.abc import Callable
from functools import partial

from .cache import ExtentCache
from .disk import Disk
from .errors import StorageError
from .log import Extent, FetchCallback, Log
from .segment import EXTENT_BYTES, Segment, SegmentFiles
from .writer import Worker

__all__ = ["Reader"]

_COALESCE = 8  # how many of the reads under way are looked at for one that covers another

Schedule = Callable[[Callable[[], None]], None]


class _Read:
    """A read under way and who waits for it."""

    __slots__ = ("error", "extent", "lsn", "waiting")

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        self.waiting: list[tuple[int, FetchCallback, object]] = []
        self.extent: Extent | None = None
        self.error: StorageError | None = None


class Reader:
    """Reads records back for a log, and keeps what it has read for a while."""

    def __init__(self, log: Log, disk: Disk, directory: str, cache_bytes_max: int) -> None:
        self._log = log
        self._files = SegmentFiles(disk, directory)
        self._extents = ExtentCache(cache_bytes_max)
        self._reads: list[_Read] = []

    def start(self, worker: Worker, soon: Schedule, report: Schedule) -> None:
        """Use ``worker``; ``soon`` and ``report`` lead back to the owner's thread."""
        self._worker = worker
        self._soon = soon
        self._report = report

    def close(self) -> None:
        """Close the files. Only after the worker has stopped."""
        self._files.close()

    def find(self, lsn: int) -> Extent | None:
        """The record at ``lsn`` if it was read a short while ago."""
        return self._extents.find(lsn)

    def read(
        self, segment: Segment, lsn: int, stop: int, callback: FetchCallback, argument: object
    ) -> None:
        """Read the record at ``lsn`` in ``segment``, and what follows it up to ``stop``."""
        for read in self._reads[-_COALESCE:]:
            if read.lsn <= lsn < read.lsn + EXTENT_BYTES:
                read.waiting.append((lsn, callback, argument))
                return
        read = _Read(lsn)
        read.waiting.append((lsn, callback, argument))
        self._reads.append(read)
        self._worker.submit(partial(self._run, read, segment.name, segment.base, stop))

    def _run(self, read: _Read, name: str, base: int, stop: int) -> None:
        try:
            read.extent = self._files.read_extent(name, base, read.lsn, stop)
        except StorageError as error:
            read.error = error
        except Exception as error:  # MemoryError for one: it must not end the thread
            read.error = StorageError(f"lsn {read.lsn} cannot be read: {error!r}")
        self._report(partial(self._on_read, read))

    def _on_read(self, read: _Read) -> None:
        self._reads.remove(read)
        extent = read.extent
        if extent is not None:
            self._extents.add(extent)
        for lsn, callback, argument in read.waiting:
            if extent is not None and lsn < extent.end:
                self._soon(partial(callback, argument, extent, None))
            elif lsn == read.lsn:
                self._soon(partial(callback, argument, None, read.error))
            else:
                self._log.fetch(lsn, callback, argument)

"""MemoryLog: the verbs of the log, with nothing on disk.

For brokers without a directory, for tests, and beside a file log for queues that live in memory
(there with a ``first_lsn`` far above every position in the file).

Rules:

- A record is kept while it has references; one that came with none is gone at once.
- Written and durable mean: the owner's next turn has come. So callers meet the same order of
  events as with files.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import partial

from .errors import Corrupt, LogClosed, StorageError
from .log import (
    RECORD_BYTES_MAX,
    RUN_BYTES_MAX,
    Callback,
    ColdStore,
    Durability,
    Extent,
    FetchCallback,
    Job,
    LogStatistics,
    RecoveryReport,
    Replay,
    Scheduler,
)

__all__ = ["MemoryLog"]

_Waiter = tuple[Callback, object]


def _nothing() -> None:
    pass


class MemoryLog:
    """A log in memory. See :class:`braidmq.storage.log.Log`."""

    def __init__(self, first_lsn: int = 1) -> None:
        """Number records from ``first_lsn`` on, which must not be 0."""
        assert first_lsn > 0
        self.on_progress: Callable[[], None] = _nothing
        self._next_lsn = first_lsn
        self._durable_lsn = first_lsn
        self._records: dict[int, bytes] = {}
        self._references: dict[int, int] = {}  # of records with a count other than 1
        self._bytes = 0
        self._waiters: list[_Waiter] = []
        self._scheduler: Scheduler | None = None
        self._error: StorageError | None = None
        self._awake = False
        self._statistics = LogStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)

    @property
    def instance(self) -> int:
        return 0

    @property
    def next_lsn(self) -> int:
        return self._next_lsn

    @property
    def written_lsn(self) -> int:
        return self._durable_lsn

    @property
    def durable_lsn(self) -> int:
        return self._durable_lsn

    @property
    def sealed_lsn(self) -> int:
        return 0

    @property
    def cold(self) -> ColdStore | None:
        return None

    @property
    def pending_bytes(self) -> int:
        return self._next_lsn - self._durable_lsn

    def open(
        self, replay: Replay, progress: Callable[[int, int], None] | None = None
    ) -> RecoveryReport:
        """There is nothing to recover."""
        replay.finish()
        lsn = self._next_lsn
        return RecoveryReport(0, lsn, lsn, 0, 0, 0, 0, 0, 0.0)

    def start(self, scheduler: Scheduler) -> None:
        """Begin to commit."""
        assert self._scheduler is None
        self._scheduler = scheduler
        if self._awake:
            scheduler.soon(self._flush)

    def append(self, parts: Sequence[bytes], references: int = 0, *, linger: bool = False) -> int:
        """Add one encoded record; return its LSN."""
        lsn = self._next_lsn
        if references:
            record = b"".join(parts)
            size = len(record)
            self._records[lsn] = record
            self._bytes += size
            if references != 1:
                self._references[lsn] = references
        else:
            size = sum(map(len, parts))
        self._next_lsn = lsn + size
        self._statistics.records += 1
        self._statistics.bytes_appended += size
        if not self._awake:
            self._wake()
        return lsn

    def append_run(self, records: bytes, count: int, references: int) -> int:
        """Add records of one size that stand back to back; the first one's LSN."""
        if len(records) > RUN_BYTES_MAX:
            raise ValueError(f"a run of {len(records)} bytes; the limit is {RUN_BYTES_MAX}")
        size = len(records) // count
        first = self._next_lsn
        for at in range(0, len(records), size):
            self.append((records[at : at + size],), references)
        return first

    def append_together(self, records: Sequence[bytes], references: Sequence[int]) -> list[int]:
        """Add records; return their LSNs."""
        size = sum(map(len, records))
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"{size} bytes together; the limit is {RECORD_BYTES_MAX}")
        return [
            self.append((record,), count) for record, count in zip(records, references, strict=True)
        ]

    def in_one_frame(self, size: int) -> AbstractContextManager[None]:
        """There are no frames: all that is here is gone at once."""
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"{size} bytes in one frame; the limit is {RECORD_BYTES_MAX}")
        return nullcontext()

    def wait(self, level: Durability, callback: Callback, argument: object) -> None:
        """Call ``callback(argument, error)`` in the owner's next turn."""
        if self._error is not None:
            self._soon(partial(callback, argument, self._error))
            return
        self._waiters.append((callback, argument))
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        if self._error is not None:
            raise self._error
        self._awake = True
        if self._scheduler is not None:
            self._scheduler.soon(self._flush)

    def _soon(self, callback: Callable[[], None]) -> None:
        if self._scheduler is None:
            raise LogClosed("the log was not started")
        self._scheduler.soon(callback)

    def _flush(self) -> None:
        if self._error is not None:
            return
        self._awake = False
        self._durable_lsn = self._next_lsn
        waiters, self._waiters = self._waiters, []
        self._statistics.commits += 1
        try:
            self._tell(waiters, None)
        finally:
            self.on_progress()

    def _tell(self, waiters: Iterable[_Waiter], error: StorageError | None) -> None:
        waiters = iter(waiters)
        try:
            for callback, argument in waiters:
                callback(argument, error)
        except BaseException:
            self._soon(partial(self._tell, waiters, error))
            raise

    def admit(self) -> None:
        """Raise LogClosed after close; a limit on memory is the broker's to set."""
        if self._error is not None:
            raise self._error

    def get(self, lsn: int) -> Extent | None:
        """The record at ``lsn``."""
        record = self._records.get(lsn)
        return None if record is None else Extent(lsn, lsn + len(record), record)

    def fetch(self, lsn: int, callback: FetchCallback, argument: object) -> None:
        """The record at ``lsn``, in the owner's next turn."""
        error = self._error
        extent = self.get(lsn) if error is None else None
        if extent is None and error is None:
            error = Corrupt(lsn, "no record stands there")
        self._statistics.fetches += 1
        self._soon(partial(callback, argument, extent, error))

    def reading(self, lsn: int) -> Callable[[], Extent]:
        """A call that gets the record at ``lsn``."""
        extent = self.get(lsn)
        if extent is None:
            raise Corrupt(lsn, "no record stands there")
        return lambda: extent

    def release(self, lsn: int) -> None:
        """One reference to the record at ``lsn`` is gone."""
        count = self._references.pop(lsn, 1) - 1
        if count <= 0:
            record = self._records.pop(lsn, b"")
            self._bytes -= len(record)
        elif count > 1:
            self._references[lsn] = count

    def release_many(self, lsns: Sequence[int]) -> None:
        """One reference to each of the records at ``lsns`` is gone."""
        for lsn in lsns:
            self.release(lsn)

    def adopt(self, lsn: int) -> None:
        """Count one reference more to the record at ``lsn``."""
        if lsn in self._records:
            self._references[lsn] = self._references.get(lsn, 1) + 1

    def adopt_many(self, lsns: "array[int]") -> None:
        """Count one reference more for each of ``lsns``."""
        for lsn in lsns:
            self.adopt(lsn)

    def checkpoint_due(self) -> bool:
        """Never: there is nothing to come back to."""
        return False

    def checkpoint(self) -> Iterator[Job]:
        """Nothing to do."""
        return iter(())

    def compaction_due(self) -> bool:
        """Never: a dead record is gone at once."""
        return False

    def compact(self) -> Iterator[Job]:
        """Nothing to do."""
        return iter(())

    def housekeep(self) -> Iterator[Job]:
        """Nothing to do."""
        return iter(())

    def statistics(self) -> LogStatistics:
        """Counters since the beginning; what is held counts as one segment."""
        self._statistics.bytes_in_segments = self._bytes
        self._statistics.bytes_live_estimate = self._bytes
        return copy(self._statistics)

    def close(self) -> None:
        """Answer who waits, forget everything."""
        if self._error is not None:
            return
        if self._waiters:
            self._flush()
        self._error = LogClosed("the log was closed")
        self._awake = False
        self._records.clear()
        self._references.clear()
        self._bytes = 0

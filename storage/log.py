"""The log as a contract: what the broker asks of it, and what it asks of the broker.

Two implementations stand here, ``filelog.py`` (a directory) and ``memory.py`` (nothing on disk);
``tests/unit/storage/test_log.py`` holds both, and any third one, to this page.

Rules:

- One thread, the owner's, calls the log. A log may use threads of its own; it calls back only
  through the ``Scheduler`` it was started with, or from within a call the owner made.
- An LSN is a byte position in the endless log. The record appended first has the lower LSN.
  Position 0 is never a record, so 0 means "none".
- Appending changes nothing by itself: records become *written*, then *durable*, in LSN order, and
  waiting callbacks are called in LSN order, exactly once, with None or with the error.
- After one failed write or fdatasync the log is poisoned: every waiter gets ``LogFailed``, and so
  does every later call. Only opening it again recovers.
"""

import enum
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from .block import Block
from .errors import StorageError
from .streams import ColdFile

__all__ = [
    "RECORD_BYTES_MAX",
    "RUN_BYTES_MAX",
    "BlocksCallback",
    "Callback",
    "ColdStore",
    "ColdWriter",
    "Durability",
    "Extent",
    "FetchCallback",
    "Job",
    "Log",
    "LogStatistics",
    "NumberCallback",
    "RecoveryReport",
    "Reference",
    "Replay",
    "Scheduler",
]

# Of one record, and of records that are appended together; less than the magic of a frame, read
# as a length.
RECORD_BYTES_MAX = 256 * 1024 * 1024
RUN_BYTES_MAX = 256 * 1024  # of a run

Callback = Callable[[object, StorageError | None], None]
Job = Callable[[], None] | None


class Durability(enum.IntEnum):
    """When something counts as kept. Numbers are on disk in definitions."""

    MEMORY = 0  # never logged; gone with the process
    OS = 1  # written: survives the process, not a power cut
    SYNC = 2  # after fdatasync: survives a power cut


class Extent(msgspec.Struct, gc=False):
    """A run of log bytes in memory: the record at ``lsn`` begins at ``buffer[lsn - start]``.

    Every record with ``start <= lsn < end`` is whole and verified. Go from one to the next by
    their LSNs: between two of them there may be the header of a frame.
    """

    start: int
    end: int
    buffer: bytes


FetchCallback = Callable[[object, Extent | None, StorageError | None], None]
BlocksCallback = Callable[[object, list[Block] | None, StorageError | None], None]
NumberCallback = Callable[[object, int | None, StorageError | None], None]


class Reference(msgspec.Struct, gc=False):
    """One place that still needs the record at ``lsn`` (``kind`` is MESSAGE or LINK)."""

    lsn: int
    kind: int
    entity: int
    seq: int


class RecoveryReport(msgspec.Struct):
    """What opening the log found and did."""

    epoch: int
    checkpoint_lsn: int  # replay began here
    end_lsn: int  # the log goes on here
    frames: int
    records: int
    bytes_replayed: int
    bytes_dropped: int  # never acknowledged: a torn or unfinished tail
    bytes_reappended: int  # perhaps not on stable storage: written again before serving
    seconds: float
    accepted_loss: str | None = None  # what --accept-loss let pass


class LogStatistics(msgspec.Struct):
    """Counters since opening, for metrics, and the sizes now."""

    commits: int
    synced_commits: int
    frames: int
    records: int
    bytes_appended: int
    bytes_in_segments: int
    bytes_live_estimate: int
    segments: int
    checkpoints: int
    compacted_bytes: int
    fetches: int
    sync_seconds_total: float


class Replay(Protocol):
    """What the broker offers the log: its state, as sections and records.

    While the log opens (``load`` and ``apply``, up to ``finish``) references are not counted:
    append, release and adopt have no meaning yet, and ``release`` and ``adopt`` do nothing.
    ``finish`` calls :meth:`Log.adopt` (or ``adopt_many``) once for each reference that is live
    in the recovered state.
    """

    def load(self, kind: int, content: bytes) -> None:
        """Take one section of the last checkpoint. Called in the order they were written."""

    def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        """Apply the record at ``buffer[at]``. It may already be part of the loaded state.

        Compaction calls this too, for a copy it has appended with one reference for each target
        (flag MOVED). Each place that still holds the LSN which the copy replaces takes the new
        one and releases the old; for each target that does not (it died meanwhile) release the
        new one.
        """

    def finish(self) -> None:
        """Everything was loaded and applied: adopt what is live."""

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """Yield the state as (kind, content) sections, at most 1 ms of work at a time.

        Appends and applies may happen between the steps: what is yielded may be newer than the
        moment the snapshot began, never older.
        """

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        """Yield, in slices of at most 1 ms, who needs a record with first <= lsn < end.

        Every such record that is live all the while is yielded once for each place; one that
        dies meanwhile may or may not be.
        """


class Scheduler(Protocol):
    """How the log comes back to its owner's thread."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the owner's thread after what it is doing now."""

    def soon_from_thread(self, callback: Callable[[], None]) -> None:
        """The same, from any thread."""

    def later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the owner's thread when ``delay_ms`` have passed, or not at all if
        the owner has ended by then."""

    def now_ms(self) -> int:
        """Unix time in ms that never goes back. Called on the owner's thread."""


class ColdWriter(Protocol):
    """A cold file being written, by one thread that is not the owner's: every method blocks."""

    def add(self, blocks: Iterable[Block]) -> None:
        """Write blocks that follow those added before, without a gap.

        Raises:
            DiskFull: there is no room. StorageError: the disk failed. Abandon it then.
        """

    def finish(self) -> ColdFile:
        """Make the file durable under its name; there must be a block in it.

        Raises:
            As :meth:`add`. Abandon it then.
        """

    def abandon(self) -> None:
        """Remove what was written; nothing happens after :meth:`finish`."""


class ColdStore(Protocol):
    """Files of blocks for good, beside a log. See ``cold.py`` for what a file is.

    A file counts from the COLD record on that names it, which its writer's owner appends. What no
    record names is removed by :meth:`sweep`.
    """

    def begin(self, shard: int, generation: int) -> ColdWriter:
        """Begin a file of ``shard``; its ``generation`` was never used there. In any thread."""

    def write(self, shard: int, generation: int, blocks: Iterable[Block]) -> ColdFile:
        """Write a whole file: begin, add, finish; or abandon and raise.

        Blocks: run it in another thread than the owner's, which then draws ``blocks`` too.

        Raises:
            DiskFull: there is no room. StorageError: the disk failed.
        """

    def blocks(self, file: ColdFile) -> Iterator[Block]:
        """All blocks of ``file``, in order, for :meth:`write`. Blocks, as that does.

        Raises:
            Corrupt: it is damaged, or not there.
        """

    def read(
        self,
        file: ColdFile,
        number: int,
        records_max: int,
        bytes_max: int,
        callback: BlocksCallback,
        argument: object,
    ) -> None:
        """Read the block that holds ``number``, and those behind it in ``file``.

        Then ``callback(argument, blocks, None)`` is called, or ``callback(argument, None, error)``;
        never from within this call. The blocks have at most ``bytes_max`` bytes together, and
        reach ``records_max`` records from ``number`` on and no further, but there is always one.
        ``Corrupt`` when something fails its CRC.
        """

    def seek(
        self, file: ColdFile, time_ms: int, callback: NumberCallback, argument: object
    ) -> None:
        """Find the first record appended at ``time_ms`` or later, as a number.

        That is ``file.end`` when there is none. The callback is called as that of :meth:`read`.
        """

    def unlink(self, files: Sequence[ColdFile]) -> Job:
        """A job that removes ``files`` when the reads begun before are done.

        Begin no read of them any more, and have what says so durable before.
        """

    def sweep(self, known: Collection[ColdFile]) -> list[ColdFile]:
        """Remove all files but ``known``; return those of ``known`` that are lost.

        Call it once, after ``open`` and before any other; blocks.

        Raises:
            Corrupt: some are missing or cut short, and the log was not told to accept a loss.
        """


class Log(Protocol):
    """An append-only log. See the module's rules."""

    on_progress: Callable[[], None]  # set by the owner: written_lsn or durable_lsn has risen

    @property
    def instance(self) -> int:
        """Which log this is: a number made by chance with the directory, from 1 to 2**63 - 1.

        0 when the log does not outlive the process. Known after :meth:`open`.
        """

    @property
    def next_lsn(self) -> int:
        """Where the next record will stand, at the earliest."""

    @property
    def written_lsn(self) -> int:
        """All below survives the process."""

    @property
    def durable_lsn(self) -> int:
        """All below survives a power cut."""

    @property
    def sealed_lsn(self) -> int:
        """All below is durable, in segments that get nothing any more; 0 when there are none."""

    @property
    def pending_bytes(self) -> int:
        """Appended, not yet written: what waits in memory for the disk."""

    @property
    def cold(self) -> ColdStore | None:
        """Where old blocks go; None when this log has no files."""

    def open(
        self, replay: Replay, progress: Callable[[int, int], None] | None = None
    ) -> RecoveryReport:
        """Lock, recover, load and apply all into ``replay``; then the log takes appends.

        Blocks (run it in a thread); ``progress(done_bytes, total_bytes)`` is called now and then.

        Raises:
            Locked: another process has it. Corrupt: acknowledged data is damaged.
            FormatUnknown: written by another version. OSError: as the system says.
        """

    def start(self, scheduler: Scheduler) -> None:
        """Begin to commit. Call it on the owner's thread, after open."""

    def append(self, parts: Sequence[bytes], references: int = 0, *, linger: bool = False) -> int:
        """Add one encoded record (its ``parts``, back to back) and return its LSN.

        ``references`` is how many :meth:`release` calls will come for it; a record with 0 is not
        kept beyond the next checkpoint. A record that may ``linger`` waits up to ``LINGER_MS`` for
        others to be written with, unless somebody waits for it.
        """

    def append_run(self, records: bytes, count: int, references: int) -> int:
        """Add ``count`` records of one size that stand back to back; the first one's LSN.

        They stand back to back in the log too, in one frame, so all of them are kept or none.
        ``references`` is for each. ValueError for more than ``RUN_BYTES_MAX`` bytes.
        """

    def append_together(self, records: Sequence[bytes], references: Sequence[int]) -> list[int]:
        """Add records of any size in one frame; return their LSNs.

        All of them are kept or none. ``references`` has one count for each. ValueError, and
        nothing happens, for more than ``RECORD_BYTES_MAX`` bytes.
        """

    def in_one_frame(self, size: int) -> AbstractContextManager[None]:
        """Have all records that are appended within ``with log.in_one_frame(size):`` in one frame.

        All of them are kept or none, whichever of the methods above appends them. ``size`` is how
        many bytes they will have, or more; a frame is begun for them if the open one has no room
        for so many. ValueError, and nothing happens, for more than ``RECORD_BYTES_MAX``. Not to be
        nested, nor left open while the owner's thread goes on to anything else.
        """

    def wait(self, level: Durability, callback: Callback, argument: object) -> None:
        """Call ``callback(argument, error)`` once all that was appended so far is at ``level``."""

    def admit(self) -> None:
        """Raise DiskFull or LogFailed when no new message may be taken; else return."""

    def get(self, lsn: int) -> Extent | None:
        """The record at ``lsn`` if it is in memory, whole, else None. Never blocks."""

    def fetch(self, lsn: int, callback: FetchCallback, argument: object) -> None:
        """Read the record at ``lsn`` and what follows it.

        Then ``callback(argument, extent, None)`` is called, or ``callback(argument, None, error)``.
        The callback is never called from within this call. ``Corrupt`` when it fails its CRC.
        """

    def reading(self, lsn: int) -> Callable[[], Extent]:
        """A call for another thread that reads the record at ``lsn``, and what follows it, anew.

        For jobs, while which no segment goes; the record is written. What is read is not kept in
        memory. Raises Corrupt, and so does the call.
        """

    def release(self, lsn: int) -> None:
        """One reference to the record at ``lsn`` is gone."""

    def release_many(self, lsns: Sequence[int]) -> None:
        """One reference to each of the records at ``lsns``, in any order, is gone."""

    def adopt(self, lsn: int) -> None:
        """Count one reference more to the record at ``lsn`` (from ``finish``, or when linking)."""

    def adopt_many(self, lsns: "array[int]") -> None:
        """Count one reference more for each of ``lsns``, an ``array("Q")`` in any order.

        For ``finish``: fast, fastest when nearly ascending.
        """

    def checkpoint_due(self) -> bool:
        """Whether enough was appended since the last checkpoint to make another worth it."""

    def checkpoint(self) -> Iterator[Job]:
        """Take a checkpoint: run the iterator to its end.

        Each step is at most 2 ms of work. When a step yields a callable, run that in another
        thread (it does the file work) and go on when it has returned.
        """

    def compaction_due(self) -> bool:
        """Whether some segment is mostly dead and worth copying forward."""

    def compact(self) -> Iterator[Job]:
        """Copy the live records of the deadest segment forward; run it like a checkpoint.

        The moved records are appended with the flag MOVED and handed to ``replay.apply``.
        """

    def housekeep(self) -> Iterator[Job]:
        """Once a second: sync what is only written, note the durable position, mind the reserve."""

    def statistics(self) -> LogStatistics:
        """Counters since opening."""

    def close(self) -> None:
        """Commit what was appended, release the lock. Blocks for at most one commit."""

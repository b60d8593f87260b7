"""The log in a directory: ``Log`` over segments, one writer thread and one reader thread.

    DIR/LOCK                        who has it: pid and epoch
    DIR/ballast                     the reserve, given up when the disk is full
    DIR/shard-00/MANIFEST           where recovery begins
    DIR/shard-00/wal-*.log          segments
    DIR/shard-00/ckpt-*.idx         the last checkpoint
    DIR/shard-00/cold/              blocks of streams that left the segments

This module joins the pure parts (``commit``, ``segment``, ``cache``) to those that do input and
output (``writer``, ``recovery``, ``checkpoint``), and decides nothing that one of them can decide.

Rules:

- The owner's thread owns everything here. The workers get a batch or a position, and answer
  through ``_reports`` and ``Scheduler.soon_from_thread``.
- The next batch is handed over before the waiters of the last one are called: the disk works
  while the owner does.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from functools import partial

from .cache import FrameCache
from .checkpoint import (
    CheckpointFile,
    Manifest,
    SegmentEntry,
    Task,
    checkpoint_header,
    checkpoint_name,
    create_anew,
    publish_checkpoint,
    unlink_all,
    write_manifest,
)
from .cold import FileColdStore
from .commit import Batch, Commit, Waiter
from .compaction import compact_segment, worth_compacting
from .disk import Disk, RealDisk
from .errors import Corrupt, DiskFull, LogClosed, LogFailed, StorageError
from .log import (
    Callback,
    Durability,
    Extent,
    FetchCallback,
    Job,
    LogStatistics,
    RecoveryReport,
    Replay,
    Scheduler,
)
from .reader import Reader
from .recovery import open_directory, recover
from .reserve import NO_ROOM, Reserve
from .segment import SEGMENT_BYTES, Segment, Segments, read_once
from .writer import DURABLE, FAILED, WRITTEN, LogWriter, ThreadWorker, Worker

__all__ = ["FileLog"]

_MIB = 1024 * 1024
_CHECKPOINT_LOG_BYTES = 64 * _MIB
_CHECKPOINT_LOG_BYTES_MIN = _MIB
_CHECKPOINT_MS = 60_000


class FileLog:
    """An append-only log in a directory. See :class:`braidmq.storage.log.Log`."""

    def __init__(
        self,
        directory: str,
        *,
        disk: Disk | None = None,
        writer: Callable[[str], Worker] = ThreadWorker,
        accept_loss: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        cache_bytes_max: int = 64 * _MIB,
        read_cache_bytes_max: int = 16 * _MIB,
        ballast_bytes: int = 64 * _MIB,
        disk_free_bytes_min: int = 64 * _MIB,
        cold_compress: bool = True,
    ) -> None:
        """Prepare; nothing is touched before :meth:`open`.

        ``writer`` makes what runs the writes and the reads: a thread, or in a simulation
        something that runs when it is told to.
        """
        self.on_progress: Callable[[], None] = lambda: None
        self._root = directory
        self._directory = f"{directory}/shard-00"
        self._disk: Disk = RealDisk() if disk is None else disk
        self._make_worker = writer
        self._accept_loss = accept_loss
        self._segment_bytes = segment_bytes
        self._reserve = Reserve(self._disk, directory, ballast_bytes, disk_free_bytes_min)
        self._cache = FrameCache(cache_bytes_max)
        self._reader = Reader(self, self._disk, self._directory, read_cache_bytes_max)
        self._cold = FileColdStore(
            self._disk, f"{self._directory}/cold", accept_loss=accept_loss, compress=cold_compress
        )
        # Until it is open these two take what the replaying broker says, and mean nothing.
        self._commit = Commit(0, lambda delay_ms: None)
        self._commit.error = LogClosed("the log is not open")
        self._segments = Segments([Segment(0, 0, 0)])
        self._scheduler: Scheduler | None = None
        self._workers: list[Worker] = []
        self._reports: deque[Callable[[], None]] = deque()
        self._lock = -1
        self._full = False
        self._reserve_uses = 0
        self._closed = False
        # For housekeeping: how far the records go, and how far some frame, or MANIFEST, says
        # that they are durable.
        self._records_end = 0
        self._recorded_durable = 0
        self._housekept_end = -1
        # For checkpoints.
        self._crc = 0  # of the frame that ends where the batch in flight begins
        self._mark_lsn = -1  # where the checkpoint under way has replay begin,
        self._mark_crc: int | None = None  # and the CRC of the frame that ends there
        self._checkpointed_lsn = 0
        self._checkpointed_ms = 0
        self._checkpoint_bytes = 0
        self._compacted: set[int] = set()
        self._statistics = LogStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)

    # Opening and closing ----------------------------------------------------------------------

    def open(
        self, replay: Replay, progress: Callable[[int, int], None] | None = None
    ) -> RecoveryReport:
        """Lock, recover, load and apply all into ``replay``; then the log takes appends.

        Raises:
            Locked, Corrupt, FormatUnknown, OSError: see ``Log``.
            DiskFull: there is no room for the little that opening writes.
        """
        assert self._lock < 0 and not self._closed
        disk = self._disk
        disk.makedirs(self._root)
        self._lock = disk.lock(f"{self._root}/LOCK")
        try:
            self._reserve.make_way()
            manifest = open_directory(disk, self._directory, disk.random(8))
            disk.fsync_dir(self._root)
            opened = recover(disk, self._directory, manifest, replay, progress, self._accept_loss)
            disk.note(self._lock, f"epoch {opened.manifest.epoch}")
            self._full = not self._reserve.restore()
        except BaseException as error:
            disk.close(self._lock)
            self._lock = -1
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise DiskFull(f"{self._root}: no room to open the log") from error
            raise
        self._replay = replay
        self._manifest = opened.manifest
        self._segments = Segments(opened.segments, self._segment_bytes)
        self._writer = LogWriter(disk, self._directory, self._reserve, manifest.epoch)
        self._writer.begin(opened.handle, opened.segments[-1].base, opened.prev_crc)
        self._commit = Commit(opened.end_lsn, self._wake)
        self._crc = opened.prev_crc
        self._checkpointed_lsn = manifest.replay_lsn
        self._checkpoint_bytes = opened.checkpoint_bytes
        self._records_end = self._recorded_durable = opened.end_lsn
        try:
            replay.finish()
        except BaseException:  # a cold file is missing: perhaps it is opened again without it
            self._writer.close()
            disk.close(self._lock)
            self._lock = -1
            raise
        return opened.report

    def start(self, scheduler: Scheduler) -> None:
        """Begin to commit."""
        assert self._scheduler is None
        self._scheduler = scheduler
        self._checkpointed_ms = scheduler.now_ms()
        self._workers = [self._make_worker("braidmq-writer"), self._make_worker("braidmq-reader")]
        self._reader.start(self._workers[1], self._soon, self._report)
        self._cold.start(self._workers[1], self._soon, self._report)
        if not self._commit.empty:
            scheduler.soon(self._flush)

    def close(self) -> None:
        """Commit what was appended, release the lock."""
        if self._closed:
            return
        commit = self._commit
        if self._workers:
            while commit.error is None and not commit.settled:
                commit.request_sync()
                self._flush()
                self._workers[0].wait_idle()
                self._collect()
            for worker in self._workers:
                worker.stop()
            self._collect()
            self._reader.close()
        self._cold.close()
        self._closed = True
        clean = commit.error is None
        self._tell(commit.fail(LogClosed("the log was closed")), commit.error)
        if self._lock < 0:
            return
        self._writer.close()
        if clean and commit.durable_lsn > self._manifest.durable_lsn:
            # So that damage to the last frame is told from a torn tail.
            self._manifest.durable_lsn = commit.durable_lsn
            try:
                write_manifest(self._disk, self._directory, self._manifest)
            except OSError:
                pass  # the one before is still there, and right
        self._disk.close(self._lock)
        self._lock = -1

    # Appending --------------------------------------------------------------------------------

    @property
    def instance(self) -> int:
        return int.from_bytes(self._manifest.instance, "little") >> 1 or 1

    @property
    def next_lsn(self) -> int:
        return self._commit.next_lsn

    @property
    def written_lsn(self) -> int:
        return self._commit.written_lsn

    @property
    def durable_lsn(self) -> int:
        return self._commit.durable_lsn

    @property
    def sealed_lsn(self) -> int:
        return self._segments.sealed_lsn(self._commit.durable_lsn)

    @property
    def cold(self) -> FileColdStore:
        return self._cold

    @property
    def pending_bytes(self) -> int:
        commit = self._commit
        return 0 if commit.idle else commit.next_lsn - commit.written_lsn

    def append(self, parts: Sequence[bytes], references: int = 0, *, linger: bool = False) -> int:
        """Add one encoded record; return its LSN."""
        return self._commit.append(parts, references, linger=linger)

    def append_run(self, records: bytes, count: int, references: int) -> int:
        """Add records of one size that stand back to back; the first one's LSN."""
        return self._commit.append_run(records, count, references)

    def append_together(self, records: Sequence[bytes], references: Sequence[int]) -> list[int]:
        """Add records of any size in one frame; return their LSNs."""
        return self._commit.append_together(records, references)

    def in_one_frame(self, size: int) -> AbstractContextManager[None]:
        """Have all records that are appended within in one frame."""
        return self._commit.in_one_frame(size)

    def wait(self, level: Durability, callback: Callback, argument: object) -> None:
        """Call ``callback(argument, error)`` once all that was appended so far is at ``level``."""
        error = self._commit.error
        if error is not None or level is Durability.MEMORY:
            self._soon(partial(callback, argument, error))
        else:
            self._commit.wait(level, callback, argument)

    def admit(self) -> None:
        """Raise DiskFull, LogFailed or LogClosed when no new message may be taken."""
        if self._commit.error is not None:
            raise self._commit.error
        if self._full:
            raise DiskFull(f"{self._root}: no room for new messages")

    def _soon(self, callback: Callable[[], None]) -> None:
        if self._scheduler is None:
            raise LogClosed("the log was not started")
        self._scheduler.soon(callback)

    def _wake(self, delay_ms: int) -> None:
        if self._scheduler is None:
            return  # start() looks for what came before it
        if delay_ms:
            self._scheduler.later(delay_ms, partial(self._flush, self._commit.base))
        else:
            self._scheduler.soon(self._flush)

    def _flush(self, base: int | None = None) -> None:
        """Hand the open batch to the writer; not if one is in flight, or that at ``base`` was."""
        commit = self._commit
        if commit.in_flight or commit.error is not None or base not in (None, commit.base):
            return
        assert self._scheduler is not None
        batch = commit.seal(self._scheduler.now_ms())
        if batch is None:
            return
        segments = self._segments
        written_lsn = commit.written_lsn
        for frame in batch.frames:
            frame.segment_base = segments.place(frame.lsn, frame.end, frame.references, frame.live)
            self._cache.add(frame, written_lsn)
        if batch.frames or commit.durable_lsn < batch.end:
            self._workers[0].submit(partial(self._writer.commit, batch, self._report_batch))
        else:  # a wait for what is there already
            self._on_batch(batch, DURABLE if batch.sync else WRITTEN)

    def _report(self, report: Callable[[], None]) -> None:
        """From a worker: have ``report`` called by the owner."""
        self._reports.append(report)
        assert self._scheduler is not None
        with suppress(RuntimeError):  # the owner's loop is closed; close() collects what there is
            self._scheduler.soon_from_thread(self._collect)

    def _report_batch(self, batch: Batch, stage: int) -> None:
        self._report(partial(self._on_batch, batch, stage))

    def _collect(self) -> None:
        while self._reports:
            self._reports.popleft()()

    def _on_batch(self, batch: Batch, stage: int) -> None:
        """The writer has done a step of the batch in flight."""
        commit = self._commit
        if batch is not commit.in_flight:
            return  # the log has failed meanwhile
        if stage == FAILED:
            assert batch.error is not None
            self._fail(batch.error)
            return
        waiters: list[Waiter] = []
        if commit.written_lsn < batch.end or batch.waiters_written:
            waiters = commit.written(batch)
        if stage == DURABLE:
            waiters += commit.durable(batch)
        more = False
        if stage == DURABLE or not batch.sync:
            self._on_done(batch)
            more = commit.complete(batch)
        try:
            if more:
                self._flush()
        finally:  # what a callback of the owner's raises is his; nobody else waits for ever
            try:
                self._tell(waiters, None)
            finally:
                self.on_progress()

    def _on_done(self, batch: Batch) -> None:
        statistics = self._statistics
        statistics.commits += 1
        statistics.synced_commits += batch.sync
        statistics.sync_seconds_total += batch.sync_seconds
        if batch.frames:
            self._crc = batch.crc
            if batch.end == self._mark_lsn:
                self._mark_crc = batch.crc
            self._recorded_durable = max(self._recorded_durable, batch.durable_lsn)
            if batch.frames[0].count:
                self._records_end = batch.end
            statistics.bytes_appended += batch.end - batch.base
        if batch.disk_full:
            self._reserve_uses += 1
            self._full = True

    def _fail(self, error: StorageError) -> None:
        """Poison the log: everybody who waits, and every later call, gets ``error``."""
        if self._commit.error is None:
            self._tell(self._commit.fail(error), error)
            self.on_progress()

    def _tell(self, waiters: Iterable[Waiter], error: StorageError | None) -> None:
        waiters = iter(waiters)
        try:
            for _, callback, argument in waiters:
                callback(argument, error)
        except BaseException:
            self._soon(partial(self._tell, waiters, error))  # one bad callback harms nobody else
            raise

    # Reading, and letting go ----------------------------------------------------------------------

    def get(self, lsn: int) -> Extent | None:
        """The record at ``lsn`` if it is in memory, whole, else None."""
        if lsn >= self._commit.base:
            return self._commit.find(lsn)
        return self._cache.find(lsn) or self._reader.find(lsn)

    def fetch(self, lsn: int, callback: FetchCallback, argument: object) -> None:
        """Read the record at ``lsn`` and what follows, then call ``callback``."""
        error: StorageError | None = self._commit.error
        extent = self.get(lsn) if error is None else None
        if extent is not None or error is not None:
            self._soon(partial(callback, argument, extent, error))
            return
        try:
            segment, stop = self._segment_of(lsn)
        except Corrupt as damage:
            self._soon(partial(callback, argument, None, damage))
        else:
            self._statistics.fetches += 1
            self._reader.read(segment, lsn, stop, callback, argument)

    def reading(self, lsn: int) -> Callable[[], Extent]:
        """A call for another thread that reads the record at ``lsn`` and what follows it."""
        segment, stop = self._segment_of(lsn)
        return partial(read_once, self._disk, self._directory, segment, lsn, stop)

    def _segment_of(self, lsn: int) -> tuple[Segment, int]:
        """Where ``lsn`` is, and how far that can be read."""
        segment = self._segments.find(lsn)
        if segment is None:
            raise Corrupt(lsn, "no segment holds it")
        return segment, min(segment.end, self._commit.written_lsn)

    def release(self, lsn: int) -> None:
        """One reference to the record at ``lsn`` is gone."""
        if lsn >= self._commit.base:
            self._commit.count(lsn, -1)
        else:
            self._segments.release(lsn)

    def release_many(self, lsns: Sequence[int]) -> None:
        """One reference to each of the records at ``lsns`` is gone."""
        if max(lsns, default=0) < self._commit.base:
            self._segments.release_many(lsns)
        else:
            for lsn in lsns:
                self.release(lsn)

    def adopt(self, lsn: int) -> None:
        """Count one reference more to the record at ``lsn``."""
        if lsn >= self._commit.base:
            self._commit.count(lsn, 1)
        else:
            self._segments.adopt(lsn)

    def adopt_many(self, lsns: "array[int]") -> None:
        """Count one reference more for each of ``lsns``; for ``Replay.finish``."""
        self._segments.adopt_many(lsns)

    # Checkpoints ------------------------------------------------------------------------------

    def checkpoint_due(self) -> bool:
        """Whether enough was appended since the last checkpoint to make another worth it."""
        if self._commit.error is not None or self._scheduler is None:
            return False
        size = self._commit.frame_lsn - self._checkpointed_lsn
        if size >= max(_CHECKPOINT_LOG_BYTES, 2 * self._checkpoint_bytes):
            return True
        age_ms = self._scheduler.now_ms() - self._checkpointed_ms
        return size >= _CHECKPOINT_LOG_BYTES_MIN and age_ms >= _CHECKPOINT_MS

    def checkpoint(self) -> Iterator[Job]:
        """Take a checkpoint: run the iterator to its end.

        Raises:
            DiskFull: there was no room; the checkpoint before still counts.
            LogFailed: the disk failed; the log is poisoned.
        """
        if self._commit.error is not None:
            raise self._commit.error
        try:
            yield from self._checkpoint_steps()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(f"{self._directory}: no room for a checkpoint") from error
            failed = LogFailed(f"checkpoint: {error}")
            self._fail(failed)
            raise failed from error

    def _checkpoint_steps(self) -> Iterator[Job]:
        commit = self._commit
        self._flush()  # replay begins behind what is handed over
        while commit.base == self._checkpointed_lsn and self._manifest.checkpoint:
            if commit.empty:
                return  # nothing was appended since the last one
            yield from self._sync_steps()
        replay_lsn = commit.base
        batch = commit.in_flight
        self._mark_lsn = replay_lsn
        self._mark_crc = None if batch is not None and batch.frames else self._crc
        table = [
            SegmentEntry(each.base, each.end, each.epoch, each.total)
            for each in self._segments.items
        ]
        path = f"{self._directory}/{checkpoint_name(replay_lsn)}"
        created = Task(partial(create_anew, self._disk, path))
        yield created
        handle = created.result()
        try:
            header = checkpoint_header(replay_lsn, self._manifest.epoch)
            output = CheckpointFile(self._disk, handle, header)
            try:
                for kind, content in self._replay.snapshot():
                    yield from output.add(kind, content)
                dead = self._segments.dead(replay_lsn)
                gone = {segment.base for segment in dead}
                yield from output.finish([each for each in table if each.base not in gone])
            except OSError:
                name = checkpoint_name(replay_lsn)
                yield Task(partial(unlink_all, self._disk, self._directory, [name]))
                raise
            # What the sections say, and what made those segments dead, must be durable first.
            yield from self._sync_steps()
            assert self._mark_crc is not None
            manifest = Manifest(
                instance=self._manifest.instance,
                epoch=self._manifest.epoch,
                checkpoint=checkpoint_name(replay_lsn),
                replay_lsn=replay_lsn,
                prev_crc=self._mark_crc,
                durable_lsn=commit.durable_lsn,
                gaps=[gap for gap in self._manifest.gaps if gap[1] > replay_lsn],
            )
            task = Task(partial(publish_checkpoint, self._disk, self._directory, handle, manifest))
            yield task
            task.result()
        finally:
            self._disk.close(handle)
        unwanted = [segment.name for segment in dead]
        if self._manifest.checkpoint:
            unwanted.append(self._manifest.checkpoint)
        assert self._scheduler is not None
        self._manifest = manifest
        self._segments.remove(dead)
        self._recorded_durable = max(self._recorded_durable, manifest.durable_lsn)
        self._checkpointed_lsn = replay_lsn
        self._checkpointed_ms = self._scheduler.now_ms()
        self._checkpoint_bytes = output.size
        self._statistics.checkpoints += 1
        task = Task(partial(unlink_all, self._disk, self._directory, unwanted))
        yield task
        task.result()

    def _sync_steps(self) -> Iterator[Job]:
        """Go on until all that was appended before is durable."""
        commit = self._commit
        target = commit.frame_lsn if commit.empty else commit.next_lsn
        while commit.durable_lsn < target:
            if commit.error is not None:
                raise commit.error
            commit.request_sync()
            self._flush()
            yield self._workers[0].wait_idle
            self._collect()

    # Compaction and housekeeping --------------------------------------------------------------

    def compaction_due(self) -> bool:
        """Whether some segment is mostly dead and worth copying forward."""
        return not self._full and self._compactable() is not None

    def _compactable(self) -> Segment | None:
        if self._commit.error is not None:
            return None
        return worth_compacting(self._segments.items, self._commit.durable_lsn, self._compacted)

    def compact(self) -> Iterator[Job]:
        """Copy the live records of the deadest segment forward; run it like a checkpoint."""
        segment = self._compactable()
        if segment is None:
            return
        self._compacted.add(segment.base)  # once: what stays after that is not ours to move
        moved = yield from compact_segment(self, self._replay, segment)
        self._statistics.compacted_bytes += moved

    def housekeep(self) -> Iterator[Job]:
        """Once a second: sync what is only written, note the durable position, mind the reserve."""
        commit = self._commit
        if commit.error is not None or not self._workers:
            return
        batch = commit.in_flight
        if commit.written_lsn > commit.durable_lsn:
            if batch is None or not batch.sync:
                commit.request_sync()
        elif commit.idle and commit.frame_lsn == self._housekept_end:
            if self._recorded_durable < self._records_end:
                commit.cut_empty()
                commit.request_sync()
        self._housekept_end = commit.frame_lsn
        uses = self._reserve_uses
        task = Task(self._reserve.restore)
        yield task
        if uses == self._reserve_uses:  # else the writer needed the reserve meanwhile
            self._full = not task.result()

    def statistics(self) -> LogStatistics:
        """Counters since opening."""
        self._commit.summarize(self._statistics)
        self._segments.summarize(self._statistics)
        return copy(self._statistics)

"""The writer: takes a sealed batch, builds its frames, writes them, syncs when somebody needs it.

It runs in a thread of its own, because fdatasync takes as long as it takes; CRC and write of
large buffers leave the interpreter to the owner's thread meanwhile.

Rules:

- The position of every byte was decided before: a batch is written with one call at a known
  offset (two when it goes on in a new segment), and a repeated write is the same bytes at the
  same place.
- A new segment gets nothing before the one before it is on stable storage, and nothing in it is
  reported as durable before its name is.
- A failed fdatasync is final: the kernel may have thrown the pages away and marked them clean, so
  a second one would return success for data that is gone. Nothing is retried, everything fails.
- When there is no room, the reserve file is given up and the same write repeated once.
- To sync a file that has grown costs more than to sync what stands in it: its size and its blocks
  have to go through the file system's journal. So a small batch that is synced, and does not fit
  into the zeros behind the last frame, brings zeros for those that follow: as much as the segment
  holds already, up to ``ROOM_BYTES_MAX``. They are of the same write, behind its frames. Where
  they do not fit on the disk, there are none until the next segment.
- A batch that is to be synced is written and synced with one call, where that does for it: for each
  call that lets go of the interpreter the thread waits to get it back.
"""

import errno
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol, TypeVar

from .commit import Batch, Frame
from .disk import Disk
from .errors import LogFailed
from .frame import PADDING, encode_frame_header
from .reserve import NO_ROOM, Reserve
from .segment import segment_name

__all__ = [
    "DURABLE",
    "FAILED",
    "NO_ROOM",
    "ROOM_BYTES_MAX",
    "WRITTEN",
    "LogWriter",
    "ThreadWorker",
    "Worker",
    "clock",
]

WRITTEN, DURABLE, FAILED = 1, 2, 3  # what is reported of a batch
ROOM_BYTES_MAX = 256 * 1024  # of zeros behind the last frame
_BATCH_WITH_ROOM_BYTES_MAX = 16 * 1024  # what is larger had better not be written twice

T = TypeVar("T")
clock = time.perf_counter  # for durations in reports; nothing is decided by it
Report = Callable[[Batch, int], None]
Write = Callable[[int, int, Sequence[bytes]], None]


class Worker(Protocol):
    """Something that runs tasks one after the other, elsewhere."""

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` after all that were submitted before. Tasks do not raise."""

    def wait_idle(self) -> None:
        """Return when all that was submitted has run. Any thread but the worker's own."""

    def stop(self) -> None:
        """Run what was submitted, then end."""


class ThreadWorker:
    """A worker that is a thread."""

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        get = self._tasks.get
        while (task := get()) is not None:
            task()

    def submit(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)

    def wait_idle(self) -> None:
        done = threading.Event()
        self._tasks.put(done.set)
        while not done.wait(1.0):
            if not self._thread.is_alive():
                return

    def stop(self) -> None:
        self._tasks.put(None)
        self._thread.join()


class LogWriter:
    """Writes batches to segments. After :meth:`begin`, only the worker's thread touches it."""

    def __init__(self, disk: Disk, directory: str, reserve: Reserve, epoch: int) -> None:
        self._disk = disk
        self._directory = directory
        self._reserve = reserve
        self._epoch = epoch
        self._handle = -1
        self._segment_base = -1
        self._room_end = 0  # in the segment: how far it is zeros, or was
        self._prev_crc = 0
        self._dirty = False
        self._failed = False

    def begin(self, handle: int, segment_base: int, prev_crc: int) -> None:
        """Go on in the segment open as ``handle``, behind the frame whose CRC is ``prev_crc``."""
        self._handle = handle
        self._segment_base = segment_base
        self._prev_crc = prev_crc

    def commit(self, batch: Batch, report: Report) -> None:
        """Write ``batch``, sync when it says so, and report each step."""
        try:
            if self._failed:
                raise OSError(errno.EIO, "an earlier write failed")
            self._write(batch)
            if not batch.sync:
                report(batch, WRITTEN)
                return
            if batch.waiters_written:
                report(batch, WRITTEN)
            started = clock()
            self._sync()
            batch.sync_seconds += clock() - started
        except Exception as error:  # whatever it was, this log cannot be trusted any more
            self._failed = True
            batch.error = LogFailed(f"lsn {batch.base}..{batch.end}: {error}")
            batch.error.__cause__ = error
            report(batch, FAILED)
        else:
            report(batch, DURABLE)

    def _write(self, batch: Batch) -> None:
        buffers: list[bytes] = []
        start = batch.base
        for frame in batch.frames:
            if frame.segment_base != self._segment_base:
                self._flush(batch, start, buffers)
                buffers = []
                start = frame.lsn
                self._roll(batch, frame.segment_base)
            self._build(frame, batch, buffers)
        room = self._room_after(batch)
        if batch.sync and not batch.waiters_written and not self._dirty:
            self._flush_durably(batch, start, buffers, room)
        else:
            self._flush(batch, start, buffers, room)
        batch.crc = self._prev_crc

    def _room_after(self, batch: Batch) -> int:
        """How many zeros are to be written behind ``batch``. See the module's rules."""
        end = batch.end - self._segment_base
        small = batch.end - batch.base <= _BATCH_WITH_ROOM_BYTES_MAX
        return min(end, ROOM_BYTES_MAX) if batch.sync and small and end > self._room_end else 0

    def _build(self, frame: Frame, batch: Batch, buffers: list[bytes]) -> None:
        payload = b"".join(frame.parts)
        assert len(payload) == frame.payload_length
        header, self._prev_crc = encode_frame_header(
            payload,
            frame.count,
            frame.lsn,
            batch.durable_lsn,
            self._epoch,
            batch.time_ms,
            self._prev_crc,
        )
        frame.payload = payload
        frame.parts = []
        buffers += (header, payload, PADDING[-len(payload) % 8])

    def _flush(self, batch: Batch, start: int, buffers: list[bytes], room: int = 0) -> None:
        if buffers:
            self._dirty = True
            self._put(batch, start, buffers, room, self._disk.pwrite)

    def _flush_durably(self, batch: Batch, start: int, buffers: list[bytes], room: int) -> None:
        """Write and sync at once, when nothing was written before that must be synced as well.

        The call that is repeated when there is no room writes all of it again, so what it syncs is
        what it wrote, whatever the kernel did with the pages of the first one.
        """
        if buffers:
            started = clock()
            self._put(batch, start, buffers, room, self._disk.pwrite_durable)
            batch.sync_seconds += clock() - started

    def _put(self, batch: Batch, start: int, buffers: list[bytes], room: int, write: Write) -> None:
        """Have ``write`` do it, with zeros behind it if these fit on the disk."""
        offset = start - self._segment_base
        if room:
            try:
                write(self._handle, offset, [*buffers, bytes(room)])
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._room_end = sys.maxsize  # not tried again in this segment
            else:
                self._room_end = batch.end - self._segment_base + room
                return
        self._with_reserve(batch, lambda: write(self._handle, offset, buffers))

    def _roll(self, batch: Batch, base: int) -> None:
        self._sync()
        path = f"{self._directory}/{segment_name(base, self._epoch)}"
        handle = self._with_reserve(batch, lambda: self._disk.create(path))
        self._disk.close(self._handle)
        self._handle = handle
        self._segment_base = base
        self._room_end = 0
        self._disk.fsync_dir(self._directory)

    def _with_reserve(self, batch: Batch, call: Callable[[], T]) -> T:
        """Call; when there is no room, give up the reserve file and call once more."""
        try:
            return call()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
        batch.disk_full = True
        self._reserve.give_up()
        return call()

    def _sync(self) -> None:
        if self._dirty:
            self._disk.fdatasync(self._handle)
            self._dirty = False

    def close(self) -> None:
        """Close the segment. Only after the worker has stopped."""
        if self._handle >= 0:
            self._disk.close(self._handle)
            self._handle = -1

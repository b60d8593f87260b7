"""The open batch: what was appended and not handed to the writer yet, and who waits for it.

Pure: no files, no threads, no clock. ``filelog.py`` hands sealed batches to ``writer.py`` and
tells this module how they fared.

Rules:

- Two frontiers, ``written_lsn`` and ``durable_lsn``, only rise, and never pass what was sealed.
- A record's LSN is known when it is appended: the frame begins at a known position, its header is
  64 bytes, and records stand back to back behind it. A frame is cut when the next record would
  take its payload over ``payload_bytes_max``; a larger record gets a frame of its own. What is to
  be kept together (``append_together``, ``in_one_frame``) is never cut.
- At most one batch is in flight. What is appended meanwhile is the next one: no timer decides.
  Only records that may linger, while nobody waits for them, are no reason for a batch of their own
  until ``LINGER_MS`` have passed: they would make those wait who come next.
- A waiter is a tuple (lsn, callback, argument). Waiters of a level are called in LSN order, once.
- After :meth:`Commit.fail` nothing can be appended any more, and every waiter has its error.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .errors import StorageError
from .frame import FRAME_BYTES
from .log import RECORD_BYTES_MAX, RUN_BYTES_MAX, Callback, Durability, Extent, LogStatistics
from .record import record_length

__all__ = ["LINGER_MS", "PAYLOAD_BYTES_MAX", "Batch", "Commit", "Frame", "Waiter"]

PAYLOAD_BYTES_MAX = 512 * 1024
LINGER_MS = 2  # that a record nobody waits for stays in memory alone
# Of a frame that must not be cut: besides what was announced, what nobody can foresee exactly.
_UNCUT_BYTES_MAX = 2 * RECORD_BYTES_MAX

Waiter = tuple[int, Callback, object]


class Frame:
    """A frame on its way to disk; afterwards, in the cache, its records.

    The owner's thread makes it. Only the writer's thread sets ``payload`` and then empties
    ``parts``, so a reader that takes ``parts`` first always finds one of them whole.
    """

    __slots__ = (
        "count",
        "end",
        "live",
        "lsn",
        "parts",
        "payload",
        "payload_length",
        "references",
        "segment_base",
    )

    def __init__(self, lsn: int, parts: list[bytes], payload_length: int, count: int) -> None:
        self.lsn = lsn
        self.parts = parts
        self.payload_length = payload_length
        self.payload: bytes | None = None
        self.count = count
        self.references = 0  # that its records came with
        self.live = 0  # of these, and of those adopted since, how many were not released yet
        self.end = lsn + FRAME_BYTES + payload_length + -payload_length % 8
        self.segment_base = -1  # which file it goes to, set when the batch is sealed

    def extent(self) -> Extent:
        """The frame's records, as a run of bytes."""
        start = self.lsn + FRAME_BYTES
        parts = self.parts
        payload = self.payload
        if payload is None:
            payload = b"".join(parts)
        return Extent(start, start + self.payload_length, payload)


class Batch:
    """Frames that share one write, and perhaps one fdatasync."""

    __slots__ = (
        "base",
        "crc",
        "disk_full",
        "durable_lsn",
        "end",
        "error",
        "frames",
        "sync",
        "sync_seconds",
        "time_ms",
        "waiters_durable",
        "waiters_written",
    )

    def __init__(self, base: int) -> None:
        self.base = base
        self.end = base
        self.frames: list[Frame] = []
        self.waiters_written: list[Waiter] = []
        self.waiters_durable: list[Waiter] = []
        self.sync = False
        # Set when it is sealed: what its frames will say.
        self.durable_lsn = 0
        self.time_ms = 0
        # Set by the writer.
        self.crc = 0  # of the last frame in the log after this batch
        self.sync_seconds = 0.0
        self.disk_full = False  # it fitted only because the reserve was given up
        self.error: StorageError | None = None


class Commit:
    """The batch that is open, the one in flight, and the frontiers. See the module's rules."""

    def __init__(
        self, end_lsn: int, wake: Callable[[int], None], payload_bytes_max: int = PAYLOAD_BYTES_MAX
    ) -> None:
        """Begin at ``end_lsn``, where the log ends now.

        ``wake`` is called when the open batch, which begins at ``base``, is to be sealed, with in
        how many ms. One that was sealed before is no reason to seal the next.
        """
        self.written_lsn = end_lsn
        self.durable_lsn = end_lsn
        self.in_flight: Batch | None = None
        self.error: StorageError | None = None
        self.records = 0
        self.frames = 0
        self._wake = wake
        self._awake = False  # to be sealed soon, or when the batch in flight is complete
        self._urgent = False  # the open batch has more than what may linger
        self._lingering = False  # it is to be sealed some day
        self._payload_bytes_max = payload_bytes_max
        self._open = Batch(end_lsn)
        self._begin_frame(end_lsn)

    def _begin_frame(self, lsn: int) -> None:
        self._frame_lsn = lsn
        self._first = lsn + FRAME_BYTES
        self._parts: list[bytes] = []
        self._length = 0
        self._count = 0
        self._references = 0
        self._live = 0  # beyond the references: adopted less released
        self.next_lsn = lsn + FRAME_BYTES

    @property
    def base(self) -> int:
        """Where the open batch begins: all below it was handed to the writer."""
        return self._open.base

    @property
    def frame_lsn(self) -> int:
        """Where the open frame begins, and the log ends if nothing more is appended to it."""
        return self._frame_lsn

    @property
    def empty(self) -> bool:
        """Whether nothing was appended since the last seal."""
        return not self._count and not self._open.frames

    @property
    def idle(self) -> bool:
        """Whether nothing is open or in flight."""
        return self.in_flight is None and self.empty

    @property
    def settled(self) -> bool:
        """Whether it is idle, all of it is durable, and nobody waits for anything."""
        opened = self._open
        waiting = opened.sync or opened.waiters_written
        return self.idle and not waiting and self.durable_lsn == self._frame_lsn

    def append(self, parts: Sequence[bytes], references: int = 0, *, linger: bool = False) -> int:
        """Add one record; return its LSN."""
        size = 0
        for part in parts:
            size += len(part)
        length = self._length
        if length + size > self._payload_bytes_max:
            self._make_room(size)
            length = self._length
        lsn = self._first + length
        self._parts += parts
        self._length = length + size
        self._count += 1
        self._references += references
        self.next_lsn = lsn + size
        if linger:
            self._linger()
        else:
            self._urgent = True
            if not self._awake:
                self._rouse()
        return lsn

    def append_run(self, records: bytes, count: int, references: int) -> int:
        """Add ``count`` records of one size as one part of one frame; return the first's LSN."""
        if len(records) > min(RUN_BYTES_MAX, self._payload_bytes_max):
            raise ValueError(f"a run of {len(records)} bytes; the limit is {RUN_BYTES_MAX}")
        lsn = self.append((records,), count * references)
        self._count += count - 1
        return lsn

    def append_together(self, records: Sequence[bytes], references: Sequence[int]) -> list[int]:
        """Add records to one frame; return their LSNs."""
        size = sum(map(len, records))
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"{size} bytes together; the limit is {RECORD_BYTES_MAX}")
        if self._length + size > self._payload_bytes_max and self._count:
            self._cut()
        # The open frame has room now, or is empty and will hold these records alone.
        lsns: list[int] = []
        lsn = self.next_lsn
        for record in records:
            lsns.append(lsn)
            lsn += len(record)
        self._parts += records
        self._length += size
        self._count += len(records)
        self._references += sum(references)
        self.next_lsn = lsn
        self._urgent = True
        if not self._awake:
            self._rouse()
        return lsns

    @contextmanager
    def in_one_frame(self, size: int) -> Iterator[None]:
        """Have all records that are appended meanwhile in one frame."""
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"{size} bytes in one frame; the limit is {RECORD_BYTES_MAX}")
        cut_at = self._payload_bytes_max
        assert cut_at < _UNCUT_BYTES_MAX, "not to be nested"
        if self._length + size > cut_at and self._count:
            self._cut()
        self._payload_bytes_max = _UNCUT_BYTES_MAX
        try:
            yield
        finally:
            self._payload_bytes_max = cut_at

    def _rouse(self) -> None:
        self._check()
        self._awake = True
        self._wake(0)

    def _linger(self) -> None:
        if not (self._awake or self._lingering):
            self._check()
            self._lingering = True
            self._wake(LINGER_MS)

    def _check(self) -> None:
        """After fail() nothing is taken; what was just added is forgotten.

        That leaves the log asleep, so that not every append pays for the check.
        """
        if self.error is not None:
            self._begin_frame(self._frame_lsn)
            raise self.error

    def _make_room(self, size: int) -> None:
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {size} bytes; the limit is {RECORD_BYTES_MAX}")
        if self._count:
            self._cut()

    def _cut(self) -> None:
        """Close the open frame and begin the next."""
        frame = Frame(self._frame_lsn, self._parts, self._length, self._count)
        frame.references = self._references
        frame.live = self._references + self._live
        self.records += self._count
        self.frames += 1
        self._open.frames.append(frame)
        self._begin_frame(frame.end)

    def cut_empty(self) -> None:
        """Add a frame without records: it says how far the log is durable, and nothing else."""
        assert self.empty
        self._cut()

    def wait(self, level: Durability, callback: Callback, argument: object) -> None:
        """Have ``callback(argument, error)`` called when all appended so far is at ``level``."""
        waiter = (self.next_lsn, callback, argument)
        if level is Durability.SYNC:
            self._open.waiters_durable.append(waiter)
            self._open.sync = True
        else:
            self._open.waiters_written.append(waiter)
        self._urgent = True
        if not self._awake:
            self._rouse()

    def request_sync(self) -> None:
        """Make the open batch end with an fdatasync, whoever waits."""
        self._open.sync = True
        self._urgent = True
        if not self._awake:
            self._rouse()

    def count(self, lsn: int, change: int) -> None:
        """Add to, or take from, what is live of a record that is still in the open batch."""
        if lsn >= self._frame_lsn:
            self._live += change
            return
        for frame in reversed(self._open.frames):
            if lsn >= frame.lsn:
                frame.live += change
                return
        raise AssertionError(f"lsn {lsn} is not in the open batch")

    def find(self, lsn: int) -> Extent | None:
        """The record at ``lsn`` in the open batch, or None when there is none."""
        if lsn < self._frame_lsn:
            for frame in reversed(self._open.frames):
                if lsn >= frame.lsn:
                    return frame.extent()
            return None
        # Backwards: what is asked for here was appended a moment ago.
        at = self._first + self._length
        for index in range(len(self._parts) - 1, -1, -1):
            at -= len(self._parts[index])
            if at == lsn and self._parts[index]:
                return self._gather(lsn, index)
            if at < lsn:
                part = self._parts[index]
                is_run = record_length(part) < len(part)
                return Extent(at, at + len(part), part) if is_run else None
        return None

    def _gather(self, lsn: int, index: int) -> Extent:
        """The record whose first part is the one at ``index``."""
        length = record_length(self._parts[index])
        parts: list[bytes] = []
        size = 0
        while size < length:
            part = self._parts[index]
            parts.append(part)
            size += len(part)
            index += 1
        return Extent(lsn, lsn + length, b"".join(parts))

    def seal(self, time_ms: int) -> Batch | None:
        """Close the open batch and take it; None when there is nothing to do.

        The batch is in flight until :meth:`complete`. What nobody wrote for and nobody waits for
        (a wait for what is durable already) is answered by the caller through ``complete`` too.
        """
        assert self.in_flight is None
        if self._count:
            self._cut()
        batch = self._open
        self._awake = self._urgent = self._lingering = False
        if not (batch.frames or batch.sync or batch.waiters_written):
            return None
        batch.end = self._frame_lsn
        batch.time_ms = time_ms
        batch.durable_lsn = self.durable_lsn
        assert batch.end >= batch.base
        self._open = Batch(batch.end)
        self.in_flight = batch
        self._awake = True
        return batch

    def written(self, batch: Batch) -> list[Waiter]:
        """The batch is written; return who to tell."""
        assert batch is self.in_flight
        assert batch.base == self.written_lsn or batch.end == self.written_lsn
        self.written_lsn = batch.end
        waiters, batch.waiters_written = batch.waiters_written, []
        return waiters

    def durable(self, batch: Batch) -> list[Waiter]:
        """The batch, and all before it, is on stable storage; return who to tell."""
        assert batch is self.in_flight and batch.sync
        assert self.written_lsn == batch.end >= self.durable_lsn
        self.durable_lsn = batch.end
        return batch.waiters_durable

    def complete(self, batch: Batch) -> bool:
        """The writer is done with the batch; return whether another one is waiting."""
        assert batch is self.in_flight and self.written_lsn == batch.end
        self.in_flight = None
        self._awake = self._urgent
        if not (self._urgent or self.empty):
            self._linger()
        return self._urgent

    def summarize(self, statistics: LogStatistics) -> None:
        """Say how much was appended since opening."""
        statistics.frames = self.frames
        statistics.records = self.records

    def fail(self, error: StorageError) -> list[Waiter]:
        """Poison: nothing more is accepted. Return everybody who still waits, in LSN order."""
        self.error = error
        batch, self.in_flight = self.in_flight, None
        opened, self._open = self._open, Batch(self._open.base)
        waiters: list[Waiter] = []
        for each in (batch, opened):
            if each is not None:
                waiters += each.waiters_written
                waiters += each.waiters_durable
        self._begin_frame(self._frame_lsn)
        self._awake = self._urgent = self._lingering = False
        waiters.sort(key=_lsn_of)
        return waiters


def _lsn_of(waiter: Waiter) -> int:
    return waiter[0]

"""Recovery: find where the log ends, refuse when acknowledged data is damaged, begin a new epoch.

A frame is valid when its magic, length and CRC hold, its lsn is its position, its prev_crc is the
CRC of the frame before, and its epoch is that of its segment. Let L be the first position without
a valid frame, and D the highest position known to have been durable:

- D > L: acknowledged data is damaged. Opening is refused (``Corrupt``), unless the operator
  accepts the loss; then what follows L is given up and its positions are never used again.
- else what follows L was never acknowledged as durable: a torn or unfinished tail, dropped. A
  valid frame there is no contradiction, because unsynced pages reach the disk in any order.
  Nothing but zeros is not even a tail: it is the room that the writer prepared.

D is told by the durable_lsn of every intact frame and of MANIFEST, and by the mere existence of
the last segment: a segment is created only when all before it is durable.

What stands in [D, L) can be read, but perhaps only from the page cache: it may be gone after the
next power cut, although its writes were acknowledged meanwhile. So it is written again:

1. Create the segment (base D, epoch + 1), write the frames of [D, L) again, fdatasync, fsync_dir.
2. Write MANIFEST with epoch + 1. Only this makes the new segment count; until then a crash leaves
   everything as it was, and the next recovery removes the leftover.
3. Unlink what no longer counts. Serve.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from struct import Struct

import msgspec

from .checkpoint import (
    MANIFEST_NAME,
    SEGMENTS,
    Manifest,
    SegmentEntry,
    decode_segment_table,
    is_checkpoint_name,
    read_checkpoint,
    read_manifest,
    write_manifest,
)
from .disk import Disk
from .errors import Corrupt, FormatUnknown
from .frame import (
    FRAME_BYTES,
    FRAME_MAGIC,
    PADDING,
    VERSION,
    VERSIONS_READ,
    FrameHeader,
    decode_frame_header,
    encode_frame_header,
    frame_is_intact,
)
from .log import RecoveryReport, Replay
from .record import LINK, MESSAGE, RECORD_BYTES_MIN, STREAM
from .segment import (
    Segment,
    effective_segments,
    parse_segment_name,
    segment_name,
    size_without_zeros,
)
from .writer import clock

__all__ = [
    "Opened",
    "Scan",
    "check_table",
    "find_intact_frames",
    "load_segments",
    "open_directory",
    "recover",
]

_WINDOW_BYTES = 4 * 1024 * 1024
_U32 = Struct("<I")

Progress = Callable[[int, int], None]


class Opened(msgspec.Struct):
    """A directory after recovery."""

    manifest: Manifest
    segments: list[Segment]
    handle: int  # of the last segment, for writing
    end_lsn: int
    prev_crc: int
    checkpoint_bytes: int
    report: RecoveryReport


class Scan:
    """Walks valid frames from a position on; afterwards says where and why it stopped."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        segments: list[Segment],
        lsn: int,
        prev_crc: int,
        gaps: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._segments = segments
        self._gaps = dict(gaps)
        self.position = lsn  # behind the last valid frame
        self.prev_crc = prev_crc  # of that frame
        self.segment: Segment | None = None  # where it is
        self.reason = ""  # why the next one is not valid; "" where nothing was written behind it

    def frames(self) -> Iterator[tuple[FrameHeader, bytes, int]]:
        """Yield (header, buffer, where the frame begins in it)."""
        last = len(self._segments) - 1
        for index, segment in enumerate(self._segments):
            if index < last and segment.end <= self.position:
                continue
            self.position = self._gaps.get(self.position, self.position)
            if segment.base > self.position:
                self.reason = f"the segment that holds it, before {segment.name}, is missing"
                return
            self.segment = segment
            size = self._disk.size(f"{self._directory}/{segment.name}")
            stop = segment.base + size
            if index < last:
                stop = min(stop, segment.end)
            yield from self._frames_of(segment, stop)
            if self.reason:
                return
            if index < last and self.position < segment.end:
                early = segment.end - self.position
                self.reason = f"{segment.name} ends there, {early} bytes early"
                return

    def _frames_of(self, segment: Segment, stop: int) -> Iterator[tuple[FrameHeader, bytes, int]]:
        handle = self._disk.open(f"{self._directory}/{segment.name}")
        try:
            start = self.position
            window = b""
            while self.position < stop:
                at = self.position - start
                if len(window) - at < FRAME_BYTES:
                    start, at = self.position, 0
                    size = min(_WINDOW_BYTES, stop - start)
                    window = self._disk.pread(handle, start - segment.base, size)
                header = decode_frame_header(window, at)
                if header is None:
                    path = f"{self._directory}/{segment.name}"
                    if size_without_zeros(self._disk, path) > self.position - segment.base:
                        self.reason = "no frame begins there"
                    return
                if header.length > stop - self.position:
                    self.reason = "the frame there is cut short"
                    return
                if at + header.length > len(window):
                    start, at = self.position, 0
                    size = max(min(_WINDOW_BYTES, stop - start), header.length)
                    window = self._disk.pread(handle, start - segment.base, size)
                self.reason = self._judge(header, segment, window, at)
                if self.reason:
                    return
                self.position += header.length
                self.prev_crc = header.crc
                yield header, window, at
        finally:
            self._disk.close(handle)

    def _judge(self, header: FrameHeader, segment: Segment, window: bytes, at: int) -> str:
        if not frame_is_intact(header, window, at):
            return "the frame there fails its CRC"
        if header.lsn != self.position:
            return f"the frame there says that it belongs to {header.lsn}"
        if header.epoch != segment.epoch:
            return f"the frame there has epoch {header.epoch}, its segment {segment.epoch}"
        if header.prev_crc != self.prev_crc:
            return "the frame there does not follow the one before it"
        if header.version not in VERSIONS_READ or header.codec:
            raise FormatUnknown(
                f"{self._directory}/{segment.name}: frame format {header.version}, codec "
                f"{header.codec}; this BraidMQ reads format {VERSION}"
            )
        return ""


def find_intact_frames(
    disk: Disk, directory: str, segment: Segment, lsn: int
) -> Iterator[FrameHeader]:
    """Yield the frames at or after ``lsn`` in ``segment`` whose CRC holds, whatever is between."""
    path = f"{directory}/{segment.name}"
    size = disk.size(path)
    handle = disk.open(path)
    try:
        start = lsn - segment.base
        while start < size:
            window = disk.pread(handle, start, _WINDOW_BYTES)
            at = window.find(FRAME_MAGIC)
            while at >= 0:
                offset = start + at
                header = decode_frame_header(disk.pread(handle, offset, FRAME_BYTES))
                if (
                    header is not None
                    and header.lsn == segment.base + offset
                    and header.epoch == segment.epoch
                    and header.length <= size - offset
                    and frame_is_intact(header, disk.pread(handle, offset, header.length))
                ):
                    yield header
                at = window.find(FRAME_MAGIC, at + 1)
            start += max(len(window) - 3, 1)
    finally:
        disk.close(handle)


def open_directory(disk: Disk, directory: str, instance: bytes) -> Manifest:
    """Read MANIFEST, or create it when the directory is new.

    Raises:
        Corrupt: there is data, but no MANIFEST that says what it means.
    """
    disk.makedirs(directory)
    # What is seen may be in the page cache only, when the process before was killed between a
    # rename and the fsync behind it. What follows builds upon it, so it must be there to stay.
    disk.fsync_dir(directory)
    names = disk.listdir(directory)
    if MANIFEST_NAME in names:
        return read_manifest(disk, directory)
    data = [name for name in names if parse_segment_name(name) or is_checkpoint_name(name)]
    if data:
        raise Corrupt(
            0, f"{directory}/{MANIFEST_NAME} is missing, but there is data ({data[0]}): not empty"
        )
    manifest = Manifest(instance=instance, epoch=0)
    write_manifest(disk, directory, manifest)
    return manifest


def load_segments(
    disk: Disk, directory: str, manifest: Manifest
) -> tuple[list[Segment], list[str]]:
    """The segments that count, with their ends, and the names of those that do not."""
    segments, ignored = effective_segments(disk.listdir(directory), manifest.epoch)
    if manifest.epoch and not segments:
        raise Corrupt(manifest.replay_lsn, f"{directory}: MANIFEST is there, but no segment")
    for start, _ in manifest.gaps:
        for segment in segments:
            if segment.base <= start < segment.end:
                segment.end = start
    return segments, ignored


def check_table(
    disk: Disk,
    directory: str,
    segments: list[Segment],
    entries: list[SegmentEntry],
    manifest: Manifest,
) -> tuple[list[Segment], list[tuple[int, int, Corrupt]]]:
    """Take over ends and totals from the checkpoint's table, and compare it with what is there.

    Returns, and takes out of ``segments``, those that it does not name: nobody needed them when
    the checkpoint was taken, but the process died before they were unlinked. Returns, as
    (from, to, error), what it does name and what is not there, unless that was accepted before.
    """
    end = manifest.replay_lsn
    named = {entry.base for entry in entries}
    dead = [each for each in segments if each.base < end and each.base not in named]
    segments[:] = [each for each in segments if each.base >= end or each.base in named]
    by_base = {segment.base: segment for segment in segments}
    missing: list[tuple[int, int, Corrupt]] = []
    for entry in entries:
        if entry.base >= end:
            continue
        segment = by_base.get(entry.base)
        name = segment_name(entry.base, entry.epoch)
        start, stop = entry.base, min(entry.end, end)
        text = f"{directory}/{name} is missing"
        if segment is not None and _is_elsewhere(disk, f"{directory}/{name}", segment):
            segments.remove(segment)  # as if it were missing
            text = f"{directory}/{name} holds another part of the log"
        elif segment is not None and segment.epoch == entry.epoch:
            segment.total = entry.total
            if entry.end < end:
                segment.end = entry.end  # what followed it was reclaimed, perhaps
            start += disk.size(f"{directory}/{name}")
            text = f"{directory}/{name} is {stop - start} bytes too short"
        if start < stop and (start, stop) not in manifest.gaps:
            missing.append((start, stop, Corrupt(entry.base, text)))
    return dead, missing


def _is_elsewhere(disk: Disk, path: str, segment: Segment) -> bool:
    """Whether the file begins with a sound frame of another place: files were mixed up.

    Records do not say where they stand, so what is below the checkpoint, and not scanned, would
    be read as something else.
    """
    handle = disk.open(path)
    try:
        header = decode_frame_header(disk.pread(handle, 0, FRAME_BYTES))
        if header is None or (header.lsn, header.epoch) == (segment.base, segment.epoch):
            return False
        if header.length > disk.size(path):
            return False
        return frame_is_intact(header, disk.pread(handle, 0, header.length))
    finally:
        disk.close(handle)


class _Recovery:
    """One recovery; the steps in the order of the module's docstring."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        manifest: Manifest,
        replay: Replay,
        progress: Progress | None,
        accept_loss: bool,
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.manifest = manifest
        self.replay = replay
        self.progress = progress
        self.accept_loss = accept_loss
        self.segments, self.ignored = load_segments(disk, directory, manifest)
        self.frames = 0
        self.records = 0
        # Every boundary between frames from replay_lsn on; of the frame that ends there, the CRC
        # and how many references its records came with.
        self.boundaries = array("Q", [manifest.replay_lsn])
        self.crcs = array("I", [manifest.prev_crc])
        self.references = array("Q", [0])
        self.checkpoint_bytes = 0
        self.lost: str | None = None

    def load(self) -> None:
        """Hand the checkpoint to the broker and check the segments against it."""
        manifest = self.manifest
        if not manifest.checkpoint:
            return
        for kind, content in read_checkpoint(self.disk, self.directory, manifest):
            if kind == SEGMENTS:
                entries = decode_segment_table(content)
                dead, missing = check_table(
                    self.disk, self.directory, self.segments, entries, manifest
                )
                self.ignored += [segment.name for segment in dead]
                for start, stop, error in missing:
                    self._accept(error)
                    manifest.gaps.append((start, stop))
            else:
                self.replay.load(kind, content)
        self.checkpoint_bytes = self.disk.size(f"{self.directory}/{manifest.checkpoint}")

    def _accept(self, error: Corrupt) -> None:
        if not self.accept_loss:
            raise error
        self.lost = f"{self.lost}; {error}" if self.lost else str(error)

    def scan(self) -> tuple[int, int]:
        """Apply all valid frames; return (L, D)."""
        manifest = self.manifest
        scan = Scan(
            self.disk,
            self.directory,
            self.segments,
            manifest.replay_lsn,
            manifest.prev_crc,
            manifest.gaps,
        )
        durable = manifest.durable_lsn
        total = 0
        if self.segments:
            last = self.segments[-1]
            path = f"{self.directory}/{last.name}"
            last.end = last.base + size_without_zeros(self.disk, path)
            total = max(last.end - manifest.replay_lsn, 0)
            durable = max(durable, last.base)
        for header, buffer, at in scan.frames():
            segment = scan.segment
            assert segment is not None
            self._boundary(header.lsn, header.prev_crc, 0)
            references = self._apply(header, buffer, at)
            segment.total += references
            self.frames += 1
            self._boundary(scan.position, header.crc, references)
            durable = max(durable, header.durable_lsn)
            if self.progress is not None and not self.frames & 127:
                self.progress(scan.position - manifest.replay_lsn, total)
        end = scan.position
        if self.segments:  # the last frame may end with zeros
            last.end = max(last.end, end)
        self._boundary(end, scan.prev_crc, 0)
        if scan.reason and scan.segment is not None:
            for header in find_intact_frames(self.disk, self.directory, scan.segment, end):
                durable = max(durable, header.durable_lsn)
        if durable > end:
            reason = scan.reason or "the log ends there"
            self._accept(Corrupt(end, f"{reason}, but all below {durable} had been acknowledged"))
        return end, durable

    def _boundary(self, lsn: int, crc: int, references: int) -> None:
        if lsn != self.boundaries[-1]:  # it is the end of the frame before, but behind a gap
            self.boundaries.append(lsn)
            self.crcs.append(crc)
            self.references.append(references)

    def _apply(self, header: FrameHeader, buffer: bytes, at: int) -> int:
        """Apply the records of one frame; return how many references they came with."""
        base = header.lsn - at
        at += FRAME_BYTES
        end = at + header.payload_length
        unpack = _U32.unpack_from
        apply = self.replay.apply
        references = 0
        self.records += header.count
        for _ in range(header.count):
            length: int = unpack(buffer, at)[0] if end - at >= RECORD_BYTES_MIN else 0
            if length < RECORD_BYTES_MIN or length > end - at:
                raise Corrupt(base + at, "a record does not fit in its frame")
            kind = buffer[at + 8]
            if kind == MESSAGE:
                references += buffer[at + 10] | buffer[at + 11] << 8
            elif kind in (LINK, STREAM):
                references += 1
            apply(base + at, kind, buffer, at)
            at += length
        if at != end:
            raise Corrupt(base + at, "bytes are left over after the last record of a frame")
        return references

    def begin_epoch(self, end: int, durable: int) -> tuple[int, int, int]:
        """Write [D, L) again under the next epoch, then MANIFEST.

        Returns (handle of the new segment, where the log ends, CRC of the last frame).
        """
        disk, directory = self.disk, self.directory
        epoch = self.manifest.epoch + 1
        for name in self.ignored:
            disk.unlink(f"{directory}/{name}")
        given_up = durable > end
        index = bisect_right(self.boundaries, durable) - 1
        base = self.boundaries[index]
        prev_crc = self.crcs[index]
        if given_up:
            # Positions that acknowledged records had are not used again: whatever still points
            # there must find nothing rather than something else.
            last = self.segments[-1].end if self.segments else 0
            base = max(durable, last)
            base += -base % 8 + 8
            self.manifest.gaps.append((end, base))
        handle = disk.create(f"{directory}/{segment_name(base, epoch)}")
        if not given_up:
            prev_crc = self._reappend(handle, base, end, prev_crc, epoch)
        disk.fdatasync(handle)
        disk.fsync_dir(directory)
        new_end = base if given_up else end
        self.manifest.epoch = epoch
        self.manifest.durable_lsn = new_end
        write_manifest(disk, directory, self.manifest)
        new = Segment(base, epoch, new_end)
        if not given_up:
            new.total = sum(self.references[index + 1 :])
        self._replace_superseded(new, min(base, end))
        return handle, new_end, prev_crc

    def _reappend(self, handle: int, base: int, end: int, prev_crc: int, epoch: int) -> int:
        old = Scan(self.disk, self.directory, self.segments, base, prev_crc)
        for header, buffer, at in old.frames():
            if header.lsn >= end:
                break
            start = at + FRAME_BYTES
            payload = buffer[start : start + header.payload_length]
            head, prev_crc = encode_frame_header(
                payload,
                header.count,
                header.lsn,
                header.durable_lsn,
                epoch,
                header.time_ms,
                prev_crc,
            )
            buffers = [head, payload, PADDING[-len(payload) % 8]]
            self.disk.pwrite(handle, header.lsn - base, buffers)
        assert old.position >= end
        return prev_crc

    def _replace_superseded(self, new: Segment, limit: int) -> None:
        """Let ``new`` stand for all from ``limit`` on; remove files of which nothing counts."""
        kept: list[Segment] = []
        for segment in self.segments:
            path = f"{self.directory}/{segment.name}"
            if segment.base < limit:
                if segment.end > limit:
                    segment.end = limit
                    segment.total -= new.total
                kept.append(segment)
            elif self.lost:
                self.disk.rename(path, f"{path}.lost")  # somebody may still find something in it
            else:
                self.disk.unlink(path)
        kept.append(new)
        self.segments = kept
        for name in self.disk.listdir(self.directory):
            stale = is_checkpoint_name(name) and name != self.manifest.checkpoint
            if stale or name.endswith(".tmp"):
                self.disk.unlink(f"{self.directory}/{name}")


def recover(
    disk: Disk,
    directory: str,
    manifest: Manifest,
    replay: Replay,
    progress: Progress | None = None,
    accept_loss: bool = False,
) -> Opened:
    """Recover the log in ``directory``; apply everything to ``replay``, but do not finish it."""
    started = clock()
    recovery = _Recovery(disk, directory, manifest, replay, progress, accept_loss)
    recovery.load()
    end, durable = recovery.scan()
    scanned_end = max((segment.end for segment in recovery.segments), default=0)
    handle, new_end, prev_crc = recovery.begin_epoch(end, durable)
    base = recovery.segments[-1].base
    report = RecoveryReport(
        epoch=manifest.epoch,
        checkpoint_lsn=manifest.replay_lsn,
        end_lsn=new_end,
        frames=recovery.frames,
        records=recovery.records,
        bytes_replayed=end - manifest.replay_lsn,
        bytes_dropped=max(scanned_end - end, 0),
        bytes_reappended=max(end - base, 0),
        seconds=clock() - started,
        accepted_loss=recovery.lost,
    )
    segments = recovery.segments
    return Opened(manifest, segments, handle, new_end, prev_crc, recovery.checkpoint_bytes, report)

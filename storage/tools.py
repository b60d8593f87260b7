"""Reading a data directory offline: is everything there intact, and what does it say?

Nothing is written and no lock is kept, so both work on a copy, on a read-only mount, and beside a
running broker; then the end of the log moves while they look, which they say by ``holder``.

Both are generators, so that whoever runs them can show progress and stop.
"""

from collections.abc import Callable, Iterator

import msgspec

from .block import decode_block
from .checkpoint import (
    SEGMENTS,
    Manifest,
    decode_segment_table,
    read_checkpoint,
    read_manifest,
)
from .coldtools import (
    block_rows,
    check_cold_blocks,
    cold_sizes,
    find_cold_file,
    is_gone,
    read_cold_blocks,
)
from .disk import Disk, RealDisk
from .errors import Corrupt, FormatUnknown, StorageError
from .frame import FRAME_BYTES, FrameHeader, decode_frame_header
from .record import (
    ACK,
    COLD,
    CURSOR,
    DEFINITION,
    DELAY,
    LINK,
    MESSAGE,
    PURGE,
    RECEIVE,
    STREAM,
    decode_ack,
    decode_definition,
    decode_delay,
    decode_link,
    decode_message,
    decode_purge,
    decode_receive,
    record_is_intact,
    record_type,
    walk_records,
)
from .recovery import Scan, check_table, find_intact_frames, load_segments
from .segment import Segment, size_without_zeros
from .streams import decode_cold, decode_cursor

__all__ = ["Verification", "dump", "verify"]

_SHARD = "shard-00"
_REPORT_BYTES = 8 * 1024 * 1024

_DECODERS: dict[int, tuple[str, Callable[[bytes, int, int], msgspec.Struct]]] = {
    MESSAGE: ("message", decode_message),
    LINK: ("link", decode_link),
    ACK: ("ack", lambda buffer, at, _: decode_ack(buffer, at)),
    RECEIVE: ("receive", lambda buffer, at, _: decode_receive(buffer, at)),
    DELAY: ("delay", lambda buffer, at, _: decode_delay(buffer, at)),
    PURGE: ("purge", lambda buffer, at, _: decode_purge(buffer, at)),
    DEFINITION: ("definition", lambda buffer, at, _: decode_definition(buffer, at)),
    CURSOR: ("cursor", lambda buffer, at, _: decode_cursor(buffer, at)),
    COLD: ("cold", lambda buffer, at, _: decode_cold(buffer, at)),
}


class Verification(msgspec.Struct):
    """How far :func:`verify` has come and what it has found; the same object each time."""

    bytes_done: int = 0
    bytes_total: int = 0
    holder: str = ""  # who has the directory open; "" when nobody
    epoch: int = 0
    replay_lsn: int = 0
    end_lsn: int = 0
    segments: int = 0
    frames: int = 0
    records: int = 0
    checkpoint_sections: int = 0
    cold_files: int = 0
    cold_records: int = 0
    tail_bytes: int = 0  # behind the end: never acknowledged, dropped by the next opening
    problems: list[str] = []


class _Directory:
    """What MANIFEST and the names say."""

    def __init__(self, root: str, disk: Disk | None) -> None:
        self.disk: Disk = RealDisk() if disk is None else disk
        self.path = f"{root}/{_SHARD}"
        self.cold_path = f"{self.path}/cold"
        self.holder = self.disk.holder(f"{root}/LOCK")
        try:
            self.manifest: Manifest = read_manifest(self.disk, self.path)
        except FileNotFoundError:
            raise StorageError(f"{root} holds no log: there is no {_SHARD}/MANIFEST") from None
        self.segments, _ = load_segments(self.disk, self.path, self.manifest)
        self.sections = 0
        self.problems: list[str] = []
        if self.manifest.checkpoint:
            self._read_checkpoint()
        for segment in self.segments[-1:]:
            path = f"{self.path}/{segment.name}"
            segment.end = segment.base + size_without_zeros(self.disk, path)

    def _read_checkpoint(self) -> None:
        """Check the sections; take from the segment table where segments end."""
        try:
            for kind, content in read_checkpoint(self.disk, self.path, self.manifest):
                self.sections += 1
                if kind == SEGMENTS:
                    entries = decode_segment_table(content)
                    _, missing = check_table(
                        self.disk, self.path, self.segments, entries, self.manifest
                    )
                    self.problems += [str(error) for _, _, error in missing]
        except (Corrupt, FormatUnknown) as error:
            self.problems.append(str(error))

    def scan(self, segment: Segment, lsn: int) -> Scan:
        """A walk over one segment from ``lsn`` on, trusting the first frame's link backwards."""
        handle = self.disk.open(f"{self.path}/{segment.name}")
        try:
            head = self.disk.pread(handle, lsn - segment.base, FRAME_BYTES)
        finally:
            self.disk.close(handle)
        header = decode_frame_header(head)
        return Scan(self.disk, self.path, [segment], lsn, 0 if header is None else header.prev_crc)


def verify(root: str, disk: Disk | None = None) -> Iterator[Verification]:
    """Check every frame, record, checkpoint section and cold file in the data directory ``root``.

    Yields the same :class:`Verification` now and then, at last when it is complete.

    Raises:
        StorageError: it is no data directory, or MANIFEST cannot be read.
    """
    directory = _Directory(root, disk)
    manifest = directory.manifest
    result = Verification(
        holder=directory.holder,
        epoch=manifest.epoch,
        replay_lsn=manifest.replay_lsn,
        segments=len(directory.segments),
    )
    cold = cold_sizes(directory.disk, directory.cold_path)
    result.bytes_total = sum(segment.size for segment in directory.segments) + sum(cold.values())
    result.checkpoint_sections = directory.sections
    result.problems += directory.problems
    yield result
    durable = manifest.durable_lsn
    crc: int | None = None
    for segment in directory.segments:
        last = segment is directory.segments[-1]
        scan = directory.scan(segment, segment.base)
        reported = result.bytes_done
        for header, buffer, at in scan.frames():
            follows = header.lsn == segment.base == result.end_lsn
            if follows and crc is not None and header.prev_crc != crc:
                result.problems.append(f"lsn {header.lsn}: does not follow the segment before")
            _verify_records(header, buffer, at, result)
            durable = max(durable, header.durable_lsn)
            result.bytes_done += header.length
            if result.bytes_done - reported >= _REPORT_BYTES:
                reported = result.bytes_done
                yield result
            if scan.position >= segment.end:
                break
        crc = scan.prev_crc if scan.position == segment.end else None
        if last and scan.position > segment.end:  # the last frame ends with zeros
            result.bytes_total += scan.position - segment.end
            segment.end = scan.position
        result.end_lsn = scan.position
        if scan.position < segment.end or scan.reason:
            for header in find_intact_frames(
                directory.disk, directory.path, segment, scan.position
            ):
                durable = max(durable, header.durable_lsn)
            missing = segment.end - scan.position
            if last and durable <= scan.position:
                result.tail_bytes = missing
            else:
                reason = scan.reason or "the segment ends there"
                result.problems.append(f"lsn {scan.position} in {segment.name}: {reason}")
            result.bytes_done += missing
    if durable > result.end_lsn and not result.problems:
        result.problems.append(
            f"lsn {result.end_lsn}: the log ends there, but all below {durable} was acknowledged"
        )
    yield result
    for path, size in cold.items():
        _verify_cold(directory, path, size, result)
        yield result


def _verify_cold(directory: _Directory, path: str, size: int, result: Verification) -> None:
    try:
        result.cold_records += check_cold_blocks(directory.disk, directory.cold_path, path, size)
    except (Corrupt, FormatUnknown) as error:
        if not is_gone(directory.disk, path):
            result.problems.append(str(error))
    result.cold_files += 1
    result.bytes_done += size


def _verify_records(header: FrameHeader, buffer: bytes, at: int, result: Verification) -> None:
    start = at + FRAME_BYTES
    count = 0
    try:
        for record in walk_records(buffer, start, start + header.payload_length):
            count += 1
            if not record_is_intact(buffer, record):
                lsn = header.lsn + record - at
                result.problems.append(f"lsn {lsn}: the record fails its CRC")
        if count != header.count:
            result.problems.append(f"lsn {header.lsn}: {count} records, not {header.count}")
    except ValueError as error:
        result.problems.append(f"lsn {header.lsn}: {error}")
    result.frames += 1
    result.records += count


def dump(root: str, first_lsn: int = 0, disk: Disk | None = None) -> Iterator[dict[str, object]]:
    """Yield every record from ``first_lsn`` on as a dict, damaged stretches as type "damaged".

    The keys of all: lsn, type, epoch, frame (its LSN), frame_time_ms (when it was written); then
    the fields of the type as ``record.py`` and ``streams.py`` name them. A block is a row of type
    "stream" for each of its records. When ``first_lsn`` is 0 the records in cold files follow, also
    as type "stream", with lsn 0 and the key "file".

    Raises:
        StorageError: it is no data directory, or MANIFEST cannot be read.
    """
    directory = _Directory(root, disk)
    for segment in directory.segments:
        position = segment.base
        while position < segment.end:
            scan = directory.scan(segment, position)
            for header, buffer, at in scan.frames():
                yield from _dump_frame(header, buffer, at, first_lsn)
                if scan.position >= segment.end:
                    break
            if scan.position >= segment.end:
                break
            position = segment.end
            for found in find_intact_frames(directory.disk, directory.path, segment, scan.position):
                position = min(found.lsn, segment.end)
                break
            if position > first_lsn:
                reason = scan.reason or "the segment ends there"
                yield {
                    "lsn": scan.position,
                    "type": "damaged",
                    "reason": reason,
                    "bytes": position - scan.position,
                }
    if not first_lsn:
        for path, size in cold_sizes(directory.disk, directory.cold_path).items():
            yield from _dump_cold(directory, path, size)


def _dump_cold(directory: _Directory, path: str, size: int) -> Iterator[dict[str, object]]:
    name = path.removeprefix(f"{directory.path}/")
    try:
        file = find_cold_file(directory.disk, path, size)
        for block in read_cold_blocks(directory.disk, directory.cold_path, file):
            for fields in block_rows(block):
                yield {"lsn": 0, "type": "stream", "file": name} | fields
    except (Corrupt, FormatUnknown) as error:
        if not is_gone(directory.disk, path):
            yield {"lsn": 0, "type": "damaged", "file": name, "reason": str(error)}


def _dump_frame(
    header: FrameHeader, buffer: bytes, at: int, first_lsn: int
) -> Iterator[dict[str, object]]:
    start = at + FRAME_BYTES
    for record in walk_records(buffer, start, start + header.payload_length):
        lsn = header.lsn + record - at
        if lsn < first_lsn:
            continue
        kind = record_type(buffer, record)
        row: dict[str, object] = {
            "lsn": lsn,
            "type": str(kind),
            "epoch": header.epoch,
            "frame": header.lsn,
            "frame_time_ms": header.time_ms,
        }
        if kind == STREAM:
            row["type"] = "stream"
            yield from (row | fields for fields in block_rows(decode_block(buffer, record)))
            continue
        if kind in _DECODERS:
            row["type"], decode = _DECODERS[kind]
            fields = msgspec.to_builtins(decode(buffer, record, lsn), builtin_types=(bytes,))
            fields.pop("lsn", None)
            row |= fields
        yield row

"""MANIFEST and checkpoint files: where recovery begins.

A checkpoint is *fuzzy*: it is taken in small steps while the log goes on, so what it holds may be
newer than the moment it began, never older. Replaying the log from that moment over it gives the
state, because every record is an absolute statement. MANIFEST names the checkpoint that counts::

    MANIFEST          "BQM1"  crc u32 of what follows  MessagePack map, see :class:`Manifest`
    ckpt-<lsn>.idx    "BQC1"  version u32  replay_lsn u64  epoch u64, then sections:
                      length u32  crc u32  kind u16  0 u16   content (length bytes)
                      crc: of kind and content; the last section is END with the count of sections

Rules:

- Write a temporary file, fdatasync, rename, fsync the directory: without the second the name may
  stand for an empty file after a power cut, without the last the old name may come back.
- A checkpoint counts when MANIFEST names it, MANIFEST counts when it is durable, and only then is
  anything unlinked that the one before still needed.
- Everything in a checkpoint was durable in the log before MANIFEST named it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import Generic, TypeVar
from zlib import crc32

import msgspec

from .disk import Disk
from .errors import Corrupt, FormatUnknown
from .frame import VERSION, VERSIONS_READ
from .log import Job

__all__ = [
    "KIND_MAX",
    "MANIFEST_NAME",
    "SEGMENTS",
    "CheckpointFile",
    "Manifest",
    "SegmentEntry",
    "Task",
    "checkpoint_header",
    "checkpoint_name",
    "create_anew",
    "decode_segment_table",
    "encode_end",
    "encode_section",
    "encode_segment_table",
    "is_checkpoint_name",
    "publish_checkpoint",
    "read_checkpoint",
    "read_manifest",
    "unlink_all",
    "write_manifest",
]

MANIFEST_NAME = "MANIFEST"
KIND_MAX = 0xFEFF  # kinds above are this layer's own
SEGMENTS = 0xFFFE
END = 0xFFFF

_MANIFEST_MAGIC = b"BQM1"
_CHECKPOINT_MAGIC = b"BQC1"
_U32 = Struct("<I")
_HEADER = Struct("<4sIQQ")
_SECTION = Struct("<IIHH")
_KIND = Struct("<HH")
_COUNT = Struct("<Q")
_SEGMENT = Struct("<QQQQ")
_READ_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024

T = TypeVar("T")


class Manifest(msgspec.Struct, kw_only=True):
    """What MANIFEST says."""

    version: int = VERSION
    instance: bytes  # 8 random bytes, made with the directory
    epoch: int  # of the opening that wrote it; segments of a higher one do not count
    checkpoint: str = ""  # file name, or "" when none was taken yet
    replay_lsn: int = 0  # where replay begins
    prev_crc: int = 0  # CRC of the frame that ends there
    durable_lsn: int = 0  # all below was on stable storage
    gaps: list[tuple[int, int]] = []  # [from, to) was given up by accept_loss


class SegmentEntry(msgspec.Struct, frozen=True, gc=False):
    """A segment that existed when a checkpoint was taken."""

    base: int
    end: int
    epoch: int
    total: int


def write_manifest(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Replace MANIFEST durably."""
    content = msgspec.msgpack.encode(manifest)
    temporary = f"{directory}/{MANIFEST_NAME}.tmp"
    handle = create_anew(disk, temporary)
    try:
        disk.pwrite(handle, 0, [_MANIFEST_MAGIC, _U32.pack(crc32(content)), content])
        disk.fdatasync(handle)
    finally:
        disk.close(handle)
    disk.rename(temporary, f"{directory}/{MANIFEST_NAME}")
    disk.fsync_dir(directory)


def read_manifest(disk: Disk, directory: str) -> Manifest:
    """Read MANIFEST.

    Raises:
        Corrupt: it is damaged. FormatUnknown: a later version wrote it.
    """
    path = f"{directory}/{MANIFEST_NAME}"
    handle = disk.open(path)
    try:
        data = disk.pread(handle, 0, _READ_BYTES)
    finally:
        disk.close(handle)
    content = data[8:]
    if data[:4] != _MANIFEST_MAGIC or _U32.pack(crc32(content)) != data[4:8]:
        raise Corrupt(0, f"{path} is damaged; without it nothing says where the log begins")
    try:
        version = msgspec.msgpack.decode(content, type=dict[str, object]).get("version")
        if version not in VERSIONS_READ:
            raise FormatUnknown(f"{path}: format {version}; this BraidMQ reads format {VERSION}")
        manifest = msgspec.msgpack.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Corrupt(0, f"{path} cannot be read: {error}") from None
    manifest.version = VERSION  # of what is written from now on
    return manifest


class Task(Generic[T]):
    """A job for another thread, which keeps its outcome for the owner's."""

    _value: T

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: Exception | None = None

    def __call__(self) -> None:
        try:
            self._value = self._call()
        except Exception as error:
            self._error = error

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


class CheckpointFile:
    """A checkpoint being written: sections are gathered and written in larger chunks."""

    def __init__(self, disk: Disk, handle: int, header: bytes) -> None:
        self._disk = disk
        self._handle = handle
        self._chunk = [header]
        self._pending = len(header)
        self._sections = 0
        self.size = 0

    def add(self, kind: int, content: bytes) -> Iterator[Job]:
        """Add a section of the owner's."""
        assert 0 <= kind <= KIND_MAX
        self._put(encode_section(kind, content))
        if self._pending < _CHUNK_BYTES:
            yield None
        else:
            yield from self._write()

    def finish(self, segments: list[SegmentEntry]) -> Iterator[Job]:
        """Add this layer's own sections, and write what is left."""
        self._put(encode_segment_table(segments))
        self._put(encode_end(self._sections))
        yield from self._write()

    def _put(self, section: bytes) -> None:
        self._chunk.append(section)
        self._pending += len(section)
        self._sections += 1

    def _write(self) -> Iterator[Job]:
        task = Task(partial(self._disk.pwrite, self._handle, self.size, self._chunk))
        yield task
        task.result()
        self.size += self._pending
        self._chunk, self._pending = [], 0


def checkpoint_name(lsn: int) -> str:
    """The file name of the checkpoint whose replay begins at ``lsn``."""
    return f"ckpt-{lsn:016x}.idx"


def is_checkpoint_name(name: str) -> bool:
    """Whether ``name`` is that of a checkpoint."""
    return name.startswith("ckpt-") and name.endswith(".idx")


def create_anew(disk: Disk, path: str) -> int:
    """Create a file, in the place of what an attempt that failed has left."""
    try:
        disk.unlink(path)
    except FileNotFoundError:
        pass
    return disk.create(path)


def publish_checkpoint(disk: Disk, directory: str, handle: int, manifest: Manifest) -> None:
    """Make the checkpoint file open as ``handle`` durable, then let MANIFEST name it."""
    disk.fdatasync(handle)
    disk.fsync_dir(directory)
    write_manifest(disk, directory, manifest)


def unlink_all(disk: Disk, directory: str, names: list[str]) -> None:
    """Remove files that nothing names any more."""
    for name in names:
        disk.unlink(f"{directory}/{name}")


def checkpoint_header(replay_lsn: int, epoch: int) -> bytes:
    """The first bytes of a checkpoint file."""
    return _HEADER.pack(_CHECKPOINT_MAGIC, VERSION, replay_lsn, epoch)


def encode_section(kind: int, content: bytes) -> bytes:
    """One section of a checkpoint file."""
    crc = crc32(content, crc32(_KIND.pack(kind, 0)))
    return _SECTION.pack(len(content), crc, kind, 0) + content


def encode_segment_table(entries: list[SegmentEntry]) -> bytes:
    """The section that says which segments exist and how many references they came with."""
    rows = [_SEGMENT.pack(each.base, each.end, each.epoch, each.total) for each in entries]
    return encode_section(SEGMENTS, b"".join(rows))


def decode_segment_table(content: bytes) -> list[SegmentEntry]:
    """The content of a SEGMENTS section."""
    return [SegmentEntry(*row) for row in _SEGMENT.iter_unpack(content)]


def encode_end(sections: int) -> bytes:
    """The last section, which shows that the file is whole."""
    return encode_section(END, _COUNT.pack(sections))


def read_checkpoint(disk: Disk, directory: str, manifest: Manifest) -> Iterator[tuple[int, bytes]]:
    """Yield the sections of the checkpoint that ``manifest`` names, the segment table included.

    Raises:
        Corrupt: it is missing, damaged or not whole.
    """
    path = f"{directory}/{manifest.checkpoint}"
    try:
        handle = disk.open(path)
    except FileNotFoundError:
        raise Corrupt(manifest.replay_lsn, f"{path} is missing; MANIFEST names it") from None
    try:
        yield from _read_sections(disk, handle, path, manifest.replay_lsn)
    finally:
        disk.close(handle)


def _read_sections(
    disk: Disk, handle: int, path: str, replay_lsn: int
) -> Iterator[tuple[int, bytes]]:
    window = disk.pread(handle, 0, _READ_BYTES)
    start = 0  # where the window begins in the file
    if len(window) < _HEADER.size:
        raise Corrupt(replay_lsn, f"{path} ends in its header")
    magic, version, lsn, _ = _HEADER.unpack_from(window)
    if magic != _CHECKPOINT_MAGIC or lsn != replay_lsn:
        raise Corrupt(replay_lsn, f"{path} is not the checkpoint that MANIFEST names")
    if version not in VERSIONS_READ:
        raise FormatUnknown(f"{path}: format {version}; this BraidMQ reads format {VERSION}")
    at = _HEADER.size
    sections = 0
    while True:
        if len(window) - at < _SECTION.size:
            start, at = start + at, 0
            window = disk.pread(handle, start, _READ_BYTES)
            if len(window) < _SECTION.size:
                raise Corrupt(replay_lsn, f"{path} ends after {sections} sections")
        length, crc, kind, zero = _SECTION.unpack_from(window, at)
        body = at + _SECTION.size
        if len(window) - body < length:
            start, at, body = start + at, 0, _SECTION.size
            if length > disk.size(path):
                raise Corrupt(replay_lsn, f"{path}: section {sections} is damaged")
            window = disk.pread(handle, start, max(_READ_BYTES, body + length))
        content = window[body : body + length]
        if len(content) != length or crc32(content, crc32(_KIND.pack(kind, zero))) != crc:
            raise Corrupt(replay_lsn, f"{path}: section {sections} is damaged")
        if kind == END:
            if content != _COUNT.pack(sections):
                raise Corrupt(replay_lsn, f"{path} lacks sections")
            return
        yield kind, content
        sections += 1
        at = body + length

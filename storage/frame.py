"""Frames: one group commit, the atomic unit of the log. Pure functions, no files, no clock.

All integers are little endian. CRC is CRC-32 (IEEE 802.3, ``zlib.crc32``): it is in every Python,
and it is computed outside the interpreter lock for anything larger than a few KiB.

A frame is applied whole or not at all::

   0      4      8   12  14    16    24            32      40        48         52      56       60
   +------+------+---+---+-----+-----+-------------+-------+---------+----------+-------+--------+-+
   |"BQF1"|length|crc|ver|shard| lsn | durable_lsn | epoch | time_ms | prev_crc | count | payload|0|
   +------+------+---+---+-----+-----+-------------+-------+---------+----------+-------+--------+-+
   | records, back to back (``payload`` bytes), then zeros up to a multiple of 8 (``length``)      |

    crc          of bytes 12..length
    ver          format version in the low byte, codec in the high byte (0: not compressed)
    lsn          where this frame begins in the endless log
    durable_lsn  everything below it was on stable storage when this frame was handed to write
    epoch        fencing token of the writer; rises with every opening of the log
    prev_crc     crc of the frame before: a chain that no stale frame can join

Formats: 2 has blocks of streams, cursors and cold files (records STREAM, CURSOR and COLD), which
1 has not; all else is equal.

To change the format:

1. Raise ``VERSION`` and say in this docstring what changed.
2. Keep reading the version before (``VERSIONS_READ``): branch on the frame's version in
   ``recovery.py`` where records are handed out, never inside the functions below or those of
   ``record.py``.
3. Add a data directory written by the old version to ``tests/data`` (``make_golden.py`` writes it
   before the change) and let ``tests/unit/storage/test_golden.py`` open it.
4. Say in CHANGELOG.md whether an older BraidMQ can still open the directory.
"""

from struct import Struct
from zlib import crc32

import msgspec

__all__ = [
    "FRAME_BYTES",
    "FRAME_MAGIC",
    "PADDING",
    "VERSION",
    "VERSIONS_READ",
    "FrameHeader",
    "decode_frame_header",
    "encode_frame",
    "encode_frame_header",
    "frame_crc",
    "frame_is_intact",
]

VERSION = 2
VERSIONS_READ = frozenset({1, VERSION})
FRAME_MAGIC = b"BQF1"
FRAME_BYTES = 64
PADDING = tuple(bytes(count) for count in range(8))  # what follows a payload, by its length

_FRAME = Struct("<4sIIHHQQQQIIII")
_FRAME_START = Struct("<4sII")
_FRAME_TAIL = Struct("<HHQQQQIIII")  # the part of the header that the crc covers
_U32 = Struct("<I")
assert _FRAME.size == FRAME_BYTES


class FrameHeader(msgspec.Struct, gc=False):
    """The decoded 64 bytes in front of every frame."""

    length: int
    crc: int
    version: int
    codec: int
    shard: int
    lsn: int
    durable_lsn: int
    epoch: int
    time_ms: int
    prev_crc: int
    count: int
    payload_length: int


def encode_frame_header(
    payload: bytes,
    count: int,
    lsn: int,
    durable_lsn: int,
    epoch: int,
    time_ms: int,
    prev_crc: int,
) -> tuple[bytes, int]:
    """Return the 64 bytes in front of ``payload``, and the CRC in them (the next ``prev_crc``).

    A whole frame is this header, ``payload`` and then zeros up to a multiple of 8.
    """
    padding = -len(payload) % 8
    tail = _FRAME_TAIL.pack(
        VERSION, 0, lsn, durable_lsn, epoch, time_ms, prev_crc, count, len(payload), 0
    )
    crc = crc32(payload, crc32(tail))
    if padding:
        crc = crc32(PADDING[padding], crc)
    length = FRAME_BYTES + len(payload) + padding
    return _FRAME_START.pack(FRAME_MAGIC, length, crc) + tail, crc


def encode_frame(
    payload: bytes,
    count: int,
    lsn: int,
    durable_lsn: int,
    epoch: int,
    time_ms: int,
    prev_crc: int,
) -> bytes:
    """Return a whole frame: header, ``payload`` (records back to back) and padding to 8 bytes."""
    header, _ = encode_frame_header(payload, count, lsn, durable_lsn, epoch, time_ms, prev_crc)
    return b"".join((header, payload, PADDING[-len(payload) % 8]))


def decode_frame_header(buffer: bytes | memoryview, at: int = 0) -> FrameHeader | None:
    """Return the header at ``at``, or None when the bytes there cannot be one.

    Only the shape is judged; call :func:`frame_is_intact` with the whole frame for its CRC.
    """
    if len(buffer) - at < FRAME_BYTES:
        return None
    (
        magic,
        length,
        crc,
        version,
        shard,
        lsn,
        durable_lsn,
        epoch,
        time_ms,
        prev_crc,
        count,
        payload_length,
        _,
    ) = _FRAME.unpack_from(buffer, at)
    if magic != FRAME_MAGIC or length != FRAME_BYTES + payload_length + -payload_length % 8:
        return None
    return FrameHeader(
        length,
        crc,
        version & 0xFF,
        version >> 8,
        shard,
        lsn,
        durable_lsn,
        epoch,
        time_ms,
        prev_crc,
        count,
        payload_length,
    )


def frame_is_intact(header: FrameHeader, frame: bytes | memoryview, at: int = 0) -> bool:
    """Whether the whole frame at ``at`` is there and its CRC holds."""
    end = at + header.length
    return end <= len(frame) and crc32(memoryview(frame)[at + 12 : end]) == header.crc


def frame_crc(frame: bytes) -> int:
    """The CRC stored in an encoded frame: the next frame's ``prev_crc``."""
    crc: int = _U32.unpack_from(frame, 8)[0]
    return crc

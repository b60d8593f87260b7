"""The format of a cold file: blocks of one shard, in order, for good. Pure functions.

    cold/<shard, 8 hex digits>/<first number, 16 hex digits>-<generation, 8 hex digits>.seg

It begins with frames, back to back; what is in a frame may be compressed::

     0       4        8       12       16       24       28        32        40
     +-------+--------+-------+--------+--------+--------+---------+---------+----------
     |"BQC2" | length |  crc  | codec  |  u64   | count  | bytes,  |   u64   | blocks, as
     |       |        |       |        | number |        | plain   | time_ms | codec says
     +-------+--------+-------+--------+--------+--------+---------+---------+----------

Behind them stand the index, 24 bytes for each frame, and the foot, whose place the size tells::

     index:  (u64 number, u64 offset, u64 time_last_ms) for each frame

     0       4       8     10  12       16       20       24      32     40       48       56
     +-------+-------+-----+---+--------+--------+--------+-------+------+--------+--------+
     |"BQI2" |  crc  | ver | 0 | shard  | gene-  | frames |  u64  | u64  |  u64   |  u64   |
     |       |       |     |   | entity | ration |        | first | end  | oldest | newest |
     +-------+-------+-----+---+--------+--------+--------+-------+------+--------+--------+

    crc           of a frame: of bytes 12..length; of the foot: of the index and bytes 8..56
    codec         see ``codec.py``
    number        of the first record; of the file: ``first``, and ``end`` is behind the last
    count         of records; ``frames``: of frames
    time_ms       when the oldest record was appended, ``time_last_ms`` when the newest was; of
                  the file: ``oldest`` and ``newest``
    ver           the format's version, that of ``frame.py``

Little endian; the CRC is that of ``frame.py``. What does not fit together is a ``ValueError``.
"""

import re
import sys
from array import array
from bisect import bisect_right
from itertools import pairwise
from struct import Struct
from struct import error as StructError
from zlib import crc32

import msgspec

from .block import Block, decode_block_head
from .frame import VERSION
from .record import RECORD_BYTES_MIN, STREAM, record_length, record_type
from .streams import ColdFile

__all__ = [
    "FOOT_BYTES",
    "INDEX_ROW_BYTES",
    "ColdFrame",
    "ColdIndex",
    "cold_name",
    "cold_shard",
    "decode_cold_foot",
    "decode_cold_frame",
    "decode_cold_index",
    "encode_cold_frame",
    "encode_cold_index",
    "frame_blocks",
    "parse_cold_name",
    "parse_cold_shard",
]

_FRAME_MAGIC, _FOOT_MAGIC = b"BQC2", b"BQI2"
_FRAME = Struct("<4sIIIQIIQ")
_FRAME_START = Struct("<4sII")
_FRAME_TAIL = Struct("<IQIIQ")
_FOOT = Struct("<4sIHHIIIQQQQ")
_FOOT_START = Struct("<4sI")
_FOOT_TAIL = Struct("<HHIIIQQQQ")
_ROW = Struct("<QQQ")
FOOT_BYTES = _FOOT.size
INDEX_ROW_BYTES = _ROW.size

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})\.seg")
_SHARD = re.compile(r"[0-9a-f]{8}")


def cold_shard(shard: int) -> str:
    """The name of the directory with the files of ``shard``."""
    return f"{shard:08x}"


def parse_cold_shard(name: str) -> int | None:
    """The shard when ``name`` is that of such a directory, else None."""
    return int(name, 16) if _SHARD.fullmatch(name) else None


def cold_name(first: int, generation: int) -> str:
    """The name of a file in its shard's directory."""
    return f"{first:016x}-{generation:08x}.seg"


def parse_cold_name(name: str) -> tuple[int, int] | None:
    """(first, generation) when ``name`` is that of a cold file, else None."""
    match = _NAME.fullmatch(name)
    return (int(match[1], 16), int(match[2], 16)) if match else None


class ColdFrame(msgspec.Struct, frozen=True, gc=False):
    """The head of a frame, and what stands behind it."""

    codec: int
    number: int
    count: int
    plain_bytes: int
    time_ms: int
    content: bytes


def encode_cold_frame(frame: ColdFrame) -> bytes:
    """Encode a frame."""
    tail = _FRAME_TAIL.pack(
        frame.codec, frame.number, frame.count, frame.plain_bytes, frame.time_ms
    )
    length = _FRAME.size + len(frame.content)
    crc = crc32(frame.content, crc32(tail))
    return b"".join((_FRAME_START.pack(_FRAME_MAGIC, length, crc), tail, frame.content))


def decode_cold_frame(buffer: bytes) -> ColdFrame:
    """Decode the frame that ``buffer`` is.

    Raises:
        ValueError: it is none, or fails its CRC.
    """
    try:
        magic, length, crc, *fields = _FRAME.unpack_from(buffer)
    except StructError:
        raise ValueError("the file ends in the head of a frame") from None
    if magic != _FRAME_MAGIC or length != len(buffer):
        raise ValueError(f"no frame of {len(buffer)} bytes begins there")
    if crc32(memoryview(buffer)[_FRAME_START.size :]) != crc:
        raise ValueError("the frame there fails its CRC")
    codec, number, count, plain_bytes, time_ms = fields
    return ColdFrame(codec, number, count, plain_bytes, time_ms, buffer[_FRAME.size :])


def frame_blocks(frame: ColdFrame, shard: int, plain: bytes) -> list[Block]:
    """The blocks of a frame, whose content is ``plain``.

    Raises:
        ValueError: they are not blocks of ``shard`` that follow each other as the frame says.
    """
    blocks: list[Block] = []
    at = 0
    number = frame.number
    while at < len(plain):
        length = record_length(plain, at) if len(plain) - at >= RECORD_BYTES_MIN else 0
        if not RECORD_BYTES_MIN <= length <= len(plain) - at or record_type(plain, at) != STREAM:
            raise ValueError("something that is no block stands in a frame")
        block = decode_block_head(plain, at)
        if block.first != number or block.shard != shard:
            raise ValueError(f"{block.first} of shard {block.shard} stands where {number} should")
        blocks.append(block)
        number = block.end
        at += length
    if number != frame.number + frame.count or not blocks:
        raise ValueError(f"a frame of {frame.count} records ends at {number}")
    return blocks


class ColdIndex(msgspec.Struct, gc=False):
    """Where the frames of a file stand, one entry for each; ``offsets`` has their end too."""

    numbers: "array[int]"
    offsets: "array[int]"
    times_last_ms: "array[int]"

    def frame_of(self, number: int) -> int:
        """Which frame holds ``number``."""
        return bisect_right(self.numbers, number) - 1

    def frame_at(self, time_ms: int) -> int | None:
        """The first frame with a record appended at ``time_ms`` or later."""
        for index, time_last_ms in enumerate(self.times_last_ms):
            if time_last_ms >= time_ms:
                return index
        return None


def encode_cold_index(file: ColdFile, index: ColdIndex) -> bytes:
    """What stands behind the frames: the index and the foot."""
    rows = b"".join(map(_ROW.pack, index.numbers, index.offsets, index.times_last_ms))
    tail = _FOOT_TAIL.pack(
        VERSION,
        0,
        file.shard,
        file.generation,
        len(index.numbers),
        file.first,
        file.end,
        file.time_first_ms,
        file.time_last_ms,
    )
    crc = crc32(tail, crc32(rows))
    return b"".join((rows, _FOOT_START.pack(_FOOT_MAGIC, crc), tail))


def decode_cold_foot(buffer: bytes, size: int) -> tuple[ColdFile, int, int]:
    """Decode the foot that ``buffer`` ends with, of a file of ``size`` bytes.

    Returns the file as the foot describes it, the format's version and the number of frames; the
    CRC is looked at by :func:`decode_cold_index`.

    Raises:
        ValueError: it is none.
    """
    if len(buffer) < FOOT_BYTES:
        raise ValueError("the file has no room for its foot")
    magic, _, version, _, shard, generation, frames, first, end, oldest_ms, newest_ms = (
        _FOOT.unpack_from(buffer, len(buffer) - FOOT_BYTES)
    )
    if magic != _FOOT_MAGIC or not frames or INDEX_ROW_BYTES * frames + FOOT_BYTES > size:
        raise ValueError("the file does not end with its foot")
    return ColdFile(shard, generation, first, end, size, oldest_ms, newest_ms), version, frames


def decode_cold_index(buffer: bytes, size: int) -> ColdIndex:
    """Decode the index and foot that ``buffer`` is.

    Raises:
        ValueError: it fails its CRC, or makes no sense.
    """
    foot = len(buffer) - FOOT_BYTES
    if foot < 0:
        raise ValueError("the index has no room for its foot")
    _, crc = _FOOT_START.unpack_from(buffer, foot)
    rows = memoryview(buffer)[:foot]
    if crc32(memoryview(buffer)[foot + _FOOT_START.size :], crc32(rows)) != crc:
        raise ValueError("the index fails its CRC")
    columns = array("Q", rows.tobytes())
    if sys.byteorder == "big":
        columns.byteswap()
    numbers, offsets, times = columns[0::3], columns[1::3], columns[2::3]
    offsets.append(size - len(buffer))
    for column in (numbers, offsets):
        if any(one >= next_one for one, next_one in pairwise(column)):
            raise ValueError("the index does not rise")
    if offsets[0]:
        raise ValueError("the index begins behind the first frame")
    return ColdIndex(numbers, offsets, times)

"""Records about the shards of a stream: how far a group has read, and what went to a cold file.

The records of the shards themselves are blocks (``block.py``). Like every record, these two are
absolute statements: replaying one over a state that contains it changes nothing.
"""

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from zlib import crc32

import msgspec

from .record import COLD, CURSOR, record_length

__all__ = [
    "ColdFile",
    "ColdRecord",
    "CursorRecord",
    "decode_cold",
    "decode_cursor",
    "encode_cold",
    "encode_cursor",
]

_PREFIX = Struct("<II")


# CURSOR -------------------------------------------------------------------------------------
#
#   8     9    10   12        16       20        28      36        44
#   +-----+----+----+---------+--------+---------+-------+---------+
#   |  9  | 0  | 0  | group   | shard  | u64     | u64   | u64     |
#   |     |    |    |  entity | entity |  number | epoch | time_ms |
#   +-----+----+----+---------+--------+---------+-------+---------+

_CURSOR = Struct("<BBHIIQQQ")


class CursorRecord(msgspec.Struct, gc=False):
    """A group goes on reading the shard at ``number``: all before is done.

    Attributes:
        epoch: of the lease under which this was said. time_ms: when it was said, unix ms.
    """

    group: int
    shard: int
    number: int
    epoch: int
    time_ms: int


def encode_cursor(group: int, shard: int, number: int, epoch: int, time_ms: int) -> bytes:
    """Encode a CURSOR record."""
    head = _CURSOR.pack(CURSOR, 0, 0, group, shard, number, epoch, time_ms)
    return _PREFIX.pack(_PREFIX.size + len(head), crc32(head)) + head


def decode_cursor(buffer: bytes | memoryview, at: int) -> CursorRecord:
    """Decode the CURSOR record at ``at``."""
    if record_length(buffer, at) != _PREFIX.size + _CURSOR.size:
        raise ValueError("the fields of a cursor record do not fill its length")
    try:
        fields = _CURSOR.unpack_from(buffer, at + _PREFIX.size)
    except StructError as error:
        raise ValueError(f"a cursor record ends in its fields: {error}") from None
    return CursorRecord(*fields[3:])


# COLD ---------------------------------------------------------------------------------------
#
#   8     9   10   12        16
#   +-----+---+----+---------+----------------------------------------------
#   | 10  | 0 | 0  | shard   | MessagePack: a map, see :class:`ColdRecord`
#   |     |   |    |  entity |

_COLD = Struct("<BBHI")


class ColdFile(msgspec.Struct, frozen=True, gc=False):
    """A file that holds a range of a shard's records for good: immutable, without gaps.

    Attributes:
        shard: the shard's entity. generation: tells the files of a shard apart; never used twice.
        first: the number of its first record. end: the number behind that of its last.
        bytes: its size.
        time_first_ms: when the oldest of its records was appended, unix ms.
        time_last_ms: when the newest was.
    """

    shard: int
    generation: int
    first: int
    end: int
    bytes: int
    time_first_ms: int
    time_last_ms: int

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self.end - self.first


class ColdRecord(msgspec.Struct, gc=False):
    """From now on the numbers of ``file`` stand there.

    ``replaces``: the generations of the shard's files that do not count any more.
    """

    file: ColdFile
    replaces: tuple[int, ...]


def encode_cold(file: ColdFile, replaces: Sequence[int]) -> bytes:
    """Encode a COLD record."""
    head = _COLD.pack(COLD, 0, 0, file.shard)
    head += msgspec.msgpack.encode(ColdRecord(file, tuple(replaces)))
    return _PREFIX.pack(_PREFIX.size + len(head), crc32(head)) + head


def decode_cold(buffer: bytes | memoryview, at: int) -> ColdRecord:
    """Decode the COLD record at ``at``."""
    end = at + record_length(buffer, at)
    start = at + _PREFIX.size + _COLD.size
    if not start <= end <= len(buffer):
        raise ValueError("the fields of a cold record do not fit in its length")
    shard = _COLD.unpack_from(buffer, at + _PREFIX.size)[3]
    try:
        record = msgspec.msgpack.decode(buffer[start:end], type=ColdRecord)
    except msgspec.MsgspecError as error:
        raise ValueError(f"a cold record cannot be read: {error}") from None
    file = record.file
    if file.shard != shard or not 0 < file.first < file.end:
        raise ValueError(f"a cold record of shard {shard} names {file}")
    return record

"""Blocks: records of one shard of a stream that were appended together.

A block is a record of the log (type STREAM, see ``record.py``), and what a reader gets: it travels
as it stands, so that replaying costs nothing for each record until the very end. Its columns stand
one behind the other, so that encoding and decoding are a few calls for any number of records::

     0        4       8     9       10     12       16           24      28          36
     +--------+-------+-----+-------+------+--------+------------+-------+-----------+---------
     | length |  crc  |  8  | flags |  0   | shard  | u64 number |  u32  | u64       | columns
     |        |       |     |       |      | entity | of the 1st | count | time_ms   |  ...
     +--------+-------+-----+-------+------+--------+------------+-------+-----------+---------

    columns, in this order; an *end* is where a value ends, counted from the start of its column:
      count * u32   ends of the keys             (not with KEYLESS: all keys are empty)
      count * u32   ends of the headers          (only with HEADERS: packed header maps)
      count * u32   ends of the bodies
      count * u32   ms since ``time_ms``         (only with TIMES)
      the keys, the headers, the bodies

Numbers are little endian; the CRC is that of every record. Pure functions.
"""

import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from struct import Struct
from struct import error as StructError
from zlib import crc32

import msgspec

from .record import STREAM, record_length

__all__ = [
    "BLOCK_HEAD_BYTES",
    "Block",
    "StreamRecord",
    "decode_block",
    "decode_block_head",
    "encode_block",
    "merge_blocks",
]

HEADERS, TIMES, KEYLESS = 1, 2, 4

_HEAD = Struct("<BBHIQIQ")
_PREFIX = Struct("<II")
BLOCK_HEAD_BYTES = _PREFIX.size + _HEAD.size

_SWAPS = sys.byteorder == "big"


class StreamRecord(msgspec.Struct, gc=False):
    """One record of a stream, as a reader gets it.

    Attributes:
        number: its place in its shard. time_ms: when it was appended, unix ms.
        key: the partition key in UTF-8; b"": none. headers: the packed header map; b"": none.
    """

    number: int
    time_ms: int
    key: bytes
    headers: bytes
    body: bytes


class Block(msgspec.Struct, gc=False):
    """Where a block stands and what it holds. ``buffer[at:at + length]`` is the record."""

    shard: int
    first: int
    count: int
    time_ms: int
    flags: int
    buffer: bytes
    at: int
    length: int

    @property
    def end(self) -> int:
        """The number after that of its last record."""
        return self.first + self.count

    @property
    def bytes(self) -> bytes:
        """The block by itself, as it travels."""
        if len(self.buffer) == self.length:
            return self.buffer
        return self.buffer[self.at : self.at + self.length]

    def bodies(self, skip: int = 0) -> list[bytes]:
        """The bodies alone, without the first ``skip``."""
        columns, at = self._columns()
        buffer = self.buffer
        at += columns[0][-1] + columns[1][-1]
        ends = columns[2]
        starts = [0, *ends]
        return [
            buffer[at + a : at + b]
            for a, b in zip(starts[skip:-1] if skip else starts, ends[skip:], strict=False)
        ]

    def records(self, skip: int = 0, count: int = -1) -> Iterator[StreamRecord]:
        """Its records, in order: at most ``count`` behind the first ``skip``."""
        columns, keys_at = self._columns()
        keys, headers, bodies, times = columns
        headers_at = keys_at + keys[-1]
        bodies_at = headers_at + headers[-1]
        buffer = self.buffer
        last = self.count if count < 0 else min(self.count, skip + count)
        for index in range(skip, last):
            before = index - 1
            yield StreamRecord(
                self.first + index,
                self.time_ms + times[index],
                buffer[keys_at + (keys[before] if index else 0) : keys_at + keys[index]],
                buffer[headers_at + (headers[before] if index else 0) : headers_at + headers[index]],
                buffer[bodies_at + (bodies[before] if index else 0) : bodies_at + bodies[index]],
            )

    def _columns(self) -> tuple[list["array[int]"], int]:
        """The ends of keys, headers and bodies, the times, and where the keys begin."""
        at = self.at + BLOCK_HEAD_BYTES
        size = 4 * self.count
        none = array("I", bytes(size))
        columns: list[array[int]] = []
        for present in (not self.flags & KEYLESS, self.flags & HEADERS, True, self.flags & TIMES):
            column = none
            if present:
                column = array("I", self.buffer[at : at + size])
                if _SWAPS:
                    column.byteswap()
                at += size
            columns.append(column)
        return columns, at


def encode_block(
    shard: int,
    first: int,
    time_ms: int,
    keys: Sequence[bytes],
    headers: Sequence[bytes] | None,
    bodies: Sequence[bytes],
    times: Sequence[int] | None = None,
) -> bytes:
    """Encode records that are numbered from ``first`` on; ``times`` are ms since ``time_ms``.

    All sequences are of one length, at least 1; ``headers`` is None when no record has any.
    """
    flags = 0
    ends = [_ends(bodies)]
    values = []
    if headers is not None and any(headers):
        flags |= HEADERS
        ends.insert(0, _ends(headers))
        values.extend(headers)
    if any(keys):
        ends.insert(0, _ends(keys))
        values[:0] = keys
    else:
        flags |= KEYLESS
    if times is not None and any(times):
        flags |= TIMES
        ends.append(_column(array("I", times)))
    content = b"".join(
        (_HEAD.pack(STREAM, flags, 0, shard, first, len(bodies), time_ms), *ends, *values, *bodies)
    )
    return _PREFIX.pack(_PREFIX.size + len(content), crc32(content)) + content


def _ends(values: Sequence[bytes]) -> bytes:
    return _column(array("I", accumulate(map(len, values))))


def _column(column: "array[int]") -> bytes:
    if _SWAPS:
        column.byteswap()
    return column.tobytes()


def decode_block_head(buffer: bytes, at: int) -> Block:
    """What stands in the head of the block at ``at``: for records that were checked before."""
    _, flags, _, shard, first, count, time_ms = _HEAD.unpack_from(buffer, at + _PREFIX.size)
    return Block(shard, first, count, time_ms, flags, buffer, at, record_length(buffer, at))


def decode_block(buffer: bytes, at: int) -> Block:
    """Decode the block at ``at``, whose CRC holds.

    Raises:
        ValueError: what stands in it does not fit together.
    """
    try:
        block = decode_block_head(buffer, at)
    except StructError as error:
        raise ValueError(f"a block ends in its head: {error}") from None
    if not block.count:
        raise ValueError("a block without records")
    ending = at + block.length
    columns = 1 + (not block.flags & KEYLESS) + bool(block.flags & HEADERS)
    columns += bool(block.flags & TIMES)
    if at + BLOCK_HEAD_BYTES + 4 * block.count * columns > ending or ending > len(buffer):
        raise ValueError("the columns of a block do not fit in its length")
    ends, values_at = block._columns()
    for column in ends[:3]:
        if any(a > b for a, b in zip(column, column[1:], strict=False)):
            raise ValueError("the ends in a block fall")
    if values_at + sum(column[-1] for column in ends[:3]) != ending:
        raise ValueError("the values of a block do not fill its length")
    return block


def merge_blocks(blocks: Sequence[Block]) -> bytes:
    """One block with the records of several that follow each other in one shard.

    Times are kept to the millisecond while all are within 49 days of the first.
    """
    if len(blocks) == 1:
        return blocks[0].bytes
    keys: list[bytes] = []
    headers: list[bytes] = []
    bodies: list[bytes] = []
    times: list[int] = []
    base_ms = blocks[0].time_ms
    for block in blocks:
        for record in block.records():
            keys.append(record.key)
            headers.append(record.headers)
            bodies.append(record.body)
            times.append(record.time_ms - base_ms)
    first = blocks[0]
    return encode_block(first.shard, first.first, base_ms, keys, headers, bodies, times)

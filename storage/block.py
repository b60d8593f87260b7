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

Numbers are little endian; the CRC is that of every record. ``time_ms`` is that of the oldest
record. Pure functions.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from struct import Struct
from struct import error as StructError
from zlib import crc32

import msgspec

from .record import STREAM, record_length, record_type

__all__ = [
    "BLOCK_HEAD_BYTES",
    "BLOCK_SPAN_MS",
    "Block",
    "RecordFields",
    "StreamRecord",
    "decode_block",
    "decode_block_head",
    "encode_block",
    "encode_record",
    "merge_blocks",
]

HEADERS, TIMES, KEYLESS = 1, 2, 4

_HEAD = Struct("<BBHIQIQ")
_PREFIX = Struct("<II")
_END = Struct("<I")
BLOCK_HEAD_BYTES = _PREFIX.size + _HEAD.size
BLOCK_SPAN_MS = 1 << 32  # no record of a block is so much newer than its oldest one: 49 days

_U64_END = 1 << 64
_SWAPS = sys.byteorder == "big"
assert array("I").itemsize == 4


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


class _Columns(msgspec.Struct, gc=False):
    """The columns of numbers; None: it is not there. Where the columns of values begin."""

    keys: "array[int] | None"
    headers: "array[int] | None"
    bodies: "array[int]"
    times: "array[int] | None"
    keys_at: int
    headers_at: int
    bodies_at: int


_ListOfBytes = list[bytes]  # Block has a property of that name
# The numbers, times, keys, headers and bodies of records.
RecordFields = tuple[Iterable[int], Iterable[int], Iterable[bytes], Iterable[bytes], _ListOfBytes]


class Block(msgspec.Struct, gc=False):
    """Where a block stands and what it holds. ``buffer[at:at + length]`` is the record."""

    shard: int
    first: int
    count: int
    time_ms: int  # of its oldest record
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

    @property
    def time_last_ms(self) -> int:
        """When its newest record was appended, unix ms."""
        times = self._columns().times if self.flags & TIMES else None
        return self.time_ms if times is None else self.time_ms + max(times)

    def number_at(self, time_ms: int) -> int:
        """The number of the first record appended at ``time_ms`` or later, or :attr:`end`."""
        late = time_ms - self.time_ms
        times = self._columns().times if late > 0 else None
        if times is None:
            return self.end if late > 0 else self.first
        return next((self.first + n for n, time in enumerate(times) if time >= late), self.end)

    def bodies(self, skip: int = 0, count: int = -1) -> _ListOfBytes:
        """The bodies alone: at most ``count`` behind the first ``skip``; -1: all."""
        columns = self._columns()
        last = self.count if count < 0 else min(self.count, skip + count)
        return _cut(self.buffer, columns.bodies_at, columns.bodies, skip, last)

    def records(self, skip: int = 0, count: int = -1) -> Iterator[StreamRecord]:
        """Its records, in order: at most ``count`` behind the first ``skip``; -1: all."""
        return map(StreamRecord, *self.fields(skip, count))

    def fields(self, skip: int = 0, count: int = -1) -> RecordFields:
        """What its records are made of, for ``map``; the bodies tell how many they are."""
        columns = self._columns()
        buffer = self.buffer
        last = self.count if count < 0 else min(self.count, skip + count)
        keys: Iterable[bytes] = repeat(b"")
        headers: Iterable[bytes] = repeat(b"")
        times: Iterable[int] = repeat(self.time_ms)
        if columns.keys is not None:
            keys = _cut(buffer, columns.keys_at, columns.keys, skip, last)
        if columns.headers is not None:
            headers = _cut(buffer, columns.headers_at, columns.headers, skip, last)
        if columns.times is not None:
            times = map(self.time_ms.__add__, columns.times[skip:last])
        bodies = _cut(buffer, columns.bodies_at, columns.bodies, skip, last)
        return range(self.first + skip, self.end), times, keys, headers, bodies

    def _columns(self) -> _Columns:
        at = self.at + BLOCK_HEAD_BYTES
        size = 4 * self.count
        buffer = self.buffer
        keys = headers = times = None
        if not self.flags & KEYLESS:
            keys = _decode_column(buffer[at : at + size])
            at += size
        if self.flags & HEADERS:
            headers = _decode_column(buffer[at : at + size])
            at += size
        bodies = _decode_column(buffer[at : at + size])
        at += size
        if self.flags & TIMES:
            times = _decode_column(buffer[at : at + size])
            at += size
        headers_at = at if keys is None else at + keys[-1]
        bodies_at = headers_at if headers is None else headers_at + headers[-1]
        return _Columns(keys, headers, bodies, times, at, headers_at, bodies_at)


def _cut(buffer: bytes, at: int, ends: "array[int]", skip: int, last: int) -> list[bytes]:
    """The values from index ``skip`` up to ``last`` of the column of values at ``at``."""
    if last <= skip:
        return []
    start = at + (ends[skip - 1] if skip else 0)
    values = []
    for end in ends[skip:last]:
        end += at
        values.append(buffer[start:end])
        start = end
    return values


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

    Raises:
        OverflowError: a column has 4 GiB, or a time is ``BLOCK_SPAN_MS`` or more.
    """
    return _encode(
        (shard, first, time_ms),
        (_ends(keys), keys) if any(keys) else None,
        (_ends(headers), headers) if headers is not None and any(headers) else None,
        (_ends(bodies), bodies),
        array("I", times) if times is not None and any(times) else None,
    )


def encode_record(
    shard: int, number: int, time_ms: int, key: bytes, headers: bytes, body: bytes
) -> bytes:
    """Encode a block of one record: the same bytes, for less than half of what columns cost."""
    flags = KEYLESS
    ends = _END.pack(len(body))
    if headers:
        flags |= HEADERS
        ends = _END.pack(len(headers)) + ends
    if key:
        flags &= ~KEYLESS
        ends = _END.pack(len(key)) + ends
    fields = _HEAD.pack(STREAM, flags, 0, shard, number, 1, time_ms)
    content = b"".join((fields, ends, key, headers, body))
    return _PREFIX.pack(_PREFIX.size + len(content), crc32(content)) + content


_Values = tuple["array[int]", Sequence[bytes]]  # ends, and what joined they are the ends in


def _encode(
    head: tuple[int, int, int],
    keys: _Values | None,
    headers: _Values | None,
    bodies: _Values,
    times: "array[int] | None",
) -> bytes:
    shard, first, time_ms = head
    present = [column for column in (keys, headers, bodies) if column is not None]
    columns = [_encode_column(ends) for ends, _ in present]
    flags = 0
    if keys is None:
        flags |= KEYLESS
    if headers is not None:
        flags |= HEADERS
    if times is not None:
        flags |= TIMES
        columns.append(_encode_column(times))
    for _, values in present:
        columns += values
    fields = _HEAD.pack(STREAM, flags, 0, shard, first, len(bodies[0]), time_ms)
    content = b"".join((fields, *columns))
    return _PREFIX.pack(_PREFIX.size + len(content), crc32(content)) + content


def _ends(values: Sequence[bytes]) -> "array[int]":
    return array("I", accumulate(map(len, values)))


def _encode_column(column: "array[int]") -> bytes:
    if _SWAPS:
        column.byteswap()
    return column.tobytes()


def _decode_column(content: bytes) -> "array[int]":
    column = array("I", content)
    if _SWAPS:
        column.byteswap()
    return column


def decode_block_head(buffer: bytes, at: int) -> Block:
    """What stands in the head of the block at ``at``: for records that were checked before."""
    _, flags, _, shard, first, count, time_ms = _HEAD.unpack_from(buffer, at + _PREFIX.size)
    return Block(shard, first, count, time_ms, flags, buffer, at, record_length(buffer, at))


def decode_block(buffer: bytes, at: int = 0) -> Block:
    """Decode the block at ``at``, whoever made it; its CRC is not looked at.

    What is returned can be read without an error, and memory for it is bounded by its length.

    Raises:
        ValueError: what stands in it does not fit together.
    """
    try:
        block = decode_block_head(buffer, at)
    except StructError as error:
        raise ValueError(f"a block ends in its head: {error}") from None
    flags = block.flags
    if record_type(buffer, at) != STREAM or flags & ~(HEADERS | TIMES | KEYLESS):
        raise ValueError("no block, or one with flags that mean nothing")
    if not block.count:
        raise ValueError("a block without records")
    if block.end > _U64_END or block.time_ms > _U64_END - BLOCK_SPAN_MS:
        raise ValueError("the numbers or the times of a block pass 64 bits")
    ending = at + block.length
    count_of_columns = 1 + (not flags & KEYLESS) + bool(flags & HEADERS) + bool(flags & TIMES)
    if at + BLOCK_HEAD_BYTES + 4 * block.count * count_of_columns > ending or ending > len(buffer):
        raise ValueError("the columns of a block do not fit in its length")
    columns = block._columns()
    for column in (columns.keys, columns.headers, columns.bodies):
        if column is not None:
            ends = column.tolist()
            if ends != sorted(ends):
                raise ValueError("the ends in a block fall")
    if columns.bodies_at + columns.bodies[-1] != ending:
        raise ValueError("the values of a block do not fill its length")
    return block


def merge_blocks(blocks: Sequence[Block]) -> bytes:
    """One block with the records of several that follow each other in one shard.

    It is about as large as they are together: how many to merge is the caller's to bound.

    Raises:
        ValueError: they do not follow each other.
        OverflowError: their times do not lie within ``BLOCK_SPAN_MS``.
    """
    if len(blocks) == 1:
        return blocks[0].bytes
    for block, following in pairwise(blocks):
        if following.first != block.end or following.shard != block.shard:
            raise ValueError(f"{following.first} of {following.shard} does not follow {block.end}")
    time_ms = min(block.time_ms for block in blocks)
    keys, headers, bodies = _Merged(), _Merged(), _Merged()
    times = array("I")
    for block in blocks:
        columns = block._columns()
        buffer, count = block.buffer, block.count
        keys.add(columns.keys, buffer[columns.keys_at : columns.headers_at], count)
        headers.add(columns.headers, buffer[columns.headers_at : columns.bodies_at], count)
        bodies.add(columns.bodies, buffer[columns.bodies_at : block.at + block.length], count)
        late = block.time_ms - time_ms
        if columns.times is None:
            times.extend(repeat(late, count))
        else:
            times.extend([late + time for time in columns.times])
    return _encode(
        (blocks[0].shard, blocks[0].first, time_ms),
        (keys.ends, keys.values) if keys.ends[-1] else None,
        (headers.ends, headers.values) if headers.ends[-1] else None,
        (bodies.ends, bodies.values),
        times if any(times) else None,
    )


class _Merged:
    """A column of several blocks."""

    def __init__(self) -> None:
        self.ends = array("I")
        self.values: list[bytes] = []

    def add(self, ends: "array[int] | None", values: bytes, count: int) -> None:
        base = self.ends[-1] if self.ends else 0
        self.ends.extend(repeat(base, count) if ends is None else [base + end for end in ends])
        self.values.append(values)

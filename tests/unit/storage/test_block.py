"""Blocks: what is encoded comes back, merged or not, and garbage is refused in one way."""

import struct
from array import array
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import block as module
from braidmq.storage.block import (
    BLOCK_HEAD_BYTES,
    BLOCK_SPAN_MS,
    Block,
    StreamRecord,
    decode_block,
    decode_block_head,
    encode_block,
    encode_record,
    merge_blocks,
)
from braidmq.storage.record import STREAM, record_is_intact, record_length, record_type

values = st.tuples(
    st.binary(max_size=5), st.binary(max_size=9), st.binary(max_size=30), st.integers(0, 3)
)
rows = st.lists(values, min_size=1, max_size=20)
numbers = st.integers(1, 2**63)


def encoded(rows, first: int = 1, time_ms: int = 1000, shard: int = 7) -> bytes:
    keys, headers, bodies, times = zip(*rows, strict=True)
    return encode_block(shard, first, time_ms, keys, headers, bodies, times)


def expected(rows, first: int = 1, time_ms: int = 1000) -> list[StreamRecord]:
    return [
        StreamRecord(first + index, time_ms + late, key, headers, body)
        for index, (key, headers, body, late) in enumerate(rows)
    ]


@given(rows, numbers, st.integers(0, 2**62), st.integers(0, 2**32 - 1), st.binary(max_size=9))
def test_what_is_encoded_comes_back(rows, first, time_ms, shard, before):
    buffer = before + encoded(rows, first, time_ms, shard) + b"behind"
    at = len(before)
    assert record_is_intact(buffer, at) and record_type(buffer, at) == STREAM
    block = decode_block(buffer, at)
    assert block == decode_block_head(buffer, at)
    assert (block.shard, block.first, block.count, block.time_ms) == (
        shard,
        first,
        len(rows),
        time_ms,
    )
    assert block.end == first + len(rows)
    assert block.bytes == buffer[at : at + record_length(buffer, at)]
    assert list(block.records()) == expected(rows, first, time_ms)
    assert block.bodies() == [body for _, _, body, _ in rows]
    assert block.time_last_ms == time_ms + max(late for *_, late in rows)


@given(rows, st.integers(0, 25), st.integers(-1, 25))
def test_a_part_of_it_is_what_stands_there(rows, skip, count):
    block = decode_block(encoded(rows))
    stop = None if count < 0 else skip + count
    assert list(block.records(skip, count)) == expected(rows)[skip:stop]
    assert block.bodies(skip, count) == [body for _, _, body, _ in rows][skip:stop]


@given(rows, st.integers(995, 1010))
def test_a_time_is_found_as_by_looking_at_each(rows, time_ms):
    block = decode_block(encoded(rows))
    found = [record.number for record in block.records() if record.time_ms >= time_ms]
    assert block.number_at(time_ms) == (found[0] if found else block.end)


def test_columns_that_say_nothing_cost_nothing():
    plain = encode_block(1, 1, 5, [b"", b""], [b"", b""], [b"one", b"two"], [0, 0])
    assert plain == encode_block(1, 1, 5, [b"", b""], None, [b"one", b"two"])
    assert len(plain) == BLOCK_HEAD_BYTES + 2 * 4 + 6


@given(values, numbers, st.integers(0, 2**62), st.integers(0, 2**32 - 1))
def test_a_record_by_itself_is_a_block_of_one(fields, number, time_ms, shard):
    key, headers, body, _ = fields
    expected = encode_block(shard, number, time_ms, [key], [headers], [body])
    assert encode_record(shard, number, time_ms, key, headers, body) == expected


def test_a_block_by_itself_is_not_copied():
    content = encode_block(1, 1, 5, [b""], None, [b"body"])
    assert decode_block(content).bytes is content


@given(st.lists(st.tuples(rows, st.integers(0, 2000)), min_size=1, max_size=6), numbers)
def test_merged_blocks_hold_the_same_records(parts, first):
    blocks, records = [], []
    for part, time_ms in parts:
        blocks.append(decode_block(b"??" + encoded(part, first, time_ms), 2))
        records += expected(part, first, time_ms)
        first = blocks[-1].end
    merged = decode_block(merge_blocks(blocks))
    assert list(merged.records()) == records
    assert record_is_intact(merged.bytes)
    assert merged.time_ms == min(block.time_ms for block in blocks)


def test_blocks_that_do_not_follow_each_other_are_not_merged():
    one = decode_block(encode_block(1, 1, 5, [b""], None, [b"x"]))
    for other in (
        encode_block(1, 3, 5, [b""], None, [b"x"]),
        encode_block(2, 2, 5, [b""], None, [b"x"]),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            merge_blocks([one, decode_block(other)])


def test_times_that_lie_too_far_apart_are_not_merged():
    blocks = [
        decode_block(encode_block(1, 1 + n, n * (BLOCK_SPAN_MS - 1), [b""], None, [b"x"]))
        for n in range(2)
    ]
    assert [record.time_ms for record in decode_block(merge_blocks(blocks)).records()] == [
        block.time_ms for block in blocks
    ]
    blocks[1].time_ms += 1
    with pytest.raises(OverflowError):
        merge_blocks(blocks)


def forged(block: Block, *columns: list[int], values: bytes = b"", **changes: int) -> bytes:
    """A block with a right CRC and whatever content."""
    fields = {name: getattr(block, name) for name in ("flags", "first", "count", "time_ms")}
    fields |= changes
    head = struct.pack(
        "<BBHIQIQ",
        fields.get("type", STREAM),
        fields["flags"],
        0,
        1,
        fields["first"],
        fields["count"],
        fields["time_ms"],
    )
    content = head + b"".join(array("I", column).tobytes() for column in columns) + values
    return struct.pack("<II", 8 + len(content), crc32(content)) + content


PLAIN = decode_block(encode_block(1, 1, 5, [b"", b""], None, [b"one", b"two"]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(8),
        forged(PLAIN)[:-1],
        forged(PLAIN, [3, 6], values=b"onetwo", type=1),
        forged(PLAIN, [3, 6], values=b"onetwo", flags=12),
        forged(PLAIN, count=0),
        forged(PLAIN, [3, 6], values=b"onetwo", first=2**64 - 1),
        forged(PLAIN, [3, 6], values=b"onetwo", time_ms=2**64 - 1),
        forged(PLAIN, [3, 6], values=b"onetwo", count=2**32 - 1),
        forged(PLAIN, [3, 6], values=b"onetwo", count=3),
        forged(PLAIN, [3, 6], values=b"onetwo", flags=0),
        forged(PLAIN, [7, 6], values=b"onetwo"),
        forged(PLAIN, [3, 5], values=b"onetwo"),
        forged(PLAIN, [3, 7], values=b"onetwo"),
        forged(PLAIN, [3, 2**32 - 1], values=b"onetwo"),
        forged(PLAIN, [3, 6], values=b"onetwo")[:-1],
    ],
)
def test_what_does_not_fit_together_is_refused(content):
    with pytest.raises(ValueError, match="block"):
        decode_block(content)


@given(rows, st.data())
def test_damage_is_refused_or_harmless(rows, data):
    """Without the CRC: whatever is let in can be read, within what came."""
    content = bytearray(encoded(rows))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        block = decode_block(bytes(content))
    except ValueError:
        return
    records = list(block.records())
    assert len(records) == block.count == len(block.bodies())
    size = sum(len(r.key) + len(r.headers) + len(r.body) for r in records)
    assert size <= block.length <= len(content)
    assert block.first <= block.number_at(block.time_last_ms) < block.end


@pytest.mark.parametrize("swaps", [False, True])
def test_the_bytes_on_disk_do_not_depend_on_the_machine(monkeypatch, swaps):
    """A machine of the other byte order, played by swapping twice."""
    rows = [(b"k", b"h", b"body", 0), (b"", b"", b"x", 3)]
    content = encoded(rows)
    assert content[BLOCK_HEAD_BYTES : BLOCK_HEAD_BYTES + 8] == struct.pack("<II", 1, 1)
    monkeypatch.setattr(module, "_SWAPS", swaps)
    assert list(decode_block(encoded(rows)).records()) == expected(rows)

"""The format of cold files: what is encoded comes back, and garbage is a ValueError."""

import dataclasses
from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage.coldfile import (
    FOOT_BYTES,
    INDEX_ROW_BYTES,
    ColdFrame,
    ColdIndex,
    cold_name,
    cold_shard,
    decode_cold_foot,
    decode_cold_frame,
    decode_cold_index,
    encode_cold_frame,
    encode_cold_index,
    frame_blocks,
    parse_cold_name,
    parse_cold_shard,
)
from braidmq.storage.frame import VERSION
from braidmq.storage.streams import ColdFile
from tests.unit.storage.cold_support import SHARD, make_block, make_blocks

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


@given(u32, u64)
def test_names_come_back(number, first):
    assert parse_cold_shard(cold_shard(number)) == number
    assert parse_cold_name(cold_name(first, number)) == (first, number)


@pytest.mark.parametrize("name", ["", "0000000A", "000000010", "00000001-00000001.seg", "x.seg"])
def test_other_names_are_none(name):
    assert parse_cold_shard(name) is None
    assert parse_cold_name(name) is None


@given(u32, u64, u32, u32, u64, st.binary(max_size=50))
def test_a_frame_comes_back(codec, number, count, plain_bytes, time_ms, content):
    frame = ColdFrame(codec, number, count, plain_bytes, time_ms, content)
    assert decode_cold_frame(encode_cold_frame(frame)) == frame


def test_a_frame_with_any_byte_wrong_is_refused():
    content = encode_cold_frame(ColdFrame(0, 1, 2, 3, 4, b"content"))
    for at in range(len(content)):
        wrong = bytearray(content)
        wrong[at] ^= 4
        with pytest.raises(ValueError, match="frame"):
            decode_cold_frame(bytes(wrong))
    for length in range(len(content)):
        with pytest.raises(ValueError, match="frame"):
            decode_cold_frame(content[:length])


BLOCKS = make_blocks(10, 3)
PLAIN = b"".join(block.bytes for block in BLOCKS)
FRAME = ColdFrame(0, 10, 9, len(PLAIN), 1000, PLAIN)


def test_the_blocks_of_a_frame_are_those_that_were_put_in():
    blocks = frame_blocks(FRAME, SHARD, PLAIN)
    assert [block.bytes for block in blocks] == [block.bytes for block in BLOCKS]
    assert all(block.buffer is PLAIN for block in blocks)


@pytest.mark.parametrize(
    ("frame", "shard", "plain"),
    [
        (FRAME, SHARD + 1, PLAIN),
        (FRAME, SHARD, b""),
        (FRAME, SHARD, PLAIN[:-1]),
        (FRAME, SHARD, PLAIN + b"x"),
        (FRAME, SHARD, PLAIN + bytes(40)),
        (FRAME, SHARD, PLAIN[: BLOCKS[0].length]),
        (FRAME, SHARD, PLAIN + make_block(30, [b""]).bytes),
        (FRAME, SHARD, PLAIN[:8] + b"\x01" + PLAIN[9:]),
        (msgspec.structs.replace(FRAME, number=9), SHARD, PLAIN),
        (msgspec.structs.replace(FRAME, count=10), SHARD, PLAIN),
    ],
)
def test_blocks_that_are_not_what_the_frame_says_are_refused(frame, shard, plain):
    with pytest.raises(ValueError, match=r"frame|should"):
        frame_blocks(frame, shard, plain)


@dataclasses.dataclass
class Written:
    file: ColdFile
    index: ColdIndex
    content: bytes


@st.composite
def indexes(draw: st.DrawFn) -> Written:
    steps = st.lists(st.integers(1, 1000), min_size=1, max_size=20)
    numbers, offsets = array("Q", [draw(st.integers(1, 2**60))]), array("Q", [0])
    for step in draw(steps):
        numbers.append(numbers[-1] + step)
        offsets.append(offsets[-1] + 2 * step)
    end = numbers.pop()
    times = array("Q", [draw(u64) for _ in numbers])
    size = offsets[-1] + len(numbers) * INDEX_ROW_BYTES + FOOT_BYTES
    file = ColdFile(draw(u32), draw(u32), numbers[0], end, size, draw(u64), draw(u64))
    index = ColdIndex(numbers, offsets, times)
    return Written(file, index, encode_cold_index(file, index))


@given(indexes(), st.integers(0, 2**62))
def test_an_index_comes_back_and_finds_what_a_search_finds(written, time_ms):
    size = written.file.bytes
    assert len(written.content) == size - written.index.offsets[-1]
    found, version, frames = decode_cold_foot(b"frames" + written.content, size)
    assert (found, version, frames) == (written.file, VERSION, len(written.index.numbers))
    index = decode_cold_index(written.content, size)
    assert index == written.index
    ends = [*index.numbers[1:], written.file.end]
    for at, (first, end) in enumerate(zip(index.numbers, ends, strict=True)):
        assert index.frame_of(first) == index.frame_of(end - 1) == at
    late = [at for at, last_ms in enumerate(index.times_last_ms) if last_ms >= time_ms]
    assert index.frame_at(time_ms) == (late[0] if late else None)


def index_content(numbers: list[int], offsets: list[int]) -> tuple[bytes, int]:
    times = array("Q", [5] * len(numbers))
    size = offsets.pop() + len(numbers) * INDEX_ROW_BYTES + FOOT_BYTES
    file = ColdFile(SHARD, 1, 10, 30, size, 5, 5)
    index = ColdIndex(array("Q", numbers), array("Q", offsets), times)
    return encode_cold_index(file, index), size


@pytest.mark.parametrize(
    ("numbers", "offsets"),
    [
        ([10, 10], [0, 50, 90]),
        ([20, 10], [0, 50, 90]),
        ([10, 20], [0, 0, 90]),
        ([10, 20], [0, 90, 90]),
        ([10, 20], [1, 50, 90]),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(numbers, offsets):
    content, size = index_content(numbers, offsets)
    with pytest.raises(ValueError, match="index"):
        decode_cold_index(content, size)


def test_an_index_with_any_byte_wrong_is_refused():
    content, size = index_content([10, 20], [0, 50, 90])
    for at in range(len(content)):
        wrong = bytearray(content)
        wrong[at] ^= 4
        with pytest.raises(ValueError, match=r"index|foot"):
            decode_cold_foot(bytes(wrong), size)
            decode_cold_index(bytes(wrong), size)


@pytest.mark.parametrize("content", [b"", bytes(FOOT_BYTES), b"BQI2".ljust(FOOT_BYTES, b"\xff")])
def test_a_foot_that_is_none_is_refused(content):
    with pytest.raises(ValueError, match="foot"):
        decode_cold_foot(content, 1000)

"""Records of cursors and cold files: what is encoded comes back, and garbage is a ValueError."""

import struct
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage.record import COLD, CURSOR, record_is_intact, record_length, record_type
from braidmq.storage.streams import (
    ColdFile,
    ColdRecord,
    CursorRecord,
    decode_cold,
    decode_cursor,
    encode_cold,
    encode_cursor,
)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


@st.composite
def files(draw: st.DrawFn) -> ColdFile:
    first, end = sorted(
        draw(st.lists(st.integers(1, 2**64 - 1), min_size=2, max_size=2, unique=True))
    )
    return ColdFile(draw(u32), draw(u32), first, end, draw(u64), draw(u64), draw(u64))


@given(u32, u32, u64, u64, u64, st.binary(max_size=9))
def test_a_cursor_comes_back(group, shard, number, epoch, time_ms, before):
    buffer = before + encode_cursor(group, shard, number, epoch, time_ms) + b"behind"
    at = len(before)
    assert record_is_intact(buffer, at) and record_type(buffer, at) == CURSOR
    assert decode_cursor(buffer, at) == CursorRecord(group, shard, number, epoch, time_ms)


@given(files(), st.lists(u32, max_size=5), st.binary(max_size=9))
def test_a_cold_file_comes_back(file, replaces, before):
    buffer = before + encode_cold(file, replaces) + b"behind"
    at = len(before)
    assert record_is_intact(buffer, at) and record_type(buffer, at) == COLD
    assert decode_cold(buffer, at) == ColdRecord(file, tuple(replaces))
    assert file.records == file.end - file.first


FILE = ColdFile(7, 1, 10, 20, 4096, 1000, 2000)


def forged(kind: int, content: bytes) -> bytes:
    content = bytes([kind, 0]) + content
    return struct.pack("<II", 8 + len(content), crc32(content)) + content


@pytest.mark.parametrize("length", range(10, 44))
def test_a_short_cursor_is_refused(length):
    content = encode_cursor(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match="cursor"):
        decode_cursor(struct.pack("<I", length) + content[4:length], 0)
    with pytest.raises(ValueError, match="cursor"):
        decode_cursor(content[:length], 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(6),
        bytes(6) + b"garbage",
        bytes(6) + msgspec.msgpack.encode({"file": {}, "replaces": []}),
        struct.pack("<HI", 0, 8) + msgspec.msgpack.encode(ColdRecord(FILE, ())),
        *[
            struct.pack("<HI", 0, 7)
            + msgspec.msgpack.encode(ColdRecord(msgspec.structs.replace(FILE, **changes), ()))
            for changes in ({"first": 0}, {"end": 10}, {"end": 5})
        ],
    ],
)
def test_a_cold_record_that_makes_no_sense_is_refused(content):
    with pytest.raises(ValueError, match="cold record"):
        decode_cold(forged(COLD, content), 0)


def test_a_cold_record_that_is_cut_short_is_refused():
    content = encode_cold(FILE, [1, 2])
    assert record_length(content) == len(content)
    for length in range(10, len(content)):
        with pytest.raises(ValueError, match="cold record"):
            decode_cold(content[:length], 0)

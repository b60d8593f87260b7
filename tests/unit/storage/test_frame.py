"""Frames: what is encoded comes back, one flipped bit is noticed, garbage is no frame."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage.frame import (
    FRAME_BYTES,
    FRAME_MAGIC,
    VERSION,
    decode_frame_header,
    encode_frame,
    encode_frame_header,
    frame_crc,
    frame_is_intact,
)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
fields = st.tuples(st.binary(max_size=200), u32, u64, u64, u64, u64, u32)


@given(fields, st.binary(max_size=20))
def test_a_frame_comes_back(values, before):
    payload, count, lsn, durable_lsn, epoch, time_ms, prev_crc = values
    frame = encode_frame(*values)
    assert len(frame) % 8 == 0
    buffer = before + frame + b"behind"
    header = decode_frame_header(buffer, len(before))
    assert header is not None
    assert frame_is_intact(header, buffer, len(before))
    assert (header.version, header.codec, header.shard) == (VERSION, 0, 0)
    assert (header.count, header.lsn, header.durable_lsn) == (count, lsn, durable_lsn)
    assert (header.epoch, header.time_ms, header.prev_crc) == (epoch, time_ms, prev_crc)
    assert (header.length, header.payload_length) == (len(frame), len(payload))
    assert header.crc == frame_crc(frame)
    assert frame[FRAME_BYTES : FRAME_BYTES + len(payload)] == payload
    assert encode_frame_header(*values) == (frame[:FRAME_BYTES], header.crc)


@given(fields, st.data())
def test_a_flipped_bit_is_noticed(values, data):
    frame = bytearray(encode_frame(*values))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= 1 << data.draw(st.integers(0, 7))
    header = decode_frame_header(bytes(frame))
    assert header is None or not frame_is_intact(header, bytes(frame))


@given(fields, st.integers(0, 300))
def test_a_frame_cut_short_is_not_intact(values, size):
    frame = encode_frame(*values)
    cut = frame[: min(size, len(frame) - 1)]
    header = decode_frame_header(cut)
    assert header is None or not frame_is_intact(header, cut)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_garbage_is_no_frame(buffer, at):
    assert decode_frame_header(buffer, at) is None
    assert decode_frame_header(FRAME_MAGIC + buffer) is None


def test_the_layout_is_the_one_that_is_documented():
    frame = encode_frame(b"payload", 1, 2, 3, 4, 5, 6)
    magic, length, crc, version, shard = struct.unpack_from("<4sIIHH", frame)
    assert (magic, length, crc, version, shard) == (b"BQF1", 72, frame_crc(frame), VERSION, 0)
    assert struct.unpack_from("<QQQQ", frame, 16) == (2, 3, 4, 5)
    assert struct.unpack_from("<IIII", frame, 48) == (6, 1, 7, 0)
    assert frame[64:] == b"payload\0"

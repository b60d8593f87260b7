"""Frames of clients, to the byte: RFC 6455 section 5."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from braidmq.protocols.http.frames import (
    CONTROL_BYTES_MAX,
    FRAMES_PER_TURN_MAX,
    FrameReader,
    append_close,
    append_data,
    append_pong,
    unmask,
)
from tests.unit.protocols.http.carrier import MASK, close, frame, frames_of

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def reader(frame_bytes_max=1_000_000, takes_text=False) -> FrameReader:
    return FrameReader(frame_bytes_max, takes_text)


def read_all(frames: FrameReader, data: bytes) -> bytes:
    """Read until nothing more waits."""
    out = frames.read(data)
    while frames.more:
        out += frames.read(b"")
    return out


def code(frames: FrameReader) -> int:
    assert frames.close is not None
    return int.from_bytes(frames.close[:2], "big")


def fails(data: bytes, **options) -> int:
    """The code that these bytes end with, however they are cut; the bytes after change nothing."""
    frames = reader(**options)
    read_all(frames, data)
    found = code(frames)
    assert len(frames) == 0 and not frames.more
    assert frames.read(frame(BINARY, b"later")) == b""
    assert len(frames.close or b"") <= CONTROL_BYTES_MAX
    slow = reader(**options)
    for byte in data:
        read_all(slow, bytes([byte]))
    assert code(slow) == found
    return found


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1_023, 1_024, 1_025, 1_026, 1_027, 70_000])
def test_unmask_is_its_own_inverse_and_what_the_standard_says(size):
    data = bytes(at % 251 for at in range(size))
    masked = unmask(data, MASK)
    assert masked == bytes(byte ^ MASK[at & 3] for at, byte in enumerate(data))
    assert unmask(masked, MASK) == data


def test_the_example_of_the_standard():
    """RFC 6455 5.7: a masked text message."""
    hello = bytes.fromhex("818537fa213d7f9f4d5158")
    assert reader(takes_text=True).read(hello) == b"Hello"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_every_length(size):
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    frames = reader()
    assert frames.read(frame(BINARY, payload)) == payload
    assert len(frames) == 0 and frames.close is None


def test_a_message_in_pieces_with_control_frames_between():
    data = (
        frame(BINARY, b"one ", fin=False)
        + frame(PING, b"a")
        + frame(CONT, b"two ", fin=False)
        + frame(PONG, b"unasked")
        + frame(CONT, b"", fin=False)
        + frame(PING, b"b")
        + frame(CONT, b"three")
        + frame(BINARY, b"!")
    )
    frames = reader()
    assert frames.read(data) == b"one two three!"
    assert frames.ping == b"b", "the last ping is answered, RFC 6455 5.5.3"


def test_payload_does_not_wait_for_its_frame():
    data = frame(BINARY, b"abcdefgh")
    frames = reader()
    assert frames.read(data[:9]) == b"abc"
    assert frames.read(data[9:]) == b"defgh"
    assert len(frames) == 0


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.binary(max_size=300), st.integers(1, 4)),
        st.tuples(st.just("ping"), st.binary(max_size=125), st.just(1)),
        st.tuples(st.just("pong"), st.binary(max_size=125), st.just(1)),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(EVENTS, st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 10_000)), st.booleans())
@example([("data", b"x" * 300, 4)], b"\0\0\0\0", list(range(400)), True)
def test_any_split_of_any_frames_gives_the_same_bytes(events, mask, cuts, end):
    data = bytearray()
    payload = bytearray()
    ping = None
    for kind, content, pieces in events:
        if kind == "data":
            payload += content
            step = len(content) // pieces + 1
            parts = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
            for number, part in enumerate(parts):
                opcode = CONT if number else BINARY
                data += frame(opcode, part, fin=number == len(parts) - 1, mask=mask)
        else:
            ping = content if kind == "ping" else ping
            data += frame(PING if kind == "ping" else PONG, content, mask=mask)
    if end:
        data += close(1000, b"bye")
    frames = reader()
    got = bytearray()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for a, b in pairwise(edges):
        got += read_all(frames, bytes(data[a:b]))
        assert len(frames) < 14 + CONTROL_BYTES_MAX
    assert got == payload and frames.ping == ping
    assert frames.close == ((1000).to_bytes(2, "big") if end else None)


WRONG = {
    "not masked": frame(BINARY, b"a", mask=None),
    "RSV1": frame(BINARY, b"a", rsv=4),
    "RSV2": frame(BINARY, b"a", rsv=2),
    "RSV3": frame(PING, b"a", rsv=1),
    **{f"opcode {opcode}": frame(opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a ping in pieces": frame(PING, b"a", fin=False),
    "a close in pieces": frame(CLOSE, b"", fin=False),
    "a ping of 126 bytes": frame(PING, b"a" * 126),
    "a continuation of nothing": frame(CONT, b"a"),
    "a continuation after the end": frame(BINARY, b"a") + frame(CONT, b"b"),
    "a message in a message": frame(BINARY, b"a", fin=False) + frame(BINARY, b"b"),
    "125 in 2 bytes": frame(BINARY, b"a" * 125, size=2),
    "65535 in 8 bytes": frame(BINARY, b"a" * 65_535, size=8),
    "2**63 bytes": b"\x82\xff" + (2**63).to_bytes(8, "big") + MASK,
    "a close of one byte": frame(CLOSE, b"a"),
    **{f"code {bad}": close(bad) for bad in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)},
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_ends_with_1002(data):
    assert fails(data) == 1002


@pytest.mark.parametrize("good", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_is_echoed_without_its_reason(good):
    frames = reader()
    assert (
        frames.read(frame(BINARY, b"last") + close(good, b"why") + frame(BINARY, b"x")) == b"last"
    )
    assert frames.close == good.to_bytes(2, "big")


def test_a_code_needs_no_reason_and_a_reason_may_be_long():
    for reason in (b"", b"a" * 123):
        frames = reader()
        frames.read(close(1000, reason))
        assert frames.close == (1000).to_bytes(2, "big")


def test_a_ping_may_have_125_bytes():
    frames = reader()
    frames.read(frame(PING, b"a" * 125))
    assert frames.ping == b"a" * 125 and frames.close is None


def test_the_first_two_bytes_are_enough_to_refuse():
    frames = reader()
    frames.read(frame(BINARY, mask=None))
    assert code(frames) == 1002


def test_an_empty_close_is_echoed_empty():
    frames = reader()
    frames.read(frame(CLOSE))
    assert frames.close == b""


def test_a_reason_is_utf_8():
    assert fails(close(1000, b"\xff")) == 1007


def test_text_where_only_binary_is_taken():
    """[MQTT-6.0.0-1]"""
    assert fails(frame(TEXT, b"a")) == 1003


class TestText:
    def test_is_taken_beside_binary(self):
        data = frame(TEXT, "aé".encode()) + frame(BINARY, b"\xff") + frame(TEXT, b"")
        frames = reader(takes_text=True)
        assert frames.read(data) == b"a\xc3\xa9\xff" and frames.close is None

    def test_may_be_cut_within_a_character(self):
        first, second = frame(TEXT, b"\xc3", fin=False), frame(CONT, b"\xa9")
        frames = reader(takes_text=True)
        assert frames.read(first + frame(PING) + second) == b"\xc3\xa9" and frames.close is None

    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"\xff"),
            frame(TEXT, b"\xc3"),
            frame(TEXT, b"\xed\xa0\x80"),
            frame(TEXT, b"\xc3", fin=False) + frame(CONT, b""),
            frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"a"),
        ],
    )
    def test_is_utf_8(self, data):
        assert fails(data, takes_text=True) == 1007


class TestLimits:
    def test_a_frame_at_the_limit_fits_and_one_beyond_it_does_not(self):
        frames = reader(frame_bytes_max=200)
        assert frames.read(frame(BINARY, b"a" * 200)) == b"a" * 200
        assert fails(frame(BINARY, b"a" * 201), frame_bytes_max=200) == 1009

    def test_a_length_is_refused_before_anything_of_it_came(self):
        tracemalloc.start()
        try:
            frames = reader()
            frames.read(b"\x82\xff" + (2**62).to_bytes(8, "big"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert code(frames) == 1009 and peak < 10_000

    def test_what_came_before_a_long_frame_is_given_out_first(self):
        """It may log the client in, and then the frame is not too long any more."""
        frames = reader(frame_bytes_max=200)
        assert frames.read(frame(BINARY, b"a") + frame(BINARY, b"b" * 300)) == b"a"
        assert frames.more and frames.close is None
        frames.frame_bytes_max = 300
        assert frames.read(b"") == b"b" * 300
        assert not frames.more and frames.close is None

    def test_a_turn_has_a_number_of_frames(self):
        frames = reader()
        data = frame(BINARY, b"a") * (FRAMES_PER_TURN_MAX + 1)
        assert frames.read(data) == b"a" * FRAMES_PER_TURN_MAX
        assert frames.more and len(frames) == 7
        assert frames.read(b"") == b"a" and not frames.more and len(frames) == 0

    def test_an_exact_turn_leaves_nothing(self):
        frames = reader()
        frames.read(frame(BINARY) * FRAMES_PER_TURN_MAX)
        assert not frames.more and len(frames) == 0

    def test_a_thousand_pings_are_one(self):
        frames = reader()
        for number in range(1_000):
            frames.read(frame(PING, b"%d" % number))
        assert frames.ping == b"999" and len(frames) == 0


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (1, "8201"),
        (125, "827d"),
        (126, "827e007e"),
        (65_535, "827effff"),
        (65_536, "827f0000000000010000"),
    ],
)
def test_what_the_server_writes(size, header):
    out = bytearray(b"x")
    append_data(out, bytes(size))
    assert out == b"x" + bytes.fromhex(header) + bytes(size)


def test_the_control_frames_that_the_server_writes():
    out = bytearray()
    append_pong(out, b"hi")
    append_close(out, b"\x03\xe8")
    assert out == b"\x8a\x02hi\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("data", "is_text", "first"),
    [
        (b"abc", True, 0x81),
        ("é".encode() * 200, True, 0x81),
        (b"\xff", True, 0x82),
        (b"abc", False, 0x82),
    ],
)
def test_text_is_written_as_text_if_it_is_some(data, is_text, first):
    out = bytearray()
    append_data(out, data, is_text)
    assert frames_of(bytes(out)) == [(first, data)]


def test_a_reader_knows_whether_the_client_writes_text():
    frames = reader(takes_text=True)
    assert not frames.is_text
    frames.read(frame(TEXT, b"abc"))
    assert frames.is_text
    frames.read(frame(PING))
    assert frames.is_text
    frames.read(frame(BINARY, b"abc"))
    assert not frames.is_text

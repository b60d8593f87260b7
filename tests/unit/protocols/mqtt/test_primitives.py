"""Lengths, integers, text and binary data: what is read, what is more, what is malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.mqtt import primitives as p
from braidmq.protocols.mqtt.kinds import V5, V31, V311
from braidmq.protocols.mqtt.reasons import Malformed, Reason


def h(text):
    return bytes.fromhex(text)


# --- the variable byte integer ---

LENGTHS = [
    (0, "00"),
    (1, "01"),
    (127, "7F"),
    (128, "80 01"),
    (321, "C1 02"),
    (16_383, "FF 7F"),
    (16_384, "80 80 01"),
    (2_097_151, "FF FF 7F"),
    (2_097_152, "80 80 80 01"),
    (268_435_455, "FF FF FF 7F"),
]


@pytest.mark.parametrize(("value", "written"), LENGTHS)
def test_a_length_is_written_and_read(value, written):
    data = h(written)
    assert p.encode_length(value) == data
    assert p.read_length(b"x" + data + b"x", 1, len(data) + 2) == (value, len(data) + 1)
    assert p.read_length(bytearray(data), 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("written", [written for _, written in LENGTHS])
def test_a_length_that_has_not_all_come_asks_for_more(written):
    data = h(written)
    for end in range(len(data)):
        assert p.read_length(data, 0, end) is None


@given(st.integers(0, p.LENGTH_MAX))
def test_every_length_comes_back(value):
    data = p.encode_length(value)
    assert p.read_length(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("written", ["80 80 80 80", "FF FF FF FF 7F", "80 80 80 80 80 80"])
def test_a_fifth_byte_is_malformed(written):
    with pytest.raises(Malformed) as caught:
        p.read_length(h(written), 0, len(h(written)))
    assert caught.value.reason == Reason.MALFORMED_PACKET


@pytest.mark.parametrize("written", ["80 00", "81 00", "FF 80 00", "80 80 80 00"])
def test_more_bytes_than_needed_are_malformed(written):
    with pytest.raises(Malformed, match="more bytes than it needs"):
        p.read_length(h(written), 0, len(h(written)))


def test_a_length_that_cannot_be_written_is_our_error():
    with pytest.raises(ValueError, match="268435455"):
        p.encode_length(p.LENGTH_MAX + 1)


# --- integers, text, binary data ---


def test_integers():
    assert p.read_u16(h("00 12 34"), 1, 3) == (0x1234, 3)
    assert p.read_u32(h("00 12 34 56 78"), 1, 5) == (0x12345678, 5)


@pytest.mark.parametrize(
    ("read", "needed"),
    [(p.read_u16, 2), (p.read_u32, 4), (p.read_text, 5), (p.read_binary, 5)],
)
def test_nothing_is_read_beyond_the_end(read, needed):
    data = h("00 03 61 62 63 64")
    assert read(data, 0, needed)[1] == needed
    for end in range(needed):
        with pytest.raises(Malformed, match="in the middle"):
            read(data, 0, end)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("00 00", ""),
        ("00 03 61 2F 62", "a/b"),
        ("00 05 41 F0 AA 9B 94", "A\U0002a6d4"),  # the example of section 1.5.4
        ("00 03 EF BB BF", "\ufeff"),  # [MQTT-1.5.4-3]: not stripped
    ],
)
def test_text(written, value):
    data = h(written)
    for buffer in (data, bytearray(data), memoryview(data)):
        assert p.read_text(buffer, 0, len(data)) == (value, len(data))
    assert p.text(value) == data


@pytest.mark.parametrize(
    "written",
    [
        "00 01 FF",
        "00 01 C3",
        "00 02 C0 AF",  # overlong
        "00 03 ED A0 80",  # [MQTT-1.5.4-1]: a surrogate
        "00 04 F4 90 80 80",  # beyond Unicode
        "00 01 00",  # [MQTT-1.5.4-2]
        "00 03 61 00 62",
    ],
)
def test_text_that_is_none(written):
    with pytest.raises(Malformed) as caught:
        p.read_text(h(written), 0, len(h(written)))
    assert caught.value.reason == Reason.MALFORMED_PACKET


def test_binary_data_is_bytes_of_its_own():
    value, at = p.read_binary(bytearray(h("00 02 00 FF 61")), 0, 5)
    assert (value, at) == (b"\0\xff", 4) and type(value) is bytes
    assert p.binary(b"\0\xff") == h("00 02 00 FF")


def test_what_cannot_be_written_is_our_error():
    assert len(p.binary(bytes(65_535))) == 65_537
    with pytest.raises(ValueError):
        p.binary(bytes(65_536))
    for value in ("é" * 32_768, "\ud800"):
        with pytest.raises(ValueError):
            p.text(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("", True), ("a", True), ("x" * 65_535, True)),
        *(("x" * 65_536, False), ("a\0", False), ("\ud800", False)),
    ],
)
def test_is_text(value, expected):
    assert p.is_text(value) is expected


# --- what packets have in common ---


@pytest.mark.parametrize(
    ("version", "flags", "expected", "fine"),
    [
        (V5, 0, 0, True),
        (V5, 1, 0, False),
        (V5, 2, 2, True),
        (V5, 10, 2, False),
        (V311, 10, 2, False),
        (V31, 10, 2, True),
        (V31, 2, 2, True),
        (V31, 0, 2, False),
        (V31, 8, 0, False),
    ],
)
def test_reserved_flags(version, flags, expected, fine):
    if fine:
        p.check_flags(version, flags, expected)
    else:
        with pytest.raises(Malformed, match="reserved flags"):
            p.check_flags(version, flags, expected)


def test_the_end_is_the_end():
    p.check_end(2, b"ab")
    with pytest.raises(Malformed, match="goes on"):
        p.check_end(1, b"ab")


def test_a_packet_identifier_is_not_0():
    assert p.read_packet_id(h("61 00 01"), 1) == (1, 3)
    with pytest.raises(Malformed) as caught:
        p.read_packet_id(h("00 00"), 0)
    assert caught.value.reason == Reason.PROTOCOL_ERROR
    with pytest.raises(Malformed):
        p.read_packet_id(h("01"), 0)


def test_a_packet_has_a_fixed_header():
    assert p.encode_packet(0x20, b"ab") == h("20 02 61 62")
    assert p.encode_packet(0x20, bytes(128))[:3] == h("20 80 01")

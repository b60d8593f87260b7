"""The bytes, compared with the standard's own layouts, written by hand."""

import pytest

from braidmq.benchmarks.drivers.mqtt_packets import (
    Malformed,
    connect_packet,
    next_packet,
    parse_publish,
    publish_packet,
    receive_maximum,
    refusal,
    subscribe_packet,
    variable_integer,
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (268_435_455, "ffffff7f")],
)
def test_lengths(value, encoded):
    assert variable_integer(value).hex() == encoded


def test_connect():
    assert connect_packet(4, "ab") == b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab"
    five = connect_packet(5, "ab", clean=False)
    assert five == b"\x10\x17\0\x04MQTT\x05\x00\0\0\x08\x21\xff\xff\x11\xff\xff\xff\xff\0\x02ab"
    known = connect_packet(4, "ab", login=("me", "secret"))
    assert known == b"\x10\x1a\0\x04MQTT\x04\xc2\0\0\0\x02ab\0\x02me\0\x06secret"
    assert b"\x03\x21\0\x0a\0\x02ab" in connect_packet(5, "ab", receive_maximum=10)


def test_subscribe():
    assert subscribe_packet(4, 1, ["a", "b"], 1) == b"\x82\x0a\0\x01\0\x01a\x01\0\x01b\x01"
    assert subscribe_packet(5, 1, ["a"], 0) == b"\x82\x07\0\x01\0\0\x01a\0"


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_publish_there_and_back(version, qos):
    packet = publish_packet(version, qos, "a/b", 258, b"x" * 300)
    view = memoryview(packet)
    framed = next_packet(view, 0)
    assert framed is not None
    first, begin, end = framed
    assert end == len(packet)
    found = parse_publish(version, first, view[begin:])
    assert (found.topic, found.qos, found.payload) == (b"a/b", qos, b"x" * 300)
    assert found.packet_id == (258 if qos else 0)
    assert (b"bench" in found.head) == (version == 5)
    if qos:
        assert found.head[found.packet_id_at :][:2] == b"\x01\x02"


def test_what_a_connack_grants():
    properties = b"\x27\0\0\x04\0\x12\0\x02id\x26\0\x01a\0\x02bc\x2a\x01\x21\x01\x02"
    connack = memoryview(b"\0\0" + bytes([len(properties)]) + properties)
    assert receive_maximum(connack) == 258
    assert receive_maximum(memoryview(b"\0\0\0")) == 65_535
    with pytest.raises(Malformed):
        receive_maximum(memoryview(b"\0\0"))


def test_a_packet_may_come_in_pieces():
    packet = publish_packet(4, 0, "a", 0, b"x" * 200)
    for size in range(len(packet)):
        assert next_packet(memoryview(packet)[:size], 0) is None


def test_nonsense_is_malformed():
    with pytest.raises(Malformed):
        next_packet(memoryview(b"\x30\xff\xff\xff\xff\x01"), 0)
    with pytest.raises(Malformed):
        parse_publish(4, 0x40, memoryview(b"\0\x01a"))
    with pytest.raises(Malformed):
        parse_publish(5, 0x30, memoryview(b"\0\x01a"))


@pytest.mark.parametrize(
    ("version", "packet", "why"),
    [
        (4, b"\x20\x02\0\0", ""),
        (4, b"\x20\x02\0\x05", "CONNACK with 5"),
        (5, b"\x90\x04\0\x01\0\x01", ""),
        (4, b"\x90\x04\0\x01\x01\x80", "SUBACK with 128 for 1 filters"),
        (5, b"\x40\x03\0\x01\x10", ""),
        (5, b"\x40\x03\0\x01\x97", "PUBACK with 151"),
        (5, b"\xe0\x01\x8e", "DISCONNECT with 142"),
        (5, b"\xe0\x08\x8e\x06\x1f\0\x03why", "DISCONNECT with 142: why"),
        (5, b"\x20\x09\0\x87\x06\x1f\0\x03why", "CONNACK with 135: why"),
        (5, b"\x90\x0a\0\x01\x06\x1f\0\x03why\x87", "SUBACK with 135 for 1 filters: why"),
        (5, b"\x50\x0a\0\x01\x97\x06\x1f\0\x03why", "PUBREC with 151: why"),
        (5, b"\x70\x02\0\x01", ""),
        (4, b"\xd0\x00", "a packet that nobody expected: 0xd0"),
    ],
)
def test_answers_that_mean_no(version, packet, why):
    assert refusal(version, packet[0], memoryview(packet)[2:]) == why

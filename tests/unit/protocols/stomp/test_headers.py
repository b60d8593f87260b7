"""STOMP headers: nothing of an application is lost, nothing of the broker's is forged."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import message as m
from braidmq.broker.schedule import Timing
from braidmq.protocols.mqtt import headers as mqtt
from braidmq.protocols.mqtt import publish as packets
from braidmq.protocols.mqtt.primitives import is_text
from braidmq.protocols.stomp import headers as hd
from braidmq.protocols.stomp.destinations import TempQueue
from braidmq.protocols.stomp.dialects import ACTIVEMQ, RABBITMQ, Refused
from braidmq.protocols.stomp.frames import FrameBuffer, Version, encode

BOTH = pytest.mark.parametrize("dialect", [ACTIVEMQ, RABBITMQ], ids=lambda each: each.name)
NOW = 1_000_000


def no_temporary(target):
    raise AssertionError(f"{target} is no temporary one")


def sending(headers, dialect=ACTIVEMQ, temporary=no_temporary):
    headers = {"destination": "/queue/a", "content-length": "1"} | headers
    return hd.HeaderTable(dialect).sending(headers, NOW, temporary)


def stored(headers, dialect=ACTIVEMQ):
    return sending(headers, dialect).headers


def head(headers, dialect=ACTIVEMQ):
    return hd.HeaderTable(dialect).head(m.pack_headers(headers, m.OWN_HEADERS))


def shown(headers, dialect=ACTIVEMQ):
    return dict(head(headers, dialect).pairs)


def of_delivery(headers, dialect=ACTIVEMQ, **changes):
    table = hd.HeaderTable(dialect)
    delivery: dict[str, Any] = {
        **dict(destination="/queue/a", message_id="ID:1", subscription="s", receives=1),
        **dict(priority=4, time_ms=NOW, expire_ms=0, now_ms=NOW),
    }
    packed = m.pack_headers(headers, m.OWN_HEADERS)
    return dict(table.of_delivery(table.head(packed), **delivery | changes))


# --- in: what a SEND says ---


@BOTH
def test_headers_of_the_application_are_stored_as_they_are(dialect) -> None:
    headers: m.Headers = {
        "content-type": "text/plain",
        "correlation-id": "7",
        "dedup-id": "d",
        "partition-key": "k",
        "traceparent": "00-1",
        "type": "t",
        "timestamp": "5",
        "tenant": "é:\n",
        "empty": "",
    }
    assert stored(headers, dialect) == headers
    assert sending(headers, dialect) == hd.Sending(headers)


@BOTH
def test_nobody_passes_for_the_frame_or_the_broker(dialect) -> None:
    forged = dict.fromkeys(hd.NOT_SENT - {"content-length", *dialect.refused_on_send}, "x")
    forged |= dict.fromkeys(dialect.dead_letter_headers.values(), "x")
    forged |= {dialect.receives_header: "9"}
    forged |= {name: "x" for name in (dialect.retained_header, dialect.origin_header) if name}
    assert stored(forged, dialect) == {}


def test_every_name_the_broker_sets_is_one_of_these() -> None:
    names = ("DEAD_LETTER", "MQTT_", "REPLAYED", "TOPIC")
    taken = {getattr(m, name) for name in m.__all__ if name.startswith(names)}
    assert len(taken) == 10 and taken <= hd.NOT_SENT


def test_a_message_id_is_the_brokers() -> None:
    assert stored({"message-id": "x"}) == {}
    with pytest.raises(Refused) as refused:
        stored({"message-id": "x"}, RABBITMQ)
    assert refused.value.message == "Invalid header"
    assert refused.value.detail == "'message-id': it is not allowed on 'SEND'\n"


def test_groups() -> None:
    assert stored({"JMSXGroupID": "g", "JMSXGroupSeq": "-1"}) == {
        "group-id": "g",
        "group-sequence": "-1",
    }
    assert stored({"JMSXGroupID": "g", "group-id": "h"}) == {"group-id": "g"}


@BOTH
@pytest.mark.parametrize(
    ("written", "priority"), [("0", 0), ("7", 7), ("9", 9), ("10", 9), ("255", 9), ("-3", 0)]
)
def test_a_priority_is_a_field_and_a_header(written, priority, dialect) -> None:
    found = sending({"priority": written}, dialect)
    assert found.priority == priority
    assert found.headers == {"priority": str(priority)}


@pytest.mark.parametrize("name", ["priority", "expires", "AMQ_SCHEDULED_DELAY"])
@pytest.mark.parametrize("written", ["", "x", "1.5", "-", "--1", "1" * 19, "٣"])
def test_a_number_is_one(name, written) -> None:
    with pytest.raises(Refused, match=name):
        sending({name: written})


def test_only_true_is_persistent_and_retains() -> None:
    assert stored({"persistent": "true"}) == {"persistent": "true"}
    assert stored({"persistent": "false"}) == {}
    assert sending({"ActiveMQ.Retain": "true"}) == hd.Sending({}, retain=True)
    assert sending({"ActiveMQ.Retain": "false"}) == hd.Sending({})
    assert stored({"ActiveMQ.Retain": "true"}, RABBITMQ) == {"ActiveMQ.Retain": "true"}


@pytest.mark.parametrize(
    ("written", "ttl_ms"),
    [("0", 0), (str(NOW + 5_000), 5_000), (str(NOW), 1), ("1", 1)],
)
def test_activemq_expires_at_a_time(written, ttl_ms) -> None:
    assert sending({"expires": written}) == hd.Sending({}, ttl_ms=ttl_ms)
    assert stored({"expires": written}, RABBITMQ) == {"expires": written}


@pytest.mark.parametrize(("written", "ttl_ms"), [("5000", 5_000), ("0", 1)])
def test_rabbitmq_expires_after_a_time(written, ttl_ms) -> None:
    assert sending({"expiration": written}, RABBITMQ) == hd.Sending({}, ttl_ms=ttl_ms)
    assert stored({"expiration": written}) == {"expiration": written}


def test_delays_and_schedules() -> None:
    assert sending({"AMQ_SCHEDULED_DELAY": "5"}) == hd.Sending({}, delay_ms=5)
    assert sending({"x-delay": "5"}, RABBITMQ) == hd.Sending({}, delay_ms=5)
    found = sending(
        {
            "AMQ_SCHEDULED_DELAY": "5",
            "AMQ_SCHEDULED_PERIOD": "6",
            "AMQ_SCHEDULED_REPEAT": "7",
            "AMQ_SCHEDULED_CRON": "0 * * * *",
        }
    )
    assert found == hd.Sending({}, delay_ms=5, timing=Timing(0, 6, 7, "0 * * * *"))
    assert sending({"AMQ_SCHEDULED_CRON": "* * * * *"}).timing == Timing(cron="* * * * *")
    for_ever = {"AMQ_SCHEDULED_PERIOD": "6", "AMQ_SCHEDULED_REPEAT": "-1"}
    assert sending(for_ever).timing == Timing(0, 6, -1)
    for name in ("AMQ_SCHEDULED_REPEAT", "AMQ_SCHEDULED_PERIOD"):
        with pytest.raises(Refused, match=name):
            sending({name: "-2"})


def test_headers_that_declare_a_queue_are_not_the_messages() -> None:
    declaring = dict.fromkeys(RABBITMQ.queue_headers, "5")
    assert stored(declaring, RABBITMQ) == {}
    assert stored(declaring) == declaring


def test_a_body_without_length_is_text_to_activemq() -> None:
    table = hd.HeaderTable(ACTIVEMQ)
    assert table.sending({}, NOW, no_temporary).headers == {"amq-msg-type": "text"}
    typed = table.sending({"amq-msg-type": "bytes"}, NOW, no_temporary).headers
    assert typed == {"amq-msg-type": "bytes"}
    assert hd.HeaderTable(RABBITMQ).sending({}, NOW, no_temporary).headers == {}
    assert head({"amq-msg-type": "text"}).text
    assert not head({"amq-msg-type": "bytes"}).text
    assert not head({}).text
    assert not head({"amq-msg-type": "text"}, RABBITMQ).text


# --- replies ---


@BOTH
@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("/queue/answers", "$queue/answers"),
        ("/topic/a.b", "a/b"),
        ("/stream/s", "$stream/s"),
    ],
)
def test_a_reply_goes_to_an_address(written, address, dialect) -> None:
    assert stored({"reply-to": written}, dialect) == {"reply-to": address}
    assert shown({"reply-to": address}, dialect) == {"reply-to": written}


@BOTH
def test_a_temporary_queue_gets_a_name_that_others_know(dialect) -> None:
    found = sending({"reply-to": "/temp-queue/q"}, dialect, lambda t: f"$queue/temp-queue.{t.name}")
    assert found.headers == {"reply-to": "$queue/temp-queue.q"}
    named = sending({"reply-to": "/temp-queue/q"}, dialect, repr).headers["reply-to"]
    assert named == repr(TempQueue("q"))
    prefix = dialect.reply_queue_prefix
    assert shown(found.headers, dialect) == {"reply-to": f"{prefix}q"}
    assert stored({"reply-to": f"{prefix}q"}, dialect) == found.headers


@BOTH
@pytest.mark.parametrize("written", ["somewhere", "/topic/#", "/queue/", "/dsub/x"])
def test_a_reply_to_that_is_no_destination_comes_as_it_was(written, dialect) -> None:
    assert stored({"reply-to": written}, dialect) == {"stomp-reply-to": written}
    assert shown({"stomp-reply-to": written}, dialect) == {"reply-to": written}


def test_a_reply_to_that_says_nothing() -> None:
    assert stored({"reply-to": ""}) == {}
    assert shown({"reply-to": ""}) == {}
    assert shown({"reply-to": b"\xff"}) == {}
    assert shown({"reply-to": b"a/b"}) == {"reply-to": "/topic/a.b"}


# --- out: what a MESSAGE says ---


def test_what_differs_from_one_delivery_to_the_next() -> None:
    assert of_delivery({}) == {
        "destination": "/queue/a",
        "message-id": "ID:1",
        "subscription": "s",
        "priority": "4",
        "timestamp": str(NOW),
        "expires": "0",
    }
    assert of_delivery({}, RABBITMQ) == {
        "destination": "/queue/a",
        "message-id": "ID:1",
        "subscription": "s",
        "redelivered": "false",
    }
    assert "subscription" not in of_delivery({}, subscription="")


def test_deliveries_are_counted() -> None:
    for receives in (0, 1):
        assert "redelivered" not in of_delivery({}, receives=receives)
        assert of_delivery({}, RABBITMQ, receives=receives)["redelivered"] == "false"
    again = of_delivery({}, receives=3)
    assert (again["redelivered"], again["JMSXDeliveryCount"]) == ("true", "3")
    again = of_delivery({}, RABBITMQ, receives=3)
    assert (again["redelivered"], again["x-delivery-count"]) == ("true", "2")


def test_priority_time_and_expiry() -> None:
    assert of_delivery({}, priority=7)["priority"] == "7"
    assert of_delivery({"priority": "2"}, priority=7)["priority"] == "2"
    assert of_delivery({"priority": "high"}, priority=7)["priority"] == "7"
    assert of_delivery({}, RABBITMQ, priority=7)["priority"] == "7"
    assert of_delivery({"priority": "4"}, RABBITMQ)["priority"] == "4"
    assert of_delivery({"timestamp": "5"})["timestamp"] == "5"
    assert of_delivery({"timestamp": "5"}, RABBITMQ)["timestamp"] == "5"
    assert of_delivery({}, expire_ms=NOW + 9)["expires"] == str(NOW + 9)
    assert of_delivery({}, RABBITMQ, expire_ms=NOW + 9)["expiration"] == "9"
    assert of_delivery({}, RABBITMQ, expire_ms=NOW - 9)["expiration"] == "0"


@BOTH
def test_what_is_stored_cannot_pass_for_the_delivery(dialect) -> None:
    """An MQTT client can call its user properties what it likes."""
    said = set(of_delivery({}, dialect, receives=2, expire_ms=NOW + 1, priority=7))
    forged = dict.fromkeys([*said, "ack", "content-length", "receipt-id", "transaction"], "x")
    if dialect.origin_header:
        forged[dialect.origin_header] = "x"
    if dialect.retained_header:
        forged[dialect.retained_header] = "x"
    rest = shown(forged, dialect)
    assert rest == {}


def test_topic_and_quality_are_no_headers_of_a_message() -> None:
    found = head({"topic": "a/b", "mqtt-qos": "2", "mqtt-retain": "1", "x": "y"})
    assert found.topic == "a/b" and not found.retained
    assert found.pairs == (("x", "y"),)
    assert head({"topic": b"a"}).topic == ""


def test_what_is_retained() -> None:
    assert head({"mqtt-retain": "always"}).retained
    assert shown({"mqtt-retain": "always"}) == {"ActiveMQ.Retained": "true"}
    assert shown({"mqtt-retain": "always"}, RABBITMQ) == {}
    assert shown({"mqtt-retain": "1"}) == {}


def test_a_group_has_both_names() -> None:
    assert shown({"group-id": "g"}) == {"group-id": "g", "JMSXGroupID": "g"}


def test_a_dead_letter_tells_where_it_was() -> None:
    headers = {
        "dead-letter-queue": "orders",
        "dead-letter-reason": "max-receives",
        "dead-letter-receives": "7",
        "dead-letter-time": "5",
    }
    found = head(headers)
    assert dict(found.pairs) == {**headers, "dlqDeliveryFailureCause": "max-receives"}
    assert dict(found.in_queue)["original-destination"] == "/queue/orders"
    found = head(headers, RABBITMQ)
    assert found.in_queue == found.pairs
    assert dict(found.pairs) == {
        **headers,
        "x-first-death-queue": "orders",
        "x-first-death-reason": "max-receives",
    }


def test_a_message_that_came_by_a_topic_tells_so_in_a_queue() -> None:
    found = head({"topic": "VirtualTopic/Orders", "x": "y"})
    assert found.pairs == (("x", "y"),)
    assert found.in_queue == (("x", "y"), ("original-destination", "/topic/VirtualTopic.Orders"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"text", "text"),
        (b"\xff\x00", "base64:/wA="),
        (b"a\0", "base64:YQA="),
        ("a\0", "base64:YQA="),
        ("base64:", "base64:"),
        ("base64:YQ==", "base64:YQ=="),
        ("base64:YQ", "base64:YQ"),
        ("base64:é", "base64:é"),
    ],
)
def test_values_that_are_no_text(value, text) -> None:
    assert shown({"x": value}) == {"x": text}
    back = stored({"x": text})["x"]
    assert (back if isinstance(back, bytes) else back.encode()) == (
        value if isinstance(value, bytes) else value.encode()
    )


def test_names_that_no_frame_can_hold_are_left_out() -> None:
    assert shown({"a\0b": "x", "c": "d"}) == {"c": "d"}


# --- fields of a queue ---


def test_a_fifo_queue_has_groups_and_no_priorities() -> None:
    found = sending({"JMSXGroupID": "g", "dedup-id": "d", "priority": "7", "expires": "1"})
    assert found.outgoing(b"b", b"h", fifo=True) == m.Outgoing(
        b"b", b"h", ttl_ms=1, group="g", dedup_id="d"
    )
    assert found.outgoing(b"b", b"h", fifo=False) == m.Outgoing(b"b", b"h", ttl_ms=1, priority=7)
    binary = sending({"group-id": "base64:/w==", "dedup-id": "base64:/w=="})
    assert binary.outgoing(b"b", b"", fifo=True) == m.Outgoing(b"b")


# --- heads are remembered ---


def test_a_head_is_made_once() -> None:
    table = hd.HeaderTable(ACTIVEMQ)
    packed = m.pack_headers({"a": "b"}, m.OWN_HEADERS)
    assert table.head(packed) is table.head(bytes(bytearray(packed)))
    assert table.head(b"").pairs == ()


def test_heads_are_bounded() -> None:
    table = hd.HeaderTable(ACTIVEMQ)
    for at in range(hd.HEADS_CACHED_MAX):
        table.head(m.pack_headers({"a": str(at)}, m.OWN_HEADERS))
    assert len(table._heads) == hd.HEADS_CACHED_MAX
    table.head(m.pack_headers({"a": "one more"}, m.OWN_HEADERS))
    assert len(table._heads) == 1
    long = m.pack_headers({"a": "x" * hd.HEAD_CACHED_BYTES_MAX}, m.OWN_HEADERS)
    assert table.head(long) is not table.head(long)
    assert len(table._heads) == 1


# --- there and back ---

SPECIAL = [*hd.NOT_SENT, "content-type", "correlation-id", "group-id", "type", "base64:"]
SPECIAL += ["payload-format", "mqtt-user-properties", "traceparent", "timestamp", "x-delay"]
NAMES = st.sampled_from(SPECIAL) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TEXT |= st.binary(max_size=4).map(lambda data: hd._in_text(b"\xff" + data))
DIALECT = st.sampled_from([ACTIVEMQ, RABBITMQ])


def meant(dialect):
    """Names that mean something to a dialect, in a SEND or a MESSAGE."""
    names = {*hd.NOT_SENT, "reply-to", "priority", "persistent", "JMSXGroupID", "JMSXGroupSeq"}
    fields = msgspec.structs.asdict(dialect)
    names |= {value for field, value in fields.items() if field.endswith("_header")}
    return names | {*dialect.queue_headers, *dialect.dead_letter_headers.values()}


def through(headers, dialect, version=Version.V12):
    """What a client has that sends a MESSAGE's headers on, by the bytes of frames."""
    found = head(headers, dialect)
    said = {"timestamp": found.timestamp, "priority": found.priority}
    pairs = [*found.pairs, *((name, value) for name, value in said.items() if value)]
    buffer = FrameBuffer(10**6, 1_000, 10**6)
    buffer.version = version
    buffer.feed(encode("SEND", [("destination", "/queue/a"), *pairs], b"x", version))
    frame = buffer.next_frame()
    assert frame is not None
    return hd.HeaderTable(dialect).sending(frame.headers, NOW, no_temporary).headers


@given(st.dictionaries(NAMES.filter(bool), TEXT, max_size=6), DIALECT)
def test_every_header_of_an_application_comes_through(headers, dialect) -> None:
    """SEND -> stored -> MESSAGE."""
    plain = {name: value for name, value in headers.items() if name not in meant(dialect)}
    kept = stored(plain, dialect)
    found = head(kept, dialect)
    timestamp = {"timestamp": found.timestamp} if found.timestamp else {}
    expected = {
        name: value
        for name, value in plain.items()
        if "\0" not in name and (name != "timestamp" or value)
    }
    got = dict(found.pairs) | timestamp
    for theirs in ("JMSXGroupID", "JMSXGroupSeq"):
        got.pop(theirs, None)
    assert got == {
        name: hd._in_text(value) if "\0" in value else value for name, value in expected.items()
    }


NATIVE = st.dictionaries(
    NAMES.filter(bool),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.binary(max_size=6),
    max_size=6,
)


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


@given(NATIVE, DIALECT)
def test_native_headers_come_back_from_stomp(headers, dialect) -> None:
    """Native -> STOMP -> native: all that a dialect gives no meaning, bytes for bytes."""
    kept = {
        name: value
        for name, value in headers.items()
        if name not in meant(dialect) and "\0" not in name and (name != "timestamp" or value)
    }
    # A text that spells bytes is these bytes, as docs/stomp.md says.
    kept = {
        name: value for name, value in kept.items() if not as_bytes(value).startswith(b"base64:")
    }
    back = through(kept, dialect)
    assert {name: as_bytes(value) for name, value in back.items()} == {
        name: as_bytes(value) for name, value in kept.items()
    }


USER = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
MQTT = st.fixed_dictionaries(
    {"user": st.lists(st.tuples(NAMES.filter(is_text), USER), max_size=5)},
    optional={
        "payload_format": st.integers(0, 1),
        "content_type": USER,
        "response_topic": st.sampled_from(["r", "a/b", "/x.y/*", "$queue/q", "100%", "a,b"]),
        "correlation_data": st.binary(max_size=6),
    },
)


@given(MQTT, DIALECT, st.sampled_from([Version.V11, Version.V12]))
def test_mqtt_properties_come_back_from_stomp(fields, dialect, version) -> None:
    """MQTT 5 -> STOMP -> MQTT 5: all properties, but user properties that mean something here."""
    meaning = meant(dialect)
    fields["user"] = [pair for pair in fields["user"] if pair[0] not in meaning]
    fields["user"] = [pair for pair in fields["user"] if not pair[1].startswith("base64:")]
    if "\r" in str(fields) or "\\r" in repr(fields):
        version = Version.V12  # the only one that can carry it
    content = packets.encode_message_properties(**fields)
    properties = packets.scan_publish_properties(content, 0, len(content), 100)
    headers = mqtt.headers_from(properties)
    back = mqtt.properties_from(through(headers, dialect, version))
    found = packets.scan_publish_properties(back, 0, len(back), 100)
    for name in ("payload_format", "content_type", "response_topic", "correlation_data"):
        assert getattr(found, name) == getattr(properties, name), name
    expected = [pair for pair in properties.user if pair != ("timestamp", "")]
    if mqtt.MQTT_USER_PROPERTIES in headers:
        expected = list(properties.user)
    assert sorted(found.user) == sorted(expected)


@given(st.dictionaries(NAMES, TEXT, max_size=6), DIALECT)
def test_whatever_is_sent_can_be_stored_or_is_refused(headers, dialect) -> None:
    try:
        found = sending(headers, dialect, lambda target: "$queue/x")
    except Refused:
        return
    kept = found.headers
    if "" not in kept:
        assert m.unpack_headers(m.pack_headers(kept, m.OWN_HEADERS)) == kept

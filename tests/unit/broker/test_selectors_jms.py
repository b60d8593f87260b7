"""Selectors by the names of JMS: which are headers, which are fields, and none can be forged."""

import pytest

from braidmq.broker.selectors import MessageFields, Selector

JMS: dict[str, str | bytes] = {"correlation-id": "c", "type": "t", "reply-to": "$queue/r"}
FIELDS = MessageFields("00ff", 7, 1_000)


@pytest.mark.parametrize(
    "text",
    [
        "JMSCorrelationID = 'c' AND JMSType IN ('t', 'u') AND JMSReplyTo LIKE '$queue/%'",
        "\"JMSType\" = 't'",
        "JMSPriority = 7 AND JMSPriority > 6",
        "JMSTimestamp BETWEEN 999 AND 1000",
        "JMSMessageID = 'ID:00ff'",
        "JMSDeliveryMode = 'NON_PERSISTENT'",
        "JMSDeliveryMode IN ('NON_PERSISTENT')",
    ],
)
def test_names_of_jms(text: str) -> None:
    forged = {**JMS, "JMSType": "x", "JMSPriority": "0", "JMSMessageID": "x"}
    assert Selector.parse(text).matches(JMS, FIELDS)
    assert Selector.parse(text).matches(forged, FIELDS)
    assert Selector.parse(f"NOT ({text})").matches(JMS, FIELDS) is False


def test_what_the_sender_wrote_comes_before_the_fields() -> None:
    headers = {"priority": "2", "timestamp": "5", "persistent": "true"}
    text = "JMSPriority = 2 AND JMSTimestamp = 5 AND JMSDeliveryMode = 'PERSISTENT'"
    assert Selector.parse(text).matches(headers, FIELDS)
    assert Selector.parse(text).matches(headers)


def test_without_fields_a_message_has_the_default_priority_and_no_id() -> None:
    assert Selector.parse("JMSPriority = 4 AND JMSDeliveryMode = 'NON_PERSISTENT'").matches({})
    assert Selector.parse("JMSMessageID IS NULL AND JMSTimestamp IS NULL").matches(
        {"JMSMessageID": "x", "JMSTimestamp": "5"}
    )


def test_an_index_finds_headers_of_jms_and_no_fields() -> None:
    found = Selector.parse("JMSType = 't'").index_keys()
    assert found == Selector.parse("type = 't'").index_keys() and found is not None
    assert Selector.parse("JMSType = 't'").names == {"type"}
    for text in ("JMSDeliveryMode = 'PERSISTENT'", "JMSMessageID IN ('a', 'b')"):
        assert Selector.parse(text).index_keys() is None
        assert Selector.parse(text).asks_fields
    assert not Selector.parse("JMSType = 't'").asks_fields

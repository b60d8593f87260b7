"""The envelope has SNS's fields, whatever the message is."""

import json
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.envelope import envelope, envelope_attributes, message_name
from braidmq.broker.message import unpack_headers

TEXTS = st.text(max_size=5)
NAME = "4f9b6c5e-0000-4000-8000-000000000000"


def fields_of(headers=None, body=b"hello", **more) -> dict[str, object]:
    headers = {"topic": "t", **(headers or {})}
    fields: dict[str, object] = json.loads(
        envelope("orders", headers, body, NAME, 1_700_000_000_123, **more)
    )
    return fields


def test_a_message_without_anything():
    assert fields_of() == {
        "Type": "Notification",
        "MessageId": NAME,
        "TopicArn": "orders",
        "Message": "hello",
        "Timestamp": "2023-11-14T22:13:20.123Z",
    }


def test_headers_become_attributes():
    headers = {"tenant": "a", "key": b"\xff", "mqtt-qos": "2"}
    assert fields_of(headers, subject="News")["MessageAttributes"] == {
        "tenant": {"Type": "String", "Value": "a"},
        "key": {"Type": "Binary", "Value": "/w=="},
    }
    assert fields_of(subject="News")["Subject"] == "News"


def test_a_body_that_is_no_text_is_in_base64():
    fields = fields_of(body=b"\xff\x00")
    assert (fields["Message"], fields["MessageEncoding"]) == ("/wA=", "base64")


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.binary(max_size=5)), max_size=5), st.binary())
def test_every_message_fits(headers, body):
    fields = fields_of(headers, body)
    assert list(fields)[:3] == ["Type", "MessageId", "TopicArn"] and "Message" in fields


def test_what_stays_outside():
    headers = {"topic": "t", "group-id": "g", "tenant": "a", "content-type": "text/plain"}
    assert unpack_headers(envelope_attributes(headers)) == {
        "topic": "t",
        "group-id": "g",
        "content-type": "application/json",
    }


def test_names_are_uuids_of_the_place_in_the_log():
    names = {message_name(instance, place) for instance in (0, 2**63 - 1) for place in (1, 2)}
    assert len(names) == 4 and all(UUID(name).version == 4 for name in names)
    assert message_name(7, 1) == message_name(7, 1)

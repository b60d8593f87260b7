"""What is posted says what receivers of SNS and of Standard Webhooks look for."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery, Headers, pack_headers
from braidmq.broker.signing import EnvelopeSigner, string_to_sign, verify_body
from braidmq.broker.webhook import Webhook, WebhookSettings
from braidmq.protocols.webhooks.confirming import CONFIRM_PATH
from braidmq.protocols.webhooks.request import (
    Post,
    Unsigned,
    confirmation,
    notification,
)

NOW = 1_700_000_000_123
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
INSTANCE = 7


class Signer(EnvelopeSigner):
    """Signs without a key."""

    def __init__(self) -> None:
        pass

    def sign(self, envelope, version):
        envelope["SignatureVersion"] = version
        envelope["Signature"] = base64.b64encode(string_to_sign(envelope)).decode()


def webhook(**changes: object) -> Webhook:
    settings = WebhookSettings(url="https://a.example/", **changes)  # type: ignore[arg-type]
    return Webhook(settings=settings).asked("the token", NOW)


def post(
    hook: Webhook, body: bytes = b"hello", headers: Headers | None = None, signer=None, id: int = 5
) -> Post:
    attributes = pack_headers(headers or {}, Limits())
    delivery = Delivery(1, 2, 1, id, NOW - 1_000, attributes, body)
    return notification("hook", hook, delivery, INSTANCE, signer, NOW)


def test_a_raw_body_is_posted_as_it_is():
    made = post(webhook(raw=True), b"\xff\x00", {"content-type": "image/png", "topic": "a/b"})
    assert made.body == b"\xff\x00"
    assert made.headers["Content-Type"] == "image/png"
    assert made.headers["x-amz-sns-rawdelivery"] == "true"
    assert made.headers["x-amz-sns-message-type"] == "Notification"
    assert made.headers["x-amz-sns-topic-arn"] == "a/b"
    assert made.headers["x-amz-sns-subscription-arn"] == "hook"


@pytest.mark.parametrize("odd", ["", "a\r\nHost: x", "é", " x", "x" * 2_000, b"image/png"])
def test_a_content_type_that_cannot_be_one_is_not_taken(odd):
    made = post(webhook(raw=True), headers={"content-type": odd} if odd else {})
    assert made.headers["Content-Type"] == "application/octet-stream"


def test_the_webhook_s_own_content_type_wins():
    for raw in (True, False):
        hook = webhook(raw=raw, content_type="application/json")
        made = post(hook, headers={"content-type": "image/png"})
        assert made.headers["Content-Type"] == "application/json"


def test_an_envelope_has_what_sns_has():
    made = post(webhook(), headers={"topic": "a/b", "colour": "blue", "traceparent": "00-1"})
    assert made.headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert "x-amz-sns-rawdelivery" not in made.headers
    content = json.loads(made.body)
    assert content["Type"] == "Notification" and content["Message"] == "hello"
    assert content["TopicArn"] == "a/b" and content["MessageId"] == made.headers["webhook-id"]
    assert content["Timestamp"] == "2023-11-14T22:13:19.123Z"
    assert content["MessageAttributes"]["colour"] == {"Type": "String", "Value": "blue"}
    assert made.headers["traceparent"] == "00-1"
    assert "Signature" not in content


def test_a_topic_that_is_no_header_is_quoted():
    made = post(webhook(), headers={"topic": "küche/a b\r\nX: y"})
    assert made.headers["x-amz-sns-topic-arn"] == "k%C3%BCche/a%20b%0D%0AX:%20y"


def test_own_headers_are_sent():
    made = post(webhook(headers={"Authorization": "Bearer x"}))
    assert made.headers["Authorization"] == "Bearer x"


def test_every_header_can_be_sent():
    made = post(webhook(secrets=(SECRET,)), headers={"topic": "ü", "tracestate": "ü\n"})
    for name, value in made.headers.items():
        assert name.isascii() and value.isascii() and value.isprintable()


def test_the_id_is_the_same_each_time_and_different_for_each_message():
    first, again, other = post(webhook()), post(webhook()), post(webhook(), id=6)
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.headers["webhook-id"] != other.headers["webhook-id"]


@pytest.mark.parametrize("raw", [True, False])
def test_what_is_posted_can_be_verified(raw):
    made = post(webhook(raw=raw, secrets=(SECRET,)))
    headers = {name.lower(): value for name, value in made.headers.items()}
    assert verify_body(headers, made.body, [SECRET], NOW) == headers["webhook-id"]


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_envelope_is_signed_when_it_should_be(version):
    made = post(webhook(signature_version=version), headers={"topic": "t"}, signer=Signer())
    content = json.loads(made.body)
    assert content["SignatureVersion"] == version
    assert base64.b64decode(content["Signature"]) == string_to_sign(content)


def test_without_a_key_nothing_is_posted_that_should_be_signed():
    hook = webhook(signature_version="2")
    with pytest.raises(Unsigned):
        post(hook)
    with pytest.raises(Unsigned):
        confirmation("hook", hook, INSTANCE, "", None, NOW)


def test_a_confirmation_has_what_sns_has():
    hook = webhook(secrets=(SECRET,), signature_version="2", raw=False)
    made = confirmation("a hook/ü", hook, INSTANCE, "https://b.example/mq/", Signer(), NOW)
    assert made.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    assert made.headers["Content-Type"] == "text/plain; charset=UTF-8"
    content = json.loads(made.body)
    assert content["Type"] == "SubscriptionConfirmation" and content["Token"] == "the token"
    assert content["TopicArn"] == "a hook/ü" and content["Timestamp"] == "2023-11-14T22:13:20.123Z"
    assert base64.b64decode(content["Signature"]) == string_to_sign(content)
    url = urlsplit(content["SubscribeURL"])
    assert (url.scheme, url.netloc, url.path) == ("https", "b.example", "/mq" + CONFIRM_PATH)
    assert parse_qs(url.query) == {"name": ["a hook/ü"], "token": ["the token"]}
    headers = {name.lower(): value for name, value in made.headers.items()}
    assert verify_body(headers, made.body, [SECRET], NOW)


def test_without_a_public_url_there_is_no_url_to_subscribe():
    content = msgspec.json.decode(confirmation("h", webhook(), INSTANCE, "", None, NOW).body)
    assert "SubscribeURL" not in content and content["Token"] == "the token"

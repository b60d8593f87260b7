"""What is posted to a webhook: the headers and the body of one request, from a message.

Pure functions. A request says in headers what SNS says, so that receivers written for it find their
way, and carries ``webhook-id`` and, with a secret, a signature as Standard Webhooks has them
(``broker/signing.py``). The id is the same each time a message is posted: that is how a receiver
knows what it has had.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ...broker.envelope import envelope, message_name
from ...broker.message import CONTENT_TYPE, TOPIC, TRACEPARENT, TRACESTATE, Delivery, unpack_headers
from ...broker.signing import EnvelopeSigner, sign_body
from ...broker.webhook import Webhook
from .confirming import CONFIRM_PATH

__all__ = ["USER_AGENT", "Post", "Unsigned", "confirmation", "notification"]

USER_AGENT = "BraidMQ"
_ENVELOPE_CONTENT_TYPE = "text/plain; charset=UTF-8"  # as SNS says, although it is JSON
_RAW_CONTENT_TYPE = "application/octet-stream"
_PASSED_ON = (TRACEPARENT, TRACESTATE)
_HEADER_BYTES_MAX = 1_024


class Unsigned(Exception):
    """The webhook wants a signature, and this broker has no key to sign with."""


class Post(msgspec.Struct, frozen=True):
    """One request."""

    headers: dict[str, str]
    body: bytes


def notification(
    name: str,
    webhook: Webhook,
    delivery: Delivery,
    instance: int,
    signer: EnvelopeSigner | None,
    now_ms: int,
) -> Post:
    """What posts a message. Raises Unsigned."""
    settings = webhook.settings
    id = message_name(instance, delivery.id)
    headers = unpack_headers(delivery.attributes)
    topic = str(headers.get(TOPIC, ""))
    if settings.raw:
        body = delivery.body
        usual = _field(headers.get(CONTENT_TYPE, "")) or _RAW_CONTENT_TYPE
    else:
        body = envelope(topic, headers, delivery.body, id, delivery.time_ms)
        if settings.signature_version:
            body = _signed(msgspec.json.decode(body), settings.signature_version, signer)
        usual = _ENVELOPE_CONTENT_TYPE
    fields = _fields(name, webhook, "Notification", id, topic, settings.content_type or usual)
    if settings.raw:
        fields["x-amz-sns-rawdelivery"] = "true"
    for passed in _PASSED_ON:
        if value := _field(headers.get(passed, "")):
            fields[passed] = value
    return Post(fields | sign_body(id, body, settings.secrets, now_ms), body)


def confirmation(
    name: str,
    webhook: Webhook,
    instance: int,
    public_url: str,
    signer: EnvelopeSigner | None,
    now_ms: int,
) -> Post:
    """What asks whoever is there to confirm. Raises Unsigned.

    ``public_url`` is where this broker is reached over HTTP; empty, and there is no SubscribeURL:
    then the token has to be brought back by other ways.
    """
    settings = webhook.settings
    id = message_name(instance, webhook.token_expires_ms)
    content: dict[str, Any] = {
        "Type": "SubscriptionConfirmation",
        "MessageId": id,
        "Token": webhook.token,
        "TopicArn": name,
        "Message": f"This is to be the webhook {name} of a BraidMQ broker. If you agree, bring back"
        " the token; if not, do nothing.",
    }
    if public_url:
        query = urlencode({"name": name, "token": webhook.token})
        content["SubscribeURL"] = f"{public_url.rstrip('/')}{CONFIRM_PATH}?{query}"
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    content["Timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if settings.signature_version:
        body = _signed(content, settings.signature_version, signer)
    else:
        body = msgspec.json.encode(content)
    fields = _fields(name, webhook, "SubscriptionConfirmation", id, name, _ENVELOPE_CONTENT_TYPE)
    return Post(fields | sign_body(id, body, settings.secrets, now_ms), body)


def _signed(content: dict[str, Any], version: str, signer: EnvelopeSigner | None) -> bytes:
    if signer is None:
        raise Unsigned
    signer.sign(content, version)
    return msgspec.json.encode(content)


def _fields(
    name: str, webhook: Webhook, kind: str, id: str, topic: str, content_type: str
) -> dict[str, str]:
    return {
        **webhook.settings.headers,
        "User-Agent": USER_AGENT,
        "Content-Type": content_type,
        "x-amz-sns-message-type": kind,
        "x-amz-sns-message-id": id,
        "x-amz-sns-topic-arn": quote(topic, safe="/$:+#@!,;=*'()~&"),
        "x-amz-sns-subscription-arn": quote(name, safe="/:@~"),
    }


def _field(value: str | bytes) -> str:
    """A header of a message as one of HTTP; empty where it cannot be one."""
    text = value if isinstance(value, str) else ""
    plain = text.isascii() and text.isprintable() and text == text.strip()
    return text if plain and len(text) <= _HEADER_BYTES_MAX else ""

"""The JSON envelope of SNS around a published message, for targets that are not bound ``raw``.

The fields are those of SNS's notifications, without a signature: a reader that knows these finds
what it expects. ``TopicArn`` is the topic's name until the dialect of SNS says otherwise. SNS has
only texts; a body that is none is in base64, and ``MessageEncoding`` says so.

Source: the developer guide of SNS, "Parsing Amazon SNS message formats".
"""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from .message import (
    CONTENT_TYPE,
    DEDUP_ID,
    GROUP_ID,
    MQTT_QOS,
    MQTT_RETAIN,
    OWN_HEADERS,
    TOPIC,
    TRACEPARENT,
    TRACESTATE,
    HeaderMap,
    Headers,
    pack_headers,
)

__all__ = ["ENVELOPE_CONTENT_TYPE", "envelope", "envelope_attributes", "message_name"]

ENVELOPE_CONTENT_TYPE = "application/json"

# Headers that stay with the message; all that a publisher has set goes into the envelope.
_OUTSIDE = (TOPIC, GROUP_ID, DEDUP_ID, TRACEPARENT, TRACESTATE)
_NO_ATTRIBUTES = frozenset((TOPIC, MQTT_QOS, MQTT_RETAIN))


def message_name(instance: int, position: int) -> str:
    """The UUID of the message that was published when the log stood at ``position``."""
    place = instance.to_bytes(8, "little") + position.to_bytes(8, "little")
    digest = bytearray(blake2b(place, digest_size=16, person=b"message").digest())
    # RFC 9562: of version 4 by its form, for readers that look at it.
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def envelope(
    topic: str, headers: HeaderMap, body: bytes, name: str, time_ms: int, subject: str = ""
) -> bytes:
    """The envelope as JSON.

    Args:
        headers: of the message; all but the topic's become its attributes.
        name: the message's UUID.
        time_ms: when it was published, unix ms.
        subject: SNS's subject line; "" for none.
    """
    fields: dict[str, object] = {"Type": "Notification", "MessageId": name, "TopicArn": topic}
    if subject:
        fields["Subject"] = subject
    try:
        fields["Message"] = body.decode()
    except UnicodeDecodeError:
        fields["Message"] = b64encode(body).decode()
        fields["MessageEncoding"] = "base64"
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    fields["Timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    attributes = {
        key: (
            {"Type": "String", "Value": value}
            if isinstance(value, str)
            else {"Type": "Binary", "Value": b64encode(value).decode()}
        )
        for key, value in headers.items()
        if key not in _NO_ATTRIBUTES
    }
    if attributes:
        fields["MessageAttributes"] = attributes
    return msgspec.json.encode(fields)


def envelope_attributes(headers: HeaderMap) -> bytes:
    """The packed headers that a message in an envelope has itself."""
    outside: Headers = {name: headers[name] for name in _OUTSIDE if name in headers}
    outside[CONTENT_TYPE] = ENVELOPE_CONTENT_TYPE
    return pack_headers(outside, OWN_HEADERS)

"""The properties of an MQTT 5 message as headers of the broker, and back.

    content type            content-type
    response topic          reply-to
    correlation data        correlation-id: text when it is printable UTF-8, else bytes
    payload format          payload-format: "0" or "1"
    user properties         headers of the same names, in their order

User properties can do what headers cannot: a name may be there twice, or be empty, or be one that
the broker gives a meaning. Then `mqtt-user-properties` holds all of them as they stood in the
packet, beside the headers that could be made, and wins on the way out. Nobody can pass for the
broker, or change where a message goes, by a user property.

Headers of messages that did not come by MQTT go out as user properties when they are text that
MQTT can carry, and are left out when not.
"""

from collections.abc import Container, Iterable
from typing import Final

from ...broker.message import (
    CONTENT_TYPE,
    CORRELATION_ID,
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_RECEIVES,
    DEAD_LETTER_TIME,
    MQTT_QOS,
    MQTT_RETAIN,
    REPLY_TO,
    TOPIC,
    HeaderMap,
    Headers,
)
from .primitives import TEXT_BYTES_MAX, is_text
from .properties import encode_user
from .publish import (
    PublishProperties,
    encode_message_properties,
    is_topic,
    scan_publish_properties,
)
from .reasons import Malformed

__all__ = ["MQTT_USER_PROPERTIES", "PAYLOAD_FORMAT", "headers_from", "properties_from"]

PAYLOAD_FORMAT: Final = "payload-format"
MQTT_USER_PROPERTIES: Final = "mqtt-user-properties"

# Names that a user property cannot take, and that are not user properties on the way out.
_RESERVED: Final = frozenset(
    [
        *(CONTENT_TYPE, CORRELATION_ID, REPLY_TO, PAYLOAD_FORMAT, MQTT_USER_PROPERTIES),
        *(TOPIC, MQTT_QOS, MQTT_RETAIN),
        *(DEAD_LETTER_QUEUE, DEAD_LETTER_REASON, DEAD_LETTER_RECEIVES, DEAD_LETTER_TIME),
    ]
)


def headers_from(properties: PublishProperties) -> Headers:
    """The headers of a message with these properties. Its expiry is none of them."""
    headers: Headers = {}
    if properties.content_type is not None:
        headers[CONTENT_TYPE] = properties.content_type
    if properties.response_topic is not None:
        headers[REPLY_TO] = properties.response_topic
    if properties.correlation_data is not None:
        headers[CORRELATION_ID] = _printable(properties.correlation_data)
    if properties.payload_format is not None:
        headers[PAYLOAD_FORMAT] = str(properties.payload_format)
    lossless = True
    for name, value in properties.user:
        if not name or name in _RESERVED or name in headers:
            lossless = False
        else:
            headers[name] = value
    if not lossless:
        headers[MQTT_USER_PROPERTIES] = encode_user(properties.user)
    return headers


def properties_from(headers: HeaderMap, taken: Container[str] = ()) -> bytes:
    """The content of a PUBLISH's property block for a message with these headers.

    User properties with ``taken`` names are left out: the broker itself says something by them.
    """
    response_topic = _text(headers.get(REPLY_TO))
    payload_format = headers.get(PAYLOAD_FORMAT)
    correlation = headers.get(CORRELATION_ID)
    if isinstance(correlation, str):
        correlation = correlation.encode("utf-8", "replace")
    return encode_message_properties(
        payload_format=int(payload_format) if payload_format in ("0", "1") else None,
        content_type=_text(headers.get(CONTENT_TYPE)),
        response_topic=response_topic if response_topic and is_topic(response_topic) else None,
        correlation_data=correlation if len(correlation or b"") <= TEXT_BYTES_MAX else None,
        user=[pair for pair in _user_from(headers) if pair[0] not in taken],
    )


def _user_from(headers: HeaderMap) -> Iterable[tuple[str, str]]:
    raw = headers.get(MQTT_USER_PROPERTIES)
    if isinstance(raw, bytes):
        # Anyone can send such a header: what is no block of properties is no header of ours.
        try:
            return scan_publish_properties(raw, 0, len(raw), len(raw)).user
        except Malformed:
            pass
    pairs = []
    for name, value in headers.items():
        if name not in _RESERVED and is_text(name):
            readable = _text(value)
            if readable is not None:
                pairs.append((name, readable))
    return pairs


def _text(value: str | bytes | None) -> str | None:
    """The value as text that MQTT can carry, None when it is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value if value is not None and is_text(value) else None


def _printable(value: bytes) -> str | bytes:
    try:
        readable = value.decode()
    except UnicodeDecodeError:
        return value
    return readable if readable.isprintable() else value

"""The message as it goes in and comes out, and its headers.

One header map serves every dialect: text names, text or bytes values. What several dialects know
under different names has one standard name here:

    content-type, correlation-id, reply-to   as in MQTT 5, AMQP and STOMP
    group-id         message group of a FIFO queue, or of one with group affinity
    group-sequence   the message's place in its group, passed through; below 0 it is the last one
    dedup-id         deduplication id of a FIFO queue
    partition-key    which shard of a stream it goes to; without it the group says so, or the topic
    traceparent, tracestate                  W3C trace context, passed through
    topic            the topic it was published to
    mqtt-qos         "0" or "2", as it was published; without it a stored message has QoS 1
    mqtt-retain      "1" for what was published to be retained; "always" for what is delivered
                     because it was retained when somebody subscribed
    schedule-id      of what was sent by a schedule: its number
    dead-letter-queue, dead-letter-reason,   set by the broker on a dead letter: where it was,
    dead-letter-receives, dead-letter-time   why it left, after how many receives, when (unix ms)

Priority, delay and expiry are fields of the message, not headers.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import InvalidArgument, TooLarge
from .limits import Limits

__all__ = [
    "CONTENT_TYPE",
    "CORRELATION_ID",
    "DEAD_LETTER_QUEUE",
    "DEAD_LETTER_REASON",
    "DEAD_LETTER_RECEIVES",
    "DEAD_LETTER_TIME",
    "DEDUP_ID",
    "GROUP_ID",
    "GROUP_SEQUENCE",
    "OWN_HEADERS",
    "PARTITION_KEY",
    "PRIORITY_DEFAULT",
    "REPLAYED",
    "REPLAYED_FROM",
    "REPLAYED_TIME",
    "REPLY_TO",
    "SCHEDULE_ID",
    "TOPIC",
    "TRACEPARENT",
    "TRACESTATE",
    "Browsed",
    "Delivery",
    "HeaderMap",
    "Headers",
    "MQTT_QOS",
    "MQTT_RETAIN",
    "Outgoing",
    "Receipt",
    "Sent",
    "check_attributes",
    "is_text",
    "overlay",
    "pack_headers",
    "unpack_headers",
]

CONTENT_TYPE = "content-type"
CORRELATION_ID = "correlation-id"
REPLY_TO = "reply-to"
GROUP_ID = "group-id"
GROUP_SEQUENCE = "group-sequence"
DEDUP_ID = "dedup-id"
PARTITION_KEY = "partition-key"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TOPIC = "topic"
MQTT_QOS = "mqtt-qos"
MQTT_RETAIN = "mqtt-retain"
DEAD_LETTER_QUEUE = "dead-letter-queue"
DEAD_LETTER_REASON = "dead-letter-reason"
DEAD_LETTER_RECEIVES = "dead-letter-receives"
DEAD_LETTER_TIME = "dead-letter-time"
REPLAYED = "replayed"
REPLAYED_FROM = "replayed-from"
REPLAYED_TIME = "replayed-time"
SCHEDULE_ID = "schedule-id"

PRIORITY_DEFAULT = 4

Headers = dict[str, str | bytes]  # as they come out
HeaderMap = Mapping[str, str | bytes]  # as they may be given
Receipt = tuple[int, int]  # (sequence number, lease token): proves that a message is yours


OWN_HEADERS = Limits()  # for headers that the broker sets; the operator's are for clients'
_DECODER = msgspec.msgpack.Decoder(dict[str, Any])  # a union of str and bytes it has not


class Outgoing(msgspec.Struct, gc=False):
    """A message on its way in. ``attributes`` is the packed header map (b"" for none)."""

    body: bytes
    attributes: bytes = b""
    delay_ms: int = -1  # -1: the queue's
    ttl_ms: int = 0  # 0: the queue's
    priority: int = PRIORITY_DEFAULT
    group: str = ""
    dedup_id: str = ""


class Sent(msgspec.Struct, gc=False):
    """What became of a message that was taken. ``id`` is unique within the log's instance."""

    id: int
    seq: int
    duplicate: bool = False


class Delivery(msgspec.Struct, gc=False):
    """A message on its way out, leased to whoever gets it."""

    seq: int
    token: int
    receives: int
    id: int
    time_ms: int
    attributes: bytes
    body: bytes
    expire_ms: int = 0  # not to be delivered at or after, unix ms; 0: never

    @property
    def receipt(self) -> Receipt:
        """What acknowledges it."""
        return self.seq, self.token


class Browsed(msgspec.Struct, gc=False):
    """A message looked at in passing. ``state`` is ready, delayed or in-flight."""

    seq: int
    state: str
    receives: int
    id: int
    time_ms: int
    attributes: bytes
    body: bytes
    expire_ms: int = 0  # not to be delivered at or after, unix ms; 0: never


def is_text(value: str) -> bool:
    """Whether it is Unicode: a Python string may hold lone surrogates, which UTF-8 has not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack_headers(headers: HeaderMap, limits: Limits) -> bytes:
    """Encode a header map, b"" for an empty one; InvalidArgument or TooLarge when it cannot be."""
    if not headers:
        return b""
    if len(headers) > limits.headers_count_max:
        raise TooLarge(f"a message has at most {limits.headers_count_max} headers")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str | bytes) or not name:
            raise InvalidArgument("headers have text names and text or bytes values")
    try:
        packed = msgspec.msgpack.encode(headers if isinstance(headers, dict) else dict(headers))
    except UnicodeEncodeError:
        raise InvalidArgument("headers are UTF-8") from None
    if len(packed) > limits.headers_bytes_max:
        raise TooLarge(f"headers have at most {limits.headers_bytes_max} bytes in all")
    return packed


def unpack_headers(attributes: bytes) -> Headers:
    """Decode what :func:`pack_headers` made."""
    if not attributes:
        return {}
    headers: Headers = _DECODER.decode(attributes)
    return headers


def check_attributes(attributes: bytes, limits: Limits) -> None:
    """Refuse packed headers, from a peer, that are not a header map or are over the limits."""
    if len(attributes) > limits.headers_bytes_max:
        raise TooLarge(f"headers have at most {limits.headers_bytes_max} bytes in all")
    try:
        headers = _DECODER.decode(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"headers are a map of text to text or bytes: {error}") from None
    if len(headers) > limits.headers_count_max:
        raise TooLarge(f"a message has at most {limits.headers_count_max} headers")
    for name, value in headers.items():
        if not name or not isinstance(value, str | bytes):
            raise InvalidArgument("headers have text names and text or bytes values")


def overlay(attributes: bytes, more: bytes) -> bytes:
    """Lay the packed headers ``more`` over the packed headers ``attributes``."""
    if not attributes or not more:
        return attributes or more
    return msgspec.msgpack.encode(unpack_headers(attributes) | unpack_headers(more))

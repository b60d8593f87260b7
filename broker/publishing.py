"""Messages on their way into topics and out of them, as programs give and get them.

Rules:

- A batch goes to one topic. Equal messages in a row (headers, retain, time to live) are one
  publication, so what follows is paid once for all of them.
- The broker alone says what topic a message was published to, and how: the headers ``topic``,
  ``mqtt-qos`` and ``mqtt-retain`` of a publisher are replaced by the truth.
- What all live subscribers get of a message is one object, made when the first of them asks.
"""

from collections.abc import Iterator, Sequence

import msgspec

from .errors import BraidError, InvalidArgument, TooLarge
from .limits import RETENTION_MS_MAX, Limits
from .message import MQTT_QOS, MQTT_RETAIN, TOPIC, Delivery, Headers, unpack_headers
from .publication import Publication

__all__ = ["Batch", "LivePublished", "Posted", "Published", "batches", "live_messages"]

_LIVE = "live"  # in Publication.wire


class Posted(msgspec.Struct, gc=False):
    """A message on its way into a topic.

    ``attributes`` is the packed header map, b"" for none. ``retain`` keeps it for those who
    subscribe later; with an empty body it makes the topic forget what was kept. ``ttl_ms`` is how
    long it may be delivered, 0: for ever.
    """

    body: bytes
    attributes: bytes = b""
    retain: bool = False
    ttl_ms: int = 0


class Published(Delivery, gc=False):
    """A message on its way to a subscriber.

    One that came by a queue is leased; ``queue`` and the receipt settle it. Any other has ""
    there, a receipt of zeros, and needs no acknowledgement. ``retained`` says that it was there
    before the subscription. ``id`` is 0 for what no log holds.
    """

    queue: str = ""
    retained: bool = False


class LivePublished(Published, gc=False):
    """One that goes to all live subscribers; ``encoded`` is for the first of them to fill in."""

    encoded: bytes = b""


class Batch(Publication):
    """Messages with the same headers."""

    __slots__ = ("_attributes", "_bodies", "uniform")

    def __init__(
        self,
        topic: str,
        bodies: Sequence[bytes],
        attributes: bytes,
        qos: int,
        retain: bool,
        expire_ms: int,
    ) -> None:
        super().__init__(topic, qos, retain, expire_ms, len(bodies))
        self._bodies = bodies
        self._attributes = attributes
        self.uniform = len(bodies) > 1 and len(set(map(len, bodies))) == 1

    @property
    def bodies(self) -> Sequence[bytes]:
        return self._bodies

    @property
    def attributes(self) -> bytes:
        return self._attributes


def batches(
    topic: str, messages: Sequence[Posted], qos: int, limits: Limits, now_ms: int
) -> Iterator[Batch | BraidError]:
    """Messages as publications, in order; an error for each that cannot be one."""
    named: dict[tuple[bytes, bool], bytes] = {}  # their headers -> with the topic
    at = 0
    while at < len(messages):
        first = messages[at]
        try:
            _check(first, limits)
        except BraidError as error:
            yield error
            at += 1
            continue
        end = at + 1
        while end < len(messages) and _follows(first, messages[end], limits):
            end += 1
        key = (first.attributes, first.retain)
        attributes = named.get(key)
        if attributes is None:
            attributes = named[key] = _with_topic(topic, first, qos)
        bodies = [message.body for message in messages[at:end]]
        expire_ms = now_ms + first.ttl_ms if first.ttl_ms else 0
        yield Batch(topic, bodies, attributes, qos, first.retain, expire_ms)
        at = end


def _check(message: Posted, limits: Limits) -> None:
    if len(message.body) > limits.body_bytes_max:
        raise TooLarge(f"a body has at most {limits.body_bytes_max} bytes")
    if len(message.attributes) > limits.headers_bytes_max:
        raise TooLarge(f"headers have at most {limits.headers_bytes_max} bytes in all")
    if not 0 <= message.ttl_ms <= RETENTION_MS_MAX:
        raise InvalidArgument(f"a time to live is between 0 and {RETENTION_MS_MAX} ms")


def _follows(first: Posted, message: Posted, limits: Limits) -> bool:
    """Whether a message can go in one publication with those before it."""
    return (
        message.attributes == first.attributes
        and not message.retain  # each may be refused for itself
        and not first.retain
        and message.ttl_ms == first.ttl_ms
        and len(message.body) <= limits.body_bytes_max
    )


def _with_topic(topic: str, message: Posted, qos: int) -> bytes:
    headers: Headers = {}
    if message.attributes:
        headers = unpack_headers(message.attributes)
        headers.pop(MQTT_QOS, None)
        headers.pop(MQTT_RETAIN, None)
    headers[TOPIC] = topic
    if not qos:
        headers[MQTT_QOS] = "0"
    if message.retain:
        headers[MQTT_RETAIN] = "1"
    packed: bytes = msgspec.msgpack.encode(headers)
    return packed


def live_messages(publication: Publication, now_ms: int) -> list[LivePublished]:
    """What live subscribers get of a publication: the same objects for all of them."""
    messages: list[LivePublished] | None = publication.wire.get(_LIVE)
    if messages is None:
        attributes = publication.attributes
        expire_ms = publication.expire_ms
        messages = publication.wire[_LIVE] = [
            LivePublished(0, 0, 1, 0, now_ms, attributes, body, expire_ms)
            for body in publication.bodies
        ]
    return messages

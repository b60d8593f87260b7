"""What all MQTT sessions of a broker share: topics as bytes, stored headers as packets, counters.

Everything here is a cache with a limit, or a number.
"""

from collections.abc import Callable

from ...broker.core import Core
from ...broker.errors import (
    BraidError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from ...broker.limits import Limits
from ...broker.message import MQTT_QOS, MQTT_RETAIN, TOPIC, Headers, pack_headers, unpack_headers
from .headers import properties_from
from .packets import V5, Reason
from .primitives import is_text
from .runs import Shape, Topic

__all__ = [
    "HEADS_CACHED_MAX",
    "TOPICS_CACHED_MAX",
    "TOPIC_CACHED_BYTES_MAX",
    "MqttServer",
    "StoredHead",
    "reason_of",
    "seconds_left",
]

TOPICS_CACHED_MAX = 16_384
TOPIC_CACHED_BYTES_MAX = 256  # topics that are longer are not remembered
HEADS_CACHED_MAX = 4_096
_HEAD_BYTES_MAX = 512  # packed headers that are longer are not remembered
_NO_LIMITS = Limits()
_QOS_NAME = MQTT_QOS.encode()

RETAINED_ALWAYS = "always"


def reason_of(error: BraidError) -> Reason:
    """What MQTT 5 calls an error of the broker."""
    if isinstance(error, PermissionDenied):
        return Reason.NOT_AUTHORIZED
    if isinstance(error, TooLarge):
        return Reason.PACKET_TOO_LARGE
    if isinstance(error, LimitExceeded):
        return Reason.QUOTA_EXCEEDED
    if isinstance(error, InvalidArgument | NotFound):
        return Reason.TOPIC_NAME_INVALID
    if isinstance(error, Unavailable):
        return Reason.SERVER_BUSY
    return Reason.UNSPECIFIED_ERROR


def seconds_left(expire_ms: int, now_ms: int) -> int | None:
    """The expiry interval to forward, at least 1; None for a message that does not end.

    [MQTT-3.3.2-6]
    """
    return max(1, -(-(expire_ms - now_ms) // 1000)) if expire_ms else None


class StoredHead:
    """What the headers of a stored message say to MQTT."""

    __slots__ = ("_headers", "_properties", "name", "qos", "retain", "retained", "wire")

    def __init__(self, headers: Headers) -> None:
        self._headers: Headers | None = headers
        self._properties = b""
        topic = headers.get(TOPIC, "")
        self.name = topic if isinstance(topic, str) else ""
        self.wire = self.name.encode() if is_text(self.name) else b""
        self.qos = {"0": 0, "2": 2}.get(str(headers.get(MQTT_QOS)), 1)
        self.retain = MQTT_RETAIN in headers
        self.retained = headers.get(MQTT_RETAIN) == RETAINED_ALWAYS

    @property
    def properties(self) -> bytes:
        """The content of the property block for MQTT 5, but for what each hop adds."""
        if self._headers is not None:  # encoded when it is needed: MQTT 3 has none
            self._properties, self._headers = properties_from(self._headers), None
        return self._properties


class MqttServer:
    """One for each broker that is served; see the module.

    Attributes:
        core: the broker. new_id: makes client identifiers that nobody can guess.
        received, sent: messages; dropped: what found no room on its way to a client.
        too_large: messages that a client does not take, by its Maximum Packet Size.
        over_receive_maximum: messages beyond it, where that is only counted.
        refused: connections that were refused or ended by the broker, by why.
    """

    def __init__(self, core: Core, new_id: Callable[[], str]) -> None:
        self.core = core
        self.new_id = new_id
        self.received = 0
        self.sent = 0
        self.dropped = 0
        self.too_large = 0
        self.over_receive_maximum = 0
        self.refused: dict[Reason, int] = {}
        core.announcing.gauges |= {
            "clients/refused": lambda: sum(self.refused.values()),
            "messages/received": lambda: self.received,
            "messages/sent": lambda: self.sent,
            "messages/dropped": lambda: self.dropped,
            "messages/too large": lambda: self.too_large,
            "messages/over receive maximum": lambda: self.over_receive_maximum,
        }
        self._topics: dict[bytes, Topic] = {}
        self._heads: dict[bytes, StoredHead] = {}
        self._shapes: tuple[dict[bytes, Shape], dict[bytes, Shape]] = ({}, {})

    def shapes(self, version: int) -> dict[bytes, Shape]:
        """Shapes of plain packets, by prefix; at most SHAPES_CACHED_MAX."""
        return self._shapes[version == V5]

    def topic(self, wire: bytes) -> Topic:
        """The topic that these bytes name. UnicodeDecodeError when they are no text."""
        topic = self._topics.get(wire)
        if topic is None:
            topic = Topic(str(wire, "utf-8"), wire)
            if len(wire) <= TOPIC_CACHED_BYTES_MAX:
                if len(self._topics) >= TOPICS_CACHED_MAX:
                    self._topics.clear()
                self._topics[wire] = topic
        return topic

    def attributes(self, topic: Topic, qos: int, retain: bool, headers: Headers) -> bytes:
        """The headers of a message, packed, as they are stored."""
        key = (qos, retain)
        if not headers:
            known = topic.attributes.get(key)
            if known is not None:
                return known
        all_headers: Headers = {TOPIC: topic.name}
        if qos != 1:
            all_headers[MQTT_QOS] = str(qos)
        if retain:
            all_headers[MQTT_RETAIN] = "1"
        all_headers.update(headers)
        packed = pack_headers(all_headers, self.core.limits)
        if not headers:
            topic.attributes[key] = packed
        return packed

    def head(self, attributes: bytes) -> StoredHead:
        """What packed headers say to MQTT."""
        head = self._heads.get(attributes)
        if head is None:
            head = StoredHead(unpack_headers(attributes))
            if len(attributes) <= _HEAD_BYTES_MAX:
                if len(self._heads) >= HEADS_CACHED_MAX:
                    self._heads.clear()
                self._heads[attributes] = head
        return head

    def qos(self, attributes: bytes) -> int:
        """The QoS of a message by its packed headers: most have 1, and say nothing about it."""
        return self.head(attributes).qos if _QOS_NAME in attributes else 1

    def count_refused(self, reason: Reason) -> None:
        """A connection was refused, or ended by the server."""
        if reason not in self.refused:
            name = f"clients/refused/0x{reason:02x}"
            self.core.announcing.gauges[name] = lambda: self.refused[reason]
        self.refused[reason] = self.refused.get(reason, 0) + 1


RETAINED_OVERLAY = pack_headers({MQTT_RETAIN: RETAINED_ALWAYS}, _NO_LIMITS)

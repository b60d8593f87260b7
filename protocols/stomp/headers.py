"""STOMP headers as headers and fields of the broker's messages, and back.

Of a SEND, what the dialect gives a meaning becomes a field (:class:`Sending`); what belongs to the
frame or only the broker can say is left out; all other headers are stored as they are. The standard
names are those of broker/message.py, so most need no translation:

    content-type, correlation-id, dedup-id, partition-key, traceparent, tracestate   themselves
    reply-to            the address of the destination; what is no destination is kept beside it
    JMSXGroupID, JMSXGroupSeq   group-id, group-sequence; a MESSAGE has both names
    priority            a field, and a header: a topic's message has no such field
    persistent          a header if it is "true"
    amq-msg-type        a header; "text" for a body without content-length, where that says so

A MESSAGE has all stored headers but the broker's own, and what the delivery says. A value that is
no text, or holds a NUL, is ``base64:`` and its bytes in base64; a SEND with such a value has the
bytes. A name that a frame cannot hold is left out.

What packed headers say is worked out once for all messages that have the same (:class:`Head`).
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ...broker.limits import PRIORITY_MAX
from ...broker.message import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_RECEIVES,
    DEAD_LETTER_TIME,
    DEDUP_ID,
    GROUP_ID,
    GROUP_SEQUENCE,
    MQTT_QOS,
    MQTT_RETAIN,
    PRIORITY_DEFAULT,
    REPLAYED,
    REPLAYED_FROM,
    REPLAYED_TIME,
    REPLY_TO,
    SCHEDULE_ID,
    TOPIC,
    Headers,
    Outgoing,
    unpack_headers,
)
from ...broker.schedule import Timing
from .destinations import (
    Queue,
    TempQueue,
    TempTopic,
    Topic,
    address,
    parse,
    show,
    target_at,
)
from .dialects import Dialect, Refused, whole_number

__all__ = [
    "BASE64",
    "HEADS_CACHED_MAX",
    "HEAD_CACHED_BYTES_MAX",
    "NOT_SENT",
    "STOMP_REPLY_TO",
    "Head",
    "HeaderTable",
    "Sending",
]

HEADS_CACHED_MAX: Final = 4_096
HEAD_CACHED_BYTES_MAX: Final = 512  # packed headers that are longer are not remembered

BASE64: Final = "base64:"
STOMP_REPLY_TO: Final = "stomp-reply-to"  # a reply-to that is no destination
_JMS: Final = {"JMSXGroupID": GROUP_ID, "JMSXGroupSeq": GROUP_SEQUENCE}
PRIORITY: Final = "priority"
PERSISTENT: Final = "persistent"
TIMESTAMP: Final = "timestamp"
MESSAGE_TYPE: Final = "amq-msg-type"

# Of the frame, not of the message: neither stored nor taken from what is stored.
_OF_FRAMES: Final = (
    "destination transaction receipt receipt-id content-length message-id subscription ack"
    " redelivered browser"
).split()
# What the broker says of a message. Nobody can pass for it by a SEND.
_OF_BROKER: Final = (
    *(TOPIC, MQTT_QOS, MQTT_RETAIN, REPLAYED, REPLAYED_FROM, REPLAYED_TIME),
    *(DEAD_LETTER_QUEUE, DEAD_LETTER_REASON, DEAD_LETTER_RECEIVES, DEAD_LETTER_TIME),
    *("JMSXUserID", "scheduledJobId", SCHEDULE_ID, STOMP_REPLY_TO),
)
NOT_SENT: Final = frozenset([*_OF_FRAMES, *_OF_BROKER])  # and the dialect's own: see HeaderTable
_NOT_SHOWN: Final = frozenset([*_OF_FRAMES, TOPIC, MQTT_QOS, MQTT_RETAIN])

_PRIORITIES: Final = frozenset(map(str, range(PRIORITY_MAX + 1)))
_RETAINED_ALWAYS: Final = "always"

Temporary = Callable[[TempQueue | TempTopic], str]


class Sending(msgspec.Struct, gc=False):
    """What the headers of a SEND say. ``ttl_ms`` and ``delay_ms`` are as in ``Outgoing``."""

    headers: Headers  # as they are stored
    priority: int = PRIORITY_DEFAULT
    ttl_ms: int = 0
    delay_ms: int = -1
    retain: bool = False
    timing: Timing | None = None  # of a schedule, but for its delay

    def outgoing(self, body: bytes, attributes: bytes, fifo: bool) -> Outgoing:
        """The message for a queue; ``attributes`` are the headers, packed.

        A FIFO queue has groups and deduplication for fields and knows no priorities; for others
        they stay headers.
        """
        if not fifo:
            return Outgoing(body, attributes, self.delay_ms, self.ttl_ms, self.priority)
        group, dedup_id = self.headers.get(GROUP_ID, ""), self.headers.get(DEDUP_ID, "")
        return Outgoing(
            body,
            attributes,
            self.delay_ms,
            self.ttl_ms,
            group=group if isinstance(group, str) else "",
            dedup_id=dedup_id if isinstance(dedup_id, str) else "",
        )


class Head:
    """What the stored headers of a message say to a dialect.

    Attributes:
        topic: where it was published; "" if it was sent to a queue. retained: it was there before
            the subscription. text: a body without NUL goes out without content-length.
        priority, timestamp: as the sender wrote them; "" if not. The delivery knows better ones
            than none.
        pairs: headers of the MESSAGE, but those. in_queue: the same, for whom it comes from a
            queue, with what says where it was before.
        wire: forms of ``pairs`` on the wire, by the codec's own keys, so that each is made once.
    """

    __slots__ = ("in_queue", "pairs", "priority", "retained", "text", "timestamp", "topic", "wire")

    def __init__(self, headers: Headers, dialect: Dialect, hidden: frozenset[str]) -> None:
        topic = headers.get(TOPIC, "")
        self.topic = topic if isinstance(topic, str) else ""
        self.retained = headers.get(MQTT_RETAIN) == _RETAINED_ALWAYS
        self.text = dialect.text_without_length and headers.get(MESSAGE_TYPE) == "text"
        self.wire: dict[object, bytes] = {}
        found: dict[str, str] = {}
        for name, value in headers.items():
            if name not in hidden and "\0" not in name:
                found[name] = (
                    value if isinstance(value, str) and "\0" not in value else _in_text(value)
                )
        priority = found.pop(PRIORITY, "")
        self.priority = priority if priority in _PRIORITIES else ""
        self.timestamp = found.pop(TIMESTAMP, "")
        self._name_reply(found, dialect)
        for theirs, ours in _JMS.items():
            if ours in found:
                found[theirs] = found[ours]
        if self.retained and dialect.retained_header:
            found[dialect.retained_header] = "true"
        for ours, theirs in dialect.dead_letter_headers.items():
            if ours in found:
                found[theirs] = found[ours]
        self.pairs = tuple(found.items())
        self.in_queue = self.pairs
        origin = self._origin(found, dialect)
        if origin:
            self.in_queue = (*self.pairs, (dialect.origin_header, origin))

    @staticmethod
    def _name_reply(found: dict[str, str], dialect: Dialect) -> None:
        opaque = found.pop(STOMP_REPLY_TO, "")
        reply_to = found.pop(REPLY_TO, "")
        if reply_to and not reply_to.startswith(BASE64):
            found[REPLY_TO] = show(target_at(reply_to), dialect)
        elif opaque:
            found[REPLY_TO] = opaque

    def _origin(self, found: dict[str, str], dialect: Dialect) -> str:
        if not dialect.origin_header:
            return ""
        was = found.get(DEAD_LETTER_QUEUE, "")
        if was:
            return show(Queue(was), dialect)
        return show(Topic(self.topic), dialect) if self.topic else ""


class HeaderTable:
    """A dialect's headers, both ways. One for each dialect of a broker that is served.

    ``heads`` are remembered for up to HEADS_CACHED_MAX different packed headers.
    """

    __slots__ = ("_fields", "_heads", "_hidden", "_more", "dialect")

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._heads: dict[bytes, Head] = {}
        # What says something of the delivery is not taken from what is stored.
        self._hidden = _NOT_SHOWN | {
            *(dialect.receives_header, dialect.expiry_header),
            *(dialect.retained_header, dialect.origin_header),
        }
        self._more = frozenset(
            [
                *(REPLY_TO, dialect.expiry_header, *_JMS),
                *(dialect.period_header, dialect.repeat_header, dialect.cron_header),
            ]
        )
        # Headers of a SEND that are not just stored; None: left out, or for _take_more.
        fields: dict[str, Callable[[Sending, str], None] | None] = dict.fromkeys(
            [
                *NOT_SENT,
                *self._more,
                *(dialect.receives_header, dialect.retained_header, dialect.origin_header),
                *dialect.dead_letter_headers.values(),
                *dialect.queue_headers,  # say how a queue is to be declared
            ]
        )
        fields[PRIORITY] = self._on_priority
        fields[PERSISTENT] = self._on_persistent
        fields[dialect.retain_header] = self._on_retain
        fields[dialect.delay_header] = self._on_delay
        fields.pop("", None)  # what the dialect has not
        self._fields = fields

    # --- in ---

    def sending(self, headers: Mapping[str, str], now_ms: int, temporary: Temporary) -> Sending:
        """What the headers of a SEND say.

        ``temporary`` makes the connection's own temporary queue or topic, if it is not there, and
        returns its address.

        Raises:
            Refused: a header has a value that it cannot have, or is not allowed.
        """
        dialect = self.dialect
        for name in dialect.refused_on_send:
            if name in headers:
                raise dialect.bad_header(name, "it is not allowed on 'SEND'")
        stored: Headers = {}
        sending = Sending(stored)
        fields = self._fields
        more = False
        for name, value in headers.items():
            if name not in fields:
                stored[name] = _from_text(value)
                continue
            take = fields[name]
            if take is not None:
                take(sending, value)
            elif name in self._more:
                more = True
        if more:
            self._take_more(sending, headers, now_ms, temporary)
        if dialect.text_without_length and "content-length" not in headers:
            stored.setdefault(MESSAGE_TYPE, "text")
        return sending

    def _take_more(
        self, sending: Sending, headers: Mapping[str, str], now_ms: int, temporary: Temporary
    ) -> None:
        """What is rare, or means something only together with something else."""
        dialect = self.dialect
        stored = sending.headers
        for theirs, ours in _JMS.items():
            if theirs in headers:
                stored[ours] = _from_text(headers[theirs])
        if dialect.expiry_header in headers:
            sending.ttl_ms = self._ttl_ms(headers[dialect.expiry_header], now_ms)
        if REPLY_TO in headers:
            self._reply_to(stored, headers[REPLY_TO], temporary)
        if dialect.period_header:
            sending.timing = self._timing(headers)

    def _on_priority(self, sending: Sending, value: str) -> None:
        priority = value.strip(" ")
        if priority.startswith("-") and priority[1:].isdigit():
            priority = "0"  # out of range: the nearest, as both brokers have it
        sending.priority = min(whole_number(self.dialect, PRIORITY, priority), PRIORITY_MAX)
        sending.headers[PRIORITY] = str(sending.priority)

    def _on_persistent(self, sending: Sending, value: str) -> None:
        if value == "true":
            sending.headers[PERSISTENT] = value

    def _on_retain(self, sending: Sending, value: str) -> None:
        sending.retain = value == "true"

    def _on_delay(self, sending: Sending, value: str) -> None:
        sending.delay_ms = whole_number(self.dialect, self.dialect.delay_header, value)

    def _ttl_ms(self, written: str, now_ms: int) -> int:
        asked = whole_number(self.dialect, self.dialect.expiry_header, written)
        if not self.dialect.expiry_is_absolute:
            return max(asked, 1)
        # What is over already is so in a moment: 0 would be the queue's own.
        return max(asked - now_ms, 1) if asked else 0

    def _reply_to(self, stored: Headers, written: str, temporary: Temporary) -> None:
        try:
            (target,) = parse(written, self.dialect, "reply-to")
        except Refused:
            if written:
                stored[STOMP_REPLY_TO] = written
            return
        if isinstance(target, TempQueue | TempTopic):
            stored[REPLY_TO] = temporary(target)
        else:
            stored[REPLY_TO] = address(target)

    def _timing(self, headers: Mapping[str, str]) -> Timing | None:
        dialect = self.dialect
        period = headers.get(dialect.period_header, "0")
        period_ms = whole_number(dialect, dialect.period_header, period)
        times = headers.get(dialect.repeat_header, "0")
        repeat = -1 if times == "-1" else whole_number(dialect, dialect.repeat_header, times)
        cron = headers.get(dialect.cron_header, "")
        return Timing(0, period_ms, repeat, cron) if cron or period_ms or repeat else None

    # --- out ---

    def head(self, attributes: bytes) -> Head:
        """What packed headers say."""
        head = self._heads.get(attributes)
        if head is None:
            head = Head(unpack_headers(attributes), self.dialect, self._hidden)
            if len(attributes) <= HEAD_CACHED_BYTES_MAX:
                if len(self._heads) >= HEADS_CACHED_MAX:
                    self._heads.clear()
                self._heads[attributes] = head
        return head

    def of_delivery(
        self,
        head: Head,
        destination: str,
        message_id: str,
        subscription: str,
        receives: int,
        priority: int,
        time_ms: int,
        expire_ms: int,
        now_ms: int,
    ) -> list[tuple[str, str]]:
        """Headers of a MESSAGE that differ from one delivery to the next. They go first.

        Args:
            subscription: "" for none, as STOMP 1.0 allows.
            receives: how often it was delivered, with this time; 0 and 1 are the first.
            priority: of the message in its queue; what the sender wrote comes before it.
            time_ms: when the broker took it. expire_ms: when it expires; 0: never.
        """
        dialect = self.dialect
        pairs = [("destination", destination), ("message-id", message_id)]
        if subscription:
            pairs.append(("subscription", subscription))
        if receives > 1:
            counted = receives if dialect.receives_counts_this else receives - 1
            pairs += [("redelivered", "true"), (dialect.receives_header, str(counted))]
        elif dialect.redelivered_always:
            pairs.append(("redelivered", "false"))
        if dialect.fields_always:
            pairs.append((PRIORITY, head.priority or str(priority)))
            pairs.append((TIMESTAMP, head.timestamp or str(time_ms)))
        else:
            if head.priority or priority != PRIORITY_DEFAULT:
                pairs.append((PRIORITY, head.priority or str(priority)))
            if head.timestamp:
                pairs.append((TIMESTAMP, head.timestamp))
        if expire_ms or dialect.fields_always:
            left = expire_ms if dialect.expiry_is_absolute else max(expire_ms - now_ms, 0)
            pairs.append((dialect.expiry_header, str(left)))
        return pairs


def _in_text(value: str | bytes) -> str:
    """A value as the text of a header."""
    data = value.encode() if isinstance(value, str) else value
    if b"\0" not in data:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return BASE64 + b64encode(data).decode()


def _from_text(value: str) -> str | bytes:
    """The bytes that a ``base64:`` value stands for; itself, if it was not made so."""
    if not value.startswith(BASE64):
        return value
    try:
        data = b64decode(value.removeprefix(BASE64), validate=True)
    except ValueError:
        return value
    return data if _in_text(data) == value else value

"""MESSAGE frames of one subscription, written fast.

What is the same for all messages of the subscription is encoded once, what is the same for all
messages with equal headers once for each of these (``Head.wire``). What is left are a few numbers.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...broker.message import Delivery
from ...broker.publishing import Published
from ...broker.state import LANE_SHIFT, lane_priority
from ...broker.values import message_id
from .destinations import Topic, show
from .frames import V12, append_message, encode_head, encode_headers, escape
from .headers import Head

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["Writer"]


class Writer:
    """Writes the messages that one subscription gets from one queue, or from topics.

    Args:
        subscription: its id; "" for none, as STOMP 1.0 allows.
        number: in front of what 1.2 acknowledges a message by; -1: it is not acknowledged.
        destination: of all messages; "": of each the topic that it was published to.
        from_queue: what was published before it was in the queue is told, too.

    Attributes:
        priority_of: the priority of a message by its sequence number: what the queue says, if it is
            one (0: of no queue).
    """

    __slots__ = (
        "_after",
        "_after_text",
        "_before",
        "_before_text",
        "_dialect",
        "_from_queue",
        "_head",
        "_instance",
        "_key",
        "_live",
        "_number",
        "_retained",
        "_session",
        "_table",
        "_version",
        "destination",
        "priority_of",
        "subscription",
    )

    def __init__(
        self,
        session: "StompSession",
        subscription: str,
        number: int,
        destination: str,
        from_queue: bool,
    ) -> None:
        version = session.version
        dialect = session.dialect
        self.destination = destination
        self.subscription = subscription
        self.priority_of: Callable[[int], int] = lane_priority
        self._session = session
        self._table = session.headers
        self._dialect = dialect
        self._version = version
        self._number = number if version is V12 else -1
        self._from_queue = from_queue
        self._key = (version, from_queue, not destination)
        self._instance = session.core.instance
        self._retained = b""
        if dialect.retained_header:
            self._retained = encode_headers(((dialect.retained_header, "true"),), version)
        self._live = 0  # messages that no log holds: they are counted, to have a name
        same = [("subscription", subscription)] if subscription else []
        if destination:
            same.insert(0, ("destination", destination))
        self._head = encode_head("MESSAGE", same, version)
        before, after = (
            part.replace("{subscription}", subscription).replace("{session}", session.id)
            for part in dialect.message_id.split("{id}")
        )
        self._before_text, self._after_text = before, after
        self._before = f"message-id:{escape(before, version)}{self._instance:016x}".encode()
        self._after = escape(after, version).encode()

    def read_queue(self, name: str) -> None:
        """What is written comes from this queue, which knows the priorities."""
        queue = self._session.core.queues.get(name)
        if queue is not None:
            self.priority_of = queue.priority

    def name_of(self, delivery: Delivery) -> str:
        """Its ``message-id``."""
        return f"{self._before_text}{self._id_of(delivery)}{self._after_text}"

    def _id_of(self, delivery: Delivery) -> str:
        if delivery.id:
            return message_id(self._instance, delivery.id)
        return f"{self._session.id}-{self._live}"

    def append(self, delivery: Delivery, tag: int, now_ms: int) -> str:
        """Write a message; ``tag`` is what it is acknowledged by. Its message-id, but in 1.2."""
        head = self._table.head(delivery.attributes)
        lines = self._lines_of(head)
        if not delivery.id:
            self._live += 1
            own = self._own(head, delivery, now_ms)
        elif delivery.receives > 1 or head.retained:
            own = self._own(head, delivery, now_ms)
        else:
            own = b"%b%016x%b\n" % (self._before, delivery.id, self._after)
            dialect = self._dialect
            seq = delivery.seq
            if dialect.fields_always and not (head.priority or head.timestamp):
                own += b"priority:%d\ntimestamp:%d\nexpires:%d\n" % (
                    self.priority_of(seq),
                    delivery.time_ms,
                    delivery.expire_ms,
                )
            elif delivery.expire_ms or dialect.fields_always or head.priority or head.timestamp:
                own = self._own(head, delivery, now_ms)
            elif dialect.redelivered_always:
                own += b"redelivered:false\n"
        if self._retained and not head.retained and isinstance(delivery, Published):
            own += self._retained if delivery.retained else b""
        if self._number >= 0:
            own += b"ack:%d-%d\n" % (self._number, tag)
        append_message(self._session.out, self._head, own + lines, delivery.body, not head.text)
        self._session.server.sent += 1
        return "" if self._version is V12 else self.name_of(delivery)

    def append_run(self, deliveries: Sequence[Delivery], tag: int, now_ms: int) -> None:
        """Write messages of a queue that STOMP 1.2 acknowledges, by ``tag`` and those after it.

        What :meth:`append` writes; what they have in common with the one before is not made again.
        """
        out = self._session.out
        begin = self._head + self._before
        time_ms = expire_ms = lane = -1
        attributes, fields, lines, text = b"", b"", b"", False
        for delivery in deliveries:
            if (
                delivery.time_ms != time_ms
                or delivery.attributes != attributes
                or delivery.seq >> LANE_SHIFT != lane
                or delivery.expire_ms != expire_ms
            ):
                time_ms, expire_ms = delivery.time_ms, delivery.expire_ms
                attributes, lane = delivery.attributes, delivery.seq >> LANE_SHIFT
                fields, lines, text = self._in_common(delivery)
            body = delivery.body
            if not fields or delivery.receives > 1 or (text and 0 not in body):
                self.append(delivery, tag, now_ms)
            else:
                out += b"%b%016x%b%d\n%bcontent-length:%d\n\n%b\0\n" % (
                    *(begin, delivery.id, fields, tag, lines),
                    *(len(body), body),
                )
                self._session.server.sent += 1
            tag += 1

    def _in_common(self, delivery: Delivery) -> tuple[bytes, bytes, bool]:
        """Of messages like this one that come for the first time: the headers between what follows
        the id and the tag, those behind it, and ``Head.text``. Without the first, they have to be
        written one by one.
        """
        head = self._table.head(delivery.attributes)
        dialect = self._dialect
        if not delivery.id or head.retained or head.priority or head.timestamp:
            return b"", b"", False
        if delivery.expire_ms and not dialect.fields_always:
            return b"", b"", False
        fields = self._after + b"\n"
        if dialect.fields_always:
            fields += b"priority:%d\ntimestamp:%d\nexpires:%d\n" % (
                self.priority_of(delivery.seq),
                delivery.time_ms,
                delivery.expire_ms,
            )
        elif dialect.redelivered_always:
            fields += b"redelivered:false\n"
        return fields + b"ack:%d-" % self._number, self._lines_of(head), head.text

    def _lines_of(self, head: Head) -> bytes:
        """The headers that all messages with this head have here, made once."""
        lines = head.wire.get(self._key)
        if lines is None:
            lines = head.wire[self._key] = self._lines(head)
        return lines

    def _lines(self, head: Head) -> bytes:
        """The headers that all messages with this head have here."""
        pairs = head.in_queue if self._from_queue else head.pairs
        if not self.destination:
            pairs = (("destination", show(Topic(head.topic), self._dialect)), *pairs)
        return encode_headers(pairs, self._version)

    def _own(self, head: Head, delivery: Delivery, now_ms: int) -> bytes:
        """What differs from one message to the next, of any message."""
        seq = delivery.seq if self._from_queue else 0
        pairs = self._table.of_delivery(
            head,
            "",
            self.name_of(delivery),
            "",
            delivery.receives,
            self.priority_of(seq),
            delivery.time_ms,
            delivery.expire_ms,
            now_ms,
        )
        return encode_headers(pairs[1:], self._version)  # the destination stands elsewhere

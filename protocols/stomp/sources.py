"""Where the messages of a subscription come from: a queue, or topics.

    QueueSource   a consumer of a queue (``Core.consume``)
    TopicSource   a feed of topics, also a durable one (``Core.subscribe``)

``browsing.py``, ``streaming.py`` and ``wildcards.py`` have one more each. Rules:

1. At most ``prefetch`` messages of a source are sent and not acknowledged. With ``auto`` they count
   as acknowledged when they go to the carrier.
2. The broker never knows of more credit than about ``WINDOW_BYTES`` worth of messages, and none is
   passed on while the client does not read: that bounds what waits here. When it stops to read,
   or much waits at once, the credit of all queues is taken back: subscriptions may be many.
3. What the broker calls takes a note or writes frames; what asks the broker for more is done when
   the client is sent something (:meth:`Source.pump`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError
from ...broker.lease import Consumer
from ...broker.message import Delivery, unpack_headers
from ...broker.selectors import MessageFields, Selector
from ...broker.state import lane_priority
from ...broker.values import message_id
from .frames import V12
from .messages import Writer

if TYPE_CHECKING:
    from ...broker.feed import Feed
    from .session import StompSession
    from .subscribing import Subscription

__all__ = ["WINDOW_BYTES", "WINDOW_FIRST_MESSAGES", "QueueSource", "Source", "TopicSource"]

WINDOW_BYTES: Final = 1024 * 1024
WINDOW_FIRST_MESSAGES: Final = 4  # credit passed on before the size of the messages is known


class Source:
    """What all sources have.

    Attributes:
        unacknowledged: messages that were sent and count against ``prefetch``.
        hungry: it stands in the list of those to look at.
    """

    def __init__(
        self, session: "StompSession", subscription: "Subscription", writer: Writer
    ) -> None:
        self.session = session
        self.subscription = subscription
        self.writer = writer
        self.unacknowledged = 0
        self.hungry = False
        self._window = WINDOW_FIRST_MESSAGES  # the most credit that the broker may know of

    @property
    def room(self) -> int:
        """How many messages more may be sent before something is acknowledged."""
        return self.subscription.prefetch - self.unacknowledged

    def settled(self, count: int) -> None:
        """The client has settled messages."""
        self.unacknowledged -= count
        self.session.subscribing.look_at(self)

    def send(self, delivery: Delivery, queue: str, now_ms: int) -> None:
        """Write a message of a queue, "" for one that nobody needs to settle."""
        subscription = self.subscription
        if not subscription.acknowledges:
            self.writer.append(delivery, 0, now_ms)
            if queue:
                self.session.acknowledging.sent(queue, delivery.receipt)
            return
        tag = subscription.next_tag
        subscription.next_tag = tag + 1
        name = self.writer.append(delivery, tag, now_ms)
        subscription.hold(tag, (self, queue, delivery.receipt, name))
        self.unacknowledged += 1

    def send_all(self, deliveries: Sequence[Delivery], queue: str, now_ms: int) -> None:
        """Write messages of a queue."""
        subscription = self.subscription
        if not subscription.acknowledges or self.session.version is not V12:
            for delivery in deliveries:
                self.send(delivery, queue, now_ms)
            return
        tag = subscription.next_tag
        subscription.next_tag = tag + len(deliveries)
        self.writer.append_run(deliveries, tag, now_ms)
        held = subscription.held
        for delivery in deliveries:
            held[tag] = (self, queue, (delivery.seq, delivery.token), "")
            tag += 1
        self.unacknowledged += len(deliveries)

    def learn(self, count: int, size: int) -> None:
        """So many messages took so many bytes."""
        average = size // count + 1
        self._window = max(1, min(WINDOW_BYTES // average, self.session.limits.credit_max))

    def pump(self, now_ms: int) -> None:
        """Ask for more, or send what came."""
        raise NotImplementedError

    def hold_back(self) -> None:
        """Have nothing more sent until the next :meth:`pump`, if the broker sends by itself."""

    def close(self, now_ms: int) -> None:
        """Nobody wants more; what is held goes back."""
        raise NotImplementedError


class QueueSource(Source):
    """A consumer of a queue, and its sink."""

    def __init__(
        self, session: "StompSession", subscription: "Subscription", writer: Writer, name: str
    ) -> None:
        super().__init__(session, subscription, writer)
        writer.read_queue(name)
        self.name = name
        self.consumer: Consumer | None = None
        self._granted = 0  # credit that the broker knows of

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send messages that were leased."""
        out, now_ms = self.session.out, self.session.core.now_ms
        before = len(out)
        self.send_all(deliveries, self.name, now_ms)
        self._granted -= len(deliveries)
        self.learn(len(deliveries), len(out) - before)
        self.session.subscribing.look_at(self)
        if len(out) > self.session.limits.outbound_bytes_max:
            self.session.subscribing.hold_back()

    def hold_back(self) -> None:
        if self.consumer is not None and self._granted:
            self._granted = 0
            self.consumer.limit(0)
            self.session.subscribing.look_at(self)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The queue is gone, or cannot be read."""
        self.session.fail_with(error)
        self.session.wake()

    def pump(self, now_ms: int) -> None:
        count = min(self.room, self._window) - self._granted
        if count > 0 and self.consumer is not None:
            self._granted += count
            self.session.core.credit(self.consumer, count)

    def close(self, now_ms: int) -> None:
        if self.consumer is not None:
            unsent = self.session.acknowledging.unsent(self.name)
            self.session.core.cancel(self.consumer, unsent, now_ms)


class TopicSource(Source):
    """A feed of topics, and its owner."""

    def __init__(
        self,
        session: "StompSession",
        subscription: "Subscription",
        writer: Writer,
        selector: Selector | None,
    ) -> None:
        super().__init__(session, subscription, writer)
        self.feed: Feed | None = None
        self._selector = selector

    def feed_ready(self, feed: "Feed") -> None:
        """There may be something to take."""
        self.session.subscribing.look_at(self)

    def feed_ended(self, feed: "Feed", error: BraidError) -> None:
        """The broker ended it: taken over, kicked, or without rights."""
        self.session.fail_with(error)
        self.session.wake()

    def pump(self, now_ms: int) -> None:
        feed, session = self.feed, self.session
        if feed is None:
            return
        self._grant(feed)
        out = session.out
        if len(out) > WINDOW_BYTES:
            session.subscribing.look_at(self)
            return
        messages = feed.take(now_ms)
        if not messages:
            return
        before = len(out)
        for message in messages:
            if self._selector is None or self._selects(message):
                self.send(message, message.queue, now_ms)
            elif message.queue:  # it is nothing for this subscription, and never will be
                session.acknowledging.sent(message.queue, message.receipt)
        self.learn(len(messages), len(out) - before)
        self._grant(feed)

    def _grant(self, feed: "Feed") -> None:
        feed.grant(min(self.room, self._window) - feed.credit)

    def _selects(self, message: Delivery) -> bool:
        assert self._selector is not None
        id = message_id(self.session.core.instance, message.id) if message.id else ""
        fields = MessageFields(id, lane_priority(0), message.time_ms)
        return self._selector.matches(unpack_headers(message.attributes), fields)

    def close(self, now_ms: int) -> None:
        if self.feed is not None:
            queue = self.feed.session.queue
            unsent = self.session.acknowledging.unsent(queue.name) if queue is not None else ()
            self.feed.close(now_ms, unsent)

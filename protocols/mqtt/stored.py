"""Stored messages on their way to a client: leased from queues until it acknowledges them.

The queues are the session's own, those of shares, and ``$queue/NAME``. Each gives as many messages
as the credit it has, which is the client's window; what does not fit into the window of all waits
here, leased. What was not sent when the connection ends goes back as if it had never been taken.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...broker.lease import Consumer
from ...broker.message import Delivery, Receipt
from ...broker.publication import ANY_MATCH, Match
from ...broker.queue import Queue
from ...broker.session import packet_id
from ...broker.topic import QUEUE_PREFIX
from ...broker.topics import merge
from .packets import encode_hop_properties, publish_head
from .runs import PACKET_IDS
from .server import StoredHead

if TYPE_CHECKING:
    from .outbound import Outbound
    from .session import MqttSession

__all__ = ["Held", "Source", "Stored"]


class Source:
    """A queue that the client consumes from, and by which subscription; None: its own."""

    __slots__ = ("_session", "_unused", "_window", "consumer", "filter", "queue")

    def __init__(
        self, session: "MqttSession", queue: Queue, filter: str | None, window: int
    ) -> None:
        self._session = session
        self._window = window
        self._unused = 0  # credit that is to be given back
        self.queue = queue
        self.filter = filter
        self.consumer: Consumer | None = None

    @property
    def is_queue(self) -> bool:
        """Whether it is a queue by itself, which others may consume from as well."""
        return self.filter is not None and self.filter.startswith(QUEUE_PREFIX)

    def settle(self, receipts: Sequence[Receipt]) -> None:
        """Done with messages: they are gone, and make room for others."""
        self.queue.ack(receipts)
        self.credit(len(receipts))

    def credit(self, count: int) -> None:
        """Let the queue give ``count`` messages more, some at a time."""
        self._unused += count
        consumer = self.consumer
        if consumer is None:
            return
        if self._unused * 4 >= self._window or self._unused + consumer.credit >= self._window:
            unused, self._unused = self._unused, 0
            self._session.core.credit(consumer, unused)


class Held:
    """A message that was sent with QoS 1 or 2 and is not acknowledged, or a released one."""

    __slots__ = ("qos", "receipt", "released", "source")

    def __init__(self, qos: int, source: Source | None, receipt: Receipt) -> None:
        self.qos = qos
        self.source = source  # None: a live one
        self.receipt = receipt
        self.released = False  # PUBREC came


class Stored:
    """The queues that a client consumes from, and what of them waits to be sent."""

    __slots__ = ("_out", "_session", "_sources", "_waiting")

    def __init__(self, session: "MqttSession", out: "Outbound") -> None:
        self._session = session
        self._out = out
        self._sources: list[Source] = []
        self._waiting: deque[_Waiting] = deque()  # leased, with QoS 1 or 2

    def attach(self, queue: Queue, filter: str | None) -> None:
        """Consume from a queue, by a subscription; None: the session's own."""
        session = self._session
        if any(source.queue is queue for source in self._sources):
            return  # subscribed again, with other options
        source = Source(session, queue, filter, self._out.window)
        self._sources.append(source)
        source.consumer = session.core.attach(queue, session, self._out.window, source)

    def detach(self, filter: str, now_ms: int) -> None:
        """A subscription ended: consume no more from its queues."""
        ended = [source for source in self._sources if source.filter == filter]
        for source in ended:
            self._sources.remove(source)
            unsent = [each[1].receipt for each in self._waiting if each[0] is source]
            self._waiting = deque(each for each in self._waiting if each[0] is not source)
            if source.consumer is not None:
                self._session.core.cancel(source.consumer, unsent, now_ms)
        if ended:
            for held in self._out.held.values():
                if held.source in ended:
                    held.source = None  # another may have it now; this client may still answer

    def let_go(self, now_ms: int) -> None:
        """The connection is gone: everything goes back."""
        unsent: dict[Source, list[Receipt]] = {}
        for source, delivery, *_ in self._waiting:
            unsent.setdefault(source, []).append(delivery.receipt)
        for source in self._sources:
            if source.consumer is not None:
                self._session.core.cancel(source.consumer, unsent.get(source, ()), now_ms)
        self._sources.clear()
        self._waiting.clear()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send messages that were leased from a queue."""
        source = consumer.tag
        assert isinstance(source, Source)
        session = self._session
        if source.is_queue and not session.who.allows("queue:Receive", source.queue.name):
            # Not its messages to drop: others may have them.
            session.core.later(lambda: self._give_back(source))
            return
        for delivery in deliveries:
            head = session.server.head(delivery.attributes)
            match = self._match(source, head)
            if match is None:
                source.settle([delivery.receipt])
                self._out.drop(1)
                continue
            qos = min(match.qos, 1 if source.is_queue else head.qos)
            if not qos:
                self._send_one(source, delivery, head, match, 0, 0)
            elif qos == 2 and self._hand_over(source, delivery):
                pass
            else:
                self._waiting.append((source, delivery, head, match, qos))
        self.send()
        session.wake()

    def _give_back(self, source: Source) -> None:
        """Consume no more from a queue that the user may not receive from any more."""
        if source in self._sources and source.filter is not None:
            self.detach(source.filter, self._session.core.now_ms)

    def _hand_over(self, source: Source, delivery: Delivery) -> bool:
        """Move a share's QoS 2 message into the session: no other member may get it any more.

        [MQTT-4.8.2-4], [MQTT-4.8.2-5]
        """
        queue = self._session.queue
        if source.filter is None or queue is None or not source.queue.logged:
            return False
        self._session.core.hand_over(source.queue, delivery.receipt, queue)
        source.credit(1)
        return True

    def _match(self, source: Source, head: StoredHead) -> Match | None:
        """How a stored message comes; None when the client may not have it any more."""
        session = self._session
        if source.filter is None:
            assert session.session is not None
            return session.topics.match(session.session, head.name) or ANY_MATCH
        subscription = session.subscription(source.filter)
        if subscription is None:
            return None
        allowed = source.is_queue or session.who.allows("topic:Subscribe", head.name)
        return merge([subscription]) if allowed else None

    def send(self) -> None:
        """Send stored messages that wait, as far as there is room."""
        waiting = self._waiting
        while waiting and self._out.room > 0:
            source, delivery, head, match, qos = waiting[0]
            if source.filter is None:
                number = packet_id(delivery.seq)
                if number in self._out.held:
                    break  # 32,767 messages later its identifier is still in use
            else:
                number = self._out.take_id()
            waiting.popleft()
            self._send_one(source, delivery, head, match, qos, number)

    def _send_one(
        self,
        source: Source,
        delivery: Delivery,
        head: StoredHead,
        match: Match,
        qos: int,
        number: int,
    ) -> None:
        session = self._session
        wire = head.wire
        if source.filter is not None and source.is_queue:
            wire = source.filter.encode()
        expiry = None
        if delivery.expire_ms:
            left_ms = delivery.expire_ms - session.core.now_ms
            expiry = max(1, -(-left_ms // 1000))  # [MQTT-3.3.2-6]
        hop = encode_hop_properties(expiry_seconds=expiry, subscription_ids=match.ids)
        before, after = publish_head(
            session.version,
            wire,
            qos,
            head.retained or (head.retain and match.retain_as_published),
            qos > 0 and delivery.receives > 1,  # [MQTT-3.3.1-1]
            hop + head.properties,
            len(delivery.body),
        )
        if qos:
            before += PACKET_IDS[number] + after
        if self._out.send_message(before, delivery.body) and qos:
            self._out.held[number] = Held(qos, source, delivery.receipt)
        else:
            source.settle([delivery.receipt])


_Waiting = tuple[Source, Delivery, StoredHead, Match, int]

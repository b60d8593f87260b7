"""Stored messages on their way to a client: leased from queues until it acknowledges them.

The queues are the session's own, those of shares, and ``$queue/NAME``. Each gives as many messages
as the credit it has, which is the client's window; what does not fit into the window of all waits
here, leased, and queues give nothing more while that is much. What was not sent when the connection
ends goes back as if it had never been taken.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ...broker.errors import InvalidArgument
from ...broker.host import ACKED, EXPIRED
from ...broker.lease import Consumer
from ...broker.message import Delivery, Receipt
from ...broker.publication import ANY_MATCH, Match
from ...broker.queue import Queue
from ...broker.session import packet_id
from ...broker.topic import QUEUE_PREFIX
from ...broker.topics import merge
from .packets import V5, encode_hop_properties
from .server import StoredHead, seconds_left

if TYPE_CHECKING:
    from .outbound import Outbound
    from .session import MqttSession

__all__ = ["LEASED_BYTES_MAX", "Held", "Settling", "Source", "Stored"]

LEASED_BYTES_MAX = 1024 * 1024  # of bodies that wait here and packets that wait to be sent, about


class Source:
    """A queue that the client consumes from, and by which subscription; None: its own.

    Attributes:
        paused: it gives nothing now. ended: it gives nothing more; what was sent stays leased.
        refused: what it gave that the user may not have any more, until it goes back.
    """

    __slots__ = (
        "_session",
        "_unused",
        "_window",
        "consumer",
        "ended",
        "filter",
        "paused",
        "queue",
        "refused",
    )

    def __init__(
        self, session: "MqttSession", queue: Queue, filter: str | None, window: int
    ) -> None:
        self._session = session
        self._window = window
        self._unused = 0  # credit that is to be given back
        self.queue = queue
        self.filter = filter
        self.consumer: Consumer | None = None
        self.paused = False
        self.ended = False
        self.refused: list[Receipt] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is held here, and nothing more will come."""
        consumer = self.consumer
        return consumer is None or (consumer.closed and not consumer.held)

    def pause(self) -> None:
        """Have the queue give nothing for now."""
        self.paused = True
        if self.consumer is not None and self.consumer.credit > 0:
            self._unused += self.consumer.credit
            self.consumer.limit(0)

    def go_on(self) -> None:
        """Have it give messages again."""
        self.paused = False
        self.credit(0)

    def end(self, unsent: Sequence[Receipt], now_ms: int) -> None:
        """Take nothing more from the queue. What was sent is the client's until it answers."""
        self.ended = True
        if self.consumer is not None:
            self.queue.drop(self.consumer)
            self.queue.nack(unsent, 0, False, now_ms)

    @property
    def is_queue(self) -> bool:
        """Whether it is a queue by itself, which others may consume from as well."""
        return self.filter is not None and self.filter.startswith(QUEUE_PREFIX)

    def settle(self, receipts: Sequence[Receipt], reason: int = ACKED) -> None:
        """Done with messages: they are gone, and make room for others."""
        self.queue.ack(receipts, reason)
        self.credit(len(receipts))

    def credit(self, count: int) -> None:
        """Let the queue give ``count`` messages more, some at a time."""
        self._unused += count
        consumer = self.consumer
        if consumer is None or self.paused:
            return
        if self._unused * 4 >= self._window or self._unused + consumer.credit >= self._window:
            unused, self._unused = self._unused, 0
            self._session.core.credit(consumer, unused)


class Settling(Protocol):
    """Who is told that messages are done with."""

    def settle(self, receipts: Sequence[Receipt]) -> None:
        """The client has messages."""


class Held:
    """A message that was sent with QoS 1 or 2 and is not acknowledged, or a released one.

    With QoS 2 its source is a queue's.
    """

    __slots__ = ("qos", "receipt", "released", "source")

    def __init__(self, qos: int, source: Settling | None, receipt: Receipt) -> None:
        self.qos = qos
        self.source = source  # None: nobody asks
        self.receipt = receipt
        self.released = False  # PUBREC came


class Stored:
    """The queues that a client consumes from, and what of them waits to be sent."""

    __slots__ = ("_bytes", "_handed", "_out", "_session", "_sources", "_waiting", "is_paused")

    def __init__(self, session: "MqttSession", out: "Outbound") -> None:
        self._session = session
        self._out = out
        self._sources: list[Source] = []
        self._waiting: deque[_Waiting] = deque()  # leased
        self._bytes = 0  # of their bodies
        self._handed: dict[Source, int] = {}  # messages that moved to the session, by share
        self.is_paused = False

    def attach(self, queue: Queue, filter: str | None) -> None:
        """Consume from a queue, by a subscription; None: the session's own."""
        session = self._session
        if any(source.queue is queue and not source.ended for source in self._sources):
            return  # subscribed again, with other options
        window = min(self._out.window, session.limits.credit_max)
        source = Source(session, queue, filter, window)
        self._sources.append(source)
        source.consumer = session.core.attach(queue, session, window, source)

    def detach(self, filter: str, now_ms: int) -> None:
        """A subscription ended: consume no more from its queues.

        What was sent already is delivered to the end. [MQTT-3.10.4-3]
        """
        for source in self._sources:
            if source.filter == filter and not source.ended:
                source.end(self._take_back(source), now_ms)
        self._forget_ended()

    def _forget_ended(self) -> None:
        """Let go of queues of which nothing is held here any more."""
        self._sources = [source for source in self._sources if not source.is_over]

    def _take_back(self, source: Source) -> list[Receipt]:
        """What of a queue was leased and never sent; none of it is here any longer."""
        unsent = [each[1] for each in self._waiting if each[0] is source]
        if unsent:
            self._waiting = deque(each for each in self._waiting if each[0] is not source)
            self._bytes -= sum(len(delivery.body) for delivery in unsent)
        refused, source.refused = source.refused, []
        return [delivery.receipt for delivery in unsent] + refused

    def let_go(self, now_ms: int) -> None:
        """The connection is gone: everything goes back."""
        core = self._session.core
        if core.failed is None:
            for held in self._out.held.values():
                source = held.source
                if held.qos == 2 and isinstance(source, Source) and not held.released:
                    if source.filter:
                        source.queue.ack([held.receipt])  # [MQTT-4.8.2-5]: never to anybody else
        for source in self._sources:
            if source.consumer is not None:
                core.cancel(source.consumer, self._take_back(source), now_ms)
        self._sources.clear()
        self._waiting.clear()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send messages that were leased from a queue."""
        source = consumer.tag
        assert isinstance(source, Source)
        session = self._session
        if source.is_queue and not session.who.allows("queue:Receive", source.queue.name):
            # Not its messages to drop: others may have them.
            source.refused += [delivery.receipt for delivery in deliveries]
            session.core.later(partial(self._give_back, source))
            return
        for delivery in deliveries:
            head = session.server.head(delivery.attributes)
            match = self._match(source, head)
            if match is None:
                session.core.later(partial(self._pass_over, source, delivery.receipt, head.name))
                continue
            qos = min(match.qos, 1 if source.is_queue else head.qos)
            if qos == 2 and self._hand_over(source, delivery):
                continue
            self._waiting.append((source, delivery, head, match, qos))
            self._bytes += len(delivery.body)
        self.send()
        if not self.is_paused and self._bytes + self._out.out_bytes > LEASED_BYTES_MAX:
            self.is_paused = True
            for source in self._sources:
                source.pause()
        session.wake()

    def go_on(self) -> None:
        """There may be room again for what queues have."""
        if self._bytes + self._out.out_bytes <= LEASED_BYTES_MAX:
            self.is_paused = False
            for source in self._sources:
                source.go_on()

    def _pass_over(self, source: Source, receipt: Receipt, topic: str) -> None:
        """A message of a share that this member may not have: for another, or for nobody."""
        session = self._session.session
        if session is None or source not in self._sources:
            return  # all of it went back
        clients = self._session.core.clients
        if not clients.pass_over(session, source.queue, receipt, topic):
            self._out.drop(1)
        source.credit(1)

    def _give_back(self, source: Source) -> None:
        """Consume no more from a queue that the user may not receive from any more."""
        if source in self._sources and source.consumer is not None:
            unsent = self._take_back(source)
            self._session.core.cancel(source.consumer, unsent, self._session.core.now_ms)
            self._forget_ended()

    def _hand_over(self, source: Source, delivery: Delivery) -> bool:
        """Move a share's QoS 2 message into the session: no other member may get it any more.

        [MQTT-4.8.2-4], [MQTT-4.8.2-5]
        """
        queue = self._session.queue
        if source.filter is None or queue is None or not source.queue.logged:
            return False
        self._session.core.hand_over(source.queue, delivery.receipt, queue)
        # Others shall have some, too: its credit comes back when the session has room for more.
        self._handed[source] = self._handed.get(source, 0) + 1
        return True

    def _return_credit(self) -> None:
        """Let shares go on whose messages were handed over, once most of these are delivered."""
        queue = self._session.queue
        if queue is None or queue.live * 2 <= self._out.window:
            handed, self._handed = self._handed, {}
            for source, count in handed.items():
                source.credit(count)

    def _match(self, source: Source, head: StoredHead) -> Match | None:
        """How a stored message comes; None when the client may not have it any more."""
        session = self._session
        if source.filter is None:
            assert session.session is not None
            try:
                return session.topics.match(session.session, head.name) or ANY_MATCH
            except InvalidArgument:  # its topic was one when it came; limits have changed
                return ANY_MATCH
        subscription = session.subscription(source.filter)
        if subscription is None:
            return None
        allowed = source.is_queue or session.who.allows("topic:Subscribe", head.name)
        return merge([subscription]) if allowed else None

    def send(self) -> None:
        """Send stored messages that wait, as far as there is room."""
        waiting = self._waiting
        out = self._out
        now_ms = self._session.core.now_ms
        while waiting and not out.slow:
            source, delivery, head, match, qos = waiting[0]
            number = 0
            if qos:
                if out.room <= 0:
                    break
                own = source.filter is None
                number = packet_id(delivery.seq) if own else out.take_id()
                if own and number in out.held:
                    break  # 32,767 messages later its identifier is still in use
            waiting.popleft()
            self._bytes -= len(delivery.body)
            if 0 < delivery.expire_ms <= now_ms and delivery.receives == 1:
                source.settle([delivery.receipt], EXPIRED)  # [MQTT-3.3.2-5]
            else:
                self._send_one(source, delivery, head, match, qos, number)
        if self._handed:
            self._return_credit()
        if self.is_paused:
            self.go_on()

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
        properties = b""
        if session.version == V5:
            left = seconds_left(delivery.expire_ms, session.core.now_ms)
            hop = encode_hop_properties(expiry_seconds=left, subscription_ids=match.ids)
            properties = hop + head.properties
        sent = self._out.send_publish(
            wire,
            qos,
            head.retained or (head.retain and match.retain_as_published),
            # [MQTT-3.3.1-1]: sent before to this client, with this identifier
            qos > 0 and source.filter is None and delivery.receives > 1,
            properties,
            delivery.body,
            number,
        )
        if sent and qos:
            self._out.held[number] = Held(qos, source, delivery.receipt)
        else:
            source.settle([delivery.receipt])


_Waiting = tuple[Source, Delivery, StoredHead, Match, int]

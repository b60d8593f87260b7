"""A subscription to all queues whose names match, as ActiveMQ has it: ``/queue/PRICE.>``.

One source with a consumer at each queue: at those that are there, and at each that is declared
later. Rules:

1. All queues share the prefetch. No consumer ever has more credit than the subscription has room:
   what one queue delivers is taken from all others in the same step, so the broker cannot send too
   much. A consumer is given more only when it has less than half of that: otherwise each ACK would
   wake every queue.
2. Queues take turns: whoever delivered is given credit last.
3. Queues that it cannot consume from are left out without a word: those to which the user has no
   right, temporary ones, FIFO queues if there is a selector, and those with a consumer that lets no
   other in. This is decided once, when the subscription or the queue begins.
4. A queue that is deleted is none of its queues any more. What was sent from there and not
   acknowledged still counts until it is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ...broker.errors import BraidError, Conflict, LimitExceeded, NotFound
from ...broker.lease import Consumer, Exclusivity
from ...broker.message import Delivery
from ...broker.selectors import Selector
from .destinations import TEMPORARY_QUEUE_PREFIX, Queue, show
from .messages import Writer
from .sources import Source

if TYPE_CHECKING:
    from ...broker.queue import Queue as BrokerQueue
    from .session import StompSession
    from .subscribing import Subscription

__all__ = ["WildcardSource"]


class WildcardSource(Source):
    """Consumers of many queues, and the sink of them all.

    Args:
        filter: of the names of queues: see ``queuewatch.py``.
        selector, priority, exclusive: of each consumer.
        write_to: makes a writer for the messages that come from a destination.
    """

    def __init__(
        self,
        session: "StompSession",
        subscription: "Subscription",
        filter: str,
        selector: str,
        priority: int,
        exclusive: Exclusivity,
        write_to: Callable[[str], Writer],
    ) -> None:
        super().__init__(session, subscription, cast("Writer", None))  # of the queue that delivers
        self._filter = filter
        self._selector = selector
        self._priority = priority
        self._exclusive = exclusive
        self._write_to = write_to
        self._consumers: dict[Consumer, Writer] = {}  # whoever delivered last comes last
        self._declared: list[BrokerQueue] = []  # where it does not consume yet
        self._credit = 0  # how much more may be delivered, by all of them

    def begin(self) -> None:
        """Consume from what is there and what will come. Raises BraidError."""
        if self._selector:
            Selector.parse(self._selector)
        for queue in self.session.core.queue_watch.watch(self._filter, self):
            self._consume(queue)

    # --- queues come and go ---

    def queue_declared(self, queue: "BrokerQueue") -> None:
        """There is one more."""
        if not self._declared:
            self.session.core.later(self._consume_declared)
        self._declared.append(queue)

    def _consume_declared(self) -> None:
        declared, self._declared = self._declared, []
        session = self.session
        try:
            for queue in declared:
                if session.core.queues.get(queue.name) is queue:
                    self._consume(queue)
        except BraidError as error:
            session.fail_with(error)
            session.wake()
        else:
            self._share_credit()

    def _consume(self, queue: "BrokerQueue") -> None:
        session, name = self.session, queue.name
        if name.startswith(TEMPORARY_QUEUE_PREFIX) or (queue.fifo and self._selector):
            return
        if not session.who.allows("queue:Receive", name):
            return
        most = session.limits.queues_per_subscription_max
        if len(self._consumers) >= most:
            raise LimitExceeded(f"a subscription to wildcards consumes from at most {most} queues")
        try:
            consumer = session.core.consume(
                session.who,
                name,
                self,
                0,
                self._selector,
                None,
                session.core.now_ms,
                self._priority,
                self._exclusive,
            )
        except Conflict:  # somebody lets no other in
            return
        writer = self._write_to(show(Queue(name), session.dialect))
        writer.read_queue(name)
        self._consumers[consumer] = writer

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """A queue is gone, or nothing can be read any more."""
        self._consumers.pop(consumer, None)
        if not isinstance(error, NotFound):
            self.session.fail_with(error)
            self.session.wake()
            return
        held = self.subscription.held
        for tag, (source, queue, receipt, name) in held.items():
            if source is self and queue == consumer.queue_name:
                held[tag] = (self, "", receipt, name)  # nobody needs to settle it

    # --- messages ---

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send messages that were leased."""
        session = self.session
        self.writer = self._consumers[consumer] = self._consumers.pop(consumer)
        before = len(session.out)
        self.send_all(deliveries, consumer.queue_name, session.core.now_ms)
        self.learn(len(deliveries), len(session.out) - before)
        self._credit -= len(deliveries)
        self._share_credit()
        session.subscribing.look_at(self)
        if len(session.out) > session.limits.outbound_bytes_max:
            session.subscribing.hold_back()

    def pump(self, now_ms: int) -> None:
        self._credit = min(self.room, self._window)
        self._share_credit()

    def hold_back(self) -> None:
        if self._credit:
            self._credit = 0
            self._share_credit()
            self.session.subscribing.look_at(self)

    def _share_credit(self) -> None:
        """Let no consumer have more credit than there is, nor less than half of it."""
        core, credit = self.session.core, self._credit
        for consumer in self._consumers:
            if consumer.credit > credit:
                consumer.limit(credit)
            elif consumer.credit * 2 < credit:
                core.credit(consumer, credit - consumer.credit)

    def close(self, now_ms: int) -> None:
        session = self.session
        session.core.queue_watch.unwatch(self._filter, self)
        self._declared.clear()
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers:
            unsent = session.acknowledging.unsent(consumer.queue_name)
            session.core.cancel(consumer, unsent, now_ms)

"""Which message is posted when: the decisions of the sender, without a socket and a loop.

Each webhook is a :class:`_Target` that consumes its queue. How much credit its consumer has says
how many messages may be posted now: as many as its own concurrency, its breaker, its rate limit and
the slots of all webhooks together leave room for. What comes all the same goes back as if it had
never been received, and its target waits in line for a slot.

Rules:

1. A message is held while it is posted, by a lease that ends with this consumer. Acknowledged means
   delivered; so a broker that is killed posts again: at least once.
2. Attempts are counted by the queue as receives, in the log, so a restart goes on counting.
3. A failure gives the message back with the delay that the retry policy names; an answer that is
   final, or the last failure, gives it up.
4. While a breaker is open nothing is posted and nothing counted.
5. What is not confirmed is posted its token and nothing else.

Whoever has sockets calls :meth:`Dispatcher.answered` for every request that ``start`` was given.
Time is what ``now_ms`` says; deadlines go through the core's alarms.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from ...broker.core import Core
from ...broker.errors import BraidError
from ...broker.lease import Consumer
from ...broker.message import Delivery
from ...broker.pacing import CircuitBreaker, RateLimit
from ...broker.signing import EnvelopeSigner
from ...broker.webhook import Verdict, judge, webhook_name
from ...broker.webhook_url import WebhookUrl, parse_webhook_url
from ...broker.webhookqueue import WebhookQueue
from ...storage.errors import StorageError
from ...storage.log import Durability
from .request import Post, Unsigned, confirmation, notification

__all__ = ["CONFIRMATIONS_MAX", "Dispatcher", "Outcome", "Request"]

CONFIRMATIONS_MAX = 8  # requests for confirmation that run at the same time
_ALARM_IDS = -(1 << 40)  # far from all others: no two alarms have one id

logger = logging.getLogger(__name__)


class Outcome(Protocol):
    """What came of a request; see ``client.Answer``."""

    @property
    def status(self) -> int: ...
    @property
    def error(self) -> str: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def detail(self) -> str: ...


class _NotSigned(msgspec.Struct, frozen=True):
    """The outcome of what could not be signed."""

    status: int = 0
    error: str = "unsigned"
    retry_after_ms: int = 0
    detail: str = "no signing key is configured"


class Request(msgspec.Struct, frozen=True, eq=False):
    """Something to post. ``delivery`` is None when it asks for confirmation."""

    target: "_Target"
    url: WebhookUrl
    post: Post
    timeout_ms: int
    delivery: Delivery | None


class _Target:
    """One webhook, as the dispatcher sees it."""

    def __init__(self, dispatcher: "Dispatcher", queue: WebhookQueue) -> None:
        self.id = _ALARM_IDS - queue.id
        self.alarm_ms = 0
        self.queue = queue
        self.name = webhook_name(queue.name)
        self.consumer: Consumer | None = None
        self.running = 0
        self.attempts = 0  # to ask for confirmation, with this token
        self.asking = False  # a request for confirmation runs, or waits to be kept
        self.ask_ms = 0  # when to ask again; 0: not any more
        self._dispatcher = dispatcher
        self._set = queue.webhook.settings
        self.configure()

    def configure(self) -> None:
        """Take over changed settings. A breaker and a rate limit begin anew."""
        settings = self._set = self.queue.webhook.settings
        self.url = parse_webhook_url(settings.url)
        self.breaker = CircuitBreaker(
            settings.breaker_failures_max, settings.breaker_open_ms, settings.breaker_open_ms_max
        )
        self.rate = RateLimit(settings.rate_per_second_max)

    @property
    def outdated(self) -> bool:
        """Whether the settings have changed since :meth:`configure`."""
        return self._set != self.queue.webhook.settings

    @property
    def ready(self) -> int:
        """How many messages wait to be posted at once."""
        queue = self.queue
        return queue.live - len(queue.leases) - queue.held

    def room(self, now_ms: int) -> int:
        """How many more requests its own settings allow now."""
        room = self._set.concurrency_max - self.running
        for limit in (self.breaker.allows(now_ms), self.rate.allows(now_ms)):
            room = room if limit is None else min(room, limit)
        return max(room, 0)

    def tick(self, now_ms: int) -> None:
        """A pause is over."""
        self.alarm_ms = 0
        self._dispatcher.look_at(self)


class Dispatcher:
    """Decides what is posted.

    Args:
        core: the broker. now_ms: its clock.
        start: begins a request; :meth:`answered` must be called for each, later, not from within.
        make_token: a text that nobody can guess.
        concurrency_max: requests of all webhooks together, beside those for confirmation.
        public_url: where this broker is reached, for SubscribeURL; may be empty.
        signer: signs envelopes; None: nobody can.
    """

    def __init__(
        self,
        core: Core,
        now_ms: Callable[[], int],
        start: Callable[[Request], None],
        make_token: Callable[[], str],
        concurrency_max: int,
        public_url: str = "",
        signer: EnvelopeSigner | None = None,
    ) -> None:
        self._core = core
        self._now_ms = now_ms
        self._start = start
        self._make_token = make_token
        self._free = concurrency_max
        self._running = 0
        self._public_url = public_url
        self._signer = signer
        self._targets: dict[WebhookQueue, _Target] = {}
        self._waiting: dict[_Target, None] = {}  # in line for a slot
        self._confirmations_free = CONFIRMATIONS_MAX
        self._unasked: dict[_Target, None] = {}  # in line to be asked for confirmation
        self._draining = False

    # What the core and the sender call -----------------------------------------------------------

    def open(self) -> None:
        """Begin with the webhooks that there are, and hear of others."""
        self._core.on_webhook = self._changed
        for queue in list(self._core.webhooks.values()):
            self._changed(queue)

    def drain(self) -> None:
        """Begin nothing more; what runs may still be answered."""
        del self._core.on_webhook
        self._draining = True
        self._waiting.clear()
        self._unasked.clear()
        for target in self._targets.values():
            self._grant(target, 0)

    def close(self) -> None:
        """Give back what is held."""
        for target in self._targets.values():
            if target.consumer is not None:
                self._core.cancel(target.consumer, (), self._now_ms())
        self._targets.clear()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """The queue of a webhook has leased messages to us: post them."""
        target = consumer.tag
        assert isinstance(target, _Target)
        back = []
        for delivery in deliveries:
            if self._free > 0 and target.room(self._now_ms()) > 0:
                self._begin(target, delivery)
            else:
                back.append(delivery.receipt)
        if back:
            target.queue.nack(back, 0, False, self._now_ms())
        self.look_at(target)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The webhook was deleted, or the broker has failed."""
        target = consumer.tag
        assert isinstance(target, _Target)
        target.consumer = None

    def answered(self, request: Request, outcome: Outcome) -> None:
        """A request has ended."""
        target, delivery = request.target, request.delivery
        try:
            if delivery is None:
                self._confirmations_free += 1
                self._asked(target, outcome)
                self._ask_next()
                return
            self._free += 1
            self._running -= 1
            target.running -= 1
            if self._core.failed is None and self._targets.get(target.queue) is target:
                self._settle(target, delivery, outcome)
            self._next_in_line()
            self.look_at(target)
        except StorageError as error:
            self._core.fail(error)

    def look_at(self, target: _Target) -> None:
        """Give a target the credit that it may have now, or set its alarm."""
        gone = self._targets.get(target.queue) is not target
        if self._core.failed is not None or gone or self._draining:
            return
        now_ms = self._now_ms()
        target.queue.activity.breaker = target.breaker.state(now_ms)
        if target.queue.webhook.state(now_ms) != "confirmed":
            self._grant(target, 0)
            self._consider_asking(target, now_ms)
            return
        room = target.room(now_ms)
        if room and (self._free <= 0 or self._waiting):
            self._waiting[target] = None
            room = 0
        # One that has nothing ready may be told of the first message; the rest follows from there.
        self._grant(target, min(room, self._free, target.ready or 1))
        if room == 0:
            self._pause(target, now_ms)

    # Credit --------------------------------------------------------------------------------------

    def _changed(self, queue: WebhookQueue) -> None:
        """A webhook is new, was changed, or is gone."""
        target = self._targets.get(queue)
        if self._core.webhooks.get(webhook_name(queue.name)) is not queue:
            if target is not None:
                del self._targets[queue]
                self._waiting.pop(target, None)
                self._unasked.pop(target, None)
            return
        if target is None:
            target = self._targets[queue] = _Target(self, queue)
            target.consumer = self._core.attach(queue, self, 0, target)
        elif target.outdated:
            target.configure()
        self.look_at(target)

    def _grant(self, target: _Target, credit: int) -> None:
        """Let the consumer have exactly this credit."""
        consumer = target.consumer
        if consumer is None or consumer.closed:
            return
        if consumer.credit > credit:
            consumer.limit(credit)
        elif consumer.credit < credit:
            self._core.credit(consumer, credit - consumer.credit)

    def _next_in_line(self) -> None:
        """Slots are free: those who wait get one each, in turn.

        A slot that is promised may not be used, because what was ready has expired meanwhile. As
        long as something runs, its end comes back here; else nobody must be left waiting.
        """
        now_ms = self._now_ms()
        promised = 0
        while self._waiting and (promised < self._free or not self._running):
            target = next(iter(self._waiting))
            del self._waiting[target]
            room = target.room(now_ms)
            self._grant(target, min(room, 1))
            if not room:
                self._pause(target, now_ms)
            elif target.ready:
                promised += 1

    def _pause(self, target: _Target, now_ms: int) -> None:
        """Look again when the breaker and the rate limit have something new to say."""
        self._set_alarm(target, max(target.breaker.due_ms(), target.rate.due_ms(now_ms)))

    def _set_alarm(self, target: _Target, due_ms: int) -> None:
        if due_ms > self._now_ms() and (not target.alarm_ms or due_ms < target.alarm_ms):
            target.alarm_ms = due_ms
            self._core.alarm(target, due_ms)

    # Posting -------------------------------------------------------------------------------------

    def _begin(self, target: _Target, delivery: Delivery) -> None:
        now_ms = self._now_ms()
        webhook = target.queue.webhook
        self._free -= 1
        self._running += 1
        target.running += 1
        target.breaker.begin(now_ms)
        target.rate.begin(now_ms)
        target.queue.activity.posted += 1
        try:
            post = notification(
                target.name, webhook, delivery, self._core.instance, self._signer, now_ms
            )
        except Unsigned:
            request = Request(target, target.url, Post({}, b""), 0, delivery)
            self._core.later(lambda: self.answered(request, _NotSigned()))
            return
        self._start(Request(target, target.url, post, webhook.settings.timeout_ms, delivery))

    def _settle(self, target: _Target, delivery: Delivery, outcome: Outcome) -> None:
        """A message was posted: what becomes of it, and of the breaker."""
        queue, now_ms = target.queue, self._now_ms()
        activity = queue.activity
        verdict = judge(outcome.status) if outcome.status else Verdict.RETRY
        if verdict is Verdict.DELIVERED:
            queue.ack([delivery.receipt])
            activity.delivered += 1
            activity.error = ""
            self._up(target)
            return
        reason = f"http {outcome.status}" if outcome.status else outcome.error
        activity.failed += 1
        activity.error, activity.error_ms = reason, now_ms
        fields = {"webhook": target.name, "error": reason, "detail": outcome.detail}
        logger.debug("a webhook was not delivered to", extra={"fields": fields})
        if verdict is Verdict.REFUSED:
            self._up(target)  # somebody is there, and answers
            self._core.give_up(queue, delivery.receipt, reason, now_ms)
            return
        if target.breaker.failed(now_ms):
            logger.warning("a webhook fails: it is left alone", extra={"fields": fields})
        delay_ms = queue.webhook.settings.retry.delay_ms(delivery.receives)
        if delay_ms is None:
            reason = f"{reason} after {delivery.receives} attempts"
            self._core.give_up(queue, delivery.receipt, reason, now_ms)
        else:
            delay_ms = max(delay_ms, outcome.retry_after_ms)
            queue.nack([delivery.receipt], delay_ms, True, now_ms)

    def _up(self, target: _Target) -> None:
        if target.breaker.state(self._now_ms()) != "closed":
            logger.info("a webhook works again", extra={"fields": {"webhook": target.name}})
        target.breaker.succeeded()

    # Confirmation --------------------------------------------------------------------------------

    def _consider_asking(self, target: _Target, now_ms: int) -> None:
        """Ask whoever is there to confirm, unless that is done or it is not time."""
        state = target.queue.webhook.state(now_ms)
        if state == "expired" or target.asking:
            return
        if state == "pending" and target.attempts and not 0 < target.ask_ms <= now_ms:
            return
        self._unasked[target] = None
        self._ask_next()

    def _ask_next(self) -> None:
        while self._unasked and self._confirmations_free > 0:
            target = next(iter(self._unasked))
            del self._unasked[target]
            if target.queue.webhook.state(self._now_ms()) != "confirmed":
                self._confirmations_free -= 1
                self._ask(target)

    def _ask(self, target: _Target) -> None:
        """Ask, once the token is kept: it must still be good when it comes back."""
        target.asking = True
        if target.queue.webhook.state(self._now_ms()) != "pending":
            target.attempts = 0
            self._core.ask_webhook(target.queue, self._make_token(), self._now_ms())
        target.attempts += 1
        self._core.when_kept(Durability.SYNC, self._token_kept, target)

    def _token_kept(self, target: object, error: BraidError | None) -> None:
        assert isinstance(target, _Target)
        webhook = target.queue.webhook
        if error is not None or self._targets.get(target.queue) is not target:
            self._confirmations_free += 1
            return
        timeout_ms = webhook.settings.timeout_ms
        try:
            now_ms, instance = self._now_ms(), self._core.instance
            post = confirmation(
                target.name, webhook, instance, self._public_url, self._signer, now_ms
            )
        except Unsigned:
            request = Request(target, target.url, Post({}, b""), timeout_ms, None)
            self._core.later(lambda: self.answered(request, _NotSigned()))
            return
        self._start(Request(target, target.url, post, timeout_ms, None))

    def _asked(self, target: _Target, outcome: Outcome) -> None:
        """Whoever is there was asked: ask again later if that went wrong."""
        target.asking = False
        target.ask_ms = 0
        if self._core.failed is not None or self._targets.get(target.queue) is not target:
            return
        verdict = judge(outcome.status) if outcome.status else Verdict.RETRY
        activity = target.queue.activity
        if verdict is Verdict.DELIVERED:
            activity.error = ""
        else:
            activity.error = f"http {outcome.status}" if outcome.status else outcome.error
            activity.error_ms = self._now_ms()
            fields = {"webhook": target.name, "error": activity.error, "detail": outcome.detail}
            logger.info("a webhook could not be asked to confirm", extra={"fields": fields})
        delay_ms = target.queue.webhook.settings.retry.delay_ms(target.attempts)
        if verdict is Verdict.RETRY and delay_ms is not None:
            target.ask_ms = self._now_ms() + max(delay_ms, outcome.retry_after_ms, 1)
            self._set_alarm(target, target.ask_ms)
        if target.queue.webhook.state(self._now_ms()) == "declared":
            self.look_at(target)  # its URL was changed meanwhile

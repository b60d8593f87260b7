"""A feed: what one subscription of a program gets, whatever way it comes.

    live       published while the feed is there, held by nobody else: a bounded queue in memory
    retained   what the topics held when the subscription was made: searched as fast as it is taken
    leased     from the queues of a durable session or of a share, acknowledged like all queues

Rules:

1. All of it is paid for with one credit, which the owner grants. The consumers at the queues always
   have as much credit as the feed, so it never holds more than was asked for.
2. Live messages wait in the bounds of ``live_queue_messages_max`` and ``live_queue_bytes_max``;
   what finds no room there is dropped and counted, never anything that was taken.
3. Nothing goes back in time. Live messages never wait for retained ones, and what a topic retains
   since the subscription was made is left out of the search: it comes, or came, by itself.
4. The owner calls; a feed only tells it to look (:class:`FeedOwner`).
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from ..storage.log import Durability
from .errors import BraidError, Conflict, NotFound, Unavailable
from .lease import Consumer
from .message import Delivery, Receipt
from .publication import Match, Publication, Subscription
from .publishing import LivePublished, Published, live_messages
from .queue import Queue
from .retained import RetainedSearch
from .session import Session
from .topic import has_wildcards, matches

if TYPE_CHECKING:
    from .core import Core

__all__ = ["MEMORY_PREFIX", "Feed", "FeedOwner", "source_name"]

MEMORY_PREFIX = "$memory/"  # before a share's name: its queue in memory
_MESSAGE_BYTES = 64  # what a message takes beside its body and headers, about
_SEARCH_MESSAGES = 64  # retained messages taken at a time


class FeedOwner(Protocol):
    """Whoever made a feed. Called in the middle of other people's work: only take a note."""

    def feed_ready(self, feed: "Feed") -> None:
        """There may be something to :meth:`Feed.take`."""

    def feed_ended(self, feed: "Feed", error: BraidError) -> None:
        """The broker ended it; nothing more will come."""


class Feed:
    """One subscription: the ``Subscriber`` of its session, the ``Sink`` of its queues.

    Attributes:
        session: known once it was opened. resumed: whether the session was there before.
        credit: how many messages more may be taken. dropped: how many found no room.
        muted: live messages are not for it now: its owner publishes what it does not want back.
        tag: whatever the owner wants to find here.
    """

    __slots__ = (
        "_begun_lsn",
        "_consumers",
        "_core",
        "_ended",
        "_leased",
        "_live",
        "_live_bytes",
        "_owner",
        "_search",
        "_searched",
        "_searched_wide",
        "_searches",
        "credit",
        "dropped",
        "muted",
        "resumed",
        "session",
        "tag",
    )

    def __init__(self, core: "Core", owner: FeedOwner, tag: object) -> None:
        self.session = cast(Session, None)
        self.resumed = False
        self.credit = 0
        self.dropped = 0
        self.muted = False
        self.tag = tag
        self._core = core
        self._owner = owner
        self._begun_lsn = core.log.next_lsn
        self._consumers: dict[Queue, Consumer] = {}
        self._leased: list[Published] = []
        self._live: deque[LivePublished] = deque()
        self._live_bytes = 0
        self._searches: deque[str] = deque()  # filters, one after the other
        self._search: RetainedSearch | None = None  # of the first of them
        self._searched: set[str] = set()  # those that are done: without wildcards
        self._searched_wide: list[str] = []  # ... and with
        self._ended = False

    # What the core calls ----------------------------------------------------------------------

    def publish(self, publication: Publication, match: Match) -> None:
        """Take live messages, as far as there is room."""
        if self.muted:
            return
        limits = self._core.limits
        live = self._live
        for message in live_messages(publication, self._core.now_ms):
            size = len(message.body) + len(message.attributes) + _MESSAGE_BYTES
            if (
                len(live) >= limits.live_queue_messages_max
                or self._live_bytes + size > limits.live_queue_bytes_max
            ):
                self.dropped += 1
                self._core.topics.dropped += 1
                self._core.advising.discarded(self.session, publication.topic, 1)
                continue
            live.append(message)
            self._live_bytes += size
        self._owner.feed_ready(self)

    def attach(self, queue: Queue, subscription: Subscription | None) -> None:
        """Consume from a queue of the session, or of a share that it is a member of."""
        if queue not in self._consumers and not self._ended:
            self._consumers[queue] = self._core.attach(queue, self, self.credit, None)

    def detach(self, share: str, now_ms: int) -> None:
        """Leave the queues of a share."""
        for queue in [queue for queue in self._consumers if queue.name == share]:
            self._core.cancel(self._consumers.pop(queue), (), now_ms)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Take leased messages; those of a share that this user may not have are passed over."""
        queue = consumer.queue
        assert queue is not None
        name = source_name(queue)
        topics = self._core.topics
        for d in deliveries:
            # A session's own queue has asked already.
            if queue.kind == "share" and not topics.may_deliver(self.session, d.attributes):
                topic = topics.topic_of(d.attributes)
                self._core.later(partial(self._pass_over, queue, d.receipt, topic))
                continue
            self.credit -= 1
            self._leased.append(_leased(d, name))
        self._share_credit()
        self._owner.feed_ready(self)

    def _pass_over(self, queue: Queue, receipt: Receipt, topic: str) -> None:
        if not self._ended and not self._core.clients.pass_over(
            self.session, queue, receipt, topic
        ):
            self._core.topics.dropped += 1

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """A queue is gone; without the session's own there is no session."""
        queue = consumer.queue
        if queue is not None:
            self._consumers.pop(queue, None)
        own = queue is not None and queue is self.session.queue
        if own or not isinstance(error, NotFound):
            self._end(error)

    def replaced(self) -> None:
        """Another connection took the session over."""
        self._end(Conflict(f"somebody else took the session {self.session.name!r} over"))

    def ended(self, reason: str) -> None:
        """The session or the connection was ended."""
        self._end(Unavailable(reason))

    # What the owner calls ---------------------------------------------------------------------

    def search(self, filter: str) -> None:
        """Look for retained messages that match ``filter``, and none that was searched before."""
        self._searches.append(filter)
        self._more()

    def grant(self, count: int) -> None:
        """Let the owner take ``count`` messages more."""
        if not self._ended and count > 0:
            self.credit = min(self.credit + count, self._core.limits.credit_max)
            self._share_credit()
            if self._live or self._searches:
                self._more()

    def take(self, now_ms: int) -> Sequence[Published]:
        """All that came and is paid for."""
        found = self._leased
        self._leased = []
        live = self._live
        paid = self.credit
        while live and self.credit:
            message = live.popleft()
            self._live_bytes -= len(message.body) + len(message.attributes) + _MESSAGE_BYTES
            if not 0 < message.expire_ms <= now_ms:
                found.append(message)
                self.credit -= 1
        if self._searches and self.credit and not self._ended:
            self._take_retained(found, now_ms)
        if self.credit != paid:
            self._share_credit()
        return found

    def _take_retained(self, found: list[Published], now_ms: int) -> None:
        while self._searches and self.credit:
            search = self._search
            if search is None:
                topics, filter = self._core.topics, self._searches[0]
                search = self._search = topics.search_retained(self.session, filter, self._more)
            most = min(self.credit, _SEARCH_MESSAGES)
            for topic, _, m in search.take(most, now_ms):
                if m.id >= self._begun_lsn or self._was_searched(topic):
                    continue
                found.append(
                    Published(0, 0, 1, m.id, m.time_ms, m.attributes, m.body, m.expire_ms, "", True)
                )
                self.credit -= 1
            if search.done:
                self._end_search()
                continue
            if not search.loading:
                self._core.later(self._more)
            return

    def _was_searched(self, topic: str) -> bool:
        """Whether a filter before this one has found the topic."""
        return topic in self._searched or any(
            matches(filter, topic) for filter in self._searched_wide
        )

    def _end_search(self) -> None:
        filter = self._searches.popleft()
        self._search = None
        if has_wildcards(filter):
            self._searched_wide.append(filter)
        else:
            self._searched.add(filter)

    def close(self, now_ms: int, unprocessed: Sequence[Receipt] = ()) -> None:
        """Stop. What is leased goes back; ``unprocessed``, and what was not taken, uncounted."""
        if self._ended:
            return
        self._ended = True
        unseen = [*unprocessed, *(message.receipt for message in self._leased)]
        for queue, consumer in self._consumers.items():
            self._core.cancel(consumer, _held_by(consumer, queue, unseen), now_ms)
        self._consumers.clear()
        self._leased.clear()
        self._live.clear()
        self._searches.clear()
        self._search = None
        self._live_bytes = 0
        if self._core.failed is None:
            self._core.clients.close(self.session, self, now_ms)

    # The rest ---------------------------------------------------------------------------------

    def _end(self, error: BraidError) -> None:
        if not self._ended:
            self.close(self._core.now_ms)
            self._owner.feed_ended(self, error)

    def _more(self) -> None:
        if not self._ended:
            self._owner.feed_ready(self)

    def _share_credit(self) -> None:
        """Let every consumer have as much credit as the feed."""
        for queue, consumer in self._consumers.items():
            if consumer.credit > self.credit:
                consumer.limit(self.credit)
            elif consumer.credit < self.credit:
                queue.feed(consumer, self.credit - consumer.credit)


def source_name(queue: Queue) -> str:
    """What settles messages of a queue: a share may have two of the same name."""
    in_memory = queue.kind == "share" and queue.settings.durability is Durability.MEMORY
    return MEMORY_PREFIX + queue.name if in_memory else queue.name


def _held_by(consumer: Consumer, queue: Queue, receipts: Sequence[Receipt]) -> list[Receipt]:
    held = []
    for seq, token in receipts:
        lease = queue.leases.holds(seq, token)
        if lease is not None and lease.consumer is consumer:
            held.append((seq, token))
    return held


def _leased(d: Delivery, queue: str) -> Published:
    return Published(
        d.seq, d.token, d.receives, d.id, d.time_ms, d.attributes, d.body, d.expire_ms, queue
    )

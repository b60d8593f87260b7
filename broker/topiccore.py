"""What clients can ask about topics and sessions: the gate before ``topics.py`` and ``clients.py``.

The rules are those of ``core.py``, of which this is a part.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ..storage.log import Durability
from .access import Principal
from .engine import Engine
from .errors import (
    BraidError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    QueueFull,
)
from .feed import MEMORY_PREFIX, Feed, FeedOwner
from .publication import Subscription
from .publishing import Posted, batches
from .queue import Queue
from .session import Session
from .topic import check_filter, has_wildcards, parse_shared
from .topiclisting import LevelListing, Listed, TopicListing
from .verbs import Interest, LevelInfo, SessionInfo, TopicInfo

if TYPE_CHECKING:
    from .core import Core

__all__ = ["PAGE_MAX", "TopicCore"]

PAGE_MAX = 1_000  # topics, levels or sessions in one answer
_QOS = 1


class TopicCore(Engine):
    """Topics and sessions, for a principal."""

    # Publishing -------------------------------------------------------------------------------

    def publish(
        self, who: Principal, topic: str, messages: Sequence[Posted], qos: int, now_ms: int
    ) -> tuple[Durability, list[int | BraidError]]:
        """Publish messages to one topic: for each, how many subscriptions it matched.

        Each result stands once :meth:`when_kept` calls back for the level. Quality 0 is never
        logged, and lost by whoever cannot take it at once; 1 is kept for durable sessions.
        """
        route = self.topics.admit(who, topic)
        if self.failed is not None:
            raise self.failed
        if qos not in (0, _QOS):
            raise InvalidArgument("the quality of a message is 0 or 1")
        if len(messages) > self.limits.batch_messages_max:
            raise LimitExceeded(f"a batch has at most {self.limits.batch_messages_max} messages")
        level = Durability.MEMORY
        results: list[int | BraidError] = []
        for batch in batches(topic, messages, qos, self.limits, now_ms):
            if isinstance(batch, BraidError):
                results.append(batch)
                continue
            try:
                kept, matched = self.topics.distribute(route, batch, now_ms)
                level = max(level, kept)
                results.extend([matched] * batch.count)
            except QueueFull:
                for each in self.topics.distribute_each(route, batch, now_ms):
                    if not isinstance(each, BraidError):
                        level = max(level, each[0])
                    results.append(each if isinstance(each, BraidError) else each[1])
            except BraidError as error:
                results.extend([error] * batch.count)
        return level, results

    # Subscribing ------------------------------------------------------------------------------

    def subscribe(
        self, who: Principal, interest: Interest, owner: FeedOwner, tag: object, now_ms: int
    ) -> tuple[Durability, Feed]:
        """Subscribe: (what to wait for, the feed, which has no credit yet).

        A durable subscription has exactly the filters that are given, or with none those that it
        had. Nothing is left of what was refused.
        """
        if self.failed is not None:
            raise self.failed
        filters = self._filters(who, interest)
        feed = Feed(cast("Core", self), owner, tag)
        if interest.durable:
            session = self._open_durable(who, interest, feed, now_ms)
        else:
            session = feed.session = self.clients.open_unnamed(who, feed, now_ms)
        try:
            self._settle_filters(feed, session, filters, interest, now_ms)
        except BraidError:
            feed.close(now_ms)
            if not feed.resumed and interest.durable:
                self.clients.end(session, now_ms)
            raise
        return session.durability if session.queue is not None else Durability.MEMORY, feed

    def _filters(self, who: Principal, interest: Interest) -> list[str]:
        """The filters as sessions have them, each checked before anything is done."""
        limits = self.limits
        group = interest.share
        if group and ("/" in group or has_wildcards(group)):
            raise InvalidArgument("the name of a share holds no / and no wildcards")
        if not interest.filters and (group or not interest.durable):
            raise InvalidArgument("a subscription has a filter; only a durable one can be resumed")
        if not 0 <= interest.expiry_ms <= limits.session_expiry_ms_max:
            most = limits.session_expiry_ms_max
            raise InvalidArgument(f"a session outlives its connection by at most {most} ms")
        filters = []
        for text in dict.fromkeys(interest.filters):
            filter = f"$share/{group}/{text}" if group else text
            check_filter(filter, limits.topic_bytes_max, limits.topic_levels_max)
            shared = parse_shared(filter)
            who.check_filter("topic:Subscribe", shared[1] if shared else filter)
            filters.append(filter)
        return filters

    def _open_durable(self, who: Principal, interest: Interest, feed: Feed, now_ms: int) -> Session:
        name = interest.durable
        self.clients.check_client_id(name)
        if not interest.filters and name not in self.sessions:
            raise NotFound(f"there is no session {name!r} to resume")
        expiry_ms = interest.expiry_ms or self.limits.session_expiry_ms_max
        session, feed.resumed = self.clients.open(
            self.access.for_client(who, name), name, feed, False, expiry_ms, now_ms
        )
        feed.session = session
        return session

    def _settle_filters(
        self, feed: Feed, session: Session, filters: list[str], interest: Interest, now_ms: int
    ) -> None:
        wanted = frozenset(filters)
        for filter in [each for each in session.subscriptions if wanted and each not in wanted]:
            self.clients.unsubscribe(session, filter)
        for queue, _ in self.clients.sources(session):
            feed.attach(queue, None)
        for filter in filters:
            if filter in session.subscriptions:
                continue
            self.clients.subscribe(session, Subscription(filter, _QOS), now_ms)
            if interest.retained and parse_shared(filter) is None:
                feed.search(filter)

    def unsubscribe(self, who: Principal, name: str, now_ms: int) -> None:
        """End a durable subscription of one's own: its session and what waits there."""
        who.check("session:Connect", name)
        session = self._session(name)
        if session.user != who.name or name.startswith("$"):
            raise NotFound(f"there is no session {name!r} of yours")
        if session.sink is not None:
            self.clients.hang_up(session, "its owner ended the session")
        if self.sessions.get(name) is session:
            self.clients.end(session, now_ms)

    def _shared_queue(self, who: Principal, name: str) -> Queue:
        """The queue of a share by what :func:`source_name` calls it, to settle its messages."""
        share = self.clients.share_of(name.removeprefix(MEMORY_PREFIX))
        who.check_filter("topic:Subscribe", share.filter)
        queue = share.volatile if name.startswith(MEMORY_PREFIX) else share.durable
        if queue is None:
            raise NotFound(f"there is no queue {name!r}")
        return queue

    # Looking ----------------------------------------------------------------------------------

    def list_topics(
        self,
        who: Principal,
        filter: str,
        after: str,
        limit: int,
        callback: Listed[TopicInfo],
        argument: object,
    ) -> None:
        """Topics that retain a message, by name; ``callback(argument, topics)`` comes later."""
        check_filter(filter, self.limits.topic_bytes_max, self.limits.topic_levels_max)
        _check_page(limit)
        TopicListing(self.topics, who, filter, after, limit, self.later, callback, argument).start()

    def topic_tree(
        self,
        who: Principal,
        prefix: str,
        after: str,
        limit: int,
        callback: Listed[LevelInfo],
        argument: object,
    ) -> None:
        """The levels below ``prefix``, by name; ``callback(argument, levels)`` comes later."""
        _check_page(limit)
        LevelListing(self.topics, who, prefix, after, limit, self.later, callback, argument).start()

    def list_sessions(
        self, who: Principal, prefix: str, after: str, limit: int
    ) -> list[SessionInfo]:
        """Those sessions that the principal may see, by name, a page at a time."""
        _check_page(limit)
        names = sorted(name for name in self.sessions if name > after and name.startswith(prefix))
        shown: list[SessionInfo] = []
        for name in names:
            if len(shown) == limit:
                break
            if who.allows("session:Describe", name):
                shown.append(_info(self.sessions[name], ()))
        return shown

    def session_info(self, who: Principal, name: str) -> SessionInfo:
        """The session as it is now, with its filters. Raises NotFound."""
        who.check("session:Describe", name)
        session = self._session(name)
        return _info(session, tuple(session.subscriptions))

    def kick_session(self, who: Principal, name: str, discard: bool, now_ms: int) -> None:
        """End a client's connection, and its session too if ``discard``. Raises NotFound."""
        if not self.clients.kick(who, name, discard, now_ms):
            raise NotFound(f"there is no session {name!r}")

    def _session(self, name: str) -> Session:
        session = self.sessions.get(name)
        if session is None:
            raise NotFound(f"there is no session {name!r}")
        return session


def _check_page(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidArgument(f"a page has 1 to {PAGE_MAX} entries")


def _info(session: Session, filters: tuple[str, ...]) -> SessionInfo:
    queue = session.queue
    return SessionInfo(
        name=session.name,
        user=session.user,
        connected=session.sink is not None,
        durable=queue is not None,
        expiry_ms=session.expiry_ms,
        created_ms=session.created_ms,
        ended_ms=session.ended_ms,
        subscriptions=len(session.subscriptions),
        messages=0 if queue is None else queue.live,
        in_flight=0 if queue is None else len(queue.leases),
        bytes=0 if queue is None else queue.bytes,
        dropped=0 if queue is None else queue.counters.dropped,
        filters=list(filters),
    )

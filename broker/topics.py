"""Topics: who gets what is published, at once or later, and what is kept for those who come.

Rules:

- One place decides who gets a topic: :meth:`Topics.route`, which also asks whether each of them
  may. Its answer is kept until a subscription or the users change.
- What reaches only connected sessions without durability is not logged, and QoS 0 only for those
  queues and streams that the topic is bound to (``fanout.py``). All durable targets of a message
  stand in one record, with its body, or in several that are appended together (``letters.py``), so
  it reaches all of them or none.
- A session is handed a message once, however many of its subscriptions match. Where each of them
  is to bring a copy, the dialect makes these, by ``Match.each``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..storage.log import RUN_BYTES_MAX, Durability
from ..storage.record import encode_ack, encode_message, encode_plain_message
from ..storage.runs import encode_message_run
from .access import Principal
from .bindings import Bundle
from .errors import BraidError, PermissionDenied, QueueFull, Unavailable
from .fanout import Plan
from .host import DROPPED, EXPIRED
from .laggards import Laggard
from .letters import TARGETS_MAX, Letter
from .message import TOPIC, unpack_headers
from .overflow import has_room
from .publication import Match, Publication, Subscription
from .queue import Queue
from .retained import RETAINED_ENTITY, RetainedSearch, end_ms
from .router import FilterTree, MatchCache
from .session import INBOUND, Session
from .shard import Shard
from .sharing import Share
from .topic import check_topic, is_reserved
from .willstore import WILL_ENTITY

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Audience", "Route", "Topics", "merge"]

_ACCESS_SHIFT = 40  # the users' version above that of the subscriptions, in one stamp
_TOPICS_CACHED_MAX = 1_024
_TOPIC_CACHED_BYTES_MAX = 512
_RUN_MESSAGES_MIN = 4  # appended in one go; fewer are not worth it
_AUDIENCE_MAX = 16  # sessions
_AUDIENCES_MAX = 4_096
_MEMORY = Durability.MEMORY

# By QoS, retain as published, no local: most sessions come to one of these, for each topic.
_PLAIN = {
    (qos, retain, foreign): Match(qos, (), retain, foreign)
    for qos in range(3)
    for retain in (False, True)
    for foreign in (False, True)
}

Entry = tuple[Session, Subscription] | Share


class Audience:
    """Sessions that get some topics in the same, plain way. Topics with the same one share it."""

    __slots__ = ("members",)

    def __init__(self, members: tuple[tuple[Session, Match], ...]) -> None:
        self.members = members


class Route:
    """Who gets a topic.

    Attributes:
        sessions: each with how its messages come. shares: shared subscriptions that match.
        bundles: bindings that do.
        by_session: the same sessions, to be found by stored messages; made when it is asked for.
        count: how many these are. live: nobody of them keeps anything.
        audience: the sessions, if they are all and few, and nothing about them is special.
        small: few enough for whoever publishes often to remember it, even for too long.
        reserved: the topic is the broker's own; clients may not publish to it.
    """

    __slots__ = (
        "audience",
        "bundles",
        "by_session",
        "count",
        "live",
        "reserved",
        "sessions",
        "shares",
        "small",
    )

    def __init__(self, topic: str) -> None:
        self.reserved = is_reserved(topic)
        self.sessions: Sequence[tuple[Session, Match]] = ()
        self.by_session: dict[Session, Match] | None = None
        self.shares: list[Share] = []
        self.bundles: tuple[Bundle, ...] = ()
        self.count = 0
        self.live = True
        self.small = True
        self.audience: Audience | None = None


def _begins_with_wildcard(entry: Entry) -> bool:
    filter = entry.filter if isinstance(entry, Share) else entry[1].filter
    return filter.startswith(("+", "#"))


def merge(subscriptions: Sequence[Subscription]) -> Match:
    """How messages come to a session that has these subscriptions to their topic."""
    if len(subscriptions) == 1:
        one = subscriptions[0]
        if not one.id:
            return _PLAIN[one.qos, one.retain_as_published, one.no_local]
        return Match(one.qos, (one.id,), one.retain_as_published, one.no_local)
    foreign = [each for each in subscriptions if each.no_local]
    local = [each for each in subscriptions if not each.no_local]
    return Match(
        max(each.qos for each in subscriptions),
        tuple(each.id for each in subscriptions if each.id),
        any(each.retain_as_published for each in subscriptions),
        bool(foreign),
        merge(local) if foreign and local else None,
        tuple(merge([each]) for each in subscriptions),
    )


class Topics:
    """Subscriptions, retained messages, and the way of a publication. See the module's rules."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._log = engine.log
        self._access = engine.access
        self._fanout = engine.fanout
        self.retained = engine.retained
        self.router: FilterTree[Session | Share, Entry] = FilterTree()
        limits = engine.limits
        self._cache: MatchCache[Route] = MatchCache(
            limits.match_cache_topics_max, limits.match_cache_targets_max
        )
        self._topics: dict[bytes, str] = {}  # by packed headers
        self._audiences: dict[tuple[tuple[Session, Match], ...], Audience] = {}
        self._audiences_version = 0
        self.slow: set[Laggard] = set()  # subscribers that a publisher may have to wait for
        self.published = 0  # messages, and
        self.dropped = 0  # ... those of QoS 0 or without a queue that found no room on their way

    # Routes -----------------------------------------------------------------------------------

    def route(self, topic: str) -> Route:
        """Who gets ``topic`` now. Raises InvalidArgument when it is not a topic's name."""
        version = self.stamp
        route = self._cache.get(topic, version)
        return self._find_route(topic, version) if route is None else route

    def _find_route(self, topic: str, version: int) -> Route:
        limits = self._engine.limits
        check_topic(topic, limits.topic_bytes_max, limits.topic_levels_max)
        route = Route(topic)
        found: dict[Session, list[Subscription]] = {}
        for entry in self.router.match(topic):
            if route.reserved and _begins_with_wildcard(entry):
                continue
            if isinstance(entry, Share):
                route.shares.append(entry)
            else:
                found.setdefault(entry[0], []).append(entry[1])
        route.sessions = [
            (session, merge(subscriptions))
            for session, subscriptions in found.items()
            if self.may_receive(session, topic)
        ]
        route.count = len(route.sessions) + len(route.shares)
        route.small = route.count <= _AUDIENCE_MAX
        route.bundles = () if route.reserved else self._fanout.bundles(topic)
        keepers = [session for session in found if session.queue is not None]
        route.live = not (keepers or route.shares or route.bundles)
        route.audience = self._audience(route, version)
        targets = route.count
        if route.audience is not None:
            route.sessions = route.audience.members
            targets = 0
        self._cache.put(topic, version, route, targets)
        return route

    def _audience(self, route: Route, version: int) -> Audience | None:
        if route.shares or route.bundles or not 1 <= len(route.sessions) <= _AUDIENCE_MAX:
            return None
        if any(match.ids or match.foreign or match.each for _, match in route.sessions):
            return None
        if version != self._audiences_version or len(self._audiences) >= _AUDIENCES_MAX:
            self._audiences = {}
            self._audiences_version = version
        members = tuple(route.sessions)
        return self._audiences.setdefault(members, Audience(members))

    def match(self, session: Session, topic: str) -> Match | None:
        """How ``topic`` comes to a session now; None when it does not."""
        route = self.route(topic)
        if route.by_session is None:
            route.by_session = dict(route.sessions)
        return route.by_session.get(session)

    def may_receive(self, session: Session, topic: str) -> bool:
        """Whether the session's user may have messages of this topic."""
        who = self.principal(session)
        return who is not None and who.allows("topic:Subscribe", topic)

    def may_deliver(self, session: Session, attributes: bytes) -> bool:
        """The same for a stored message, by its packed headers."""
        return self.may_receive(session, self.topic_of(attributes))

    def topic_of(self, attributes: bytes) -> str:
        """The topic in packed headers; most messages have the headers of one before."""
        topic = self._topics.get(attributes)
        if topic is None:
            topic = str(unpack_headers(attributes).get(TOPIC, ""))
            if len(self._topics) >= _TOPICS_CACHED_MAX:
                self._topics.clear()
            if len(attributes) <= _TOPIC_CACHED_BYTES_MAX:
                self._topics[attributes] = topic
        return topic

    def principal(self, session: Session) -> Principal | None:
        """Who a session acts for; None when that user is gone."""
        who = session.who
        if who is None or not who.active:
            try:
                who = session.who = self._access.owner(session.user, session.name)
            except BraidError:
                return None
        return who

    # Publishing -------------------------------------------------------------------------------

    def publish(
        self, who: Principal, publication: Publication, now_ms: int
    ) -> tuple[Durability, int]:
        """Give a publication to all who subscribed: (what to wait for, how many they are).

        It may be acknowledged once :meth:`Engine.when_kept` calls back for that level.

        Raises:
            PermissionDenied, InvalidArgument (the topic), LimitExceeded (retained messages),
            QueueFull (a session's policy is to refuse), StorageFull, Overloaded, BrokerFailed:
            nothing of it was taken.
        """
        return self.distribute(self.admit(who, publication.topic), publication, now_ms)

    def admit(self, who: Principal, topic: str) -> Route:
        """Who gets ``topic``, if the principal may publish there; good while the stamp is.

        Raises PermissionDenied, InvalidArgument.
        """
        who.check("topic:Publish", topic)
        route = self.route(topic)
        if route.reserved:
            raise PermissionDenied(f"the topic {topic!r} is the broker's own")
        return route

    @property
    def stamp(self) -> int:
        """Changes when a subscription, the bound filters, or the users change."""
        filters = self.router.version + self._fanout.filters.version
        return filters + (self._access.version << _ACCESS_SHIFT)

    def distribute(
        self, route: Route, publication: Publication, now_ms: int
    ) -> tuple[Durability, int]:
        """Give a publication to all on the route."""
        self.published += publication.count
        self._engine.now_ms = now_ms
        if (route.live or not publication.qos) and not (
            publication.retain or publication.inbound or route.bundles
        ):
            for session, match in route.sessions:
                if session.sink is not None:
                    if match.foreign:
                        self._deliver(session, publication, match)
                    else:
                        try:
                            session.sink.publish(publication, match)
                        except Exception as error:
                            self._engine.clients.sink_failed(session, error)
            for share in route.shares:
                self._deliver_shared(share, publication)
            return _MEMORY, route.count
        queues: list[Queue] = []
        live: list[tuple[Session, Match]] = []
        for session, match in route.sessions:
            chosen: Match | None = match
            if match.foreign and publication.session is session:
                chosen = match.own
            if chosen is None:
                continue
            if session.queue is not None and chosen.qos and publication.qos:
                queues.append(session.queue)
            elif session.sink is not None:
                live.append((session, match))
        if publication.qos:
            queues.extend([share.target for share in route.shares])
        plan = self._fanout.plan(route.bundles, publication, now_ms) if route.bundles else None
        try:
            level = self._keep(publication, queues, plan, now_ms)
        except Unavailable:
            if publication.qos or publication.retain:
                raise
            level = _MEMORY
            self.dropped += publication.count
        for session, match in live:
            self._deliver(session, publication, match)
        if not publication.qos:
            for share in route.shares:
                self._deliver_shared(share, publication)
        return level, route.count + (plan.matched if plan is not None else 0)

    def distribute_each(
        self, route: Route, publication: Publication, now_ms: int
    ) -> Iterator[tuple[Durability, int] | BraidError]:
        """What was refused as a whole, because it is too much for a queue, message by message."""
        self.published -= publication.count  # each is counted again
        for single in publication.singles():
            try:
                yield self.distribute(route, single, now_ms)
            except BraidError as error:
                yield error

    def _deliver(self, session: Session, publication: Publication, match: Match) -> None:
        if match.foreign and publication.session is session:
            if match.own is None:
                return
            match = match.own
        self._hand(session, publication, match)

    def _hand(self, session: Session, publication: Publication, match: Match) -> None:
        assert session.sink is not None
        try:
            session.sink.publish(publication, match)
        except Exception as error:
            self._engine.clients.sink_failed(session, error)

    def hand(self, session: Session, publication: Publication) -> None:
        """Give a live publication to one session only, if its topic comes to it now."""
        match = self.match(session, publication.topic)
        if match is not None and session.sink is not None:
            self._hand(session, publication, match)

    def _deliver_shared(self, share: Share, publication: Publication) -> None:
        topic = publication.topic

        def allowed(member: Session) -> bool:
            return self.may_receive(member, topic)

        for single in publication.singles() if len(share.members) > 1 else (publication,):
            member = share.next_member(allowed)
            if member is None:
                self.dropped += single.count
                continue
            self._hand(member, single, merge([share.members[member]]))

    # Keeping ----------------------------------------------------------------------------------

    def _keep(
        self, publication: Publication, queues: list[Queue], plan: Plan | None, now_ms: int
    ) -> Durability:
        """Put the messages where they wait, and keep the retained one; what that promises."""
        session = publication.session
        inbound = 0
        if publication.inbound and session is not None and session.queue is not None:
            inbound = publication.inbound
        if plan is not None and plan.is_empty:
            plan = None
        if not (queues or publication.retain or inbound or plan):
            return _MEMORY
        engine = self._engine
        logged = [queue for queue in queues if queue.logged] if queues else queues
        volatile: list[Queue] = []
        if len(logged) < len(queues):
            volatile = [queue for queue in queues if not queue.logged]
            engine.admit(memory=True)
        if logged or publication.retain or inbound or plan:
            engine.admit()
        level = max([queue.settings.durability for queue in logged]) if logged else _MEMORY
        if queues:
            _check_room(queues, publication)
        number = -1
        if publication.retain:
            level = Durability.SYNC
            number = self._retained_number(publication, now_ms)
        targets: list[tuple[int, int]] = []
        if inbound:
            assert session is not None and session.queue is not None
            targets.append((session.queue.id, INBOUND | inbound))
            level = max(level, session.durability)
        if publication.will:
            targets.append((WILL_ENTITY, publication.will))  # published, or still to be
        written = False
        if publication.count > 1 and publication.uniform and not publication.retain and not inbound:
            if (logged or plan) and self._log_run(publication, logged, plan, now_ms):
                logged = []
                written = True
        last = publication.count - 1
        asked = None if written else plan
        one_by_one = logged or targets or volatile or number >= 0 or asked
        for index, body in enumerate(publication.bodies if one_by_one else ()):
            kept = number if index == last else -1
            if logged or targets or kept >= 0 or asked:
                self._log_one(publication, body, logged, targets, kept, asked, now_ms)
            for queue in volatile:
                _put_volatile(queue, publication, body, now_ms)
        if inbound:
            assert session is not None and session.queue is not None
            session.queue.inbound.add(inbound)
        if publication.will:
            engine.will_store.remove(publication.will)
        for queue in queues:
            if queue.consumers:
                engine.changed(queue)
            if publication.expire_ms:
                queue.trim_wheels(publication.count)
                queue.set_alarm()
        return level if plan is None else max(level, self._fanout.finish(plan, now_ms))

    def _log_run(
        self,
        publication: Publication,
        queues: Sequence[Queue],
        plan: Plan | None,
        now_ms: int,
    ) -> bool:
        """Keep a run of messages of one size in one go; False if it has to be one by one."""
        if plan is not None and not plan.is_plain:
            return False
        attributes, bodies = publication.attributes, publication.bodies
        count = publication.count
        size = len(bodies[0]) + len(attributes)
        for queue in queues:
            settings = queue.settings
            if queue.live + count > settings.messages_max:
                return False
            if queue.bytes + count * size > settings.bytes_max:
                return False
        shards: Sequence[Shard] = ()
        if plan is not None:
            queues = [*queues, *plan.plain]
            shards = [shard for _, shard in plan.shards]
        step_max = size + 24 + 12 * (len(queues) + len(shards)) + 8
        fits = RUN_BYTES_MAX // step_max
        if fits < min(count, _RUN_MESSAGES_MIN):
            return False
        for at in range(0, count, fits):
            part = bodies[at : at + fits] if fits < count else bodies
            self._append_run(queues, shards, attributes, part, publication.expire_ms, now_ms)
        return True

    def _append_run(
        self,
        queues: Sequence[Queue],
        shards: Sequence[Shard],
        attributes: bytes,
        bodies: Sequence[bytes],
        expire_ms: int,
        now_ms: int,
    ) -> None:
        count = len(bodies)
        targets = [(queue.id, queue.lane(0).next) for queue in queues]
        targets += [(shard.id, shard.next) for shard in shards]
        records, step = encode_message_run(targets, now_ms, attributes, bodies, expire_ms)
        lsn = self._log.append_run(records, count, len(targets))
        size = len(bodies[0]) + len(attributes)
        for queue, (_, seq) in zip(queues, targets, strict=False):
            queue.put_run(seq, lsn, step, count, size, expire_ms)
            queue.counters.sent += count
        for shard in shards:
            for at in range(lsn, lsn + count * step, step):
                shard.put(shard.next, 1, at, step, now_ms)

    def _log_one(
        self,
        publication: Publication,
        body: bytes,
        queues: Sequence[Queue],
        more: Sequence[tuple[int, int]],
        number: int,
        plan: Plan | None,
        now_ms: int,
    ) -> None:
        """Write one message down for all that keep it, then apply it to each.

        ``more`` are targets that only the record knows; ``number`` is that of the retained message
        that it becomes, -1: of none. ``plan`` knows what else takes it.
        """
        attributes = publication.attributes
        size = len(body) + len(attributes)
        expire_ms = publication.expire_ms
        takers = [queue for queue in queues if has_room(queue, size, now_ms)] if queues else []
        letters = len(takers) > TARGETS_MAX
        if plan is not None:
            letters = letters or not plan.is_simple
            if not letters:
                takers.extend(plan.plain)
        last = [(RETAINED_ENTITY, number), *more] if number >= 0 else more
        if letters:
            letter = Letter(attributes, body, 0, expire_ms)
            letter.queues, letter.more, letter.references = takers, [*last], int(number >= 0)
            self._fanout.deliver(plan, letter, now_ms)
            lsn = letter.lsn
        else:
            targets = [(queue.id, queue.lane(0).next) for queue in takers]
            references = len(targets) + (number >= 0)
            targets.extend(last)
            if not targets:
                return
            if len(targets) == 1 and not expire_ms:
                entity, seq = targets[0]
                parts = encode_plain_message(entity, seq, now_ms, attributes, body)
            else:
                parts = encode_message(targets, now_ms, attributes, body, 0, expire_ms)
            lsn = self._log.append(parts, references)
            for queue, (_, seq) in zip(takers, targets, strict=False):
                queue.put(seq, lsn, size, 0, expire_ms, 0)
                queue.counters.sent += 1
        if number >= 0:
            ends_ms = end_ms(now_ms, expire_ms, self._engine.limits.retained_expiry_ms)
            old = self.retained.put(number, publication.topic, lsn, size, ends_ms)
            if old:
                self._log.release(old)

    def _retained_number(self, publication: Publication, now_ms: int) -> int:
        """The number for the message to retain; -1 when there was only one to forget."""
        body = publication.bodies[-1]
        if not body:
            number = self.retained.tree.get(publication.topic)
            if number is not None:
                self.forget(number, DROPPED)
            return -1
        limits = self._engine.limits
        size = len(body) + len(publication.attributes)
        number = self.retained.number_for(publication.topic, size, limits)
        ends_ms = end_ms(now_ms, publication.expire_ms, limits.retained_expiry_ms)
        if ends_ms:
            self._engine.clients.alarm_at(ends_ms)
        return number

    def forget(self, number: int, reason: int) -> None:
        """Drop a retained message."""
        self._log.append((encode_ack(RETAINED_ENTITY, reason, [number]),))
        lsn = self.retained.remove(number)
        if lsn:
            self._log.release(lsn)

    def expire_retained(self, now_ms: int) -> int | None:
        """Drop what has outlived its time; when there is more to do, unix ms."""
        for number in self.retained.due(now_ms):
            self.forget(number, EXPIRED)
        return self.retained.expiring.next_due()

    def search_retained(
        self, session: Session, filter: str, more: Callable[[], None]
    ) -> RetainedSearch:
        """The retained messages that a new subscription is given."""
        return RetainedSearch(
            self.retained, filter, lambda topic: self.may_receive(session, topic), more
        )


def _check_room(queues: Sequence[Queue], publication: Publication) -> None:
    """Raise QueueFull unless all of a publication fits into those that refuse what does not."""
    refusing = [
        queue for queue in queues if queue.settings.overflow == "reject" and not queue.promised
    ]
    if not refusing:
        return
    size = sum(map(len, publication.bodies)) + publication.count * len(publication.attributes)
    for queue in refusing:
        settings = queue.settings
        count = queue.live + publication.count
        if count > settings.messages_max or queue.bytes + size > settings.bytes_max:
            queue.counters.dropped += publication.count
            raise QueueFull(f"{queue.name} holds {queue.live} messages, {queue.bytes} bytes")


def _put_volatile(queue: Queue, publication: Publication, body: bytes, now_ms: int) -> None:
    """Keep a message in memory, for a shared subscription without durable members."""
    attributes = publication.attributes
    size = len(body) + len(attributes)
    if not has_room(queue, size, now_ms):
        return
    seq = queue.lane(0).next
    expire_ms = publication.expire_ms
    record = encode_message(((queue.id, seq),), now_ms, attributes, body, 0, expire_ms)
    queue.put(seq, queue.log.append(record, 1), size, 0, expire_ms, 0)
    queue.counters.sent += 1

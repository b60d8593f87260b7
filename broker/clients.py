"""Clients come and go: sessions opened, taken over, resumed, expired; subscriptions.

Rules:

- A session belongs to the user who made it. No other user can take it over.
- A client that connects again ends the connection it had; it is the same session from then on.
- A subscription to ``$queue/NAME`` consumes from that queue. No topic leads there, so it is not in
  the router; the queue neither knows the subscription nor waits for the session.
- What changes a durable session is logged here and applied by the methods of ``registry.py`` and
  ``session.py`` that recovery uses. Who must tell somebody waits until that is kept.
- A session that was connected when the broker stopped counts as disconnected at its next start.
- When a client goes, and how, is decided here; what becomes of its will, in ``wills.py``.
"""

from collections.abc import Callable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from ..storage.errors import StorageError
from ..storage.log import Durability
from ..storage.record import encode_definition
from .access import Principal
from .errors import (
    BraidError,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from .limits import SessionPolicy
from .message import Receipt
from .publication import Subscriber, Subscription
from .queue import Queue
from .session import EXPIRY_NEVER_MS, Session, SessionQueue, SubscriptionDefinition
from .settings import QueueSettings
from .sharing import Share, durable_queue, share_name, volatile_queue
from .topic import QUEUE_PREFIX, check_filter, parse_shared
from .topics import Topics
from .wills import Wills
from .willstore import WillMessage

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["CLIENT_ID_BYTES_MAX", "Clients"]

CLIENT_ID_BYTES_MAX = 256
_DEADLINES_STALE = 64  # tolerated in the heap
_ENDS_PER_TICK = 100


class Clients:
    """The sessions of a broker. See the module's rules.

    Attributes:
        id, alarm_ms: for the engine's alarms, as a queue has them.
        subscriptions: how many there are. expired: sessions, since the broker started.
    """

    id = 0

    def __init__(self, engine: "Engine", topics: Topics, policy: SessionPolicy) -> None:
        self._engine = engine
        self._topics = topics
        self._policy = policy
        self._wills = Wills(engine, topics)
        self._shares: dict[str, Share] = {}
        self._deadlines: list[tuple[int, str]] = []  # heap: when to look at which session
        self.subscriptions = 0
        self._unnamed = 0
        self._failing: set[Subscriber] = set()  # who has to go, as soon as that can be
        self.alarm_ms = 0
        self.expired = 0

    def start(self, now_ms: int) -> None:
        """Everything is recovered: subscriptions count again, sessions wait for their clients."""
        self._wills.start(now_ms)
        for session in list(self._engine.sessions.values()):
            if session.queue is not None:
                self._prepare(session.queue)
            if not session.ended_ms:
                session.ended_ms = now_ms
                self._log(session)  # else its time would begin anew at every start
            for subscription in session.subscriptions.values():
                self._enter(session, subscription, now_ms)
            self._await_end(session)
            if session.will is not None:
                self._await(session.will.due_ms, session)
        for name, queue in list(self._engine.shares.items()):
            if name.startswith("$share/") and name not in self._shares:
                self._end_entity(queue)
        if self._topics.retained.expiring.next_due():
            self.alarm_at(self._topics.retained.expiring.next_due() or 0)

    def _prepare(self, queue: SessionQueue) -> None:
        queue.settings = self._settings(queue.session.durability)
        queue.may_deliver = self._topics.may_deliver

    def _settings(self, durability: Durability) -> QueueSettings:
        limits = self._engine.limits
        overflow = self._policy.overflow
        return QueueSettings(
            durability=durability,
            messages_max=limits.session_messages_max,
            bytes_max=limits.session_bytes_max,
            overflow="reject" if overflow == "refuse" else overflow,
        )

    # Sessions ---------------------------------------------------------------------------------

    def open(
        self,
        who: Principal,
        name: str,
        sink: Subscriber,
        clean: bool,
        expiry_ms: int,
        now_ms: int,
        will: WillMessage | None = None,
    ) -> tuple[Session, bool]:
        """Connect a client: (its session, whether it was there before).

        ``expiry_ms`` is how long the session outlives the connection, at most
        ``session_expiry_ms_max``; 0 makes one without durability. ``clean`` discards what is there.
        Of a durable session, or a will, the client may be told once all that was logged is kept.

        Raises:
            PermissionDenied: the user may not use this name, or it is another user's session.
            LimitExceeded, StorageFull, Overloaded, BrokerFailed: it was not opened.
        """
        who.check("session:Connect", name)
        engine = self._engine
        engine.now_ms = now_ms
        session = engine.sessions.get(name)
        if session is not None and session.user != who.name:
            raise PermissionDenied(f"the session {name!r} is another user's")
        if session is None:
            self._check_room()
        if engine.failed is not None:
            raise engine.failed
        if expiry_ms and (session is None or session.queue is None or clean):
            engine.admit()  # who comes back may drain its session, however full the disk is
        if session is not None and session.sink is not None:
            self._part(session, session.sink.replaced)
            assert session.sink is None
            session = engine.sessions.get(name)
        if session is not None and (clean or session.queue is None):
            self.end(session, now_ms)  # without a queue: only its will was left, of the last start
            session = None
        present = session is not None
        if session is None:
            session = engine.sessions[name] = Session(name, who.name, now_ms)
            session.durability = Durability[self._policy.durability.upper()]
        session.who = who
        session.sink = sink
        session.ended_ms = 0
        session.expiry_ms = min(expiry_ms, engine.limits.session_expiry_ms_max)
        if session.queue is not None:
            self._log(session)  # its time away is over; it must not be counted after a crash
        elif expiry_ms:
            self._make_durable(session)
        self._wills.replace(session, will)
        return session, present

    def _check_room(self) -> None:
        count = len(self._engine.sessions)
        if count >= self._engine.limits.sessions_max:
            raise LimitExceeded(f"there are {count} sessions, as many as may be")

    def open_unnamed(self, who: Principal, sink: Subscriber, now_ms: int) -> Session:
        """A session that ends with its connection, under a name that no client can ask for.

        Raises LimitExceeded.
        """
        self._check_room()
        self._unnamed += 1
        name = f"$live-{self._unnamed}"
        session = self._engine.sessions[name] = Session(name, who.name, now_ms)
        session.who = who
        session.sink = sink
        return session

    def _make_durable(self, session: Session) -> None:
        engine = self._engine
        definition = session.definition()
        id = engine.take_id()
        engine.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
        queue = engine.define_session(id, definition)
        assert queue.session is session
        self._prepare(queue)

    def change_expiry(self, session: Session, expiry_ms: int) -> None:
        """The client wants its session kept longer or shorter."""
        session.expiry_ms = min(expiry_ms, self._engine.limits.session_expiry_ms_max)
        self._log(session)

    def _log(self, session: Session) -> None:
        if session.queue is not None:
            content = msgspec.msgpack.encode(session.definition())
            self._engine.log.append((encode_definition(session.queue.id, content),))

    def close(
        self, session: Session, sink: Subscriber, now_ms: int, said_goodbye: bool = False
    ) -> None:
        """A connection ended; nothing happens when it is not the session's any more.

        Unless the client ``said_goodbye``, its will is published at once, or after its delay unless
        it comes back before, or when the session ends, whatever comes first.
        """
        if session.sink is not sink:
            return
        session.sink = None
        ends = session.queue is None or not session.expiry_ms
        if said_goodbye:
            self._wills.take_back(session)
        if ends:
            self.end(session, now_ms)
            return
        if session.will is not None and session.will.message.delay_ms:
            self._wills.postpone(session, now_ms)
            self._await(session.will.due_ms, session)
        else:
            self._wills.publish(session, now_ms)
        session.ended_ms = now_ms
        self._log(session)
        self._await_end(session)

    def end(self, session: Session, now_ms: int) -> None:
        """Forget a session that is not connected: its subscriptions and its messages."""
        assert session.sink is None
        self._wills.publish(session, now_ms)
        for subscription in session.subscriptions.values():
            self._leave(session, subscription.filter)
        session.subscriptions = {}
        if self._engine.sessions.get(session.name) is session:
            del self._engine.sessions[session.name]
        if session.queue is not None:
            self._end_entity(session.queue)
            session.queue = None

    def kick(self, who: Principal, name: str, discard: bool, now_ms: int) -> bool:
        """End a client's connection, and its session if ``discard``; False: no such session."""
        who.check("session:Kick", name)
        self._engine.now_ms = now_ms
        session = self._engine.sessions.get(name)
        if session is None:
            return False
        if session.sink is not None:
            self.hang_up(session, "an operator ended the connection")
        if discard and self._engine.sessions.get(name) is session:
            self.end(session, now_ms)
        return True

    def end_revoked(self) -> None:
        """End the connections of users that are gone, or have a new password."""
        for session in list(self._engine.sessions.values()):
            if session.revoked:
                self.hang_up(session, "log in again")

    def hang_up(self, session: Session, reason: str) -> None:
        """End a client's connection."""
        assert session.sink is not None
        self._part(session, partial(session.sink.ended, reason))

    def sink_failed(self, session: Session, error: Exception) -> None:
        """What stands behind a session raised what it should not: it has to go, but not now.

        Its subscriptions, and what waits for it in queues, stay for whoever comes back.
        """
        if isinstance(error, StorageError):
            raise error
        sink = session.sink
        if sink is not None and sink not in self._failing:
            self._failing.add(sink)
            known = isinstance(error, BraidError)  # no mistake: it could not be attached
            reason = str(error) if known else "an error of the broker"
            self._engine.later(partial(self._dismiss, session, sink, reason))
            if not known:
                self._engine.on_fault(error)

    def _dismiss(self, session: Session, sink: Subscriber, reason: str) -> None:
        self._failing.discard(sink)
        if session.sink is sink:
            self.hang_up(session, reason)

    def _part(self, session: Session, leave: Callable[[], None]) -> None:
        """Have a connection leave its session; one that fails to is taken off."""
        sink = session.sink
        assert sink is not None
        try:
            leave()
        except StorageError:
            raise
        except Exception as error:
            self._engine.on_fault(error)
            self._take_off(session, sink, self._engine.now_ms)

    def _take_off(self, session: Session, sink: Subscriber, now_ms: int) -> None:
        """Do for a connection what it should have done when it left."""
        same: object = sink  # it is the sink of its consumers, too
        for queue, _ in self.sources(session):
            for consumer in [each for each in queue.consumers if each.sink is same]:
                self._engine.cancel(consumer, (), now_ms)
        self.close(session, sink, now_ms)

    def _end_entity(self, queue: Queue) -> None:
        engine = self._engine
        engine.log.append((encode_definition(queue.id, b""),))
        engine.retire(queue)

    # Subscriptions ----------------------------------------------------------------------------

    def subscribe(self, session: Session, subscription: Subscription, now_ms: int) -> bool:
        """Subscribe, or change a subscription's options; whether it was there before.

        Raises:
            PermissionDenied, InvalidArgument, NotFound (the queue), LimitExceeded, StorageFull,
            Overloaded, BrokerFailed: it was not made or changed.
        """
        limits = self._engine.limits
        shared = parse_shared(subscription.filter)
        filter = shared[1] if shared else subscription.filter
        check_filter(filter, limits.topic_bytes_max, limits.topic_levels_max)
        if shared and subscription.no_local:
            # [MQTT-3.8.3-4]
            raise InvalidArgument("a shared subscription cannot be without local messages")
        assert session.who is not None
        queue = self._queue_of(session.who, filter)
        if queue is None:
            session.who.check_filter("topic:Subscribe", filter)
        elif shared:
            raise InvalidArgument("a queue is shared by whoever consumes from it: $queue/NAME")
        before = session.subscriptions.get(subscription.filter)
        if before == subscription and queue is None:
            return True
        if before is None:
            self._check_limits(session, filter, shared, queue)
        if session.queue is not None and before != subscription:
            self._engine.admit()
            self._log_subscription(session, subscription.filter, subscription)
        session.subscriptions[subscription.filter] = subscription
        if queue is None:
            self._enter(session, subscription, now_ms)
        else:
            self.subscriptions += before is None
            if session.sink is not None:
                session.sink.attach(queue, subscription)
        return before is not None

    def _queue_of(self, who: Principal, filter: str) -> Queue | None:
        """The queue that ``$queue/NAME`` stands for; None for any other filter.

        Raises PermissionDenied, NotFound.
        """
        if not filter.startswith(QUEUE_PREFIX):
            return None
        name = filter.removeprefix(QUEUE_PREFIX)
        who.check("queue:Receive", name)
        queue = self._engine.queues.get(name)
        if queue is None:
            raise NotFound(f"there is no queue {name!r}")
        return queue

    def _check_limits(
        self, session: Session, filter: str, shared: tuple[str, str] | None, queue: Queue | None
    ) -> None:
        limits = self._engine.limits
        if len(session.subscriptions) >= limits.subscriptions_per_session_max:
            raise LimitExceeded(
                f"a session has at most {limits.subscriptions_per_session_max} subscriptions"
            )
        if self.subscriptions >= limits.subscriptions_max:
            raise LimitExceeded(f"there are {self.subscriptions} subscriptions, as many as may be")
        shapes = self._topics.router.shapes
        more = self._topics.router.new_shapes(filter)
        if more and shapes + more > limits.filter_shapes_max:
            raise LimitExceeded(f"filters have {shapes} different shapes, about as many as may be")
        if more and session.shapes + more > limits.filter_shapes_per_session_max:
            raise LimitExceeded(
                f"a session brings at most {limits.filter_shapes_per_session_max} new shapes"
            )
        share = self._shares.get(share_name(*shared)) if shared is not None else None
        if shared and share is None and len(self._shares) >= limits.shared_groups_max:
            raise LimitExceeded(f"there are {len(self._shares)} shares, as many as may be")
        # Not when it is attached: it would be a member by then that gets nothing.
        for each in share.queues if share is not None else (queue,):
            if each is not None and len(each.consumers) >= limits.consumers_per_queue_max:
                raise LimitExceeded(f"queue {each.name} has as many consumers as it may")

    def unsubscribe(self, session: Session, filter: str) -> bool:
        """End a subscription; False when there was none."""
        if session.subscriptions.pop(filter, None) is None:
            return False
        if session.queue is not None:
            self._log_subscription(session, filter, None)
        self._leave(session, filter)
        return True

    def _log_subscription(
        self, session: Session, filter: str, subscription: Subscription | None
    ) -> None:
        assert session.queue is not None
        change = SubscriptionDefinition(filter=filter, subscription=subscription)
        content = msgspec.msgpack.encode(change)
        self._engine.log.append((encode_definition(session.queue.id, content),))

    def _enter(self, session: Session, subscription: Subscription, now_ms: int) -> None:
        if subscription.filter.startswith(QUEUE_PREFIX):
            self.subscriptions += 1
            return
        shared = parse_shared(subscription.filter)
        router = self._topics.router
        shapes = router.shapes
        if shared is None:
            old = router.add(subscription.filter, session, (session, subscription))
            self.subscriptions += old is None
            if old is None:
                self._engine.advising.subscribed(session, subscription)
        else:
            name = share_name(*shared)
            share = self._shares.get(name)
            if share is None:
                share = self._shares[name] = self._make_share(name, shared[1], now_ms)
                router.add(shared[1], share, share)
            self._join(share, session, subscription, now_ms)
        session.shapes += router.shapes - shapes

    def _make_share(self, name: str, filter: str, now_ms: int) -> Share:
        settings = self._settings(Durability.MEMORY)
        share = Share(name, filter, volatile_queue(self._engine, name, settings, now_ms))
        share.durable = self._engine.shares.get(name)
        if share.durable is not None:  # of an earlier start, perhaps with other limits
            share.durable.settings = self._settings(share.durable.settings.durability)
        return share

    def _join(
        self, share: Share, session: Session, subscription: Subscription, now_ms: int
    ) -> None:
        known = not share.join(session, subscription)
        self.subscriptions += not known
        if not known:
            self._engine.advising.subscribed(session, subscription)
        if session.queue is not None and share.durable is None:
            settings = self._settings(Durability[self._policy.durability.upper()])
            share.durable = durable_queue(self._engine, share.name, settings, now_ms)
            for member, options in share.members.items():
                if member is not session and member.sink is not None:
                    self._attach(member, share.durable, options)
        if session.sink is not None and not known:
            for queue in share.queues:
                session.sink.attach(queue, subscription)

    def _attach(self, member: Session, queue: Queue, options: Subscription) -> None:
        assert member.sink is not None
        try:
            member.sink.attach(queue, options)
        except Exception as error:
            self.sink_failed(member, error)

    def _leave(self, session: Session, filter: str) -> None:
        if filter.startswith(QUEUE_PREFIX):
            self.subscriptions -= 1
            return
        shared = parse_shared(filter)
        router = self._topics.router
        shapes = router.shapes
        if shared is None:
            self.subscriptions -= router.remove(filter, session) is not None
        else:
            share = self._shares[share_name(*shared)]
            self.subscriptions -= share.leave(session)
            if not share.members:
                self._end_share(share)
        self._engine.advising.unsubscribed(session, filter)
        # Those that others use by now stay on its account: it is a bound, not a bill.
        session.shapes = max(session.shapes - (shapes - router.shapes), 0)

    def _end_share(self, share: Share) -> None:
        del self._shares[share.name]
        self._topics.router.remove(share.filter, share)
        self._engine.discard(share.volatile)
        if share.durable is not None:
            self._end_entity(share.durable)

    def sources(self, session: Session) -> Iterator[tuple[Queue, Subscription | None]]:
        """The queues that a connected session consumes from; None: its own."""
        if session.queue is not None:
            yield session.queue, None
        assert session.who is not None
        for subscription in session.subscriptions.values():
            shared = parse_shared(subscription.filter)
            if shared is not None:
                for queue in self._shares[share_name(*shared)].queues:
                    yield queue, subscription
                continue
            try:
                found = self._queue_of(session.who, subscription.filter)
            except (NotFound, PermissionDenied):
                continue  # deleted, or not the user's any more, while the client was away
            if found is not None:
                yield found, subscription

    # Time -------------------------------------------------------------------------------------

    def alarm_at(self, due_ms: int) -> None:
        """Have :meth:`tick` called at ``due_ms`` or before."""
        if not self.alarm_ms or due_ms < self.alarm_ms:
            self.alarm_ms = due_ms
            self._engine.alarm(self, due_ms)

    def _await(self, due_ms: int, session: Session) -> None:
        if len(self._deadlines) > 4 * len(self._engine.sessions) + _DEADLINES_STALE:
            kept = {each for each in self._deadlines if self._is_awaited(*each)}
            self._deadlines = list(kept)
            heapify(self._deadlines)
        heappush(self._deadlines, (due_ms, session.name))
        self.alarm_at(due_ms)

    def _await_end(self, session: Session) -> None:
        if session.expiry_ms < EXPIRY_NEVER_MS:
            self._await(session.ended_ms + session.expiry_ms, session)

    def _is_awaited(self, due_ms: int, name: str) -> bool:
        session = self._engine.sessions.get(name)
        if session is None or session.sink is not None:
            return False
        end_ms = session.ended_ms + session.expiry_ms
        return due_ms == end_ms or (session.will is not None and due_ms == session.will.due_ms)

    def tick(self, now_ms: int) -> None:
        """End sessions whose time is over, publish wills that are due, drop old retained ones."""
        self.alarm_ms = 0
        for _ in range(_ENDS_PER_TICK):
            if not self._deadlines or self._deadlines[0][0] > now_ms:
                break
            due_ms, name = heappop(self._deadlines)
            if self._is_awaited(due_ms, name):
                self._on_deadline(self._engine.sessions[name], now_ms)
        next_ms = self._topics.expire_retained(now_ms)
        if self._deadlines:
            next_ms = min(next_ms or self._deadlines[0][0], self._deadlines[0][0])
        if next_ms is not None:
            self.alarm_at(max(next_ms, now_ms + 1))

    def _on_deadline(self, session: Session, now_ms: int) -> None:
        if session.will is not None and session.will.due_ms <= now_ms:
            self._wills.publish(session, now_ms)
        if session.ended_ms + session.expiry_ms <= now_ms:
            self.expired += session.queue is not None  # else it has ended with the last start
            self.end(session, now_ms)

    # Looking ----------------------------------------------------------------------------------

    def check_client_id(self, name: str) -> None:
        """Raise InvalidArgument for a client identifier that cannot be one."""
        if not name or len(name.encode()) > CLIENT_ID_BYTES_MAX or not name.isprintable():
            raise InvalidArgument(
                f"a client identifier has 1 to {CLIENT_ID_BYTES_MAX} bytes of printable UTF-8"
            )
        if name.startswith("$"):
            raise InvalidArgument("client identifiers that begin with $ are the broker's own")

    def share_of(self, name: str) -> Share:
        """A share by its name. Raises Conflict when it is gone."""
        share = self._shares.get(name)
        if share is None:
            raise Conflict(f"nobody shares {name} any more")
        return share

    def pass_over(self, member: Session, queue: Queue, receipt: Receipt, topic: str) -> bool:
        """Take back a share's message that a member may not have; whether it waits for another."""
        share = self._shares.get(queue.name)
        if share is None:
            return False  # it has ended meanwhile, with all its messages

        def allowed(other: Session) -> bool:
            return self._topics.may_receive(other, topic)

        return share.pass_over(member, queue, receipt, allowed, self._engine.now_ms)

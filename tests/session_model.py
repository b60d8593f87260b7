"""Topics and sessions against a model that is obviously right, restarts included.

The model knows who is connected, who subscribed to what, what waits for whom, what is retained,
who exchanges which packet identifiers, and when sessions end and wills are published. Of a shared
subscription it knows what its members hold together, not which of them holds it. The one liberty
is that of ``test_queue_model.py``: what is past its time may still stand in a queue, as long as
nobody is given it.
"""

import random
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from braidmq.broker.access import SYSTEM
from braidmq.broker.publication import PlainPublication, Subscription
from braidmq.broker.session import packet_id
from braidmq.broker.topic import matches, parse_shared
from braidmq.broker.willstore import WillMessage
from tests.broker_disk import DiskBroker
from tests.topic_client import Client, publication_of, will_of

__all__ = ["SessionMachine"]

NAMES = st.sampled_from("abc")
TOPICS = st.sampled_from(["t/1", "t/2", "u", "w"])
PLAIN = ["t/1", "t/+", "#", "u", "w"]
SHARED = ["$share/g/t/+", "$share/h/t/+", "$share/g/w"]
EXPIRIES = st.sampled_from([0, 5_000, 60_000])
STEPS = st.sampled_from([1, 400, 3_000, 5_000, 61_000])
PICKS = st.integers(0, 1_000)


@dataclass
class Message:
    """A message that waits, or is held."""

    body: bytes
    expire_ms: int
    sent: bool = False  # to a session: from then on it does not expire

    def is_over(self, now_ms: int) -> bool:
        return 0 < self.expire_ms <= now_ms and not self.sent


@dataclass
class ModelSession:
    """A session as it should be."""

    durable: bool
    expiry_ms: int
    client: Client | None  # None: away
    ended_ms: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    queue: list[Message] = field(default_factory=list)
    live: list[bytes] = field(default_factory=list)
    inbound: set[int] = field(default_factory=set)
    released: set[int] = field(default_factory=set)
    will: WillMessage | None = None
    will_due_ms: int = 0  # while it is away


@dataclass
class ModelShare:
    """What the members of a share have together: what was kept in memory, and in the log."""

    volatile: list[Message] = field(default_factory=list)
    durable: list[Message] | None = None
    zeros: list[bytes] = field(default_factory=list)  # of QoS 0, to any of the members

    def take(self, body: bytes) -> None:
        for queue in (self.volatile, self.durable or []):
            queue[:] = [message for message in queue if message.body != body]


class SessionMachine(RuleBasedStateMachine):
    """Does the same to a broker on a simulated disk and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=4_096)
        self.sessions: dict[str, ModelSession] = {}
        self.shares: dict[str, ModelShare] = {}
        self.retained: dict[str, Message] = {}
        self.count = 0

    @property
    def now_ms(self) -> int:
        return self.broker.clock.ms

    # --- the model ---

    def members(self, share: str) -> list[ModelSession]:
        return [each for each in self.sessions.values() if share in each.subscriptions]

    def give(self, publication: PlainPublication, sender: ModelSession | None) -> None:
        """Somebody publishes."""
        topic, qos, (body,) = publication.topic, publication.qos, publication.bodies
        message = Message(body, publication.expire_ms)
        if publication.retain and body:
            self.retained[topic] = message
        elif publication.retain:
            self.retained.pop(topic, None)
        for session in self.sessions.values():
            wanted = [
                each.qos
                for filter, each in session.subscriptions.items()
                if parse_shared(filter) is None
                and matches(filter, topic)
                and not (each.no_local and session is sender)
            ]
            if wanted and session.durable and qos and max(wanted):
                sent = session.client is not None
                session.queue.append(Message(body, publication.expire_ms, sent))
            elif wanted and session.client is not None:
                session.live.append(body)
        for name, share in self.shares.items():
            shared = parse_shared(name)
            assert shared is not None
            if not matches(shared[1], topic):
                continue
            if qos:
                target = share.volatile if share.durable is None else share.durable
                target.append(Message(body, publication.expire_ms))
            elif any(member.client for member in self.members(name)):
                share.zeros.append(body)

    def join(self, session: ModelSession, filter: str) -> None:
        if parse_shared(filter) is not None:
            share = self.shares.setdefault(filter, ModelShare())
            if session.durable and share.durable is None:
                share.durable = []

    def part(self, session: ModelSession, filter: str) -> None:
        """A subscription ends."""
        session.subscriptions.pop(filter, None)
        if filter in self.shares and not self.members(filter):
            del self.shares[filter]

    def forget(self, name: str) -> None:
        """A session ends."""
        session = self.sessions.pop(name)
        for filter in list(session.subscriptions):
            self.part(session, filter)

    def publish_will(self, session: ModelSession) -> None:
        will, session.will = session.will, None
        if will is not None:
            self.give(publication_of(will.topic, will.body, will.qos, will.retain), None)

    def hang_up(self, name: str, said_goodbye: bool = False) -> None:
        """A connection ends."""
        session = self.sessions[name]
        assert session.client is not None
        held = [
            (consumer.tag, delivery)
            for consumer, delivery in session.client.held
            if 0 < delivery.expire_ms <= self.now_ms
        ]
        for tag, delivery in held:  # nobody else is given what is past its time
            if tag is not None:
                self.shares[tag.filter].take(delivery.body)
        session.client = None
        session.ended_ms = self.now_ms
        ends = not session.durable or not session.expiry_ms
        if said_goodbye:
            session.will = None
        elif session.will is not None and session.will.delay_ms and not ends:
            session.will_due_ms = self.now_ms + session.will.delay_ms
        else:
            self.publish_will(session)
        if ends:
            self.forget(name)

    def next_event(self) -> tuple[int, str] | None:
        events = []
        for name, session in self.sessions.items():
            if session.client is None:
                events.append((session.ended_ms + session.expiry_ms, name))
                if session.will is not None:
                    events.append((session.will_due_ms, name))
        return min(events, default=None)

    def happen(self, name: str, now_ms: int) -> None:
        session = self.sessions[name]
        ends = session.ended_ms + session.expiry_ms <= now_ms
        if ends or session.will_due_ms <= now_ms:
            self.publish_will(session)
        if ends:
            self.forget(name)

    def expire(self) -> None:
        """Drop what nobody holds and nobody will get any more."""
        now_ms = self.now_ms
        for session in self.sessions.values():
            if session.client is None:
                session.queue = [each for each in session.queue if not each.is_over(now_ms)]
        for name, share in self.shares.items():
            if not any(member.client for member in self.members(name)):
                for queue in (share.volatile, share.durable or []):
                    queue[:] = [each for each in queue if not each.is_over(now_ms)]
        self.retained = {t: m for t, m in self.retained.items() if not m.is_over(now_ms)}

    # --- helpers ---

    def connected(self, pick: int) -> str | None:
        names = sorted(name for name, each in self.sessions.items() if each.client is not None)
        return names[pick % len(names)] if names else None

    def body(self) -> bytes:
        self.count += 1
        return b"%d" % self.count + b"." * (self.count % 5) * 20

    def publication(self, topic: str, qos: int, retain: bool, ttl_ms: int) -> PlainPublication:
        body = b"" if retain and self.count % 4 == 3 else self.body()
        self.count += not body
        return publication_of(topic, body, qos, retain, self.now_ms + ttl_ms if ttl_ms else 0)

    # --- rules ---

    @initialize(expiry_ms=st.sampled_from([5_000, 60_000]), filter=st.sampled_from(PLAIN))
    def begin(self, expiry_ms: int, filter: str) -> None:
        """Two clients, so that there is something to do."""
        self.connect("a", expiry_ms, False)
        self.subscribe(0, filter, 2, True)
        self.connect("b", 0, False)
        self.share(1, SHARED[0], 1)
        self.share(0, SHARED[0], 1)

    @rule(
        name=NAMES,
        expiry_ms=EXPIRIES,
        clean=st.booleans(),
        delay_ms=st.sampled_from([-1, -1, 0, 400, 5_000]),
        qos=st.integers(0, 2),
        retain=st.booleans(),
    )
    def connect(
        self,
        name: str,
        expiry_ms: int,
        clean: bool,
        delay_ms: int = -1,
        qos: int = 1,
        retain: bool = False,
    ) -> None:
        """A client connects; with a will, unless ``delay_ms`` is negative."""
        session = self.sessions.get(name)
        if session is not None and session.client is not None:
            self.hang_up(name)
        session = self.sessions.get(name)
        if session is not None and clean:
            self.publish_will(session)
            self.forget(name)
            session = None
        client = Client(self.broker, name)
        will = will_of("w", self.body(), delay_ms, qos, retain) if delay_ms >= 0 else None
        present = client.connect(expiry_ms, clean, will=will)
        assert present == (session is not None)
        if session is None:
            session = self.sessions[name] = ModelSession(expiry_ms > 0, expiry_ms, client)
        self.expire()
        session.client, session.expiry_ms, session.will = client, expiry_ms, will
        for message in session.queue:
            message.sent = True

    @rule(pick=PICKS, said_goodbye=st.booleans())
    def disconnect(self, pick: int, said_goodbye: bool) -> None:
        name = self.connected(pick)
        if name is None:
            return
        client = self.sessions[name].client
        assert client is not None
        self.hang_up(name, said_goodbye)
        client.disconnect(said_goodbye)

    @rule(pick=PICKS, expiry_ms=st.sampled_from([0, 3_000, 60_000]))
    def change_expiry(self, pick: int, expiry_ms: int) -> None:
        name = self.connected(pick)
        if name is not None and self.sessions[name].durable:
            self.sessions[name].expiry_ms = expiry_ms
            real = self.broker.core.sessions[name]
            self.broker.core.clients.change_expiry(real, expiry_ms)
            self.broker.settle()

    @rule(pick=PICKS, filter=st.sampled_from(PLAIN), qos=st.integers(0, 2), local=st.booleans())
    def subscribe(self, pick: int, filter: str, qos: int, local: bool) -> None:
        self._subscribe(pick, Subscription(filter, qos, no_local=not local, id=qos))

    @rule(pick=PICKS, filter=st.sampled_from(SHARED), qos=st.integers(0, 2))
    def share(self, pick: int, filter: str, qos: int) -> None:
        self._subscribe(pick, Subscription(filter, qos))

    def _subscribe(self, pick: int, subscription: Subscription) -> None:
        name = self.connected(pick)
        if name is None:
            return
        session = self.sessions[name]
        assert session.client is not None
        clients = self.broker.core.clients
        known = clients.subscribe(session.client.session, subscription, self.now_ms)
        assert known == (subscription.filter in session.subscriptions)
        session.subscriptions[subscription.filter] = subscription
        self.join(session, subscription.filter)
        self.broker.settle()

    @rule(pick=PICKS, filter=st.sampled_from(PLAIN + SHARED))
    def unsubscribe(self, pick: int, filter: str) -> None:
        name = self.connected(pick)
        if name is None:
            return
        session = self.sessions[name]
        assert session.client is not None
        known = filter in session.subscriptions
        if known and filter in self.shares:
            for consumer, delivery in session.client.held:
                over = 0 < delivery.expire_ms <= self.now_ms
                if over and consumer.tag and consumer.tag.filter == filter:
                    self.shares[filter].take(delivery.body)
        self.part(session, filter)
        assert session.client.unsubscribe(filter) == known
        self.expire()

    @rule(
        pick=PICKS,
        topic=TOPICS,
        qos=st.integers(0, 2),
        retain=st.booleans(),
        ttl_ms=st.sampled_from([0, 0, 3_000]),
        packet=st.integers(0, 5),
    )
    def publish(
        self, pick: int, topic: str, qos: int, retain: bool, ttl_ms: int, packet: int
    ) -> None:
        publication = self.publication(topic, qos, retain, ttl_ms)
        name = self.connected(pick)
        sender = self.sessions[name] if name is not None else None
        if name is not None and sender is not None and pick % 3:
            publication.session = self.broker.core.sessions[name]
            if qos == 2 and sender.durable and packet and packet not in sender.inbound:
                publication.inbound = packet
                sender.inbound.add(packet)
        else:
            sender = None
        self.give(publication, sender)
        self.broker.core.topics.publish(SYSTEM, publication, self.now_ms)
        self.broker.settle()

    @rule(pick=PICKS, packet=st.integers(1, 5))
    def release_inbound(self, pick: int, packet: int) -> None:
        name = self.connected(pick)
        if name is not None and self.sessions[name].durable:
            self.sessions[name].inbound.discard(packet)
            queue = self.broker.core.sessions[name].queue
            assert queue is not None
            queue.release_inbound(packet)
            self.broker.settle()

    @rule(pick=PICKS, which=PICKS, received=st.booleans())
    def settle_one(self, pick: int, which: int, received: bool) -> None:
        """A client acknowledges a message, or says that it has received it (QoS 2)."""
        name = self.connected(pick)
        session = self.sessions[name] if name is not None else None
        if session is None or session.client is None or not session.client.held:
            return
        client = session.client
        consumer, delivery = client.held[which % len(client.held)]
        if received and consumer.tag is None:
            client.held.remove((consumer, delivery))
            assert client.queue.release(*delivery.receipt)
            self.broker.core.credit(consumer, 1)
            session.released.add(packet_id(delivery.seq))
            self.broker.settle()
        else:
            client.held.remove((consumer, delivery))
            client.held.insert(0, (consumer, delivery))
            assert client.ack(1) == [delivery.body]
        if consumer.tag is None:
            session.queue = [each for each in session.queue if each.body != delivery.body]
        else:
            self.shares[consumer.tag.filter].take(delivery.body)

    @rule(pick=PICKS)
    def complete(self, pick: int) -> None:
        name = self.connected(pick)
        if name is not None and self.sessions[name].released:
            number = self.sessions[name].released.pop()
            queue = self.broker.core.sessions[name].queue
            assert queue is not None
            queue.complete(number)
            self.broker.settle()

    @rule(ms=STEPS)
    def advance(self, ms: int) -> None:
        end = self.now_ms + ms
        while (event := self.next_event()) is not None and event[0] <= end:
            self.broker.advance(max(event[0] - self.now_ms, 0))
            self.expire()
            due_ms = event[0]
            while (event := self.next_event()) is not None and event[0] <= due_ms:
                self.happen(event[1], self.now_ms)
        self.broker.advance(end - self.now_ms)
        self.expire()

    @rule(interleave=st.booleans())
    def checkpoint(self, interleave: bool) -> None:
        def between() -> None:
            if interleave:
                self.publish(self.count, "t/1", 1, self.count % 2 == 0, 0, 0)

        self.broker.checkpoint(between)

    @rule()
    def compact(self) -> None:
        self.broker.compact()

    @precondition(lambda self: self.sessions or self.retained)
    @rule(power=st.integers(0, 100))
    def restart(self, power: int) -> None:
        """All that was asked for is kept; whoever was connected is away from now on."""
        self.broker = self.broker.restarted(random.Random(power) if power % 2 else None)
        for session in self.sessions.values():
            if session.client is not None:
                session.client, session.ended_ms = None, self.now_ms
                if session.will is not None:
                    session.will_due_ms = self.now_ms + session.will.delay_ms
            session.live.clear()
            if not session.durable:
                session.subscriptions.clear()  # nothing but its will is left
        self.shares = {n: s for n, s in self.shares.items() if self.members(n)}
        for share in self.shares.values():
            share.volatile.clear()
        self.broker.settle()
        while (event := self.next_event()) is not None and event[0] <= self.now_ms:
            self.happen(event[1], self.now_ms)
        self.expire()

    # --- what must always hold ---

    @invariant()
    def sessions_are_the_same(self) -> None:
        core = self.broker.core
        assert core.sessions.keys() == self.sessions.keys()
        for name, session in self.sessions.items():
            real = core.sessions[name]
            assert real.subscriptions == session.subscriptions
            assert (real.sink is not None) == (session.client is not None)
            assert (real.queue is not None) == session.durable
            assert real.expiry_ms == session.expiry_ms
            if real.queue is not None:
                assert real.queue.inbound == session.inbound
                assert real.queue.released == session.released
                assert real.queue.live >= len(session.queue)
        wills = {will.session: will.message for will in core.will_store.by_number.values()}
        assert wills == {n: s.will for n, s in self.sessions.items() if s.will is not None}
        total = sum(len(each.subscriptions) for each in self.sessions.values())
        assert core.clients.subscriptions == total
        plain = sum(f not in SHARED for s in self.sessions.values() for f in s.subscriptions)
        assert len(core.topics.router) == plain + len(self.shares)
        assert core.clients._shares.keys() == self.shares.keys()

    @invariant()
    def everybody_has_what_is_theirs(self) -> None:
        for session in self.sessions.values():
            if session.client is None:
                continue
            own = [d for consumer, d in session.client.held if consumer.tag is None]
            own.sort(key=lambda delivery: delivery.seq)
            assert [each.body for each in own] == [each.body for each in session.queue]
        for name, share in self.shares.items():
            held = [
                delivery.body
                for member in self.members(name)
                for consumer, delivery in (member.client.held if member.client else ())
                if consumer.tag is not None and consumer.tag.filter == name
            ]
            pool = [each.body for each in share.volatile + (share.durable or [])]
            if any(member.client for member in self.members(name)):
                assert sorted(held) == sorted(pool)
        self.check_live()

    def check_live(self) -> None:
        """What comes past the queues: one's own, and one's part of what is shared."""
        rest: list[bytes] = []
        for session in self.sessions.values():
            expected, session.live = session.live, []
            got = session.client.take_live() if session.client is not None else []
            for body in expected:
                got.remove(body)
            rest += got
        zeros = [body for share in self.shares.values() for body in share.zeros]
        for share in self.shares.values():
            share.zeros = []
        assert sorted(rest) == sorted(zeros)

    @invariant()
    def retained_messages_are_the_last_ones(self) -> None:
        client = Client(self.broker, "looker")
        client.session = self.broker.core.clients.open_unnamed(SYSTEM, client, self.now_ms)
        found = client.retained("#")
        client.leave()
        assert found == {topic: message.body for topic, message in self.retained.items()}

    @invariant()
    def nothing_is_left_behind(self) -> None:
        core = self.broker.core
        assert len(core._alarms) < 100 and len(core.clients._deadlines) < 100
        empty = not any(each.queue or each.durable for each in self.sessions.values())
        if empty and not self.retained and not any(each.durable for each in self.shares.values()):
            assert self.broker.log.statistics().bytes_live_estimate == 0

    def teardown(self) -> None:
        """When all have gone, all is gone."""
        for name in list(self.sessions):
            client = Client(self.broker, name)
            client.connect(clean=True)
            client.connect(0, clean=True)
            client.disconnect()
        looker = Client(self.broker, "last")
        for topic in {*self.retained, "w"}:  # a will may have come meanwhile
            looker.send(topic, b"", retain=True)
        self.broker.advance(60_000)
        core = self.broker.core
        assert not core.sessions and not core._by_id and not core.retained.bytes
        assert not core.will_store.by_number and not core.will_store.bytes
        assert self.broker.log.statistics().bytes_live_estimate == 0
        assert core.memory.statistics().bytes_live_estimate == 0

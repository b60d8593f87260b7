"""A standard queue against a list of messages that is obviously right, restarts included.

The model predicts exactly: which messages a receive gets, in which order, with which count; what
is ready, delayed, in flight, dead. Of what is pushed it says how much there is for all, and that
nobody is served who has to stand behind somebody else. The one liberty: a message past its time to
live may still stand in the queue (a restart forgets that it was due), as long as nobody is given
it.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.lease import Consumer, Exclusivity
from braidmq.broker.message import Delivery
from braidmq.broker.state import LANE_SHIFT, lane_code
from tests.broker_disk import DiskBroker
from tests.broker_harness import Collector, sent

MAX_RECEIVES = 3
LEASE_BUCKET_MS = 64

PRIORITIES = st.sampled_from([4, 4, 0, 9])
DELAYS = st.sampled_from([-1, 0, 700, 5_000])
TTLS = st.sampled_from([0, 0, 0, 1_000, 6_000])
STEPS = st.sampled_from([1, 63, 64, 500, 701, 3_000, 20_000])
PICKS = st.integers(0, 1_000)
LEASES = st.sampled_from([100, 500, 5_000])


@dataclass
class Message:
    """A message in the model."""

    seq: int
    body: bytes
    priority: int
    expire_ms: int
    due_ms: int = 0  # held until then
    receives: int = 0
    token: int = 0  # of its lease, 0: nobody has it
    lease_end_ms: int = 0  # 0: with its holder
    holder: "Holder | None" = None

    def is_expired(self, now_ms: int) -> bool:
        return 0 < self.expire_ms <= now_ms


@dataclass(eq=False)
class Holder:
    """A push consumer, in the model and in the broker."""

    consumer: Consumer
    sink: Collector
    credit: int

    @property
    def rank(self) -> int:
        return self.consumer.priority


@dataclass
class Model:
    """The queue as it should be."""

    now_ms: int
    messages: dict[int, Message] = field(default_factory=dict)
    dead: list[bytes] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    expired: set[int] = field(default_factory=set)
    spent: int = 0  # of the credit, by what was pushed and not attributed to a holder yet

    def take(self, most: int, wanted: int = -1) -> list[Message]:
        """What a consumer is given that may have ``most``, of one priority or of any."""
        ready = [m for m in self.messages.values() if not m.token and not m.due_ms]
        taken: list[Message] = []
        for message in sorted(ready, key=lambda m: (-m.priority, m.seq)):
            if len(taken) == most:
                break
            if message.is_expired(self.now_ms):
                self.expire(message)
            elif message.receives >= MAX_RECEIVES:
                self.bury(message)
            elif wanted in (-1, message.priority):
                message.receives += 1
                message.token = -1
                taken.append(message)
        return taken

    def bury(self, message: Message) -> None:
        del self.messages[message.seq]
        self.dead.append(message.body)

    def expire(self, message: Message) -> None:
        del self.messages[message.seq]
        self.expired.add(message.seq)

    def give_back(self, message: Message, delay_ms: int = 0, counted: bool = True) -> None:
        message.token, message.lease_end_ms, message.holder = 0, 0, None
        if not counted:
            message.receives -= 1
        if message.is_expired(self.now_ms):
            self.expire(message)
        elif counted and message.receives >= MAX_RECEIVES:
            self.bury(message)
        elif delay_ms:
            message.due_ms = self.now_ms + delay_ms

    def next_event(self) -> int | None:
        times = []
        for message in self.messages.values():
            if message.token:
                times += [message.lease_end_ms] if message.lease_end_ms else []
            else:
                times += [message.due_ms] if message.due_ms else []
                times += [message.expire_ms] if message.expire_ms > self.now_ms else []
        return min(times, default=None)

    def happen(self) -> list[Message]:
        """Do what is due at this moment; what is pushed now."""
        for message in list(self.messages.values()):
            if message.token and 0 < message.lease_end_ms <= self.now_ms:
                self.give_back(message)
        for message in list(self.messages.values()):
            if 0 < message.due_ms <= self.now_ms:
                message.due_ms = 0
            if not message.token and message.expire_ms == self.now_ms:
                self.expire(message)
        return self.push()

    def served(self) -> list[Holder]:
        """Those who may be given something: all, or the one that is preferred."""
        preferred = [h for h in self.holders if h.consumer.exclusive is Exclusivity.PREFERRED]
        return [max(preferred, key=lambda holder: holder.rank)] if preferred else self.holders

    def push(self) -> list[Message]:
        taken = self.take(sum(holder.credit for holder in self.served()) - self.spent)
        self.spent += len(taken)
        return taken


class QueueMachine(RuleBasedStateMachine):
    """Does the same to a broker on a simulated disk and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=2_048)
        self.broker.declare(max_receives=MAX_RECEIVES, dead_letter="dead")
        self.broker.settle()
        self.model = Model(self.broker.clock.ms)
        self.numbers: dict[int, int] = {}
        self.count = 0

    # --- helpers ---

    def check_pushed(self, expected: list[Message]) -> None:
        """Whatever was pushed is what the model says, in order for each consumer."""
        by_seq = {message.seq: message for message in expected}
        got = self.model.spent = 0
        lowest = 99
        for holder in self.model.holders:
            deliveries = holder.sink.take()
            assert len(deliveries) <= holder.credit
            assert not deliveries or holder in self.model.served()
            holder.credit -= len(deliveries)
            got += len(deliveries)
            lowest = min(lowest, holder.rank) if deliveries else lowest
            for delivery in deliveries:
                self.check_delivery(delivery, by_seq[delivery.seq])
                by_seq[delivery.seq].holder = holder
        assert got == len(expected)
        assert all(holder.rank <= lowest or not holder.credit for holder in self.model.served())

    def check_delivery(self, delivery: Delivery, message: Message) -> None:
        assert (delivery.seq, delivery.body) == (message.seq, message.body)
        assert delivery.receives == message.receives
        assert message.token == -1
        message.token = delivery.token

    def pick_leased(self, pick: int, count: int = 1) -> list[Message]:
        leased = sorted((m for m in self.model.messages.values() if m.token), key=lambda m: m.seq)
        if not leased:
            return []
        start = pick % len(leased)
        return leased[start : start + count]

    def receipts(self, messages: list[Message]) -> list[Delivery]:
        return [Delivery(m.seq, m.token, 0, 0, 0, b"", b"") for m in messages]

    def receive_of(self, wanted: int, count: int, lease: int) -> None:
        stands_by = self.model.served() is not self.model.holders
        expected = [] if stands_by else self.model.take(count, wanted)
        selector = f"JMSPriority = {wanted}" if wanted >= 0 else ""
        got = self.broker.receive(count, lease_ms=lease, selector=selector)
        # What has to be read from disk may end a receive early: ask until nothing is left.
        more = got
        while more and len(got) < count:
            more = self.broker.receive(count - len(got), lease_ms=lease, selector=selector)
            got = got + more
        for delivery, message in zip(got, expected, strict=True):
            self.check_delivery(delivery, message)
            end = self.model.now_ms + lease
            message.lease_end_ms = (end // LEASE_BUCKET_MS + 1) * LEASE_BUCKET_MS

    # --- rules ---

    @rule(count=st.integers(1, 4), priority=PRIORITIES, delay=DELAYS, ttl=TTLS)
    def send(self, count: int, priority: int, delay: int, ttl: int) -> None:
        now = self.model.now_ms
        bodies = []
        for _ in range(count):
            self.count += 1
            bodies.append(b"%d" % self.count + b"." * (self.count % 7) * 30)
        results = sent(self.broker.send(*bodies, priority=priority, delay_ms=delay, ttl_ms=ttl))
        for result, body in zip(results, bodies, strict=True):
            number = self.numbers.get(priority, 0) + 1
            self.numbers[priority] = number
            assert result.seq == lane_code(priority) << LANE_SHIFT | number
            due = now + delay if delay > 0 else 0
            message = Message(result.seq, body, priority, now + ttl if ttl else 0, due)
            self.model.messages[message.seq] = message
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.model.messages)
    @rule(count=st.integers(1, 6), lease=LEASES)
    def receive(self, count: int, lease: int) -> None:
        self.receive_of(-1, count, lease)

    @precondition(lambda self: self.model.messages)
    @rule(pick=PICKS, count=st.integers(1, 3), lease=LEASES)
    def receive_selected(self, pick: int, count: int, lease: int) -> None:
        messages = list(self.model.messages.values())
        self.receive_of(messages[pick % len(messages)].priority, count, lease)

    @precondition(lambda self: self.pick_leased(0))
    @rule(pick=PICKS, count=st.integers(1, 5))
    def ack(self, pick: int, count: int) -> None:
        chosen = self.pick_leased(pick, count)
        assert self.broker.ack(*self.receipts(chosen)) == [None] * len(chosen)
        for message in chosen:
            del self.model.messages[message.seq]
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.pick_leased(0))
    @rule(pick=PICKS, count=st.integers(1, 3), delay=st.sampled_from([0, 0, 300, 4_000]))
    def nack(self, pick: int, count: int, delay: int) -> None:
        chosen = self.pick_leased(pick, count)
        receipts = self.receipts(chosen)
        for message in chosen:
            self.model.give_back(message, delay)
        assert self.broker.nack(*receipts, delay_ms=delay) == [None] * len(chosen)
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.pick_leased(0))
    @rule(pick=PICKS)
    def nack_uncounted(self, pick: int) -> None:
        chosen = self.pick_leased(pick)
        receipts = self.receipts(chosen)
        for message in chosen:
            self.model.give_back(message, counted=False)
        assert self.broker.nack(*receipts, counted=False) == [None] * len(chosen)
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.pick_leased(0))
    @rule(pick=PICKS, lease=st.sampled_from([0, 200, 8_000]))
    def extend(self, pick: int, lease: int) -> None:
        chosen = self.pick_leased(pick)
        receipts = self.receipts(chosen)
        for message in chosen:
            if not lease:
                self.model.give_back(message)
            elif message.holder is None:
                end = self.model.now_ms + lease
                message.lease_end_ms = (end // LEASE_BUCKET_MS + 1) * LEASE_BUCKET_MS
        assert self.broker.extend(*receipts, lease_ms=lease) == [None] * len(chosen)
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.pick_leased(0))
    @rule(pick=PICKS)
    def refuse(self, pick: int) -> None:
        chosen = self.pick_leased(pick)
        self.broker.dead_letter(*self.receipts(chosen))
        for message in chosen:
            self.model.bury(message)
        self.check_pushed(self.model.push())

    @precondition(lambda self: len(self.model.holders) < 3)
    @rule(
        credit=st.integers(0, 4),
        priority=st.sampled_from([0, 0, 0, 5, -1]),
        exclusive=st.sampled_from([Exclusivity.SHARED] * 3 + [Exclusivity.PREFERRED]),
    )
    def attach(self, credit: int, priority: int, exclusive: Exclusivity) -> None:
        consumer, sink = self.broker.consume(credit, "q", "", priority, exclusive)
        self.model.holders.append(Holder(consumer, sink, credit))
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICKS, credit=st.integers(1, 4))
    def give_credit(self, pick: int, credit: int) -> None:
        holder = self.model.holders[pick % len(self.model.holders)]
        holder.credit += credit
        self.broker.credit(holder.consumer, credit)
        self.check_pushed(self.model.push())

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICKS, unprocessed=st.integers(0, 2))
    def cancel(self, pick: int, unprocessed: int) -> None:
        holder = self.model.holders.pop(pick % len(self.model.holders))
        held = [m for m in self.model.messages.values() if m.holder is holder]
        held.sort(key=lambda m: -m.seq)
        receipts = self.receipts(held[:unprocessed])
        for number, message in enumerate(held):
            self.model.give_back(message, counted=number >= unprocessed)
        self.broker.cancel(holder.consumer, *receipts)
        self.check_pushed(self.model.push())

    @rule(ms=STEPS)
    def advance(self, ms: int) -> None:
        model = self.model
        end = model.now_ms + ms
        pushed: list[Message] = []
        while (event := model.next_event()) is not None and event <= end:
            model.now_ms = max(event, model.now_ms)
            pushed += model.happen()
        model.now_ms = end
        self.broker.advance(ms)
        self.check_pushed(pushed)

    @rule()
    def purge(self) -> None:
        standing = [m for m in self.model.messages.values() if not m.is_expired(self.model.now_ms)]
        assert self.broker.purge() >= len(standing)
        self.model.messages.clear()

    @rule(interleave=st.booleans())
    def checkpoint(self, interleave: bool) -> None:
        self.broker.checkpoint((lambda: self.send(1, 4, -1, 0)) if interleave else lambda: None)

    @rule()
    def compact(self) -> None:
        self.broker.compact()

    @rule()
    def restart(self) -> None:
        """What was acknowledged is there; nobody holds anything; counts stand."""
        self.broker = self.broker.restarted()
        self.model.holders.clear()
        for message in self.model.messages.values():
            message.token, message.lease_end_ms, message.holder = 0, 0, None

    # --- what must always hold ---

    @invariant()
    def same(self) -> None:
        now = self.model.now_ms
        expected = {}
        for message in self.model.messages.values():
            state = "in-flight" if message.token else "delayed" if message.due_ms else "ready"
            if message.token or not message.is_expired(now):
                expected[message.seq] = (message.body, message.receives, state)
        found = {m.seq: (m.body, m.receives, m.state) for m in self.broker.browse()}
        for seq in found.keys() - expected.keys():
            known = self.model.messages.get(seq)
            assert seq in self.model.expired or (known is not None and known.is_expired(now))
            assert found.pop(seq)[2] == "ready"
        assert found == expected
        assert sorted(self.broker.bodies("dead")) == sorted(self.model.dead)


TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

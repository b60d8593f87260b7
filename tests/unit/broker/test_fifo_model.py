"""A FIFO queue against lists of messages, one for each group, restarts included.

Which group is served next is the broker's choice; everything else is predicted: nobody is given a
message while an earlier one of its group is there or another one is in flight, nothing that could
be given is withheld, ids are recognised for exactly the window, numbers rise by one.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.lease import Consumer
from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery
from tests.broker_disk import DiskBroker
from tests.broker_harness import Collector, sent

MAX_RECEIVES = 3
WINDOW_MS = 5_000
LEASE_BUCKET_MS = 64

GROUPS = st.sampled_from("abcd")
TTLS = st.sampled_from([0, 0, 0, 1_500])
STEPS = st.sampled_from([1, 64, 500, 3_000, WINDOW_MS - 1, WINDOW_MS])
LEASES = st.sampled_from([100, 600, 8_000])
PICKS = st.integers(0, 1_000)


@dataclass
class Message:
    """A message in the model."""

    seq: int
    body: bytes
    group: str
    expire_ms: int
    due_ms: int
    receives: int = 0
    token: int = 0
    lease_end_ms: int = 0
    holder: "Holder | None" = None


@dataclass(eq=False)
class Holder:
    """A push consumer."""

    consumer: Consumer
    sink: Collector
    credit: int


@dataclass
class Attempt:
    """A receive that may be repeated."""

    until_ms: int
    receipts: list[tuple[int, int]]


@dataclass
class Model:
    """The queue as it should be."""

    now_ms: int
    delay_ms: int = 0
    last_due_ms: int = 0
    number: int = 0
    messages: dict[int, Message] = field(default_factory=dict)
    dead: set[bytes] = field(default_factory=set)
    ids: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # -> when, id, seq
    attempts: dict[str, Attempt] = field(default_factory=dict)
    holders: list[Holder] = field(default_factory=list)

    def is_over(self, message: Message) -> bool:
        """Whether it will never be delivered again, should somebody look at it."""
        expired = 0 < message.expire_ms <= self.now_ms
        return not message.token and (expired or message.receives >= MAX_RECEIVES)

    def queue_of(self, group: str) -> list[Message]:
        """A group's messages in order, without those that are over."""
        found = [m for m in self.messages.values() if m.group == group and not self.is_over(m)]
        return sorted(found, key=lambda m: m.seq)

    def servable(self, group: str) -> list[Message]:
        """What one receive may be given of a group, if nothing of it is in flight."""
        messages = self.queue_of(group)
        if any(m.token for m in messages):
            return []
        taken: list[Message] = []
        for message in messages:
            if message.due_ms:
                break
            taken.append(message)
        return taken

    def give_back(self, message: Message, delay_ms: int = 0, counted: bool = True) -> None:
        message.token, message.lease_end_ms, message.holder = 0, 0, None
        if not counted:
            message.receives -= 1
        if delay_ms and not self.is_over(message):
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

    def happen(self) -> None:
        """Do what is due at this moment."""
        for message in self.messages.values():
            if message.token and 0 < message.lease_end_ms <= self.now_ms:
                self.give_back(message)
            if 0 < message.due_ms <= self.now_ms:
                message.due_ms = 0


class FifoMachine(RuleBasedStateMachine):
    """Does the same to a broker on a simulated disk and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker(
            limits=Limits(dedup_window_ms=WINDOW_MS), segment_bytes=2_048, cache_bytes_max=4_096
        )
        self.broker.declare(fifo=True, max_receives=MAX_RECEIVES, dead_letter="dead")
        self.broker.settle()
        self.model = Model(self.broker.clock.ms)
        self.fetches = 0
        self.count = 0

    # --- helpers ---

    def has_fetched(self) -> bool:
        """Whether something was read from disk since the last question: it cuts receives short."""
        before, self.fetches = self.fetches, self.broker.log.statistics().fetches
        return self.fetches != before

    def check_taken(self, delivery: Delivery, message: Message) -> None:
        assert (delivery.seq, delivery.body) == (message.seq, message.body)
        message.receives += 1
        assert delivery.receives == message.receives
        message.token = delivery.token

    def check_pushed(self) -> None:
        """Whatever was pushed might be pushed, and nothing that might was not."""
        for holder in self.model.holders:
            for delivery in holder.sink.take():
                message = self.model.messages[delivery.seq]
                assert self.model.servable(message.group)[:1] == [message]
                self.check_taken(delivery, message)
                message.holder = holder
                holder.credit -= 1
                assert holder.credit >= 0
        if any(holder.credit for holder in self.model.holders):
            assert not any(self.model.servable(group) for group in "abcd")

    def pick_leased(self, pick: int, count: int = 1) -> list[Message]:
        leased = sorted((m for m in self.model.messages.values() if m.token), key=lambda m: m.seq)
        start = pick % len(leased) if leased else 0
        return leased[start : start + count]

    def receipts(self, messages: list[Message]) -> list[Delivery]:
        return [Delivery(m.seq, m.token, 0, 0, 0, b"", b"") for m in messages]

    def lease_end(self, lease_ms: int) -> int:
        return ((self.model.now_ms + lease_ms) // LEASE_BUCKET_MS + 1) * LEASE_BUCKET_MS

    # --- rules ---

    @rule(group=GROUPS, dedup=st.sampled_from(["", "", "x", "y", "z"]), ttl=TTLS)
    def send(self, group: str, dedup: str, ttl: int) -> None:
        model = self.model
        self.count += 1
        body = b"%d" % self.count + b"." * (self.count % 5) * 40
        (result,) = sent(self.broker.send(body, group=group, dedup_id=dedup, ttl_ms=ttl))
        known = model.ids.get(dedup) if dedup else None
        if known is not None and known[0] + WINDOW_MS > model.now_ms:
            assert (result.id, result.seq, result.duplicate) == (known[1], known[2], True)
            return
        model.number += 1
        assert (result.seq, result.duplicate) == (model.number, False)
        if dedup:
            model.ids[dedup] = (model.now_ms, result.id, result.seq)
        due = max(model.now_ms + model.delay_ms, model.last_due_ms)
        if due <= model.now_ms:
            due = 0
        else:
            model.last_due_ms = due
        expire = model.now_ms + ttl if ttl else 0
        model.messages[result.seq] = Message(result.seq, body, group, expire, due)
        self.check_pushed()

    def take(self, got: list[Delivery], count: int, lease: int, cut_short: bool) -> None:
        """Check what a receive got."""
        servable = {group: self.model.servable(group) for group in "abcd"}
        assert len(got) <= count
        for delivery in got:
            message = self.model.messages[delivery.seq]
            assert servable[message.group][:1] == [message], "out of order, or group in flight"
            servable[message.group].pop(0)
            self.check_taken(delivery, message)
            message.lease_end_ms = self.lease_end(lease)
        if len(got) < count and not (cut_short and got):
            assert not any(servable.values()), "something was withheld"

    @rule(count=st.integers(1, 6), lease=LEASES)
    def receive(self, count: int, lease: int) -> None:
        self.has_fetched()
        got = self.broker.receive(count, lease_ms=lease)
        self.take(got, count, lease, self.has_fetched())
        self.check_pushed()

    @rule(count=st.integers(1, 3), lease=LEASES, attempt=st.sampled_from(["one", "two"]))
    def attempt(self, count: int, lease: int, attempt: str) -> None:
        model = self.model
        self.has_fetched()
        got = self.broker.receive(count, lease_ms=lease, attempt=attempt)
        known = model.attempts.get(attempt)
        held: list[Message] = []
        if known is not None and known.until_ms > model.now_ms:
            for seq, token in known.receipts:
                message = model.messages.get(seq)
                if message is not None and message.token == token:
                    held.append(message)
        if held:
            assert [each.receipt for each in got] == [(m.seq, m.token) for m in held]
            assert [each.receives for each in got] == [m.receives for m in held]
            for message in held:
                message.lease_end_ms = self.lease_end(lease)
        else:
            self.take(got, count, lease, self.has_fetched())
            if got:
                receipts = [each.receipt for each in got]
                model.attempts[attempt] = Attempt(model.now_ms + WINDOW_MS, receipts)
        self.check_pushed()

    @rule(pick=PICKS, count=st.integers(1, 4))
    def ack(self, pick: int, count: int) -> None:
        chosen = self.pick_leased(pick, count)
        assert self.broker.ack(*self.receipts(chosen)) == [None] * len(chosen)
        for message in chosen:
            del self.model.messages[message.seq]
        self.check_pushed()

    @rule(pick=PICKS, count=st.integers(1, 3), delay=st.sampled_from([0, 0, 300, 4_000]))
    def nack(self, pick: int, count: int, delay: int) -> None:
        chosen = self.pick_leased(pick, count)
        receipts = self.receipts(chosen)
        for message in chosen:
            self.model.give_back(message, delay)
        assert self.broker.nack(*receipts, delay_ms=delay) == [None] * len(chosen)
        self.check_pushed()

    @rule(pick=PICKS)
    def nack_uncounted(self, pick: int) -> None:
        chosen = self.pick_leased(pick)
        receipts = self.receipts(chosen)
        for message in chosen:
            self.model.give_back(message, counted=False)
        assert self.broker.nack(*receipts, counted=False) == [None] * len(chosen)
        self.check_pushed()

    @rule(pick=PICKS, lease=st.sampled_from([0, 200, 8_000]))
    def extend(self, pick: int, lease: int) -> None:
        chosen = self.pick_leased(pick)
        receipts = self.receipts(chosen)
        for message in chosen:
            if not lease:
                self.model.give_back(message)
            elif message.holder is None:
                message.lease_end_ms = self.lease_end(lease)
        assert self.broker.extend(*receipts, lease_ms=lease) == [None] * len(chosen)
        self.check_pushed()

    @rule(pick=PICKS)
    def refuse(self, pick: int) -> None:
        chosen = self.pick_leased(pick)
        self.broker.dead_letter(*self.receipts(chosen))
        for message in chosen:
            del self.model.messages[message.seq]
            self.model.dead.add(message.body)
        self.check_pushed()

    @precondition(lambda self: len(self.model.holders) < 3)
    @rule(credit=st.integers(0, 3))
    def attach(self, credit: int) -> None:
        consumer, sink = self.broker.consume(credit)
        self.model.holders.append(Holder(consumer, sink, credit))
        self.check_pushed()

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICKS, credit=st.integers(1, 3))
    def give_credit(self, pick: int, credit: int) -> None:
        holder = self.model.holders[pick % len(self.model.holders)]
        holder.credit += credit
        self.broker.credit(holder.consumer, credit)
        self.check_pushed()

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICKS, unprocessed=st.integers(0, 2))
    def cancel(self, pick: int, unprocessed: int) -> None:
        holder = self.model.holders.pop(pick % len(self.model.holders))
        held = [m for m in self.model.messages.values() if m.holder is holder]
        receipts = self.receipts(held[:unprocessed])
        for number, message in enumerate(held):
            self.model.give_back(message, counted=number >= unprocessed)
        self.broker.cancel(holder.consumer, *receipts)
        self.check_pushed()

    @rule(delay=st.sampled_from([0, 0, 400, 3_000]))
    def set_delay(self, delay: int) -> None:
        self.broker.update(delay_ms=delay)
        self.model.delay_ms = delay
        self.check_pushed()

    @rule(ms=STEPS)
    def advance(self, ms: int) -> None:
        model = self.model
        end = model.now_ms + ms
        while (event := model.next_event()) is not None and event <= end:
            self.broker.advance(event - model.now_ms)
            model.now_ms = event
            model.happen()
            self.check_pushed()
        self.broker.advance(end - model.now_ms)
        model.now_ms = end
        self.check_pushed()

    @rule()
    def purge(self) -> None:
        self.resolve()
        assert self.broker.purge() == len(self.model.messages)
        self.model.messages.clear()
        self.model.attempts.clear()
        self.model.last_due_ms = 0

    @rule(interleave=st.booleans())
    def checkpoint(self, interleave: bool) -> None:
        self.broker.checkpoint((lambda: self.send("a", "", 0)) if interleave else lambda: None)

    @rule()
    def compact(self) -> None:
        self.broker.compact()

    @rule()
    def restart(self) -> None:
        self.resolve()
        self.broker = self.broker.restarted()
        self.fetches = 0
        model = self.model
        model.holders.clear()
        model.attempts.clear()
        for message in model.messages.values():
            message.token, message.lease_end_ms, message.holder = 0, 0, None
        fresh = [m.due_ms for m in model.messages.values() if not m.receives]
        model.last_due_ms = max(fresh, default=0)

    # --- what must always hold ---

    def resolve(self) -> None:
        """Of what is over, see what the broker has noticed already."""
        there = {each.seq for each in self.broker.browse()}
        for message in list(self.model.messages.values()):
            if message.seq not in there:
                assert self.model.is_over(message), f"message {message.seq} is lost"
                del self.model.messages[message.seq]
                expired = 0 < message.expire_ms <= self.model.now_ms
                dead = message.body in self.broker.bodies("dead")
                assert expired or dead
                if dead:
                    self.model.dead.add(message.body)

    @invariant()
    def same(self) -> None:
        self.resolve()
        expected = {}
        for message in self.model.messages.values():
            state = "in-flight" if message.token else "delayed" if message.due_ms else "ready"
            expected[message.seq] = (message.body, message.receives, state)
        found = {m.seq: (m.body, m.receives, m.state) for m in self.broker.browse()}
        assert found == expected
        assert sorted(self.broker.bodies("dead")) == sorted(self.model.dead)


TestFifoModel = FifoMachine.TestCase
TestFifoModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""Sticky groups against what was promised: one consumer for a group, in order, and no standstill.

What is predicted: while the consumer lives that got the first message of a group, it gets all of
them, in the order they were sent, until one closes the group; credit is never exceeded; nobody is
given what somebody has. What somebody could be given is never left lying, however little the
queue looks ahead: whenever all consumers have credit enough, nothing stays ready.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from braidmq.broker.lease import Consumer, Exclusivity
from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery, pack_headers
from tests.broker_harness import Collector, Harness, sent

GROUPS = st.sampled_from(["", "a", "a", "b", "c", "d", "e"])
PRIORITY = {"d": 9, "e": 0}  # of a group's messages: all have the same, or there is no order
WANTED: dict[str, Callable[[str, int], bool]] = {  # selector -> of a header and a priority
    "": lambda n, priority: True,
    "n = '1'": lambda n, priority: n == "1",
    "n = '2'": lambda n, priority: n == "2",
    "JMSPriority < 9": lambda n, priority: priority < 9,
    "n = '1' OR JMSPriority = 9": lambda n, priority: n == "1" or priority == 9,
}
SELECTORS = st.sampled_from(["", "", "", *WANTED])
PICKS = st.integers(0, 1_000)


@dataclass
class Message:
    """What was sent, and who got it first."""

    n: str
    group: str
    life: int  # how often its group was closed before
    closes: bool
    body: bytes


@dataclass(eq=False)
class Holder:
    """A consumer in the model and in the broker."""

    consumer: Consumer
    sink: Collector
    credit: int
    wants: Callable[[str, int], bool]
    held: list[Delivery] = field(default_factory=list)


class AffinityMachine(RuleBasedStateMachine):
    """Sends, closes, takes and gives back, with as little room as there can be."""

    limits = Limits(sticky_lookahead_messages_max=6)

    def __init__(self) -> None:
        super().__init__()
        self.broker = Harness(limits=self.limits)
        self.broker.declare(group_affinity=True)
        self.messages: dict[int, Message] = {}
        self.holders: list[Holder] = []
        self.lives: dict[str, int] = {}
        self.owners: dict[tuple[str, int], Holder] = {}
        self.latest: dict[tuple[str, int], int] = {}  # the newest that was delivered
        self.seen: set[int] = set()
        self.tainted: set[str] = set()  # groups that were closed twice by one message
        self.plain = True  # there never was a selector

    # --- helpers ---

    def check_pushed(self) -> None:
        held = {each.seq for holder in self.holders for each in holder.held}
        for holder in self.holders:
            deliveries = holder.sink.take()
            assert len(deliveries) <= holder.credit
            holder.credit -= len(deliveries)
            holder.held += deliveries
            for delivery in deliveries:
                assert delivery.seq not in held
                held.add(delivery.seq)
                message = self.messages[delivery.seq]
                assert delivery.body == message.body
                assert holder.wants(message.n, PRIORITY.get(message.group, 4))
                if message.group and message.group not in self.tainted and self.plain:
                    self.check_group(holder, delivery.seq, message)
        if not any(holder.credit for holder in self.holders):
            return
        ready = {each.seq for each in self.broker.browse(state="ready")}
        if self.plain and len(ready) <= self.limits.sticky_lookahead_messages_max:
            assert all(self.messages[seq].group for seq in ready)

    def check_group(self, holder: Holder, seq: int, message: Message) -> None:
        key = message.group, message.life
        if seq in self.seen:
            return  # given back: its group may have been closed meanwhile
        self.seen.add(seq)
        owner = self.owners.setdefault(key, holder)
        if owner not in self.holders:
            owner = self.owners[key] = holder
        assert owner is holder, f"group {key} has two consumers"
        assert self.latest.get(key, 0) < seq, f"group {key} is out of order"
        self.latest[key] = seq

    def return_of(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            message = self.messages[delivery.seq]
            if message.closes:
                self.tainted.add(message.group)

    def give(self, holder: Holder, credit: int) -> None:
        holder.credit += credit
        self.broker.credit(holder.consumer, credit)

    # --- rules ---

    @rule(group=GROUPS, count=st.integers(1, 5), n=st.sampled_from("12"), closes=st.booleans())
    def send(self, group: str, count: int, n: str, closes: bool) -> None:
        for number in range(count):
            last = closes and bool(group) and number == count - 1
            headers = {"n": n, "group-sequence": "-1" if last else str(number + 1)}
            body = b"%s %d" % (group.encode(), len(self.messages))
            (result,) = sent(
                self.broker.send(
                    body,
                    attributes=pack_headers(headers, self.limits),
                    group=group,
                    priority=PRIORITY.get(group, 4),
                )
            )
            life = self.lives.get(group, 0)
            self.messages[result.seq] = Message(n, group, life, last, body)
            self.lives[group] = life + last
        self.check_pushed()

    @precondition(lambda self: len(self.holders) < 4)
    @rule(
        credit=st.integers(0, 4),
        selector=SELECTORS,
        priority=st.sampled_from([0, 0, 3]),
        exclusive=st.sampled_from([Exclusivity.SHARED] * 7 + [Exclusivity.PREFERRED]),
    )
    def attach(self, credit: int, selector: str, priority: int, exclusive: Exclusivity) -> None:
        preferred = self.broker.core.queue("q").turns.preferred
        consumer, sink = self.broker.consume(credit, "q", selector, priority, exclusive)
        self.plain = self.plain and not selector and exclusive is Exclusivity.SHARED
        assert preferred is None or not self.plain
        self.holders.append(Holder(consumer, sink, credit, WANTED[selector]))
        self.check_pushed()

    @precondition(lambda self: self.holders)
    @rule(pick=PICKS, credit=st.integers(1, 4))
    def give_credit(self, pick: int, credit: int) -> None:
        self.give(self.holders[pick % len(self.holders)], credit)
        self.check_pushed()

    @precondition(lambda self: any(holder.held for holder in self.holders))
    @rule(pick=PICKS, count=st.integers(1, 4), back=st.booleans())
    def settle(self, pick: int, count: int, back: bool) -> None:
        holding = [holder for holder in self.holders if holder.held]
        holder = holding[pick % len(holding)]
        some, holder.held = holder.held[:count], holder.held[count:]
        if back:
            self.return_of(some)
            self.broker.nack(*some)
        else:
            self.broker.ack(*some)
            for each in some:
                del self.messages[each.seq]
        self.check_pushed()

    @precondition(lambda self: self.holders)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        holder = self.holders.pop(pick % len(self.holders))
        self.return_of(holder.held)
        self.broker.cancel(holder.consumer)
        self.check_pushed()

    @rule()
    def receive(self) -> None:
        """It is no consumer that lives: what it gets is of no group that somebody has."""
        preferred = self.broker.core.queue("q").turns.preferred
        for delivery in self.broker.receive(1):
            message = self.messages.pop(delivery.seq)
            assert preferred is None
            if self.plain and message.group and message.group not in self.tainted:
                assert self.owners.get((message.group, message.life)) not in self.holders
                self.tainted.add(message.group)
            self.broker.ack(delivery)
        self.check_pushed()

    @rule(on=st.booleans())
    def purge_or_switch(self, on: bool) -> None:
        """The setting can be changed at any time; what nobody has can go at any time."""
        if on:
            self.broker.update(group_affinity=False)
            self.tainted |= set(self.lives)
            self.broker.update(group_affinity=True)
        else:
            self.broker.purge()
            self.messages.clear()
            for holder in self.holders:
                holder.held.clear()
                holder.sink.take()
        self.check_pushed()

    @precondition(lambda self: any(not h.consumer.selector for h in self.holders))
    @rule()
    def drain(self) -> None:
        """Whoever has credit enough is given all there is for it: nothing is left lying."""
        for holder in self.holders:
            self.give(holder, 1_000)
        self.check_pushed()
        served = self.broker.core.queue("q").turns.preferred
        if served is None or not served.selector:
            assert self.broker.browse(state="ready") == []


class CrowdedMachine(AffinityMachine):
    """The same with one bucket for all groups: they are never told apart."""

    limits = Limits(sticky_lookahead_messages_max=1, sticky_groups_max=1)


TestAffinityModel = AffinityMachine.TestCase
TestAffinityModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestCrowdedModel = CrowdedMachine.TestCase
TestCrowdedModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

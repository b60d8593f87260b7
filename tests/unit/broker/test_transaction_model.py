"""Random transactions against a model: all steps of one are done, in order, or none of them.

The model is a list of bodies for each queue, and does steps one by one on a copy: the first that it
cannot do is the one that the broker has to name.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError, LeaseLost, QueueFull
from braidmq.broker.message import Delivery, Outgoing, Sent
from braidmq.broker.publishing import Posted
from braidmq.broker.streams import Appending
from braidmq.broker.transactionverbs import Ack, Append, Nack, Publish, Send, Step
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, declare_stream, records

# name -> how many it may hold, and what happens to one more
QUEUES: dict[str, tuple[int, str]] = {
    "reject": (4, "reject"),
    "drop": (3, "drop-oldest"),
    "bury": (3, "dead-letter"),
    "dead": (6, "reject"),
    "fifo": (0, "reject"),
    "memory": (3, "reject"),
}
BOUND = ("reject", "fifo", "drop")
RECEIVES_MAX = 2  # of "bury"
NAMES = st.sampled_from(list(QUEUES))


@dataclass
class Entry:
    body: bytes
    receives: int = 0
    token: int = 0  # while it is held


@dataclass
class Model:
    """Queues by name: their messages by sequence. The stream, and what the FIFO queue knows."""

    queues: dict[str, dict[int, Entry]] = field(default_factory=lambda: {n: {} for n in QUEUES})
    following: dict[str, int] = field(default_factory=lambda: dict.fromkeys(QUEUES, 1))
    stream: list[bytes] = field(default_factory=list)
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, name: str, body: bytes) -> int:
        seq = self.following[name]
        self.following[name] += 1
        self.queues[name][seq] = Entry(body)
        return seq

    def send(self, name: str, body: bytes) -> Any:
        queue, (most, overflow) = self.queues[name], QUEUES[name]
        if name == "fifo" and body in self.known:
            return self.known[body], True
        while most and len(queue) >= most:
            free = [seq for seq, entry in queue.items() if not entry.token]
            if overflow == "reject" or not free:
                raise QueueFull
            victim = queue.pop(min(free))
            if overflow == "dead-letter":
                self.add("dead", victim.body)
        seq = self.add(name, body)
        if name == "fifo":
            self.known[body] = seq
        return seq, False

    def publish(self, body: bytes) -> Any:
        for name in BOUND:
            try:
                self.send(name, body)
            except QueueFull:
                pass  # its bindings name no dead-letter queue
        self.stream.append(body)
        return len(BOUND) + 1

    def settle(self, name: str, seq: int, token: int, stays: bool) -> None:
        entry = self.queues[name].get(seq)
        if entry is None or not entry.token or entry.token != token:
            raise LeaseLost
        entry.token = 0
        if not stays:
            del self.queues[name][seq]
        elif name == "bury" and entry.receives >= RECEIVES_MAX:
            del self.queues[name][seq]
            self.add("dead", entry.body)

    def do(self, step: Step) -> Any:
        match step:
            case Send():
                return self.send(step.queue, step.message.body)
            case Publish():
                return self.publish(step.message.body)
            case Append():
                first = len(self.stream) + 1
                self.stream += step.batch.bodies
                return [(0, first + n) for n in range(len(step.batch.bodies))]
            case Ack() | Nack():
                for seq, token in step.receipts:
                    self.settle(step.queue, seq, token, isinstance(step, Nack))
                return None


class Transactions(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker()
        for name, (most, overflow) in {"dead": QUEUES["dead"], **QUEUES}.items():
            more: dict[str, Any] = {"messages_max": most, "overflow": overflow}
            if name == "bury":
                more |= {"dead_letter": "dead", "max_receives": RECEIVES_MAX}
            if name == "fifo":
                more |= {"fifo": True, "content_dedup": True}
            if name == "memory":
                more["durability"] = Durability.MEMORY
            self.broker.declare(name, **more)
        declare_stream(self.broker, "s")
        for name in BOUND:
            bind(self.broker, "t", name)
        bind(self.broker, "t", "s", "stream")
        self.broker.settle()
        self.model = Model()
        self.held: list[tuple[str, Delivery]] = []
        self.number = 0

    def steps(self, data: st.DataObject) -> list[Step]:
        found: list[Step] = []
        for _ in range(data.draw(st.integers(1, 7))):
            kinds = ["send", "send", "publish", "append"] + ["ack", "nack"] * bool(self.held)
            kind = data.draw(st.sampled_from(kinds))
            self.number += 1
            body = b"%d" % self.number
            if kind == "send":
                name = data.draw(NAMES)
                if name == "fifo":
                    body = b"%d" % data.draw(st.integers(1, 9))
                found.append(Send(name, Outgoing(body)))
            elif kind == "publish":
                found.append(Publish("t", Posted(body)))
            elif kind == "append":
                found.append(Append("s", Appending([body, b""], [b"", b""])))
            else:
                name, delivery = data.draw(st.sampled_from(self.held))
                found.append((Ack if kind == "ack" else Nack)(name, [delivery.receipt]))
        return found

    @rule(data=st.data())
    def transact(self, data):
        steps = self.steps(data)
        model, expected = deepcopy(self.model), []
        refused: BraidError | None = None
        for index, step in enumerate(steps):
            try:
                expected.append(model.do(step))
            except BraidError as error:
                error.step = index
                refused = error
                break
        core, now_ms = self.broker.core, self.broker.clock.ms
        if refused is not None:
            with pytest.raises(type(refused)) as caught:
                core.transact(SYSTEM, steps, now_ms)
            assert caught.value.step == refused.step
            return
        frames = self.broker.log.statistics().frames
        results = core.transact(SYSTEM, steps, now_ms)[1]
        self.broker.settle()
        assert self.broker.log.statistics().frames <= frames + 1
        shown = [(r.seq, r.duplicate) if isinstance(r, Sent) else r for r in results]
        assert shown == expected
        self.model = model

    @rule(name=NAMES, count=st.integers(1, 3))
    def receive(self, name, count):
        for delivery in self.broker.receive(count, name):
            entry = self.model.queues[name][delivery.seq]
            assert entry.body == delivery.body and not entry.token
            entry.receives, entry.token = delivery.receives, delivery.token
            self.held.append((name, delivery))

    @precondition(lambda self: self.held)
    @rule(power_cut=st.none() | st.randoms(use_true_random=False))
    def restart(self, power_cut):
        self.broker = self.broker.restarted(power_cut)
        self.held.clear()
        for queue in self.model.queues.values():
            for entry in queue.values():
                entry.token = 0
        self.model.queues["memory"].clear()
        self.model.following["memory"] = 1

    @invariant()
    def all_is_as_it_should_be(self):
        for name, queue in self.model.queues.items():
            found = [(each.seq, each.body) for each in self.broker.browse(name)]
            assert found == [(seq, entry.body) for seq, entry in sorted(queue.items())], name
        assert records(self.broker, "s")[0] == self.model.stream


TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)

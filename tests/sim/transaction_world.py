"""A world (``places_world.py``) whose workers take messages and pass them on in transactions.

Feeders send several messages at once. A worker takes one of them, and in one transaction settles it
and sends what it made of it to several places. Takers receive all that comes there. Which promise
was broken is the first word of :class:`Broken`:

half        some places have what a transaction sent, others have not
lost        a transaction was confirmed, and nothing of it is there
twice       two transactions that settled the same message are there
refused     a transaction was refused, and something of it is there
misordered  a FIFO group has a later transaction's message before an earlier one's
left        a message was never worked on, though its feeder was told that it is kept
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import LeaseLost
from braidmq.broker.message import Delivery, Outgoing
from braidmq.broker.publishing import Posted
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled
from braidmq.broker.settings import QueueSettings
from braidmq.broker.streams import Appending
from braidmq.broker.transactionverbs import Ack, Append, Publish, Schedule, Send, Step
from braidmq.storage.log import Durability
from tests.sim.audit import Broken
from tests.sim.clients import Client, Listener
from tests.sim.places_world import PlacesWorld

__all__ = ["TransactionWorld"]

QUEUES = {
    "in": QueueSettings(),
    "out": QueueSettings(),
    "fifo": QueueSettings(fifo=True, content_dedup=True),
    "bound": QueueSettings(delay_ms=20),
    "later": QueueSettings(),
    "narrow": QueueSettings(messages_max=4, overflow="dead-letter", dead_letter="overflowed"),
    "memory": QueueSettings(durability=Durability.MEMORY, messages_max=5, overflow="drop-oldest"),
}
# Where takers receive -> as what it counts for whoever sent it.
PLACES = {
    "out": "out",
    "fifo": "fifo",
    "bound": "topic",
    "view": "stream",
    "later": "schedule",
    "narrow": "narrow",
    "overflowed": "narrow",
}


@dataclass
class Attempt:
    """A transaction, by what the audit knows of it."""

    source: bytes  # the message that it settles
    places: set[str]  # what it sends to
    worker: str
    number: int
    kept: bool = False
    refused: bool = False
    seen: set[str] = field(default_factory=set)


class TransactionAudit:
    """See the module. Bodies are those of messages fed, with the number of an attempt behind."""

    def __init__(self) -> None:
        self.fed: dict[bytes, list[bytes]] = {}  # message -> those that were sent with it
        self.kept: set[bytes] = set()  # of these
        self.worked: set[bytes] = set()  # those that a worker was given
        self.attempts: dict[bytes, Attempt] = {}
        self._done: dict[bytes, bytes] = {}  # message -> the body of the attempt that settled it
        self._order: dict[str, int] = {}  # worker -> its newest number in the FIFO queue
        self.counts = dict.fromkeys(("fed", "tried", "kept", "refused", "got", "again"), 0)

    def got(self, place: str, body: bytes) -> None:
        """A taker was given a message."""
        attempt = self.attempts[body]
        self.counts["got"] += 1
        if attempt.refused:
            raise Broken(f"refused: {body!r} is in {place}")
        if self._done.setdefault(attempt.source, body) != body:
            raise Broken(f"twice: {body!r} and {self._done[attempt.source]!r}")
        if place in attempt.seen:
            self.counts["again"] += 1
        elif place == "fifo":
            if self._order.get(attempt.worker, 0) > attempt.number:
                raise Broken(f"misordered: {body!r}")
            self._order[attempt.worker] = attempt.number
        attempt.seen.add(place)

    def close(self) -> None:
        """Everything was worked on and taken."""
        for body, attempt in self.attempts.items():
            if attempt.kept and not attempt.seen:
                raise Broken(f"lost: {body!r}")
            if attempt.seen and attempt.seen != attempt.places:
                raise Broken(f"half: {body!r} in {attempt.seen}, not all of {attempt.places}")
        for body, together in self.fed.items():
            if {each in self.worked for each in together} != {body in self.worked}:
                raise Broken(f"half: of {together}, not all came")
            if (body in self.kept or body in self.worked) and body not in self._done:
                raise Broken(f"left: {body!r}")


class Feeder(Client):
    """Sends some messages in one transaction."""

    world: "TransactionWorld"

    def __init__(self, world: "TransactionWorld", name: str) -> None:
        super().__init__(world, name)
        self.number = 0
        self.done = False

    def act(self) -> None:
        audit = self.world.transaction_audit
        if self.done or len(self.world.core.queues["in"].leases) > 3:
            return
        bodies = []
        for _ in range(self.world.rng.randint(1, 3)):
            self.number += 1
            bodies.append(b"%s-%d" % (self.name.encode(), self.number))
        audit.fed.update(dict.fromkeys(bodies, bodies))
        audit.counts["fed"] += len(bodies)
        steps = [Send("in", Outgoing(body)) for body in bodies]
        self.world.core.transact(SYSTEM, steps, self.world.clock.ms)
        self.when_kept(lambda: audit.kept.update(bodies))

    def leave(self) -> None:
        self.done = True


class Worker(Listener):
    """Settles a message and sends what it made of it, in one transaction."""

    world: "TransactionWorld"

    def heard(self, delivery: Delivery) -> None:
        self.world.transaction_audit.worked.add(delivery.body)

    def work(self, delivery: Delivery) -> None:
        world, audit, now_ms = self.world, self.world.transaction_audit, self.world.clock.ms
        number = len(audit.attempts) + 1
        body = b"%s#%d" % (delivery.body, number)
        group = self.name
        choice: dict[str, Step] = {
            "out": Send("out", Outgoing(body + b"." * world.rng.choice([0, 0, 3_000]))),
            "fifo": Send("fifo", Outgoing(body, group=group)),
            "topic": Publish("t", Posted(body)),
            "stream": Append("kept", Appending([body], [b""])),
            "narrow": Send("narrow", Outgoing(body)),
            "schedule": Schedule(
                Scheduled(kind="queue", name="later", timing=Timing(20), body=body)
            ),
        }
        places = world.rng.sample(list(choice), world.rng.randint(1, len(choice)))
        attempt = audit.attempts[body] = Attempt(delivery.body, set(places), group, number)
        steps = [choice[place] for place in places]
        steps.append(Send("memory", Outgoing(body)))
        steps.insert(world.rng.randrange(len(steps) + 1), Ack("in", [delivery.receipt]))
        audit.counts["tried"] += 1
        if world.rng.random() < 0.1:
            self.fail(attempt, [*steps, Ack("in", [delivery.receipt])])
            self.held.append(delivery)
            return
        world.core.transact(SYSTEM, steps, now_ms)
        self.when_kept(lambda: self.kept(attempt))

    def kept(self, attempt: Attempt) -> None:
        attempt.kept = True
        self.world.transaction_audit.counts["kept"] += 1

    def fail(self, attempt: Attempt, steps: list[Step]) -> None:
        """One step too many: nothing happens, and the message is still held."""
        attempt.refused = True
        self.world.transaction_audit.counts["refused"] += 1
        try:
            self.world.core.transact(SYSTEM, steps, self.world.clock.ms)
        except LeaseLost as error:
            assert error.step == len(steps) - 1
        else:
            raise AssertionError("a message was settled twice")


class Taker(Listener):
    """Takes what comes, and nothing else."""

    world: "TransactionWorld"

    def heard(self, delivery: Delivery) -> None:
        self.world.transaction_audit.got(PLACES[self.queue], delivery.body.rstrip(b"."))


class TransactionWorld(PlacesWorld):
    """See the module."""

    QUEUES = QUEUES
    TAKEN = ("in", *PLACES)
    RICH = {"kept": 300, "refused": 30, "again": 50, "got": 3_000}

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.transaction_audit = TransactionAudit()
        super().__init__(seed, crash_at)

    def populate(self) -> None:
        self.takers = [Taker(self, f"from-{queue}", queue) for queue in PLACES]
        self.workers_here = [Worker(self, name, "in") for name in ("left", "right")]
        feeders = [Feeder(self, name) for name in ("one", "two")]
        self.clients = [*feeders, *self.workers_here, *self.takers]

    @property
    def counts(self) -> Mapping[str, int]:
        return self.transaction_audit.counts

    @property
    def delivered(self) -> int:
        return self.transaction_audit.counts["got"]

    @property
    def unheard(self) -> int:
        return self.transaction_audit.counts["tried"] - self.transaction_audit.counts["kept"]

    def finish(self) -> None:
        """Feed no more, let all be worked on and taken, and close the books."""
        self.all_leave()
        self.until(self.is_empty, 3_000, "workers")
        self.transaction_audit.close()

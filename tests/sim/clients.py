"""The simulated clients: they send, receive, acknowledge, give back, and lose their connection."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError
from braidmq.broker.lease import Consumer
from braidmq.broker.message import Delivery, Outgoing, Sent
from braidmq.storage.log import Durability
from tests.sim.audit import Entry, body_of

if TYPE_CHECKING:
    from tests.sim.queue_world import QueueWorld
    from tests.sim.world import World

__all__ = ["WINDOW_MS", "Client", "Drainer", "Listener", "Producer", "Puller", "Pusher"]

WINDOW_MS = 20_000  # in which a sending may be repeated under the same id


class Client:
    """Somebody with a connection, which is all that the client notices of a crash."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0  # answers to an earlier life do not arrive

    def act(self) -> None:
        """Do one thing."""

    def disconnected(self) -> None:
        """The connection is gone, with every answer that was under way."""
        self.life += 1

    def leave(self) -> None:
        """Do nothing any more."""

    def when_kept(self, then: Callable[[], object]) -> None:
        """Call ``then`` when what was asked for is kept, if somebody is there to hear it."""
        life = self.life

        def answer(argument: object, error: BraidError | None) -> None:
            if self.life == life and error is None:
                then()

        self.world.core.when_kept(Durability.SYNC, answer, None)


class Listener(Client):
    """Has the messages of a queue pushed, and acknowledges them one by one.

    Attributes:
        CREDIT: how many it holds, at most.
    """

    CREDIT: ClassVar[int] = 3

    def __init__(self, world: "World", name: str, queue: str) -> None:
        super().__init__(world, name)
        self.queue = queue
        self.consumer: Consumer | None = None
        self.held: list[Delivery] = []

    def act(self) -> None:
        if self.consumer is None:
            self.begin()
        elif self.held:
            self.work(self.held.pop(0))
            self.world.core.credit(self.consumer, 1)

    def begin(self) -> None:
        """Consume."""
        core, now_ms = self.world.core, self.world.clock.ms
        self.consumer = core.consume(SYSTEM, self.queue, self, self.CREDIT, "", None, now_ms)

    def work(self, delivery: Delivery) -> None:
        """Do what is to be done with a message."""
        core, now_ms = self.world.core, self.world.clock.ms
        assert core.ack(SYSTEM, self.queue, [delivery.receipt], now_ms)[1] == [None]

    def heard(self, delivery: Delivery) -> None:
        """A message came."""
        raise NotImplementedError

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        if consumer is self.consumer:  # not one of an earlier life
            self.held += deliveries
            for delivery in deliveries:
                self.world.note(f"{self.name} got {delivery.seq} {delivery.receives}")
                self.heard(delivery)

    def closed(self, consumer: Consumer, error: Exception) -> None:
        raise AssertionError(f"{self.name}: {error}")

    def disconnected(self) -> None:
        super().disconnected()
        self.consumer = None
        self.held.clear()


class Producer(Client):
    """Sends batches; on a FIFO queue it repeats what was not answered, under the same id."""

    def __init__(self, world: "QueueWorld", name: str, queue: str) -> None:
        super().__init__(world, name)
        self.world: QueueWorld = world
        self.queue = queue
        self.number = 0
        self.waiting = 0
        self.done = False
        self.unanswered: dict[bytes, tuple[Outgoing, int]] = {}  # -> since when

    def act(self) -> None:
        if self.waiting >= 2 or self.done:
            return
        now_ms = self.world.clock.ms
        again = [m for m, since in self.unanswered.values() if now_ms < since + WINDOW_MS]
        if self.queue == "fifo" and again and not self.waiting:
            self.send(again[:1])
        else:
            self.send([self.new() for _ in range(self.world.rng.choice([1, 1, 3]))])

    def new(self) -> Outgoing:
        rng = self.world.rng
        self.number += 1
        pad = rng.choice([0, 20, 300])
        if self.queue == "fifo":
            group = rng.choice("ab")
            body = body_of(self.name, self.number, group, pad)
            return Outgoing(body, group=group, dedup_id=f"{self.name}-{self.number}")
        body = body_of(self.name, self.number, "", pad)
        delay_ms = rng.choice([-1, -1, -1, 700])
        return Outgoing(body, delay_ms=delay_ms, priority=rng.choice([4, 4, 9]))

    def send(self, messages: list[Outgoing]) -> None:
        world = self.world
        now_ms = world.clock.ms
        for message in messages:
            due_ms = now_ms + max(message.delay_ms, 0)
            world.audit.invoked(message.body, self.queue, message.group, due_ms)
            self.unanswered.setdefault(message.body, (message, now_ms))
        _, results = world.core.send(SYSTEM, self.queue, messages, now_ms)
        self.waiting += 1
        self.when_kept(lambda: self.answered(messages, results))

    def answered(self, messages: list[Outgoing], results: list[Sent | BraidError]) -> None:
        self.waiting -= 1
        for message, result in zip(messages, results, strict=True):
            assert isinstance(result, Sent), result
            self.world.note(f"{self.name} sent {result.id} {result.seq} {result.duplicate}")
            self.world.audit.accepted(message.body, result)
            self.unanswered.pop(message.body, None)

    def disconnected(self) -> None:
        super().disconnected()
        self.waiting = 0

    def leave(self) -> None:
        self.done = True


class Receiver(Client):
    """Somebody who holds messages and does this and that with them. Also the sink."""

    def __init__(self, world: "QueueWorld", name: str, queue: str) -> None:
        super().__init__(world, name)
        self.world: QueueWorld = world
        self.queue = queue
        self.held: list[Delivery] = []
        self.consumer: Consumer | None = None
        self.done = False

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        world = self.world
        if consumer is not self.consumer:
            return  # of an earlier life
        for delivery in deliveries:
            world.note(f"{self.name} got {delivery.seq} {delivery.id} {delivery.receives}")
        world.audit.delivered(
            self.queue, consumer, deliveries, self.lease_of(consumer), world.clock.ms
        )
        self.held += deliveries
        if consumer.one_shot:
            self.consumer = None

    def lease_of(self, consumer: Consumer) -> int:
        return consumer.lease_ms

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        if consumer is self.consumer:
            self.consumer = None

    def disconnected(self) -> None:
        super().disconnected()
        self.held.clear()
        self.consumer = None

    def leave(self) -> None:
        self.done = True

    def entry(self, delivery: Delivery) -> Entry:
        return self.world.audit.entries[delivery.body]

    def settle_one(self) -> None:
        """Pick a held message and decide its fate."""
        rng = self.world.rng
        delivery = self.held.pop(rng.randrange(len(self.held)) if rng.random() < 0.3 else 0)
        choice = rng.random()
        if choice < 0.55:
            self.ack([delivery])
        elif choice < 0.80:
            self.nack(delivery)
        elif choice < 0.88:
            self.extend(delivery)
        elif choice < 0.92:
            self.bury(delivery)
        # else: forgotten; its lease ends, or not before its consumer does

    def ack(self, deliveries: list[Delivery]) -> None:
        world = self.world
        receipts = [each.receipt for each in deliveries]
        _, results = world.core.ack(SYSTEM, self.queue, receipts, world.clock.ms)
        taken = []
        for delivery, error in zip(deliveries, results, strict=True):
            entry = self.entry(delivery)
            world.audit.acknowledging(entry, delivery.token, error is not None, world.clock.ms)
            if error is None:
                taken.append(entry)

        def confirm() -> None:
            for entry in taken:
                world.note(f"{self.name} acked {entry.id}")
                world.audit.acknowledged(entry)

        self.when_kept(confirm)

    def nack(self, delivery: Delivery) -> None:
        world = self.world
        counted = world.rng.random() < 0.7
        delay_ms = world.rng.choice([0, 0, 900]) if counted else 0
        now_ms = world.clock.ms
        _, (error,) = world.core.nack(
            SYSTEM, self.queue, [delivery.receipt], delay_ms, counted, now_ms
        )
        entry = self.entry(delivery)
        world.audit.giving_back(entry, delivery.token, error is not None, now_ms, delay_ms)
        batch = entry.batch

        def confirm() -> None:
            if error is None and entry.batch == batch:
                world.audit.given_back(entry)

        self.when_kept(confirm)

    def extend(self, delivery: Delivery) -> None:
        world = self.world
        (error,) = world.core.extend(SYSTEM, self.queue, [delivery.receipt], 2_000, world.clock.ms)
        entry, token = self.entry(delivery), delivery.token
        world.audit.extended(entry, token, error is not None, world.clock.ms, 2_000)
        if error is None:
            self.held.append(delivery)

    def bury(self, delivery: Delivery) -> None:
        world = self.world
        if self.queue not in ("plain", "fifo"):
            return self.ack([delivery])
        _, (error,) = world.core.dead_letter(
            SYSTEM, self.queue, [delivery.receipt], "no", world.clock.ms
        )
        entry, token = self.entry(delivery), delivery.token
        world.audit.burying(entry, token, error is not None, world.clock.ms)


class Puller(Receiver):
    """Receives, now and then waiting."""

    def act(self) -> None:
        rng = self.world.rng
        if self.held and rng.random() < 0.7:
            self.settle_one()
        elif self.consumer is None and not self.done:
            lease_ms = rng.choice([200, 1_500])
            wait_ms = rng.choice([0, 300])
            self.receive(rng.randint(1, 4), lease_ms, wait_ms)

    def receive(self, count: int, lease_ms: int, wait_ms: int) -> None:
        world = self.world
        self.consumer = world.core.receive(
            SYSTEM, self.queue, self, count, wait_ms, lease_ms, "", "", None, world.clock.ms
        )


class Pusher(Receiver):
    """Has messages pushed; dies and comes again now and then."""

    def act(self) -> None:
        rng, world = self.world.rng, self.world
        if self.consumer is None:
            if not self.done:
                self.consumer = world.core.consume(
                    SYSTEM, self.queue, self, 3, "", None, world.clock.ms
                )
        elif rng.random() < 0.03:
            self.leave_consumer()
        elif self.held:
            self.settle_one()
            world.core.credit(self.consumer, 1)

    def leave_consumer(self) -> None:
        if self.consumer is not None:
            consumer, self.consumer = self.consumer, None
            self.world.audit.left(consumer)
            self.held.clear()
            self.world.core.cancel(consumer, [], self.world.clock.ms)

    def leave(self) -> None:
        super().leave()
        self.leave_consumer()


class Drainer(Puller):
    """Takes all there is."""

    def __init__(self, world: "QueueWorld", queue: str) -> None:
        super().__init__(world, "drainer", queue)

    def drain(self) -> None:
        while True:
            self.receive(1_000, 60_000, 0)
            self.world.settle()
            if not self.held:
                break
            self.ack(self.held)
            self.held = []
            self.world.settle()

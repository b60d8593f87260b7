"""The simulated clients of a stream: they append, read on and on, split and merge."""

from typing import TYPE_CHECKING

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError, InvalidArgument
from braidmq.broker.lease import Consumer
from braidmq.broker.message import Delivery
from braidmq.broker.publication import PlainPublication
from braidmq.broker.streamreading import Chunk, ShardRead
from braidmq.broker.streams import Position
from tests.fanout_harness import pack
from tests.sim.audit import Broken, body_of
from tests.sim.clients import Client
from tests.stream_client import batch_of, records_of

if TYPE_CHECKING:
    from tests.sim.stream_world import StreamWorld

__all__ = ["Appender", "Resharder", "Tailer", "TopicPublisher"]

_SHARDS_MAX = 4
_WAIT_MS = 60_000


class Appender(Client):
    """Appends records of its own key, or of none; never again what was not answered."""

    def __init__(self, world: "StreamWorld", name: str, key: bytes) -> None:
        super().__init__(world, name)
        self.world: StreamWorld = world
        self.key = key
        self.number = self.waiting = 0
        self.done = False

    def act(self) -> None:
        if self.waiting >= 2 or self.done:
            return
        world = self.world
        bodies = []
        for _ in range(world.rng.choice([1, 1, 2, 5])):
            self.number += 1
            bodies.append(body_of(self.name, self.number, "", world.rng.choice([0, 20, 300])))
            world.audit.invoked(bodies[-1], self.key, world.clock.ms)
        batch = batch_of(*bodies, key=self.key)
        _, results = world.core.append(SYSTEM, "s", batch, world.clock.ms)
        self.waiting += 1
        self.when_kept(lambda: self.answered(bodies, results))

    def answered(self, bodies: list[bytes], results: list[Position | BraidError]) -> None:
        self.waiting -= 1
        for body, result in zip(bodies, results, strict=True):
            assert isinstance(result, tuple), result
            self.world.note(f"{self.name} appended {result}")
            self.world.audit.accepted(body, result)

    def disconnected(self) -> None:
        super().disconnected()
        self.waiting = 0

    def leave(self) -> None:
        self.done = True


class TopicPublisher(Client):
    """Publishes to a topic that goes to the stream and to a queue, which it empties, mostly."""

    def __init__(self, world: "StreamWorld", name: str, topic: str) -> None:
        super().__init__(world, name)
        self.world: StreamWorld = world
        self.topic = topic
        self.attributes = pack(topic, {})
        self.number = self.waiting = 0
        self.done = False

    def act(self) -> None:
        world = self.world
        if world.rng.random() < 0.4:
            world.core.receive(SYSTEM, "q", self, 3, 0, 60_000, "", "", None, world.clock.ms)
        elif self.waiting < 2 and not self.done:
            self.publish()

    def publish(self) -> None:
        world = self.world
        self.number += 1
        body = body_of(self.name, self.number, "", world.rng.choice([0, 20, 300]))
        world.audit.invoked(body, self.topic.encode(), world.clock.ms)
        publication = PlainPublication(self.topic, body, self.attributes, 1, False, 0)
        world.core.topics.publish(SYSTEM, publication, world.clock.ms)
        self.waiting += 1
        self.when_kept(lambda: self.published(body))

    def published(self, body: bytes) -> None:
        self.waiting -= 1
        self.world.audit.taken(body)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        receipts = [each.receipt for each in deliveries if each.seq % 4]
        self.world.core.ack(SYSTEM, "q", receipts, self.world.clock.ms)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """Nothing more comes."""

    def disconnected(self) -> None:
        super().disconnected()
        self.waiting = 0

    def leave(self) -> None:
        self.done = True


class Tailer(Client):
    """Reads shard after shard, and waits at their ends; remembers where it was."""

    def __init__(self, world: "StreamWorld", name: str) -> None:
        super().__init__(world, name)
        self.world: StreamWorld = world
        self.known: set[int] = set()  # shards that are there for good
        self.numbers: dict[int, int] = {}  # to read next
        self.reads: dict[int, ShardRead] = {}

    def act(self) -> None:
        world = self.world
        shards = world.core.streams.get("s").shards
        idle = [index for index in self.known if index in shards and index not in self.reads]
        if world.rng.random() < 0.1:
            found = set(shards)
            self.when_kept(lambda: self.known.update(found))
        if idle and world.rng.random() < 0.8:
            self.read(world.rng.choice(idle))
        elif self.reads and world.rng.random() < 0.2:
            index = world.rng.choice(list(self.reads))
            world.core.streams.cancel(self.reads.pop(index))

    def read(self, index: int) -> None:
        world, life = self.world, self.life
        number = self.numbers.get(index, 0)

        def answer(argument: object, chunk: Chunk | BraidError) -> None:
            if self.life == life:
                del self.reads[index]
                assert isinstance(chunk, Chunk), chunk
                self.answered(index, number, chunk)

        try:
            self.reads[index] = world.core.read_shard(
                SYSTEM,
                "s",
                index,
                number,
                world.rng.choice([1, 5, 1_000]),
                world.rng.choice([1, 2_000, 1 << 20]),
                world.rng.choice([0, 300, _WAIT_MS]),
                answer,
                None,
                world.clock.ms,
            )
        except InvalidArgument as error:  # it reads on where it has read to
            raise Broken(f"vanished: {error}, and {number} comes next") from error

    def answered(self, index: int, number: int, chunk: Chunk) -> None:
        world = self.world
        records = records_of(chunk)
        world.note(f"{self.name} read {index} from {number} to {chunk.next}")
        world.audit.read(index, records)
        world.audit.passed(index, number, chunk.next - len(records), world.clock.ms)
        if chunk.ended:
            world.audit.counts["ended"] += 1
            world.audit.ended(index, chunk.next)
            self.known.update(chunk.children)
        self.numbers[index] = chunk.next

    def check_awake(self) -> None:
        """Nothing happens any more: nobody waits for what is there."""
        for index, read in self.reads.items():
            if not read.closed and read.number < read.shard.next:
                raise Broken(f"stuck: {self.name} at {read.number} of shard {index}")

    def disconnected(self) -> None:
        super().disconnected()
        self.reads.clear()


class Resharder(Client):
    """Splits and merges now and then."""

    def __init__(self, world: "StreamWorld", name: str) -> None:
        super().__init__(world, name)
        self.world: StreamWorld = world
        self.done = False

    def act(self) -> None:
        world = self.world
        rng, core = world.rng, world.core
        if self.done or rng.random() > 0.15:
            return
        shards = core.streams.get("s").open
        choice = rng.random()
        if choice < 0.2:
            core.rescale_stream(SYSTEM, "s", rng.randint(1, _SHARDS_MAX), world.clock.ms)
        elif choice < 0.6 and len(shards) < _SHARDS_MAX:
            core.split_shard(SYSTEM, "s", rng.choice(shards).index, "", world.clock.ms)
        elif len(shards) > 1:
            at = rng.randrange(len(shards) - 1)
            low, high = shards[at : at + 2]
            core.merge_shards(SYSTEM, "s", low.index, high.index, world.clock.ms)
        world.audit.counts["resharded"] += 1

    def leave(self) -> None:
        self.done = True

"""A world (``topic_world.py``) whose topics are bound to queues and a stream.

What is published goes to sessions, to queues of several kinds and to a stream, which therefore are
in several records of one frame; whoever is owed a message gets it with all the others, or nobody
does. A FIFO queue that knows messages by their content has each once, however often it was sent.
Now and then the stream is replayed to one more queue (``replayer.py``).
"""

from typing import Any

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.limits import Limits
from braidmq.broker.message import MQTT_QOS, Delivery, unpack_headers
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.block import StreamRecord, decode_block
from tests.sim.audit import Broken
from tests.sim.clients import Listener
from tests.sim.replayer import Replayer
from tests.sim.topic_clients import Member, Publisher
from tests.sim.topic_world import TopicWorld

__all__ = ["FanoutWorld"]

STREAM = "kept"


class Bound(Listener):
    """Somebody who binds a queue to a filter and consumes from it."""

    CREDIT = 4

    def __init__(
        self,
        world: "FanoutWorld",
        name: str,
        filter: str,
        settings: QueueSettings,
        where: str = "",
        interest: str = "",
    ) -> None:
        super().__init__(world, name, queue=name)
        self.world: FanoutWorld = world
        self.filter = filter
        self.settings = settings
        self.where = where
        self.interest = interest or filter
        self.seen: dict[bytes, int] = {}  # body -> the id it came with first; survives everything

    def work(self, delivery: Delivery) -> None:
        super().work(delivery)
        self.when_kept(lambda: self.world.topic_audit.acknowledged(self.name, delivery.id))

    def begin(self) -> None:
        core, now_ms = self.world.core, self.world.clock.ms
        core.declare_queue(SYSTEM, self.name, self.settings, now_ms)
        settings = BindingSettings(where=self.where)
        core.bind(SYSTEM, self.filter, Target("queue", self.name), settings, now_ms)
        super().begin()
        self.when_kept(self.on_bound)

    def on_bound(self) -> None:
        self.world.topic_audit.subscribed[self.name] = self.interest

    def heard(self, delivery: Delivery) -> None:
        came = delivery.body in self.seen
        first = self.seen.setdefault(delivery.body, delivery.id)
        if self.settings.content_dedup and first != delivery.id:
            raise Broken(f"duplicate: {delivery.body!r} twice in {self.name}")
        exact = unpack_headers(delivery.attributes)[MQTT_QOS] == "2"
        # A queue delivers again what was not acknowledged; that is told by the message's id.
        if not (exact and came and first == delivery.id):
            self.world.topic_audit.got(self.name, delivery.body, delivery.id)

    @property
    def rests(self) -> bool:
        return self.consumer is not None and not self.world.core.queues[self.name].live


class FanoutWorld(TopicWorld):
    """See the module."""

    LIMITS = Limits(shard_hot_lag_bytes_max=1)
    SCRIPT_TURNS = 600
    REHOMES = True
    RICH = {"again": 50, "resent": 50, "got": 3_000}

    def populate(self) -> None:
        two = "topic = 't/two'"
        self.bound = [
            Bound(self, "plain", "t/#", QueueSettings()),
            Bound(self, "fifo", "t/+", QueueSettings(fifo=True, content_dedup=True)),
            Bound(self, "picky", "t/+", QueueSettings(ttl_ms=10**9), two, "t/two"),
            Bound(self, "late", "t/one", QueueSettings(delay_ms=50)),
        ]
        self.members = [
            Publisher(self, "one", 1),
            Publisher(self, "two", 2),
            Publisher(self, "reckless", 1, reckless=True),
            Member(self, "all", "t/+", 2),
        ]
        self.replayer = Replayer(self, "again", "t/one", STREAM)
        self.clients = [*self.members, *self.bound, self.replayer]

    def declare(self) -> None:
        now_ms = self.clock.ms
        self.core.declare_stream(SYSTEM, STREAM, StreamSettings(), 1, now_ms)
        self.core.bind(SYSTEM, "t/#", Target("stream", STREAM), BindingSettings(), now_ms)

    def start(self) -> None:
        super().start()
        core = self.core
        # Said by whoever has the disk at hand: it was written down before anything else.
        core.log.wait(2, self._declared, self.crashes)  # type: ignore[arg-type]

    def _declared(self, crashes: object, error: Exception | None) -> None:
        if error is None and crashes == self.crashes:
            self.topic_audit.subscribed[STREAM] = "t/#"

    def look(self) -> None:
        """Whatever comes is audited at once."""

    def is_done(self) -> bool:
        """Whether all exchanges have ended."""
        published = all(member.rests for member in self.members)
        return published and self.replayer.rests and all(bound.rests for bound in self.bound)

    def finish(self) -> None:
        """Stop publishing, let all exchanges end, read the stream, and close the books."""
        self.all_leave()
        self.until(self.is_done, 1_000, "exchanges")
        records = self.read()
        for record in records:
            self.topic_audit.got(STREAM, record.body, record.number)
        self.topic_audit.close()
        self.replayer.close({each.number: each.time_ms for each in records if each.key == b"t/one"})

    def read(self) -> list[StreamRecord]:
        """All that is in the stream."""
        found: list[StreamRecord] = []
        number = 1
        while True:
            answers: list[Any] = []
            self.core.read_shard(
                *(SYSTEM, STREAM, 0, number, 1_000, 1 << 20, 0),
                *(lambda argument, chunk, answers=answers: answers.append(chunk), None),
                self.clock.ms,
            )
            self.settle()
            (chunk,) = answers
            records = [each for block in chunk.blocks for each in decode_block(block).records()]
            found += records[chunk.skip :][: chunk.count]
            if not chunk.count:
                return found
            number = chunk.next

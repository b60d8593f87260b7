"""A world (``world.py``) whose people append to a stream, read it, and split and merge its shards.

What they appended grows old: so shards are trimmed, files removed, and closed shards dropped.
"""

from collections.abc import Iterator, Mapping

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamreading import Chunk
from braidmq.storage.errors import Corrupt
from braidmq.storage.log import Job
from tests.sim.audit import Broken
from tests.sim.stream_audit import Place, StreamAudit
from tests.sim.stream_clients import Appender, Resharder, Tailer, TopicPublisher
from tests.sim.world import World
from tests.stream_client import Got, records_of

__all__ = ["StreamWorld"]

RETENTION_MS = 5_000


class StreamWorld(World):
    """See the module."""

    LIMITS = Limits(shard_hot_lag_bytes_max=1)
    SCRIPT_TURNS = 700
    REHOMES = True
    RICH = {
        "appended": 1_000,
        "read": 1_000,
        "expired": 50,
        "resharded": 50,
        "moved": 50,
        "published": 100,
    }

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.audit = StreamAudit(RETENTION_MS)
        self.tailers: list[Tailer] = []
        super().__init__(seed, crash_at)

    def populate(self) -> None:
        self.tailers = [Tailer(self, "t1"), Tailer(self, "t2")]
        self.clients = [
            Appender(self, "a", b"a"),
            Appender(self, "b", b"b"),
            Appender(self, "any", b""),
            TopicPublisher(self, "p1", "t/1"),
            TopicPublisher(self, "p2", "t/2"),
            Resharder(self, "r"),
            *self.tailers,
        ]

    def start(self) -> None:
        try:
            super().start()
        except Corrupt as error:
            raise Broken(f"damaged: {error}") from error

    def declare(self) -> None:
        settings = StreamSettings(retention_ms=RETENTION_MS)
        now_ms = self.clock.ms
        self.core.declare_stream(SYSTEM, "s", settings, 2, now_ms)
        self.core.declare_queue(SYSTEM, "q", QueueSettings(), now_ms)
        for target in (Target("stream", "s"), Target("queue", "q")):
            self.core.bind(SYSTEM, "t/#", target, BindingSettings(), now_ms)

    def _rehome(self) -> Iterator[Job]:
        for step in super()._rehome():
            self.audit.counts["moved"] += 1
            yield step

    @property
    def counts(self) -> Mapping[str, int]:
        return self.audit.counts

    @property
    def delivered(self) -> int:
        return self.audit.counts["read"]

    @property
    def unheard(self) -> int:
        counts = self.audit.counts
        return len(self.audit.sendings) - counts["appended"] - counts["published"]

    def look(self) -> None:
        """Read all that can be read, from the beginning."""
        found: dict[Place, Got] = {}
        self.settle()
        now_ms = self.clock.ms
        for index in list(self.core.streams.get("s").shards):
            number = 0
            while True:
                chunk = self.read(index, number)
                records = records_of(chunk)
                found.update({(index, record.number): record for record in records})
                number = chunk.next
                if not records:
                    break
        self.audit.check(found, now_ms)
        self.catch_up()

    def read(self, index: int, number: int) -> Chunk:
        """Read a chunk now."""
        answers: list[Chunk | BraidError] = []
        self.core.read_shard(
            SYSTEM,
            "s",
            index,
            number,
            1_000,
            1 << 20,
            0,
            lambda argument, answer: answers.append(answer),
            None,
            self.clock.ms,
        )
        self.settle()
        (answer,) = answers
        assert isinstance(answer, Chunk), answer
        return answer

    def catch_up(self) -> None:
        """Let the readers come to the ends of the shards, and wait there."""
        for _ in range(15):
            for tailer in self.tailers:
                tailer.act()
            self.settle()

    def finish(self) -> None:
        """Stop appending, and close the books."""
        self.guarded(self.catch_up)
        self.run(60)
        self.all_leave()
        self.guarded(self.keep_all)
        for tailer in self.tailers:
            tailer.check_awake()
        self.guarded(self.look)

    def keep_all(self) -> None:
        """Have all that was appended kept, also what nobody waits for."""
        self.clients[0].when_kept(lambda: None)
        self.settle()

"""Verbs of streams on a :class:`Harness`, for tests: every record as a plain tuple."""

from collections.abc import Callable, Iterator
from posixpath import split
from typing import Any, NamedTuple
from unittest.mock import patch

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.errors import BraidError
from braidmq.broker.shard import Shard
from braidmq.broker.stream import Stream
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamreading import Chunk, ShardRead
from braidmq.broker.streams import Appending, Position
from braidmq.broker.streamverbs import Start
from braidmq.storage.block import decode_block
from braidmq.storage.checkpoint import read_manifest
from braidmq.storage.log import Durability
from braidmq.storage.record import record_is_intact
from braidmq.storage.segment import parse_segment_name
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness

__all__ = ["Got", "StreamClient", "batch_of", "records_of", "without_what_followed"]


class Got(NamedTuple):
    """A record that was read."""

    number: int
    time_ms: int
    key: bytes
    headers: bytes
    body: bytes


def records_of(chunk: Chunk) -> list[Got]:
    """The records of a chunk; all that is said of its blocks is checked."""
    found: list[Got] = []
    for content in chunk.blocks:
        assert record_is_intact(content, 0)
        block = decode_block(content)
        assert block.length == len(content)
        found += [
            Got(each.number, each.time_ms, each.key, each.headers, each.body)
            for each in block.records()
        ]
    found = found[chunk.skip : chunk.skip + chunk.count]
    assert len(found) == chunk.count
    if found:
        assert chunk.next == found[-1].number + 1
    return found


def batch_of(*bodies: bytes, key: bytes = b"", hash_key: int = -1) -> Appending:
    """A batch of records that all go one way."""
    keys = [key] * len(bodies)
    return Appending(bodies, keys, None, None if hash_key < 0 else [hash_key] * len(bodies))


class StreamClient:
    """One stream of a broker. What it asks is settled when it returns."""

    def __init__(self, broker: Harness, name: str = "s", who: Principal = SYSTEM) -> None:
        self.broker: Any = broker  # many tests know that it is one on a disk
        self.core = broker.core
        self.name = name
        self.who = who

    @property
    def stream(self) -> Stream:
        """The stream itself."""
        return self.core.streams.get(self.name)

    def shard(self, index: int = 0) -> Shard:
        """One of its shards."""
        return self.stream.shard(index)

    def declare(self, shards: int = 1, **settings: Any) -> "StreamClient":
        """Make it; without retention, if nothing else is said."""
        values: dict[str, Any] = {"durability": Durability.SYNC, "retention_ms": 0} | settings
        self.core.declare_stream(
            self.who, self.name, StreamSettings(**values), shards, self.broker.clock.ms
        )
        self.broker.settle()
        return self

    def update(self, **changes: Any) -> None:
        """Change settings."""
        self.core.update_stream(self.who, self.name, changes, self.broker.clock.ms)
        self.broker.settle()

    def delete(self) -> None:
        """Delete it."""
        self.core.delete_stream(self.who, self.name)
        self.broker.settle()

    def try_append(self, batch: Appending) -> list[Position | BraidError]:
        """Append; what became of each record."""
        _, results = self.core.append(self.who, self.name, batch, self.broker.clock.ms)
        self.broker.settle()
        return results

    def append(self, *bodies: bytes, key: bytes = b"", hash_key: int = -1) -> list[Position]:
        """Append records that must all be taken."""
        found: list[Position] = []
        for each in self.try_append(batch_of(*bodies, key=key, hash_key=hash_key)):
            assert isinstance(each, tuple), each
            found.append(each)
        return found

    def begin(
        self,
        shard: int = 0,
        number: int = 0,
        records_max: int = 1_000,
        bytes_max: int = 1 << 20,
        wait_ms: int = 0,
    ) -> tuple[ShardRead, list[Chunk | BraidError]]:
        """Begin to read; the list gets the answer."""
        answers: list[Chunk | BraidError] = []

        def answer(argument: object, chunk: Chunk | BraidError) -> None:
            answers.append(chunk)

        read = self.core.read_shard(
            self.who,
            self.name,
            shard,
            number,
            records_max,
            bytes_max,
            wait_ms,
            answer,
            None,
            self.broker.clock.ms,
        )
        assert not answers, "a read is answered later"
        return read, answers

    def chunk(
        self, shard: int = 0, number: int = 0, records_max: int = 1_000, bytes_max: int = 1 << 20
    ) -> Chunk:
        """Read what is there."""
        _, answers = self.begin(shard, number, records_max, bytes_max)
        self.broker.settle()
        (answer,) = answers
        if isinstance(answer, BraidError):
            raise answer
        return answer

    def read(self, shard: int = 0, number: int = 0, bytes_max: int = 1 << 20) -> list[Got]:
        """Read from a number to the end."""
        found: list[Got] = []
        while True:
            chunk = self.chunk(shard, number, bytes_max=bytes_max)
            records = records_of(chunk)
            if not records:
                return found
            found += records
            number = chunk.next

    def bodies(self, shard: int = 0, number: int = 0) -> list[bytes]:
        """The bodies from a number to the end."""
        return [record.body for record in self.read(shard, number)]

    def find(self, shard: int, start: Start) -> int:
        """The number that a start stands for."""
        answers: list[int | BraidError] = []

        def answer(argument: object, number: int | BraidError) -> None:
            answers.append(number)

        self.core.find_number(self.who, self.name, shard, start, answer, None)
        self.broker.settle()
        (answer_,) = answers
        if isinstance(answer_, BraidError):
            raise answer_
        return answer_

    def split(self, shard: int = 0, hash_key: str = "") -> None:
        """Split a shard."""
        self.core.split_shard(self.who, self.name, shard, hash_key, self.broker.clock.ms)
        self.broker.settle()

    def merge(self, shard: int, other: int) -> None:
        """Merge two shards."""
        self.core.merge_shards(self.who, self.name, shard, other, self.broker.clock.ms)
        self.broker.settle()

    def rescale(self, shards: int) -> None:
        """Have so many shards."""
        self.core.rescale_stream(self.who, self.name, shards, self.broker.clock.ms)
        self.broker.settle()


def without_what_followed(broker: DiskBroker, meanwhile: Callable[[], object]) -> DiskBroker:
    """Start again from a checkpoint whose streams are older than its groups and views.

    ``meanwhile`` happens between them. All that the log holds from where replay begins is lost
    then, and that is accepted.
    """
    groups = broker.core.group_store
    written = groups.snapshot

    def snapshot() -> Iterator[tuple[int, bytes]]:
        meanwhile()
        return written()

    with patch.object(groups, "snapshot", snapshot):
        broker.checkpoint()
    segments = [path for path in broker.disk.names() if "/wal-" in path]
    lsn = read_manifest(broker.disk, split(segments[-1])[0]).replay_lsn
    for path in segments:
        base, _ = parse_segment_name(split(path)[1]) or (0, 0)
        if base <= lsn:
            broker.disk.damage(path, lsn - base)
    broker = broker.restarted(accept_loss=True)
    assert broker.report.accepted_loss
    return broker

"""A member of a group that keeps what it hears: the sink of a core, driven by tests."""

from typing import Any

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.errors import BraidError
from braidmq.broker.group import Member
from braidmq.broker.groupverbs import GroupEvent, GroupInfo
from braidmq.broker.shard import Shard
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamrecord import Record, chunk_records
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.storage.log import Durability
from tests.broker_harness import Harness

__all__ = ["GroupClient", "append", "declare_stream", "group_info", "read_all"]


def declare_stream(
    broker: Harness, shards: int = 4, durability: Durability = Durability.SYNC, **more: Any
) -> None:
    """Have a stream "s"."""
    settings = StreamSettings(durability=durability, **more)
    broker.core.declare_stream(SYSTEM, "s", settings, shards, broker.clock.ms)
    broker.settle()


def group_info(broker: Harness) -> GroupInfo:
    """What is known of the group "g" of the stream "s"."""
    return broker.core.group_info(SYSTEM, "s", "g", broker.clock.ms)


def append(broker: Harness, shard: int, *bodies: bytes) -> None:
    """Append records to an open shard of the stream "s"."""
    first_hash = broker.core.streams.get("s").shard(shard).first_hash
    batch = Appending(bodies, [b""] * len(bodies), None, [first_hash] * len(bodies))
    _, results = broker.core.append(SYSTEM, "s", batch, broker.clock.ms)
    assert all(isinstance(each, tuple) and each[0] == shard for each in results), results
    broker.settle()


def read_all(broker: Harness) -> list[Record]:
    """All records of the stream "s", shard by shard."""
    found: list[Record] = []

    def take(shard: object, chunk: Chunk | BraidError) -> None:
        assert isinstance(shard, Shard) and isinstance(chunk, Chunk), chunk
        found.extend(chunk_records(chunk, shard.index))
        if chunk.next < shard.readable():
            read(shard, chunk.next)

    def read(shard: Shard, number: int) -> None:
        broker.core.read_shard(
            *(SYSTEM, "s", shard.index, number, 10_000, 1 << 20, 0, take, shard, broker.clock.ms)
        )
        broker.settle()

    for shard in list(broker.core.streams.get("s").shards.values()):
        read(shard, shard.first)
    return found


class GroupClient:
    """A member of the group "g" of the stream "s".

    Attributes:
        held: the epoch of each shard that it was assigned and has not lost, by index.
        revoked: those of them that it is to give back. events: all that came since :meth:`take`.
        got: the bodies of all records that came, by shard.
        next: the number behind the last record that came, by shard.
    """

    def __init__(
        self,
        broker: Harness,
        start: Start | None = None,
        who: Principal = SYSTEM,
        records_max: int = 1_000,
        bytes_max: int = 1 << 20,
        group: str = "g",
    ) -> None:
        self.broker = broker
        self.held: dict[int, int] = {}
        self.revoked: set[int] = set()
        self.events: list[GroupEvent] = []
        self.got: dict[int, list[bytes]] = {}
        self.next: dict[int, int] = {}
        self.error: BraidError | None = None
        _, self.member = broker.core.join_group(
            who,
            "s",
            group,
            start or Start(),
            records_max,
            bytes_max,
            self,
            None,
            broker.clock.ms,
        )
        broker.settle()

    # What the core calls ----------------------------------------------------------------------

    def group_event(self, member: Member, event: GroupEvent) -> None:
        assert self.error is None and member is self.member
        self.events.append(event)
        if event.kind == "assigned":
            assert event.shard not in self.held
            self.held[event.shard] = event.epoch
            self.next[event.shard] = event.number
            return
        assert self.held[event.shard] == event.epoch
        if event.kind == "records":
            assert event.shard not in self.revoked
            chunk = event.chunk
            assert chunk is not None and chunk.count
            records = chunk_records(chunk, event.shard)
            assert records[0].number == event.number >= self.next[event.shard]
            assert len(records) == chunk.count
            self.got.setdefault(event.shard, []).extend(record.body for record in records)
            self.next[event.shard] = chunk.next
        elif event.kind == "revoked":
            self.revoked.add(event.shard)
        else:
            del self.held[event.shard]
            self.revoked.discard(event.shard)

    def group_ended(self, member: Member, error: BraidError) -> None:
        assert self.error is None
        self.error = error
        self.held.clear()

    # What tests call --------------------------------------------------------------------------

    def take(self) -> list[tuple[str, int]]:
        """What came since the last call: (kind, shard)."""
        events, self.events = self.events, []
        return [(event.kind, event.shard) for event in events]

    def more(self, shard: int) -> None:
        self.broker.core.more_records(self.member, shard, self.held[shard])
        self.broker.settle()

    def keep(self, shard: int, number: int = 0, epoch: int = 0) -> None:
        """Set a checkpoint; behind all that came unless told otherwise."""
        self.broker.core.checkpoint(
            self.member,
            shard,
            epoch or self.held.get(shard, 0),
            number or self.next[shard],
            self.broker.clock.ms,
        )
        self.broker.settle()

    def release(self, shard: int) -> None:
        self.broker.core.release_shard(self.member, shard, self.held[shard])
        self.broker.settle()

    def leave(self) -> None:
        """Go, or crash: the broker sees no difference."""
        self.broker.core.leave_group(self.member)
        self.held.clear()
        self.revoked.clear()
        self.broker.settle()

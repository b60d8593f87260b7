"""A stream against lists of records that are obviously right, with crashes, files and resharding.

The model predicts every record of every shard: its number, time, key, headers and body, which must
read the same for ever. Liberties: which shard gets a batch without keys; which of the records that
nobody waited for survive a power cut (the first ones); when exactly old records go (in time).
"""

import random
from dataclasses import dataclass, field
from hashlib import md5
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.access import SYSTEM
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from tests.broker_disk import DiskBroker
from tests.stream_client import Got, StreamClient, batch_of, records_of

END = 1 << 128
KEYS = st.sampled_from([b"a", b"b", b"truck-7", "schl\u00fcssel".encode()])
SIZES = st.sampled_from([0, 1, 30, 30, 30, 400, 3_000])
PICKS = st.integers(0, 10_000)


@dataclass
class ModelShard:
    """A shard as it should be."""

    index: int
    first_hash: int
    last_hash: int
    start: int
    parents: list[int] = field(default_factory=list)
    records: dict[int, Got] = field(default_factory=dict)
    first: int = 0
    next: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.first = self.next = self.start

    def add(self, time_ms: int, key: bytes, body: bytes) -> int:
        last_ms = self.records[self.next - 1].time_ms if self.next - 1 in self.records else 0
        number = self.next
        self.records[number] = Got(number, max(time_ms, last_ms), key, b"", body)
        self.next += 1
        return number

    def from_(self, number: int) -> list[Got]:
        return [self.records[n] for n in range(max(number, self.first), self.next)]


class StreamMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=4_096)
        self.client = StreamClient(self.broker).declare(2)
        self.shards = {
            index: ModelShard(index, END * index // 2, END * (index + 1) // 2 - 1, 1)
            for index in range(2)
        }
        self.next_index = 2
        self.body = 0

    def teardown(self) -> None:
        for shard in self.shards.values():
            assert self.client.read(shard.index) == shard.from_(0)

    @property
    def open(self) -> list[ModelShard]:
        shards = [shard for shard in self.shards.values() if not shard.closed]
        return sorted(shards, key=lambda shard: shard.first_hash)

    def new_bodies(self, sizes: list[int]) -> list[bytes]:
        bodies = []
        for size in sizes:
            self.body += 1
            bodies.append(b"%d" % self.body + b"." * size if size else b"")
        return bodies

    def place(self, hash_key: int) -> ModelShard:
        (shard,) = [each for each in self.open if each.first_hash <= hash_key <= each.last_hash]
        return shard

    # --- records ---

    @rule(
        entries=st.lists(st.tuples(KEYS, SIZES), min_size=1, max_size=8),
        hash_key=st.sampled_from([-1, -1, 0, 5, END // 2, END - 1]),
    )
    def append(self, entries, hash_key):
        keys = [key for key, _ in entries]
        bodies = self.new_bodies([size for _, size in entries])
        hash_keys = None if hash_key < 0 else [hash_key, *([-1] * (len(keys) - 1))]
        expected = []
        for index, (key, body) in enumerate(zip(keys, bodies, strict=True)):
            place = int.from_bytes(md5(key).digest())
            if hash_keys is not None and hash_keys[index] >= 0:
                place = hash_keys[index]
            shard = self.place(place)
            expected.append((shard.index, shard.add(self.broker.clock.ms, key, body)))
        assert self.client.try_append(Appending(bodies, keys, None, hash_keys)) == expected

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=20))
    def append_anywhere(self, sizes):
        bodies = self.new_bodies(sizes)
        positions = self.client.append(*bodies)
        shard = self.shards[positions[0][0]]
        assert not shard.closed
        now_ms = self.broker.clock.ms
        assert positions == [(shard.index, shard.add(now_ms, b"", body)) for body in bodies]

    @rule(pick=PICKS, at=PICKS, records_max=st.integers(1, 30), bytes_max=st.integers(1, 8_000))
    def read(self, pick, at, records_max, bytes_max):
        shard = list(self.shards.values())[pick % len(self.shards)]
        number = at % (shard.next + 1)
        chunk = self.client.chunk(shard.index, number, records_max, bytes_max)
        records = records_of(chunk)
        expected = shard.from_(number)
        assert records == expected[: len(records)]
        assert len(records) <= records_max
        assert bool(records) == bool(expected)
        if not records:
            assert chunk.next == max(number, shard.first)
        assert chunk.ended == (shard.closed and chunk.next == shard.next)
        children = [each.index for each in self.shards.values() if shard.index in each.parents]
        assert chunk.children == (children if chunk.ended else [])
        rest = expected[len(records) :]
        assert chunk.behind_ms == 0 if not rest else chunk.behind_ms >= 0

    @rule(pick=PICKS, back_ms=st.sampled_from([-1, 0, 1, 700, 5_000, 100_000]))
    def find_by_time(self, pick, back_ms):
        shard = list(self.shards.values())[pick % len(self.shards)]
        time_ms = self.broker.clock.ms - back_ms
        later = [record.number for record in shard.from_(0) if record.time_ms >= time_ms]
        expected = later[0] if later else shard.next
        assert self.client.find(shard.index, Start("time", time_ms=time_ms)) == expected
        assert self.client.find(shard.index, Start("latest")) == shard.next
        assert self.client.find(shard.index, Start("earliest")) == shard.first

    # --- resharding ---

    def reshard(self, closed, ranges):
        for first, last in ranges:
            parents = [s for s in closed if s.first_hash <= last and first <= s.last_hash]
            start = max(parent.next for parent in parents)
            indexes = [parent.index for parent in parents]
            self.shards[self.next_index] = ModelShard(self.next_index, first, last, start, indexes)
            self.next_index += 1
        for shard in closed:
            shard.closed = True

    @precondition(lambda self: len(self.open) < 6)
    @rule(pick=PICKS)
    def split(self, pick):
        shard = self.open[pick % len(self.open)]
        middle = (shard.first_hash + shard.last_hash + 1) // 2
        self.client.split(shard.index)
        self.reshard([shard], [(shard.first_hash, middle - 1), (middle, shard.last_hash)])

    @precondition(lambda self: len(self.open) > 1)
    @rule(pick=PICKS)
    def merge(self, pick):
        at = pick % (len(self.open) - 1)
        low, high = self.open[at : at + 2]
        self.client.merge(high.index, low.index)
        self.reshard([low, high], [(low.first_hash, high.last_hash)])

    @rule(count=st.integers(1, 4))
    def rescale(self, count):
        bounds = [END * index // count for index in range(count + 1)]
        ranges = [(first, end - 1) for first, end in pairwise(bounds)]
        self.client.rescale(count)
        if ranges != [(shard.first_hash, shard.last_hash) for shard in self.open]:
            self.reshard(self.open, ranges)

    # --- letting go ---

    @rule(pick=PICKS, at=PICKS)
    def trim(self, pick, at):
        shard = list(self.shards.values())[pick % len(self.shards)]
        first = at % (shard.next + 1)
        self.client.core.streams.trim(self.client.shard(shard.index), first)
        self.broker.settle()
        shard.first = max(shard.first, first)

    @rule(ms=st.sampled_from([1, 100, 1_500, 20_000]))
    def advance(self, ms):
        self.broker.advance(ms)
        self.follow()

    @rule(retention_ms=st.sampled_from([1_000, 10_000]))
    def trim_by_time(self, retention_ms):
        self.client.update(retention_ms=retention_ms)
        self.broker.advance(3_000)
        now_ms = self.broker.clock.ms
        self.client.update(retention_ms=0)
        for shard in self.shards.values():
            old = [r for r in shard.from_(0) if r.time_ms < now_ms - retention_ms - 2_100]
            young = [r for r in shard.from_(0) if r.time_ms >= now_ms - retention_ms]
            first = self.first(shard)
            assert not old or first > old[-1].number
            assert not young or first <= young[0].number
            shard.first = first
        self.follow()

    @rule(retention_bytes=st.sampled_from([1, 500, 5_000]))
    def trim_by_bytes(self, retention_bytes):
        before = self.client.stream.stored_bytes
        self.client.update(retention_bytes=retention_bytes)
        self.broker.advance(2_100)
        self.client.update(retention_bytes=0)
        assert self.client.stream.stored_bytes <= retention_bytes
        for shard in self.shards.values():
            first = self.first(shard)
            assert before > retention_bytes or first == shard.first
            shard.first = first
        self.follow()

    def first(self, shard):
        found = self.client.stream.shards.get(shard.index)
        return shard.next if found is None else found.first

    def follow(self):
        """Closed shards may be dropped with their last records, after their parents."""
        for shard in list(self.shards.values()):
            if shard.index not in self.client.stream.shards:
                assert shard.closed and shard.first == shard.next
                assert not any(parent in self.shards for parent in shard.parents)
                del self.shards[shard.index]

    # --- storage ---

    @rule()
    def rehome(self):
        self.broker.rehome()

    @rule(key=KEYS)
    def rehome_while_it_works(self, key):
        if not self.broker.log.sealed_lsn:
            return
        self.broker.rehome(lambda: self.append([(key, 30)], -1) if self.body % 3 else None)

    @rule(key=KEYS)
    def checkpoint(self, key):
        steps = iter(range(1_000))
        self.broker.checkpoint(lambda: next(steps) % 3 or self.append([(key, 30)], -1))

    @rule(power=st.booleans(), seed=PICKS)
    def crash(self, power, seed):
        self.broker = self.broker.restarted(random.Random(seed) if power else None)
        self.client = StreamClient(self.broker)

    @rule(steps=st.integers(0, 6), seed=PICKS, sizes=st.lists(SIZES, min_size=1, max_size=4))
    def crash_before_it_is_kept(self, steps, seed, sizes):
        """Nobody sees what is not kept; of what nobody waited for, the first may survive."""
        pending = {}
        broker = self.broker
        broker.auto_commit = False
        for body in self.new_bodies(sizes):
            batch = batch_of(body, key=b"a")
            _, (position,) = broker.core.append(SYSTEM, "s", batch, broker.clock.ms)
            assert isinstance(position, tuple)
            index, number = position
            shard = self.shards[index]
            pending[number] = (shard, body)
            readable = self.client.shard(index).readable()
            assert [r.number for r in self.client.read(index, number)] == []
            assert readable <= min(pending)
        for _ in range(steps):
            broker.clock.turn()
            for worker in broker.workers:
                worker.step()
        durable = self.client.shard(index).readable()
        now_ms = broker.clock.ms
        self.crash(True, seed)
        found = self.client.shard(shard.index)
        assert durable <= found.next <= shard.next + len(pending)
        while shard.next < found.next:
            _, body = pending[shard.next]
            shard.add(now_ms, b"a", body)

    @invariant()
    def it_is_as_it_should_be(self):
        stream = self.client.stream
        assert set(stream.shards) == set(self.shards)
        for shard in self.shards.values():
            found = stream.shard(shard.index)
            assert (found.first, found.next) == (shard.first, shard.next)
            assert found.closed == shard.closed
            assert found.hot_bytes == sum(found.sizes)
            assert found.cold_bytes == sum(file.bytes for file in found.cold)


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)

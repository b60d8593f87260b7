"""A view against a table of records that is obviously right: restarts, trims and reshards included.

The model knows of every record whether it is settled, held by somebody, held back, received how
often, or a dead letter. What is received must be ready by the table, new records of a shard in
their order, records of a child only when none of its parents' is new; and a receive that finds
nothing means that nothing is ready. Which shard's turn it is, is the view's own affair.
"""

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery
from braidmq.broker.viewlane import record_id
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient

MAX_RECEIVES = 3
LEASE_BUCKET_MS = 64
PICKS = st.integers(0, 10_000)
SIZES = st.sampled_from([1, 30, 30, 400])


@dataclass
class Record:
    """A record in the model."""

    shard: int
    number: int
    body: bytes
    id: int
    new: bool = True  # nobody was given it yet
    receives: int = 0
    token: int = 0
    seq: int = 0
    lease_end_ms: int = 0
    due_ms: int = 0


class ViewMachine(RuleBasedStateMachine):
    """Does the same to a broker on a simulated disk and to the table."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(in_flight_messages_max=40, view_lookahead_messages_max=10)
        self.broker = DiskBroker(limits=limits, segment_bytes=2_048, cache_bytes_max=2_048)
        self.client = StreamClient(self.broker).declare(2)
        self.records: dict[tuple[int, int], Record] = {}
        self.parents: dict[int, list[int]] = {}
        self.dead: list[tuple[int, bytes]] = []
        self.seqs: dict[int, Record] = {}
        self.count = 0
        self.broker.declare("v", stream="s", max_receives=MAX_RECEIVES, dead_letter="dead")
        self.broker.settle()
        self.note_shards()

    # --- the table ---

    @property
    def now_ms(self) -> int:
        return self.broker.clock.ms

    def note_shards(self) -> None:
        for shard in self.client.stream.shards.values():
            self.parents.setdefault(shard.index, shard.definition.parents)

    def bury(self, record: Record) -> None:
        del self.records[record.shard, record.number]
        self.dead.append((record.id, record.body))

    def give_back(self, record: Record, delay_ms: int = 0, counted: bool = True) -> None:
        record.token = record.lease_end_ms = 0
        record.receives -= not counted
        if counted and record.receives >= MAX_RECEIVES:
            self.settle_spent(record)
        elif delay_ms:
            record.due_ms = self.now_ms + delay_ms

    def bury_spent(self) -> None:
        """Whose last lease ended with the broker is buried when its turn comes."""
        dead = {message.id for message in self.broker.browse("dead")}
        for record in self.ready():
            if record.receives >= MAX_RECEIVES and record.id in dead:
                self.bury(record)

    def settle_spent(self, record: Record) -> None:
        dead = {message.id for message in self.broker.browse("dead")}
        if self.is_trimmed(record) and record.id not in dead:
            del self.records[record.shard, record.number]  # it was nowhere to be had any more
        else:
            self.bury(record)

    def is_trimmed(self, record: Record) -> bool:
        shard = self.client.stream.shards.get(record.shard)
        return shard is None or record.number < shard.first

    def ready(self) -> list[Record]:
        """What may be given to somebody now."""
        new = {r.shard for r in self.records.values() if r.new and not self.is_trimmed(r)}
        return [
            record
            for record in self.records.values()
            if not record.token
            and not record.due_ms
            and not self.is_trimmed(record)
            and not (record.new and self.has_new_parent(record.shard, new))
        ]

    def has_new_parent(self, shard: int, new: set[int]) -> bool:
        return any(
            parent in new or self.has_new_parent(parent, new)
            for parent in self.parents.get(shard, ())
        )

    def take(self, delivery: Delivery, lease_ms: int) -> None:
        """A record was delivered: it must have been ready, and the next of its shard."""
        (record,) = [r for r in self.ready() if r.body == delivery.body]
        assert record.receives < MAX_RECEIVES
        assert delivery.id == record.id
        if record.new:
            earlier = [
                r
                for r in self.records.values()
                if r.shard == record.shard and r.new and r.number < record.number
            ]
            assert all(map(self.is_trimmed, earlier)), "new records come in their order"
        known = self.seqs.setdefault(delivery.seq, record)
        assert known.id == record.id, "a sequence is of one record for ever"
        record.new = False
        record.receives += 1
        assert delivery.receives == record.receives
        record.token, record.seq = delivery.token, delivery.seq
        end = self.now_ms + lease_ms
        record.lease_end_ms = (end // LEASE_BUCKET_MS + 1) * LEASE_BUCKET_MS

    def pick_leased(self, pick: int, count: int) -> list[Record]:
        leased = [record for record in self.records.values() if record.token]
        start = pick % len(leased) if leased else 0
        return leased[start : start + count]

    def receipts(self, records: list[Record]) -> list[Delivery]:
        return [Delivery(r.seq, r.token, 0, 0, 0, b"", b"") for r in records]

    # --- what people do ---

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=12))
    def append(self, sizes):
        bodies = []
        for size in sizes:
            self.count += 1
            bodies.append(b"%d" % self.count + b"." * size)
        for (index, number), body in zip(self.client.append(*bodies), bodies, strict=True):
            id = record_id(self.client.shard(index).id, number)
            self.records[index, number] = Record(index, number, body, id)

    @rule(count=st.integers(1, 12), lease=st.sampled_from([100, 500, 5_000]))
    def receive(self, count, lease):
        left = min(count, 40 - len(self.pick_leased(0, 100)))
        while left > 0:
            got = self.broker.receive(left, "v", lease_ms=lease)
            for delivery in got:
                self.take(delivery, lease)
            left -= len(got)
            self.bury_spent()
            if not got:
                held_back = sum(bool(record.due_ms) for record in self.records.values())
                assert not self.ready() or held_back, "a full window, or nothing is ready"
                if held_back < 10:
                    assert not self.ready()
                break

    @rule(pick=PICKS, count=st.integers(1, 8))
    def ack(self, pick, count):
        chosen = self.pick_leased(pick, count)
        assert self.broker.ack(*self.receipts(chosen), name="v") == [None] * len(chosen)
        for record in chosen:
            del self.records[record.shard, record.number]

    @rule(pick=PICKS, count=st.integers(1, 5), delay=st.sampled_from([0, 0, 300, 4_000]))
    def nack(self, pick, count, delay):
        chosen = self.pick_leased(pick, count)
        assert self.broker.nack(*self.receipts(chosen), name="v", delay_ms=delay) == [None] * len(
            chosen
        )
        for record in chosen:
            self.give_back(record, delay)

    @rule(pick=PICKS)
    def nack_uncounted(self, pick):
        chosen = self.pick_leased(pick, 1)
        self.broker.nack(*self.receipts(chosen), name="v", counted=False)
        for record in chosen:
            self.give_back(record, counted=False)

    @rule(pick=PICKS)
    def extend(self, pick):
        chosen = self.pick_leased(pick, 1)
        assert self.broker.extend(*self.receipts(chosen), name="v", lease_ms=8_000) == [None] * len(
            chosen
        )
        for record in chosen:
            end = self.now_ms + 8_000
            record.lease_end_ms = (end // LEASE_BUCKET_MS + 1) * LEASE_BUCKET_MS

    @rule(pick=PICKS, count=st.integers(1, 4))
    def refuse(self, pick, count):
        chosen = self.pick_leased(pick, count)
        self.broker.dead_letter(*self.receipts(chosen), name="v")
        for record in chosen:
            self.settle_spent(record)

    @rule(ms=st.sampled_from([1, 64, 500, 3_000, 20_000]))
    def advance(self, ms):
        end = self.now_ms + ms
        self.broker.advance(ms)
        for record in list(self.records.values()):
            if 0 < record.due_ms <= end:
                record.due_ms = 0
            if 0 < record.lease_end_ms <= end:
                self.give_back(record)

    @rule()
    def purge(self):
        self.broker.purge("v")
        self.records.clear()

    # --- what happens to the stream ---

    @rule(pick=PICKS, at=PICKS)
    def trim(self, pick, at):
        shards = list(self.client.stream.shards.values())
        shard = shards[pick % len(shards)]
        first = shard.first + at % (min(shard.next - shard.first, 8) + 1)
        self.client.core.streams.trim(shard, first)
        self.broker.settle()
        self.forget_trimmed()

    def forget_trimmed(self) -> None:
        for record in list(self.records.values()):
            if self.is_trimmed(record) and not record.token:
                del self.records[record.shard, record.number]

    @precondition(lambda self: len(self.client.stream.open) < 5)
    @rule(pick=PICKS)
    def split(self, pick):
        shards = self.client.stream.open
        self.client.split(shards[pick % len(shards)].index)
        self.note_shards()

    @precondition(lambda self: len(self.client.stream.open) > 1)
    @rule(pick=PICKS)
    def merge(self, pick):
        shards = self.client.stream.open
        at = pick % (len(shards) - 1)
        self.client.merge(shards[at].index, shards[at + 1].index)
        self.note_shards()

    # --- storage ---

    @rule()
    def rehome(self):
        self.broker.rehome()

    @rule()
    def compact(self):
        self.broker.compact()

    @rule(count=st.integers(1, 6))
    def checkpoint(self, count):
        steps = iter(range(10_000))
        self.broker.checkpoint(lambda: next(steps) % 7 or self.receive(count, 500))

    @rule(power=st.booleans(), seed=PICKS)
    def crash(self, power, seed):
        self.broker = self.broker.restarted(random.Random(seed) if power else None)
        self.client = StreamClient(self.broker)
        self.broker.settle()
        for record in list(self.records.values()):
            record.token = record.lease_end_ms = 0
            if 0 < record.due_ms <= self.now_ms:
                record.due_ms = 0
        self.forget_trimmed()

    @rule(pick=PICKS, count=st.integers(1, 8), steps=st.integers(0, 4), seed=PICKS)
    def crash_before_an_ack_is_kept(self, pick, count, steps, seed):
        """All that was acknowledged together is settled, or all of it comes again."""
        chosen = self.pick_leased(pick, count)
        broker = self.broker
        broker.auto_commit = False
        broker.ack(*self.receipts(chosen), name="v")
        for _ in range(steps):
            broker.clock.turn()
            for worker in broker.workers:
                worker.step()
        self.crash(True, seed)
        left = {message.id for message in self.broker.browse("v")}
        kept = [record for record in chosen if record.id in left]
        trimmed = [record for record in chosen if self.is_trimmed(record)]
        assert not kept or len(kept) + len(trimmed) == len(chosen)
        for record in chosen:
            if record not in kept:
                self.records.pop((record.shard, record.number), None)

    # --- what always holds ---

    @invariant()
    def it_is_as_the_table_says(self):
        self.forget_trimmed()
        # What is spent is buried when somebody would get it.
        info = self.broker.info("v")
        records = self.records.values()
        assert info.in_flight == sum(bool(record.token) for record in records)
        assert info.delayed == sum(bool(record.due_ms) for record in records)
        assert info.ready == sum(not record.token and not record.due_ms for record in records)

    @invariant()
    def every_dead_letter_is_there_once(self):
        found = [(message.id, message.body) for message in self.broker.browse("dead")]
        assert sorted(found) == sorted(self.dead)

    def teardown(self):
        self.advance(20_000)
        while got := self.broker.receive(10, "v", lease_ms=500):
            for delivery in got:
                self.take(delivery, 500)
            self.ack(0, 10)
        self.bury_spent()
        self.forget_trimmed()
        assert not self.records


TestView = ViewMachine.TestCase
TestView.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)

"""What a restart brings back is what was there, whenever and however often it is replayed."""

import random
from collections.abc import Callable, Iterator

import pytest

from braidmq.broker.access import SYSTEM, Access
from braidmq.broker.core import Core
from braidmq.broker.index import HELD
from braidmq.broker.limits import Limits
from braidmq.broker.message import unpack_headers
from braidmq.broker.verbs import RedriveInfo
from braidmq.storage import FileLog
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog
from braidmq.storage.record import encode_definition
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness, sent

NAMES = ("plain", "second", "dead", "fifo", "fifo-dead")


def picture(broker: Harness) -> dict[str, list[tuple[object, ...]]]:
    """All that a restart must bring back. Leases end with the process."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for name in NAMES:
        if name not in broker.core.queues:
            continue
        after, rows = 0, []
        while page := broker.browse(name, after=after):
            rows += page
            after = page[-1].seq
        found[name] = [
            (
                each.seq,
                each.id,
                each.receives,
                each.body,
                each.time_ms,
                sorted(unpack_headers(each.attributes).items()),
                each.state == "delayed",
            )
            for each in rows
        ]
    return found


def details(broker: Harness) -> dict[str, object]:
    """Inner state that cannot be seen by browsing."""
    found: dict[str, object] = {}
    for name in NAMES:
        queue = broker.core.queues.get(name)
        if queue is None:
            continue
        found[name] = (
            queue.settings,
            sorted((lane.base, lane.next, lane.live) for lane in queue.lanes),
            sorted(
                (due, seq)
                for due, seq in queue.delayed.numbers()
                if due > broker.clock.ms and queue.slot(seq) & HELD
            ),
        )
        if queue.dedup is not None:
            queue.dedup.prune(broker.clock.ms)
            found[name + " ids"] = dict(queue.dedup._seen)
    return found


class Doer:
    """Does anything, at random."""

    def __init__(self, broker: Harness, rng: random.Random) -> None:
        self.broker = broker
        self.rng = rng
        self.count = 0

    def declare(self) -> None:
        broker = self.broker
        broker.declare("plain", max_receives=3, dead_letter="dead", visibility_timeout_ms=2_000)
        broker.declare("second", ttl_ms=60_000, retention_ms=90_000)
        broker.declare("fifo", fifo=True, max_receives=3, dead_letter="fifo-dead", delay_ms=100)

    def send(self) -> None:
        rng, broker = self.rng, self.broker
        name = rng.choice(["plain", "second", "fifo"])
        for _ in range(rng.choice([1, 1, 5])):
            self.count += 1
            body = b"%d" % self.count + b"x" * rng.choice([0, 10, 200])
            fields: dict[str, object]
            if name == "fifo":
                fields = {"group": rng.choice("abc"), "dedup_id": str(rng.randrange(30))}
            else:
                fields = {
                    "delay_ms": rng.choice([-1, -1, 0, 700, 9_000]),
                    "ttl_ms": rng.choice([0, 0, 5_000]),
                    "priority": rng.choice([4, 4, 4, 0, 9]),
                }
            broker.send(body, name=name, **fields)

    def settle_some(self) -> None:
        rng, broker = self.rng, self.broker
        name = rng.choice(["plain", "second", "fifo", "dead"])
        for delivery in broker.receive(rng.choice([1, 4, 20]), name, lease_ms=2_000):
            choice = rng.random()
            if choice < 0.4:
                broker.ack(delivery, name=name)
            elif choice < 0.6:
                broker.nack(delivery, name=name, delay_ms=rng.choice([0, 500, 20_000]))
            elif choice < 0.7:
                broker.nack(delivery, name=name, counted=False)
            elif choice < 0.75 and name in ("plain", "fifo"):
                broker.dead_letter(delivery, name=name, reason="no")

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.4:
            self.send()
        elif choice < 0.8:
            self.settle_some()
        elif choice < 0.93:
            self.broker.advance(self.rng.choice([1, 300, 2_500]))
        elif choice < 0.95:
            self.broker.purge(self.rng.choice(["plain", "fifo"]))
        elif choice < 0.98:
            source, target = self.rng.choice([("dead", "second"), ("fifo-dead", "fifo")])
            if not any(each.state == "running" for each in self.redrives()):
                self.broker.redrive(source, target)
        else:
            self.broker.update("plain", tags={"n": str(self.count)})

    def redrives(self) -> list[RedriveInfo]:
        return self.broker.core.list_redrives(SYSTEM)


def check_references(broker: DiskBroker) -> None:
    """The log's counts are those of the places that point at it: no more, no fewer."""
    broker.settle()
    needed = sorted(
        lsn
        for queue in broker.core.queues.values()
        if queue.logged
        for page in queue.lsns()
        for lsn in page
    )
    for segment in broker.log._segments.items:  # type: ignore[attr-defined]
        inside = [lsn for lsn in needed if segment.base <= lsn < segment.end]
        assert segment.live == len(inside), (segment.base, segment.live, len(inside))


@pytest.mark.parametrize("seed", range(12))
def test_restart_brings_back_the_state(seed):
    rng = random.Random(seed)
    broker = DiskBroker(segment_bytes=rng.choice([2_048, 8_192]), cache_bytes_max=3_000)
    doer = Doer(broker, rng)
    doer.declare()
    for _ in range(5):
        for _ in range(rng.randrange(5, 25)):
            doer.step()
            if rng.random() < 0.05:
                broker.checkpoint(doer.step if rng.random() < 0.7 else lambda: None)
            if rng.random() < 0.1:
                broker.compact(doer.step)
        check_references(broker)
        expected, inner = picture(broker), details(broker)
        broker = broker.restarted(random.Random(seed) if rng.random() < 0.5 else None)
        assert picture(broker) == expected
        assert details(broker) == inner
        check_references(broker)
        assert not any(queue.leases.by_seq for queue in broker.core.queues.values())
        doer.broker = broker


@pytest.mark.parametrize("seed", range(6))
def test_replaying_every_record_twice_changes_nothing(seed, monkeypatch):
    rng = random.Random(seed)
    broker = DiskBroker()
    doer = Doer(broker, rng)
    doer.declare()
    for _ in range(60):
        doer.step()
        if rng.random() < 0.05:
            broker.checkpoint(doer.step)
    expected, inner = picture(broker), details(broker)
    original = Core.apply

    def twice(core: Core, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        original(core, lsn, kind, buffer, at)
        if not core._live:
            original(core, lsn, kind, buffer, at)

    monkeypatch.setattr(Core, "apply", twice)
    broker = broker.restarted()
    assert picture(broker) == expected and details(broker) == inner


@pytest.mark.parametrize("seed", range(6))
def test_replaying_the_log_over_a_newer_state_changes_nothing(seed):
    """As a fuzzy checkpoint does: all records since its beginning come once more."""
    rng = random.Random(seed)
    broker = DiskBroker()
    doer = Doer(broker, rng)
    doer.declare()
    for _ in range(60):
        doer.step()
    broker.settle()
    records = list(recorded(broker))
    inner = details(broker)
    core = Core(MemoryLog(), Limits(), Access(), lambda: None, MemoryLog(1 << 61))
    for start in (0, len(records) // 2, len(records) - 10):
        for record in records[max(start, 0) :]:
            core.apply(*record)
    core.finish()
    again = Harness.__new__(Harness)
    again.core, again.clock = core, broker.clock
    assert details(again) == inner


def recorded(broker: DiskBroker) -> Iterator[tuple[int, int, bytes, int]]:
    """Every record in the log of a broker."""
    found: list[tuple[int, int, bytes, int]] = []

    class Recorder(Core):
        def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
            found.append((lsn, kind, bytes(buffer), at))
            super().apply(lsn, kind, buffer, at)

    log = FileLog(
        "/data", disk=broker.disk.after_kill().copy(), ballast_bytes=0, disk_free_bytes_min=0
    )
    log.open(Recorder(log, Limits(), Access(), lambda: None, MemoryLog(1 << 61)))
    return iter(found)


def test_definitions_come_back_with_their_settings_and_names():
    broker = DiskBroker()
    broker.declare("a", tags={"x": "y"}, max_receives=3, dead_letter="b")
    broker.update("a", ttl_ms=77_000)
    broker.declare("gone")
    broker.send(b"x", name="gone")
    broker.delete("gone")
    broker.settle()
    for checkpoint in (False, True, False):
        expected = {name: queue.settings for name, queue in broker.core.queues.items()}
        if checkpoint:
            broker.checkpoint()
        broker = broker.restarted()
        assert {name: q.settings for name, q in broker.core.queues.items()} == expected
    assert set(expected) == {"a", "b"}
    created = {queue.id for queue in broker.core.queues.values()}
    broker.declare("gone")
    assert broker.core.queue("gone").id not in created | {3}  # a number is never used again
    assert broker.info("gone").messages == 0


@pytest.mark.parametrize("checkpoint", [False, True])
def test_sequence_numbers_rise_over_purge_and_restart(checkpoint):
    broker = DiskBroker()
    broker.declare()
    before = [each.seq for each in sent(broker.send(b"a", b"b", b"c"))]
    broker.purge()
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted()
    (after,) = sent(broker.send(b"d"))
    assert after.seq > max(before) and broker.bodies() == [b"d"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_receives_of_a_crashing_consumer_are_counted(checkpoint):
    broker = DiskBroker()
    broker.declare(max_receives=3, dead_letter="dead")
    broker.send(b"poison")
    for _ in range(3):
        assert len(broker.receive()) == 1
        if checkpoint:
            broker.checkpoint()
        broker = broker.restarted()
    assert broker.receive() == []
    assert broker.bodies("dead") == [b"poison"]


def test_memory_queues_come_back_empty():
    broker = DiskBroker()
    broker.declare(durability=Durability.MEMORY)
    broker.send(b"a")
    broker.checkpoint()
    broker = broker.restarted()
    assert broker.info().messages == 0 and broker.info().settings.durability is Durability.MEMORY
    broker.send(b"b")
    assert broker.drain() == [b"b"]


def test_os_queue_survives_the_process():
    broker = DiskBroker()
    broker.declare(durability=Durability.OS)
    broker.auto_commit = False
    broker.send(b"a")
    assert broker.restarted().bodies() == [b"a"]


def test_record_of_another_version_is_not_skipped():
    core = Core(MemoryLog(), Limits(), Access(), lambda: None)
    with pytest.raises(ValueError, match="type 99"):
        core.apply(1, 99, encode_definition(1, b""), 0)


def test_checkpoint_while_queues_come_and_go():
    broker = DiskBroker()
    names = iter(range(1_000))
    broker.declare()
    broker.send(*[b"x"] * 2_000)

    def between() -> None:
        number = next(names)
        broker.declare(f"n{number}", max_receives=1, dead_letter="dead")
        broker.send(b"%d" % number, name=f"n{number}")
        broker.nack(*broker.receive(name=f"n{number}"), name=f"n{number}")
        if number % 2:
            broker.delete(f"n{number}")

    steps: Callable[[], object] = between
    broker.checkpoint(steps)
    expected = sorted(broker.core.queues)
    dead = broker.bodies("dead")
    broker = broker.restarted()
    assert sorted(broker.core.queues) == expected and broker.bodies("dead") == dead

"""What keeps the broker going: work, deadlines, the log's progress and its failure."""

import errno
import random

import pytest

from braidmq.broker import state
from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError, BrokerFailed, Overloaded, StorageFull
from braidmq.broker.limits import Limits
from braidmq.broker.message import Outgoing
from braidmq.storage.commit import LINGER_MS
from braidmq.storage.errors import Corrupt, DiskFull, LogFailed, StorageError
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness, sent
from tests.simdisk import run_steps


def put(broker: Harness, *bodies: bytes, name: str = "q") -> None:
    """Send without waiting for anything."""
    messages = [Outgoing(body) for body in bodies]
    broker.core.send(SYSTEM, name, messages, broker.clock.ms)


def test_sync_queue_delivers_only_what_is_durable():
    broker = DiskBroker()
    broker.auto_commit = False
    broker.declare()
    _, sink = broker.consume()
    put(broker, b"a")
    broker.settle()
    assert broker.log.written_lsn == broker.log.next_lsn - 64 and sink.deliveries == []
    broker.core.when_kept(Durability.SYNC, lambda argument, error: None, None)
    broker.settle()
    assert len(sink.deliveries) == 1


def test_what_nobody_waits_for_can_be_kept_all_the_same():
    broker = DiskBroker()
    broker.auto_commit = False
    broker.declare()
    _, sink = broker.consume()
    put(broker, b"a")
    broker.core.keep()
    broker.settle()
    assert len(sink.deliveries) == 1


def test_os_queue_delivers_what_is_written_and_memory_queue_at_once():
    broker = DiskBroker()
    broker.auto_commit = False
    broker.declare("os", durability=Durability.OS)
    broker.declare("memory", durability=Durability.MEMORY)
    _, written = broker.consume(name="os")
    _, kept = broker.consume(name="memory")
    put(broker, b"a", name="os")
    put(broker, b"b", name="memory")
    broker.core.run(broker.clock.ms)
    assert (len(written.deliveries), len(kept.deliveries)) == (0, 1)
    broker.settle()
    assert len(written.deliveries) == 1


def test_acknowledgement_of_a_send_waits_for_its_level():
    broker = DiskBroker()
    broker.auto_commit = False
    broker.declare()
    broker.settle()
    order: list[str] = []

    def kept(argument: object, error: BraidError | None) -> None:
        assert error is None
        order.append(str(argument))

    put(broker, b"a")
    broker.core.when_kept(Durability.SYNC, kept, "sync")
    broker.core.when_kept(Durability.OS, kept, "os")
    broker.core.when_kept(Durability.MEMORY, kept, "memory")
    assert order == ["memory"]
    broker.settle()
    assert order == ["memory", "os", "sync"]


def test_consumer_is_fed_while_more_is_always_on_its_way():
    broker = DiskBroker()
    broker.auto_commit = False
    broker.declare()
    _, sink = broker.consume()
    for number in range(20):
        # At every moment something is not durable yet.
        put(broker, b"%d" % number)
        broker.core.when_kept(Durability.SYNC, lambda argument, error: None, None)
        broker.clock.turn()
        put(broker, b"%d more" % number)
        broker.core.when_kept(Durability.SYNC, lambda argument, error: None, None)
        broker._step()
        broker.clock.turn()
        broker.core.run(broker.clock.ms)
    assert len(sink.deliveries) > 30


def compacted(kept: int = 1, **settings) -> tuple[DiskBroker, list[int]]:
    """A broker that has moved some messages, and has not kept the copies yet; their ids."""
    broker = DiskBroker(segment_bytes=2048)
    broker.declare(**settings)
    groups = {"group": "g"} if settings.get("fifo") else {}
    broker.send(*[b"x" * 100] * 60, **groups)
    taken = broker.receive(60)
    broker.ack(*taken[:10], *taken[10 + kept :])
    broker.nack(*taken[10 : 10 + kept])
    broker.auto_commit = False
    assert broker.compact()
    assert broker.log.next_lsn > broker.log.durable_lsn
    return broker, [each.id for each in taken[10 : 10 + kept]]


@pytest.mark.parametrize("fifo", [False, True])
def test_message_moved_by_compaction_is_delivered_before_the_copy_is_durable(fifo):
    """It was ready before: whoever asks for what is there gets it."""
    broker, ids = compacted(fifo=fifo, content_dedup=False)
    assert [each.id for each in broker.receive(10)] == ids
    again = broker.restarted(random.Random(1))
    assert [each.id for each in again.receive(10)] == ids, "a crash takes nothing back"


def test_dead_letter_moved_by_compaction_is_delivered_before_the_copy_is_durable():
    broker = DiskBroker(segment_bytes=2048)
    broker.declare("dead")
    broker.declare(dead_letter="dead")
    broker.send(*[b"x" * 100] * 60)
    broker.dead_letter(*broker.receive(60))
    taken = broker.receive(60, "dead")
    broker.ack(*taken[1:], name="dead")
    broker.nack(taken[0], name="dead")
    broker.auto_commit = False
    while broker.compact():
        pass
    assert [each.id for each in broker.receive(10, "dead")] == [taken[0].id]


def test_what_was_sent_behind_a_copy_waits_until_it_is_durable():
    broker, ids = compacted()
    broker.send(b"new")
    assert [each.id for each in broker.receive(10)] == ids
    assert broker.receive(10) == []
    broker.auto_commit = True
    broker.settle()
    assert [each.body for each in broker.receive(10)] == [b"new"]
    assert not broker.core.queues["q"].copies


def test_so_many_copies_are_known_and_no_more(monkeypatch):
    monkeypatch.setattr(state, "_COPIES_MAX", 2)
    broker, ids = compacted(3)
    assert len(broker.core.queues["q"].copies) == 1
    assert broker.receive(10) == []
    broker.auto_commit = True
    broker.settle()
    assert [each.id for each in broker.receive(10)] == ids


def test_what_a_call_that_was_put_off_raises_is_no_other_ones_problem():
    broker = Harness()
    faults: list[Exception] = []
    broker.core.on_fault = faults.append
    broker.declare()
    told: list[object] = []

    def broken(argument: object, found: object) -> None:
        raise ZeroDivisionError("a bug")

    def answer(argument: object, found: object) -> None:
        told.append(argument)

    for callback in (broken, answer):
        broker.core.list_topics(SYSTEM, "#", "", 10, callback, "topics")
        broker.core.topic_tree(SYSTEM, "", "", 10, callback, "levels")
        broker.core.browse(SYSTEM, "q", 0, 10, "", "all", callback, "messages")
    broker.settle()
    assert [type(fault) for fault in faults] == [ZeroDivisionError] * 3
    assert told == ["topics", "levels", "messages"] and broker.core.failed is None


def test_a_log_that_fails_in_a_call_that_was_put_off_stops_the_broker():
    broker = Harness()

    def broken() -> None:
        raise LogFailed("gone")

    broker.core.later(broken)
    broker.settle()
    assert isinstance(broker.core.failed, BrokerFailed)


def test_deadline_is_never_later_than_what_is_due():
    broker = Harness()
    broker.declare()
    assert broker.core.next_deadline() is None
    broker.send(b"a", delay_ms=100_000)
    broker.send(b"b")
    due_ms = broker.core.next_deadline()
    assert due_ms is not None and due_ms <= broker.clock.ms + 100_000
    broker.receive(lease_ms=5_000)
    due_ms = broker.core.next_deadline()
    assert due_ms is not None and broker.clock.ms + 5_000 <= due_ms <= broker.clock.ms + 5_064


def test_alarms_that_are_not_needed_any_more_do_not_pile_up():
    broker = Harness()
    broker.declare()
    broker.send(b"a", delay_ms=86_400_000)
    for _ in range(1_000):
        broker.waiting(wait_ms=10)
        broker.advance(20)
    assert len(broker.core._alarms) < 70
    broker.advance(86_400_000)
    assert len(broker.receive()) == 1


def test_many_queues_are_ticked_on_time():
    broker = Harness()
    for number in range(100):
        broker.declare(f"q{number}")
        broker.send(b"x", name=f"q{number}", delay_ms=1_000 + 10 * number)
    broker.advance(1_495)
    assert sum(broker.info(f"q{number}").ready for number in range(100)) == 50
    broker.advance(1_000)
    assert sum(broker.info(f"q{number}").ready for number in range(100)) == 100


def test_too_much_on_its_way_to_disk_is_refused():
    broker = DiskBroker(limits=Limits(pending_bytes_max=1_000))
    broker.declare()
    broker.declare("memory", durability=Durability.MEMORY)
    put(broker, b"x" * 2_000)
    with pytest.raises(Overloaded):
        put(broker, b"y")
    with pytest.raises(Overloaded):
        broker.declare("other")
    put(broker, b"y", name="memory")  # needs no disk
    broker.settle()
    put(broker, b"y")
    broker.settle()
    assert broker.info().messages == 2


def test_full_disk_refuses_messages_and_takes_acknowledgements(monkeypatch):
    broker = DiskBroker()
    broker.declare()
    broker.send(b"a", b"b")

    def full() -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(broker.log, "admit", full)
    with pytest.raises(StorageFull):
        put(broker, b"c")
    assert broker.ack(*broker.receive(2)) == [None, None]
    monkeypatch.undo()
    broker.send(b"c")
    assert broker.bodies() == [b"c"]


def test_failed_write_stops_the_broker_and_answers_everybody():
    broker = DiskBroker()
    broker.declare()
    _, sink = broker.consume()
    waiting = broker.waiting()
    errors: list[BraidError | None] = []
    put(broker, b"a")
    broker.core.when_kept(Durability.SYNC, lambda argument, error: errors.append(error), None)
    for call in range(broker.disk.calls, broker.disk.calls + 10):
        broker.disk.fail_at[call] = 5
    broker.settle()
    assert [type(error) for error in errors] == [BrokerFailed]
    assert isinstance(sink.error, BrokerFailed) and isinstance(waiting.error, BrokerFailed)
    assert sink.deliveries == []
    with pytest.raises(BrokerFailed):
        put(broker, b"b")
    broker.disk.fail_at.clear()
    broker = broker.restarted()
    assert broker.core.failed is None and broker.bodies() in ([], [b"a"])


def test_failure_while_working_stops_the_broker(monkeypatch):
    broker = Harness()
    broker.declare()
    broker.send(b"a")

    def fail(*arguments: object, **options: object) -> int:
        raise LogFailed("no disk")

    monkeypatch.setattr(broker.log, "append", fail)
    broker.waiting()
    assert isinstance(broker.core.failed, BrokerFailed)


def test_message_that_cannot_be_read_is_held_and_told_of():
    broker = DiskBroker(cache_bytes_max=1)
    broker.declare()
    broker.send(b"damaged" * 100)
    broker.send(b"whole")
    heard: list[tuple[str, int, StorageError]] = []
    broker = broker.restarted()
    broker.core.on_damage = lambda *told: heard.append(told)
    broker.disk.fail_reads = {broker.disk.reads: 5}
    assert [each.body for each in broker.receive(5)] == [b"whole"]
    assert [(name, seq) for name, seq, _ in heard] == [("q", 1)]
    assert broker.info().damaged == 1 and broker.info().messages == 2
    broker = broker.restarted()
    assert len(broker.drain()) == 2  # it is tried again after a restart


def test_message_that_compaction_moved_while_it_was_read_is_not_damaged():
    broker = Harness()
    broker.declare()
    broker.send(b"a")
    queue = broker.core.queue("q")
    lane, number = queue.locate(1)
    assert lane is not None and queue.read(lane, number) is not None
    queue._reading = (1, lane.slot(number) - 1, 0)
    queue._loaded(Corrupt(1, "no segment holds it"))
    assert broker.info().damaged == 0 and broker.bodies() == [b"a"]
    assert [each.body for each in broker.receive()] == [b"a"]


def test_purged_messages_are_released_a_few_pages_at_a_time():
    broker = Harness()
    broker.declare()
    broker.send(*[b"x"] * 9_000)
    broker.core.purge(SYSTEM, "q", broker.clock.ms)
    broker.core.run(broker.clock.ms)
    assert 0 < broker.log.statistics().bytes_live_estimate
    broker.settle()
    assert broker.log.statistics().bytes_live_estimate == 0


def test_deleted_queue_releases_its_messages_and_links():
    broker = Harness()
    broker.declare(max_receives=1, dead_letter="dead")
    broker.send(*[b"x"] * 10)
    broker.dead_letter(*broker.receive(5))
    broker.receive(2)
    broker.delete("q")
    broker.delete("dead")
    assert broker.log.statistics().bytes_live_estimate == 0


def test_everything_that_is_settled_is_released():
    broker = Harness()
    broker.declare(max_receives=2, dead_letter="dead", ttl_ms=50_000)
    broker.send(*[b"x"] * 50)
    taken = broker.receive(30)
    broker.ack(*taken[:10])
    broker.dead_letter(*taken[10:20])
    broker.nack(*taken[20:])
    broker.redrive("dead", limit=5)
    broker.settle()
    broker.drain("dead")
    broker.advance(60_000)
    broker.drain()
    assert broker.info().messages == broker.info("dead").messages == 0
    assert broker.log.statistics().bytes_live_estimate == 0


def test_failure_that_nobody_waited_for_stops_the_broker():
    broker = DiskBroker()
    broker.declare()
    broker.send(b"a")
    broker.auto_commit = False
    broker.disk.fail_at = {broker.disk.calls + 1: errno.EIO}
    (delivery,) = broker.receive()  # its count is written, and nobody waits for that
    broker.advance(LINGER_MS)
    run_steps(broker.log.housekeep())
    broker.settle()
    assert isinstance(broker.core.failed, BrokerFailed)
    with pytest.raises(BrokerFailed):
        broker.ack(delivery)


def test_deleted_queues_leave_no_alarm_and_no_deadline():
    broker = Harness()
    for number in range(300):
        name = f"q{number}"
        broker.declare(name, retention_ms=86_400_000)
        broker.send(b"later", name=name, delay_ms=3_600_000, ttl_ms=86_400_000)
        queue = broker.core.queues[name]
        broker.delete(name)
        assert not queue.delayed and not queue.expiring
    assert len(broker.core._alarms) < 100


def test_memory_queues_hold_no_more_than_the_limit_and_no_others_suffer():
    broker = DiskBroker(limits=Limits(memory_bytes_max=1_000))
    broker.declare("memory", durability=Durability.MEMORY)
    broker.declare()
    sent(broker.send(*[b"x" * 100] * 10, name="memory"))
    with pytest.raises(Overloaded, match="memory"):
        broker.send(b"y", name="memory")
    sent(broker.send(*[b"x" * 100] * 20))
    broker.ack(*broker.receive(10, "memory"), name="memory")
    sent(broker.send(b"y", name="memory"))
    broker.send(*[b"x" * 100] * 10, name="memory")
    broker.purge("memory")
    sent(broker.send(b"z", name="memory"))


def test_broker_without_a_directory_holds_no_more_than_the_limit():
    broker = Harness(limits=Limits(memory_bytes_max=1_000))
    broker.declare()
    sent(broker.send(*[b"x" * 100] * 10))
    with pytest.raises(Overloaded, match="memory"):
        broker.send(b"y")
    broker.drain()
    sent(broker.send(b"y"))

"""The apply side: every statement is absolute, so saying it again changes nothing."""

import random

from braidmq.broker.index import HELD, LEASED
from braidmq.broker.message import PRIORITY_DEFAULT
from braidmq.broker.settings import QueueSettings
from braidmq.broker.state import LANE_SHIFT, PAGE, QUEUE, QueueState, lane_code, lane_priority
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness


def state(durability: Durability = Durability.SYNC) -> QueueState:
    return QueueState(1, "q", QueueSettings(durability=durability), MemoryLog(), 0)


def test_default_priority_has_the_first_lane():
    assert lane_code(PRIORITY_DEFAULT) == 0
    for priority in range(10):
        assert lane_priority(lane_code(priority) << LANE_SHIFT | 5) == priority
    assert sorted(lane_code(priority) for priority in range(10)) == list(range(10))


def test_lanes_stand_in_order_of_priority():
    queue = state()
    for priority in (4, 9, 0, 5):
        queue.lane(lane_code(priority))
    assert [lane_priority(lane.base) for lane in queue.lanes] == [9, 5, 4, 0]


def test_put_hold_and_receives_may_be_said_again():
    queue = state()
    queue.begin_replay()
    for _ in range(2):
        queue.put(1, 100, 10, 0, 0, 0)
        queue.put(2, 200, 10, 5_000, 9_000, 0)
        queue.note_receives(1, 3)
        queue.hold(1, 7_000)
    queue.finish_replay()
    assert queue.live == 2 and queue.bytes == 20 and queue.held == 2
    assert sorted(queue.delayed.numbers()) == [(5_000, 2), (7_000, 1)]
    assert list(queue.expiring.numbers()) == [(9_000, 2)]
    assert queue.lane(0).receives(1) == 3


def test_receive_after_a_delay_ends_the_delay():
    queue = state()
    queue.begin_replay()
    queue.put(1, 100, 10, 5_000, 0, 0)
    queue.note_receives(1, 1)
    queue.put(2, 200, 10, 0, 0, 0)
    queue.hold(2, 6_000)
    queue.note_receives(2, 2)
    queue.hold(2, 8_000)
    queue.finish_replay()
    assert list(queue.delayed.numbers()) == [(8_000, 2)]
    assert queue.held == 1 and not queue.slot(1) & HELD and queue.slot(2) & HELD


def test_statements_about_what_is_gone_do_nothing():
    queue = state()
    queue.put(1, 100, 10, 0, 0, 0)
    assert queue.remove(1) == (100, 0, 10)
    assert queue.remove(1) == queue.remove(5) == queue.remove(3 << LANE_SHIFT | 1) == (0, 0, 0)
    queue.hold(1, 5)
    queue.note_receives(1, 5)
    queue.note_receives(7 << LANE_SHIFT | 1, 5)
    queue.put(1, 100, 10, 0, 0, 0)
    assert (queue.live, queue.held, queue.bytes) == (0, 0, 0)


def test_moved_record_is_taken_only_where_it_is_needed():
    queue = state()
    queue.put(1, 100, 10, 0, 0, 0)
    queue.put_linked(2, 200, 10, 0, 300)
    queue.hold(1, 5)
    assert queue.move(1, 100, 400) and queue.slot(1) == 400 | HELD
    assert queue.move(2, 300, 500) and queue.lane(0).link(2) == 500
    assert queue.move(2, 200, 600) and queue.slot(2) == 600
    assert not queue.move(1, 100, 700) and not queue.move(9, 100, 700)


def test_references_name_messages_and_links_and_never_nothing():
    queue = state()
    queue.put(1, 100, 10, 0, 0, 0)
    queue.put(2, 150, 10, 0, 0, 0)
    queue.put_linked(3, 200, 10, 0, 300)
    queue.remove(2)
    found = [(each.lsn, each.seq) for page in queue.references(0, 1_000) for each in page]
    assert sorted(found) == [(100, 1), (200, 3), (300, 3)]
    assert [each.lsn for page in queue.references(150, 300) for each in page] == [200]
    needed = sorted(lsn for page in queue.lsns() for lsn in page)
    assert needed == [100, 200, 300]


def test_purge_takes_what_is_below_its_bounds_only():
    queue = state()
    for number in range(1, 5):
        queue.put(number, 100 * number, 10, 1 if number > 2 else 0, 0, 0)
    for _ in range(2):
        queue.purge([3])
        assert (queue.live, queue.held, queue.bytes) == (2, 2, 20)


def test_memory_queue_is_defined_in_a_checkpoint_and_nothing_more():
    queue = state(Durability.MEMORY)
    queue.put(1, 100, 10, 0, 0, 0)
    assert [kind for kind, _ in queue.snapshot()] == [QUEUE]


def test_lease_does_not_survive_a_snapshot_and_its_count_does():
    broker = DiskBroker(segment_bytes=1 << 20)
    broker.declare()
    broker.send(*[b"x"] * 3_000)
    broker.nack(*broker.receive(2))
    broker.receive(5)
    broker.checkpoint()
    broker = broker.restarted()
    queue = broker.core.queue("q")
    assert [queue.lane(0).receives(number) for number in range(1, 7)] == [2, 2, 1, 1, 1, 0]
    assert not any(slot & LEASED for page in queue.lane(0).pages.values() for slot in page.slots)


def test_pages_yielded_late_may_be_newer_than_the_rest():
    """Between the steps of a checkpoint everything may happen to full pages."""
    broker = DiskBroker(segment_bytes=1 << 20)
    broker.declare(visibility_timeout_ms=1_000)
    broker.send(*[b"x"] * 2_500)
    held = broker.receive(100)
    rng = random.Random(7)

    def between() -> None:
        for delivery in broker.receive(20):
            choice = rng.random()
            if choice < 0.4:
                broker.ack(delivery)
            elif choice < 0.6:
                broker.nack(delivery, delay_ms=rng.choice([0, 500, 100_000]))
        if held:
            broker.nack(held.pop(), delay_ms=rng.choice([0, 70_000]))
        broker.advance(rng.choice([0, 300, 1_200]))
        broker.send(b"y")

    broker.checkpoint(between)
    assert any(kind == PAGE for kind, _ in broker.core.queue("q").snapshot())
    expected = sorted((m.seq, m.receives, m.state == "delayed") for m in everything(broker))
    again = broker.restarted()
    found = sorted((m.seq, m.receives, m.state == "delayed") for m in everything(again))
    assert found == expected
    assert again.info().delayed == broker.info().delayed
    assert again.info().bytes == broker.info().bytes


def everything(broker: Harness) -> list:
    found = []
    after = 0
    while page := broker.browse(after=after):
        found += page
        after = page[-1].seq
    return found

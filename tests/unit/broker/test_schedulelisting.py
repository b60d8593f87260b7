"""Looking at schedules whose messages stand on disk, while they go on."""

from braidmq.broker.access import SYSTEM
from braidmq.broker.schedule import Timing
from braidmq.broker.schedulelisting import ScheduleWalk, schedules_between
from tests.broker_disk import DiskBroker
from tests.broker_harness import START_MS
from tests.schedule_harness import listed, schedule, unschedule


def broker_with(count: int) -> DiskBroker:
    broker = DiskBroker(cache_bytes_max=0)
    broker.declare()
    for number in range(1, count + 1):
        schedule(broker, Timing(1_000 * number), b"%d" % number * 100)
    return broker


def test_messages_that_are_not_in_memory_are_read():
    broker = broker_with(30).restarted()
    assert [info.id for info in listed(broker)] == list(range(1, 31))


def test_what_goes_meanwhile_is_left_out():
    broker = broker_with(600)
    seen = []
    queue = broker.core.schedules.queue
    assert queue is not None
    numbers, dues = schedules_between(queue, 0, 0, 0)
    assert dues == {n: START_MS + 1_000 * n for n in range(1, 601)}

    def visit(info, attributes, body):
        assert body == b"%d" % info.id * 100
        if info.id == 100:
            broker.core.schedules.remove(101)
            broker.core.schedules.remove(500)
        seen.append(info.id)
        return True

    ends: list[object] = []
    ScheduleWalk(
        broker.core.schedules, queue, numbers, dues, visit, ends.append, broker.core.later
    ).start()
    assert seen == [] == ends
    broker.settle()
    assert ends == [None] and seen == [n for n in range(1, 601) if n not in (101, 500)]


def test_it_ends_when_enough_was_seen():
    broker = broker_with(9)
    seen = []
    queue = broker.core.schedules.queue
    assert queue is not None
    numbers, dues = schedules_between(queue, START_MS + 2_000, START_MS + 8_000, 2)

    def visit(info, attributes, body):
        seen.append(info.id)
        return len(seen) < 3

    ends: list[object] = []
    ScheduleWalk(
        broker.core.schedules, queue, numbers, dues, visit, ends.append, broker.core.later
    ).start()
    broker.settle()
    assert seen == [3, 4, 5] and ends == [None]


def test_the_span_is_of_when_they_are_due_now():
    broker = broker_with(2)
    unschedule(broker, 1)
    broker.core.delete_queue(SYSTEM, "q", False, broker.clock.ms)
    broker.advance(2_000)
    assert listed(broker, START_MS + 60_000)[0].next_ms == START_MS + 62_000
    assert listed(broker, 0, START_MS + 60_000) == []

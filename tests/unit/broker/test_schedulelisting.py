"""Looking at schedules whose messages stand on disk, while they go on."""

from braidmq.broker.access import SYSTEM
from braidmq.broker.schedule import Timing
from braidmq.broker.schedulelisting import ScheduleWalk, Visit
from braidmq.broker.scheduleverbs import Scheduled
from tests.broker_disk import DiskBroker
from tests.broker_harness import START_MS, Harness
from tests.schedule_harness import listed, schedule, unschedule


def broker_with(count: int) -> DiskBroker:
    broker = DiskBroker(cache_bytes_max=0)
    broker.declare()
    for number in range(1, count + 1):
        schedule(broker, Timing(1_000 * number), b"%d" % number * 100)
    return broker


def walk(broker: Harness, span: tuple[int, int], after: int, visit: Visit) -> list[object]:
    """Begin to look; what is returned gets the end."""
    schedules = broker.core.schedules
    assert schedules.queue is not None
    ends: list[object] = []
    ScheduleWalk(
        schedules, schedules.queue, span, after, visit, ends.append, broker.core.later
    ).start()
    return ends


def test_messages_that_are_not_in_memory_are_read():
    broker = broker_with(30).restarted()
    assert [info.id for info in listed(broker)] == list(range(1, 31))


def test_what_goes_meanwhile_is_left_out():
    broker = broker_with(600)
    seen = []

    def visit(info, attributes, body):
        assert body == b"%d" % info.id * 100
        if info.id == 100:
            broker.core.schedules.remove(101)
            broker.core.schedules.remove(500)
        seen.append(info.id)
        return True

    ends = walk(broker, (0, 0), 0, visit)
    assert seen == [] == ends
    broker.settle()
    assert ends == [None] and seen == [n for n in range(1, 601) if n not in (101, 500)]


def test_how_often_it_was_sent_and_when_it_is_due_are_of_one_time():
    broker = Harness()
    broker.declare()
    for _ in range(500):  # more than are looked at in one go
        schedule(broker, Timing(1_000, 60_000, -1))
    told: dict[int, tuple[int, int]] = {}

    def visit(info, attributes, body):
        told[info.id] = info.fired, info.next_ms - START_MS
        return True

    ends = walk(broker, (0, 0), 0, visit)
    broker.core.run(broker.clock.ms)
    assert 0 < len(told) < 500 and set(told.values()) == {(0, 1_000)}
    new = Scheduled(kind="queue", name="q", timing=Timing(30_000), body=b"")
    broker.core.schedule(SYSTEM, new, broker.clock.ms)
    broker.clock.ms += 1_000
    broker.core.tick(broker.clock.ms)
    broker.settle()
    assert ends == [None] and told.pop(501) == (0, 30_000)
    assert set(told.values()) == {(0, 1_000), (1, 61_000)}


def test_one_that_is_due_at_another_time_when_it_was_read_is_left_out():
    broker = broker_with(0)
    for _ in range(3):
        schedule(broker, Timing(1_000, 60_000, -1))
    broker = broker.restarted()
    seen = []

    def visit(info, attributes, body):
        seen.append(info.id)
        return True

    walk(broker, (START_MS, START_MS + 2_000), 0, visit)
    broker.core.run(broker.clock.ms)
    assert not seen, "it is being read"
    schedules = broker.core.schedules
    assert schedules.queue is not None
    schedules.queue.hold(1, START_MS + 61_000)
    for dues in schedules.queue._looked_at:
        dues[1] = START_MS + 61_000
    broker.settle()
    assert seen == [2, 3] and not schedules.queue._looked_at


def test_it_ends_when_enough_was_seen():
    broker = broker_with(9)
    seen = []

    def visit(info, attributes, body):
        seen.append(info.id)
        return len(seen) < 3

    ends = walk(broker, (START_MS + 2_000, START_MS + 8_000), 2, visit)
    broker.settle()
    assert seen == [3, 4, 5] and ends == [None]


def test_the_span_is_of_when_they_are_due_now():
    broker = broker_with(2)
    unschedule(broker, 1)
    broker.core.delete_queue(SYSTEM, "q", False, broker.clock.ms)
    broker.advance(2_000)
    assert listed(broker, START_MS + 60_000)[0].next_ms == START_MS + 62_000
    assert listed(broker, 0, START_MS + 60_000) == []

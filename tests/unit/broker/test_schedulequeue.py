"""Where schedules wait: what is counted and held there is what was sent."""

import pytest

from braidmq.broker.errors import TooLarge
from braidmq.broker.limits import Limits
from braidmq.broker.message import PRIORITY_DEFAULT, unpack_headers
from braidmq.broker.schedule import Timing
from braidmq.broker.schedulequeue import SCHEDULES_NAME, Plan, ScheduleQueue, plan_of, with_plan
from braidmq.broker.scheduleverbs import Scheduled
from tests.broker_disk import DiskBroker
from tests.schedule_harness import schedule


def test_a_plan_is_a_header_map_and_comes_back():
    message = Scheduled(
        kind="stream",
        name="s",
        timing=Timing(5, 6, 7, "* * * * *"),
        body=b"x",
        attributes=b"\x81\xa1a\xa1b",
        ttl_ms=8,
        priority=9,
        group="g",
        dedup_id="d",
        retain=True,
        key=b"k",
    )
    packed = with_plan(message, "ann", 77, Limits())
    assert set(unpack_headers(packed)) == {"plan", "headers"}
    plan, attributes = plan_of(packed)
    assert attributes == b"\x81\xa1a\xa1b"
    for name in Plan.__struct_fields__:
        if name not in ("user", "created_ms"):
            assert getattr(plan, name) == getattr(message, name)
    assert (plan.user, plan.created_ms) == ("ann", 77)


def test_a_plan_fills_in_what_a_message_does_not_say():
    packed = with_plan(
        Scheduled(kind="queue", name="q", timing=Timing(), body=b""), "", 0, Limits()
    )
    plan, attributes = plan_of(packed)
    assert attributes == b"" and plan.priority == PRIORITY_DEFAULT
    with pytest.raises(TooLarge):
        with_plan(
            Scheduled(kind="queue", name="q", timing=Timing(), body=b"", attributes=bytes(70_000)),
            "",
            0,
            Limits(),
        )


def test_what_was_sent_is_counted_and_nothing_else_over_a_restart():
    broker = DiskBroker()
    broker.declare(messages_max=2)
    schedule(broker, Timing(100, 100, -1))
    broker.advance(3_000)  # it is refused from the third time on
    for again in (broker, broker.restarted()):
        queue = again.core.schedules.queue
        assert isinstance(queue, ScheduleQueue) and queue.name == SCHEDULES_NAME
        assert queue.lane(0).receives(1) == 2 and queue.live == queue.held == 1
    broker.checkpoint()
    queue = broker.restarted().core.schedules.queue
    assert queue is not None
    assert queue.lane(0).receives(1) == 2 and list(queue.due_by_number()) == [1]
    assert queue.kind == "schedules" and SCHEDULES_NAME not in broker.core.queues

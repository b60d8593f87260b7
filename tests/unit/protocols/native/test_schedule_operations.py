"""What the operations about schedules hold survives the wire; what is left out has a default."""

import msgspec
import pytest

from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled
from braidmq.protocols.native.schedule_operations import (
    ListSchedules,
    Schedule,
    SchedulesReply,
    UnscheduleBetween,
)


def decoded(value, kind):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


def test_requests_have_defaults():
    request = decoded([96, 1, "queue", "q", [], b"x"], Schedule)
    assert request.message() == Scheduled(kind="queue", name="q", timing=Timing(), body=b"x")
    assert decoded([97, 7], ListSchedules) == ListSchedules(7, 0, 0, 0, 1_000)
    assert decoded([100, 7], UnscheduleBetween) == UnscheduleBetween(7, 0, 0)


def test_every_field_of_a_message_travels():
    fields = [b"a", 5, 6, "g", "d", True, b"k"]
    request = decoded([96, 1, "topic", "t", [1, 2, -1, "c"], b"x", *fields], Schedule)
    assert request.message() == Scheduled(
        kind="topic",
        name="t",
        timing=Timing(1, 2, -1, "c"),
        body=b"x",
        attributes=b"a",
        ttl_ms=5,
        priority=6,
        group="g",
        dedup_id="d",
        retain=True,
        key=b"k",
    )
    assert set(Schedule.__struct_fields__) - {"request"} == set(Scheduled.__struct_fields__)


@pytest.mark.parametrize(
    "fields",
    [
        ["webhook", "q", [], b""],
        ["queue", "q", [-1], b""],
        ["queue", "q", [0, 0, -2], b""],
        ["queue", "q", [0, 0, 0, 5], b""],
        ["queue", "q", [], "text"],
        ["queue", "q", [], b"", b"", -1],
        ["queue", "q", []],
    ],
)
def test_what_is_no_schedule_is_refused(fields):
    with pytest.raises(msgspec.ValidationError):
        decoded([96, 1, *fields], Schedule)


def test_a_reply_travels():
    assert decoded(SchedulesReply(9, []), SchedulesReply) == SchedulesReply(9, [])

"""What the verbs take and give travels as it is."""

import inspect

import msgspec

from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled, ScheduleInfo, ScheduleVerbs


def test_a_schedule_travels():
    timing = Timing(1, 2, 3, "* * * * *")
    message = Scheduled(kind="topic", name="t", timing=timing, body=b"x", retain=True)
    info = ScheduleInfo(
        id=1,
        kind="queue",
        name="q",
        timing=timing,
        user="ann",
        created_ms=5,
        next_ms=6,
        fired=7,
        size=8,
        error="why",
        attributes=b"\x80",
        body=b"\xff",
    )
    for value in (message, info):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value)) == value


def test_every_verb_is_awaited_and_explained():
    verbs = {name: verb for name, verb in vars(ScheduleVerbs).items() if not name.startswith("_")}
    assert set(verbs) == {
        "schedule",
        "list_schedules",
        "schedule_info",
        "unschedule",
        "unschedule_between",
    }
    assert all(inspect.iscoroutinefunction(verb) and verb.__doc__ for verb in verbs.values())

"""Where to begin in a shard."""

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.streamstart import find_number, find_time
from braidmq.broker.streamverbs import Start
from tests.broker_harness import Harness
from tests.group_client import append, declare_stream


def test_a_start_is_a_number_that_is_there():
    broker = Harness()
    declare_stream(broker, 1)
    times = []
    for body in (b"1", b"2", b"3", b"4"):
        broker.advance(100)
        times.append(broker.clock.ms)
        append(broker, 0, body)
    shard = broker.core.streams.get("s").shard(0)
    broker.core.streams.trim(shard, 2)
    found: list[object] = []
    for start, number in (
        (Start("earliest"), 2),
        (Start("latest"), 5),
        (Start("at", number=1), 2),
        (Start("at", number=3), 3),
        (Start("after", number=4), 5),
        (Start("time", time_ms=0), 2),
        (Start("time", time_ms=times[2]), 3),
        (Start("time", time_ms=times[3] + 1), 5),
    ):
        find_number(shard, start, found.append)
        assert found.pop() == number, start
    find_time(shard, times[1], found.append)
    assert found == [2]
    for start in (Start("at", number=0), Start("at", number=6), Start("after", number=5)):
        with pytest.raises(InvalidArgument):
            find_number(shard, start, found.append)

"""The load process: what it is told, and what becomes of its failures."""

import pytest

from braidmq.benchmarks.stream_load import StreamLoadFailed, execute, start
from braidmq.benchmarks.stream_plan import IN_PROCESS, StreamPlan


def test_a_process_carries_a_plan_out(tmp_path):
    plan = StreamPlan(system=IN_PROCESS, directory=str(tmp_path), seconds=0.2, warmup=0.05)
    side = start(plan)
    assert side.records > 0 and side.lost == 0 and side.problems == []


def test_nobody_there_is_told():
    with pytest.raises(StreamLoadFailed, match="refused"):
        start(StreamPlan(system="redis", port=1))
    with pytest.raises(OSError, match="refused"):
        execute(StreamPlan(system="redis", port=1), "measure")

"""Runs in process: every shape, with all records accounted for."""

import pytest

from braidmq.benchmarks.stream_cycle import StreamCycle
from braidmq.benchmarks.stream_local import carry_out_here
from braidmq.benchmarks.stream_plan import IN_PROCESS, StreamPlan


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": 1, "producers": 5},
        {"shape": "replay", "durability": "os"},
        {"shape": "replay", "restarted": True},
        {"shape": "tail"},
        {"shape": "group", "shards": 3},
        {"shape": "fanout", "targets": 7, "producers": 3},
    ],
)
def test_nothing_is_lost_or_changed(tmp_path, changes):
    plan = StreamPlan(
        system=IN_PROCESS,
        directory=str(tmp_path),
        seconds=0.2,
        warmup=0.05,
        records=20_000,
        **changes,
    )
    side = carry_out_here(plan, StreamCycle(plan.size, plan.batch, plan.seed))
    assert side.problems == []
    assert side.records > 0 and side.seconds > 0
    assert (side.lost, side.corrupt) == (0, 0)
    assert bool(side.latency) and bool(side.lag)
    if plan.shape == "group":
        assert side.records == plan.records

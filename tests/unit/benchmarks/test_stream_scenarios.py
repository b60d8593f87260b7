"""Systems take turns; a run says when the load, not the broker, was what it measured."""

import pytest

from braidmq.benchmarks import stream_scenarios
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.stream_brokers import missing
from braidmq.benchmarks.stream_load import StreamLoadFailed
from braidmq.benchmarks.stream_plan import IN_PROCESS, StreamPlan, StreamSide, problems_of
from braidmq.benchmarks.stream_scenarios import (
    FANOUT,
    STREAMS,
    StreamOutcome,
    StreamScenario,
    run_once,
    run_rounds,
)


def test_every_scenario_of_the_tables_makes_sense():
    for table in (STREAMS, FANOUT):
        assert len({each.name for each in table}) == len(table)
        assert [problem for each in table for problem in problems_of(each.plan)] == []


def test_the_order_changes_with_every_round_and_the_missing_are_left_out(monkeypatch):
    ran = []

    def note(plan, directory):
        ran.append(plan.system)
        return StreamOutcome(system=plan.system)

    monkeypatch.setattr(stream_scenarios, "run_once", note)
    monkeypatch.setattr(stream_scenarios, "missing", lambda plan: plan.system == "c")
    found = run_rounds([StreamScenario("x", StreamPlan())], ["a", "b", "c"], 3, "", print)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(some) for name, some in found["x"].items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": 1, "producers": 3},
        {"shape": "replay", "durability": "os", "restarted": True},
        {"shape": "tail"},
        {"shape": "group", "durability": "os"},
        {"shape": "fanout", "targets": 30},
    ],
)
@pytest.mark.parametrize("system", ["redis", "jetstream"])
def test_a_peer_loses_nothing(tmp_path, system, changes):
    plan = StreamPlan(system=system, seconds=0.2, warmup=0.05, records=10_000, **changes)
    if reason := missing(plan):
        pytest.skip(reason)
    found = run_once(plan, str(tmp_path))
    assert found.problems == []
    assert found.side.per_second > 0 and found.side.lost == found.side.corrupt == 0
    assert list(tmp_path.iterdir()) == []


def test_a_load_that_fails_is_a_problem_of_its_row(monkeypatch, tmp_path):
    def fail(plan, task="measure"):
        raise StreamLoadFailed("no room")

    monkeypatch.setattr(stream_scenarios, "start", fail)
    assert run_once(StreamPlan(system=IN_PROCESS), str(tmp_path)).problems == ["no room"]


def judged(plan, **changes):
    outcome = StreamOutcome(system=plan.system, side=StreamSide(seconds=1.0, **changes))
    stream_scenarios._judge(plan, outcome)
    return outcome


def test_what_is_lost_or_changed_is_a_problem():
    assert judged(StreamPlan(), lost=2, corrupt=1).problems == ["2 lost", "1 corrupt"]


def test_a_core_that_others_had_makes_a_figure_invalid():
    assert judged(StreamPlan(), server_cpu=0.5, core_busy=0.9).invalid
    assert not judged(StreamPlan(), server_cpu=0.5, core_busy=0.52).invalid
    assert not judged(StreamPlan(shape="tail"), server_cpu=0.1, core_busy=0.9).invalid


def test_a_busy_load_makes_a_figure_invalid():
    assert judged(StreamPlan(), load_cpu=0.95, server_cpu=0.5).invalid
    assert not judged(StreamPlan(), load_cpu=0.95, server_cpu=0.95).invalid
    assert not judged(StreamPlan(system=IN_PROCESS), load_cpu=0.95).invalid


def test_a_late_load_makes_a_tail_invalid():
    lag = Histogram()
    lag.record(2_000_000, 100)
    assert judged(StreamPlan(shape="tail"), lag=lag.dump()).invalid

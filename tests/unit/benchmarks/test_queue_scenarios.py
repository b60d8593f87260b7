"""The table can run, and rounds come out as figures with ratios and targets."""

import pytest

from braidmq.benchmarks import baseline, load, queue_scenarios
from braidmq.benchmarks.baseline import Baseline, GroupCommitFigures
from braidmq.benchmarks.meter import Phase, Plan, Run, plan_problems
from braidmq.benchmarks.queue_scenarios import TABLE, Scenario, Settings, run_rounds


def measured_baseline(rate):
    raw = GroupCommitFigures(100, 1, 1000, rate, 1.0, 2.0, 5.0)
    return Baseline(4000.0, 0.25, 0.5, raw, raw, raw)


@pytest.mark.parametrize("scenario", TABLE, ids=lambda each: each.name)
def test_every_row_is_a_plan_that_can_run(scenario):
    plan = scenario.plan
    native = {"url": "braid://127.0.0.1:1"} if plan.target == "native" else {}
    assert plan_problems(queue_scenarios._with(plan, **native)) == []
    assert scenario.raw in ("", "one", "hundred", "windows")
    assert scenario.raw or not scenario.wanted


def test_names_are_unique():
    assert len({each.name for each in TABLE}) == len(TABLE)


def test_a_ratio_compares_figures_of_one_round(monkeypatch):
    raws = iter([measured_baseline(100.0), measured_baseline(200.0), measured_baseline(400.0)])
    runs = iter([60, 90, 100])
    told: list[str] = []

    def start(plan):
        rate = next(runs)
        return Run(produce=Phase(rate, 1.0), consume=Phase(2 * rate, 1.0))

    monkeypatch.setattr(baseline, "start", lambda *arguments: next(raws))
    monkeypatch.setattr(load, "start", start)
    row = Scenario("row", Plan(target="face"), "hundred", True)
    measured, (found,) = run_rounds([row], Settings(rounds=3), told.append)
    assert measured == measured_baseline(200.0)
    assert found.raw_ratio == 0.45
    assert [(each.value, each.met) for each in found.targets] == [(0.45, False), (2.0, True)]
    assert told[-1] == ""


def test_a_single_client_is_compared_with_one_sync(monkeypatch):
    monkeypatch.setattr(baseline, "start", lambda *arguments: measured_baseline(100.0))
    monkeypatch.setattr(load, "start", lambda plan: Run())
    row = Scenario("row", Plan(target="core"), "one", True)
    _, (found,) = run_rounds([row], Settings(rounds=1), lambda text: None)
    assert [(each.value, each.met) for each in found.targets] == [(-0.25, True)]


def test_a_native_run_gets_a_broker_of_its_own(tmp_path):
    plan = Plan(messages=20, producers=2, consumers=1, seconds=20)
    settings = Settings(directory=str(tmp_path), rounds=1, baseline_seconds=0)
    measured, (found,) = run_rounds([Scenario("row", plan)], settings, lambda text: None)
    assert measured is None
    assert found.integrity.received == found.integrity.confirmed == 20
    assert found.server_memory_bytes > 0
    assert list(tmp_path.iterdir()) == []

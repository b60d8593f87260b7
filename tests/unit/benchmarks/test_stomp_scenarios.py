"""Systems take turns; a run says when the machine, not the broker, was what it measured."""

import contextlib

import msgspec
import pytest

from braidmq.benchmarks import stomp_scenarios
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.stomp_brokers import SYSTEMS, Running, missing
from braidmq.benchmarks.stomp_load import StompLoadFailed
from braidmq.benchmarks.stomp_plan import StompPlan, StompSide, problems_of
from braidmq.benchmarks.stomp_scenarios import (
    TABLE,
    StompOutcome,
    StompScenario,
    run_once,
    run_rounds,
)

WHERE = Running("127.0.0.1", 1, 2)


def test_every_scenario_of_the_table_makes_sense():
    assert len({each.name for each in TABLE}) == len(TABLE)
    assert [problem for each in TABLE for problem in problems_of(each.plan)] == []


@pytest.fixture
def ran(monkeypatch):
    """What was run, with brokers that are not there."""
    runs = []

    def note(plan, system, where):
        runs.append((system, plan.queue, plan.core))
        return StompOutcome(system=system)

    @contextlib.contextmanager
    def nowhere(systems, directory, core):
        runs.append(("started", *systems, core))
        yield dict.fromkeys(systems, WHERE)

    monkeypatch.setattr(stomp_scenarios, "run_once", note)
    monkeypatch.setattr(stomp_scenarios, "started", nowhere)
    return runs


def test_the_order_changes_with_every_round_and_queues_are_new(ran):
    found = run_rounds([StompScenario("x", StompPlan())], ["a", "b"], 3, 0.0, False, "", print)
    assert ran[0] == ("started", "a", "b", -1)
    assert [each[0] for each in ran[1:]] == ["a", "b", "b", "a", "a", "b"]
    assert len({each[1] for each in ran[1:]}) == 3
    assert {each[2] for each in ran[1:]} == {-1}
    assert {name: len(some) for name, some in found["x"].items()} == {"a": 3, "b": 3}


def test_all_are_warmed_up_first_on_queues_that_are_not_measured(ran, monkeypatch):
    monkeypatch.setattr(stomp_scenarios, "cores", lambda: (0, 1))
    run_rounds([StompScenario("x", StompPlan())], ["a", "b"], 1, 2.0, True, "", print)
    assert ran[0] == ("started", "a", "b", 0)
    assert [each[:2] for each in ran[1:]] == [
        *(("a", "heat-0"), ("a", "heat-1"), ("b", "heat-0"), ("b", "heat-1")),
        *(("a", "bench-0-0"), ("b", "bench-0-0")),
    ]
    assert ran[-1][2] == 1


def test_a_run_is_told_where_the_broker_is(monkeypatch):
    seen = []

    def note(plan):
        seen.append(plan)
        return StompSide()

    monkeypatch.setattr(stomp_scenarios, "start", note)
    run_once(StompPlan(), "activemq", WHERE)
    assert (seen[0].system, seen[0].port, seen[0].server_pid) == ("activemq", 1, 2)


def test_a_load_that_fails_is_a_problem_of_its_row(monkeypatch):
    def fail(plan):
        raise StompLoadFailed("no room")

    monkeypatch.setattr(stomp_scenarios, "start", fail)
    assert run_once(StompPlan(), "a", WHERE).problems == ["no room"]


def test_no_system_loses_anything(tmp_path):
    """Those that are installed; their own tests say who is not."""
    systems = [each for each in SYSTEMS if not missing(each)]
    pairs = StompPlan(pairs=3, seconds=0.2, warmup=0.0, window=20)
    scenarios = [
        StompScenario("pairs", pairs),
        StompScenario("one queue", msgspec.structs.replace(pairs, shared=True)),
        StompScenario("paced", msgspec.structs.replace(pairs, pairs=1, shape="paced")),
    ]
    found = run_rounds(scenarios, systems, 1, 0.2, False, str(tmp_path), print)
    for outcomes in found.values():
        assert list(outcomes) == systems
        for (outcome,) in outcomes.values():
            assert outcome.problems == []
            assert outcome.side.per_second > 0 and outcome.side.memory_bytes > 0
    assert list(tmp_path.iterdir()) == []


def judged(plan, **changes):
    outcome = StompOutcome(system="a", side=StompSide(seconds=1.0, sent=9, **changes))
    stomp_scenarios._judge(plan, outcome)
    return outcome


def test_what_is_not_accounted_for_is_a_problem():
    wrong = judged(StompPlan(), unconfirmed=4, lost=3, duplicate=2, corrupt=1)
    assert wrong.problems == [
        "4 unconfirmed of 9",
        "3 lost of 9",
        "2 duplicate of 9",
        "1 corrupt of 9",
    ]


def test_cores_that_others_used_make_a_figure_invalid():
    assert judged(StompPlan(), server_cpu=1.2, load_cpu=0.3, busy=1.7).invalid
    assert not judged(StompPlan(), server_cpu=1.2, load_cpu=0.3, busy=1.55).invalid


def test_a_busy_load_makes_a_figure_invalid():
    assert judged(StompPlan(), load_cpu=0.95, server_cpu=0.5, busy=1.5).invalid
    assert not judged(StompPlan(), load_cpu=0.95, server_cpu=0.95, busy=1.9).invalid


def test_a_late_load_makes_a_schedule_invalid():
    lag = Histogram()
    lag.record(2_000_000, 100)
    assert judged(StompPlan(shape="paced"), lag=lag.dump()).invalid

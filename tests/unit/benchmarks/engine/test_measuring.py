"""In which order scenarios are run, and what is kept of runs that fail."""

import msgspec
import pytest

from braidmq.benchmarks.engine import measuring
from braidmq.benchmarks.engine.choosing import Choice
from braidmq.benchmarks.engine.crew import LoadFailed
from braidmq.benchmarks.engine.measuring import Settings, measure
from braidmq.benchmarks.engine.scenario import read_scenario
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.results.result import Generator
from braidmq.benchmarks.systems.registry import HEAT_SECONDS, SYSTEMS
from tests.unit.benchmarks.engine.fake_systems import Present
from tests.unit.benchmarks.engine.run_support import a_run


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "present", Present())


class Silent:
    def __init__(self):
        self.titles = []

    def begin(self, title, seconds=0.0):
        self.titles.append(title)

    def second(self, second):
        pass

    def end(self):
        pass


def test_the_order_changes_with_each_repeat(monkeypatch):
    monkeypatch.setattr(
        measuring, "carry_out", lambda scenario, target, hear: [a_run(scenario=scenario.name)]
    )
    some = [Choice("present", "braid"), Choice("present", "mqtt")]
    watcher = Silent()
    scenario = read_scenario("fanin", {"repeats": 4})
    kept = []
    result = measure(
        [(scenario, some)], Settings(), {}, watcher, lambda r: kept.append(len(r.runs))
    )
    assert [title.split()[2].rstrip(",") for title in watcher.titles] == [
        *("braid", "mqtt", "mqtt", "braid", "mqtt", "braid", "braid", "mqtt")
    ]
    assert [run.repeat for run in result.runs] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert kept == [1, 2, 3, 4, 5, 6, 7, 8]


def test_systems_are_noted_once_with_their_settings(monkeypatch):
    monkeypatch.setattr(
        measuring, "carry_out", lambda scenario, target, hear: [a_run(scenario=scenario.name)]
    )
    scenario = read_scenario("e2e", {"repeats": 2})
    some = [Choice("present", "braid")]
    result = measure([(scenario, some)], Settings(are_pinned=False), {}, Silent())
    [info] = result.systems
    assert info.settings == {"durable": "True", "runs on": "any core"}


def test_what_a_system_needs_to_be_hot_makes_it_no_other_case(monkeypatch):
    carried_out = []

    def carry_out(scenario, target, hear):
        carried_out.append(scenario.knobs.warmup_seconds)
        run = a_run(scenario=scenario.name)
        run.knobs = msgspec.to_builtins(scenario.knobs)
        return [run]

    monkeypatch.setattr(measuring, "carry_out", carry_out)
    monkeypatch.setitem(HEAT_SECONDS, "present", 8.0)
    scenario = read_scenario("e2e", {"repeats": 2})
    kept = Settings(are_kept=True)
    result = measure([(scenario, [Choice("present", "braid")])], kept, {}, Silent())
    assert carried_out == [8.0, 1.0]
    assert [run.knobs["warmup_seconds"] for run in result.runs] == [1.0, 1.0]


@pytest.mark.parametrize("error", [LoadFailed("nobody listens"), ServerFailed("nobody listens")])
def test_a_run_that_cannot_be_carried_out_is_a_run_with_a_problem(monkeypatch, error):
    def fail(scenario, target, hear):
        raise error

    monkeypatch.setattr(measuring, "carry_out", fail)
    scenario = read_scenario("e2e")
    result = measure([(scenario, [Choice("present", "braid")])], Settings(), {}, Silent())
    [run] = result.runs
    assert run.problems[0].startswith("nobody listens")
    assert run.knobs["rate"] == "1000"


def test_a_highest_rate_is_searched_and_then_measured_in_full(monkeypatch):
    seen = []

    def carry(scenario, target, hear):
        rate = float(scenario.knobs.rate)
        seen.append((rate, scenario.knobs.seconds, target.place.token))
        late = Generator(
            role="producers", clients=1, cpu_seconds=0.1, lag_p99_ms=9.0 if rate > 5000 else 0.1
        )
        return [a_run(scenario=scenario.name, confirmed=int(rate), generators=[late])]

    monkeypatch.setattr(measuring, "carry_out", carry)
    scenario = read_scenario("pub", {"closed": 0, "seconds": 6})
    result = measure([(scenario, [Choice("present", "braid")])], Settings(), {}, Silent())
    [run] = result.runs
    assert run.loop == "saturation"
    assert 4500 < run.figures["highest_rate_per_second"] <= 5000
    assert run.knobs["rate"] == "max"
    assert [seconds for _, seconds, _ in seen] == [2.0] * (len(seen) - 1) + [6.0]
    assert len({token for _, _, token in seen}) == len(seen), "each trial has names of its own"


def test_when_no_rate_is_carried_that_is_said(monkeypatch):
    monkeypatch.setattr(
        measuring,
        "carry_out",
        lambda scenario, target, hear: [a_run(scenario=scenario.name, problems=["1 lost of 5"])],
    )
    scenario = read_scenario("pub", {"closed": 0})
    result = measure([(scenario, [Choice("present", "braid")])], Settings(), {}, Silent())
    assert result.runs[0].figures["highest_rate_per_second"] == 0
    assert result.runs[0].invalid == ["no rate was carried: 1 lost of 5"]


def test_a_broker_that_does_not_serve_what_was_asked_is_a_problem(monkeypatch):
    scenario = read_scenario("e2e", {"tls": True})
    result = measure([(scenario, [Choice("present", "braid")])], Settings(), {}, Silent())
    assert "does not serve braid" in result.runs[0].problems[0]

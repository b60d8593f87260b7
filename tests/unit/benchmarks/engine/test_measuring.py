"""Which systems a scenario is run on, in which order, and what is kept of runs that fail."""

import pytest

from braidmq.benchmarks.engine import measuring
from braidmq.benchmarks.engine.crew import LoadFailed
from braidmq.benchmarks.engine.measuring import Choice, Settings, choices, measure
from braidmq.benchmarks.engine.scenario import read_scenario
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.results.result import Generator
from braidmq.benchmarks.systems.registry import SYSTEMS
from braidmq.benchmarks.systems.system import Running
from tests.unit.benchmarks.engine.run_support import a_run


class Absent:
    """A system that nobody installed."""

    name = "absent"
    schemes = frozenset({"mqtt"})

    def why_not(self):
        return "absent is not installed (apt install absent)"


class Present:
    """A system that is there, and serves nothing."""

    name = "present"
    schemes = frozenset({"braid", "mqtt"})

    def why_not(self):
        return ""

    def start(self, stack, directory, durable):
        return Running(
            name=self.name,
            version="1",
            urls={"braid": "braid://127.0.0.1:1", "mqtt": "mqtt://127.0.0.1:1"},
            pid=0,
            settings={"durable": str(durable)},
        )


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "absent", Absent())
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


def test_a_system_is_spoken_with_by_the_first_protocol_it_has():
    found, missing = choices(read_scenario("retained"), ["present"])
    assert (found, missing) == ([Choice("present", "mqtt")], {})
    found, _ = choices(read_scenario("retained"), ["present/braid"])
    assert found == [Choice("present", "braid")]


def test_what_cannot_take_part_is_named_with_the_reason():
    _, missing = choices(read_scenario("fanin"), ["absent"])
    assert missing == {"absent": "absent is not installed (apt install absent)"}
    _, missing = choices(read_scenario("stream-tail"), ["present/mqtt"])
    assert missing == {"present/mqtt": "has no stream"}


def test_without_names_it_is_everybody_by_every_protocol():
    found, missing = choices(read_scenario("fanin"), is_every_protocol=True)
    assert Choice("present", "braid") in found and Choice("present", "mqtt") in found
    assert "absent" in missing and "present" not in missing
    found, _ = choices(read_scenario("fanin"), ["present"], is_every_protocol=True)
    assert [choice.scheme for choice in found] == ["braid", "mqtt"]


@pytest.mark.parametrize("name", ["kafka", "present/amqp"])
def test_who_is_unknown_is_refused(name):
    with pytest.raises(ValueError, match=r"no system kafka|serves braid, mqtt, not amqp"):
        choices(read_scenario("e2e"), [name])


def test_a_url_is_a_system_of_its_own():
    found, _ = choices(read_scenario("e2e"), url="braid://localhost:7450")
    assert found == [Choice("localhost:7450", "braid", "braid://localhost:7450")]
    found, missing = choices(read_scenario("stream-tail"), url="mqtt://localhost:1883")
    assert (found, missing) == ([], {"mqtt://localhost:1883": "has no stream"})
    with pytest.raises(ValueError, match="no driver speaks"):
        choices(read_scenario("e2e"), url="gopher://localhost")


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
    result = measure([(scenario, some)], Settings(pin=False), {}, Silent())
    [info] = result.systems
    assert info.settings == {"durable": "True", "runs on": "any core"}


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

"""Brokers take turns; a run says when the load, not the broker, was what it measured."""

from typing import Any

import msgspec
import pytest

from braidmq.benchmarks import mqtt_scenarios
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.mqtt_load import LoadProcessFailed
from braidmq.benchmarks.mqtt_plan import Plan, Side, problems_of
from braidmq.benchmarks.mqtt_scenarios import TABLE, Outcome, Scenario, run_once, run_rounds
from braidmq.benchmarks.systems.mosquitto import why_not

SHORT: dict[str, Any] = {"seconds": 0.2, "warmup": 0.05, "patience": 30.0}  # a hang


def test_every_scenario_of_the_table_makes_sense():
    assert len({each.name for each in TABLE}) == len(TABLE)
    assert [problem for each in TABLE for problem in problems_of(each.plan)] == []


def test_the_order_changes_with_every_round(monkeypatch, tmp_path):
    ran = []

    def note(plan, broker, directory):
        ran.append(broker)
        return Outcome(broker=broker)

    monkeypatch.setattr(mqtt_scenarios, "run_once", note)
    found = run_rounds([Scenario("x", Plan())], ["a", "b"], 3, "", lambda text: None)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert [len(found["x"][name]) for name in ("a", "b")] == [3, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qos": 1, "window": 1, "subscribers": 0},
        {"shape": "paced"},
        {"shape": "idle", "connections": 50},
        {"qos": 1, "offline": True},
    ],
)
def test_a_run_against_the_relay(tmp_path, changes):
    found = run_once(Plan(**SHORT, **changes), "relay", str(tmp_path))
    assert found.problems == []
    assert found.per_second > 0
    if changes.get("window") == 1:  # then the round trips of the publisher are what is shown
        assert not found.subscriber.latency
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qos": 1, "size_min": 20, "size_max": 400, "topics": 100},
        {"qos": 1, "version": 5, "subscribers": 5},
        {"qos": 1, "offline": True},
        {"topics": 9, "subscriptions": 100, "matches": 4, "subscribers": 4, "qos": 1},
        {"topics": 9, "subscriptions": 100, "matches": 1, "subscribers": 4, "qos": 1},
        {"topics": 9, "subscriptions": 100, "matches": 0, "subscribers": 4, "qos": 1},
    ],
)
def test_mosquitto_delivers_everything(tmp_path, changes):
    plan = Plan(**SHORT, **changes)
    if plan.subscriptions:
        plan = msgspec.structs.replace(plan, deliver_qos=0)
    found = run_once(plan, "mosquitto", str(tmp_path))
    assert found.problems == []
    copies = plan.matches if plan.subscriptions else plan.subscribers
    assert found.subscriber.count == found.publisher.count * copies
    assert found.per_second > 0


def test_a_load_that_fails_is_a_problem_of_its_row(monkeypatch, tmp_path):
    def fail(plan, pid, outcome):
        raise LoadProcessFailed("no room")

    monkeypatch.setattr(mqtt_scenarios, "_run", fail)
    assert run_once(Plan(), "relay", str(tmp_path)).problems == ["no room"]


def judged(plan, **changes):
    outcome = Outcome(broker="x", **changes)
    mqtt_scenarios._judge(plan, outcome)
    return outcome


def test_a_busy_load_beside_an_idle_broker_is_invalid():
    assert judged(Plan(), load_cpu=0.95, broker_cpu=0.5).invalid
    assert not judged(Plan(), load_cpu=0.95, broker_cpu=0.95).invalid
    assert not judged(Plan(), load_cpu=0.5, broker_cpu=0.5).invalid


def test_a_window_that_is_waited_for_is_invalid():
    assert judged(Plan(qos=1), load_cpu=0.5, broker_cpu=0.5).invalid
    assert not judged(Plan(qos=1), load_cpu=0.5, broker_cpu=0.9).invalid
    assert not judged(Plan(qos=1, window=1), load_cpu=0.5, broker_cpu=0.5).invalid


def test_a_broker_whose_core_others_had_is_invalid():
    robbed = judged(Plan(qos=1), load_cpu=0.3, broker_cpu=0.5, others_cpu=0.5)
    assert robbed.invalid == ["others used 50% of the core of the broker"]
    assert not judged(Plan(shape="paced"), broker_cpu=0.1, others_cpu=0.5).invalid


def test_a_late_publisher_is_invalid():
    lag = Histogram()
    lag.record(2_000_000, 100)
    assert judged(Plan(shape="paced"), publisher=Side(lag=lag.dump())).invalid


def test_what_is_lost_is_a_problem():
    found = judged(Plan(), subscriber=Side(lost=2, duplicate=1, wanted=9))
    assert found.problems == ["2 lost of 9", "1 duplicate of 9"]

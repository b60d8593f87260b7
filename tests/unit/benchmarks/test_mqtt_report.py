"""Ratios compare the same round; what went wrong is said; JSON keeps its fields."""

import msgspec
import pytest

from braidmq.benchmarks.environment import Environment
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.mqtt_plan import Plan, Side
from braidmq.benchmarks.mqtt_report import MqttReport, row, text
from braidmq.benchmarks.mqtt_scenarios import Outcome, Scenario
from braidmq.benchmarks.summary import Spread


def outcomes(broker, rates, **changes):
    return [Outcome(broker=broker, per_second=rate, broker_cpu=0.5, **changes) for rate in rates]


def latencies(*ms):
    histogram = Histogram()
    for each in ms:
        histogram.record(int(each * 1e6))
    return Side(latency=histogram.dump())


def report(*rows):
    machine = Environment("cpu", 2, "Linux 6", "CPython 3", {"braidmq": "0"}, "abc", "ext4", 0.1)
    return MqttReport(machine, {"braidmq": "0.1", "mosquitto": "2"}, (0, 1), list(rows), {})


def test_ratios_are_of_the_same_round():
    both = {
        "braidmq": outcomes("braidmq", [200, 900, 400]),
        "mosquitto": outcomes("mosquitto", [100, 300, 100]),
    }
    found = row(Scenario("qos0", Plan()), both)
    assert found.ratio == Spread(median=3, min=2, max=4)
    assert found.figures[0].per_second.median == 400
    assert found.figures[0].broker_us == pytest.approx(0.5e6 / 400)
    assert found.repeats == 3 and not found.failed
    words = text(report(found))
    assert "3.00" in words and "2.00-4.00" in words and "mosquitto 2" in words


def test_an_invalid_round_has_no_ratio_when_others_have():
    both = {
        "braidmq": outcomes("braidmq", [900], invalid=["busy"]) + outcomes("braidmq", [200]),
        "mosquitto": outcomes("mosquitto", [100, 100]),
    }
    found = row(Scenario("qos0", Plan()), both)
    assert found.ratio == Spread(median=2, min=2, max=2)


def test_latencies_and_memory_are_compared_by_themselves():
    paced = {
        "braidmq": outcomes("braidmq", [1000], subscriber=latencies(0.5, 0.5, 9)),
        "mosquitto": outcomes("mosquitto", [1000], subscriber=latencies(0.25, 0.25, 1)),
    }
    slow = row(Scenario("latency", Plan(shape="paced")), paced)
    assert slow.ratio is not None
    assert slow.ratio.median == pytest.approx(2, rel=0.01)
    idle = {
        "braidmq": outcomes("braidmq", [1000], memory_bytes=4000),
        "mosquitto": outcomes("mosquitto", [1000], memory_bytes=1000),
    }
    held = row(Scenario("idle", Plan(shape="idle")), idle)
    assert held.ratio is not None
    assert held.ratio.median == 4
    words = text(report(slow, held))
    assert "9.000" in words and "10,000 connections" in words and "4,000" in words


def test_a_round_trip_is_shown_twice():
    trips = {"mosquitto": outcomes("mosquitto", [5000], publisher=latencies(0.125))}
    found = row(Scenario("one by one", Plan(qos=1, window=1)), trips)
    words = text(report(found))
    assert found.ratio is None
    assert "5,000" in words and "0.125" in words


def test_what_went_wrong_is_said():
    bad = {"mosquitto": outcomes("mosquitto", [0], problems=["3 lost of 9"], invalid=["busy"])}
    found = row(Scenario("qos0", Plan()), bad)
    whole = report(found)
    assert whole.failed
    assert "PROBLEM: qos0, mosquitto: 3 lost of 9" in text(whole)
    assert "invalid: qos0, mosquitto: busy" in text(whole)
    assert not report(row(Scenario("x", Plan()), {"m": outcomes("m", [1], invalid=["b"])})).failed


def test_the_fields_of_the_json():
    found = row(Scenario("qos0", Plan()), {"mosquitto": outcomes("mosquitto", [1])})
    made = msgspec.json.decode(msgspec.json.encode(report(found)))
    assert made["format"] == 1
    assert set(made) == {"environment", "brokers", "cores", "rows", "arguments", "format"}
    assert set(made["rows"][0]) == {"name", "plan", "repeats", "figures", "ratio"}
    assert set(made["rows"][0]["figures"][0]) == {
        *("broker", "per_second", "broker_cpu", "load_cpu", "broker_us", "latency_ms", "lag_ms"),
        *("memory_bytes", "pinned", "problems", "invalid"),
    }

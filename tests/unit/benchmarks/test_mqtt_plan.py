"""Plans that make no sense are refused; rates are read between two moments."""

import msgspec
import pytest

from braidmq.benchmarks.mqtt_plan import Plan, Sample, Side, problems_of


def test_a_plan_survives_the_way_to_its_process():
    plan = Plan(qos=1, subscribers=3)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
    assert problems_of(plan) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"size_min": 3},
        {"size_min": 200},
        {"window": 0},
        {"window": 60_000},
        {"subscribers": 5_000},
        {"subscriptions": 10, "matches": 5},
    ],
)
def test_what_makes_no_sense(changes):
    assert problems_of(Plan(**changes))


def test_quality_of_service_is_the_lower_one():
    assert Plan(qos=1).delivered_qos == 1
    assert Plan(qos=1, deliver_qos=0).delivered_qos == 0
    assert Plan(qos=0, deliver_qos=1).delivered_qos == 0


def test_a_rate_between_two_moments():
    second = 10**9
    side = Side(samples=[Sample(0, 0, 0), Sample(second, 100, 500), Sample(3 * second, 300, 900)])
    found = side.between(second // 2, 2 * second)
    assert (found.seconds, found.messages) == (1.5, 150)
    assert found.per_second == 100
    assert found.cpu_seconds == pytest.approx(450e-9)


def test_after_the_last_sample_nothing_happens():
    side = Side(samples=[Sample(10, 5, 1), Sample(20, 7, 2)])
    assert side.between(20, 10**9).messages == 0
    assert side.at(0) == (10, 5, 1)
    assert Side().between(0, 10).per_second == 0

"""Plans are checked before anything runs; the meter counts."""

import msgspec
import pytest

from braidmq.benchmarks.integrity import Stamper
from braidmq.benchmarks.meter import Meter, Phase, Plan, plan_problems

GOOD = Plan(url="braid://127.0.0.1:1")


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "other"},
        {"durability": "none"},
        {"shape": "round"},
        {"mode": "throw"},
        {"producers": 0},
        {"size": 23},
        {"batch": 10_000, "size": 4096},
        {"window": 5000},
        {"seconds": 0},
        {"url": "http://127.0.0.1:1"},
        {"target": "face", "rate": 5},
    ],
)
def test_what_cannot_run_is_named(changes):
    assert plan_problems(GOOD) == []
    assert len(plan_problems(msgspec.structs.replace(GOOD, **changes))) == 1


def test_a_plan_survives_the_way_to_the_load_process():
    plan = Plan(target="face", rate=0, shape="together", seed=7)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_confirmations_settlements_and_deliveries_are_counted():
    meter = Meter(GOOD)
    account = meter.accounts[0]
    meter.confirm(account, 3, 1000)
    meter.settle(2, 50, 2000)
    meter.deliver(Stamper(0, b"").stamp(0, 10), 40)
    assert (account.confirmed, meter.confirmed, meter.settled, meter.settled_ns) == (3, 3, 2, 50)
    assert meter.delivery.quantile(0.5) == 30
    meter.clear_latencies()
    assert not len(meter.confirming) + len(meter.acking) + len(meter.delivery)
    assert meter.confirmed == 3


def test_only_the_first_problems_are_kept():
    meter = Meter(GOOD)
    for number in range(20):
        meter.problem(str(number))
    assert len(meter.problems) == 10


def test_a_phase_without_time_has_no_rate():
    assert Phase(messages=5).per_second == 0
    assert Phase(messages=5, seconds=0.5).per_second == 10

"""Runs over sockets: every message is accounted for, whatever a broker does to it."""

import msgspec
import pytest

from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.stomp_plan import StompPlan
from braidmq.benchmarks.stomp_run import carry_out
from tests.stomp_stub import StompStub

PLAN = StompPlan(size=64, seconds=0.2, warmup=0.05, patience=30.0)  # a hang


def run(fault="", **changes):
    if fault in {"loses", "forgets receipt"}:  # only what never comes is waited for so long
        changes["patience"] = 3.0
    with StompStub(fault) as broker:
        return carry_out(msgspec.structs.replace(PLAN, port=broker.port, **changes))


def faults(side):
    return side.unconfirmed, side.lost, side.duplicate, side.corrupt


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 1},
        {"window": 50},
        {"pairs": 3, "window": 10, "prefetch": 2},
        {"pairs": 3, "window": 10, "shared": True},
        {"shape": "paced"},
    ],
)
def test_what_is_sent_is_confirmed_and_comes_once(changes):
    side = run(**changes)
    assert faults(side) == (0, 0, 0, 0)
    assert side.per_second > 0 and side.sent >= side.confirmed > 0
    assert side.receipt and bool(side.delivery) == bool(side.lag) == ("shape" in changes)


def test_a_schedule_is_kept_and_every_message_of_it_is_timed():
    side = run(shape="paced", rate=500, seconds=0.4, warmup=0.1)
    assert side.sent == 250
    assert len(Histogram.load(side.lag)) == 200
    assert len(Histogram.load(side.delivery)) >= 200 <= len(Histogram.load(side.receipt))


@pytest.mark.parametrize(
    ("fault", "shared", "expected"),
    [
        ("loses", True, (0, 1, 0, 0)),
        ("repeats", True, (0, 0, 1, 0)),
        ("changes", True, (0, 0, 0, 1)),
        ("changes", False, (0, 0, 0, 1)),
        ("forgets ack", False, (0, 0, 1, 0)),
    ],
)
def test_what_a_broker_does_wrong_is_seen(fault, shared, expected):
    assert faults(run(fault, shared=shared, window=20)) == expected


def test_where_there_is_order_a_missing_message_changes_what_follows():
    side = run("loses", window=20)
    assert side.lost == 1 and side.corrupt > 0


def test_a_missing_receipt_is_seen():
    assert run("forgets receipt", window=20).unconfirmed >= 1

"""Subscribers count and check what a publisher sent, and give up on what does not come."""

import threading
import time
from typing import Any

import msgspec
import pytest

from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.mqtt_plan import Plan
from braidmq.benchmarks.mqtt_publisher import publish
from braidmq.benchmarks.mqtt_relay import RelayProcess
from braidmq.benchmarks.mqtt_subscriber import hold_idle, subscribe

SHORT: dict[str, Any] = {"seconds": 0.1, "warmup": 0.0, "patience": 30.0}  # a hang


def carry_out(plan, claim=0):
    """Both halves through a relay; ``claim``: how many more the publisher says it sent."""
    sent = []
    with RelayProcess(plan) as relay:
        plan = msgspec.structs.replace(plan, port=relay.port)
        ready = threading.Event()

        def run():
            ready.wait(10)
            sent.append(publish(plan, lambda: None).count + claim)

        thread = threading.Thread(target=run)
        thread.start()
        side = subscribe(plan, ready.set, lambda: sent[0] if sent else -1)
        thread.join()
    return sent[0], side


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qos": 1, "window": 100},
        {"qos": 1, "window": 100, "size_min": 20, "size_max": 400, "topics": 9, "version": 5},
        {"subscribers": 12},
    ],
)
def test_every_subscriber_gets_everything(changes):
    plan = Plan(**SHORT, **changes)
    sent, side = carry_out(plan)
    assert side.count == side.wanted == sent * plan.subscribers
    assert (side.lost, side.duplicate, side.reordered, side.corrupt) == (0, 0, 0, 0)
    assert side.samples[-1].messages == side.count


def test_what_does_not_come_is_lost():
    sent, side = carry_out(Plan(**SHORT | {"patience": 0.5}), claim=3)
    assert (side.lost, side.count) == (3, sent - 3)


def test_a_paced_stream_has_latencies():
    sent, side = carry_out(Plan(**SHORT, shape="paced", rate=300, qos=1))
    assert side.count == sent == len(Histogram.load(side.latency))
    assert side.reordered == 0


def test_idle_connections_are_held_until_told():
    with RelayProcess(Plan()) as relay:
        plan = Plan(port=relay.port, connections=250)
        ready = []
        side = hold_idle(plan, lambda: ready.append(time.monotonic_ns()), lambda: 0)
    assert side.count == 250
    assert len(ready) == 1 and ready[0] >= side.stopped_ns > side.started_ns

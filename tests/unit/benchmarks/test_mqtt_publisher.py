"""What a publisher sends is all that it says it sent, in each way to send."""

import threading
from typing import Any

import msgspec
import pytest

from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.mqtt_client import MqttClient
from braidmq.benchmarks.mqtt_cycle import published
from braidmq.benchmarks.mqtt_packets import next_packet
from braidmq.benchmarks.mqtt_plan import Plan
from braidmq.benchmarks.mqtt_publisher import publish
from braidmq.benchmarks.mqtt_relay import RelayProcess

SHORT: dict[str, Any] = {"seconds": 0.05, "warmup": 0.0}


def carry_out(plan):
    """Publish through a relay; what the process says, and the bytes that came."""
    came = []
    with RelayProcess(plan) as relay:
        reader = MqttClient(relay.host, relay.port, plan.version, "reader")
        reader.subscribe(["bench/#"], plan.qos)
        reader.socket.settimeout(0.5)

        def read():
            try:
                while data := reader.socket.recv(1 << 20):
                    came.append(data)
            except TimeoutError:
                pass

        thread = threading.Thread(target=read)
        begun = []
        thread.start()
        side = publish(msgspec.structs.replace(plan, port=relay.port), lambda: begun.append(1))
        thread.join()
        reader.close()
    assert begun == [1]
    return side, b"".join(came)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size_min": 20, "size_max": 400, "topics": 9},
        {"qos": 1, "window": 100},
        {"qos": 1, "window": 100, "version": 5},
        {"qos": 1, "window": 1},
    ],
)
def test_it_sends_whole_packets_and_counts_them(changes):
    plan = Plan(**SHORT, **changes)
    side, came = carry_out(plan)
    cycle = published(plan)
    rounds, rest = divmod(side.count, len(cycle))
    assert side.count > 1
    assert came == cycle.data * rounds + cycle.data[: cycle.starts[rest]]
    assert side.acknowledged == (side.count if plan.qos else 0)
    assert side.problems == []
    assert side.samples[-1].messages == side.count
    if plan.window == 1:
        assert len(Histogram.load(side.latency)) == side.count


@pytest.mark.parametrize("qos", [0, 1])
def test_on_a_schedule_it_sends_what_is_due(qos):
    plan = Plan(shape="paced", rate=500, seconds=0.2, warmup=0.0, qos=qos)
    side, came = carry_out(plan)
    view, at, count = memoryview(came), 0, 0
    while (found := next_packet(view, at)) is not None:
        at, count = found[2], count + 1
    assert count == side.count == len(Histogram.load(side.lag)) > 0


def test_a_broker_that_never_acknowledges_is_noticed():
    deaf = Plan(qos=0, **SHORT)  # the relay takes it for QoS 0
    with RelayProcess(deaf) as relay:
        plan = Plan(port=relay.port, qos=1, window=10, patience=0.2, **SHORT)
        side = publish(plan, lambda: None)
    assert side.problems == ["10 messages were never acknowledged"]

"""What a publisher sends is all that it says it sent, in each way to send."""

import threading
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from braidmq.benchmarks.drivers.mqtt_packets import next_packet
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.mqtt_client import MqttClient
from braidmq.benchmarks.mqtt_cycle import published
from braidmq.benchmarks.mqtt_plan import Plan, Side
from braidmq.benchmarks.mqtt_publisher import publish
from braidmq.benchmarks.mqtt_relay import RelayProcess

SHORT: dict[str, Any] = {"seconds": 0.05, "warmup": 0.0}


class Repeated:
    """Whether what comes is the same bytes again and again, without keeping hundreds of MB."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = 0
        self.same = True

    def take(self, chunk: bytes) -> None:
        at = self.length % len(self.data)
        enough = self.data * ((at + len(chunk)) // len(self.data) + 1)
        self.same = self.same and enough[at : at + len(chunk)] == chunk
        self.length += len(chunk)


def carry_out(plan, take, is_all):
    """Publish through a relay; ``take`` gets the bytes that come, until ``is_all(side)``."""
    begun: list[int] = []
    sides: list[Side] = []
    with RelayProcess(plan) as relay:
        reader = MqttClient(relay.host, relay.port, plan.version, "reader")
        reader.subscribe(["bench/#"], plan.qos)
        reader.socket.settimeout(0.01)

        def read():
            while not (sides and is_all(sides[0])):
                with suppress(TimeoutError):
                    take(reader.socket.recv(1 << 20))

        thread = threading.Thread(target=read)
        thread.start()
        plan = msgspec.structs.replace(plan, port=relay.port)
        sides.append(publish(plan, lambda: begun.append(1)))
        thread.join()
        reader.close()
    assert begun == [1]
    return sides[0]


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
    cycle = published(plan)
    came = Repeated(cycle.data)

    def length(side):
        rounds, rest = divmod(side.count, len(cycle))
        return len(cycle.data) * rounds + cycle.starts[rest]

    side = carry_out(plan, came.take, lambda side: came.length >= length(side))
    assert side.count > 1
    assert came.same and came.length == length(side)
    assert side.acknowledged == (side.count if plan.qos else 0)
    assert side.problems == []
    assert side.samples[-1].messages == side.count
    if plan.window == 1:
        assert len(Histogram.load(side.latency)) == side.count


@pytest.mark.parametrize("qos", [0, 1])
def test_on_a_schedule_it_sends_what_is_due(qos):
    plan = Plan(shape="paced", rate=500, seconds=0.2, warmup=0.0, qos=qos)
    came = bytearray()
    ends = [0]

    def take(chunk):
        came.extend(chunk)
        while (found := next_packet(memoryview(bytes(came)), ends[-1])) is not None:
            ends.append(found[2])

    side = carry_out(plan, take, lambda side: len(ends) > side.count)
    count = len(ends) - 1
    assert count == side.count == len(Histogram.load(side.lag)) > 0


def test_a_broker_that_never_acknowledges_is_noticed():
    deaf = Plan(qos=0, **SHORT)  # the relay takes it for QoS 0
    with RelayProcess(deaf) as relay:
        plan = Plan(port=relay.port, qos=1, window=10, patience=0.2, **SHORT)
        side = publish(plan, lambda: None)
    assert side.problems == ["10 messages were never acknowledged"]

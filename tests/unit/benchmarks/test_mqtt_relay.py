"""It hands on what it gets, acknowledges, and ends."""

import os

import pytest

from braidmq.benchmarks.drivers.mqtt_packets import DISCONNECT
from braidmq.benchmarks.mqtt_client import MqttClient
from braidmq.benchmarks.mqtt_cycle import published
from braidmq.benchmarks.mqtt_plan import Plan
from braidmq.benchmarks.mqtt_relay import RelayProcess


@pytest.mark.parametrize("version", [4, 5])
def test_bytes_come_out_as_they_went_in(version):
    plan = Plan(version=version, qos=1, window=10)
    data = published(plan).data[:100_000]
    with RelayProcess(plan) as relay:
        reader = MqttClient(relay.host, relay.port, version, "reader")
        reader.subscribe(["bench/#"], 1)
        writer = MqttClient(relay.host, relay.port, version, "writer")
        writer.socket.sendall(data)
        came = b""
        while len(came) < len(data):
            came += reader.socket.recv(65_536)
        assert came == data
        assert writer.packet() == (0x40, b"\0\x01")
        assert writer.packet() == (0x40, b"\0\x02")
        reader.close()
        writer.close()
        pid = relay.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_goodbye_is_not_handed_on():
    plan = Plan(window=10)
    cycle = published(plan)
    packet = cycle.data[: cycle.starts[1]]
    with RelayProcess(plan) as relay:
        reader = MqttClient(relay.host, relay.port, 4, "reader")
        reader.subscribe(["bench/#"], 0)
        for _ in range(2):
            writer = MqttClient(relay.host, relay.port, 4, "writer")
            writer.socket.sendall(packet + DISCONNECT)
            assert reader.packet()[1] == packet[2:]
            writer.socket.close()
        reader.close()

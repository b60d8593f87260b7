"""Brokers by name."""

import pytest

from braidmq.benchmarks import mqtt_brokers
from braidmq.benchmarks.mqtt_brokers import BROKERS, OURS, started, version_of
from braidmq.benchmarks.mqtt_client import MqttClient
from braidmq.benchmarks.mqtt_plan import Plan


def test_the_relay_is_started(tmp_path):
    with started("relay", Plan(), str(tmp_path), -1) as broker:
        assert broker.pid > 0
        MqttClient(broker.host, broker.port, 4, "me").close()


@pytest.mark.parametrize(("name", "saving"), [("mosquitto", False), ("mosquitto-saving", True)])
def test_mosquitto_is_started_as_it_is_named(monkeypatch, tmp_path, name, saving):
    asked: list[object] = []

    class Fake:
        def __init__(self, directory, saving):
            asked.append((directory, saving))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            asked.append("ended")

    monkeypatch.setattr(mqtt_brokers, "MosquittoProcess", Fake)
    with started(name, Plan(), str(tmp_path), -1):
        assert asked == [(str(tmp_path), saving)]
    assert asked[-1] == "ended"


def test_versions():
    assert [bool(version_of(name)) for name in (OURS, "relay")] == [True, False]
    assert OURS == BROKERS[0]

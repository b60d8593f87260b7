"""aMQTT: what is missing, and the broker itself where it is installed."""

import contextlib

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.drivers.mqtt import MqttDriver
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems import amqtt
from braidmq.benchmarks.systems.amqtt import AmqttProcess, AmqttSystem, configuration, why_not


def test_it_listens_on_loopback():
    assert "bind: 127.0.0.1:61999\n" in configuration(61999)


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(amqtt, "version", lambda: "")
    with pytest.raises(ServerFailed, match="pip install amqtt"):
        AmqttProcess(str(tmp_path)).start()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_it_serves_and_ends(tmp_path):
    with contextlib.ExitStack() as stack:
        running = AmqttSystem().start(stack, str(tmp_path), durable=True)
        assert running.pid and running.version
        wiring = Wiring(url=running.urls["mqtt"], client_id="me")
        MqttDriver().connect(wiring).close()
    with pytest.raises(ConnectionRefusedError):
        MqttDriver().connect(wiring)

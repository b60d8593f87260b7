"""RabbitMQ: how it is configured, what is missing, and the node itself where it is installed."""

import contextlib
import os

import pytest

from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.stomp_client import connect, disconnect
from braidmq.benchmarks.systems import rabbitmq
from braidmq.benchmarks.systems.rabbitmq import (
    PortMapperProcess,
    RabbitMQProcess,
    configuration,
    version,
    why_not,
)

installed = pytest.mark.skipif(bool(why_not()), reason=why_not())


def test_it_listens_for_stomp_and_mqtt_only_and_on_loopback():
    lines = configuration([61999, 61998]).splitlines()
    listeners = [line for line in lines if "listeners" in line]
    assert listeners == [
        "listeners.tcp = none",
        "stomp.listeners.tcp.1 = 127.0.0.1:61999",
        "mqtt.listeners.tcp.1 = 127.0.0.1:61998",
    ]


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(rabbitmq, "_HOME", tmp_path)
    monkeypatch.setattr(rabbitmq, "_SCRIPT", tmp_path / "none")
    assert version() == ""
    with pytest.raises(ServerFailed, match="apt install"):
        RabbitMQProcess(str(tmp_path)).start()


def _is_there(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@installed
def test_it_serves_and_ends_with_its_port_mapper(tmp_path):
    with RabbitMQProcess(str(tmp_path)) as broker:
        disconnect(connect(broker.host, broker.port))
        pids = [broker.pid, broker.mapper.pid]
        assert all(pids) and all(map(_is_there, pids))
    assert not any(map(_is_there, pids))
    assert version()
    assert (tmp_path / "mnesia").exists()


@installed
def test_each_attempt_has_a_port_mapper(monkeypatch, tmp_path):
    accepts = RabbitMQProcess._accepts
    answers = [lambda _: False, accepts]
    monkeypatch.setattr(RabbitMQProcess, "_accepts", lambda broker: answers.pop(0)(broker))
    with RabbitMQProcess(str(tmp_path)) as broker:
        assert not answers
        pids = [broker.pid, broker.mapper.pid]
        assert all(pids) and all(map(_is_there, pids))
    assert not any(map(_is_there, pids))


@installed
def test_a_node_that_does_not_start_leaves_no_port_mapper(monkeypatch, tmp_path):
    monkeypatch.setattr(rabbitmq, "configuration", lambda *_: "nonsense\n")
    broker = RabbitMQProcess(str(tmp_path))
    with pytest.raises(ServerFailed, match="rabbitmq did not start"):
        broker.start()
    assert not broker.mapper.pid


@installed
def test_a_port_mapper_listens_on_loopback(tmp_path):
    with PortMapperProcess(str(tmp_path)) as mapper:
        assert mapper.port and mapper.pid

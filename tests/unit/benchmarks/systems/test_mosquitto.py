"""The peer: configured so that it drops nothing, started, ended by its pid."""

import os

import pytest

from braidmq.benchmarks.mqtt_client import MqttClient
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems import mosquitto
from braidmq.benchmarks.systems.mosquitto import (
    MosquittoProcess,
    configuration,
    version,
    why_not,
)

installed = pytest.mark.skipif(bool(why_not()), reason=why_not())


def test_nothing_is_limited_and_nothing_is_saved():
    lines = configuration([1883]).splitlines()
    assert "listener 1883 127.0.0.1" in lines
    assert "persistence false" in lines
    for name in ("max_queued_messages", "max_queued_bytes", "max_inflight_messages"):
        assert f"{name} 0" in lines
    saving = configuration([1883], "some/where")
    assert "persistence true" in saving and "persistence_location some/where/" in saving


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(mosquitto, "_find", lambda: "")
    assert version() == ""
    with (
        pytest.raises(ServerFailed, match=r"not installed .*apt install mosquitto"),
        MosquittoProcess(str(tmp_path)),
    ):
        pass


@installed
def test_one_that_does_not_start_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(mosquitto, "configuration", lambda *_: "nonsense 1\n")
    with pytest.raises(ServerFailed, match=r"did not start: .*nonsense"):
        MosquittoProcess(str(tmp_path)).start()


@installed
@pytest.mark.parametrize("saving", [False, True])
def test_it_serves_and_ends(tmp_path, saving):
    with MosquittoProcess(str(tmp_path), saving) as broker:
        pid = broker.pid
        for version_number in (4, 5):
            client = MqttClient(broker.host, broker.port, version_number, "me")
            client.subscribe(["a/#"], 1)
            client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (tmp_path / "mosquitto.db").exists() == saving
    assert version().startswith(("1.", "2."))


@installed
def test_it_is_killed_when_something_goes_wrong(tmp_path):
    broker = MosquittoProcess(str(tmp_path))
    with pytest.raises(RuntimeError), broker:
        raise RuntimeError
    assert broker.pid == 0
    broker.stop()

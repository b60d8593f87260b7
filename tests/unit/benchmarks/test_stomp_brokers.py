"""Systems are started by their names, and who cannot take part says why."""

import pytest

from braidmq.benchmarks.stomp_brokers import PEERS, missing, started, version_of
from braidmq.benchmarks.stomp_client import connect, disconnect
from braidmq.benchmarks.stomp_plan import OURS
from braidmq.benchmarks.systems import activemq, rabbitmq


def test_who_is_not_installed_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(activemq, "_HOME", tmp_path)
    monkeypatch.setattr(activemq, "_JARS", tmp_path)
    monkeypatch.setattr(rabbitmq, "_HOME", tmp_path)
    monkeypatch.setattr(rabbitmq, "_SCRIPT", tmp_path / "none")
    assert not missing(OURS) and version_of(OURS)
    for peer in PEERS:
        assert "apt install" in missing(peer)
        assert version_of(peer) == ""


def test_ours_is_started_and_ended(tmp_path):
    with started([OURS], str(tmp_path), -1) as running:
        where = running[OURS]
        assert where.pid
        disconnect(connect(where.host, where.port))
    with pytest.raises(OSError, match="refused"):
        connect(where.host, where.port)

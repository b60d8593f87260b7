"""NATS as a system: started as durable as its version can be, and ended."""

import contextlib

import pytest

from braidmq.benchmarks.drivers.jetstream import JetStreamDriver
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems import nats
from braidmq.benchmarks.systems.nats import (
    NatsProcess,
    NatsSystem,
    configuration,
    version,
    why_not,
)
from tests.bench_clients import check_restart

SYSTEM = NatsSystem()
installed = pytest.mark.skipif(bool(SYSTEM.why_not()), reason=SYSTEM.why_not())


def test_durability_is_in_the_configuration():
    assert "sync_interval: always" in configuration(1, "x", "sync")
    assert "sync_interval" not in configuration(1, "x", "os")


def test_what_cannot_be_durable_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(nats, "_find", lambda: "x")
    monkeypatch.setattr(nats, "program_version", lambda program, option: "2.9.10")
    assert version() == "2.9.10"
    assert why_not("os") == SYSTEM.why_not() == ""
    with pytest.raises(ServerFailed, match=r"2\.9\.10 cannot sync"):
        NatsProcess(str(tmp_path), "sync").start()
    monkeypatch.setattr(nats, "_find", lambda: "")
    assert "not installed" in why_not("os")


@installed
def test_one_that_cannot_sync_is_started_and_says_so(monkeypatch, tmp_path):
    older = nats._find()
    monkeypatch.setattr(nats, "_find", lambda: older)
    monkeypatch.setattr(nats, "program_version", lambda program, option: "2.9.10")
    with contextlib.ExitStack() as stack:
        running = SYSTEM.start(stack, str(tmp_path), True)
        assert "says less than ours" in running.settings["durability"]


@installed
def test_it_is_killed_and_started_again_on_its_data(tmp_path):
    running = check_restart(SYSTEM, JetStreamDriver(), "jetstream", str(tmp_path))
    assert set(running.urls) == {"nats", "jetstream"}

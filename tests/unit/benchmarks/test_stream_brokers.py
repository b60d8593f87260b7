"""Systems are started by their names, and who cannot take part says why."""

import msgspec
import pytest

from braidmq.benchmarks.stream_brokers import SYSTEMS, missing, started, version_of
from braidmq.benchmarks.stream_plan import IN_PROCESS, OURS, StreamPlan
from braidmq.benchmarks.systems import nats, redis


def test_who_is_not_installed_is_missing(monkeypatch):
    monkeypatch.setattr(redis, "_find", lambda: "")
    monkeypatch.setattr(nats, "_find", lambda: "")
    found = {system: missing(StreamPlan(system=system)) for system in SYSTEMS}
    assert not found[OURS] and not found[IN_PROCESS]
    assert "not installed" in found["redis"] and "not installed" in found["jetstream"]
    assert "several streams" in missing(StreamPlan(system="jetstream", shape="fanout"))
    assert version_of("redis") == version_of("jetstream") == ""
    assert version_of(IN_PROCESS)


def test_in_process_nothing_is_started(tmp_path):
    with started(StreamPlan(system=IN_PROCESS), str(tmp_path), -1) as running:
        assert running is None


@pytest.mark.parametrize("system", [OURS, "redis", "jetstream"])
def test_a_broker_is_started_again_with_what_it_has(tmp_path, system):
    plan = StreamPlan(system=system, durability="os")
    if reason := missing(plan):
        pytest.skip(reason)
    with started(plan, str(tmp_path), -1) as running:
        assert running is not None
        before = running.pid
        assert before and running.port
        running.restart()
        assert running.pid not in (0, before)
    with pytest.raises(RuntimeError), started(msgspec.structs.replace(plan), str(tmp_path), -1):
        raise RuntimeError

"""A broker for each run, or one for all: started where it belongs, and ended."""

import os
from pathlib import Path

import msgspec
import pytest

from braidmq.benchmarks.engine.brokers import Brokers
from braidmq.benchmarks.engine.choosing import Choice
from braidmq.benchmarks.engine.crew import LoadFailed
from braidmq.benchmarks.engine.scenario import read_scenario
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems.registry import HEAT_SECONDS, SYSTEMS
from tests.unit.benchmarks.engine.fake_systems import Present

CHOICE = Choice("present", "braid")


class Counted(Present):
    """Counts what it started, and what of it has ended."""

    def __init__(self):
        self.directories = []
        self.ended = 0

    def start(self, stack, directory, durable):
        self.directories.append(directory)
        stack.callback(self._end)
        running = super().start(stack, directory, durable)
        return msgspec.structs.replace(running, restart=lambda: min(os.sched_getaffinity(0)))

    def _end(self):
        self.ended += 1


@pytest.fixture
def system(monkeypatch):
    counted = Counted()
    monkeypatch.setitem(SYSTEMS, "present", counted)
    return counted


@pytest.fixture
def scenario():
    return read_scenario("e2e")


def test_each_run_has_a_broker_and_names_of_its_own(system, scenario):
    with Brokers("", are_pinned=False) as brokers:
        with brokers.target(scenario, CHOICE) as first:
            assert Path(system.directories[0]).is_dir()
        assert system.ended == 1
        with brokers.target(scenario, CHOICE) as second:
            pass
    assert len(set(system.directories)) == 2
    assert not any(map(os.path.exists, system.directories))
    assert first.place.token != second.place.token
    assert len(brokers.infos) == 1


def test_brokers_that_are_kept_are_started_once_and_end_at_last(system, scenario):
    with Brokers("", are_pinned=False, are_kept=True) as brokers:
        for _ in range(3):
            with brokers.target(scenario, CHOICE):
                pass
        assert (len(system.directories), system.ended) == (1, 0)
        with brokers.target(read_scenario("fanin"), CHOICE):  # not durable: another one
            pass
        assert len(system.directories) == 2
    assert system.ended == 2
    assert not any(map(os.path.exists, system.directories))


def test_what_weighs_or_kills_its_broker_has_one_of_its_own(system):
    with Brokers("", are_pinned=False, are_kept=True) as brokers:
        for name in ("idle", "restart", "idle"):
            with brokers.target(read_scenario(name), CHOICE):
                pass
    assert (len(system.directories), system.ended) == (3, 3)


def test_a_broker_is_not_kept_when_a_run_failed(system, scenario):
    with Brokers("", are_pinned=False, are_kept=True) as brokers:
        with pytest.raises(LoadFailed):
            with brokers.target(scenario, CHOICE):
                raise LoadFailed("nobody listens")
        assert system.ended == 1
        with brokers.target(scenario, CHOICE):
            pass
    assert system.ended == 2


def test_what_is_hot_is_not_warmed_up_again(system, scenario, monkeypatch):
    monkeypatch.setitem(HEAT_SECONDS, "present", 8.0)
    with Brokers("", are_pinned=False, are_kept=True) as brokers:
        assert brokers.heat_seconds(scenario, "present") == 8
        with brokers.target(scenario, CHOICE):
            pass
        assert brokers.heat_seconds(scenario, "present") == 0
    with Brokers("", are_pinned=False) as brokers:
        with brokers.target(scenario, CHOICE):
            pass
        assert brokers.heat_seconds(scenario, "present") == 8


def test_a_broker_that_is_running_is_only_named():
    choice = Choice("localhost:1", "braid", "braid://localhost:1")
    with Brokers("", are_pinned=True, server_pid=7, tls_ca="ca.pem") as brokers:
        with brokers.target(read_scenario("e2e"), choice) as target:
            assert (target.place.url, target.pid, target.core) == (choice.url, 7, -1)
            assert target.place.tls_ca == "ca.pem"
    assert brokers.infos[0].settings == {"url": "braid://localhost:1"}


def test_a_broker_that_nobody_can_start_again_stays_so(monkeypatch, scenario):
    monkeypatch.setitem(SYSTEMS, "present", Present())
    with Brokers("", are_pinned=True) as brokers:
        with brokers.target(scenario, CHOICE) as target:
            assert target.restart is None


def test_a_protocol_that_is_not_served_is_refused(system):
    scenario = read_scenario("e2e", {"tls": True})
    with Brokers("", are_pinned=False) as brokers:
        with pytest.raises(ServerFailed, match="does not serve braid"):
            with brokers.target(scenario, CHOICE):
                pass
    assert system.ended == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nobody can be kept on a core")
def test_the_broker_has_the_first_core_and_everybody_else_the_others(system, scenario):
    usable = sorted(os.sched_getaffinity(0))
    with Brokers("", are_pinned=True) as brokers:
        with brokers.target(scenario, CHOICE) as target:
            if len(usable) == 1:
                assert target.core == -1
            else:
                assert target.core == usable[0]
                assert target.place.cores == tuple(usable[1:])
                assert usable[0] not in os.sched_getaffinity(0)
                assert target.restart is not None
                assert target.restart() == usable[0]
    assert sorted(os.sched_getaffinity(0)) == usable

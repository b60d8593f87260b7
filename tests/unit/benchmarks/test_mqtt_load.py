"""The processes: they say when they are ready, what they found, and why they failed."""

import os
import resource

import msgspec
import pytest

from braidmq.benchmarks.mqtt_load import LoadProcess, LoadProcessFailed, more_files, pin, pinned
from braidmq.benchmarks.mqtt_plan import Plan
from braidmq.benchmarks.mqtt_relay import RelayProcess


def test_both_halves_in_processes_of_their_own():
    plan = Plan(seconds=0.1, warmup=0.0, core=min(os.sched_getaffinity(0)))
    with RelayProcess(plan) as relay:
        plan = msgspec.structs.replace(plan, port=relay.port)
        with LoadProcess("subscribe", plan) as reader, LoadProcess("publish", plan) as writer:
            reader.wait_ready()
            writer.go()
            writer.wait_ready()
            sent = writer.result()
            reader.tell(sent.count)
            received = reader.result()
    assert received.count == sent.count > 0
    assert sent.pinned and received.pinned


def test_a_process_that_fails_says_why():
    with pytest.raises(LoadProcessFailed, match=r"subscribe: .*refused"):
        with LoadProcess("subscribe", Plan(port=1)) as reader:
            reader.wait_ready()


def test_one_that_is_given_up_ends():
    with pytest.raises(RuntimeError), LoadProcess("publish", Plan()) as writer:
        pid = writer.pid
        raise RuntimeError
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_core_is_kept_only_meanwhile():
    before = os.sched_getaffinity(0)
    core = max(before)
    with pinned(core) as done:
        assert done and os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_system_that_refuses_a_core(monkeypatch):
    def refuse(pid, cores):
        raise OSError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not pin(0)
    with pinned(0) as done:
        assert not done
    assert not pin(-1)


def test_as_many_files_as_the_system_allows():
    assert more_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

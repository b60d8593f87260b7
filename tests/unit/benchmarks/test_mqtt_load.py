"""The processes: they say when they are ready, what they found, and why they failed."""

import os

import msgspec
import pytest

from braidmq.benchmarks.mqtt_load import LoadProcess, LoadProcessFailed
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

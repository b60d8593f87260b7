"""What a process and its children use."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from braidmq.benchmarks.engine.server_use import ServerSample, between, growth_per_hour, sample

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")


@linux
def test_a_process_is_read():
    found = sample(os.getpid(), 1.0)
    assert found.at_seconds == 1.0
    assert found.cpu_seconds > 0
    assert found.memory_bytes > 1_000_000
    assert found.files > 2
    assert found.context_switches > 0


@linux
def test_children_belong_to_it():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        alone = sample(os.getpid(), 0).memory_bytes
        deadline = time.monotonic() + 20
        while sample(process.pid, 0).memory_bytes < 12_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        family = sample(os.getpid(), 0).memory_bytes
        process.communicate(b"\n")
    assert family > alone


def test_nobody_and_those_who_are_gone_use_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    for pid in (0, process.pid):
        assert sample(pid, 2.0) == ServerSample(at_seconds=2.0)


def moment(at, cpu, memory):
    return ServerSample(at_seconds=at, cpu_seconds=cpu, memory_bytes=memory, files=3)


def test_between_moments_it_is_the_difference_and_the_most():
    use = between([moment(0, 1.0, 5), moment(1, 1.5, 9), moment(2, 2.5, 7)])
    assert use.cpu_seconds == 1.5
    assert (use.memory_begin_bytes, use.memory_end_bytes, use.memory_max_bytes) == (5, 7, 9)
    assert use.files == 3


def test_a_process_that_was_started_again_counts_from_zero():
    use = between([moment(0, 1.0, 5), moment(1, 0.2, 5), moment(2, 0.75, 5)])
    assert use.cpu_seconds == pytest.approx(0.2 + 0.55)


def test_growth_is_a_slope_and_needs_time():
    grows = [moment(n, 0.0, 1000 + 10 * n) for n in range(61)]
    assert growth_per_hour(grows) == {
        "memory_growth_bytes_per_hour": pytest.approx(36_000),
        "files_growth_per_hour": pytest.approx(0),
    }
    assert growth_per_hour(grows[:60]) == {}


def test_without_moments_nothing_was_used():
    assert between([]).cpu_seconds == 0

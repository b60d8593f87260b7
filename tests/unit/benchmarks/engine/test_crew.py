"""Load processes: what they say arrives, and whatever they do, nobody waits for ever."""

import os
import sys
import time

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.crew import Crew, LoadFailed
from braidmq.benchmarks.engine.task import Order, Task

TASK = Task(role="producers", wirings=(Wiring(url="braid://127.0.0.1:1"),))
READY = 'print(\'{"ready":{"clients":1}}\', flush=True)\n'
REPORT = 'print(\'{"report":{"role":"producers","clients":1,"published":7}}\', flush=True)\n'


def crew_of(script):
    return Crew([sys.executable, "-c", "import sys, time\nsys.stdin.readline()\n" + script])


def over(worker):
    return lambda: worker.is_over


def test_a_worker_is_ready_is_told_and_reports():
    script = READY + "line = sys.stdin.readline()\nassert 'go' in line, line\n" + REPORT
    with crew_of(script) as crew:
        [worker] = crew.start([TASK])
        crew.wait_ready([worker], 20)
        crew.tell([worker], Order(go=time.monotonic_ns()))
        assert crew.serve(over(worker), 20)
        assert worker.report is not None and worker.report.published == 7


def test_progress_is_heard_as_it_comes():
    progress = 'print(\'{"progress":{"second":%d,"published":5}}\' % n, flush=True)\n'
    heard = []
    with crew_of(f"for n in range(3): {progress}{REPORT}sys.stdin.read()") as crew:
        [worker] = crew.start([TASK])
        assert crew.serve(over(worker), 20, lambda _, said: heard.append(said.second))
    assert heard == [0, 1, 2]


def test_a_long_report_comes_in_parts():
    said = '{"report":{"role":"producers","clients":1,"problems":["%s"]}}'
    with crew_of(f"print('{said}' % ('x' * 3_000_000), flush=True)\nsys.stdin.read()") as crew:
        [worker] = crew.start([TASK])
        assert crew.serve(over(worker), 20)
        assert worker.report is not None and len(worker.report.problems[0]) == 3_000_000


def test_a_worker_that_cannot_connect_says_why():
    with crew_of('print(\'{"failed":"nobody listens"}\', flush=True)') as crew:
        workers = crew.start([TASK])
        with pytest.raises(LoadFailed, match="nobody listens"):
            crew.wait_ready(workers, 20)


def test_a_worker_that_dies_is_failed_with_its_last_words():
    with crew_of("sys.exit('out of luck')") as crew:
        workers = crew.start([TASK])
        with pytest.raises(LoadFailed, match=r"\(producers\) ended with status 1: out of luck"):
            crew.wait_ready(workers, 20)


@pytest.mark.parametrize("said", ["nonsense", '{"report": 5}'])
def test_a_worker_that_says_something_else_is_failed(said):
    with crew_of(f"print('{said}', flush=True)\nsys.stdin.read()") as crew:
        workers = crew.start([TASK])
        with pytest.raises(LoadFailed, match="something else than it should"):
            crew.wait_ready(workers, 20)


def test_nobody_waits_for_a_worker_that_is_silent():
    with crew_of("sys.stdin.read()") as crew:
        workers = crew.start([TASK])
        with pytest.raises(LoadFailed, match="not ready after"):
            crew.wait_ready(workers, 0.05)


def test_all_are_gone_with_the_block_also_those_who_do_not_listen(monkeypatch):
    monkeypatch.setattr("braidmq.benchmarks.engine.crew._END_SECONDS", 0.2)
    with crew_of("while True: time.sleep(1)") as crew:
        [worker] = crew.start([TASK])
        pid = worker.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_telling_one_that_is_gone_is_no_error():
    with crew_of("sys.exit(0)") as crew:
        [worker] = crew.start([TASK])
        assert crew.serve(over(worker), 20)
        crew.tell([worker], Order(finish=True))
        assert "it said nothing" in worker.failed

"""Runs against our own daemon, from the first declaration to the last report."""

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator

import pytest

from braidmq.benchmarks.engine import coordinator
from braidmq.benchmarks.engine.coordinator import Target, carry_out
from braidmq.benchmarks.engine.crew import Crew, LoadFailed
from braidmq.benchmarks.engine.planning import Place
from braidmq.benchmarks.engine.scenario import read_scenario
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.results.result import Second
from braidmq.benchmarks.systems.registry import SYSTEMS
from braidmq.benchmarks.systems.system import Running

SHORT = {"seconds": 0.3, "warmup_seconds": 0.1, "patience_seconds": 5}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        yield SYSTEMS["braidmq"].start(stack, str(tmp_path_factory.mktemp("braidmq")), True)


def target_of(running: Running, scheme: str = "braid") -> Target:
    return Target(
        system="braidmq",
        place=Place(url=running.urls[scheme], token=secrets.token_hex(4)),
        pid=running.pid,
        restart=running.restart,
    )


def run_on(running: Running, name: str, **settings):
    scenario = read_scenario(name, {**SHORT, **settings})
    return carry_out(scenario, target_of(running))


def count_of(run, metric):
    return Histogram.load(run.latency[metric]).count


def test_messages_flow_and_all_are_accounted_for(daemon):
    heard: list[Second] = []
    scenario = read_scenario("e2e", {**SHORT, "seconds": 1.2, "rate": 500, "processes": 2})
    [run] = carry_out(scenario, target_of(daemon), heard.append)
    assert run.problems == []
    assert (run.loop, run.seconds, run.scheme) == ("open", 1.2, "braid")
    assert run.integrity.sent == run.integrity.confirmed == run.integrity.received == 650
    assert count_of(run, "delivery") == count_of(run, "response") == 600  # due in the window
    assert 0 < run.published <= 650
    assert len(run.generators) == 4
    assert {0, 1} <= {second.second for second in run.series}
    assert heard and heard[-1].second >= 0
    if run.server.memory_max_bytes:  # there is a /proc
        assert run.server.cpu_seconds > 0
        assert any(second.server_bytes for second in run.series)


def test_what_nobody_reads_is_read_afterwards(daemon):
    [run] = run_on(daemon, "pub", producers=2, closed=10)
    assert run.problems == []
    assert run.loop == "closed"
    assert run.confirmed > 0
    assert run.received == 0
    assert run.integrity.received == run.integrity.sent


def test_a_backlog_is_drained_and_timed_by_its_last_message(daemon):
    [run] = run_on(daemon, "sub", backlog=3000)
    assert run.problems == []
    assert run.received == 3000
    assert 0 < run.seconds < 5
    assert run.integrity.lost == 0


def test_producers_may_go_on_while_a_backlog_is_drained(daemon):
    [run] = run_on(daemon, "backlog", backlog=2000, rate=1000)
    assert run.problems == []
    assert run.received == 2300
    assert run.integrity.sent == 2300


def test_a_run_may_end_with_its_messages(daemon):
    [run] = run_on(daemon, "e2e", messages=200, rate=2000)
    assert run.problems == []
    assert run.integrity.sent == run.received == 200


def test_requests_are_answered(daemon):
    [run] = run_on(daemon, "request-reply", rate=300)
    assert run.problems == []
    assert count_of(run, "reply") == 90
    assert run.integrity.received == run.integrity.sent == 120


def test_idle_connections_are_counted_and_weighed(daemon):
    [run] = run_on(daemon, "idle", connections=50, rate=500)
    assert run.problems == []
    assert run.figures["connections"] == 50
    assert next(iter(run.figures)) == "memory_per_connection_bytes"
    assert (run.published, run.received) == (0, 0)


def test_connections_are_opened_at_a_rate(daemon):
    [run] = run_on(daemon, "connection-storm", rate=200)
    assert run.problems == []
    assert count_of(run, "connect") == 60


def test_rejected_messages_end_as_dead_letters_and_are_not_lost(daemon):
    [run] = run_on(daemon, "dead-letters", rate=500)
    assert run.problems == []
    assert run.figures["rejected_deliveries"] > 0
    assert run.integrity.lost == 0


def test_parts_of_a_mixed_scenario_are_runs_of_one_moment(daemon):
    runs = run_on(daemon, "mixed")
    assert [run.scenario for run in runs] == ["mixed: e2e", "mixed: fanout", "mixed: stream-tail"]
    assert [run.problems for run in runs] == [[], [], []]
    assert runs[1].integrity.received == 50 * runs[1].integrity.sent


def test_the_broker_is_killed_and_comes_back_and_nothing_is_lost(tmp_path):
    with contextlib.ExitStack() as stack:
        running = SYSTEMS["braidmq"].start(stack, str(tmp_path), True)
        [run] = run_on(running, "restart", rate=200, seconds=1.5, kill_after_seconds=0.3)
    assert run.problems == []
    assert run.figures["recovery_seconds"] > 0
    assert run.integrity.lost == 0
    assert run.figures["reconnects"] > 0


def test_a_broker_that_nobody_can_start_again_is_not_killed(daemon):
    target = target_of(daemon)
    target.restart = None
    scenario = read_scenario("restart", {**SHORT, "kill_after_seconds": 0.1})
    with pytest.raises(LoadFailed, match="cannot be killed and started again"):
        carry_out(scenario, target)


def test_a_broker_that_is_not_there_is_told_at_once(daemon):
    target = Target(system="nobody", place=Place(url="braid://127.0.0.1:1", token="t"))
    with pytest.raises(LoadFailed, match=r"nobody refused: .*[Rr]efused"):
        carry_out(read_scenario("e2e", SHORT), target)


def test_a_broker_that_dies_is_a_problem_of_the_run(tmp_path):
    with contextlib.ExitStack() as stack:
        running = SYSTEMS["braidmq"].start(stack, str(tmp_path), True)
        target = target_of(running)
        scenario = read_scenario("e2e", {**SHORT, "seconds": 1.2, "patience_seconds": 1})
        [run] = carry_out(scenario, target, lambda second: os.kill(running.pid, signal.SIGKILL))
    assert any("disconnected" in words for words in run.problems)


def test_a_load_process_that_dies_ends_the_run_and_all_others(daemon, monkeypatch):
    crews = []

    class Watched(Crew):
        def __enter__(self):
            crews.append(self)
            return super().__enter__()

    monkeypatch.setattr(coordinator, "Crew", Watched)
    scenario = read_scenario("e2e", {**SHORT, "seconds": 1.2})
    with pytest.raises(LoadFailed, match=r"\(consumers\) ended with status -9"):
        carry_out(
            scenario,
            target_of(daemon),
            lambda second: os.kill(crews[0].workers[0].pid, signal.SIGKILL),
        )
    for worker in crews[0].workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)

"""A run that says more about the load than about the broker is marked; a broken promise is told."""

from braidmq.benchmarks.engine.task import Report
from braidmq.benchmarks.engine.validity import Cores, judge
from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results.result import Generator, ServerUse
from tests.unit.benchmarks.engine.run_support import a_run


def run_of(server=0.5, loads=(0.3,), lag=0.1, loop="open", disk_bytes=0, **changes):
    return a_run(
        loop=loop,
        seconds=10.0,
        server=ServerUse(cpu_seconds=10 * server, disk_bytes=disk_bytes),
        generators=[
            Generator(role="producers", clients=1, cpu_seconds=10 * load, lag_p99_ms=lag)
            for load in loads
        ],
        **changes,
    )


def doubts(run, is_pinned=True, busy=None, is_known=True, load_cores=1):
    seconds = 10 * (busy if busy is not None else run.server.cpu_seconds / 10)
    cores = Cores(
        is_pinned=is_pinned,
        load_cores=load_cores if is_pinned else 0,
        broker_core_seconds=seconds,
        is_known=is_known,
    )
    judge(run, [], "at-least-once", cores)
    return run.invalid


def test_a_quiet_machine_and_a_load_in_time_are_believed():
    assert doubts(run_of()) == []


def test_a_load_that_is_late_is_not():
    assert doubts(run_of(lag=1.5)) == ["the load was 1.50 ms late for its schedule (p99)"]
    assert doubts(run_of(lag=1.5, loop="closed", server=0.9)) == []


def test_a_load_that_is_busier_than_the_broker_is_not():
    [words] = doubts(run_of(server=0.6, loads=(0.5, 0.45)))
    assert words == "the load used 95% of a core, the broker 60%"
    assert doubts(run_of(server=0.97, loads=(0.5, 0.45))) == []
    assert doubts(run_of(server=0.6, loads=(0.5, 0.45)), load_cores=3) == []
    [words] = doubts(run_of(server=0.6, loads=(0.95, 0.1)), load_cores=3)
    assert words == "the load used 95% of a core, the broker 60%"
    assert doubts(run_of(server=0.6, loads=(0.5, 0.45)), is_pinned=False) == []


def test_others_on_the_core_of_the_broker_are_told():
    assert doubts(run_of(server=0.5), busy=0.7) == ["others used 20% of the core of the broker"]
    assert doubts(run_of(server=0.5), busy=0.7, is_pinned=False) == []


def test_a_closed_loop_with_nobody_busy_measures_its_window():
    [words] = doubts(run_of(server=0.4, loop="closed"))
    assert words.startswith("nobody was busy")
    assert doubts(run_of(server=0.85, loop="closed")) == []
    assert doubts(run_of(server=0.0, loop="closed"), is_known=False) == []


def test_a_closed_loop_that_waits_for_the_disk_measures_that():
    idle = {"server": 0.4, "loop": "closed"}
    assert doubts(run_of(**idle, knobs={"durable": True}, disk_bytes=4096)) == []
    assert doubts(run_of(**idle, knobs={"durable": True}, disk_bytes=0))
    assert doubts(run_of(**idle, knobs={"durable": False}, disk_bytes=4096))


def test_problems_of_processes_and_of_messages_are_kept_once():
    run = run_of(integrity=Integrity(sent=5, lost=2))
    reports = [
        Report(role="producers", clients=1, problems=["hung up"], refused=3),
        Report(role="consumers", clients=1, problems=["hung up"]),
    ]
    judge(run, reports, "at-least-once", Cores())
    assert run.problems == [
        "hung up",
        "3 messages were refused",
        "2 lost, 5 were sent",
    ]

"""Several processes become one run."""

from braidmq.benchmarks.engine.merging import (
    add_samples,
    forget_latencies,
    live_second,
    merge_into,
)
from braidmq.benchmarks.engine.server_use import ServerSample
from braidmq.benchmarks.engine.task import Progress, Report, SecondReport
from braidmq.benchmarks.histogram import Histogram
from tests.unit.benchmarks.engine.run_support import a_run


def dump(*values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram.dump()


def producers(**changes):
    return Report(role="producers", clients=1, main="response", **changes)


def consumers(**changes):
    return Report(role="consumers", clients=1, main="delivery", **changes)


def test_counts_are_added_and_histograms_merged():
    run = a_run()
    merge_into(
        run,
        [
            producers(published=5, confirmed=4, bytes_in=40, latency={"response": dump(100)}),
            producers(published=1, confirmed=1, bytes_in=10, latency={"response": dump(200)}),
        ],
        [consumers(received=3, bytes_out=30, latency={"delivery": dump(150)})],
    )
    assert (run.published, run.confirmed, run.received) == (6, 5, 3)
    assert (run.bytes_in, run.bytes_out) == (50, 30)
    assert Histogram.load(run.latency["response"]).count == 2
    assert Histogram.load(run.latency["delivery"]).largest == 150
    assert [each.role for each in run.generators] == ["producers", "producers", "consumers"]


def test_a_series_has_the_latency_that_the_scenario_is_about():
    run = a_run()
    of_producer = [
        SecondReport(second=0, published=2, confirmed=2, lag_p99_ms=0.5, latency=dump(10**6))
    ]
    of_consumers = [
        SecondReport(second=0, received=1, latency=dump(3 * 10**6)),
        SecondReport(second=1, received=1, errors=1, latency=dump(5 * 10**6)),
    ]
    merge_into(run, [producers(series=of_producer)], [consumers(series=of_consumers)])
    assert [(s.second, s.published, s.received, s.errors) for s in run.series] == [
        (0, 2, 1, 0),
        (1, 0, 1, 1),
    ]
    assert [(s.max_ms, s.lag_p99_ms) for s in run.series] == [(3.0, 0.5), (5.0, 0.0)]


def test_replies_are_what_those_who_asked_received():
    run = a_run()
    asked = Report(role="requesters", clients=1, published=9, received=8, main="reply")
    echo = Report(
        role="echo", clients=1, received=9, latency={"delivery": dump(1)}, main="delivery"
    )
    merge_into(run, [asked], [echo])
    assert (run.published, run.received) == (9, 8)
    assert "delivery" not in run.latency


def test_latencies_of_some_may_be_left_out():
    report = consumers(
        received=3, latency={"delivery": dump(5)}, series=[SecondReport(second=0, latency=dump(5))]
    )
    forget_latencies(report)
    assert (report.received, report.latency, report.series[0].latency) == (3, {}, [])


def test_what_happened_besides_is_a_figure():
    run = a_run()
    merge_into(run, [producers(reconnects=2)], [consumers(rejected=3, early=1, reconnects=1)])
    assert run.figures == {"rejected_deliveries": 3, "early_messages": 1, "reconnects": 3}


def test_the_broker_is_put_into_its_seconds():
    run = a_run()
    report = consumers(series=[SecondReport(second=n) for n in (-1, 0, 1)])
    merge_into(run, [], [report])
    samples = [
        ServerSample(at_seconds=n, cpu_seconds=cpu, memory_bytes=memory)
        for n, cpu, memory in ((10.0, 1.0, 5), (11.0, 1.25, 6), (12.0, 2.25, 7))
    ]
    add_samples(run, samples, 10.0)
    assert [(s.server_cpu, s.server_bytes) for s in run.series] == [(0, 0), (0.25, 6), (1.0, 7)]


def test_samples_between_the_seconds_belong_to_the_second_they_are_in():
    """A broker that was killed in second 1, and came back as another process."""
    run = a_run()
    merge_into(run, [], [consumers(series=[SecondReport(second=n) for n in (0, 1, 2)])])
    samples = [
        ServerSample(at_seconds=n, cpu_seconds=cpu, memory_bytes=memory)
        for n, cpu, memory in (
            (5.0, 1, 5),
            (6.0, 1.5, 6),
            (6.5, 1.75, 7),
            (7.0, 0.5, 2),
            (8.0, 1, 3),
        )
    ]
    add_samples(run, samples, 5.0)
    assert [(s.server_cpu, s.server_bytes) for s in run.series] == [(0.5, 6), (0.75, 2), (0.5, 3)]


def test_who_watches_sees_sums_and_the_slowest():
    said = [
        ("producers", Progress(second=1, published=5, confirmed=5, lag_p99_ms=0.1, p99_ms=9.0)),
        ("consumers", Progress(second=1, received=3, p99_ms=2.0)),
        ("consumers", Progress(second=0, received=2, p99_ms=3.0, errors=1)),
        ("echo", Progress(second=1, published=100, received=100, p99_ms=100.0)),
    ]
    second = live_second(said, 0.5)
    assert (second.second, second.published, second.received, second.errors) == (1, 5, 5, 1)
    assert (second.p99_ms, second.lag_p99_ms, second.server_cpu) == (3.0, 0.1, 0.5)

"""What a load process says of what it counted."""

from braidmq.benchmarks.engine.tally import Tally
from braidmq.benchmarks.engine.task import decode_line, encode_line
from braidmq.benchmarks.histogram import Histogram
from tests.unit.benchmarks.engine.load_support import GO, SECOND, a_task


def test_progress_is_of_a_second() -> None:
    tally = Tally(a_task(), GO)
    tally.timeline.current.published += 3
    tally.late(GO, GO + 2_000_000)
    tally.timeline.record(GO, GO + 5_000_000)
    tally.turn(GO + SECOND)
    tally.timeline.current.published += 9
    assert tally.progress(0) == tally.progress(0)
    progress = tally.progress(0)
    assert (progress.second, progress.published) == (0, 3)
    assert (progress.lag_p99_ms, progress.max_ms) == (2.0, 5.0)
    tally.turn(GO + 2 * SECOND)
    assert tally.progress(1).lag_p99_ms == 0.0


def test_each_second_says_how_late_the_load_was_in_it() -> None:
    tally = Tally(a_task(), GO)
    tally.late(GO, GO + 2_000_000)
    tally.turn(GO + SECOND)
    tally.turn(GO + 2 * SECOND)
    tally.late(GO + 2 * SECOND, GO + 2 * SECOND + 3_000_000)
    assert [each.lag_p99_ms for each in tally.report(1).series] == [2.0, 0.0, 3.0]


def test_report_names_its_metrics() -> None:
    for role, names in {
        "producers": {"response", "service", "lag"},
        "consumers": {"delivery"},
        "requesters": {"reply", "response", "service", "lag"},
        "connections": {"connect", "lag"},
    }.items():
        tally = Tally(a_task(role=role), GO)
        tally.timeline.record(GO, GO + 1)
        if "response" in names:
            tally.response.record(GO, GO + 2)
            tally.service.record(GO, GO + 3)
        if "lag" in names:
            tally.late(GO, GO + 4)
        report = tally.report(1)
        assert set(report.latency) == names
        assert report.main in names
        assert encode_line(report)


def test_delayed_messages_have_a_metric_of_their_own() -> None:
    assert Tally(a_task(role="consumers", delay_ms=5), GO).main == "delay"
    assert Tally(a_task(role="producers", delay_ms=5), GO).main == "response"


def test_only_the_window_counts() -> None:
    tally = Tally(a_task(warmup_seconds=1, seconds=1), GO)
    for second in range(3):
        now_ns = GO + second * SECOND
        tally.timeline.turn(now_ns)
        tally.timeline.current.received += 1 + second
        tally.timeline.record(now_ns, now_ns + 10 + second)
        tally.late(now_ns, now_ns + 20 + second)
    report = tally.report(1)
    assert report.received == 2
    assert Histogram.load(report.latency["response"]).largest == 11
    assert Histogram.load(report.latency["lag"]).largest == 21
    assert [each.second for each in report.series] == [-1, 0, 1]


def test_first_problems_are_enough_and_all_count_as_errors() -> None:
    tally = Tally(a_task(), GO)
    for number in range(30):
        tally.problem(f"problem {number // 2}")
    assert len(tally.problems) == 10
    assert [each.errors for each in tally.report(0).series] == [30]
    assert decode_line(encode_line({"report": tally.report(0)})).report is not None


def test_what_goes_wrong_before_it_begins_is_not_forgotten() -> None:
    tally = Tally(a_task(warmup_seconds=1, seconds=2), GO - SECOND)
    tally.problem("gone")
    tally.go(GO)
    assert (tally.begin_ns, tally.end_ns) == (GO + SECOND, GO + 3 * SECOND)
    assert tally.timeline.second == -1
    assert tally.report(0).problems == ["gone"]

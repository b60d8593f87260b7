"""Timelines: what is filed where, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.timeline import Timeline, Window
from braidmq.benchmarks.histogram import Histogram

SECOND = 1_000_000_000
BEGIN = 50 * SECOND


def test_latency_belongs_to_the_second_in_which_it_was_due() -> None:
    timeline = Timeline(BEGIN, 3)
    timeline.record(BEGIN + 100, BEGIN + 2 * SECOND)  # a stall of two seconds
    timeline.record(BEGIN + SECOND, BEGIN + SECOND + 5)
    assert timeline.latency_of(0).largest == 2 * SECOND - 100
    assert timeline.latency_of(1).dump()[:2] == [5, 5]
    assert len(timeline.latency_of(2)) == 0


def test_counts_belong_to_the_second_in_which_they_were_made() -> None:
    timeline = Timeline(BEGIN, 2)
    timeline.turn(BEGIN - SECOND // 2)
    timeline.current.published += 1
    assert (timeline.second, timeline.turns_ns) == (-1, BEGIN)
    timeline.turn(BEGIN)
    timeline.current.published += 2
    timeline.turn(BEGIN + SECOND)
    timeline.current.published += 4
    timeline.turn(BEGIN + 2 * SECOND)
    timeline.current.published += 8
    assert timeline.window()[0].published == 6
    assert [(each.second, each.published) for each in timeline.series()] == [
        (-1, 1),
        (0, 2),
        (1, 4),
        (2, 8),
    ]


def test_window_ends_in_the_middle_of_a_second() -> None:
    timeline = Timeline(BEGIN, 1.5)
    end = BEGIN + 3 * SECOND // 2
    timeline.turn(end - 1)
    assert timeline.second == 1
    timeline.current.received += 1
    timeline.turn(end)
    assert timeline.second == 2
    timeline.current.received += 1
    timeline.record(end - 1, end)
    timeline.record(end, end + 7)
    counts, latencies = timeline.window()
    assert counts.received == 1
    assert latencies.dump()[:2] == [1, 1]


@given(
    st.floats(min_value=0.1, max_value=4),
    st.lists(st.tuples(st.integers(-3 * SECOND, 30 * SECOND), st.integers(0, SECOND))),
)
def test_nothing_is_lost_however_the_seconds_come(
    seconds: float, events: list[tuple[int, int]]
) -> None:
    timeline = Timeline(BEGIN, seconds)
    every, within = Histogram(), Histogram()
    for due, took in events:
        timeline.record(BEGIN + due, BEGIN + due + took)
        every.record(took)
        if 0 <= due < int(seconds * SECOND):
            within.record(took)
        low, high, histogram = timeline.bounds(BEGIN + due)
        assert low <= BEGIN + due < high
        assert len(histogram)
    found = Histogram.merged(Histogram.load(s.latency) for s in timeline.series() if s.latency)
    assert found.dump() == every.dump()
    assert timeline.window()[1].dump() == within.dump()


def test_old_seconds_take_late_answers() -> None:
    timeline = Timeline(BEGIN, 100)
    for second in range(40):
        timeline.record(BEGIN + second * SECOND, BEGIN + second * SECOND + 10)
    timeline.record(BEGIN, BEGIN + 39 * SECOND)
    assert len(timeline.latency_of(0)) == 2
    assert timeline.latency_of(0).largest == 39 * SECOND


@pytest.mark.parametrize("times", [1, 500])
def test_batch_counts_all_its_messages(times: int) -> None:
    timeline = Timeline(BEGIN, 1)
    timeline.record(BEGIN, BEGIN + 3, times)
    assert len(timeline.window()[1]) == times


def test_window_has_only_what_was_due_within_it() -> None:
    window = Window(BEGIN, 0.5)
    for due in (BEGIN - 1, BEGIN, BEGIN + SECOND // 2 - 1, BEGIN + SECOND // 2):
        window.record(due, due + 3, 2)
    assert len(window.histogram) == 4

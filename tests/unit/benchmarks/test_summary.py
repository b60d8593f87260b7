"""Rounds boiled down, and tables laid out."""

from braidmq.benchmarks.environment import Environment
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.summary import (
    Spread,
    aligned,
    doubts,
    latency,
    machine_line,
    of_valid,
    spread,
    times,
    unique,
    valid_or_all,
)


def dump(*milliseconds):
    histogram = Histogram()
    for each in milliseconds:
        histogram.record(each * 1_000_000)
    return histogram.dump()


def test_a_spread_is_the_middle_and_both_ends():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([]) == Spread(0.0, 0.0, 0.0)


def test_invalid_rounds_count_only_when_there_are_no_others():
    assert valid_or_all([(True, "a"), (False, "b")]) == ["a"]
    assert valid_or_all([(False, "a"), (False, "b")]) == ["a", "b"]
    assert of_valid([(True, 2.0), (False, 9.0), (True, 4.0)]) == Spread(3.0, 2.0, 4.0)
    assert of_valid([(False, 9.0)]) == Spread(9.0, 9.0, 9.0)
    assert of_valid([]) is None


def test_a_ratio_for_people():
    assert times(Spread(3.0, 2.0, 4.0)) == "3.00 (2.00-4.00)" and times(None) == ""


def test_latency_is_of_all_rounds_together_and_skips_what_was_not_measured():
    found = latency([dump(1, 2), [], dump(9)])
    assert (found.count, found.max) == (3, 9.0)
    assert 1.99 < found.p50 < 2.01
    assert latency([]).count == latency([]).max == 0


def test_texts_are_said_once_and_not_too_many():
    assert unique(["a", "b", "a"]) == ["a", "b"]
    assert len(unique([str(number) for number in range(99)])) == 10


def test_what_is_wrong_is_said_of_whom():
    assert doubts("a, b", ["lost 1"], ["busy", "late"]) == [
        "PROBLEM: a, b: lost 1",
        "invalid: a, b: busy",
        "invalid: a, b: late",
    ]
    assert doubts("a, b", [], []) == []


def test_names_begin_at_the_left_and_figures_end_at_the_right():
    rows = [("name", "who", "msg/s"), ("x", "y", "1")]
    assert aligned(rows, 2) == ["name  who  msg/s", "x     y        1"]
    assert aligned(rows, 1) == ["name  who  msg/s", "x       y      1"]


def test_the_machine_is_named():
    machine = Environment("cpu", 2, "Linux 6", "CPython 3", {}, "", "", 0.1)
    assert machine_line(machine) == (
        "cpu, 2 cores, Linux 6, CPython 3, unknown filesystem, load 0.1"
    )

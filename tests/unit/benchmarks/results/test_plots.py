"""Repeats laid over each other, and long runs thinned without hiding the worst."""

import pytest

from braidmq.benchmarks.results.plots import POINTS_MAX, rate_over_time, spectrum, worst_over_time
from braidmq.benchmarks.results.result import Second
from tests.bench_results import a_run, histogram


def run_of(*rates, repeat=0, **changes):
    series = [
        Second(second=at, received=rate, max_ms=rate / 10, **changes)
        for at, rate in enumerate(rates, -1)
    ]
    return a_run(repeat=repeat, series=series, seconds=len(series))


def highest(second):
    return second.max_ms


def test_the_middle_of_repeats_and_how_far_they_are_apart():
    points, band = rate_over_time([run_of(1, 2), run_of(3, 6), run_of(2, 9)])
    assert points == [(-1, 2), (0, 6)]
    assert band == [(-1, 1, 3), (0, 2, 9)]


def test_one_run_has_no_band():
    points, band = rate_over_time([run_of(1, 2)])
    assert points == [(-1, 1), (0, 2)] and band == []
    assert rate_over_time([a_run(series=[])]) == ([], [])


def test_repeats_of_different_lengths():
    points, _ = rate_over_time([run_of(1, 2), run_of(3)])
    assert points == [(-1, 2), (0, 2)]


def test_a_long_run_is_thinned_but_its_worst_second_stays():
    run = run_of(*[10] * 1000)
    run.series[777].max_ms = 99.0
    points, _ = worst_over_time([run], highest)
    assert len(points) <= POINTS_MAX + 1
    assert max(value for _, value in points) == 99.0
    rates, _ = rate_over_time([run])
    assert {value for _, value in rates} == {10.0}


def test_a_second_in_which_nothing_came_has_no_latency_but_a_rate():
    run = run_of(5, 0, 5)
    assert [at for at, _ in worst_over_time([run], highest)[0]] == [-1, 1]
    assert rate_over_time([run])[0] == [(-1, 5), (0, 0), (1, 5)]


def test_what_comes_after_the_end_was_not_measured():
    run = run_of(5, 5, 5, 1, 0)
    run.seconds = 2.0
    assert rate_over_time([run])[0] == [(-1, 5), (0, 5), (1, 5)]


def test_what_only_goes_in_counts_as_confirmed_or_else_as_written():
    run = a_run(received=0, series=[Second(second=0, published=3, confirmed=2)])
    assert rate_over_time([run])[0] == [(0, 2)]
    run = a_run(received=0, series=[Second(second=0, published=3)])
    assert rate_over_time([run])[0] == [(0, 3)]


def test_a_spectrum_ends_with_the_slowest():
    runs = [a_run(latency={"reply": histogram(*range(1, 51))}), a_run(latency={})]
    points = spectrum([*runs, a_run(latency={"reply": histogram(*range(51, 101))})], "reply")
    assert points == sorted(points)
    assert points[-1][1] == 100.0
    assert dict(points)[1.0] == pytest.approx(90, rel=0.01)
    assert spectrum(runs, "delivery") == []

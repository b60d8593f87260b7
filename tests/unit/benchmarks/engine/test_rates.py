"""Rates, ramps, objectives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.rates import Objective, parse_objective, parse_rate
from braidmq.benchmarks.engine.task import Step


def test_a_number_lasts_as_long_as_the_run():
    assert parse_rate("5k", 3.0) == [Step(3.0, 5000)]


def test_max_has_no_steps():
    assert parse_rate("max", 3.0) == []


def test_a_ramp_brings_its_own_durations():
    assert parse_rate("1k:30s, 5k:500ms", 3.0) == [Step(30, 1000), Step(0.5, 5000)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "above 0"),
        ("20M", "at most 10,000,000"),
        ("1k:30s,5k", "has no duration"),
        ("1k:0s", "lasts no time"),
        ("quick", "is not a number"),
        (",".join(["1:1s"] * 1001), "at most 1000 steps"),
    ],
)
def test_a_wrong_rate_is_refused_in_plain_words(text, words):
    with pytest.raises(ValueError, match=words):
        parse_rate(text, 1.0)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 3600)), min_size=1, max_size=9))
def test_ramps_are_read_as_they_are_written(steps):
    text = ",".join(f"{rate}:{seconds}s" for rate, seconds in steps)
    assert parse_rate(text, 1.0) == [Step(seconds, rate) for rate, seconds in steps]


def test_an_objective_is_a_quantile_and_its_limit():
    assert parse_objective("p99=10ms") == Objective(0.99, 10)
    assert parse_objective("p50 = 1s").milliseconds == 1000


@pytest.mark.parametrize("text", ["", "p99", "99=10ms", "p100=1s", "p0=1s", "p99=10", "pnan=1s"])
def test_a_wrong_objective_is_refused(text):
    with pytest.raises(ValueError, match="is not"):
        parse_objective(text)

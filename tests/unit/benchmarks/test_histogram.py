"""The histogram against exact quantiles."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.histogram import VALUE_MAX, Histogram, bucket

VALUES = st.lists(st.integers(0, VALUE_MAX), min_size=1, max_size=200)
FRACTIONS = st.floats(0, 1)


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(VALUES, FRACTIONS)
def test_a_quantile_is_off_by_one_percent_at_most(values, fraction):
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    assert abs(filled(values).quantile(fraction) - exact) <= exact * 0.01


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), FRACTIONS)
def test_small_values_are_exact(values, fraction):
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    assert filled(values).quantile(fraction) == exact


@given(VALUES, VALUES)
def test_merged_histograms_count_what_both_counted(some, others):
    merged = Histogram.merged([filled(some), filled(others)])
    assert merged.dump() == filled(some + others).dump()
    assert len(merged) == len(some) + len(others)


@given(VALUES)
def test_a_dump_loads_as_the_same_histogram(values):
    histogram = filled(values)
    loaded = Histogram.load(histogram.dump())
    assert loaded.dump() == histogram.dump()
    assert (loaded.smallest, loaded.largest) == (min(values), max(values))


def test_an_empty_histogram_has_zero_quantiles():
    assert Histogram().quantile(0.99) == 0
    assert Histogram.load(Histogram().dump()).dump() == Histogram().dump()


def test_values_out_of_range_count_at_the_ends():
    histogram = filled([-5, VALUE_MAX + 5])
    assert (histogram.quantile(0), histogram.quantile(1)) == (0, VALUE_MAX)


def test_a_value_can_be_counted_several_times():
    histogram = Histogram()
    histogram.record(10, 99)
    histogram.record(1000)
    assert histogram.quantile(0.99) == 10
    assert histogram.quantile(1) == 1000


@pytest.mark.parametrize("dumped", [[], [1], [1, 2, 3], [1, 2, -1, 5], [1, 2, 10**6, 5]])
def test_what_is_no_dump_is_refused(dumped):
    with pytest.raises(ValueError, match="not a dumped histogram"):
        Histogram.load(dumped)


@given(st.lists(st.integers(min_value=-5, max_value=2**50)))
def test_many_at_once_count_as_one_by_one(values):
    together = Histogram()
    together.record_all(values)
    assert together.dump() == filled(values).dump()
    assert len(together) == len(values)


@given(st.integers(0, VALUE_MAX))
def test_a_value_lies_within_its_bucket(value):
    [_, _, index, _] = filled([value]).dump()
    lowest, highest = bucket(index)
    assert lowest <= value <= highest
    assert highest - lowest <= lowest / 128


@given(VALUES, VALUES)
def test_dumps_are_put_together_and_empty_ones_were_not_measured(some, others):
    dumps = [filled(some).dump(), [], Histogram().dump(), filled(others).dump()]
    assert Histogram.of_dumps(dumps).dump() == filled(some + others).dump()
    with pytest.raises(ValueError, match="not a dumped histogram"):
        Histogram.of_dumps([*dumps, [1]])


def test_buckets_that_have_any():
    assert filled([7, 300, 7]).filled() == [(7, 2), (278, 1)]
    assert Histogram().filled() == []

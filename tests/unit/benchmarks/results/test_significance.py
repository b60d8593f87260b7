"""Chance or not: held against counting by hand, and against figures that scipy 1.17.1 gave."""

from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.results.significance import mann_whitney, ratio_interval, smallest_p

FEW = st.lists(st.integers(0, 9), min_size=1, max_size=5)


def by_hand(one, other):
    """Deal the figures in every way, and count those that are as far out."""
    values = [*one, *other]
    ranks = [
        sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2
        for value in values
    ]
    found = sum(ranks[: len(one)])
    sums = [sum(some) for some in combinations(ranks, len(one))]
    tail = min(sum(s <= found for s in sums), sum(s >= found for s in sums))
    return min(1.0, 2 * tail / len(sums))


@given(FEW, FEW)
def test_exact_with_ties(one, other):
    assert mann_whitney(one, other) == pytest.approx(by_hand(one, other))


@given(FEW, FEW)
def test_it_does_not_matter_who_is_first(one, other):
    assert mann_whitney(one, other) == pytest.approx(mann_whitney(other, one))
    assert mann_whitney(one, one) == 1.0


def test_as_scipy():
    assert mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(0.02857142857142857)
    one = [number % 7 for number in range(30)]
    other = [number % 7 + number % 3 for number in range(25)]
    assert mann_whitney(one, other) == pytest.approx(0.1595282935151966)
    apart = mann_whitney(range(25), range(20, 45))
    assert apart == pytest.approx(6.178570519634018e-09)


def test_many_equal_figures():
    assert mann_whitney([1.0] * 30, [1.0] * 30) == 1.0
    assert mann_whitney([], [1.0]) == mann_whitney([1.0], []) == 1.0


@pytest.mark.parametrize(("one", "other"), [(3, 3), (4, 4), (1, 1), (2, 7)])
def test_the_least_that_can_be_found(one, other):
    assert smallest_p(one, other) == min(1.0, 2 / comb(one + other, one))
    found = mann_whitney(range(one), range(100, 100 + other))
    assert found == pytest.approx(smallest_p(one, other))


def test_the_interval_of_a_ratio():
    one, other = [98, 99, 100, 101, 102], [196, 198, 200, 202, 204]
    found = ratio_interval(one, other)
    assert found == ratio_interval(one, other)  # no dice
    assert found is not None
    low, high = found
    assert 1.9 < low < 2.0 < high < 2.1
    assert ratio_interval(one, one) != (1.0, 1.0)


def test_where_there_is_no_interval():
    assert ratio_interval([1], [1, 2]) is None
    assert ratio_interval([1, 2], [1]) is None
    assert ratio_interval([0, 0], [1, 2]) is None

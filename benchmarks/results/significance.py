"""Whether two groups of repeats differ, or whether chance may have made the difference.

Rules:

1. Mann-Whitney's U asks only which figures are larger, so it needs no bell curve, and one odd
   repeat does not decide. Exact where that is feasible, ties included: every way to deal the ranks
   to two groups is counted. Else a normal distribution, corrected for ties and continuity.
2. The interval of a ratio of medians comes from a bootstrap with a seed of its own: the same
   figures give the same interval.
"""

from collections.abc import Sequence
from math import comb, erfc, sqrt
from random import Random
from statistics import median
from typing import Final

__all__ = ["mann_whitney", "ratio_interval", "smallest_p"]

_EXACT_MAX: Final = 40  # figures in both groups together
_RESAMPLES: Final = 2_000
_SEED: Final = 1


def smallest_p(one: int, other: int) -> float:
    """What groups of such sizes give when they do not overlap at all: no test can find less."""
    return min(1.0, 2 / comb(one + other, one))


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sided p: how likely groups of one kind would be as far apart. 1.0 without figures."""
    if not one or not other:
        return 1.0
    ranks = _doubled_ranks([*one, *other])
    if len(ranks) <= _EXACT_MAX:
        return _exact(ranks, len(one))
    return _normal(ranks, len(one))


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value: equal ones share the middle of theirs, which may be a half."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for rank, value in enumerate(ordered, 1):
        first.setdefault(value, rank)
        last[value] = rank
    return [first[value] + last[value] for value in values]


def _exact(ranks: Sequence[int], size: int) -> float:
    """Of all choices of ``size`` ranks: how many have a sum as far out as the first ones have."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in ranks:
        for taken in range(size, 0, -1):
            into = ways[taken]
            for total, count in ways[taken - 1].items():
                into[total + rank] = into.get(total + rank, 0) + count
    found = sum(ranks[:size])
    below = sum(count for total, count in ways[size].items() if total <= found)
    above = sum(count for total, count in ways[size].items() if total >= found)
    return min(1.0, 2 * min(below, above) / comb(len(ranks), size))


def _normal(ranks: Sequence[int], size: int) -> float:
    total = len(ranks)
    mean = size * (total + 1) / 2
    ties = {rank: ranks.count(rank) for rank in set(ranks)}
    tied = sum(count**3 - count for count in ties.values()) / (total * (total - 1))
    variance = size * (total - size) / 12 * (total + 1 - tied)
    if variance <= 0:  # all are equal
        return 1.0
    distance = max(0.0, abs(sum(ranks[:size]) / 2 - mean) - 0.5)
    return min(1.0, erfc(distance / sqrt(2 * variance)))


def ratio_interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float] | None:
    """Where the median of ``other`` divided by that of ``one`` lies, with 95 % confidence.

    None where it cannot be said: without two figures of each, or when a median is 0.
    """
    if len(one) < 2 or len(other) < 2:
        return None
    chance = Random(_SEED)
    found = []
    for _ in range(_RESAMPLES):
        below = median(chance.choices(one, k=len(one)))
        if below <= 0:
            return None
        found.append(median(chance.choices(other, k=len(other))) / below)
    found.sort()
    return found[int(0.025 * _RESAMPLES)], found[int(0.975 * _RESAMPLES) - 1]

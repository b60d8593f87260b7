"""What charts show of runs: repeats laid over each other, long runs thinned, quantiles spread out.

Rule: thinning never hides the worst. Of several seconds that share a point, a rate is their mean,
but of a latency it is the highest.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean, median
from typing import Final

from ..histogram import Histogram
from .axes import tail_place
from .hdr import percentiles
from .result import Run, Second

__all__ = ["POINTS_MAX", "Points", "rate_over_time", "spectrum", "worst_over_time"]

POINTS_MAX: Final = 200

# The median of the repeats, then how far they were apart: place, lowest, highest.
Points = tuple[list[tuple[float, float]], list[tuple[float, float, float]]]
_Course = list[tuple[int, float | None]]  # what a run did, by its seconds; None: nothing to say


def rate_over_time(runs: Sequence[Run]) -> Points:
    """Messages that came out, else that went in; of seconds that share a point, their mean."""
    courses: list[_Course] = [
        [(each.second, _rate(run, each)) for each in _seconds(run)] for run in runs
    ]
    return _laid_over(courses, fmean)


def worst_over_time(runs: Sequence[Run], of_second: Callable[[Second], float]) -> Points:
    """The highest of seconds that share a point, without those in which nothing was found (0)."""
    courses: list[_Course] = [
        [(each.second, of_second(each) or None) for each in _seconds(run)] for run in runs
    ]
    return _laid_over(courses, max)


def _seconds(run: Run) -> list[Second]:
    """Without those after the end, in which only what was under way came in."""
    return [each for each in run.series if each.second < run.seconds]


def _rate(run: Run, second: Second) -> float:
    return second.received if run.received else second.confirmed or second.published


def _laid_over(courses: Sequence[_Course], together: Callable[[list[float]], float]) -> Points:
    """Repeats, each with ``together`` of the seconds that share a point."""
    seconds = [second for course in courses for second, _ in course]
    if not seconds:
        return [], []
    width = 1 + (max(seconds) - min(seconds)) // POINTS_MAX
    by_place: dict[int, list[float]] = {}
    for course in courses:
        for place, group in groupby(course, lambda pair: pair[0] // width * width):
            if values := [value for _, value in group if value is not None]:
                by_place.setdefault(place, []).append(together(values))
    places = sorted(by_place)
    points = [(float(place), median(by_place[place])) for place in places]
    if len(courses) < 2:
        return points, []
    return points, [(float(at), min(by_place[at]), max(by_place[at])) for at in places]


def spectrum(runs: Sequence[Run], metric: str) -> list[tuple[float, float]]:
    """Milliseconds of all repeats by their place on a ``tail``; the largest stands at the end."""
    merged = Histogram.of_dumps(run.latency.get(metric, []) for run in runs)
    if not merged.count:
        return []
    *rows, (_, largest, total) = percentiles(merged)
    found = [(tail_place(share), value / 1e6) for share, value, _ in rows]
    return [*found, (tail_place(1 - 1 / (2 * total)), largest / 1e6)]

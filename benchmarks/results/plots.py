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

__all__ = ["POINTS_MAX", "Points", "mean", "over_time", "second_rate", "spectrum"]

POINTS_MAX: Final = 200

Points = tuple[list[tuple[float, float]], list[tuple[float, float, float]]]
Together = Callable[[list[float]], float]


def second_rate(run: Run) -> Callable[[Second], float]:
    """What a run does in a second: messages that came out, else that went in."""
    if run.received:
        return lambda second: second.received
    return lambda second: second.confirmed or second.published


def over_time(
    runs: Sequence[Run], value: Callable[[Run], Callable[[Second], float]], together: Together
) -> Points:
    """The median of the repeats second by second, and how far they were apart.

    ``together`` makes one figure of the seconds that share a point; charts of latency and memory
    take the highest. Where it is max, seconds in which nothing was found (0) are left out.
    """
    measured = [(run, _measured(run)) for run in runs]
    seconds = [second.second for _, series in measured for second in series]
    if not seconds:
        return [], []
    width = 1 + (max(seconds) - min(seconds)) // POINTS_MAX
    by_place: dict[int, list[float]] = {}
    for run, series in measured:
        of_second = value(run)
        for place, group in groupby(series, lambda second: second.second // width * width):
            values = [float(of_second(each)) for each in group]
            if together is not max or any(values):
                by_place.setdefault(place, []).append(together(values))
    places = sorted(by_place)
    points = [(float(place), median(by_place[place])) for place in places]
    if len(runs) < 2:
        return points, []
    return points, [(float(at), min(by_place[at]), max(by_place[at])) for at in places]


def _measured(run: Run) -> list[Second]:
    """Its seconds, without those after the end, in which only what was under way came in."""
    return [second for second in run.series if second.second < run.seconds]


def mean(values: list[float]) -> float:
    """For ``over_time``: rates."""
    return fmean(values)


def spectrum(runs: Sequence[Run], metric: str) -> list[tuple[float, float]]:
    """Milliseconds of all repeats by their place on a ``tail``; the largest stands at the end."""
    dumps = [run.latency[metric] for run in runs if run.latency.get(metric)]
    merged = Histogram.merged(Histogram.load(dump) for dump in dumps)
    if not len(merged):
        return []
    *rows, (_, largest, total) = percentiles(merged.dump())
    found = [(tail_place(share), value / 1e6) for share, value, _ in rows]
    return [*found, (tail_place(1 - 1 / (2 * total)), largest / 1e6)]

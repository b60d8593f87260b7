"""What every table of figures needs: rounds boiled down to a few numbers, and aligned columns."""

from collections.abc import Sequence
from statistics import median
from typing import Final, TypeVar

import msgspec

from .environment import Environment
from .histogram import Histogram

__all__ = [
    "Latency",
    "Spread",
    "aligned",
    "doubts",
    "latency",
    "machine_line",
    "of_valid",
    "spread",
    "times",
    "unique",
    "valid_or_all",
]

T = TypeVar("T")
_TEXTS_MAX: Final = 10


class Spread(msgspec.Struct):
    """A figure of several rounds."""

    median: float
    min: float
    max: float


class Latency(msgspec.Struct):
    """Milliseconds, of all rounds together."""

    count: int
    p50: float
    p99: float
    p999: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """The middle of what rounds found, and how far they were apart; zeros without rounds."""
    if not values:
        return Spread(0.0, 0.0, 0.0)
    return Spread(median(values), min(values), max(values))


def valid_or_all(rounds: Sequence[tuple[bool, T]]) -> list[T]:
    """Of rounds (valid or not, and what they found) the valid ones, if there are any, else all."""
    return [found for is_valid, found in rounds if is_valid] or [found for _, found in rounds]


def of_valid(rounds: Sequence[tuple[bool, float]]) -> Spread | None:
    """What rounds found that count; None without rounds."""
    values = valid_or_all(rounds)
    return spread(values) if values else None


def times(found: Spread | None) -> str:
    """A ratio for people."""
    return f"{found.median:.2f} ({found.min:.2f}-{found.max:.2f})" if found else ""


def latency(dumps: Sequence[list[int]]) -> Latency:
    """Dumped histograms of nanoseconds, all together; empty ones were not measured."""
    every = Histogram.of_dumps(dumps)
    p50, p99, p999 = (every.quantile(share) / 1e6 for share in (0.5, 0.99, 0.999))
    return Latency(len(every), p50, p99, p999, every.largest / 1e6)


def unique(texts: Sequence[str]) -> list[str]:
    """Each text once; the first ones are enough."""
    return list(dict.fromkeys(texts))[:_TEXTS_MAX]


def doubts(where: str, problems: Sequence[str], invalid: Sequence[str]) -> list[str]:
    """What is wrong with a broker, and with its figures, as lines below a table."""
    return [
        *(f"PROBLEM: {where}: {words}" for words in problems),
        *(f"invalid: {where}: {words}" for words in invalid),
    ]


def machine_line(machine: Environment) -> str:
    """Where the figures come from."""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, {machine.python},"
        f" {machine.filesystem or 'unknown filesystem'}, load {machine.load_average}"
    )


def aligned(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """A table as lines; its first ``names`` columns begin at the left, figures end at the right."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]

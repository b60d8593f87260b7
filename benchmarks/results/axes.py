"""Axes of charts: where a value lies between 0 and 1, which ticks help, and how to say a value."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Final

import msgspec

__all__ = [
    "Axis",
    "Words",
    "byte_words",
    "figure_words",
    "linear",
    "logarithmic",
    "mib_words",
    "ms_words",
    "number_words",
    "rate_words",
    "second_words",
    "tail",
    "tail_place",
    "timeline",
    "times_words",
    "us_words",
]

Words = Callable[[float], str]
_TICKS: Final = 4
_DECADES_WITH_STEPS: Final = 2.2  # a logarithmic axis this short has ticks at 2 and 5 as well
_NINES_MAX: Final = 12


class Axis(msgspec.Struct, frozen=True):
    """Values from ``low`` to ``high``."""

    low: float
    high: float
    is_log: bool
    ticks: tuple[tuple[float, str], ...]
    words: Words  # for one value, with its unit

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what is beyond lies at the end."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = log10(max(value, low)), log10(low), log10(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))


def number_words(value: float) -> str:
    """Three digits: 0.123, 1.23, 12.3k, 1.23M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:
            return f"{_digits(value / limit)}{unit}"
    return _digits(value)


def _digits(value: float) -> str:
    size = abs(value)
    places = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 else 3
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def rate_words(value: float) -> str:
    """Messages a second."""
    return f"{number_words(value)}/s"


def ms_words(value: float) -> str:
    """Milliseconds, or seconds where there are many."""
    return f"{_digits(value / 1000)} s" if value >= 1000 else f"{_digits(value)} ms"


def us_words(value: float) -> str:
    """Microseconds, or milliseconds where there are many."""
    return ms_words(value / 1000) if value >= 1000 else f"{_digits(value)} µs"


def byte_words(value: float) -> str:
    """Bytes, in powers of 1024."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return f"{_digits(value / 1024**power)} {unit}"
    return f"{value:.0f} B"


def mib_words(value: float) -> str:
    """MiB."""
    return f"{number_words(value)} MiB"


def second_words(value: float) -> str:
    """A second of a run."""
    return f"{value:g} s"


def times_words(value: float) -> str:
    """A ratio."""
    return f"{_digits(value)} x"


_UNITS: Final[dict[str, Words]] = {
    "per_second": rate_words,
    "seconds": lambda value: ms_words(1000 * value),
    "ms": ms_words,
    "bytes": lambda value: f"{number_words(value)}B",
}


def figure_words(name: str) -> tuple[str, Words]:
    """How to call a figure whose name ends with its unit, and how to say its values."""
    for unit, words in _UNITS.items():
        if name.endswith(f"_{unit}"):
            suffix = " a second" if unit == "per_second" else ""
            return _title(name.removesuffix(f"_{unit}")) + suffix, words
    return _title(name), number_words


def _title(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def linear(values: Sequence[float], words: Words) -> Axis:
    """An axis from 0 that holds the values, its end on a step of 1, 2 or 5."""
    step = _step(max(values, default=0.0) / _TICKS or 0.25)
    last = max(1, ceil(max(values, default=0.0) / step - 1e-9))
    ticks = tuple((each * step, words(each * step)) for each in range(last + 1))
    return Axis(0.0, last * step, False, ticks, words)


def timeline(low: float, high: float) -> Axis:
    """Seconds of a run from the first to the last, and not one more."""
    high = max(high, low + 1)
    step = max(1.0, _step((high - low) / _TICKS))
    ticks = tuple(
        (each * step, second_words(each * step))
        for each in range(ceil(low / step), floor(high / step) + 1)
    )
    return Axis(low, high, False, ticks, second_words)


def _step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    for step in (1, 2, 5):
        if rough <= step * power * (1 + 1e-9):
            return step * power
    return 10 * power


def logarithmic(values: Sequence[float], words: Words) -> Axis:
    """An axis that holds those values that are above 0, its ends on a 1, 2 or 5 of a decade."""
    some = [value for value in values if value > 0] or [1.0]
    low = max(mark for mark in _marks(min(some)) if mark <= min(some) * (1 + 1e-9))
    high = min(mark for mark in _marks(max(some)) if mark >= max(some) * (1 - 1e-9))
    if low == high:
        low, high = low / 2, high * 2
    decades = range(floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9) + 1)
    if log10(high / low) <= _DECADES_WITH_STEPS:
        marks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    else:
        marks = [10.0**decade for decade in decades[:: 1 + len(decades) // 7]]
    ticks = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    return Axis(low, high, True, tuple((mark, words(mark)) for mark in ticks), words)


def _marks(value: float) -> list[float]:
    """1, 2 and 5 of the decade of a value, and the 1 of the next."""
    power = 10.0 ** floor(log10(value) + 1e-9)
    return [power, 2 * power, 5 * power, 10 * power]


def tail_place(share: float) -> float:
    """Where a percentile stands on a ``tail``: at 1 for 90 %, at 2 for 99 %, at 3 for 99.9 %."""
    return -log10(max(1.0 - share, 10.0**-_NINES_MAX))


def tail(place_max: float) -> Axis:
    """An axis of percentiles, on which the slowest ones have the room that they deserve."""
    high = max(1.0, min(place_max, float(_NINES_MAX)))
    nines = ["0 %", "90 %", "99 %", *(f"99.{'9' * more} %" for more in range(1, _NINES_MAX - 1))]
    every = 1 + int(high) // 6
    ticks = tuple(
        (float(place), text)
        for place, text in enumerate(nines[: int(high) + 1])
        if not place % every
    )
    return Axis(0.0, high, False, ticks, _percentile_words)


def _percentile_words(place: float) -> str:
    return f"{round(100 * (1 - 10**-place), int(place)):.14g} %"

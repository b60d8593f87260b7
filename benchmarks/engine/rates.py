"""How quickly messages are to be sent, and how slow their confirmations may be.

A rate is ``max`` (find out what the broker can do), a number of messages a second, or a ramp:
``1k:30s,5k:30s`` is 1,000 a second for 30 seconds, then 5,000. An objective is a quantile and what
it may be at most: ``p99=10ms``.
"""

from typing import Final

import msgspec

from .quantities import parse_milliseconds, parse_number
from .task import Step

__all__ = ["MAX", "RATE_MAX", "Objective", "parse_objective", "parse_rate"]

MAX: Final = "max"
RATE_MAX: Final = 10_000_000.0  # messages a second
_STEPS_MAX: Final = 1_000


class Objective(msgspec.Struct, frozen=True):
    """The most that a quantile of the latency may be."""

    quantile: float  # above 0, below 1
    milliseconds: float


def parse_rate(text: str, seconds: float) -> list[Step]:
    """The steps of a rate; one of ``seconds`` for a number, none for ``max``. Raises ValueError."""
    if text.strip() == MAX:
        return []
    if ":" not in text:
        return [Step(seconds, _per_second(text))]
    steps = []
    for part in text.split(","):
        number, colon, duration = part.partition(":")
        if not colon:
            raise ValueError(f"{part.strip()!r} of a ramp has no duration, like 5k:30s")
        step = Step(parse_milliseconds(duration) / 1e3, _per_second(number))
        if step.seconds <= 0:
            raise ValueError(f"{part.strip()!r} of a ramp lasts no time")
        steps.append(step)
    if len(steps) > _STEPS_MAX:
        raise ValueError(f"a ramp has at most {_STEPS_MAX} steps")
    return steps


def parse_objective(text: str) -> Objective:
    """``p99=10ms``, ``p99.9=1s``. Raises ValueError."""
    name, _, limit = text.partition("=")
    try:
        share = float(name.strip().removeprefix("p")) / 100
    except ValueError:
        share = 0.0
    if not name.strip().startswith("p") or not 0 < share < 1:
        raise ValueError(f"{text!r} is not an objective like p99=10ms")
    return Objective(share, parse_milliseconds(limit))


def _per_second(text: str) -> float:
    rate = parse_number(text)
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"a rate is above 0 and at most {RATE_MAX:,.0f} a second, not {text}")
    return rate

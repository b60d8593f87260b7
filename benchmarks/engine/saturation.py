"""What a broker can carry: rates are tried until the latency, or the load, says stop.

The rate doubles as long as it is carried, then the gap between the last that was and the first that
was not is halved, until it is small. What is reported is the last rate that was carried.
"""

from typing import Final

import msgspec

from ..histogram import Histogram
from ..results.result import MAIN_METRICS, Run
from .rates import RATE_MAX, Objective
from .validity import why_late

__all__ = ["FIRST_RATE", "Search", "why_not_carried"]

FIRST_RATE: Final = 1_000.0
_NEAR: Final = 1.08  # the first rate that was not carried, to the last that was
_CARRIED: Final = 0.99  # of what was due has to be confirmed within the measurement
_DIGITS: Final = 3


class Search(msgspec.Struct):
    """The rates to try, one after the other."""

    carried: float = 0.0
    failed: float = 0.0  # 0: none yet
    tried: int = 0

    def next_rate(self) -> float:
        """What to try next; 0 when the search is over."""
        if not self.tried:
            return FIRST_RATE
        if not self.failed:
            return min(self.carried * 2, RATE_MAX) if self.carried < RATE_MAX else 0.0
        if not self.carried:
            return _rounded(self.failed / 4) if self.failed > 1 else 0.0
        if self.failed / self.carried <= _NEAR:
            return 0.0
        return _rounded((self.carried * self.failed) ** 0.5)

    def note(self, rate: float, is_carried: bool) -> None:
        """A rate was tried."""
        self.tried += 1
        if is_carried:
            self.carried = max(self.carried, rate)
        else:
            self.failed = min(self.failed or rate, rate)


def why_not_carried(run: Run, rate: float, objective: Objective) -> str:
    """Why a run at that rate is one too quick; "" when it was carried.

    Everybody has to be served in time: who waits for confirmations, and who waits for messages.
    """
    if run.problems:
        return run.problems[0]
    for metric in MAIN_METRICS:
        dump = run.latency.get(metric)
        found = Histogram.load(dump).quantile(objective.quantile) / 1e6 if dump else 0.0
        if found > objective.milliseconds:
            name = f"p{100 * objective.quantile:g}"
            return f"{metric} {name} was {found:.1f} ms, more than {objective.milliseconds:g} ms"
    reached = (run.confirmed or run.published) / run.seconds if run.seconds else 0.0
    if reached < _CARRIED * rate:
        return f"only {reached:,.0f} of {rate:,.0f} messages a second went in"
    return why_late(run)


def _rounded(rate: float) -> float:
    """Three digits are enough."""
    return float(f"{rate:.{_DIGITS}g}")

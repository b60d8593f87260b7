"""What happened in which second, and how long things took that were due in it.

Rules:

1. Things are counted when they happen. A latency is filed under the second in which its message was
   due, however late the answer came: a stall shows where it began, and cannot hide.
2. Seconds count from the begin of the measurement; those of the warm-up are negative. The last one
   of the window may be shorter, and the next one begins where the window ends.
3. Histograms of seconds that are long over are kept in their short form, so that a run of hours
   fits into memory.
"""

from array import array
from math import ceil
from typing import Final

from ..histogram import Histogram
from .task import SecondReport

__all__ = ["Counts", "Timeline", "Window"]

_SECOND_NS: Final = 1_000_000_000
_OPEN_MAX: Final = 8  # histograms that are not in their short form


class Counts:
    """What happened in a second."""

    __slots__ = ("confirmed", "errors", "published", "received")

    def __init__(self) -> None:
        self.published = 0
        self.confirmed = 0
        self.received = 0
        self.errors = 0


class Timeline:
    """The seconds of a run. All times are of one clock, in ns.

    Attributes:
        current: the counts of this second; :meth:`turn` changes it.
        second: this second.
        turns_ns: when the next one begins.
    """

    def __init__(self, begin_ns: int, seconds: float) -> None:
        self._begin_ns = begin_ns
        self._end_ns = begin_ns + int(seconds * 1e9)
        self._last = ceil(seconds) - 1  # second of the window
        self._counts: dict[int, Counts] = {}
        self._open: dict[int, Histogram] = {}
        self._sealed: dict[int, list[array[int]]] = {}
        # The second whose histogram was asked for last: most ask for the same again.
        self._low_ns = self._high_ns = 0
        self._histogram = Histogram()
        self.second = 0
        self.current = Counts()
        self.turns_ns = begin_ns

    def _bounds(self, when_ns: int) -> tuple[int, int, int]:
        """A second: its number, from when to when it is."""
        if when_ns >= self._end_ns:
            behind = (when_ns - self._end_ns) // _SECOND_NS
            low = self._end_ns + behind * _SECOND_NS
            return self._last + 1 + behind, low, low + _SECOND_NS
        second = (when_ns - self._begin_ns) // _SECOND_NS
        low = self._begin_ns + second * _SECOND_NS
        return second, low, min(low + _SECOND_NS, self._end_ns)

    def turn(self, now_ns: int) -> None:
        """Have ``current`` be the second of now."""
        self.second, _, self.turns_ns = self._bounds(now_ns)
        self.current = self._counts.setdefault(self.second, Counts())

    def bounds(self, due_ns: int) -> tuple[int, int, Histogram]:
        """The second that something was due in: from, to, and where its latencies go."""
        if not self._low_ns <= due_ns < self._high_ns:
            second, self._low_ns, self._high_ns = self._bounds(due_ns)
            self._histogram = self._histogram_of(second)
        return self._low_ns, self._high_ns, self._histogram

    def record(self, due_ns: int, now_ns: int, times: int = 1) -> None:
        """Something that was due then is done now."""
        if not self._low_ns <= due_ns < self._high_ns:
            self.bounds(due_ns)
        self._histogram.record(now_ns - due_ns, times)

    def _histogram_of(self, second: int) -> Histogram:
        histogram = self._open.get(second)
        if histogram is None:
            while len(self._open) >= _OPEN_MAX:
                oldest = min(self._open)
                dump = array("Q", self._open.pop(oldest).dump())
                self._sealed.setdefault(oldest, []).append(dump)
            histogram = self._open[second] = Histogram()
        return histogram

    def _parts(self, second: int) -> list[Histogram]:
        parts = [Histogram.load(dump) for dump in self._sealed.get(second, ())]
        return [*parts, self._open[second]] if second in self._open else parts

    def latency_of(self, second: int) -> Histogram:
        """All latencies of a second, as far as they are known."""
        return Histogram.merged(self._parts(second))

    def _dump_of(self, second: int) -> list[int]:
        """The same in short; it mostly is already."""
        sealed = self._sealed.get(second, [])
        if len(sealed) == 1 and second not in self._open:
            return sealed[0].tolist()
        latencies = self.latency_of(second)
        return latencies.dump() if latencies else []

    def _seconds(self) -> list[int]:
        """Those in which something happened or was due."""
        return sorted({*self._counts, *self._open, *self._sealed})

    def counts_of(self, second: int) -> Counts:
        """What happened in a second."""
        return self._counts.get(second, Counts())

    def window(self) -> tuple[Counts, Histogram]:
        """All that happened within the window, and the latencies of what was due in it."""
        total = Counts()
        latencies = Histogram()
        for second in self._seconds():
            if not 0 <= second <= self._last:
                continue
            counts = self.counts_of(second)
            total.published += counts.published
            total.confirmed += counts.confirmed
            total.received += counts.received
            for part in self._parts(second):
                latencies.merge(part)
        return total, latencies

    def series(self) -> list[SecondReport]:
        """All seconds in which something happened or was due, in order."""
        report = []
        for second in self._seconds():
            counts = self.counts_of(second)
            report.append(
                SecondReport(
                    second=second,
                    published=counts.published,
                    confirmed=counts.confirmed,
                    received=counts.received,
                    errors=counts.errors,
                    latency=self._dump_of(second),
                )
            )
        return report


class Window:
    """Latencies of what was due within the window, all in one."""

    def __init__(self, begin_ns: int, seconds: float) -> None:
        self._begin_ns = begin_ns
        self._end_ns = begin_ns + int(seconds * 1e9)
        self.histogram = Histogram()

    def record(self, due_ns: int, now_ns: int, times: int = 1) -> None:
        """Something that was due then is done now."""
        if self._begin_ns <= due_ns < self._end_ns:
            self.histogram.record(now_ns - due_ns, times)

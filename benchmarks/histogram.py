"""A log-linear histogram: quantiles of millions of latencies in constant memory.

As in HdrHistogram, every power of two is cut into 128 buckets of equal width::

    value          0 .. 255    256 .. 511    512 .. 1023    1024 .. 2047   ...
    bucket width          1             2              4               8   ...

A bucket is at most 1/128 of its lower bound wide, and a quantile is reported as the middle of its
bucket, so it is off by less than 0.4 % (1 % is what we promise). Values below 256 are exact, and so
are the smallest, the largest and the count. Values are whole numbers, here nanoseconds; what is
above ``VALUE_MAX`` (more than two hours) counts as that.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from math import ceil
from typing import Final

__all__ = ["VALUE_MAX", "Histogram", "bucket"]

_BITS: Final = 7
_WIDTH: Final = 1 << _BITS  # buckets for each power of two
_SHIFT_MAX: Final = 35
VALUE_MAX: Final = (1 << (_SHIFT_MAX + _BITS + 1)) - 1
_BUCKETS: Final = _WIDTH * (_SHIFT_MAX + 2)


class Histogram:
    """Counts of values, by size."""

    __slots__ = ("_counts", "count", "largest", "smallest")

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        """How many values were recorded."""
        return self.count

    def clear(self) -> None:
        """Forget everything."""
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.smallest = VALUE_MAX
        self.largest = 0

    def record(self, value: int, times: int = 1) -> None:
        """Count ``value``; negative ones count as 0."""
        if value < 0:
            value = 0
        elif value > VALUE_MAX:
            value = VALUE_MAX
        shift = value.bit_length() - _BITS - 1
        if shift < 0:
            shift = 0
        self._counts[(shift << _BITS) + (value >> shift)] += times
        self.count += times
        if value > self.largest:
            self.largest = value
        if value < self.smallest:
            self.smallest = value

    def record_all(self, values: Iterable[int]) -> None:
        """Count each of many values, for less than as many calls would cost."""
        counts = self._counts
        count, smallest, largest = 0, self.smallest, self.largest
        for value in values:
            if value < 0:
                value = 0
            elif value > VALUE_MAX:
                value = VALUE_MAX
            shift = value.bit_length() - _BITS - 1
            if shift < 0:
                shift = 0
            counts[(shift << _BITS) + (value >> shift)] += 1
            count += 1
            if value > largest:
                largest = value
            if value < smallest:
                smallest = value
        self.count += count
        self.smallest = smallest
        self.largest = largest

    def quantile(self, fraction: float) -> int:
        """The value that ``fraction`` of all values do not exceed; 0 when there are none."""
        if not self.count:
            return 0
        rank = max(1, ceil(fraction * self.count))
        if rank >= self.count:
            return self.largest
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return max(self.smallest, min(_middle(index), self.largest))
        return self.largest

    def merge(self, other: "Histogram") -> None:
        """Add everything ``other`` counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)

    def filled(self) -> list[tuple[int, int]]:
        """The index and the count of each bucket that has any, from the lowest values on."""
        return [(index, count) for index, count in enumerate(self._counts) if count]

    def dump(self) -> list[int]:
        """Plain numbers for another process: smallest, largest, then index, count, ..."""
        return [self.smallest, self.largest, *chain.from_iterable(self.filled())]

    @classmethod
    def load(cls, dumped: Sequence[int]) -> "Histogram":
        """What :meth:`dump` wrote. Raises ValueError when it is something else."""
        histogram = cls()
        if len(dumped) % 2 or len(dumped) < 2:
            raise ValueError("not a dumped histogram")
        histogram.smallest, histogram.largest = dumped[0], dumped[1]
        for index, count in zip(dumped[2::2], dumped[3::2], strict=True):
            if not 0 <= index < _BUCKETS or count < 0:
                raise ValueError("not a dumped histogram")
            histogram._counts[index] += count
            histogram.count += count
        return histogram

    @classmethod
    def merged(cls, histograms: Iterable["Histogram"]) -> "Histogram":
        """One that holds what all of them counted."""
        total = cls()
        for each in histograms:
            total.merge(each)
        return total

    @classmethod
    def of_dumps(cls, dumps: Iterable[Sequence[int]]) -> "Histogram":
        """All that was dumped, in one; what is empty was not measured. Raises ValueError."""
        return cls.merged(cls.load(dump) for dump in dumps if dump)


def bucket(index: int) -> tuple[int, int]:
    """The lowest and the highest value that are counted there."""
    shift = max(0, (index >> _BITS) - 1)
    lowest = (index - (shift << _BITS)) << shift
    return lowest, lowest + (1 << shift) - 1


def _middle(index: int) -> int:
    """The value in the middle of a bucket."""
    lowest, highest = bucket(index)
    return (lowest + highest + 1) >> 1

"""Latencies in the forms that HdrHistogram's tools read.

``percentile_text`` is what its plotter takes (``.hgrm``), ``encode_v2`` its compressed histogram,
``log_text`` a log of them (``.hlog``), which its analyzers merge and cut. Our histogram counts in
the same places as one of HdrHistogram's with two significant digits: nothing is rounded again.

An encoded histogram, all numbers big endian::

    cookie 0x1c849314, length, zlib(
        cookie 0x1c849313, length of counts, index offset 0, digits, lowest, highest, ratio 1.0,
        counts from index 0 to the last one: zigzag LEB128, runs of zeros as one negative number)
"""

import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from math import sqrt
from struct import Struct as Layout
from typing import Final

from ..histogram import VALUE_MAX, Histogram, bucket

__all__ = ["cumulated", "encode_v2", "log_text", "percentile_text", "percentiles"]

_COMPRESSED_COOKIE: Final = 0x1C849314
_COOKIE: Final = 0x1C849313
_DIGITS: Final = 2
_OUTER: Final = Layout(">II")
_HEADER: Final = Layout(">IIIIqqd")
_BYTES_MAX: Final = 9  # of an encoded number; the ninth has all eight bits
_TICKS_PER_HALF: Final = 5  # lines between 0 and 50 %, between 50 and 75 %, ...
_SUB_BUCKETS: Final = 256
_BUCKETS: Final = VALUE_MAX.bit_length() - _SUB_BUCKETS.bit_length() + 2
_NS_PER_MS: Final = 1e6


def cumulated(histogram: Histogram) -> list[tuple[int, int]]:
    """The highest value of each bucket that has any, and how many values were not above it."""
    found = []
    seen = 0
    for index, count in histogram.filled():
        seen += count
        found.append((min(bucket(index)[1], histogram.largest), seen))
    return found


def encode_v2(histogram: Histogram) -> str:
    """A histogram as HdrHistogram's, compressed, in base64."""
    counts = bytearray()
    expected = 0
    for index, count in histogram.filled():
        if zeros := index - expected:
            counts += _zigzag(-zeros if zeros > 1 else 0)
        counts += _zigzag(count)
        expected = index + 1
    header = _HEADER.pack(_COOKIE, len(counts), 0, _DIGITS, 1, VALUE_MAX, 1.0)
    packed = zlib.compress(header + counts)
    return b64encode(_OUTER.pack(_COMPRESSED_COOKIE, len(packed)) + packed).decode()


def _zigzag(number: int) -> bytes:
    """Small numbers of both signs in few bytes."""
    left = number << 1 if number >= 0 else (-number << 1) - 1
    encoded = bytearray()
    while left > 0x7F and len(encoded) < _BYTES_MAX - 1:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


def percentiles(histogram: Histogram) -> list[tuple[float, int, int]]:
    """Shares, closer and closer to 1, their values, and the counts up to there.

    The last one is the largest, whose share is 1.
    """
    steps = cumulated(histogram)
    total = histogram.count
    found = []
    at = 0
    for share in _shares():
        while at < len(steps) and steps[at][1] < share * total:
            at += 1
        if at >= len(steps) or steps[at][1] >= total:
            break
        found.append((share, *steps[at]))
    return [*found, (1.0, histogram.largest, total)]


def percentile_text(histogram: Histogram) -> str:
    """A histogram of nanoseconds as percentiles in milliseconds (``.hgrm``)."""
    *rows, (_, largest, total) = percentiles(histogram)
    lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
    lines += [
        f"{value / _NS_PER_MS:12.3f} {share:2.12f} {count:10d} {1 / (1 - share):14.2f}"
        for share, value, count in rows
    ]
    most = largest / _NS_PER_MS
    lines.append(f"{most:12.3f} {1.0:2.12f} {total:10d}")
    mean, deviation = _moments(histogram)
    return "\n".join(
        [
            *lines,
            f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]",
            f"#[Max     = {most:12.3f}, Total count    = {total:12d}]",
            f"#[Buckets = {_BUCKETS:12d}, SubBuckets     = {_SUB_BUCKETS:12d}]",
            "",
        ]
    )


def _shares() -> Iterator[float]:
    """0, 0.1, ... 0.5, 0.55, ... 0.75, 0.775, ...: as many for each half of what is left."""
    low, width = 0.0, 0.5
    while width > 1e-12:
        for step in range(_TICKS_PER_HALF):
            yield low + step * width / _TICKS_PER_HALF
        low, width = low + width, width / 2


def _moments(histogram: Histogram) -> tuple[float, float]:
    """Mean and standard deviation in milliseconds, of the middles of the buckets."""
    pairs = [(sum(bucket(index)) / 2 / _NS_PER_MS, count) for index, count in histogram.filled()]
    total = histogram.count
    if not total:
        return 0.0, 0.0
    mean = sum(value * count for value, count in pairs) / total
    return mean, sqrt(sum((value - mean) ** 2 * count for value, count in pairs) / total)


def log_text(intervals: Sequence[tuple[float, Histogram]], comment: str) -> str:
    """Histograms, one after the other, each with its seconds, as a log (``.hlog``)."""
    lines = [
        f"#[{' '.join(comment.split())}]",
        "#[Histogram log format version 1.3]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    begin = 0.0
    for seconds, histogram in intervals:
        largest = histogram.largest / _NS_PER_MS
        lines.append(f"{begin:.3f},{seconds:.3f},{largest:.3f},{encode_v2(histogram)}")
        begin += seconds
    return "\n".join([*lines, ""])

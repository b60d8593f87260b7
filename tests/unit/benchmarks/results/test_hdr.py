"""The forms of HdrHistogram, as its own tools read and write them.

The golden ones were decoded by the package hdrhistogram 0.10.8 with the same counts, and its log
reader read the log.
"""

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.histogram import VALUE_MAX, Histogram
from braidmq.benchmarks.results.hdr import cumulated, encode_v2, log_text, percentile_text

GOLDEN = "HISTFAAAACp4nJNpmSzMwMDAxQABTFCakYGB/T8I2H+ACHAyMTRM+sJ4V4YNAMycCpY="
COUNTS = st.lists(st.tuples(st.integers(0, VALUE_MAX), st.integers(1, 10**12)), max_size=50)


def counted(pairs):
    found = Histogram()
    for value, times in pairs:
        found.record(value, times)
    return found


def of_milliseconds(*values):
    return counted((int(value * 1e6), 1) for value in values)


def unpacked(text):
    data = base64.b64decode(text)
    cookie, length = struct.unpack_from(">II", data)
    assert cookie == 0x1C849314 and length == len(data) - 8
    return zlib.decompress(data[8:])


def decoded(text):
    """The counts by index, read as the format is described."""
    inner = unpacked(text)
    header = struct.unpack_from(">IIIIqqd", inner)
    assert header == (0x1C849313, len(inner) - 40, 0, 2, 1, VALUE_MAX, 1.0)
    counts: dict[int, int] = {}
    at, index = 40, 0
    while at < len(inner):
        number = shift = 0
        while True:
            byte = inner[at]
            at += 1
            if shift == 56:  # the ninth byte is a whole one
                number |= byte << shift
                break
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        value = (number >> 1) ^ -(number & 1)
        if value < 0:
            index -= value
        else:
            if value:
                counts[index] = value
            index += 1
    return counts


def test_golden():
    # 5 once and 7 two million times, a gap of one, a gap of many.
    found = counted([(5, 1), (7, 2_000_000), (1_500_000, 3)])
    assert decoded(GOLDEN) == dict(found.filled())
    assert unpacked(encode_v2(found)) == unpacked(GOLDEN)  # compressed, another zlib may differ


@given(COUNTS)
def test_every_count_comes_back(pairs):
    found = counted(pairs)
    assert decoded(encode_v2(found)) == dict(found.filled())


def test_a_count_of_nine_bytes():
    assert decoded(encode_v2(counted([(5, (1 << 62) - 1)]))) == {5: (1 << 62) - 1}


@given(COUNTS)
def test_what_is_cumulated_ends_with_the_largest_and_all(pairs):
    steps = cumulated(counted(pairs))
    if pairs:
        assert steps[-1] == (max(value for value, _ in pairs), sum(times for _, times in pairs))
        assert steps == sorted(steps)
    else:
        assert steps == []


def test_percentiles():
    lines = percentile_text(of_milliseconds(*range(1, 101))).splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    rows = [line.split() for line in lines[2:] if not line.startswith("#")]
    assert rows[0] == ["1.004", "0.000000000000", "1", "1.00"]
    by_share = {row[1]: row for row in rows}
    assert by_share["0.500000000000"][2:] == ["50", "2.00"]
    assert float(by_share["0.500000000000"][0]) == pytest.approx(50, rel=0.01)
    assert by_share["0.900000000000"][2:] == ["90", "10.00"]
    assert rows[-1] == ["100.000", "1.000000000000", "100"]
    mean, deviation = (float(part.strip(" ]").split()[-1]) for part in lines[-3].split(","))
    assert mean == pytest.approx(50.5, rel=0.001) and deviation == pytest.approx(28.87, rel=0.001)
    assert lines[-2].split() == ["#[Max", "=", "100.000,", "Total", "count", "=", "100]"]


def test_percentiles_of_nothing():
    lines = percentile_text(Histogram()).splitlines()
    assert lines[2].split() == ["0.000", "1.000000000000", "0"]


def test_a_log_holds_an_interval_for_each_repeat():
    some = of_milliseconds(1.0, 3.0)
    lines = log_text([(2.0, some), (2.5, Histogram())], "e2e,\nbraidmq").splitlines()
    assert lines[0] == "#[e2e, braidmq]"
    assert lines[3] == f"0.000,2.000,3.000,{encode_v2(some)}"
    assert lines[4].startswith("2.000,2.500,0.000,HISTF")

"""Axes hold their values, with ticks that can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.results.axes import (
    byte_words,
    figure_words,
    linear,
    logarithmic,
    mib_words,
    ms_words,
    number_words,
    rate_words,
    second_words,
    tail,
    tail_place,
    timeline,
    times_words,
    us_words,
)

VALUES = st.lists(st.floats(1e-6, 1e12), max_size=9)


def words_of(axis):
    return [words for _, words in axis.ticks]


@given(VALUES)
def test_a_linear_axis_begins_at_0_and_holds_all(values):
    axis = linear(values, rate_words)
    assert axis.at(0) == 0
    assert all(value <= axis.high * (1 + 1e-6) for value in values)
    assert 2 <= len(axis.ticks) <= 6
    assert [axis.at(value) for value, _ in axis.ticks] == sorted(
        axis.at(value) for value, _ in axis.ticks
    )


@given(VALUES)
def test_a_logarithmic_axis_holds_all_that_is_above_0(values):
    axis = logarithmic([*values, 0.0, -1.0], ms_words)
    assert all(axis.low * 0.999 <= value <= axis.high * 1.001 for value in values)
    assert axis.at(axis.low) == 0 and axis.at(axis.high) == 1
    assert 1 <= len(axis.ticks) <= 10
    assert axis.at(0.0) == 0 and axis.at(1e30) == 1


def test_ticks():
    assert words_of(linear([3, 47], rate_words)) == ["0/s", "20/s", "40/s", "60/s"]
    assert words_of(logarithmic([0.21, 3.4], ms_words)) == [
        *("0.2 ms", "0.5 ms", "1 ms", "2 ms", "5 ms"),
    ]
    assert words_of(logarithmic([0.01, 5000], ms_words)) == ["0.01 ms", "1 ms", "100 ms"]
    assert words_of(logarithmic([1], ms_words)) == ["0.5 ms", "1 ms", "2 ms"]
    assert words_of(timeline(-2, 12)) == ["0 s", "5 s", "10 s"]
    assert words_of(timeline(0, 0)) == ["0 s", "1 s"]


def test_slow_ones_have_the_room_that_they_deserve():
    assert tail_place(0.0) == 0
    assert tail_place(0.9) == pytest.approx(1)
    assert tail_place(0.999) == pytest.approx(3)
    assert tail_place(1.0) == 12
    axis = tail(4.3)
    assert words_of(axis) == ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
    assert [axis.words(value) for value, _ in axis.ticks] == words_of(axis)
    assert words_of(tail(0.1)) == ["0 %", "90 %"]
    assert words_of(tail(99))[-1] == "99.9999999999 %"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (99.96, "100"), (999.6, "1k")),
        *((12345, "12.3k"), (1e6, "1M"), (2.5e9, "2.5G"), (-1500, "-1.5k")),
    ],
)
def test_numbers_have_three_digits(value, words):
    assert number_words(value) == words


def test_units():
    assert rate_words(1500) == "1.5k/s"
    assert (ms_words(0.21), ms_words(1500)) == ("0.21 ms", "1.5 s")
    assert (us_words(9.5), us_words(1500)) == ("9.5 µs", "1.5 ms")
    sizes = 100, 2048, 3 << 20, 5 << 30
    assert [byte_words(size) for size in sizes] == ["100 B", "2 KiB", "3 MiB", "5 GiB"]
    assert mib_words(50) == "50 MiB"
    assert second_words(3.0) == "3 s"
    assert times_words(0.5) == "0.5 x"


@pytest.mark.parametrize(
    ("name", "title", "words"),
    [
        ("memory_per_connection_bytes", "Memory per connection", "2kB"),
        ("highest_rate_per_second", "Highest rate a second", "2k/s"),
        ("recovery_seconds", "Recovery", "2000 s"),
        ("wait_ms", "Wait", "2 s"),
        ("reconnects", "Reconnects", "2k"),
    ],
)
def test_the_unit_stands_at_the_end_of_the_name(name, title, words):
    found, say = figure_words(name)
    assert (found, say(2000)) == (title, words)

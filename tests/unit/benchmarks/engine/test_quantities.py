"""Numbers and times as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.quantities import parse_count, parse_milliseconds, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("200", 200), ("2.5k", 2500), ("1M", 10**6), ("4Ki", 4096), (" 3G ", 3 * 10**9)],
)
def test_numbers_have_decimal_and_binary_units(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "k", "-1", "1kk", "1 k", "1e3", "0x10", "1.k", "many"])
def test_anything_else_is_refused_in_its_own_words(text):
    with pytest.raises(ValueError, match="is not a number like"):
        parse_number(text)


def test_a_count_has_no_fraction():
    assert parse_count("1.5k") == 1500
    with pytest.raises(ValueError, match=r"'1\.5' is not a whole number"):
        parse_count("1.5")


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250us", 0.25), ("10ms", 10), ("1.5s", 1500), ("5m", 300_000), ("2h", 7_200_000)],
)
def test_times_need_their_unit(text, ms):
    assert parse_milliseconds(text) == ms
    with pytest.raises(ValueError, match="is not a time like"):
        parse_milliseconds(text.rstrip("hmsu"))


@given(st.integers(0, 10**6), st.sampled_from([("", 1), ("k", 10**3), ("Mi", 2**20)]))
def test_whole_numbers_come_back_exactly(number, unit):
    name, factor = unit
    assert parse_count(f"{number}{name}") == number * factor


@given(st.text())
def test_any_text_is_a_number_or_refused(text):
    try:
        assert parse_number(text) >= 0
    except ValueError as error:
        assert "is not" in str(error)

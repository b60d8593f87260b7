"""Headers that read as numbers or truth values, and those that nearly do."""

import pytest

from braidmq.broker.header_values import HEADER_NUMBER_CHARACTERS_MAX, number_in, truth_in

LONGEST = "9" * HEADER_NUMBER_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("+5", 5),
        ("-5", -5),
        ("1e3", 1000),
        ("1.", 1),
        (".5", 0.5),
        ("1E-2", 0.01),
        (LONGEST, int(LONGEST)),
    ],
)
def test_a_header_reads_as_a_number(value: str, number: float) -> None:
    assert number_in(value) == number


@pytest.mark.parametrize(
    "value",
    [
        *" 1|1 |1_000|0x10|1f|nan|inf|Infinity|1e999|-1e999|²|٣|--1|1-1|e|.|+|1e||true".split("|"),
        LONGEST + "9",
        b"1",
    ],
)
def test_a_header_that_is_not_quite_a_number_is_none(value: str | bytes) -> None:
    assert number_in(value) is None


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        ("true", True),
        ("FALSE", False),
        ("True", True),
        ("yes", None),
        ("1", None),
        ("", None),
        (" true", None),
        ("true" * 1_000, None),
        (b"true", None),
    ],
)
def test_a_header_reads_as_a_truth_value_or_does_not(value: str | bytes, truth: bool) -> None:
    assert truth_in(value) is truth

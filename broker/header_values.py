"""What the text of a header reads as when a condition compares it with something else.

Headers are text or bytes and have no types, so the other side of a comparison decides: against a
number a text that reads as one is a number (as ActiveMQ has it for STOMP), against a truth value
``true`` and ``false`` in any case are. Selectors and filter policies share these readings, so
that a message does not mean one thing to the one and another to the other.
"""

from math import isfinite
from typing import TypeAlias

__all__ = ["HEADER_NUMBER_CHARACTERS_MAX", "Number", "number_in", "truth_in"]

HEADER_NUMBER_CHARACTERS_MAX = 40

Number: TypeAlias = int | float


def number_in(value: str | bytes) -> Number | None:
    """The number that a header reads as: decimal digits with sign, point and exponent.

    Stricter than int() and float(): no blanks, no 1_000, nothing infinite, and at most
    HEADER_NUMBER_CHARACTERS_MAX characters. Bytes are no number.
    """
    if not isinstance(value, str) or len(value) > HEADER_NUMBER_CHARACTERS_MAX:
        return None
    if value.isdigit() and value.isascii():
        return int(value)
    if value.strip("+-.0123456789eE"):
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def truth_in(value: str | bytes) -> bool | None:
    """The truth value that a header reads as; None for all but ``true`` and ``false``."""
    if not isinstance(value, str) or len(value) > len("false"):
        return None
    return {"true": True, "false": False}.get(value.lower())

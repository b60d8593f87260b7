"""Numbers and times as people write them in scenarios: ``10k``, ``1.5M``, ``30s``."""

import re
from typing import Final

__all__ = ["parse_count", "parse_milliseconds", "parse_number"]

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
_FACTORS: Final = {
    **{"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000},
    **{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30},
}
_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


def parse_number(text: str) -> float:
    """``5``, ``2.5k``, ``1M``, ``4Ki``. Raises ValueError."""
    return _parse(text, _FACTORS, "a number like 200, 1.5k, 1M or 64Ki")


def parse_count(text: str) -> int:
    """A number without a fraction. Raises ValueError."""
    number = parse_number(text)
    if number != int(number):
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def parse_milliseconds(text: str) -> float:
    """``250us``, ``10ms``, ``30s``, ``5m``, ``2h``. Raises ValueError."""
    return _parse(text, _MILLISECONDS, "a time like 10ms, 30s, 5m or 2h")


def _parse(text: str, factors: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in factors:
        raise ValueError(f"{text!r} is not {wanted}")
    return round(float(match[1]) * factors[match[2]], 9)

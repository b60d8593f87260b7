"""How long bodies are, and which key each message has: drawn once, from a seed, into a table.

The load walks round a table, so that chance costs nothing while it is measured, and the same seed
makes the same load. A size is ``200``; ``uniform:100-2k``; ``zipf:1.2:100-100k``, where small ones
are frequent and large ones rare; or ``file:sizes.txt``, a size on each line. Keys are chosen
``uniform`` or ``zipf:1.1``: the second most frequent one comes 2 ** 1.1 times less than the first.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

from ..integrity import STAMP_BYTES
from .quantities import parse_count

__all__ = ["SIZE_MAX", "TABLE_ROWS", "draw_keys", "draw_sizes"]

SIZE_MAX: Final = 64 * 1024 * 1024
TABLE_ROWS: Final = 4096
_RANKS: Final = 64  # of sizes by Zipf's law: steps of equal ratio from the smallest to the largest


def draw_sizes(text: str, seed: int, rows: int = TABLE_ROWS) -> list[int]:
    """A table of lengths; one row where all are alike. Raises ValueError, OSError."""
    shape, colon, rest = text.strip().partition(":")
    if not colon:
        return [_size(text)]
    if shape == "file":
        lines = Path(rest).read_text().split()
        if not 0 < len(lines) <= 1_000_000:
            raise ValueError(f"{rest} has to have between one and a million sizes")
        return [_size(line) for line in lines]
    chance = random.Random(f"sizes {seed}")
    if shape == "uniform":
        low, high = _range(text, rest)
        return [chance.randint(low, high) for _ in range(rows)]
    if shape == "zipf":
        exponent, _, limits = rest.partition(":")
        low, high = _range(text, limits)
        ratio = (high / low) ** (1 / (_RANKS - 1))
        ranked = [round(low * ratio**rank) for rank in range(_RANKS)]
        return [ranked[rank] for rank in _zipf(_RANKS, _exponent(text, exponent), chance, rows)]
    raise ValueError(f"{text!r} is no size: 200, uniform:100-2k, zipf:1.2:100-100k, file:PATH")


def draw_keys(count: int, distribution: str, seed: int, rows: int = TABLE_ROWS) -> list[int]:
    """A table of keys, numbers below ``count``; empty without keys. Raises ValueError."""
    if not count:
        return []
    chance = random.Random(f"keys {seed}")
    shape, _, exponent = distribution.strip().partition(":")
    if distribution.strip() == "uniform":
        return [chance.randrange(count) for _ in range(rows)]
    if shape == "zipf":
        return _zipf(count, _exponent(distribution, exponent), chance, rows)
    raise ValueError(f"{distribution!r} is no distribution: uniform, zipf:1.1")


def _zipf(ranks: int, exponent: float, chance: random.Random, rows: int) -> list[int]:
    """Ranks from 0, each as often as its number (from 1) to the power of -``exponent``."""
    sums: Sequence[float] = list(accumulate((rank + 1) ** -exponent for rank in range(ranks)))
    return [min(bisect(sums, chance.random() * sums[-1]), ranks - 1) for _ in range(rows)]


def _exponent(text: str, exponent: str) -> float:
    try:
        value = float(exponent)
    except ValueError:
        value = -1.0
    if not 0 < value <= 10:
        raise ValueError(f"{text!r} needs an exponent above 0 and at most 10, as in zipf:1.1")
    return value


def _range(text: str, limits: str) -> tuple[int, int]:
    low, dash, high = limits.partition("-")
    if not dash:
        raise ValueError(f"{text!r} needs a range like 100-2k")
    smallest, largest = _size(low), _size(high)
    if smallest > largest:
        raise ValueError(f"{text!r} ends before it begins")
    return smallest, largest


def _size(text: str) -> int:
    size = parse_count(text)
    if not STAMP_BYTES <= size <= SIZE_MAX:
        raise ValueError(
            f"a size is between {STAMP_BYTES} (the stamp) and {SIZE_MAX:,}, not {text}"
        )
    return size

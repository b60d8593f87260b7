"""What the journals of all dialects have in common, and bodies that prove themselves.

A journal stands in the memory of the test's own process, on no disk that is broken. It notes what
was asked for and what came, and counts the promises that were broken; which those are, each dialect
says for itself.

Every body is ``producer|number|crc32|pad``, so a message proves who sent it and that it is whole.
"""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar
from zlib import crc32

__all__ = ["Journal", "body_of", "parse_body"]

FINDINGS_MAX = 20  # that are told; all are counted


def body_of(producer: str, number: int, size: int) -> bytes:
    """A body of about ``size`` bytes that can prove itself."""
    start = f"{producer}|{number}|".encode()
    pad = (f"{number * 2654435761 % 2**32:08x}".encode() * (size // 8 + 1))[:size]
    return start + f"{crc32(pad, crc32(start)):08x}|".encode() + pad


def parse_body(body: bytes) -> tuple[str, int] | None:
    """(producer, number), or None when the body is not what was sent."""
    try:
        producer, number, checked, pad = body.split(b"|", 3)
        start = producer + b"|" + number + b"|"
        if int(checked, 16) != crc32(pad, crc32(start)):
            return None
        return producer.decode(), int(number)
    except ValueError:
        return None


class Journal:
    """The counters, and the findings behind them.

    Attributes:
        run: of the broker, counted from 1.
        power_cut_runs: those that ended by a power cut.
        counts: by name; ``acked`` is what the broker has confirmed.
        findings: the first broken promises, in words.
    """

    BROKEN: ClassVar[Sequence[str]] = ()  # the counters that must be zero

    def __init__(self) -> None:
        self.run = 0
        self.power_cut_runs: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []

    def find(self, kind: str, text: str) -> None:
        """Note a broken promise."""
        self.counts[kind] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"run {self.run}: {kind}: {text}")

    def found(self) -> dict[str, int]:
        """The promises that were broken, and how often."""
        return {kind: self.counts[kind] for kind in self.BROKEN if self.counts[kind]}

    def figures(self) -> str:
        """The line of figures."""
        return ", ".join(f"{kind} {self.counts[kind]}" for kind in self.BROKEN)

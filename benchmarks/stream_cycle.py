"""The bodies of a run: known beforehand to the last byte, and checked at C speed.

Producers send the bodies of a cycle one after the other and begin again at its end. A body is a
mark, its number in the cycle, and bytes at random, so that no compressor makes less of it::

    #000000000000042...

The mark stands nowhere else in a body, and no protocol of a peer writes it around bodies; so what
was read is cut at the marks, and each piece has to start with the body that is due. What a
protocol writes behind a body stands at the end of a piece, and is not looked at.
"""

from random import Random
from typing import Final

from .stream_plan import NUMBER_BYTES

__all__ = ["MARK", "Checker", "StreamCycle"]

MARK: Final = b"#"
_FILL: Final = bytes(value if value not in b"#\r\n" else 255 for value in range(256))
_CYCLE_BYTES: Final = 4 * 1024 * 1024


class StreamCycle:
    """``bodies`` in a row, for ever; a multiple of ``batch`` of them."""

    def __init__(self, size: int, batch: int, seed: int) -> None:
        random = Random(seed)
        count = max(2, _CYCLE_BYTES // size // batch) * batch
        fill = random.randbytes((size - NUMBER_BYTES) * count).translate(_FILL)
        step = size - NUMBER_BYTES
        self.size = size
        self.bodies = [
            b"%b%015d%b" % (MARK, number, fill[number * step : (number + 1) * step])
            for number in range(count)
        ]
        self.unmarked = [body[1:] for body in self.bodies]

    def __len__(self) -> int:
        return len(self.bodies)

    def batches(self, batch: int) -> list[list[bytes]]:
        """The cycle in requests."""
        return [self.bodies[at : at + batch] for at in range(0, len(self), batch)]


class Checker:
    """Counts what a reader gets, and compares it with what is due.

    Attributes:
        count: bodies that came. corrupt: those that were not what was due.
    """

    def __init__(self, cycle: StreamCycle, ordered: bool = True) -> None:
        """``ordered``: every body is the next one of the cycle; else any of it will do."""
        self.count = 0
        self.corrupt = 0
        self._cycle = cycle
        self._ordered = ordered
        self._next = 0  # in the cycle

    def rewind(self) -> None:
        """From the beginning."""
        self._next = 0

    def pieces(self, pieces: list[bytes]) -> None:
        """Bodies without their mark, each with what stands behind it."""
        self.count += len(pieces)
        if not self._ordered:
            self._check_any(pieces)
            return
        unmarked, at = self._cycle.unmarked, 0
        while at < len(pieces):
            due = unmarked[self._next : self._next + len(pieces) - at]
            some = pieces[at : at + len(due)]
            if not all(map(bytes.startswith, some, due)):
                self._resume(some, due)
            else:
                self._next += len(due)
            at += len(due)
            self._next %= len(unmarked)

    def bodies(self, bodies: list[bytes]) -> None:
        """Whole bodies."""
        self.count += len(bodies)
        cycle = self._cycle
        if not self._ordered:
            self._check_any([body[1:] for body in bodies])
            return
        at = 0
        while at < len(bodies):
            due = cycle.bodies[self._next : self._next + len(bodies) - at]
            some = bodies[at : at + len(due)]
            if some != due:
                self._resume([body[1:] for body in some], [body[1:] for body in due])
            else:
                self._next += len(due)
            at += len(due)
            self._next %= len(cycle)

    def _resume(self, pieces: list[bytes], due: list[bytes]) -> None:
        """Count what is wrong, and go on behind the last of them that can be made out."""
        wrong = [not piece.startswith(each) for piece, each in zip(pieces, due, strict=True)]
        self.corrupt += sum(wrong)
        number = self._number(pieces[-1])
        self._next = (self._next + len(due)) if number < 0 else number + 1

    def _check_any(self, pieces: list[bytes]) -> None:
        unmarked = self._cycle.unmarked
        first = self._number(pieces[0]) if pieces else 0
        due = unmarked[first : first + len(pieces)] if first >= 0 else []
        if len(due) == len(pieces) and all(map(bytes.startswith, pieces, due)):
            return  # a stretch of the cycle, as most reads are
        for piece in pieces:
            number = self._number(piece)
            self.corrupt += number < 0 or not piece.startswith(unmarked[number])

    def _number(self, piece: bytes) -> int:
        """Which body of the cycle it says to be; -1: none."""
        digits = piece[: NUMBER_BYTES - 1]
        number = int(digits) if digits.isdigit() else -1
        return number if number < len(self._cycle) else -1

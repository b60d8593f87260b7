"""What came in is what was sent: looked at in full, in about a microsecond for each message.

Rules:

1. Bodies are checked by the CRC of their stamp (``integrity.py``). Producers of a run send the same
   bytes behind their stamps, cut to length (:func:`filling`). So who has summed up one body of a
   length compares the next ones with it, byte for byte, and only the stamp is summed anew.
2. A ``Seen`` keeps what a set of consumers got of one producer: all of them share it, and something
   that comes again is a duplicate for all of them. While nothing is missing it is one number.
3. Order is each consumer's own: of each producer, or of each of its keys, sequences only rise. A
   duplicate is not out of order as well.
4. A poisoned message is rejected whenever it comes, and tracked by who keeps it in the end.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Final
from zlib import compress, crc32

from ..integrity import HEAD_BYTES, STAMP, STAMP_BYTES
from .task import Seen, turn

__all__ = ["Sightings", "Tracker", "filling", "is_poisoned"]

_FILLING_BYTES_MIN: Final = 4096
_KNOWN_BYTES_MAX: Final = 64 * 1024 * 1024  # of bodies kept to compare with
_SEQUENCE_MAX: Final = 1 << 32

_stamp_of = STAMP.unpack_from


def filling(size: int, seed: int) -> bytes:
    """What stands behind the stamps of bodies of up to ``size`` bytes, the same for all lengths."""
    chance = random.Random(seed)
    return chance.randbytes(max(size - STAMP_BYTES, _FILLING_BYTES_MIN))


def is_poisoned(body: bytes, percent: float) -> bool:
    """Whether consumers reject a message: so many of each hundred, spread evenly."""
    sequence: int = _stamp_of(body)[1]
    return sequence * 61 % 100 < percent


class _Sighting:
    """What came of one producer: all ``below``, and of those behind what ``beyond`` says."""

    __slots__ = ("_count", "_highest", "below", "beyond")

    def __init__(self) -> None:
        self.below = 0
        self.beyond = bytearray()  # a byte for each sequence from ``below`` on; empty: none came
        self._count = 0  # of those in there
        self._highest = 0

    def add(self, sequence: int) -> bool:
        """Note a sequence; False when it was there before."""
        beyond = self.beyond
        place = sequence - self.below
        if place < 0:
            return False
        if place >= len(beyond):
            beyond.extend(bytes(place + 64))
        elif beyond[place]:
            return False
        beyond[place] = 1
        self._count += 1
        if place > self._highest:
            self._highest = place
        if self._count > self._highest:  # nothing is missing
            self.below += self._count
            self.beyond = bytearray()
            self._count = self._highest = 0
        return True


class Sightings:
    """What a set of consumers received.

    Attributes:
        distinct: how many different messages.
        duplicate: how many came again.
    """

    def __init__(self) -> None:
        self.of: dict[int, _Sighting] = {}
        self.distinct = 0
        self.duplicate = 0

    def report(self) -> dict[int, Seen]:
        """By producer."""
        return {
            number: Seen(below=each.below, beyond=compress(each.beyond, 1) if each.beyond else b"")
            for number, each in self.of.items()
        }


class Tracker:
    """What one consumer received.

    Attributes:
        received: deliveries, each counted.
        reordered: how many came after a later one of the same producer (and key).
        corrupt: how many are not what anybody sent.
    """

    def __init__(self, sightings: Sightings, keys: Sequence[str] = ()) -> None:
        self._sightings = sightings
        self._keys = keys
        self._last: dict[int, int] = {}  # by producer
        self._last_of_key: dict[tuple[int, str], int] = {}
        self._known: dict[int, tuple[bytes, int]] = {}  # by length: what is behind a stamp, its CRC
        self._known_bytes = 0
        self.received = 0
        self.reordered = 0
        self.corrupt = 0

    def take(self, bodies: Iterable[bytes]) -> list[int]:
        """Count deliveries; when those were due that are sound, and came for the first time."""
        due: list[int] = []
        known = self._known
        last = self._last
        of = self._sightings.of
        keys = self._keys
        corrupt = duplicate = reordered = 0
        for body in bodies:
            self.received += 1
            same = known.get(len(body))
            if same is not None and body.startswith(same[0], STAMP_BYTES):
                crc = same[1]
            elif len(body) >= STAMP_BYTES:
                crc = self._sum_up(body)
            else:
                corrupt += 1
                continue
            number, sequence, due_ns, stamped = _stamp_of(body)
            if crc32(body[:HEAD_BYTES], crc) != stamped or sequence > _SEQUENCE_MAX:
                corrupt += 1
                continue
            sighting = of.get(number)
            if sighting is None:
                sighting = of[number] = _Sighting()
            if sequence == sighting.below and not sighting.beyond:
                sighting.below = sequence + 1
            elif not sighting.add(sequence):
                duplicate += 1
                continue
            if keys:
                reordered += self._is_late(number, sequence)
            elif sequence > last.get(number, -1):
                last[number] = sequence
            else:
                reordered += 1
            due.append(due_ns)
        self.corrupt += corrupt
        self.reordered += reordered
        self._sightings.duplicate += duplicate
        self._sightings.distinct += len(due)
        return due

    def _sum_up(self, body: bytes) -> int:
        """The CRC of what is behind the stamp; it is kept for the next ones of this length."""
        behind = body[STAMP_BYTES:]
        crc = crc32(behind)
        if len(body) not in self._known:
            # Only a body that is sound as a whole is worth comparing with.
            if crc32(body[:HEAD_BYTES], crc) == _stamp_of(body)[3]:
                if self._known_bytes + len(behind) <= _KNOWN_BYTES_MAX:
                    self._known[len(body)] = behind, crc
                    self._known_bytes += len(behind)
        return crc

    def _is_late(self, number: int, sequence: int) -> bool:
        """Whether a later message with the same key was there before."""
        key = number, self._keys[turn(number, sequence, len(self._keys))]
        if sequence > self._last_of_key.get(key, -1):
            self._last_of_key[key] = sequence
            return False
        return True

"""Deadlines by the million: a wheel of (time, number) at 8 bytes each.

Delays and times to live can be as many as there are messages, so a heap of tuples is out of the
question. Numbers are kept in buckets of ``2**BUCKET_BITS`` ms, packed into one u64 with their
offset inside the bucket; a heap orders the buckets. A bucket is unpacked and sorted only when its
time has come, so nothing fires early, and all fires in order of time.

Entries are not removed one by one: whoever takes what is due asks whether it still matters, and
when most do not, :meth:`Wheel.trim` drops them, a few buckets at a time.
"""

from array import array
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

__all__ = ["NUMBER_BITS", "Wheel"]

BUCKET_BITS = 8  # 256 ms: small enough to sort in one go at 250,000 entries a second
NUMBER_BITS = 64 - BUCKET_BITS
_OFFSET_MASK = (1 << BUCKET_BITS) - 1
_NUMBER_MASK = (1 << NUMBER_BITS) - 1
_KEYS_STALE = 64  # tolerated in the heap


class Wheel:
    """Numbers below 2**56, each with the unix ms at which it is due."""

    __slots__ = ("_buckets", "_count", "_keys", "_near", "_unchecked")

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = {}
        self._keys: list[int] = []  # heap of the buckets' numbers; some may be gone
        self._near: list[tuple[int, int]] = []  # buckets that have begun, the earliest entry last
        self._count = 0
        self._unchecked: list[int] = []  # buckets that trim has still to look at

    def __len__(self) -> int:
        return self._count

    def add(self, due_ms: int, number: int) -> None:
        """Make ``number`` due at ``due_ms``."""
        self._count += 1
        key = due_ms >> BUCKET_BITS
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = array("Q")
            heappush(self._keys, key)
        bucket.append((due_ms & _OFFSET_MASK) << NUMBER_BITS | number)

    def next_due(self) -> int | None:
        """When :meth:`due` should be called next: never later than the first entry's time."""
        while self._keys and self._keys[0] not in self._buckets:
            heappop(self._keys)
        if self._near:
            near = self._near[-1][0]
            return min(near, self._keys[0] << BUCKET_BITS) if self._keys else near
        return self._keys[0] << BUCKET_BITS if self._keys else None

    def due(self, now_ms: int, most: int) -> list[tuple[int, int]]:
        """Take up to ``most`` entries that are due, as (due_ms, number), earliest first."""
        keys = self._keys
        near = self._near
        if keys and keys[0] << BUCKET_BITS <= now_ms:
            while keys and keys[0] << BUCKET_BITS <= now_ms:
                key = heappop(keys)
                base = key << BUCKET_BITS
                for packed in self._buckets.pop(key, ()):
                    near.append((base | packed >> NUMBER_BITS, packed & _NUMBER_MASK))
            near.sort(reverse=True)
        taken: list[tuple[int, int]] = []
        while near and near[-1][0] <= now_ms and len(taken) < most:
            taken.append(near.pop())
        self._count -= len(taken)
        return taken

    def trim(self, wanted: Callable[[int], int], most: int) -> None:
        """Look at about ``most`` entries, others each time, and drop those not ``wanted``."""
        buckets = self._buckets
        if not self._unchecked:
            self._unchecked = list(buckets)
        while self._unchecked and most > 0:
            most -= 1
            key = self._unchecked.pop()
            bucket = buckets.get(key)
            if bucket is None:
                continue
            most -= len(bucket)
            kept = array("Q", [each for each in bucket if wanted(each & _NUMBER_MASK)])
            self._count -= len(bucket) - len(kept)
            if kept:
                buckets[key] = kept  # another array: a checkpoint may hold the one before
            else:
                del buckets[key]
        if len(self._keys) > 2 * len(buckets) + _KEYS_STALE:
            self._keys = sorted(buckets)

    def sections(self) -> Iterator[tuple[int, bytes]]:
        """Everything in it as (bucket number, packed entries), for a checkpoint."""
        near: dict[int, array[int]] = {}
        for due_ms, number in self._near:
            packed = (due_ms & _OFFSET_MASK) << NUMBER_BITS | number
            near.setdefault(due_ms >> BUCKET_BITS, array("Q")).append(packed)
        for key, bucket in list(self._buckets.items()):
            yield key, bucket.tobytes()
        for key, bucket in near.items():
            yield key, bucket.tobytes()

    def load(self, key: int, content: bytes) -> None:
        """Take back one of the :meth:`sections`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = array("Q")
            heappush(self._keys, key)
        before = len(bucket)
        bucket.frombytes(content)
        self._count += len(bucket) - before

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Every entry as (due_ms, number), in no order."""
        for key, content in self.sections():
            bucket = array("Q")
            bucket.frombytes(content)
            for packed in bucket:
                yield key << BUCKET_BITS | packed >> NUMBER_BITS, packed & _NUMBER_MASK

    def without(self, numbers: set[int]) -> "Wheel":
        """A copy that leaves ``numbers`` out."""
        kept = Wheel()
        for due_ms, number in self.numbers():
            if number not in numbers:
                kept.add(due_ms, number)
        return kept

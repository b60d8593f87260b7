"""When connections are due: thousands of them behind one timer of the event loop.

A timer of its own would cost each connection more memory than the carrier itself. Here a deadline
is a place in a bucket of ``GRAIN_MS``; a heap orders the buckets. Nothing fires early, and nothing
more than ``GRAIN_MS`` late. A connection is in at most one bucket, and leaves it when it ends, so
that there are never more entries than connections.
"""

from heapq import heappop, heappush
from typing import Generic, TypeVar

__all__ = ["GRAIN_MS", "Deadlines"]

GRAIN_MS = 64
_STALE_MAX = 64  # buckets that are gone but still in the order, beside as many as there are

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things, each with the bucket in which it is due. Times are unix ms."""

    __slots__ = ("_buckets", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, set[T]] = {}
        self._order: list[int] = []  # heap of the buckets' numbers; some are gone, or there twice

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, thing: T, at_ms: int) -> int:
        """Make ``thing`` due at ``at_ms``; returns its bucket, for :meth:`discard`."""
        number = max(0, -(-at_ms // GRAIN_MS))
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {thing}
            if len(self._order) > 2 * len(self._buckets) + _STALE_MAX:
                self._order = sorted(self._buckets)
            else:
                heappush(self._order, number)
        else:
            bucket.add(thing)
        return number

    def discard(self, thing: T, number: int) -> None:
        """Forget ``thing``, which :meth:`add` put into the bucket ``number``, if it is there."""
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.discard(thing)
            if not bucket:
                del self._buckets[number]

    def next_ms(self) -> int | None:
        """When :meth:`due` will have something."""
        while self._order and self._order[0] not in self._buckets:
            heappop(self._order)
        return self._order[0] * GRAIN_MS if self._order else None

    def due(self, now_ms: int) -> list[T]:
        """Take all that is due."""
        taken: list[T] = []
        while (at_ms := self.next_ms()) is not None and at_ms <= now_ms:
            taken.extend(self._buckets.pop(heappop(self._order)))
        return taken

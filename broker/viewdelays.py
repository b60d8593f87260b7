"""What a view holds back, each until its time: a heap.

It stands where an ordinary queue has a wheel, and has its methods. A wheel has room for numbers of
56 bits; the sequences of a view, which have the lane in front, take 64. A view knows so few records
at once (``StreamView``) that the memory a heap takes is no matter.
"""

from array import array
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from .wheel import Wheel

__all__ = ["Delays"]


class Delays(Wheel):
    """Sequences below 2**64, each with the unix ms at which it is due."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due_ms: int, number: int) -> None:
        """Make ``number`` due at ``due_ms``."""
        heappush(self._heap, (due_ms, number))

    def next_due(self) -> int | None:
        """When :meth:`due` should be called next."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int, most: int) -> list[tuple[int, int]]:
        """Take up to ``most`` entries that are due, as (due_ms, number), earliest first."""
        heap = self._heap
        taken: list[tuple[int, int]] = []
        while heap and heap[0][0] <= now_ms and len(taken) < most:
            taken.append(heappop(heap))
        return taken

    def trim(self, wanted: Callable[[int], int], most: int) -> None:
        """Drop all entries that are not ``wanted``: they are few enough to look at each."""
        self._heap = [each for each in self._heap if wanted(each[1])]
        heapify(self._heap)

    def sections(self) -> Iterator[tuple[int, bytes]]:
        """Everything in it as one section, for a checkpoint: times and sequences in turn."""
        if self._heap:
            yield 0, array("Q", [value for entry in self._heap for value in entry]).tobytes()

    def load(self, key: int, content: bytes) -> None:
        """Take back one of the :meth:`sections`."""
        values = array("Q", content)
        self._heap.extend(zip(values[::2], values[1::2], strict=True))
        heapify(self._heap)

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Every entry as (due_ms, number), in no order."""
        return iter(list(self._heap))

    def without(self, numbers: set[int]) -> "Delays":
        """A copy that leaves ``numbers`` out."""
        kept = Delays()
        kept._heap = [each for each in self._heap if each[1] not in numbers]
        heapify(kept._heap)
        return kept

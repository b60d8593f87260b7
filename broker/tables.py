"""Dicts that give room back.

A dict grows as entries come, and keeps its size when they go: after a burst of a million entries
an almost empty one still holds tens of megabytes, and walking over it still takes milliseconds.
Whoever deletes from a dict that lives long asks here whether to go on with a copy.
"""

from sys import getsizeof
from typing import TypeVar

__all__ = ["slimmed"]

K = TypeVar("K")
V = TypeVar("V")

# A dict that has only grown takes less than 150 bytes an entry from about ten entries on.
_ENTRY_BYTES_MAX = 512
_BYTES_MIN = 4096


def slimmed(table: dict[K, V]) -> dict[K, V]:
    """The table itself, or a copy of it when most of its room is empty.

    Called at every deletion, it copies an entry for several that were deleted.
    """
    size = getsizeof(table)
    if size > _BYTES_MIN and size > _ENTRY_BYTES_MAX * len(table):
        return dict(table)
    return table

"""Where to begin in a shard: the number that a :class:`Start` stands for.

A time may fall into a cold file, whose index is on disk; then the answer comes later.
"""

from collections.abc import Callable

from ..storage.cold import ColdFile
from ..storage.errors import StorageError
from .errors import BraidError, InvalidArgument, Unavailable
from .shard import Shard
from .streamverbs import Start

__all__ = ["NumberFound", "find_number", "find_time"]

NumberFound = Callable[[int | BraidError], None]


def find_number(shard: Shard, start: Start, found: NumberFound) -> None:
    """Find where to begin: never before the oldest record, nor behind the end.

    ``found`` is called once, perhaps at once, with the number or Unavailable. Raises
    InvalidArgument.
    """
    if start.kind == "time":
        find_time(shard, start.time_ms, found)
    elif start.kind == "earliest":
        found(shard.first)
    elif start.kind == "latest":
        found(shard.readable())  # not behind what a crash could take back
    else:
        number = start.number + (start.kind == "after")
        if not 0 < number <= shard.next:
            raise InvalidArgument(f"shard {shard.index} goes from {shard.first} to {shard.next}")
        found(max(number, shard.first))


def find_time(shard: Shard, time_ms: int, found: NumberFound) -> None:
    """Find the first record that came at ``time_ms`` or later; ``found`` is called as above."""
    number = shard.number_at(time_ms)
    if isinstance(number, int):
        found(number)
        return

    def sought(_: object, number: int | None, error: StorageError | None) -> None:
        if number is not None:
            found(max(number, shard.first))
        else:
            found(Unavailable(f"shard {shard.index}: {error}"))

    assert isinstance(number, ColdFile)
    assert shard.log.cold is not None
    shard.log.cold.seek(number, time_ms, sought, None)

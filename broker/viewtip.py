"""Waiting at the end of a shard for records that a view has not admitted yet.

To the stream it is a read that waits like others, so views are woken as readers are: when records
are as durable as the stream promises, and when the shard is closed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import BraidError
from .streamreading import Chunk, ShardRead
from .viewlane import ViewLane

if TYPE_CHECKING:
    from .stream import Stream
    from .streams import Streams

__all__ = ["Tip"]

_WAIT_MS = 365 * 24 * 3600 * 1000  # then it is made anew

Came = Callable[[ViewLane, BraidError | None], None]


class Tip(ShardRead):
    """One wait. ``came(lane, error)`` is called once: there may be more, or it cannot wait."""

    __slots__ = ("_came", "_lane")

    def __init__(self, streams: "Streams", stream: "Stream", lane: ViewLane, came: Came) -> None:
        deadline_ms = streams.now_ms + _WAIT_MS
        super().__init__(
            streams, stream, lane.shard, lane.next, 1, 1, deadline_ms, _unanswered, None
        )
        self._came = came
        self._lane = lane

    def step(self) -> None:
        """There may be more."""
        if not self.closed:
            self.closed = True
            self._came(self._lane, None)

    def fail(self, error: BraidError) -> None:
        """It cannot be waited for."""
        if not self.closed:
            self.closed = True
            self._came(self._lane, error)


def _unanswered(argument: object, answer: Chunk | BraidError) -> None:
    """A tip has no answer."""

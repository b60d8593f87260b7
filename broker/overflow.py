"""A queue at its limits: refuse what comes, or sacrifice what is there.

The message to go is the oldest of the lowest priority that is ready; only when none is ready, one
that is held. What somebody has leased is never taken away.
"""

from typing import TYPE_CHECKING

from .errors import QueueFull
from .host import DROPPED
from .index import LEASED, Lane

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["has_room", "make_room"]


def has_room(queue: "Queue", size: int, now_ms: int) -> bool:
    """Make room in a session's queue by its policy; False: the message is dropped, and counted.

    Raises:
        QueueFull: the policy is to refuse.
    """
    settings = queue.settings
    if queue.live < settings.messages_max and queue.bytes + size <= settings.bytes_max:
        return True
    if settings.overflow != "drop-newest":
        try:
            make_room(queue, size, now_ms)
            return True
        except QueueFull:
            if settings.overflow == "reject":
                raise
    queue.counters.dropped += 1
    return False


def make_room(queue: "Queue", size: int, now_ms: int) -> None:
    """Hold to the queue's limits before a message of ``size`` bytes comes in.

    What was promised room (``transaction.py``) comes in even if there is none.

    Raises:
        QueueFull: the policy is ``reject``, or nothing can be sacrificed.
    """
    settings = queue.settings
    fits = settings.overflow != "reject" and not 0 < settings.bytes_max < size
    while (settings.messages_max and queue.live >= settings.messages_max) or (
        settings.bytes_max and queue.bytes + size > settings.bytes_max
    ):
        queue.host.advising.full(queue)
        seq = _victim(queue) if fits else None
        if seq is None and queue.promised:
            return
        if seq is None:
            raise QueueFull(
                f"queue {queue.name} holds {queue.live} messages, {queue.bytes} bytes:"
                f" its limits are {settings.messages_max or 'no'} messages,"
                f" {settings.bytes_max or 'no'} bytes"
            )
        if settings.overflow == "dead-letter":
            lane, number = queue.locate(seq)
            assert lane is not None
            queue.host.bury(queue, seq, "overflow", lane.receives(number), now_ms)
        else:
            queue.discard([seq], DROPPED)
            queue.counters.dropped += 1


def _victim(queue: "Queue") -> int | None:
    for lane in reversed(queue.lanes if queue.live > queue.held + len(queue.leases) else ()):
        waiting = queue.fifo or queue.affinity is not None  # some that the search went past
        number = lane.first_returned() if not waiting else -1
        if number < 0 and waiting:
            number = lane.first_ready(lane.first_live(0))
        elif number < 0:
            number = lane.cursor = lane.first_ready(lane.cursor)
        if number < lane.next:
            return lane.base | number
    for lane in reversed(queue.lanes):
        held = _first_held(lane)
        if held is not None:
            return lane.base | held
    return None


def _first_held(lane: Lane) -> int | None:
    return next((n for n in lane.live_numbers() if not lane.slot(n) & LEASED), None)

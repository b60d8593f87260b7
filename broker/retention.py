"""Retention: the oldest messages of a queue go when they have been kept long enough.

Nothing is remembered for each message: within a lane the oldest stand first, so one look at the
first tells when to look again. Its time stands in the log, and is read back when it is not in
memory.
"""

from typing import TYPE_CHECKING

from .index import LEASED

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["sweep"]

_EXPIRIES = 1_000  # handled in one sweep
_RETRY_MS = 100  # before a sweep that met a leased or unread message looks again


def sweep(queue: "Queue", now_ms: int) -> None:
    """Expire what is past the queue's retention, and note when to look again."""
    queue.sweep_ms = 0
    for lane in queue.lanes if queue.settings.retention_ms else ():
        for _ in range(_EXPIRIES):
            number = lane.first_live(0)
            if number == lane.next:
                break
            leased = lane.slot(number) & LEASED
            message = None if leased else queue.read(lane, number)
            due_ms = now_ms + _RETRY_MS if message is None else message.expire_ms
            if due_ms > now_ms:
                queue.sweep_ms = min(queue.sweep_ms or due_ms, due_ms)
                break
            queue.expire(lane.base | number, now_ms)
        else:
            queue.sweep_ms = now_ms + 1
    queue.reader.rest()

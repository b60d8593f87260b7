"""What a queue does when time has passed.

Leases end, delayed messages are ready, old ones expire, receives have waited long enough. All of
it in slices, so that a million deadlines at one time do not hold everybody else up.
"""

from typing import TYPE_CHECKING

from .index import HELD
from .retention import sweep

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["do_what_is_due"]

_EXPIRIES = 1_000  # of each kind handled in one tick


def do_what_is_due(queue: "Queue", now_ms: int) -> None:
    """End leases and waits, release delayed messages, expire old ones."""
    for seq in queue.leases.due(now_ms, _EXPIRIES):
        lease = queue.leases.by_seq[seq]
        queue.leases.drop(seq, lease)
        queue.give_back(seq, lease, 0, True, now_ms)
    for _, seq in queue.delayed.due(now_ms, _EXPIRIES):
        _release_held(queue, seq)
    for _, seq in queue.expiring.due(now_ms, _EXPIRIES):
        queue.expire_if_idle(seq, now_ms)
    if queue.sweep_ms and queue.sweep_ms <= now_ms:
        sweep(queue, now_ms)
    while not queue.reader.loading and (consumer := queue.waits.pop_due(now_ms)) is not None:
        queue.drop(consumer)
        consumer.deliver([])


def _release_held(queue: "Queue", seq: int) -> None:
    lane, number = queue.locate(seq)
    slot = queue.slot(seq)
    if lane is not None and slot & HELD:
        lane.set_slot(number, slot & ~HELD)
        queue.held -= 1
        queue.ready_again(lane, number)

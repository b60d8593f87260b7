"""The front of a queue, leased quickly: what is most common, and nothing else.

Messages that stand one behind the other, for a consumer that takes any, and of which nothing has to
be asked: they come for the first time, do not expire, belong to no group, came by no link, are as
durable as the queue promises and in memory. With the first message that is not such this ends, and
``Queue`` looks at it as at any other; so there is nothing here that is not done there as well.
"""

from typing import TYPE_CHECKING

from .affinity import GROUP_MARK
from .index import LEASED, PAGE_BITS, PAGE_MASK, Lane
from .lease import Consumer
from .message import Delivery

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["gather_plain"]


def gather_plain(
    queue: "Queue", consumer: Consumer, most: int, bytes_left: int, now_ms: int
) -> tuple[list[Delivery], int]:
    """Lease up to ``most`` messages: (the deliveries, what is left of ``bytes_left``)."""
    deliveries: list[Delivery] = []
    lane = _front(queue, consumer)
    if lane is None:
        return deliveries, bytes_left
    page = lane.pages[lane.cursor >> PAGE_BITS]
    if page.links is not None or page.counts is not None:
        return deliveries, bytes_left
    at = lane.cursor & PAGE_MASK
    seq = lane.base | lane.cursor
    slots, frontier = page.slots, queue.frontier()
    at_hand, grant = queue.reader.at_hand, queue.leases.grant
    sticky = queue.affinity is not None
    deadline_ms = now_ms + consumer.lease_ms if consumer.lease_ms else 0
    end = min(at + most, len(slots))
    while at < end and bytes_left > 0:
        slot = slots[at]
        if not 0 < slot < LEASED or slot >= frontier:
            break
        message = at_hand(slot)
        if message is None or message.expire_ms:
            break
        body, attributes = message.body, message.attributes
        if sticky and GROUP_MARK in attributes:
            break
        slots[at] = slot | LEASED
        size = len(body) + len(attributes)
        bytes_left -= size
        token = grant(seq, 1, deadline_ms, 0, size, consumer, now_ms)
        deliveries.append(Delivery(seq, token, 1, message.id, message.time_ms, attributes, body))
        at += 1
        seq += 1
    return deliveries, bytes_left


def _front(queue: "Queue", consumer: Consumer) -> Lane | None:
    """The lane whose cursor is at the next message; None: it takes more to find that."""
    affinity = queue.affinity
    if (
        consumer.selector is not None
        or queue.settings.retention_ms
        or queue.reader.loading
        or not (affinity is None or affinity.is_idle)
    ):
        return None
    for lane in queue.lanes:
        if lane.returned:
            return None
        number = lane.cursor = lane.first_ready(lane.cursor)
        if number < lane.next:
            return lane
    return None

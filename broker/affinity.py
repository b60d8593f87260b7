"""Sticky message groups of a standard queue: a group's messages go to one consumer while it lives.

What is remembered is bounded whatever names groups have: a group belongs to the bucket that the
hash of its name says, one of ``sticky_groups_max``, and buckets are given to consumers. A bucket
goes to the one with the fewest of those next in turn, when the first message of it is found. It is
free again when its consumer ends, or with a message that closes its group (``group-sequence``
below 0, which ends a group in JMS), unless another group has come into the bucket: then it stays,
for the other group's sake.

The group is a header, so it is seen when a message is read to be delivered. One for a consumer
that has no credit is *parked*: it waits for that consumer, and others get what stands behind it.
So the search looks ahead, by at most ``sticky_lookahead_messages_max`` parked messages in the
whole queue; then it rests until some of them go. What is parked for a consumer that ends counts
as given back, so it comes first again.

A consumer with a selector searches by itself, so it parks nothing; it passes over what is
another's, and is asked again when that bucket becomes free. A message that the group's consumer
leaves out by its selector goes to whoever wants it. A receive is no living consumer: it is given
what no consumer has or could have now.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from ..storage.record import MessageContent
from .dedup import group_hash
from .index import LEASED, Lane
from .lease import Consumer
from .message import GROUP_ID, GROUP_SEQUENCE, Headers, unpack_headers
from .selecting import selects
from .state import LANE_SHIFT

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["GROUP_MARK", "Affinity"]

_Found: TypeAlias = tuple[int, MessageContent, Headers]  # its sequence, and what was unpacked of it

GROUP_MARK = GROUP_ID.encode()
_CHOICES = 16  # of those next in turn are compared when a bucket is given away
_STALE_PARTS = 16  # so small a part of what is parked may be gone unnoticed when no more fits


class _Bucket:
    """Some groups, and whose they are."""

    __slots__ = ("group", "owner", "skipped")

    def __init__(self, owner: Consumer, group: int) -> None:
        self.owner = owner
        self.group = group  # the hash of the only one that was seen; 0: there were several
        self.skipped: dict[int, int] = {}  # lane base -> the lowest that a selector passed over


class Affinity:
    """Which consumer of a queue has which groups, and what waits for it."""

    __slots__ = (
        "_buckets",
        "_counts",
        "_gone",
        "_parked",
        "_passed",
        "_queue",
        "_rests",
        "stirred",
    )

    def __init__(self, queue: "Queue") -> None:
        self._queue = queue
        self._buckets: dict[int, _Bucket] = {}
        self._counts: dict[Consumer, int] = {}  # how many buckets each one has
        self._parked: dict[Consumer, dict[int, list[int]]] = {}  # by lane base: heap of numbers
        self._passed = 0  # numbers in these heaps, stale ones included
        self._gone = 0  # messages that had gone unconsumed when stale ones were looked for
        self._rests = False  # the search goes on when one of the parked messages goes
        self.stirred = False  # somebody that was asked in vain may be given something now

    @property
    def is_idle(self) -> bool:
        """Nothing waits for one consumer in particular."""
        return not self._passed

    # Finding ----------------------------------------------------------------------------------

    def find(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        """The next message to look at for a consumer, or None."""
        if not self._passed and consumer.selector is None:  # nothing is parked: the common case
            return self._first_ready()
        for lane in self._queue.lanes:
            number = self._first_parked(consumer, lane)
            if consumer.selector is not None:
                other = lane.first_ready(consumer.positions.get(lane.base, 0))
                consumer.positions[lane.base] = other
            else:
                other = lane.first_returned() if lane.returned else -1
                if other < 0 and number == lane.next:
                    other = self._search(lane)
            if 0 <= other < number:
                number = other
            if number < lane.next:
                return lane, number
        return None

    def _first_ready(self) -> tuple[Lane, int] | None:
        for lane in self._queue.lanes:
            number = lane.first_returned() if lane.returned else -1
            if number < 0:
                number = lane.cursor = lane.first_ready(lane.cursor)
            if number < lane.next:
                return lane, number
        return None

    def _first_parked(self, consumer: Consumer, lane: Lane) -> int:
        """The first message of the lane that waits for the consumer; ``lane.next``: none."""
        lanes = self._parked.get(consumer)
        parked = lanes.get(lane.base) if lanes else None
        while parked:
            if 0 < lane.slot(parked[0]) < LEASED:
                return parked[0]
            heappop(parked)
            self._unpark(1)
        return lane.next

    def _search(self, lane: Lane) -> int:
        """The next message that nobody has looked at, or ``lane.next``."""
        if self._passed >= self._queue.host.limits.sticky_lookahead_messages_max:
            self._forget_stale(self._passed // _STALE_PARTS)
            if self._passed >= self._queue.host.limits.sticky_lookahead_messages_max:
                self._rests = True
                return lane.next
        number = lane.cursor = lane.first_ready(lane.cursor)
        return number

    def _unpark(self, count: int) -> None:
        self._passed -= count
        if self._rests and count:
            self._rests = False
            self.stirred = True

    def _forget_stale(self, most: int) -> None:
        """Forget parked messages that expired or were dropped, if more than ``most`` may be."""
        counters = self._queue.counters
        gone = counters.expired + counters.dropped + counters.dead_lettered
        if gone - self._gone <= most:
            return
        self._gone = gone
        for lanes in self._parked.values():
            for base, parked in lanes.items():
                lanes[base] = self._standing(base, parked)
        self._passed = sum(len(each) for lanes in self._parked.values() for each in lanes.values())

    def _standing(self, base: int, numbers: Iterable[int]) -> list[int]:
        """Those of a lane's numbers that are ready, as a heap."""
        lane = self._queue.by_code[base >> LANE_SHIFT]
        return sorted(number for number in numbers if 0 < lane.slot(number) < LEASED)

    # Deciding ---------------------------------------------------------------------------------

    def admits(self, consumer: Consumer, lane: Lane, number: int, message: MessageContent) -> bool:
        """Whether the consumer gets a message that :meth:`find` found; else it is passed over."""
        if self._passed and self._first_parked(consumer, lane) == number:
            heappop(self._parked[consumer][lane.base])
            self._unpark(1)
            return True
        seq = lane.base | number
        headers: Headers | None = None
        if consumer.selector is not None:
            headers = unpack_headers(message.attributes)
            if not selects(consumer.selector, self._queue, seq, message, headers):
                consumer.positions[lane.base] = number + 1
                return False
        if GROUP_MARK not in message.attributes:
            return True
        headers = unpack_headers(message.attributes) if headers is None else headers
        group = headers.get(GROUP_ID)
        if not group:
            return True
        hashed = group_hash(group if isinstance(group, str) else group.decode("utf-8", "replace"))
        index = hashed % self._queue.host.limits.sticky_groups_max
        found = (seq, message, headers)
        bucket = self._bucket(index, hashed, consumer, found)
        owner = bucket.owner if bucket is not None else consumer
        if bucket is None or not self._takes(owner, consumer, found):
            return True
        if owner is not consumer and consumer.selector is not None:
            consumer.positions[lane.base] = number + 1
            bucket.skipped[lane.base] = min(number, bucket.skipped.get(lane.base, number))
            self.stirred = self.stirred or owner.credit > 0
            return False
        if owner is not consumer:
            self._park(owner, lane, number)
        if bucket.group == hashed and _closes(headers):
            self._free(index)
        return owner is consumer

    def _bucket(self, index: int, hashed: int, consumer: Consumer, found: _Found) -> _Bucket | None:
        """The bucket, somebody's from now on; None when there is nobody to give it to."""
        bucket = self._buckets.get(index)
        if bucket is None:
            owner = self._choose(consumer, found)
            if owner is not None:
                bucket = self._buckets[index] = _Bucket(owner, hashed)
                self._counts[owner] = self._counts.get(owner, 0) + 1
        elif bucket.group != hashed:
            bucket.group = 0
        return bucket

    def _choose(self, consumer: Consumer, found: _Found) -> Consumer | None:
        """Who gets a bucket: of the highest priority the one that has the fewest."""
        chosen = None if consumer.one_shot else consumer
        for each in islice(self._queue.hungry, _CHOICES):
            if each.one_shot or not self._takes(each, consumer, found):
                continue
            if chosen is None or self._weight(each) < self._weight(chosen):
                chosen = each
        return chosen

    def _takes(self, owner: Consumer, asking: Consumer, found: _Found) -> bool:
        """Whether the owner's selector lets a message through that passed the asking one's."""
        if owner is asking or owner.selector is None:
            return True
        seq, message, headers = found
        return selects(owner.selector, self._queue, seq, message, headers)

    def _weight(self, consumer: Consumer) -> tuple[int, int]:
        return -consumer.priority, self._counts.get(consumer, 0)

    def _park(self, owner: Consumer, lane: Lane, number: int) -> None:
        """Let a message wait for its consumer, and the search go on behind it."""
        if lane.returned and lane.returned[0] == number:
            heappop(lane.returned)
        else:
            lane.cursor = number + 1
        heappush(self._parked.setdefault(owner, {}).setdefault(lane.base, []), number)
        self._passed += 1
        self.stirred = self.stirred or owner.credit > 0

    # Ends -------------------------------------------------------------------------------------

    def _free(self, index: int) -> None:
        """A bucket is nobody's any more."""
        bucket = self._buckets.pop(index)
        left = self._counts[bucket.owner] - 1
        if left:
            self._counts[bucket.owner] = left
        else:
            del self._counts[bucket.owner]
        if bucket.skipped:
            rewound = self._queue.rewound
            for base, number in bucket.skipped.items():
                rewound[base] = min(number, rewound.get(base, number))
            self._queue.host.wake(self._queue)

    def drop(self, consumer: Consumer) -> None:
        """A consumer has ended: what is its own goes to others."""
        if consumer in self._counts:
            for index in [i for i, each in self._buckets.items() if each.owner is consumer]:
                self._free(index)
        for base, parked in self._parked.pop(consumer, {}).items():
            self._unpark(len(parked))
            returned = self._queue.by_code[base >> LANE_SHIFT].returned
            returned.extend(self._standing(base, parked))
            heapify(returned)
            self._queue.host.wake(self._queue)

    def release(self) -> None:
        """Nobody has any group any more."""
        for consumer in [*self._counts, *self._parked]:
            self.drop(consumer)

    def forget_parked(self) -> None:
        """All messages are gone."""
        self._parked.clear()
        self._unpark(self._passed)


def _closes(headers: Headers) -> bool:
    """Whether the message is its group's last one."""
    return headers.get(GROUP_SEQUENCE, "")[:1] in ("-", b"-")

"""Who holds which message, until when: leases, and the consumers they are given to.

A lease ends by being settled (ack, nack, dead letter), by its deadline, or with its consumer when
it has no deadline (pushed messages). Deadlines are kept in buckets of 64 ms, so that settling one
costs no more than taking it; an expiry is never early and at most a bucket late.

What a sink raises by mistake is reported, and costs the sink its consumer; nobody else. The log's
errors are no mistake of a sink's: they go on to whoever called.
"""

import enum
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..storage.errors import StorageError
from .errors import BraidError
from .message import Delivery
from .selectors import Selector

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["Consumer", "Exclusivity", "Lease", "LeaseTable", "Sink", "WaitList", "rewind"]

_BUCKET_BITS = 6
_KEYS_STALE = 64  # tolerated in the heap
_WAITS_STALE = 64  # receives that were answered, tolerated among those that wait


class Exclusivity(enum.IntEnum):
    """Whether a consumer shares its queue with others."""

    SHARED = 0
    PREFERRED = 1  # only it is served while it is there; others, and others such, stand by
    SOLE = 2  # there may be no other


class Consumer:
    """One receive or one subscription: somebody with credit, waiting at a queue.

    Attributes:
        credit: how many messages more it may be given.
        lease_ms: how long it holds each; 0: as long as it lives.
        one_shot: a receive: it gets one delivery and is gone.
        priority: those with a higher one are served first.
        positions: by lane, where the search for messages that match its selector goes on.
    """

    __slots__ = (
        "attempt",
        "closed",
        "credit",
        "deadline_ms",
        "exclusive",
        "held",
        "lease_ms",
        "one_shot",
        "positions",
        "priority",
        "queue",
        "queue_name",
        "selector",
        "sink",
        "tag",
    )

    def __init__(
        self,
        queue_name: str,
        sink: "Sink",
        credit: int,
        lease_ms: int,
        selector: Selector | None,
        tag: object,
    ) -> None:
        self.queue_name = queue_name
        self.queue: Queue | None = None  # once it waits there
        self.sink = sink
        self.credit = credit
        self.lease_ms = lease_ms
        self.selector = selector
        self.tag = tag
        self.one_shot = False
        self.priority = 0
        self.exclusive = Exclusivity.SHARED
        self.deadline_ms = 0  # of a one-shot: when it stops waiting
        self.attempt = ""
        self.closed = False
        self.held: set[int] = set()  # sequences it holds without a deadline
        self.positions: dict[int, int] = {}  # lane base -> number, with a selector

    def limit(self, credit: int) -> None:
        """Let it have at most ``credit`` messages more; what pays for them was used elsewhere."""
        if self.credit > credit:
            self.credit = credit
            if credit <= 0 and self.queue is not None:
                self.queue.turns.leave(self)

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Give the sink messages, now leased; an empty list ends a receive that waited."""
        try:
            self.sink.deliver(self, deliveries)
        except StorageError:
            raise
        except Exception as error:
            assert self.queue is not None
            host = self.queue.host
            host.on_fault(error)
            host.evict(self, [delivery.receipt for delivery in deliveries])

    def end(self, error: BraidError) -> None:
        """Tell the sink that the broker has ended it."""
        try:
            self.sink.closed(self, error)
        except StorageError:
            raise
        except Exception as fault:
            assert self.queue is not None
            self.queue.host.on_fault(fault)


class WaitList:
    """Receives that wait for a message, until their deadlines."""

    __slots__ = ("_heap", "_turn", "arrivals")

    def __init__(self) -> None:
        self.arrivals: list[Consumer] = []  # those that were not looked after yet
        self._heap: list[tuple[int, int, Consumer]] = []
        self._turn = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, consumer: Consumer) -> None:
        """Let a receive wait."""
        self._turn += 1
        heappush(self._heap, (consumer.deadline_ms, self._turn, consumer))

    def settle(self, now_ms: int) -> Iterator[Consumer]:
        """Let those that have arrived wait; yields the ones whose wait is over already."""
        arrivals, self.arrivals = self.arrivals, []
        for consumer in arrivals:
            if consumer.closed:
                continue
            if consumer.deadline_ms <= now_ms:
                yield consumer
            else:
                self.add(consumer)

    def next_due(self) -> int | None:
        """When :meth:`pop_due` should be called next."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> Consumer | None:
        """The next one that has waited long enough, or None."""
        while self._heap and self._heap[0][0] <= now_ms:
            consumer = heappop(self._heap)[2]
            if not consumer.closed:
                return consumer
        return None

    def trim(self, waiting: int) -> None:
        """Forget those that were answered when they are most; ``waiting`` are not."""
        if len(self._heap) > 2 * waiting + _WAITS_STALE:
            self._heap = sorted(each for each in self._heap if not each[2].closed)


def rewind(consumers: Iterable[Consumer], returned: dict[int, int]) -> None:
    """Let selectors be asked about messages that came back: lane base -> the lowest number."""
    for consumer in consumers:
        for base, number in returned.items():
            if consumer.positions.get(base, 0) > number:
                consumer.positions[base] = number
    returned.clear()


class Sink(Protocol):
    """Whoever made a consumer. Called from :meth:`Core.run` and :meth:`Core.tick` only."""

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Take messages, now leased; an empty list ends a receive whose wait ran out."""

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The consumer was ended by the broker."""


class Lease(msgspec.Struct, gc=False):
    """A message in somebody's hands."""

    token: int
    receives: int
    deadline_ms: int  # 0: none
    expire_ms: int  # the message's own end, 0: none
    size: int
    consumer: Consumer | None


class LeaseTable:
    """The leases of one queue, by sequence number."""

    __slots__ = ("_buckets", "_keys", "_newest", "by_seq", "token")

    def __init__(self) -> None:
        self.by_seq: dict[int, Lease] = {}
        self.token = 0
        self._buckets: dict[int, set[int]] = {}
        self._keys: list[int] = []  # heap of the buckets' numbers; some may be gone
        self._newest = 0  # the bucket made last: the only one that may be empty

    def __len__(self) -> int:
        return len(self.by_seq)

    def emptied(self) -> "LeaseTable":
        """A table without leases that never gives a token a second time."""
        table = LeaseTable()
        table.token = self.token
        return table

    def grant(
        self,
        seq: int,
        receives: int,
        deadline_ms: int,
        expire_ms: int,
        size: int,
        consumer: Consumer | None,
        now_ms: int,
    ) -> int:
        """Lease ``seq``; the token that, with it, proves who holds it."""
        token = self.token + 1
        if token == 1:
            token = now_ms << 12  # above every token of an earlier process
        self.token = token
        self.by_seq[seq] = Lease(token, receives, deadline_ms, expire_ms, size, consumer)
        if deadline_ms:
            self._schedule(seq, deadline_ms)
        elif consumer is not None:
            consumer.held.add(seq)
        return token

    def take(self, seq: int, token: int) -> Lease | None:
        """End the lease that this receipt proves, as :meth:`drop` does; None: it is not held."""
        lease = self.by_seq.get(seq)
        if lease is None or lease.token != token:
            return None
        del self.by_seq[seq]
        if lease.deadline_ms:
            self._unschedule(seq, lease.deadline_ms)
        elif lease.consumer is not None:
            lease.consumer.held.discard(seq)
        return lease

    def holds(self, seq: int, token: int) -> Lease | None:
        """The lease that this receipt proves, which goes on."""
        lease = self.by_seq.get(seq)
        return lease if lease is not None and lease.token == token else None

    def drop(self, seq: int, lease: Lease) -> None:
        """End a lease that is known to be there."""
        del self.by_seq[seq]
        if lease.deadline_ms:
            self._unschedule(seq, lease.deadline_ms)
        elif lease.consumer is not None:
            lease.consumer.held.discard(seq)

    def extend(self, seq: int, lease: Lease, deadline_ms: int) -> None:
        """Give a lease another deadline."""
        if lease.deadline_ms:
            self._unschedule(seq, lease.deadline_ms)
        elif lease.consumer is not None:
            lease.consumer.held.discard(seq)
        lease.deadline_ms = deadline_ms
        self._schedule(seq, deadline_ms)

    def _schedule(self, seq: int, deadline_ms: int) -> None:
        key = deadline_ms >> _BUCKET_BITS
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.add(seq)
            return
        if not self._buckets.get(self._newest, True):
            del self._buckets[self._newest]
        self._newest = key
        self._buckets[key] = {seq}
        heappush(self._keys, key)
        if len(self._keys) > 2 * len(self._buckets) + _KEYS_STALE:
            self._keys = sorted(self._buckets)

    def _unschedule(self, seq: int, deadline_ms: int) -> None:
        key = deadline_ms >> _BUCKET_BITS
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.discard(seq)
            # An old lease may keep the front of the heap for hours: what is empty behind it goes.
            if not bucket and key != self._newest:
                del self._buckets[key]

    def next_due(self) -> int | None:
        """When :meth:`due` should be called next."""
        keys = self._keys
        while keys and not self._buckets.get(keys[0]):
            self._buckets.pop(heappop(keys), None)
        return (keys[0] + 1) << _BUCKET_BITS if keys else None

    def due(self, now_ms: int, most: int) -> list[int]:
        """Up to about ``most`` sequences whose deadline has passed; the leases are still there."""
        expired: list[int] = []
        keys = self._keys
        while keys and (keys[0] + 1) << _BUCKET_BITS <= now_ms and len(expired) < most:
            bucket = self._buckets.get(keys[0])
            while bucket and len(expired) < most:
                expired.append(bucket.pop())
            if not bucket:
                self._buckets.pop(heappop(keys), None)
        return sorted(expired)

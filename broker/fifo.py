"""A FIFO queue: message groups in order, and deduplication.

While messages of a group are in flight, nobody is given another message of that group; a receive
may take several of one group, in order. What comes back (nack, expiry) goes to the front of its
group. Groups do not wait for each other.

Groups are known by a 64-bit hash of their name and cost nothing while they are idle. A *blocked*
group remembers the messages that the search for work passed over, at most
``fifo_lookahead_messages_max`` of them in the whole queue (as in SQS); beyond that the search
rests until a group goes on.
"""

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace

from ..storage.log import Log
from ..storage.record import encode_message
from .dedup import DedupWindow, dedup_hash, group_hash
from .errors import LimitExceeded
from .host import Host
from .index import HELD, LEASED, Lane
from .intake import check_for_fifo, with_ids
from .lease import Consumer
from .message import (
    Delivery,
    Outgoing,
    Receipt,
    Sent,
)
from .overflow import make_room
from .queue import Queue
from .settings import QueueSettings

__all__ = ["FifoQueue", "Group"]


class Group:
    """A group with messages in flight, or with messages that came back."""

    __slots__ = ("in_flight", "waiting")

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting: list[int] = []  # heap of numbers below the lane's cursor; may be stale


class FifoQueue(Queue):
    """A queue with message groups and deduplication. It has one lane."""

    fifo = True

    def __init__(
        self, host: Host, id: int, name: str, settings: QueueSettings, log: Log, created_ms: int
    ) -> None:
        super().__init__(host, id, name, settings, log, created_ms)
        self.dedup = DedupWindow(host.limits.dedup_window_ms)
        self.groups: dict[int, Group] = {}
        self.attempts: dict[str, tuple[int, list[Receipt]]] = {}  # id -> until when, what it got
        self._free: list[tuple[int, int]] = []  # heap: (first waiting number, group) not in flight
        self._passed = 0  # messages in the groups' waiting lists, stale ones included
        self._last_due_ms = 0  # delays never let a message overtake an earlier one
        self._taking: Consumer | None = None  # the receive that is being served
        self._taken: set[int] = set()  # the groups it has messages of

    # Sending ----------------------------------------------------------------------------------

    def _send_one(self, message: Outgoing, now_ms: int, more: Sequence[tuple[int, int]]) -> Sent:
        settings = self.settings
        check_for_fifo(message, self.host.limits)
        known, hashed = self.deduplicate(message.group, message.dedup_id, message.body, now_ms)
        if known is not None:
            return Sent(known[0], known[1], True)
        attributes = with_ids(message)
        size = len(message.body) + len(attributes)
        if settings.messages_max or settings.bytes_max:
            make_room(self, size, now_ms)
        due_ms = self.next_due_ms(now_ms)
        ttl_ms = message.ttl_ms or settings.ttl_ms
        expire_ms = now_ms + ttl_ms if ttl_ms else 0
        group = group_hash(message.group)
        seq = self.lane(0).next
        parts = encode_message(
            ((self.id, seq), *more),
            now_ms,
            attributes,
            message.body,
            due_ms,
            expire_ms,
            group,
            hashed,
        )
        lsn = self.log.append(parts, 1)
        self.put(seq, lsn, size, due_ms, expire_ms, group)
        if hashed:
            self.remember(hashed, now_ms, lsn, seq)
        self.counters.sent += 1
        return Sent(lsn, seq)

    def deduplicate(
        self, group: str, dedup_id: str, body: bytes, now_ms: int
    ) -> tuple[tuple[int, int] | None, bytes]:
        """What became of the message when it came before, or None, and what it is known by.

        It is known by b"" when nothing identifies it.

        Raises:
            LimitExceeded: the queue remembers as many as it may.
        """
        hashed = self.identify(group, dedup_id, body)
        if not hashed:
            return None, b""
        assert self.dedup is not None
        known = self.dedup.find(hashed, now_ms)
        if known is not None:
            self.counters.duplicates += 1
        elif len(self.dedup) >= self.host.limits.dedup_ids_max and not self.promised:
            raise LimitExceeded(
                f"queue {self.name} remembers {len(self.dedup)} deduplication ids,"
                " as many as it may"
            )
        return known, hashed

    def identify(self, group: str, dedup_id: str, body: bytes) -> bytes:
        """What a message is known by; b"" when nothing identifies it."""
        if not dedup_id and not self.settings.content_dedup:
            return b""
        scope = group if self.settings.dedup_scope == "group" else ""
        return dedup_hash(scope, dedup_id, body)

    def next_due_ms(self, now_ms: int) -> int:
        """When a message that comes now may be delivered; 0: at once. It is sure to come."""
        due_ms = max(now_ms + self.settings.delay_ms, self._last_due_ms)
        if due_ms <= now_ms:
            return 0
        self._last_due_ms = due_ms
        return due_ms

    def due_ms(self, now_ms: int) -> int:
        return self._last_due_ms if self._last_due_ms > now_ms else 0

    def remember(self, hashed: bytes, time_ms: int, lsn: int, seq: int) -> None:
        """Apply: a message with this deduplication hash was taken."""
        assert self.dedup is not None
        self.dedup.add(hashed, time_ms, lsn, seq)

    # Recovery and purge -----------------------------------------------------------------------

    def finish_replay(self) -> None:
        """Also: a message that came back and is held still blocks its group.

        The search begins behind the last one such; what stands before waits, as if passed over.
        """
        super().finish_replay()
        lane = self.by_code.get(0)
        if lane is None:
            return
        last = 0
        for due_ms, number in self.delayed.numbers():
            if not lane.slot(number) & HELD:
                continue
            if lane.receives(number):
                last = max(last, number)
            else:
                self._last_due_ms = max(self._last_due_ms, due_ms)
        if not last:
            return
        for number in lane.live_numbers():
            if number > last:
                break
            if lane.receives(number) or not lane.slot(number) & HELD:
                self._wait(lane.group(number), number)
        lane.cursor = last + 1
        for hashed, group in list(self.groups.items()):
            self._free_group(lane, hashed, group)

    def forget_leases(self) -> None:
        super().forget_leases()
        self.attempts.clear()
        self.groups.clear()
        self._free.clear()
        self._passed = 0
        self._last_due_ms = 0

    # Receive attempts -------------------------------------------------------------------------

    def repeat(self, attempt: str, lease_ms: int, now_ms: int) -> list[Receipt]:
        """What an earlier receive with this attempt id still holds, leased anew."""
        limits = self.host.limits
        while self.attempts:
            first = next(iter(self.attempts))
            if (
                self.attempts[first][0] > now_ms
                and len(self.attempts) < limits.receive_attempts_max
            ):
                break
            del self.attempts[first]
        _, receipts = self.attempts.get(attempt, (0, []))
        held = [(seq, token) for seq, token in receipts if self.leases.holds(seq, token)]
        self.extend(held, lease_ms, now_ms)
        return held

    def _remember_attempt(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        until_ms = consumer.deadline_ms + self.host.limits.dedup_window_ms
        self.attempts.pop(consumer.attempt, None)
        self.attempts[consumer.attempt] = (until_ms, [each.receipt for each in deliveries])

    # Order ------------------------------------------------------------------------------------

    def _find_ready(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        lane = self.lane(0)
        if self._taking is not consumer:
            self._taking = consumer
            self._taken.clear()
        number = self._next_of_taken(lane)
        if number < 0:
            number = self._next_of_free(lane)
        if number < 0:
            number = self._search(lane, frontier)
        return (lane, number) if number >= 0 else None

    def _next_of_taken(self, lane: Lane) -> int:
        """The next waiting message of a group that this receive has messages of, or -1."""
        for hashed in self._taken:
            group = self.groups.get(hashed)
            if group is not None:
                number = self._first_waiting(lane, group)
                if number >= 0 and not lane.slot(number) & HELD:
                    return number
        return -1

    def _next_of_free(self, lane: Lane) -> int:
        """The earliest waiting message whose group is not in flight, or -1."""
        while self._free:
            number, hashed = self._free[0]
            group = self.groups.get(hashed)
            if group is not None and not group.in_flight:
                first = self._first_waiting(lane, group)
                if first == number and not lane.slot(number) & HELD:
                    return number
                if first < 0:
                    del self.groups[hashed]
                elif not lane.slot(first) & HELD:
                    heapreplace(self._free, (first, hashed))
                    continue
            heappop(self._free)
        return -1

    def _first_waiting(self, lane: Lane, group: Group) -> int:
        """The first message that waits in a group (it may be held), or -1."""
        waiting = group.waiting
        while waiting:
            slot = lane.slot(waiting[0])
            if slot and not slot & LEASED:
                return waiting[0]
            heappop(waiting)
            self._passed -= 1
        return -1

    def _search(self, lane: Lane, frontier: int) -> int:
        """Go on from the cursor to a message whose group is free, or -1."""
        while self._passed < self.host.limits.fifo_lookahead_messages_max:
            number = self._advance(lane)
            if number >= lane.next:
                return -1
            slot = lane.slot(number)
            if slot >= frontier and not self.is_copy(slot, 0, frontier):
                return -1
            hashed = lane.group(number)
            group = self.groups.get(hashed)
            if group is None or (hashed in self._taken and not group.waiting):
                return number
            self._wait(hashed, number)
            lane.cursor = number + 1
        return -1

    def _wait(self, hashed: int, number: int) -> None:
        group = self.groups.get(hashed)
        if group is None:
            group = self.groups[hashed] = Group()
        heappush(group.waiting, number)
        self._passed += 1

    def _took(self, consumer: Consumer, lane: Lane, number: int) -> None:
        hashed = lane.group(number)
        group = self.groups.get(hashed)
        if group is None:
            group = self.groups[hashed] = Group()
        group.in_flight += 1
        if group.waiting and group.waiting[0] == number:
            heappop(group.waiting)
            self._passed -= 1
        if consumer.one_shot:
            self._taken.add(hashed)

    def _lease_ended(self, lane: Lane, number: int, stays: bool) -> None:
        hashed = lane.group(number)
        group = self.groups[hashed]
        group.in_flight -= 1
        if stays:
            self._wait(hashed, number)
        if not group.in_flight:
            self._free_group(lane, hashed, group)

    def ready_again(self, lane: Lane, number: int) -> None:
        hashed = lane.group(number)
        if number < lane.cursor and not lane.receives(number):
            self._wait(hashed, number)  # the search went past it while its first delay ran
        group = self.groups.get(hashed)
        if group is not None and not group.in_flight:
            self._free_group(lane, hashed, group)

    def _free_group(self, lane: Lane, hashed: int, group: Group) -> None:
        """Nothing of the group is in flight: let its first waiting message be found."""
        first = self._first_waiting(lane, group)
        if first < 0:
            del self.groups[hashed]
        elif not lane.slot(first) & HELD:
            heappush(self._free, (first, hashed))

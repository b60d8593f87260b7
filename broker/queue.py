"""A queue: competing consumers, each message leased to one of them until it is settled.

Decide, then apply: what changes the queue is first appended to the log as a record and then
applied by the methods of ``state.py``, the very ones that replay the log after a restart.

Delivery order: higher priorities first; within one, messages given back before new ones, each in
order of arrival. A ``sync`` queue delivers nothing that is not on stable storage yet.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from ..storage.errors import StorageError
from ..storage.log import Durability, Log
from ..storage.record import (
    MessageContent,
    encode_ack,
    encode_delay,
    encode_message,
    encode_plain_message,
    encode_receive,
)
from .affinity import Affinity
from .errors import BraidError, InvalidArgument, LeaseLost
from .gathering import gather_plain
from .host import ACKED, EXPIRED, Counters, Host
from .index import HELD, LEASED, LSN_MASK, PAGE_BITS, PAGE_MASK, Lane
from .intake import check_for_standard
from .lease import Consumer, Lease, WaitList, rewind
from .limits import DELAY_MS_MAX
from .message import Delivery, Outgoing, Receipt, Sent
from .overflow import make_room
from .reader import Reader
from .selecting import selects
from .settings import QueueSettings
from .state import LANE_SHIFT, NUMBER_MASK, QueueState, lane_code
from .ticking import do_what_is_due
from .turns import Turns

__all__ = ["Queue"]

# Examined in one go before other queues have their turn, besides two for each that came meanwhile:
# many senders would otherwise outrun consumers who could keep up.
_DISPATCH_MESSAGES = 1_000
_DISPATCH_NEW_MAX = 5_000  # of those: what came while nobody was there is not caught up in one go
_PUSH_MESSAGES = 32  # given to one consumer in one go before the next has its turn
_REMINDER_MS = 60_000  # before a leased message past its time to live is looked at again


class Queue(QueueState):
    """A standard queue. ``fifo.py`` extends it."""

    def __init__(
        self, host: Host, id: int, name: str, settings: QueueSettings, log: Log, created_ms: int
    ) -> None:
        super().__init__(id, name, settings, log, created_ms)
        self.host = host
        self.turns = Turns()
        self.consumers = self.turns.consumers
        self.hungry = self.turns.hungry  # those that may be given messages
        self.selective = 0  # consumers with a selector
        self.affinity = Affinity(self) if settings.group_affinity else None
        self.choosy = settings.group_affinity  # what one cannot be given, another one may
        self.waits = WaitList()  # receives that were not dispatched yet, or found nothing
        self.rewound: dict[int, int] = {}  # lane base -> where selectors are to be asked again
        self.counters = Counters()
        self._sent_before = 0  # when it was dispatched last
        self.takes_runs = type(self) is Queue  # others look at each message by itself
        self.promised = False  # what is sent now was checked by a transaction
        self.let_go: Callable[[list[int]], None] = log.release_many  # positions nobody needs
        self.reader = self.make_reader(self._loaded)
        self._reading = (0, 0, 0)  # the message that is being read: sequence, LSN, its link's
        self.sweep_ms = 0  # when the oldest message may be past its retention; 0: not known
        self.alarm_ms = 0  # what the host was asked for; 0: nothing

    def make_reader(self, loaded: Callable[[StorageError | None], None]) -> Reader:
        """Who reads its messages, and calls ``loaded`` when one has come from disk."""
        return Reader(self.log, loaded)

    def configure(self, settings: QueueSettings) -> None:
        """Apply: it has these settings now."""
        super().configure(settings)
        if settings.group_affinity != (self.affinity is not None):
            if self.affinity is not None:
                self.affinity.release()
            self.affinity = Affinity(self) if settings.group_affinity else None
            self.choosy = self.selective > 0 or self.affinity is not None

    def frontier(self) -> int:
        """Messages below this LSN may be delivered."""
        if self.settings.durability is Durability.SYNC:
            return self.log.durable_lsn
        if self.settings.durability is Durability.OS:
            return self.log.written_lsn
        return LSN_MASK

    # Sending ----------------------------------------------------------------------------------

    def send(
        self, messages: Sequence[Outgoing], now_ms: int, more: Sequence[tuple[int, int]] = ()
    ) -> list[Sent | BraidError]:
        """Take messages: append and apply each, or say why not. ``more``: see ``Core.send``."""
        results: list[Sent | BraidError] = []
        for message in messages:
            try:
                results.append(self._send_one(message, now_ms, more))
            except BraidError as error:
                results.append(error)
        self.took(len(messages), now_ms)
        return results

    def took(self, count: int, now_ms: int) -> None:
        """So many messages were sent: see to what is to be done with them in time."""
        if self.settings.retention_ms and not self.sweep_ms:
            self.sweep_ms = now_ms + self.settings.retention_ms
        if self.sweep_ms or self.delayed or self.expiring:
            self.trim_wheels(count)
            self.set_alarm()

    def _send_one(self, message: Outgoing, now_ms: int, more: Sequence[tuple[int, int]]) -> Sent:
        settings = self.settings
        body = message.body
        attributes = check_for_standard(message, self.host.limits, self.affinity is not None)
        size = len(body) + len(attributes)
        if settings.messages_max or settings.bytes_max:
            make_room(self, size, now_ms)
        delay_ms = message.delay_ms if message.delay_ms >= 0 else settings.delay_ms
        due_ms = now_ms + delay_ms if delay_ms else 0
        ttl_ms = message.ttl_ms or settings.ttl_ms
        expire_ms = now_ms + ttl_ms if ttl_ms else 0
        lane = self.lane(lane_code(message.priority))
        seq = lane.base | lane.next
        if due_ms or expire_ms or more:
            targets = ((self.id, seq), *more)
            parts = encode_message(targets, now_ms, attributes, body, due_ms, expire_ms)
        else:
            parts = encode_plain_message(self.id, seq, now_ms, attributes, body)
        lsn = self.log.append(parts, 1)
        self.put(seq, lsn, size, due_ms, expire_ms, 0)
        self.counters.sent += 1
        return Sent(lsn, seq)

    def discard(self, sequences: list[int], reason: int) -> None:
        """Take messages out for good that nobody holds, and log it."""
        if self.logged:
            self.log.append((encode_ack(self.id, reason, sequences),))
        for seq in sequences:
            slot, link, _ = self.remove(seq)
            self._release(slot, link)

    def _release(self, slot: int, link: int) -> None:
        self.let_go([lsn for lsn in (slot & LSN_MASK, link) if lsn])

    # Consumers --------------------------------------------------------------------------------

    def add(self, consumer: Consumer) -> None:
        """Let a consumer wait for messages. Raises as ``Turns.check`` does."""
        if consumer.selector is not None and self.fifo:
            raise InvalidArgument("a FIFO queue delivers in order: it takes no selector")
        self.turns.check(consumer, self.name, self.host.limits.consumers_per_queue_max)
        consumer.queue = self
        if consumer.selector is not None:
            self.selective += 1
            self.choosy = True
        if consumer.one_shot:
            self.waits.arrivals.append(consumer)
        if self.turns.add(consumer) and self.affinity is not None:
            self.affinity.release()
        if consumer.credit > 0:
            self.host.wake(self)

    def feed(self, consumer: Consumer, credit: int) -> None:
        """Give a consumer more credit."""
        if consumer.closed:
            return
        if consumer.credit <= 0 < credit:
            self.turns.enter(consumer)
        consumer.credit = min(consumer.credit + credit, self.host.limits.credit_max)
        if not self.is_told or self.live > len(self.leases) + self.held:
            self.host.wake(self)

    def drop(self, consumer: Consumer) -> None:
        """Forget a consumer; what it holds stays leased."""
        if consumer not in self.consumers:
            return
        consumer.closed = True
        if consumer.selector is not None:
            self.selective -= 1
            self.choosy = self.selective > 0 or self.affinity is not None
        if self.turns.drop(consumer):
            self.host.wake(self)
        consumer.credit = 0
        if self.affinity is not None:
            self.affinity.drop(consumer)
        self.host.advising.consumer_removed(self, consumer)

    # Dispatch ---------------------------------------------------------------------------------

    def dispatch(self, now_ms: int) -> None:
        """Lease ready messages to the consumers whose turn it is, as far as their credit goes."""
        if self.rewound:
            rewind(self.consumers, self.rewound)
        new = min(self.counters.sent - self._sent_before, _DISPATCH_NEW_MAX)
        budget = most_examined = _DISPATCH_MESSAGES + 2 * new
        self._sent_before = self.counters.sent
        turns = self.turns
        turns.asked = 0
        while turns.asked < len(self.hungry) and budget > 0 and not self.reader.loading:
            consumer = self.hungry[turns.asked]
            most = consumer.credit if consumer.one_shot else min(consumer.credit, _PUSH_MESSAGES)
            deliveries, examined = self._gather(consumer, most, budget, now_ms)
            budget -= examined
            if deliveries:
                self._hand_over(consumer, deliveries)
            elif self.choosy:
                turns.asked += 1
            else:
                break
            if self.affinity is not None and self.affinity.stirred:
                self.affinity.stirred = False
                turns.asked = 0
        if budget <= 0 and self.hungry:
            self.host.wake(self)
        elif not self.reader.loading:
            self._let_wait(now_ms)
        if budget < most_examined:
            self.reader.rest()
        self.set_alarm()

    def _let_wait(self, now_ms: int) -> None:
        """Receives that found nothing wait until their deadline, or end here."""
        for consumer in self.waits.settle(now_ms):
            self.drop(consumer)
            consumer.deliver([])
        self.waits.trim(len(self.consumers))

    def _hand_over(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        consumer.credit -= len(deliveries)
        self.counters.delivered += len(deliveries)
        self._log_receives(deliveries)
        if consumer.one_shot:
            consumer.credit = 1  # it is still in ``hungry``
            self.drop(consumer)
        else:
            self.turns.served(consumer)
        if consumer.attempt:
            self._remember_attempt(consumer, deliveries)
        consumer.deliver(deliveries)

    def _remember_attempt(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """A receive that may be repeated got these (FIFO)."""

    def _log_receives(self, deliveries: list[Delivery]) -> None:
        if not self.logged:
            return
        by_count: dict[int, list[int]] = {}
        for delivery in deliveries:
            by_count.setdefault(delivery.receives, []).append(delivery.seq)
        for count, sequences in by_count.items():
            self.log.append((encode_receive(self.id, count, sequences),), linger=True)

    def _gather(
        self, consumer: Consumer, most: int, budget: int, now_ms: int
    ) -> tuple[list[Delivery], int]:
        """Lease up to ``most`` messages: (the deliveries, how many messages were examined)."""
        deliveries: list[Delivery] = []
        bytes_left = self.host.limits.receive_bytes_max
        most = min(most, self.host.limits.in_flight_messages_max - len(self.leases))
        if self.takes_runs:
            plain = min(most, budget)
            deliveries, bytes_left = gather_plain(self, consumer, plain, bytes_left, now_ms)
        examined = len(deliveries)
        frontier = self.frontier()
        read = self.reader.read
        retention_ms = self.settings.retention_ms
        deadline_ms = now_ms + consumer.lease_ms if consumer.lease_ms else 0
        find = self._finder(consumer) if self.choosy else self._find_ready
        while len(deliveries) < most and examined < budget and bytes_left > 0:
            if self.reader.loading:
                break
            found = find(consumer, frontier)
            if found is None:
                break
            # One look at the page instead of a call for each of its parts: this loop is hot.
            lane, number = found
            page = lane.pages[number >> PAGE_BITS]
            at = number & PAGE_MASK
            slot = page.slots[at]
            link = page.links[at] if page.links is not None else 0
            if (slot >= frontier or link >= frontier) and not self.is_copy(slot, link, frontier):
                break  # not as durable yet as the queue promises
            message = read(slot, link, retention_ms)
            if message is None:
                self._reading = (lane.base | number, slot, link)
                break
            examined += 1
            receives = page.counts[at] if page.counts is not None else 0
            if not self._is_due(consumer, lane, number, message, receives, now_ms):
                continue
            page.slots[at] = slot | LEASED
            self._took(consumer, lane, number)
            seq = lane.base | number
            size = len(message.body) + len(message.attributes)
            bytes_left -= size
            receives += 1
            token = self.leases.grant(
                seq, receives, deadline_ms, message.expire_ms, size, consumer, now_ms
            )
            content = (message.id, message.time_ms, message.attributes, message.body)
            deliveries.append(Delivery(seq, token, receives, *content, message.expire_ms))
        return deliveries, examined

    def _is_due(
        self,
        consumer: Consumer,
        lane: Lane,
        number: int,
        message: MessageContent,
        receives: int,
        now_ms: int,
    ) -> bool:
        """Whether to deliver a message that is ready; if not, do what the settings say."""
        if 0 < message.expire_ms <= now_ms:
            self.expire(lane.base | number, now_ms)
            return False
        if 0 < self.settings.max_receives <= receives:
            self.host.bury(self, lane.base | number, "max-receives", receives, now_ms)
            return False
        if not self.choosy:
            return True
        if self.affinity is not None:
            return self.affinity.admits(consumer, lane, number, message)
        if consumer.selector is not None and not selects(
            consumer.selector, self, lane.base | number, message
        ):
            consumer.positions[lane.base] = number + 1
            return False
        return True

    def _finder(self, consumer: Consumer) -> Callable[[Consumer, int], tuple[Lane, int] | None]:
        """How the next message for this consumer is found."""
        if self.affinity is not None:
            return self.affinity.find
        return self._find_matching if consumer.selector is not None else self._find_ready

    def _find_ready(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        """The next message to deliver, or None."""
        for lane in self.lanes:
            number = lane.first_returned() if lane.returned else -1
            if number < 0:
                number = self._advance(lane)
            if number < lane.next:
                return lane, number
        return None

    def _advance(self, lane: Lane) -> int:
        number = lane.cursor = lane.first_ready(lane.cursor)
        return number

    def _find_matching(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        """The next message that the consumer's selector was not asked about yet."""
        for lane in self.lanes:
            number = lane.first_ready(consumer.positions.get(lane.base, 0))
            consumer.positions[lane.base] = number
            if number < lane.next:
                return lane, number
        return None

    def _took(self, consumer: Consumer, lane: Lane, number: int) -> None:
        """A message that :meth:`_find_ready` returned is leased now."""
        if lane.returned and lane.returned[0] == number:
            heappop(lane.returned)

    # Reading ----------------------------------------------------------------------------------

    def read(self, lane: Lane, number: int) -> MessageContent | None:
        """The message, or None while it is being read from disk; the queue is woken then."""
        if self.reader.loading:
            return None
        lsn = lane.slot(number) & LSN_MASK
        link = lane.link(number)
        message = self.reader.read(lsn, link, self.settings.retention_ms)
        if message is None:
            self._reading = (lane.base | number, lsn, link)
        return message

    def _loaded(self, error: StorageError | None) -> None:
        seq, lsn, link = self._reading
        lane, number = self.locate(seq)
        # Somewhere else by now: compaction moved it while it was read, and removed what was read.
        stays = lane is not None and lane.slot(number) == lsn and lane.link(number) == link
        if error is not None and lane is not None and stays:
            lane.set_slot(number, lsn | HELD)
            self.held += 1
            self.counters.damaged += 1
            self.host.damaged(self, seq, error)
        self.host.wake(self)

    # Settling ---------------------------------------------------------------------------------

    def ack(self, receipts: Sequence[Receipt], reason: int = ACKED) -> list[BraidError | None]:
        """Settle messages for good."""
        results: list[BraidError | None] = []
        gone: list[int] = []
        freed = 0
        take = self.leases.take
        unneeded: list[int] = []
        for seq, token in receipts:
            lease = take(seq, token)
            if lease is None:
                results.append(LeaseLost(f"message {seq} of queue {self.name} is not yours"))
                continue
            results.append(None)
            gone.append(seq)
            lane = self.by_code[seq >> LANE_SHIFT]
            number = seq & NUMBER_MASK
            if self.fifo:
                self._lease_ended(lane, number, False)
            slot, link, size = lane.remove(number, lease.size)
            freed += size
            unneeded.append(slot & LSN_MASK)
            if link:
                unneeded.append(link)
        if gone:
            self.let_go(unneeded)
            self.bytes -= freed
            self.counters.acknowledged += len(gone)
            if self.logged:
                self.log.append((encode_ack(self.id, reason, gone),), linger=True)
            self._settled()
        return results

    def _lease_ended(self, lane: Lane, number: int, stays: bool) -> None:
        """A message is in nobody's hands any more (FIFO: its group goes on)."""

    def _settled(self) -> None:
        """Leases have ended: there may be more to deliver."""
        if self.hungry:
            self.host.wake(self)

    def nack(
        self, receipts: Sequence[Receipt], delay_ms: int, counted: bool, now_ms: int
    ) -> list[BraidError | None]:
        """Give messages back."""
        if not 0 <= delay_ms <= DELAY_MS_MAX:
            raise InvalidArgument(f"a delay is between 0 and {DELAY_MS_MAX} ms")
        if delay_ms and not counted:
            raise InvalidArgument("a message given back uncounted takes no delay")
        results: list[BraidError | None] = []
        for seq, token in receipts:
            lease = self.leases.take(seq, token)
            if lease is None:
                results.append(LeaseLost(f"message {seq} of queue {self.name} is not yours"))
                continue
            results.append(None)
            self.give_back(seq, lease, now_ms + delay_ms if delay_ms else 0, counted, now_ms)
        self._settled()
        self.set_alarm()
        return results

    def give_back(self, seq: int, lease: Lease, due_ms: int, counted: bool, now_ms: int) -> None:
        """A lease has ended without success: ready again, held back, dead letter or expired."""
        lane, number = self.locate(seq)
        assert lane is not None
        self.counters.returned += 1
        receives = lease.receives if counted else lease.receives - 1
        if not counted and self.logged:
            self.log.append((encode_receive(self.id, receives, [seq]),))
        lane.set_slot(number, lane.slot(number) & ~LEASED)
        self.note_receives(seq, receives)
        expired = 0 < lease.expire_ms <= now_ms
        spent = counted and 0 < self.settings.max_receives <= receives
        if not expired and not spent and due_ms:
            if self.logged:
                self.log.append((encode_delay(self.id, due_ms, [seq]),))
            self.hold(seq, due_ms)
        self._lease_ended(lane, number, stays=not expired and not spent)
        if expired:
            self.expire(seq, now_ms)
        elif spent:
            self.host.bury(self, seq, "max-receives", receives, now_ms)
        elif not due_ms:
            self.ready_again(lane, number)

    def ready_again(self, lane: Lane, number: int) -> None:
        """A message that was leased or held may be delivered."""
        if self.selective:
            self.rewound[lane.base] = min(number, self.rewound.get(lane.base, number))
        if number < lane.cursor:
            heappush(lane.returned, number)
            if len(lane.returned) > 2 * lane.live:  # some stand there twice, or are gone
                lane.returned = sorted({each for each in lane.returned if lane.slot(each)})

    def extend(
        self, receipts: Sequence[Receipt], lease_ms: int, now_ms: int
    ) -> list[BraidError | None]:
        """Hold messages for ``lease_ms`` from now on; pushed ones stay with their consumer."""
        results: list[BraidError | None] = []
        for seq, token in receipts:
            lease = self.leases.holds(seq, token)
            if lease is None:
                results.append(LeaseLost(f"message {seq} of queue {self.name} is not yours"))
                continue
            results.append(None)
            if lease.deadline_ms:
                self.leases.extend(seq, lease, now_ms + lease_ms)
        self.set_alarm()
        return results

    def expire(self, seq: int, now_ms: int) -> None:
        """A message that nobody holds has outlived its time."""
        self.counters.expired += 1
        self.host.advising.expired(self, seq)
        if self.settings.dead_letter_expired:
            lane, number = self.locate(seq)
            assert lane is not None
            self.host.bury(self, seq, "expired", lane.receives(number), now_ms)
        else:
            self.discard([seq], EXPIRED)

    # Time -------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Do what is due: end leases and waits, release delayed messages, expire old ones."""
        self.alarm_ms = 0
        do_what_is_due(self, now_ms)
        self._settled()
        self.set_alarm()

    def expire_if_idle(self, seq: int, now_ms: int) -> None:
        """A message's time to live has passed."""
        lease = self.leases.by_seq.get(seq)
        if lease is not None:
            # It ends when it is given back. Should the broker restart before, it is not forgotten.
            self.expiring.add(max(lease.deadline_ms, now_ms) + _REMINDER_MS, seq)
        elif self.slot(seq):
            self.expire(seq, now_ms)

    def next_due(self) -> int | None:
        """When :meth:`tick` should be called next."""
        times = (
            self.leases.next_due(),
            self.delayed.next_due(),
            self.expiring.next_due(),
            None if self.reader.loading else self.waits.next_due(),
            self.sweep_ms or None,
        )
        return min((due for due in times if due is not None), default=None)

    def set_alarm(self) -> None:
        """Ask the host for a tick in time."""
        due = self.next_due()
        if due is not None and (not self.alarm_ms or due < self.alarm_ms):
            self.alarm_ms = due
            self.host.alarm(self, due)

    # Ends -------------------------------------------------------------------------------------

    def bounds(self) -> list[int]:
        """What a purge of everything says: the next sequence of each lane."""
        return [lane.base | lane.next for lane in self.lanes]

    def due_ms(self, now_ms: int) -> int:
        """When a message that is moved here now may be delivered; 0: at once."""
        return 0

    def end_lease(self, seq: int) -> None:
        """A lease was taken away for the message to leave this queue."""
        lane, number = self.locate(seq)
        assert lane is not None
        lane.set_slot(number, lane.slot(number) & ~LEASED)
        self._lease_ended(lane, number, stays=False)

    def forget_leases(self) -> None:
        """All messages are gone: so is what anybody holds."""
        for lease in self.leases.by_seq.values():
            if lease.consumer is not None:
                lease.consumer.held.clear()
        self.leases = self.leases.emptied()
        for lane in self.lanes:
            lane.returned.clear()
        if self.affinity is not None:
            self.affinity.forget_parked()

    def repeat(self, attempt: str, lease_ms: int, now_ms: int) -> list[Receipt]:
        """What an earlier receive with this attempt id still holds (FIFO)."""
        raise InvalidArgument("receive attempts are for FIFO queues")

    def oldest_ms(self) -> int:
        """When the oldest message was sent, if it can be told without reading; else 0."""
        fronts = [(lane, lane.first_live(0)) for lane in self.lanes if lane.live]
        times = [self.reader.time_ms(lane.slot(number) & LSN_MASK) for lane, number in fronts]
        return min(times, default=0)

    def close_consumers(self, error: Callable[[], BraidError]) -> None:
        """The queue is going: tell everyone who waits."""
        for consumer in list(self.consumers):
            self.drop(consumer)
            consumer.end(error())

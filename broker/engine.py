"""What sets the broker in motion: work that was woken, deadlines, the log's progress, its failure.

The queues turn to the engine (see ``host.py``); whoever runs the broker calls :meth:`Engine.run`
after ``on_work`` and :meth:`Engine.tick` at :meth:`Engine.next_deadline`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, cast

import msgspec

from ..storage.cold import ColdFile
from ..storage.errors import DiskFull, StorageError
from ..storage.log import Durability, Log, Scheduler
from ..storage.record import (
    MessageContent,
    encode_definition,
    encode_delay,
    encode_link,
    encode_message,
)
from .access import Access
from .advising import Advising
from .announcing import Announcing
from .clients import Clients
from .delaying import Delaying
from .errors import BraidError, BrokerFailed, NotFound, Overloaded, StorageFull
from .fanout import Fanout
from .groups import Groups
from .host import Alarmed
from .index import LSN_MASK
from .lease import Consumer
from .limits import Limits, SessionPolicy
from .message import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_RECEIVES,
    DEAD_LETTER_TIME,
    OWN_HEADERS,
    Receipt,
    overlay,
    pack_headers,
)
from .queue import Queue
from .queuewatch import QueueWatch
from .redrive import Redrive
from .registry import Registry
from .replays import Replays
from .schedules import Schedules
from .shard import Shard
from .state import LANE_SHIFT
from .streams import Streams
from .streamview import StreamView, ViewHost
from .topics import Topics

if TYPE_CHECKING:
    from .core import Core

__all__ = ["Engine", "Kept"]

Kept = Callable[[object, BraidError | None], None]

_TRASH_PAGES = 4  # released in one go
_ALARMS_STALE = 64  # tolerated among the alarms


def _nothing(queue: str, seq: int, error: StorageError) -> None:
    """Nobody asked to hear of damage."""


def _raise(error: Exception) -> None:
    """Nobody asked to hear of faults: then they stop the broker."""
    raise error


class Engine(Registry):
    """A broker's moving parts.

    Attributes:
        on_work: called when :meth:`run` should be called soon, or the next deadline is earlier.
        on_damage: called with (queue, sequence, error) when a message cannot be read back.
        on_fault: called with what a sink, a subscriber or a call that was put off has raised by
            mistake, which then costs only that one its consumer, its connection or its answer.
        failed: set once the log has failed; nothing is accepted or delivered any more.
    """

    def __init__(
        self,
        log: Log,
        limits: Limits,
        access: Access,
        on_work: Callable[[], None],
        memory: Log | None = None,
        policy: SessionPolicy | None = None,
    ) -> None:
        super().__init__(log, log if memory is None else memory)
        self.limits = limits
        self.access = access
        self.on_work = on_work
        self.on_damage: Callable[[str, int, StorageError], None] = _nothing
        self.on_fault: Callable[[Exception], None] = _raise
        self.failed: BrokerFailed | None = None
        self.epoch = 0  # of the log: rises whenever it is opened
        self.instance = 0  # names this broker's log; with a message's id, the message
        self.version = ""
        self.started_ms = 0
        self.now_ms = 0  # of the last run or tick, for what they call
        self._woken: dict[Queue, None] = {}
        self._later: list[Callable[[], None]] = []
        self._unsettled: dict[Queue, int] = {}  # queue -> LSN that must be kept to deliver on
        self._alarms: list[tuple[int, int, Alarmed]] = []
        self._alarms_max = _ALARMS_STALE  # then those that nobody counts on are sorted out
        self._redrives: dict[int, Redrive] = {}
        self._redrive_due_ms = 0
        self._redrive_now_ms = 0
        self._redrive_count = 0
        self._volatile = False  # all queues live in memory
        self._asked = False  # on_work was called, run was not
        self.admitted = False  # a transaction is being applied: it was let in as a whole
        self.fanout = Fanout(self)
        self.topics = Topics(self)
        self.clients = Clients(self, self.topics, policy or SessionPolicy())
        self.delaying = Delaying(self)
        self.announcing = Announcing(self)
        self.advising = Advising(self)
        self.queue_watch = QueueWatch(self)
        self.streams = Streams(self)
        self.groups = Groups(self)
        self.replays = Replays(self)
        self.schedules = Schedules(cast("Core", self))
        log.on_progress = self._progressed
        access.watch(self._users_changed)

    def start(self, scheduler: Scheduler) -> None:
        """Begin to serve; the log was opened with this core as its replay."""
        self.started_ms = scheduler.now_ms()
        self.log.start(scheduler)
        self._volatile = not self.log.instance
        if self.memory is not self.log:
            self.memory.start(scheduler)
        for queue in self._by_id.values():
            queue.sweep_ms = 1 if queue.settings.retention_ms else 0
            if queue.dedup is not None:
                queue.dedup.begin(self.started_ms)
            queue.set_alarm()
        self.clients.start(self.started_ms)
        self.delaying.start()
        self.schedules.start()
        self.streams.start(self.started_ms)
        self.groups.start(self.epoch)
        self.replays.start(self.started_ms)
        for queue in self._by_id.values():
            if isinstance(queue, StreamView):
                queue.open()

    def host(self) -> ViewHost:
        """The queues turn to the core itself."""
        return self

    # Work -------------------------------------------------------------------------------------

    def wake(self, queue: Queue) -> None:
        """Have the queue dispatched in the next :meth:`run`."""
        self._woken[queue] = None
        self._ask()

    def later(self, call: Callable[[], None]) -> None:
        """Call back in the next :meth:`run`. What it raises by mistake is no other's problem."""
        self._later.append(call)
        self._ask()

    def alarm(self, queue: Alarmed, due_ms: int) -> None:
        """Have the queue ticked at ``due_ms``."""
        earliest = not self._alarms or due_ms < self._alarms[0][0]
        heappush(self._alarms, (due_ms, queue.id, queue))
        if len(self._alarms) > self._alarms_max:
            # Each queue counts on one of its entries only; the others would pile up.
            self._alarms = sorted({each for each in self._alarms if each[2].alarm_ms == each[0]})
            self._alarms_max = 2 * len(self._alarms) + _ALARMS_STALE
        if earliest:
            self._ask()

    def damaged(self, queue: Queue, seq: int, error: StorageError) -> None:
        """A message cannot be read back; say so."""
        self.on_damage(queue.name, seq, error)

    def _users_changed(self) -> None:
        """Nobody stays connected whose user is gone, or has a new password."""
        if any(session.revoked for session in self.sessions.values()):
            self.later(self.clients.end_revoked)
        self.later(self.groups.check_rights)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self.on_work()

    def _progressed(self) -> None:
        """More of the log is kept: queues may deliver what they hold.

        Also those that wait for the rest: under steady load there always is a rest.
        """
        try:
            self.log.admit()
        except DiskFull:
            pass
        except StorageError as error:
            self.fail(error)  # perhaps nobody waited for what could not be written
        done = []
        for queue, lsn in self._unsettled.items():
            if lsn < queue.frontier():
                done.append(queue)
            if queue.hungry:
                self.wake(queue)
        for queue in done:
            del self._unsettled[queue]
            queue.copies.clear()
        self.streams.progressed()

    def changed(self, queue: Queue) -> None:
        """Messages were put into a queue, or moved in the log: deliver them when they are kept."""
        if queue.logged:
            self._unsettled[queue] = self.log.next_lsn - 1
        else:
            self.wake(queue)

    def run(self, now_ms: int) -> None:
        """Dispatch every queue that was woken, and go on with what was put off."""
        self._asked = False
        self.now_ms = now_ms
        woken, self._woken = self._woken, {}
        later, self._later = self._later, []
        try:
            for queue in woken:
                queue.dispatch(now_ms)
            for call in later:
                self._call(call)
        except StorageError as error:
            self.fail(error)

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except StorageError:
            raise
        except Exception as fault:
            self.on_fault(fault)

    def tick(self, now_ms: int) -> None:
        """Do everything that is due."""
        self.now_ms = now_ms
        try:
            while self._alarms and self._alarms[0][0] <= now_ms:
                due_ms, _, queue = heappop(self._alarms)
                if queue.alarm_ms == due_ms:
                    queue.tick(now_ms)
            if 0 < self._redrive_due_ms <= now_ms:
                self._step_redrives(now_ms)
        except StorageError as error:
            self.fail(error)

    def next_deadline(self) -> int | None:
        """When :meth:`tick` should be called next, unix ms."""
        alarm = self._alarms[0][0] if self._alarms else None
        if self._redrive_due_ms and (alarm is None or self._redrive_due_ms < alarm):
            return self._redrive_due_ms
        return alarm

    # Ends -------------------------------------------------------------------------------------

    def cancel(self, consumer: Consumer, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        """End a consumer. What it holds goes back, ``unprocessed`` as if never received."""
        queue = consumer.queue
        if queue is None or self.failed is not None:
            consumer.closed = True
            return
        queue.drop(consumer)
        consumer.closed = True
        queue.nack(unprocessed, 0, False, now_ms)
        for seq in sorted(consumer.held):
            lease = queue.leases.by_seq.get(seq)
            if lease is not None and lease.consumer is consumer:
                queue.leases.drop(seq, lease)
                queue.give_back(seq, lease, 0, True, now_ms)
        self.wake(queue)

    def evict(self, consumer: Consumer, receipts: Sequence[Receipt]) -> None:
        """End a consumer whose sink is broken; what it was given, these too, goes back.

        It is given nothing more at once. The rest is put off, for it may be in the middle of a
        dispatch.
        """
        if consumer.queue is not None:
            consumer.queue.drop(consumer)
        self.later(partial(self._evict, consumer, receipts))

    def _evict(self, consumer: Consumer, receipts: Sequence[Receipt]) -> None:
        queue = consumer.queue
        if queue is not None and self.failed is None:
            # Counted, or a message that no sink can take would come again for ever.
            queue.nack(receipts, 0, True, self.now_ms)
        self.cancel(consumer, (), self.now_ms)
        consumer.end(BraidError("this consumer was ended by an error of the broker"))

    def write_definition(self, id: int, definition: object) -> None:
        """Append a definition to the log."""
        self.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))

    def take_id(self) -> int:
        """A number for a new entity."""
        id = self._next_id
        self._next_id = id + 1
        return id

    def retire(self, queue: Queue) -> None:
        """A queue whose end was logged goes, with its messages and whoever waits for them."""
        self.undefine(queue.id)
        self._forget(queue)

    def discard(self, queue: Queue) -> None:
        """The same for one that was never logged."""
        self.discard_pages(queue, queue.bounds())
        self._forget(queue)

    def shard_gone(self, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]) -> None:
        """What nobody needs any more of a shard is released."""
        self.streams.gone(shard, lsns, files)

    def _forget(self, queue: Queue) -> None:
        queue.forget_leases()
        if isinstance(queue, StreamView):
            queue.close()
        queue.sweep_ms = queue.alarm_ms = 0
        self._unsettled.pop(queue, None)
        self.later(self._release_trash)
        queue.close_consumers(lambda: NotFound(f"queue {queue.name} was deleted"))
        self.advising.deleted(queue)

    def _release_trash(self) -> None:
        if self.empty_trash(_TRASH_PAGES):
            self.later(self._release_trash)

    # Keeping ----------------------------------------------------------------------------------

    def admit(self, memory: bool = False) -> None:
        """Raise when no new message may be taken.

        Raises:
            StorageFull: no room on disk. Overloaded: too much waits to be written, or is kept in
            memory.
            BrokerFailed: the log has failed.
        """
        if self.failed is not None:
            raise self.failed
        if self.admitted:
            return
        if memory or self._volatile:
            held = self.memory.statistics().bytes_live_estimate
            if held > self.limits.memory_bytes_max:
                raise Overloaded(f"{held} bytes of messages are kept in memory")
        if memory:
            return
        try:
            self.log.admit()
        except DiskFull as error:
            raise StorageFull(str(error)) from None
        except StorageError as error:
            raise self.fail(error) from None
        if self.log.pending_bytes > self.limits.pending_bytes_max:
            raise Overloaded(f"{self.log.pending_bytes} bytes wait to be written")

    def fail(self, error: StorageError) -> BrokerFailed:
        """The log has failed: stop accepting and delivering."""
        if self.failed is None:
            self.failed = BrokerFailed(f"the log failed: {error}")
            for queue in self._by_id.values():
                queue.close_consumers(lambda: BrokerFailed(str(self.failed)))
            self.streams.fail(self.failed)
        return self.failed

    def when_kept(self, level: Durability, callback: Kept, argument: object) -> None:
        """Call ``callback(argument, error)`` once all asked for so far is kept at ``level``."""
        if level is Durability.MEMORY:
            callback(argument, None)
        else:
            self.log.wait(level, self._kept, (callback, argument))

    def keep(self) -> None:
        """Have all asked for so far kept, though nobody waits: without that nothing hurries."""
        self.when_kept(Durability.SYNC, _nobody, None)

    def _kept(self, waiter: object, error: StorageError | None) -> None:
        assert isinstance(waiter, tuple)
        callback, argument = waiter
        callback(argument, self.fail(error) if error is not None else None)

    # Moving messages --------------------------------------------------------------------------

    def bury(self, queue: Queue, seq: int, reason: str, receives: int, now_ms: int) -> None:
        """Move a message that nobody holds to the queue's dead-letter queue, and say why there."""
        if isinstance(queue, StreamView):
            queue.burials.bury(seq, reason, receives, now_ms)
            return
        target = self.queues[queue.settings.dead_letter]
        attributes = _epitaph(queue, reason, receives, now_ms)
        self.advising.dead_lettered(queue, seq, reason)
        self.move_message(queue, seq, target, attributes, now_ms)
        queue.counters.dead_lettered += 1

    def bury_record(
        self,
        view: StreamView,
        seq: int,
        message: MessageContent,
        reason: str,
        receives: int,
        now_ms: int,
    ) -> bool:
        """Copy a record into its view's dead-letter queue and settle it, in one record of the log.

        It keeps its id. False: there is no room on disk now.
        """
        try:
            view.log.admit()
        except DiskFull:
            return False
        self.advising.dead_lettered(view, seq, reason, message)
        target = self.queues[view.settings.dead_letter]
        epitaph = _epitaph(view, reason, receives, now_ms)
        attributes = overlay(message.attributes, epitaph)
        target_lane = target.lane(0)
        target_seq = target_lane.base | target_lane.next
        record = encode_message(
            ((target.id, target_seq), (view.id, seq)),
            now_ms,
            attributes,
            message.body,
            moved=(message.id, 0),
        )
        lsn = target.log.append(record, 1)
        view.remove(seq)
        target.put(target_seq, lsn, len(attributes) + len(message.body), 0, 0, 0)
        self._came(target, now_ms)
        view.counters.dead_lettered += 1
        return True

    def _came(self, target: Queue, now_ms: int) -> None:
        """A message was moved into a queue."""
        if target.settings.retention_ms and not target.sweep_ms:
            target.sweep_ms = now_ms + target.settings.retention_ms
            target.set_alarm()
        self.changed(target)

    def move_message(
        self, source: Queue, seq: int, target: Queue, attributes: bytes, now_ms: int
    ) -> None:
        """Put a message into another queue, in one record, without copying its body."""
        lane, number = source.locate(seq)
        assert lane is not None
        lsn = lane.slot(number) & LSN_MASK
        group = lane.group(number) if lane.grouped else 0
        target_lane = target.lane(seq >> LANE_SHIFT)
        target_seq = target_lane.base | target_lane.next
        record = encode_link(source.id, seq, target.id, target_seq, lsn, now_ms, group, attributes)
        link = source.log.append((record,), 1)
        _, old_link, size = source.remove(seq)
        target.put_linked(target_seq, lsn, size, group, link)
        due_ms = target.due_ms(now_ms)
        if due_ms:
            if target.logged:
                target.log.append((encode_delay(target.id, due_ms, [target_seq]),))
            target.hold(target_seq, due_ms)
            target.set_alarm()
        if old_link:
            source.log.release(old_link)
        self._came(target, now_ms)

    def _step_redrives(self, now_ms: int) -> None:
        self._redrive_now_ms = now_ms
        self._redrive_due_ms = 0
        for task in self._redrives.values():
            if task.state == "running":
                due_ms = task.step(now_ms)
                if due_ms is not None:
                    self._redrive_due_ms = min(self._redrive_due_ms or due_ms, due_ms)


def _epitaph(queue: Queue, reason: str, receives: int, now_ms: int) -> bytes:
    """The headers that say where a dead letter was, and why it left."""
    return pack_headers(
        {
            DEAD_LETTER_QUEUE: queue.name,
            DEAD_LETTER_REASON: reason,
            DEAD_LETTER_RECEIVES: str(receives),
            DEAD_LETTER_TIME: str(now_ms),
        },
        OWN_HEADERS,
    )


def _nobody(argument: object, error: BraidError | None) -> None:
    """Nobody waits for it."""

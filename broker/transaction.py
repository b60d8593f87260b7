"""Transactions: sends, publications, appends, acknowledgements, schedules: all of them or none.

Rules:

- Everything is checked first, step by step: rights, existence, limits, leases, and whether there is
  room once the steps before are done (:class:`_Room`). A step that cannot be done refuses the
  whole, and its error says which one it is. Nothing has happened then.
- Then the steps are done in their order, by the methods that do each of them alone, in one frame
  of the log (``Log.in_one_frame``): after a crash all of it is there, or nothing. What a step
  entails stands in that frame too: what makes way in a full queue, dead letters, fan-out.
- No turn of the loop passes in between, so what was checked holds, but for two things: the bytes
  of a queue are an estimate, and a dead letter of this very transaction may fill a queue that a
  later step sends to. What was *promised* room comes in all the same.
- What needs no disk, queues in memory and subscribers without durability, is delivered at once, as
  ever; the rest when all of it is kept.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..storage.log import RECORD_BYTES_MAX, Durability
from .access import Principal
from .errors import (
    BraidError,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    QueueFull,
    TooLarge,
    at_step,
)
from .fifo import FifoQueue
from .intake import check_for_fifo, check_for_standard
from .lease import Lease
from .letters import RECORD_BYTES, TARGET_BYTES
from .message import DEDUP_ID, GROUP_ID, Outgoing, Sent
from .publishing import Batch, batches
from .queue import Queue
from .schedulecore import PlannedSchedule
from .streams import Placed
from .streamview import StreamView
from .topics import Route
from .transactionverbs import (
    Ack,
    Append,
    DeadLetter,
    Nack,
    Publish,
    Result,
    Schedule,
    Send,
    Step,
)

if TYPE_CHECKING:
    from .core import Core

__all__ = ["transact"]

_IDS_BYTES = 32  # of the headers that say the group and the deduplication id, besides these
_SETTLED_BYTES = 64  # of the record that says what became of a message, at most
_BURIED_BYTES = 1_024  # of those that move one into a dead-letter queue, at most
_SCHEDULE_BYTES = 1_024  # of those that keep a schedule, besides it, at most


_Done = tuple[Durability, Result]


def transact(
    core: "Core", who: Principal, steps: Sequence[Step], now_ms: int
) -> tuple[Durability, list[Result]]:
    """Do all steps, or none: (what to wait for, the result of each). See ``Core.transact``."""
    transaction = _Transaction(core, who, now_ms)
    try:
        for index, step in enumerate(steps):
            try:
                transaction.check(step)
            except BraidError as error:
                raise at_step(error, index, _name(step)) from error
    except BraidError:
        transaction.refuse()
        raise
    return transaction.apply()


def _name(step: Step) -> str:
    if isinstance(step, Publish):
        return f"publish to {step.topic!r}"
    if isinstance(step, Append):
        return f"append to {step.stream!r}"
    if isinstance(step, DeadLetter):
        return f"dead-letter {step.queue!r}"
    if isinstance(step, Schedule):
        return f"schedule to {step.message.kind} {step.message.name!r}"
    return f"{type(step).__name__.lower()} {step.queue!r}"


class _Room:
    """What a queue will hold when the steps before are done, as far as its limits care."""

    __slots__ = ("_hashes", "_held", "_held_bytes", "bytes", "messages", "queue")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.messages = queue.live
        self.bytes = queue.bytes
        self._held = len(queue.leases)
        self._held_bytes = 0
        if queue.settings.bytes_max and queue.settings.overflow != "reject":
            self._held_bytes = sum(lease.size for lease in queue.leases.by_seq.values())
        self._hashes: set[bytes] = set()  # FIFO: new ones

    def take_in(self, size: int) -> tuple[int, int]:
        """Let a message in: (how many make way for it, their bytes), about. Raises QueueFull."""
        settings = self.queue.settings
        most, most_bytes = settings.messages_max, settings.bytes_max
        over = self.messages + 1 - most if most else 0
        over_bytes = self.bytes + size - most_bytes if most_bytes else 0
        gone = gone_bytes = 0
        if over > 0 or over_bytes > 0:
            if settings.overflow == "reject" or not self._can_make_way(size):
                raise QueueFull(
                    f"queue {self.queue.name} would hold {self.messages + 1} messages,"
                    f" {self.bytes + size} bytes: its limits are {most or 'no'} messages,"
                    f" {most_bytes or 'no'} bytes"
                )
            mean = max(self.bytes // max(self.messages, 1), 1)
            gone = min(max(over, -(-over_bytes // mean)), self.messages)
            gone_bytes = min(gone * mean, self.bytes)
        self.add(1 - gone, size - gone_bytes)
        return gone, gone_bytes

    def _can_make_way(self, size: int) -> bool:
        """Whether there is room when all is gone that nobody holds."""
        settings = self.queue.settings
        if settings.messages_max and self._held >= settings.messages_max:
            return False
        return not settings.bytes_max or self._held_bytes + size <= settings.bytes_max

    def add(self, messages: int, size: int) -> None:
        """So many more, or fewer, whatever the limits say."""
        self.messages += messages
        self.bytes += size

    def end_lease(self, lease: Lease, stays: bool) -> None:
        """A message is held no more, and gone unless it ``stays``."""
        self._held -= 1
        self._held_bytes -= lease.size
        if not stays:
            self.add(-1, -lease.size)

    def is_new(self, hashed: bytes, now_ms: int) -> bool:
        """Whether a FIFO queue has not had what is known by this. Raises LimitExceeded."""
        dedup = self.queue.dedup
        assert dedup is not None
        if not hashed:
            return True
        if hashed in self._hashes or dedup.find(hashed, now_ms) is not None:
            return False
        count = len(dedup) + len(self._hashes)
        if count >= self.queue.host.limits.dedup_ids_max:
            raise LimitExceeded(
                f"queue {self.queue.name} would remember {count + 1} deduplication ids,"
                " more than it may"
            )
        self._hashes.add(hashed)
        return True


class _Transaction:
    """Checks steps one after another, then does all of them. See the module."""

    def __init__(self, core: "Core", who: Principal, now_ms: int) -> None:
        self._core = core
        self._who = who
        self._now_ms = now_ms
        self._count = 0
        self._bytes = 0  # that it becomes in the log, about, rather more than less
        self._bytes_max = min(core.limits.transaction_bytes_max, RECORD_BYTES_MAX)
        self._rooms: dict[Queue, _Room] = {}
        self._settled: set[tuple[Queue, int]] = set()
        self._placed: list[Placed] = []
        self._scheduled = 0
        self._scheduled_bytes = 0
        self._retained: dict[str, int] = {}  # topic -> bytes, 0: nothing
        self._retained_count = len(core.retained)
        self._retained_bytes = core.retained.bytes
        self._steps: list[Callable[[], _Done]] = []

    # Checking ---------------------------------------------------------------------------------

    def check(self, step: Step) -> None:
        """Raise what the step would raise after those before it; else remember it."""
        match step:
            case Send():
                self._grow(1, 0)
                self._check_send(step)
            case Publish():
                self._grow(1, 0)
                self._check_publish(step)
            case Append():
                self._grow(len(step.batch.bodies), 0)
                self._check_append(step)
            case Ack() | Nack() | DeadLetter():
                self._grow(len(step.receipts), RECORD_BYTES)
                self._check_settle(step)
            case Schedule():
                self._grow(1, 0)
                self._check_schedule(step)

    def _grow(self, count: int, size: int) -> None:
        limits = self._core.limits
        self._count += count
        self._bytes += size
        if self._count > limits.transaction_steps_max:
            raise LimitExceeded(
                f"a transaction has at most {limits.transaction_steps_max} messages, records,"
                " receipts and schedules"
            )
        if self._bytes > self._bytes_max:
            raise TooLarge(f"a transaction writes at most {self._bytes_max} bytes")

    def _room(self, queue: Queue) -> _Room:
        room = self._rooms.get(queue)
        if room is None:
            room = self._rooms[queue] = _Room(queue)
        return room

    def _take_in(self, queue: Queue, size: int) -> None:
        gone, gone_bytes = self._room(queue).take_in(size)
        if gone and queue.settings.overflow == "dead-letter":
            self._room(self._core.queues[queue.settings.dead_letter]).add(gone, gone_bytes)
            self._grow(0, gone * _BURIED_BYTES)
        else:
            self._grow(0, gone * _SETTLED_BYTES)

    def _check_send(self, step: Send) -> None:
        core, message = self._core, step.message
        self._who.check("queue:Send", step.queue)
        queue = core.queue(step.queue)
        core.admit(not queue.logged)
        size = len(message.body) + len(message.attributes)
        if message.group or message.dedup_id:
            size += _IDS_BYTES + len(message.group.encode()) + len(message.dedup_id.encode())
        is_new = True
        if isinstance(queue, StreamView):
            queue.send((message,), self._now_ms)  # raises: nothing is sent there
        elif isinstance(queue, FifoQueue):
            check_for_fifo(message, core.limits)
            hashed = queue.identify(message.group, message.dedup_id, message.body)
            is_new = self._room(queue).is_new(hashed, self._now_ms)
        else:
            check_for_standard(message, core.limits, sticky=queue.affinity is not None)
        if is_new:
            self._take_in(queue, size)
            self._grow(0, RECORD_BYTES + TARGET_BYTES + size)
        self._steps.append(partial(self._send, queue, message))

    def _check_publish(self, step: Publish) -> None:
        core, limits = self._core, self._core.limits
        if step.qos not in (0, 1):
            raise InvalidArgument("the quality of a message is 0 or 1")
        if core.failed is not None:
            raise core.failed
        route = core.topics.admit(self._who, step.topic)
        (batch,) = batches(step.topic, [step.message], step.qos, limits, self._now_ms)
        if isinstance(batch, BraidError):
            raise batch
        size = len(batch.attributes) + len(step.message.body)
        queues: list[Queue] = []
        if step.qos:
            queues += [
                session.queue
                for session, match in route.sessions
                if session.queue is not None and match.qos
            ]
            queues += [share.target for share in route.shares]
        if queues or route.bundles or batch.retain:
            core.admit()
        if any(not queue.logged for queue in queues):
            core.admit(memory=True)
        refusing = [queue for queue in queues if queue.settings.overflow == "reject"]
        for queue in refusing:
            self._take_in(queue, size)
        self._grow(0, (len(queues) - len(refusing)) * _SETTLED_BYTES)  # what makes way there
        if batch.retain:
            self._check_retained(step.topic, size if step.message.body else 0)
        if route.bundles:
            self._check_bindings(route, batch, queues, step.message.body)
        else:
            self._grow(0, RECORD_BYTES + TARGET_BYTES * (len(queues) + 1) + size)
        self._steps.append(partial(self._publish, route, batch, refusing))

    def _check_bindings(
        self, route: Route, batch: Batch, queues: Sequence[Queue], body: bytes
    ) -> None:
        """What a message comes to by bindings. A target that refuses it refuses nothing else."""
        fanout = self._core.fanout
        plan = fanout.plan(route.bundles, batch, self._now_ms)
        bindings, size = fanout.weigh(plan, queues, body, self._now_ms)
        self._grow(0, size)
        content = len(batch.attributes) + len(body)
        for binding in bindings:
            queue = binding.target
            if not isinstance(queue, Queue):
                continue
            try:
                if isinstance(queue, FifoQueue):
                    group = str(plan.headers.get(GROUP_ID) or batch.topic)
                    hashed = queue.identify(group, str(plan.headers.get(DEDUP_ID) or ""), body)
                    if not self._room(queue).is_new(hashed, self._now_ms):
                        continue
                self._take_in(queue, content)
            except TooLarge:
                raise
            except LimitExceeded:
                buried = self._core.queues.get(binding.settings.dead_letter)
                if buried is not None:
                    self._room(buried).add(1, content)

    def _check_retained(self, topic: str, size: int) -> None:
        """Whether a message of ``size`` bytes can be retained; 0: what was retained goes."""
        limits, store = self._core.limits, self._core.retained
        if size > limits.retained_message_bytes_max:
            raise LimitExceeded(
                f"a retained message has at most {limits.retained_message_bytes_max} bytes"
            )
        before = self._retained.get(topic, -1)
        if before < 0:
            number = store.tree.get(topic)
            before = 0 if number is None else store.size(number)
        self._retained[topic] = size
        self._retained_count += (size > 0) - (before > 0)
        self._retained_bytes += size - before
        if size and (
            self._retained_bytes > limits.retained_bytes_max
            or self._retained_count > limits.retained_messages_max
        ):
            raise LimitExceeded(
                f"{self._retained_count} messages, {self._retained_bytes} bytes would be retained"
            )

    def _check_append(self, step: Append) -> None:
        core, batch = self._core, step.batch
        stream = core.admit_records(self._who, step.stream, batch)
        placed = core.streams.place(stream, batch, self._now_ms)
        self._placed.append(placed)
        for result in placed.results:
            if isinstance(result, BraidError):
                raise result
        columns = (batch.bodies, batch.keys, batch.headers or ())
        size = sum(sum(map(len, column)) for column in columns)
        self._grow(0, RECORD_BYTES * (len(batch.bodies) + len(placed.groups)) + size)
        self._steps.append(partial(self._append, placed))

    def _check_settle(self, step: Ack | Nack | DeadLetter) -> None:
        queue = self._core.holder(self._who, step.queue)
        if isinstance(step, Nack):
            queue.nack((), step.delay_ms, step.counted, self._now_ms)  # raises what it would raise
        elif isinstance(step, DeadLetter):
            self._core.dead_letter(self._who, step.queue, (), step.reason, self._now_ms)  # as well
        room = self._room(queue)
        for seq, token in step.receipts:
            lease = queue.leases.holds(seq, token)
            if lease is None or (queue, seq) in self._settled:
                raise LeaseLost(f"message {seq} of queue {queue.name} is not yours")
            self._settled.add((queue, seq))
            self._grow(0, _SETTLED_BYTES)
            if isinstance(step, Ack):
                room.end_lease(lease, stays=False)
            elif isinstance(step, DeadLetter):
                room.end_lease(lease, stays=False)
                self._room(self._core.queues[queue.settings.dead_letter]).add(1, lease.size)
                self._grow(0, _BURIED_BYTES)
            else:
                self._check_return(room, lease, step.counted)
        self._steps.append(partial(self._settle, queue, step))

    def _check_return(self, room: _Room, lease: Lease, counted: bool) -> None:
        settings = room.queue.settings
        expired = 0 < lease.expire_ms <= self._now_ms
        spent = counted and 0 < settings.max_receives <= lease.receives
        room.end_lease(lease, stays=not (expired or spent))
        if settings.dead_letter_expired if expired else spent:
            self._room(self._core.queues[settings.dead_letter]).add(1, lease.size)
            self._grow(0, _BURIED_BYTES)

    def _check_schedule(self, step: Schedule) -> None:
        planned = self._core.plan_schedule(
            self._who, step.message, self._now_ms, self._scheduled, self._scheduled_bytes
        )
        self._scheduled += 1
        self._scheduled_bytes += planned.size
        self._grow(0, _SCHEDULE_BYTES + planned.size)
        self._steps.append(partial(self._schedule, planned))

    def refuse(self) -> None:
        """Some step cannot be done: give back what the checks have taken."""
        for placed in self._placed:
            self._core.streams.give_back(placed)

    # Doing ------------------------------------------------------------------------------------

    def apply(self) -> tuple[Durability, list[Result]]:
        """Do all that was checked."""
        core = self._core
        level = Durability.MEMORY
        results: list[Result] = []
        core.admitted = True
        try:
            with core.log.in_one_frame(self._bytes):
                for step in self._steps:
                    kept, result = step()
                    level = max(level, kept)
                    results.append(result)
        finally:
            core.admitted = False
        return level, results

    def _send(self, queue: Queue, message: Outgoing) -> _Done:
        queue.promised = True
        try:
            (result,) = queue.send((message,), self._now_ms)
        finally:
            queue.promised = False
        assert isinstance(result, Sent), result
        self._core.changed(queue)
        return queue.settings.durability, result

    def _publish(self, route: Route, batch: Batch, refusing: Sequence[Queue]) -> _Done:
        for queue in refusing:
            queue.promised = True
        try:
            return self._core.topics.distribute(route, batch, self._now_ms)
        finally:
            for queue in refusing:
                queue.promised = False

    def _append(self, placed: Placed) -> _Done:
        level, results = self._core.streams.put(placed, self._now_ms)
        return level, [position for position in results if not isinstance(position, BraidError)]

    def _schedule(self, planned: PlannedSchedule) -> _Done:
        return Durability.SYNC, self._core.make_schedule(planned)

    def _settle(self, queue: Queue, step: Ack | Nack | DeadLetter) -> _Done:
        if isinstance(step, Ack):
            results = queue.ack(step.receipts)
        elif isinstance(step, DeadLetter):
            _, results = self._core.dead_letter(
                self._who, step.queue, step.receipts, step.reason, self._now_ms
            )
        else:
            results = queue.nack(step.receipts, step.delay_ms, step.counted, self._now_ms)
        assert not any(results), results
        return queue.settings.durability, None

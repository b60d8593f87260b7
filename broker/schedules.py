"""Scheduled messages: who is due, and sending them.

Rules:

- What was sent, and that it was, are one frame of the log: a crash leaves both or neither. So every
  time of a schedule is sent once, to whatever keeps its messages in the log. What is kept in memory
  only, and subscribers who are there, may get it again after a crash at that moment.
- It is sent with the rights that the user who scheduled it has then.
- What cannot be sent waits and is tried again: in a second where that may help soon (no room, too
  much at once), else in a minute. Times that pass meanwhile, or while no broker runs, are missed.
- Times do not come twice when the clock goes back: what was sent waits for its next time, however
  long that is then.
"""

from typing import TYPE_CHECKING

import msgspec

from ..storage.log import RECORD_BYTES_MAX
from ..storage.record import encode_definition
from .errors import BraidError, LimitExceeded, QueueFull, Throttled, Unavailable
from .fifo import FifoQueue
from .host import DROPPED
from .lease import Consumer
from .limits import DELAY_MS_MAX
from .message import Delivery, Outgoing, Sent
from .publishing import Posted
from .registry import QueueDefinition
from .schedulequeue import SCHEDULES_KIND, SCHEDULES_NAME, Plan, ScheduleQueue, plan_of
from .settings import QueueSettings
from .streamreading import partition_key
from .streams import Appending

if TYPE_CHECKING:
    from .core import Core

__all__ = ["Schedules"]

_CREDIT = 256
_RETRY_MS = 1_000
_RETRY_LATER_MS = 60_000
_ERROR_CHARACTERS_MAX = 200
_RECORD_BYTES = 4_096  # of the records of one time, besides the message, about
_SOON = (Unavailable, QueueFull, Throttled)


class Schedules:
    """The schedules of a broker.

    Attributes:
        errors: by number, why the last try failed, of those whose last try did.
    """

    def __init__(self, core: "Core") -> None:
        self._core = core
        self.errors: dict[int, str] = {}

    @property
    def queue(self) -> ScheduleQueue | None:
        """Where they wait; None until there is one."""
        queue = self._core.shares.get(SCHEDULES_NAME)
        assert queue is None or isinstance(queue, ScheduleQueue)
        return queue

    def start(self) -> None:
        """Everything is recovered: go on."""
        if self.queue is not None:
            self._consume(self.queue)

    def _consume(self, queue: ScheduleQueue) -> None:
        queue.add(Consumer(queue.name, self, _CREDIT, 0, None, None))
        self._core.changed(queue)

    # Making and removing ----------------------------------------------------------------------

    def admit(self, count: int, size: int) -> None:
        """Raise when there is no room for ``count`` more, of ``size`` bytes in all.

        Raises LimitExceeded, StorageFull, Overloaded.
        """
        self._core.admit()
        limits, queue = self._core.limits, self.queue
        live, held = (0, 0) if queue is None else (queue.live, queue.bytes)
        if live + count > limits.schedules_max:
            raise LimitExceeded(f"{live} messages are scheduled, as many as may be")
        if held + size > limits.schedules_bytes_max:
            raise LimitExceeded(f"{held} bytes of messages are scheduled, as many as may be")

    def add(self, body: bytes, attributes: bytes, due_ms: int, now_ms: int) -> int:
        """Keep one that was admitted, under the headers that ``with_plan`` made; its number."""
        core = self._core
        queue = self.queue or self._make(now_ms)
        # What is due later than a delay can say is put off once more by then.
        delay_ms = min(max(due_ms - now_ms, 0), DELAY_MS_MAX)
        (result,) = queue.send([Outgoing(body, attributes, delay_ms)], now_ms)
        assert isinstance(result, Sent), result
        core.changed(queue)
        return result.seq

    def _make(self, now_ms: int) -> ScheduleQueue:
        core = self._core
        definition = QueueDefinition(
            kind=SCHEDULES_KIND, name=SCHEDULES_NAME, settings=QueueSettings(), created_ms=now_ms
        )
        id = core.take_id()
        core.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
        queue = core.define(id, definition)
        assert isinstance(queue, ScheduleQueue)
        self._consume(queue)
        return queue

    def remove(self, id: int) -> None:
        """Take one out that is there."""
        assert self.queue is not None
        self.queue.discard([id], DROPPED)
        self.queue.trim_wheels(1)
        self.errors.pop(id, None)

    # Sending ----------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send what is due."""
        queue = consumer.queue
        assert isinstance(queue, ScheduleQueue)
        for delivery in deliveries:
            self._send_one(queue, delivery)
        queue.feed(consumer, len(deliveries))
        self._core.keep()

    def _send_one(self, queue: ScheduleQueue, delivery: Delivery) -> None:
        now_ms = self._core.now_ms
        plan, attributes = plan_of(delivery.attributes)
        sent_before = delivery.receives - 1
        if not sent_before and now_ms < (first_ms := plan.timing.first_ms(plan.created_ms)):
            queue.wait(delivery.receipt, first_ms)
            return
        log = queue.log
        size = len(delivery.body) + len(attributes) + _RECORD_BYTES
        try:
            # How much a topic comes to is not known before; it is far less than this.
            with log.in_one_frame(RECORD_BYTES_MAX if plan.kind == "topic" else size):
                self._fire(plan, delivery.seq, sent_before, delivery.body, attributes, now_ms)
                next_ms = plan.timing.next_ms(plan.created_ms, sent_before + 1, now_ms)
                if next_ms:
                    queue.go_on(delivery.receipt, sent_before + 1, next_ms)
                else:
                    queue.ack([delivery.receipt])
        except BraidError as error:
            self.errors[delivery.seq] = str(error)[:_ERROR_CHARACTERS_MAX]
            pause_ms = _RETRY_MS if isinstance(error, _SOON) else _RETRY_LATER_MS
            queue.wait(delivery.receipt, now_ms + pause_ms)
        else:
            self.errors.pop(delivery.seq, None)

    def _fire(
        self, plan: Plan, id: int, sent_before: int, body: bytes, attributes: bytes, now_ms: int
    ) -> None:
        """Send it now, or raise and leave nothing of it."""
        core = self._core
        who = core.access.owner(plan.user, "")
        result: object
        if plan.kind == "queue":
            message = self._outgoing(plan, id, sent_before, body, attributes)
            (result,) = core.send(who, plan.name, [message], now_ms)[1]
        elif plan.kind == "topic":
            posted = Posted(body, attributes, plan.retain, plan.ttl_ms)
            (result,) = core.publish(who, plan.name, [posted], 1, now_ms)[1]
        else:
            key = plan.key or partition_key(attributes)
            batch = Appending([body], [key], [attributes])
            (result,) = core.append(who, plan.name, batch, now_ms)[1]
        if isinstance(result, BraidError):
            raise result

    def _outgoing(
        self, plan: Plan, id: int, sent_before: int, body: bytes, attributes: bytes
    ) -> Outgoing:
        dedup_id = plan.dedup_id
        if not dedup_id and isinstance(self._core.queues.get(plan.name), FifoQueue):
            dedup_id = f"{SCHEDULES_NAME}/{id}/{sent_before + 1}"  # else it was a copy of the last
        return Outgoing(body, attributes, -1, plan.ttl_ms, plan.priority, plan.group, dedup_id)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The broker has failed."""

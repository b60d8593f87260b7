"""What clients can ask about schedules: the gate before ``schedules.py``.

The rules are those of ``core.py``, of which this is a part. Who schedules a message needs the right
to send it where it goes, then and whenever it is sent. A schedule is seen by who made it, and by
who may see its target in lists; it is removed by who made it, and by who administers the broker.
"""

from collections.abc import Callable

import msgspec

from .access import BROKER_NAME, Principal
from .errors import BraidError, InvalidArgument, NotFound, PermissionDenied, TooLarge
from .fifo import FifoQueue
from .intake import check_for_fifo, check_for_standard
from .message import SCHEDULE_ID, Outgoing, overlay, pack_headers
from .publishing import Posted, batches
from .schedulelisting import Done, ScheduleWalk, Visit
from .schedulequeue import with_plan
from .scheduleverbs import Scheduled, ScheduleInfo
from .streamcore import StreamCore
from .streamview import StreamView
from .topiccore import PAGE_MAX

__all__ = ["CountAnswer", "PlannedSchedule", "ScheduleAnswer", "ScheduleCore"]

ScheduleAnswer = Callable[[object, list[ScheduleInfo] | BraidError], None]
CountAnswer = Callable[[object, int | BraidError], None]

_TIME_MAX = 2**53

_SEND = {"queue": "queue:Send", "topic": "topic:Publish", "stream": "stream:Append"}
_SEE = {"queue": "queue:Describe", "topic": "topic:Describe", "stream": "stream:Describe"}


class PlannedSchedule(msgspec.Struct, frozen=True, gc=False):
    """A schedule that may be made: what will be told of it, and what will be kept."""

    info: ScheduleInfo
    body: bytes
    attributes: bytes

    @property
    def size(self) -> int:
        """How many bytes will be kept."""
        return len(self.body) + len(self.attributes)


class ScheduleCore(StreamCore):
    """Schedules, for a principal."""

    def schedule(self, who: Principal, message: Scheduled, now_ms: int) -> ScheduleInfo:
        """Have a message sent later; that stands once :meth:`when_kept` calls back for SYNC.

        Raises:
            PermissionDenied, NotFound, InvalidArgument, TooLarge, LimitExceeded, StorageFull,
            Overloaded, BrokerFailed: nothing was taken.
        """
        return self.make_schedule(self.plan_schedule(who, message, now_ms))

    def plan_schedule(
        self,
        who: Principal,
        message: Scheduled,
        now_ms: int,
        before: int = 0,
        bytes_before: int = 0,
    ) -> PlannedSchedule:
        """Check one for :meth:`make_schedule`. Raises what :meth:`schedule` raises.

        ``before``, ``bytes_before``: how many, and how large, will be made before this one.
        """
        who.check(_SEND[message.kind], message.name)
        if self.failed is not None:
            raise self.failed
        message.timing.check()
        first_ms = message.timing.first_ms(now_ms)
        if not first_ms:
            raise InvalidArgument(f"{message.timing.cron!r} names no time in the next 50 years")
        # The number that it gets is known: it tells whoever gets the message where it came from.
        waiting = self.schedules.queue
        number = before + (waiting.lane(0).next if waiting is not None else 1)
        own = pack_headers({SCHEDULE_ID: str(number)}, self.limits)
        attributes = overlay(message.attributes, own)
        message = msgspec.structs.replace(message, attributes=attributes)
        self._check_scheduled(message, now_ms)
        outside = with_plan(message, who.name, now_ms, self.limits)
        check_for_standard(Outgoing(message.body, outside), self.limits)  # where it waits
        info = ScheduleInfo(
            id=number,
            kind=message.kind,
            name=message.name,
            timing=message.timing,
            user=who.name,
            created_ms=now_ms,
            next_ms=first_ms,
            fired=0,
            size=len(attributes) + len(message.body),
        )
        planned = PlannedSchedule(info, message.body, outside)
        self.schedules.admit(before + 1, bytes_before + planned.size)
        return planned

    def make_schedule(self, planned: PlannedSchedule) -> ScheduleInfo:
        """Make one that was planned, before anything else happens but those planned before it."""
        info = planned.info
        id = self.schedules.add(planned.body, planned.attributes, info.next_ms, info.created_ms)
        assert id == info.id
        return info

    def _check_scheduled(self, message: Scheduled, now_ms: int) -> None:
        """Raise what sending it would raise now, whatever else happens until then."""
        limits, attributes = self.limits, message.attributes
        if message.kind == "queue":
            queue = self.queues.get(message.name)
            if queue is None:
                raise NotFound(f"there is no queue {message.name!r}")
            outgoing = Outgoing(
                message.body,
                attributes,
                -1,
                message.ttl_ms,
                message.priority,
                message.group,
                message.dedup_id,
            )
            if isinstance(queue, StreamView):
                queue.send([outgoing], now_ms)  # raises: nothing is sent there
            elif isinstance(queue, FifoQueue):
                check_for_fifo(outgoing, limits)
            else:
                check_for_standard(outgoing, limits, queue.affinity is not None)
        elif message.kind == "topic":
            if self.topics.route(message.name).reserved:
                raise PermissionDenied(f"the topic {message.name!r} is the broker's own")
            posted = Posted(message.body, attributes, message.retain, message.ttl_ms)
            (batch,) = batches(message.name, [posted], 1, limits, now_ms)
            if isinstance(batch, BraidError):
                raise batch
        else:
            most = self.streams.get(message.name).settings.record_bytes_max
            if len(message.body) + len(attributes) + len(message.key) > most:
                raise TooLarge(f"stream {message.name} takes records of at most {most} bytes")

    # Looking and removing ---------------------------------------------------------------------

    def list_schedules(
        self,
        who: Principal,
        start_ms: int,
        end_ms: int,
        after: int,
        limit: int,
        answer: ScheduleAnswer,
        argument: object,
    ) -> None:
        """Those that the principal may see; ``answer(argument, schedules or error)`` comes later.

        See :meth:`ScheduleVerbs.list_schedules`.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidArgument(f"a page has 1 to {PAGE_MAX} entries")
        found: list[ScheduleInfo] = []

        def visit(info: ScheduleInfo, attributes: bytes, body: bytes) -> bool:
            if _sees(who, info):
                found.append(info)
            return len(found) < limit

        def done(error: BraidError | None) -> None:
            answer(argument, error or found)

        self._walk_schedules(start_ms, end_ms, after, visit, done)

    def schedule_info(
        self, who: Principal, id: int, answer: ScheduleAnswer, argument: object
    ) -> None:
        """One, with its message, as the only one of a list. NotFound also if it is not shown."""
        found: list[ScheduleInfo] = []

        def visit(info: ScheduleInfo, attributes: bytes, body: bytes) -> bool:
            if _sees(who, info):
                info.attributes, info.body = attributes, body
                found.append(info)
            return False

        def done(error: BraidError | None) -> None:
            answer(argument, error or found or _no_schedule(id))

        self._walk_one(id, visit, done)

    def unschedule(self, who: Principal, id: int, answer: CountAnswer, argument: object) -> None:
        """Remove one; ``answer(argument, 1 or error)`` comes later.

        It stands once :meth:`when_kept` calls back for SYNC. NotFound, PermissionDenied.
        """
        answers: list[int | BraidError] = []

        def visit(info: ScheduleInfo, attributes: bytes, body: bytes) -> bool:
            if _owns(who, info):
                self.schedules.remove(id)
                answers.append(1)
            elif _sees(who, info):
                answers.append(PermissionDenied(f"schedule {id} is {info.user!r}'s"))
            return False

        def done(error: BraidError | None) -> None:
            answer(argument, error or (answers or [_no_schedule(id)])[0])

        self._walk_one(id, visit, done)

    def unschedule_between(
        self, who: Principal, start_ms: int, end_ms: int, answer: CountAnswer, argument: object
    ) -> None:
        """Remove those that are the principal's, and due in a span; how many comes later."""
        removed = 0

        def visit(info: ScheduleInfo, attributes: bytes, body: bytes) -> bool:
            nonlocal removed
            if _owns(who, info):
                self.schedules.remove(info.id)
                removed += 1
            return self.failed is None

        def done(error: BraidError | None) -> None:
            answer(argument, error or self.failed or removed)

        self._walk_schedules(start_ms, end_ms, 0, visit, done)

    def _walk_one(self, id: int, visit: Visit, done: Done) -> None:
        def visit_it(info: ScheduleInfo, attributes: bytes, body: bytes) -> bool:
            return info.id == id and visit(info, attributes, body)

        self._walk_schedules(0, 0, max(id - 1, 0), visit_it, done)

    def _walk_schedules(
        self, start_ms: int, end_ms: int, after: int, visit: Visit, done: Done
    ) -> None:
        if self.failed is not None:
            raise self.failed
        if not (0 <= start_ms <= _TIME_MAX and 0 <= end_ms <= _TIME_MAX and after >= 0):
            raise InvalidArgument("times are unix ms, from 0 on, and so are numbers")
        queue = self.schedules.queue
        if queue is None:
            self.later(lambda: done(None))
            return
        span = start_ms, end_ms
        ScheduleWalk(self.schedules, queue, span, after, visit, done, self.later).start()


def _sees(who: Principal, info: ScheduleInfo) -> bool:
    return who.name == info.user or who.allows(_SEE[info.kind], info.name)


def _owns(who: Principal, info: ScheduleInfo) -> bool:
    return who.name == info.user or who.allows("broker:Admin", BROKER_NAME)


def _no_schedule(id: int) -> NotFound:
    return NotFound(f"there is no schedule {id}")

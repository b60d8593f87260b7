"""Looking at schedules: their messages stand in the log, so the answer may come later."""

from collections.abc import Callable

from ..storage.record import MessageContent
from .errors import BraidError
from .index import LEASED
from .message import Browsed
from .reading import Later, ReadMany
from .schedulequeue import ScheduleQueue, plan_of
from .schedules import Schedules
from .scheduleverbs import ScheduleInfo

__all__ = ["Done", "ScheduleWalk", "Visit"]

_NEVER_MS = 2**63  # no schedule is due that late

Visit = Callable[[ScheduleInfo, bytes, bytes], bool]
Done = Callable[[BraidError | None], None]


class ScheduleWalk(ReadMany):
    """Read schedules, and show each to ``visit(info, attributes, body)`` until it returns False.

    They are those behind ``after`` that are due in ``span``, from its first ms to before its
    second, in the order of their numbers. A second of 0 is no end. Those that are being sent are
    due now, which is before everything.

    ``done(error)`` is called at the end, never from within :meth:`start`.
    """

    def __init__(
        self,
        schedules: Schedules,
        queue: ScheduleQueue,
        span: tuple[int, int],
        after: int,
        visit: Visit,
        done: Done,
        later: Later,
    ) -> None:
        numbers = filter(self._is_due, queue.sequences(after))
        super().__init__(queue, numbers, later, self._finish, None)
        self._schedules = schedules
        self._schedule_queue = queue
        self._start_ms, self._end_ms = span[0], span[1] or _NEVER_MS
        self._dues = queue.look_on()
        self._visit = visit
        self._done = done
        self._going = True

    def _is_due(self, seq: int) -> bool:
        return self._start_ms <= self._dues.get(seq, 0) < self._end_ms

    def _wanted(self) -> bool:
        return self._going

    def _take(self, seq: int, slot: int, message: MessageContent) -> None:
        plan, attributes = plan_of(message.attributes)
        lane, number = self._queue.locate(seq)
        # It may have been sent while its message was being read.
        if lane is None or slot & LEASED or not self._is_due(seq):
            return
        info = ScheduleInfo(
            id=seq,
            kind=plan.kind,
            name=plan.name,
            timing=plan.timing,
            user=plan.user,
            created_ms=plan.created_ms,
            next_ms=self._dues.get(seq, 0),
            fired=lane.receives(number),
            size=len(attributes) + len(message.body),
            error=self._schedules.errors.get(seq, ""),
        )
        self._going = self._visit(info, attributes, message.body)

    def _finish(self, argument: object, found: list[Browsed] | BraidError) -> None:
        self._schedule_queue.look_away(self._dues)
        self._done(found if isinstance(found, BraidError) else None)

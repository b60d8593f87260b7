"""Looking at schedules: their messages stand in the log, so the answer may come later."""

from collections.abc import Callable, Iterator

from ..storage.record import MessageContent
from .errors import BraidError
from .index import LEASED
from .message import Browsed
from .reading import Later, ReadMany
from .schedulequeue import ScheduleQueue, plan_of
from .schedules import Schedules
from .scheduleverbs import ScheduleInfo

__all__ = ["Done", "ScheduleWalk", "Visit", "schedules_between"]

_NEVER_MS = 2**63  # no schedule is due that late

Visit = Callable[[ScheduleInfo, bytes, bytes], bool]
Done = Callable[[BraidError | None], None]


def schedules_between(
    queue: ScheduleQueue, start_ms: int, end_ms: int, after: int
) -> tuple[Iterator[int], dict[int, int]]:
    """The schedules behind ``after`` that are due in a span, in order, and when all of them are.

    An end of 0 is none. Those that are being sent are due now, which is before everything.
    """
    dues = queue.due_by_number()
    end_ms = end_ms or _NEVER_MS
    numbers = (n for n in queue.sequences(after) if start_ms <= dues.get(n, 0) < end_ms)
    return numbers, dues


class ScheduleWalk(ReadMany):
    """Read schedules, and show each to ``visit(info, attributes, body)`` until it returns False.

    ``done(error)`` is called at the end, never from within :meth:`start`.
    """

    def __init__(
        self,
        schedules: Schedules,
        queue: ScheduleQueue,
        numbers: Iterator[int],
        dues: dict[int, int],
        visit: Visit,
        done: Done,
        later: Later,
    ) -> None:
        super().__init__(queue, numbers, later, self._finish, None)
        self._schedules = schedules
        self._dues = dues
        self._visit = visit
        self._done = done
        self._going = True

    def _wanted(self) -> bool:
        return self._going

    def _take(self, seq: int, slot: int, message: MessageContent) -> None:
        plan, attributes = plan_of(message.attributes)
        lane, number = self._queue.locate(seq)
        if lane is None or slot & LEASED:
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
        self._done(found if isinstance(found, BraidError) else None)

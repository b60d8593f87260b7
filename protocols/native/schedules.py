"""The server's side of schedules in the native protocol. Part of ``session.py``.

Schedules stand in the log, so looking at them takes its time; what a crash could take back is not
told before it is kept.
"""

from typing import TYPE_CHECKING, cast

from ...broker.errors import BraidError, Overloaded
from ...broker.message import check_attributes
from ...storage.log import Durability
from . import operations as op
from . import schedule_operations as schedule_op
from .frames import append_frame
from .replays import ReplayRequests

if TYPE_CHECKING:
    from ...broker.limits import Limits
    from ...broker.scheduleverbs import ScheduleInfo
    from ..session import Host

__all__ = ["ScheduleRequests"]

_SYNC = Durability.SYNC


class ScheduleRequests(ReplayRequests):
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    finished: bool
    _limits: "Limits"
    _host: "Host"
    _out: bytearray
    _unanswered: int
    _peer_is_slow: bool

    def _error(self, request: int, error: BraidError) -> None:
        raise NotImplementedError

    def on_schedule(self, request: schedule_op.Schedule, now_ms: int) -> None:
        if request.attributes:
            check_attributes(request.attributes, self._limits)
        info = self._core.schedule(self._who, request.message(), now_ms)
        append_frame(self._answers(_SYNC), schedule_op.SchedulesReply(request.request, [info]))

    def on_list_schedules(self, request: schedule_op.ListSchedules, now_ms: int) -> None:
        self._core.list_schedules(
            self._who,
            request.start_ms,
            request.end_ms,
            request.after,
            request.limit,
            self._on_schedules,
            request.request,
        )
        self._unanswered += 1

    def on_schedule_info(self, request: schedule_op.ScheduleInfoRequest, now_ms: int) -> None:
        self._core.schedule_info(self._who, request.schedule, self._on_schedules, request.request)
        self._unanswered += 1

    def on_unschedule(self, request: schedule_op.Unschedule, now_ms: int) -> None:
        self._core.unschedule(self._who, request.schedule, self._on_unscheduled, request.request)
        self._unanswered += 1

    def on_unschedule_between(self, request: schedule_op.UnscheduleBetween, now_ms: int) -> None:
        self._core.unschedule_between(
            self._who, request.start_ms, request.end_ms, self._on_counted, request.request
        )
        self._unanswered += 1

    # --- what the core calls ---

    def _on_schedules(self, request: object, found: "list[ScheduleInfo] | BraidError") -> None:
        assert isinstance(request, int)
        if isinstance(found, BraidError):
            self._tell(request, found)
        else:
            self._tell(request, schedule_op.SchedulesReply(request, found))

    def _on_unscheduled(self, request: object, count: int | BraidError) -> None:
        assert isinstance(request, int)
        self._tell(request, count if isinstance(count, BraidError) else op.DoneReply(request))

    def _on_counted(self, request: object, count: int | BraidError) -> None:
        assert isinstance(request, int)
        if isinstance(count, BraidError):
            self._tell(request, count)
        else:
            self._tell(request, op.CountReply(request, count))

    def _tell(self, request: int, answer: object) -> None:
        """Answer once all that was done so far is kept."""
        self._core.when_kept(_SYNC, self._on_told, (request, answer))

    def _on_told(self, argument: object, error: BraidError | None) -> None:
        if self.finished:
            return
        request, answer = cast("tuple[int, object]", argument)
        self._unanswered -= 1
        if error is not None or isinstance(answer, BraidError):
            self._error(request, cast("BraidError", error or answer))
        elif self._peer_is_slow or len(self._out) > self._limits.outbound_bytes_max:
            self._error(request, Overloaded("read what was answered, then ask again"))
        else:
            append_frame(self._out, answer)
        self._host.wake()

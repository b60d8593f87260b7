"""Schedules as clients of ActiveMQ see and remove them: by messages to a topic of their own.

A SEND to ``/topic/ActiveMQ.Scheduler.Management`` with ``AMQ_SCHEDULER_ACTION`` is a request:

    BROWSE      a copy of each scheduled message goes to ``reply-to``
    REMOVE      the schedule whose number is in ``scheduledJobId`` goes
    REMOVEALL   all go that are the user's

``ACTION_START_TIME`` and ``ACTION_END_TIME``, in unix ms, say when they are due. What somebody sees
and may remove is decided in ``broker/schedulecore.py``. At most BROWSED_MAX are shown.
"""

from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError, NotFound
from ...broker.message import REPLY_TO, SCHEDULE_ID, Outgoing, overlay, pack_headers
from ...broker.publishing import Posted
from ...broker.scheduleverbs import ScheduleInfo
from ...storage.log import Durability
from .destinations import Queue, Stream, Topic, target_at
from .dialects import whole_number

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["ACTION", "BROWSED_MAX", "MANAGEMENT", "manage"]

ACTION: Final = "AMQ_SCHEDULER_ACTION"
MANAGEMENT: Final = Topic("ActiveMQ/Scheduler/Management")
BROWSED_MAX: Final = 1_000
_ACTIONS: Final = ("BROWSE", "REMOVE", "REMOVEALL")
_JOB_ID: Final = "scheduledJobId"


def manage(
    session: "StompSession", headers: dict[str, str], receipt: str | None, now_ms: int
) -> None:
    """Do what a SEND to the topic asks for; the RECEIPT comes when it is done and kept.

    Raises Refused.
    """
    core, who, dialect = session.core, session.who, session.dialect
    action = headers[ACTION]
    if action not in _ACTIONS:
        raise dialect.bad_header(ACTION, f"it is one of {', '.join(_ACTIONS)}")
    start_ms, end_ms = [
        whole_number(dialect, name, headers[name]) if name in headers else 0
        for name in ("ACTION_START_TIME", "ACTION_END_TIME")
    ]
    request = _Request(session, receipt)
    if action == "REMOVE":
        number = whole_number(dialect, _JOB_ID, headers.get(_JOB_ID, ""))
        core.unschedule(who, number, request.on_removed, None)
    elif action == "REMOVEALL":
        core.unschedule_between(who, start_ms, end_ms, request.on_removed, None)
    else:
        sending = session.headers.sending(headers, now_ms, session.temporary.reply_address)
        address = sending.headers.get(REPLY_TO)
        request.answer_to = target_at(address) if isinstance(address, str) else MANAGEMENT
        if request.answer_to == MANAGEMENT or isinstance(request.answer_to, Stream):
            raise dialect.bad_header(REPLY_TO, "a BROWSE is answered to a queue or a topic")
        core.list_schedules(who, start_ms, end_ms, 0, BROWSED_MAX, request.on_listed, None)


class _Request:
    """A request that is being done."""

    def __init__(self, session: "StompSession", receipt: str | None) -> None:
        self._session = session
        self._receipt = receipt
        self._numbers: list[int] = []  # to be shown, the last first
        self.answer_to: Queue | Stream | Topic = MANAGEMENT

    def on_removed(self, argument: object, answer: int | BraidError) -> None:
        """Some are gone, or cannot go."""
        self._end(answer if isinstance(answer, BraidError) else None)

    def on_listed(self, argument: object, found: list[ScheduleInfo] | BraidError) -> None:
        """There are these; each is asked for with its message."""
        if isinstance(found, BraidError):
            self._end(found)
            return
        self._numbers = [info.id for info in reversed(found)]
        self._show_next()

    def _show_next(self) -> None:
        session = self._session
        if not session.is_open:
            return
        if not self._numbers:
            self._end(None)
            return
        session.core.schedule_info(session.who, self._numbers.pop(), self._on_shown, None)

    def _on_shown(self, argument: object, found: list[ScheduleInfo] | BraidError) -> None:
        if isinstance(found, NotFound):
            found = []  # it has gone meanwhile
        try:
            if isinstance(found, BraidError):
                raise found
            for info in found:
                self._send(info)
        except BraidError as error:
            self._end(error)
        else:
            self._show_next()

    def _send(self, info: ScheduleInfo) -> None:
        session = self._session
        core, who = session.core, session.who
        timing = info.timing
        said = {
            SCHEDULE_ID: str(info.id),
            "AMQ_SCHEDULED_DELAY": str(timing.delay_ms) if timing.delay_ms else "",
            "AMQ_SCHEDULED_PERIOD": str(timing.period_ms) if timing.period_ms else "",
            "AMQ_SCHEDULED_REPEAT": str(timing.repeat) if timing.repeat else "",
            "AMQ_SCHEDULED_CRON": timing.cron,
        }
        own = pack_headers({name: value for name, value in said.items() if value}, session.limits)
        attributes = overlay(info.attributes, own)
        results: list[object]
        if isinstance(self.answer_to, Queue):
            message = Outgoing(info.body, attributes)
            _, sent = core.send(who, self.answer_to.name, [message], core.now_ms)
            results = list(sent)
        else:
            posted = Posted(info.body, attributes)
            _, published = core.publish(who, self.answer_to.name, [posted], 1, core.now_ms)
            results = list(published)
        for result in results:
            if isinstance(result, BraidError):
                raise result

    def _end(self, error: BraidError | None) -> None:
        session = self._session
        if not session.is_open:
            return
        if error is not None:
            session.fail_with(error, self._receipt or "")
        else:
            session.answer(Durability.SYNC, self._receipt)
        session.wake()

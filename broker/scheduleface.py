"""Schedules for people, the same in process and over the wire.

The part of a broker's face that is about schedules; the rules are those of ``face.py``.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict, Unpack

from .errors import InvalidArgument
from .limits import Limits
from .message import PRIORITY_DEFAULT, HeaderMap, pack_headers
from .paging import PAGE_ENTRIES
from .replayface import ReplayFace
from .schedule import Timing
from .scheduleverbs import Scheduled, ScheduleInfo, ScheduleKind
from .values import Seconds, milliseconds

if TYPE_CHECKING:
    from .scheduleverbs import ScheduleVerbs

__all__ = ["ScheduleFace", "ScheduleOptions", "scheduled"]


class ScheduleOptions(TypedDict, total=False):
    """Where a message is to be sent, when, and how. See :meth:`ScheduleFace.schedule`."""

    queue: str
    topic: str
    stream: str
    delay: Seconds
    every: Seconds
    repeat: int | None
    cron: str
    headers: HeaderMap | None
    ttl: Seconds
    priority: int
    group: str
    dedup_id: str
    retain: bool
    key: str | bytes


def scheduled(
    limits: Limits,
    body: bytes,
    *,
    queue: str = "",
    topic: str = "",
    stream: str = "",
    delay: Seconds = 0,
    every: Seconds = 0,
    repeat: int | None = None,
    cron: str = "",
    headers: HeaderMap | None = None,
    ttl: Seconds = 0,
    priority: int = PRIORITY_DEFAULT,
    group: str = "",
    dedup_id: str = "",
    retain: bool = False,
    key: str | bytes = b"",
) -> Scheduled:
    """What :meth:`ScheduleFace.schedule` asks for. Raises InvalidArgument, TooLarge."""
    kind, name = _one_target(queue, topic, stream)
    if not isinstance(body, bytes):
        raise InvalidArgument(f"a body is bytes, not {type(body).__name__}")
    if repeat is None:
        repeat = -1 if every and not cron else 0
    timing = Timing(milliseconds(delay, "delay"), milliseconds(every, "every"), repeat, cron)
    return Scheduled(
        kind=kind,
        name=name,
        timing=timing,
        body=body,
        attributes=pack_headers(headers or {}, limits),
        ttl_ms=milliseconds(ttl, "ttl"),
        priority=priority,
        group=group,
        dedup_id=dedup_id,
        retain=retain,
        key=key.encode() if isinstance(key, str) else key,
    )


class ScheduleFace(ReplayFace):
    """What a broker can be asked about schedules. ``verbs`` is that of the whole face."""

    if TYPE_CHECKING:

        @property
        def _schedule_verbs(self) -> ScheduleVerbs: ...

        @property
        def limits(self) -> Limits: ...

    else:

        @property
        def _schedule_verbs(self):
            return self.verbs

    async def schedule(self, body: bytes, **options: Unpack[ScheduleOptions]) -> ScheduleInfo:
        """Have a message sent to a queue, topic or stream later, once or often.

        It is on disk when this returns, and is sent, also after a restart, until it has been sent
        as often as it should, or is removed. Messages have the header ``schedule-id``.

        Args:
            queue, topic, stream: where to; one of them.
            delay: until it is sent first.
            every: how long between one time and the next; without a delay also until the first.
            repeat: how many times more than once. None: for ever, if ``every`` is given.
            cron: minute, hour, day of the month, month, day of the week, in UTC; it is sent at
                these times, with ``delay`` so long after them, with ``repeat`` several times each.
            headers, ttl, priority, group, dedup_id: of the message, as in ``Queue.send``; its time
                to live counts from when it is sent.
            retain: as in ``publish``, for a topic. key: the partition key, for a stream.

        Raises:
            NotFound, InvalidArgument, PermissionDenied, TooLarge, LimitExceeded.
        """
        message = scheduled(self.limits, body, **options)
        return await self._schedule_verbs.schedule(message)

    async def schedules(
        self, start: datetime | None = None, end: datetime | None = None
    ) -> AsyncIterator[ScheduleInfo]:
        """The schedules that you may see, in the order in which they were made.

        Only those whose next time is at ``start`` or later, and before ``end``.
        """
        start_ms, end_ms = _unix_ms(start), _unix_ms(end)
        after = 0
        while True:
            page = await self._schedule_verbs.list_schedules(start_ms, end_ms, after, PAGE_ENTRIES)
            for info in page:
                yield info
            if len(page) < PAGE_ENTRIES:
                return
            after = page[-1].id

    async def schedule_info(self, id: int) -> ScheduleInfo:
        """The schedule as it is now, with its message. Raises NotFound."""
        return await self._schedule_verbs.schedule_info(id)

    async def unschedule(self, id: int) -> None:
        """Remove a schedule: its message is sent no more. Raises NotFound, PermissionDenied."""
        await self._schedule_verbs.unschedule(id)

    async def unschedule_between(
        self, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        """Remove your schedules whose next time is at ``start`` or later, and before ``end``.

        How many they were; all of them, without any time.
        """
        return await self._schedule_verbs.unschedule_between(_unix_ms(start), _unix_ms(end))


def _one_target(queue: str, topic: str, stream: str) -> tuple[ScheduleKind, str]:
    targets: list[tuple[ScheduleKind, str]] = [
        ("queue", queue),
        ("topic", topic),
        ("stream", stream),
    ]
    given = [target for target in targets if target[1]]
    if len(given) != 1:
        raise InvalidArgument("a schedule has one target: a queue, a topic or a stream")
    return given[0]


def _unix_ms(time: datetime | None) -> int:
    if time is None:
        return 0
    if time.tzinfo is None:
        raise InvalidArgument("a time has a time zone")
    return max(round(time.timestamp() * 1000), 1)

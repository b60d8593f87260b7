"""The operations about schedules. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.message import PRIORITY_DEFAULT
from ...broker.schedule import Timing
from ...broker.scheduleverbs import Scheduled, ScheduleInfo, ScheduleKind

__all__ = [
    "OPERATIONS",
    "ListSchedules",
    "Request",
    "Schedule",
    "ScheduleInfoRequest",
    "SchedulesReply",
    "Unschedule",
    "UnscheduleBetween",
    "WireTiming",
]

_RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class WireTiming(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """[delay_ms, period_ms, repeat, cron]"""

    delay_ms: _Milliseconds = 0
    period_ms: _Milliseconds = 0
    repeat: Annotated[int, msgspec.Meta(ge=-1, le=2**31)] = 0
    cron: str = ""


class Schedule(msgspec.Struct, array_like=True, tag=96):
    """Have a message sent later; answered by SCHEDULES with one."""

    request: _RequestId
    kind: ScheduleKind
    name: str
    timing: WireTiming
    body: bytes
    attributes: bytes = b""
    ttl_ms: _Milliseconds = 0
    priority: Annotated[int, msgspec.Meta(ge=0, le=255)] = PRIORITY_DEFAULT
    group: str = ""
    dedup_id: str = ""
    retain: bool = False
    key: bytes = b""

    def message(self) -> Scheduled:
        """The same as the broker has it."""
        timing = self.timing
        return Scheduled(
            kind=self.kind,
            name=self.name,
            timing=Timing(timing.delay_ms, timing.period_ms, timing.repeat, timing.cron),
            body=self.body,
            attributes=self.attributes,
            ttl_ms=self.ttl_ms,
            priority=self.priority,
            group=self.group,
            dedup_id=self.dedup_id,
            retain=self.retain,
            key=self.key,
        )


class ListSchedules(msgspec.Struct, array_like=True, tag=97):
    """Those whose next time is in a span: from ``start_ms``, before ``end_ms`` (0: no end)."""

    request: _RequestId
    start_ms: _Milliseconds = 0
    end_ms: _Milliseconds = 0
    after: _Number = 0
    limit: _Count = 1000


class ScheduleInfoRequest(msgspec.Struct, array_like=True, tag=98):
    """Answered by SCHEDULES with one, and its message."""

    request: _RequestId
    schedule: _Number


class Unschedule(msgspec.Struct, array_like=True, tag=99):
    """Answered by DONE."""

    request: _RequestId
    schedule: _Number


class UnscheduleBetween(msgspec.Struct, array_like=True, tag=100):
    """Answered by COUNT. The span is that of LIST_SCHEDULES."""

    request: _RequestId
    start_ms: _Milliseconds = 0
    end_ms: _Milliseconds = 0


class SchedulesReply(msgspec.Struct, array_like=True, tag=90):
    request: int
    schedules: list[ScheduleInfo]


Request = Schedule | ListSchedules | ScheduleInfoRequest | Unschedule | UnscheduleBetween

OPERATIONS: Final[dict[str, int]] = {
    "SCHEDULE": 96,
    "LIST_SCHEDULES": 97,
    "SCHEDULE_INFO": 98,
    "UNSCHEDULE": 99,
    "UNSCHEDULE_BETWEEN": 100,
    "SCHEDULES": 90,
}

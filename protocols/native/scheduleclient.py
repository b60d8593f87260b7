"""The client's side of schedules in the native protocol. Part of ``client.py``."""

from ...broker.scheduleverbs import Scheduled, ScheduleInfo
from .bindingclient import Caller
from .replayclient import ReplayCalls

__all__ = ["ScheduleCalls", "schedule_fields"]


def schedule_fields(message: Scheduled) -> tuple[object, ...]:
    """A message as it goes into a SCHEDULE."""
    timing = message.timing
    return (
        message.kind,
        message.name,
        (timing.delay_ms, timing.period_ms, timing.repeat, timing.cron),
        message.body,
        message.attributes,
        message.ttl_ms,
        message.priority,
        message.group,
        message.dedup_id,
        message.retain,
        message.key,
    )


class ScheduleCalls(ReplayCalls):
    """The verbs of schedules."""

    async def schedule(self: Caller, message: Scheduled) -> ScheduleInfo:
        reply = await self.call("SCHEDULE", *schedule_fields(message))
        info: ScheduleInfo = reply.schedules[0]
        return info

    async def list_schedules(
        self: Caller, start_ms: int = 0, end_ms: int = 0, after: int = 0, limit: int = 1000
    ) -> list[ScheduleInfo]:
        reply = await self.read("LIST_SCHEDULES", start_ms, end_ms, after, limit)
        found: list[ScheduleInfo] = reply.schedules
        return found

    async def schedule_info(self: Caller, id: int) -> ScheduleInfo:
        info: ScheduleInfo = (await self.read("SCHEDULE_INFO", id)).schedules[0]
        return info

    async def unschedule(self: Caller, id: int) -> None:
        await self.call("UNSCHEDULE", id)

    async def unschedule_between(self: Caller, start_ms: int, end_ms: int) -> int:
        count: int = (await self.call("UNSCHEDULE_BETWEEN", start_ms, end_ms)).count
        return count

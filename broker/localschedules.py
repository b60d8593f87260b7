"""``ScheduleVerbs`` on a core in this process: what of ``LocalVerbs`` is about schedules."""

from typing import TYPE_CHECKING

from ..storage.log import Durability
from .localreplays import LocalReplays
from .localstreams import tell
from .scheduleverbs import Scheduled, ScheduleInfo

if TYPE_CHECKING:
    import asyncio

__all__ = ["LocalSchedules"]


class LocalSchedules(LocalReplays):
    """``ScheduleVerbs`` for one principal."""

    _loop: "asyncio.AbstractEventLoop"

    async def schedule(self, message: Scheduled) -> ScheduleInfo:
        info = self._check_open().schedule(self._who, message, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def list_schedules(
        self, start_ms: int = 0, end_ms: int = 0, after: int = 0, limit: int = 1000
    ) -> list[ScheduleInfo]:
        waiter: asyncio.Future[list[ScheduleInfo]] = self._loop.create_future()
        core = self._check_open()
        core.list_schedules(self._who, start_ms, end_ms, after, limit, tell, waiter)
        found = await waiter
        await self.kept(Durability.SYNC)  # what a crash could take back is not told
        return found

    async def schedule_info(self, id: int) -> ScheduleInfo:
        waiter: asyncio.Future[list[ScheduleInfo]] = self._loop.create_future()
        self._check_open().schedule_info(self._who, id, tell, waiter)
        (info,) = await waiter
        await self.kept(Durability.SYNC)
        return info

    async def unschedule(self, id: int) -> None:
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._check_open().unschedule(self._who, id, tell, waiter)
        await waiter
        await self.kept(Durability.SYNC)

    async def unschedule_between(self, start_ms: int, end_ms: int) -> int:
        waiter: asyncio.Future[int] = self._loop.create_future()
        core = self._check_open()
        core.unschedule_between(self._who, start_ms, end_ms, tell, waiter)
        removed = await waiter
        await self.kept(Durability.SYNC)
        return removed

"""``ReplayVerbs`` on a core in this process: the part of ``LocalVerbs`` that is about replays."""

from ..storage.log import Durability
from .bindingverbs import Target
from .localbindings import LocalBindings
from .replayverbs import ReplayInfo, ReplayPolicy

__all__ = ["LocalReplays"]


class LocalReplays(LocalBindings):
    """``ReplayVerbs`` for one principal."""

    async def replay(self, filter: str, target: Target, policy: ReplayPolicy) -> ReplayInfo:
        info = self._check_open().replay(self._who, filter, target, policy, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def list_replays(self) -> list[ReplayInfo]:
        found = self._check_open().list_replays(self._who)
        await self.kept(Durability.SYNC)  # what a crash could take back is not told
        return found

    async def cancel_replay(self, id: int) -> ReplayInfo:
        info = self._check_open().cancel_replay(self._who, id)
        await self.kept(Durability.SYNC)
        return info

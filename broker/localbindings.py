"""``BindingVerbs`` on a core in this process: the part of ``LocalVerbs`` that is about bindings."""

from collections.abc import Callable

from ..storage.log import Durability
from .access import Principal
from .bindings import BindingSettings
from .bindingverbs import BindingInfo, Target
from .core import Core

__all__ = ["LocalBindings"]


class LocalBindings:
    """``BindingVerbs`` for one principal."""

    _who: Principal
    _now_ms: Callable[[], int]

    def _check_open(self) -> Core:
        raise NotImplementedError

    async def kept(self, level: Durability) -> None:
        """Wait until all asked for so far is kept at ``level``."""
        raise NotImplementedError

    async def bind(self, filter: str, target: Target, settings: BindingSettings) -> BindingInfo:
        info = self._check_open().bind(self._who, filter, target, settings, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def unbind(self, filter: str, target: Target) -> None:
        self._check_open().unbind(self._who, filter, target)
        await self.kept(Durability.SYNC)

    async def binding_info(self, filter: str, target: Target) -> BindingInfo:
        return self._check_open().binding_info(self._who, filter, target)

    async def list_bindings(
        self, filter: str = "", target: Target | None = None, after: int = 0, limit: int = 1000
    ) -> list[BindingInfo]:
        return self._check_open().list_bindings(self._who, filter, target, after, limit)

"""``WebhookVerbs`` on a core in this process: the part of ``LocalVerbs`` that is about webhooks."""

from collections.abc import Callable
from typing import Any

from ..storage.log import Durability
from .access import Principal
from .core import Core
from .webhook import WebhookInfo, WebhookSettings

__all__ = ["LocalWebhooks"]


class LocalWebhooks:
    """``WebhookVerbs`` for one principal."""

    _who: Principal
    _now_ms: Callable[[], int]

    def _check_open(self) -> Core:
        raise NotImplementedError

    async def kept(self, level: Durability) -> None:
        """Wait until all asked for so far is kept at ``level``."""
        raise NotImplementedError

    async def declare_webhook(self, name: str, settings: WebhookSettings) -> WebhookInfo:
        core = self._check_open()
        info = core.declare_webhook(self._who, name, settings, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def update_webhook(self, name: str, changes: dict[str, Any]) -> WebhookInfo:
        info = self._check_open().update_webhook(self._who, name, changes, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def delete_webhook(self, name: str) -> None:
        self._check_open().delete_webhook(self._who, name, self._now_ms())
        await self.kept(Durability.SYNC)

    async def webhook_info(self, name: str) -> WebhookInfo:
        return self._check_open().webhook_info(self._who, name, self._now_ms())

    async def list_webhooks(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[WebhookInfo]:
        core = self._check_open()
        return core.list_webhooks(self._who, prefix, after, limit, self._now_ms())

    async def confirm_webhook(self, name: str, token: str) -> WebhookInfo:
        info = self._check_open().confirm_webhook(name, token, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def ask_webhook_again(self, name: str) -> WebhookInfo:
        info = self._check_open().ask_webhook_again(self._who, name, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

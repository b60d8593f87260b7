"""The client's side of webhooks in the native protocol. Part of ``client.py``."""

from typing import Any, Protocol

from ...broker.webhook import WebhookInfo, WebhookSettings

__all__ = ["WebhookCalls"]


class _Caller(Protocol):
    """What ``NativeClient`` has for all its verbs."""

    async def call(self, operation: str, *fields: object) -> Any:
        """Ask once."""

    async def read(self, operation: str, *fields: object) -> Any:
        """Ask for what changes nothing, again if need be."""


def _one(reply: Any) -> WebhookInfo:
    (info,) = reply.webhooks
    assert isinstance(info, WebhookInfo)
    return info


class WebhookCalls:
    """The verbs of webhooks."""

    async def declare_webhook(self: _Caller, name: str, settings: WebhookSettings) -> WebhookInfo:
        return _one(await self.call("DECLARE_WEBHOOK", name, settings))

    async def update_webhook(self: _Caller, name: str, changes: dict[str, Any]) -> WebhookInfo:
        return _one(await self.call("UPDATE_WEBHOOK", name, changes))

    async def delete_webhook(self: _Caller, name: str) -> None:
        await self.call("DELETE_WEBHOOK", name)

    async def webhook_info(self: _Caller, name: str) -> WebhookInfo:
        return _one(await self.read("WEBHOOK_INFO", name))

    async def list_webhooks(
        self: _Caller, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[WebhookInfo]:
        found: list[WebhookInfo] = (await self.read("LIST_WEBHOOKS", prefix, after, limit)).webhooks
        return found

    async def confirm_webhook(self: _Caller, name: str, token: str) -> WebhookInfo:
        return _one(await self.call("CONFIRM_WEBHOOK", name, token))

    async def ask_webhook_again(self: _Caller, name: str) -> WebhookInfo:
        return _one(await self.call("ASK_WEBHOOK_AGAIN", name))

"""What can be asked about webhooks: the verbs, to await.

The broker in this process and the client of the native protocol both implement them. Where each
can be refused is told by ``webhookcore.py``.
"""

from typing import Any, Protocol

from .webhook import WebhookInfo, WebhookSettings

__all__ = ["WebhookVerbs"]


class WebhookVerbs(Protocol):
    """Everything a client can ask about webhooks."""

    async def declare_webhook(self, name: str, settings: WebhookSettings) -> WebhookInfo:
        """Make the webhook, or find it with these very settings. Raises Conflict otherwise."""

    async def update_webhook(self, name: str, changes: dict[str, Any]) -> WebhookInfo:
        """Change some settings. Another URL has to be confirmed anew."""

    async def delete_webhook(self, name: str) -> None:
        """Delete the webhook and what waits for it."""

    async def webhook_info(self, name: str) -> WebhookInfo:
        """The webhook as it is now, without its secrets. Raises NotFound."""

    async def list_webhooks(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[WebhookInfo]:
        """Webhooks by name, a page at a time: those after ``after``."""

    async def confirm_webhook(self, name: str, token: str) -> WebhookInfo:
        """Bring back the token that was posted. Raises PermissionDenied."""

    async def ask_webhook_again(self, name: str) -> WebhookInfo:
        """Ask whoever is there to confirm once more, with another token. Raises Conflict."""

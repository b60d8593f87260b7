"""The queue of a webhook: a queue like others, which also knows what the webhook is."""

from typing import Any

import msgspec

from ..storage.log import Log
from .host import Host
from .queue import Queue
from .webhook import Webhook, WebhookActivity, WebhookDefinition, WebhookInfo, webhook_name

__all__ = ["WebhookQueue"]


class WebhookQueue(Queue):
    """The queue that a sender empties."""

    kind = "webhook"

    def __init__(self, host: Host, id: int, definition: WebhookDefinition, log: Log) -> None:
        super().__init__(host, id, definition.name, definition.settings, log, definition.created_ms)
        self.webhook = definition.webhook
        self.activity = WebhookActivity()

    def define(self, webhook: Webhook) -> None:
        """Apply: this is the webhook now."""
        self.webhook = webhook
        self.settings = webhook.settings.queue_settings()

    def definition(self) -> dict[str, Any]:
        """What a DEFINITION record says of it."""
        return super().definition() | {"webhook": self.webhook}

    def info(self, now_ms: int) -> WebhookInfo:
        """The webhook as it is now."""
        live, leased = self.live, len(self.leases)
        return WebhookInfo(
            name=webhook_name(self.name),
            state=self.webhook.state(now_ms),
            settings=self.webhook.settings.without_secrets(),
            owner=self.webhook.owner,
            created_ms=self.created_ms,
            token_expires_ms=self.webhook.token_expires_ms,
            ready=live - leased - self.held,
            delayed=self.held,
            in_flight=leased,
            bytes=self.bytes,
            dead_lettered=self.counters.dead_lettered,
            activity=msgspec.structs.replace(self.activity),
        )

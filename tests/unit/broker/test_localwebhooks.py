"""The verbs of webhooks in process: each is on disk when it returns."""

from pathlib import Path

import pytest

from braidmq.broker import Broker, NotFound, PermissionDenied
from braidmq.broker.webhook import WebhookSettings
from braidmq.broker.webhookverbs import WebhookVerbs

SETTINGS = WebhookSettings(url="https://a.example")


async def test_every_verb(tmp_path: Path):
    async with Broker(tmp_path / "data") as broker:
        verbs: WebhookVerbs = broker.verbs
        info = await verbs.declare_webhook("w", SETTINGS)
        assert (info.name, info.state) == ("w", "declared")
        assert (await verbs.update_webhook("w", {"timeout_ms": 1_000})).settings.timeout_ms == 1_000
        assert [each.name for each in await verbs.list_webhooks()] == ["w"]
        with pytest.raises(PermissionDenied):
            await verbs.confirm_webhook("w", "token")
        broker.core.ask_webhook(broker.core.webhooks["w"], "token", broker.now_ms())
        assert (await verbs.ask_webhook_again("w")).state == "declared"
        broker.core.ask_webhook(broker.core.webhooks["w"], "second", broker.now_ms())
        assert (await verbs.confirm_webhook("w", "second")).state == "confirmed"
        assert (await verbs.webhook_info("w")).state == "confirmed"
    async with Broker(tmp_path / "data") as broker:
        verbs = broker.verbs
        assert (await verbs.webhook_info("w")).state == "confirmed"
        await verbs.delete_webhook("w")
        with pytest.raises(NotFound):
            await verbs.webhook_info("w")

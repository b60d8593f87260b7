"""The queue of a webhook says what it is, in a definition that brings it back."""

import msgspec

from braidmq.broker.webhook import Webhook, WebhookDefinition, WebhookSettings
from braidmq.broker.webhookqueue import WebhookQueue
from tests.broker_harness import Harness

T = 1_700_000_000_000


def queue() -> WebhookQueue:
    broker = Harness()
    webhook = Webhook(settings=WebhookSettings(url="https://a.example"), owner="ann")
    definition = WebhookDefinition(
        name="$webhook/w",
        settings=webhook.settings.queue_settings(),
        webhook=webhook,
        created_ms=T,
    )
    return WebhookQueue(broker.core, 7, definition, broker.log)


def test_its_definition_is_what_it_was_made_from():
    made = queue()
    content = msgspec.msgpack.encode(made.definition())
    found = msgspec.msgpack.decode(content, type=WebhookDefinition)
    assert (found.kind, found.name, found.webhook) == ("webhook", "$webhook/w", made.webhook)


def test_defining_it_anew_changes_its_queue_too():
    made = queue()
    made.define(made.webhook.changed(WebhookSettings(url="https://a.example", messages_max=3)))
    assert made.settings.messages_max == 3


def test_what_is_shown_is_a_copy():
    made = queue()
    info = made.info(T)
    made.activity.posted += 1
    assert (info.name, info.owner, info.state) == ("w", "ann", "declared")
    assert info.activity.posted == 0

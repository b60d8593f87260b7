"""Webhooks begin with the first one, once for each broker, and only where they are switched on."""

import sys

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import InvalidArgument
from braidmq.broker.webhook import WebhookSettings
from braidmq.broker.webhook_policy import WebhookPolicy
from braidmq.protocols.webhooks.service import WebhookService
from tests.broker_harness import Harness

URL = "https://a.example"


def service(broker: Harness, **policy: object) -> WebhookService:
    made = WebhookPolicy(**policy)  # type: ignore[arg-type]
    return WebhookService(broker.core, broker.clock.now_ms, made)


def declare(broker: Harness, url: str = URL) -> None:
    settings = WebhookSettings(url=url, confirm=False)
    broker.core.declare_webhook(SYSTEM, "w", settings, broker.clock.ms)


def hooked(broker: Harness) -> bool:
    return "on_webhook" in vars(broker.core)


async def test_nothing_begins_before_the_first_webhook():
    broker = Harness()
    opened = service(broker)
    opened.open()
    assert not hooked(broker)
    declare(broker)
    assert hooked(broker)
    await opened.close(0)
    assert not hooked(broker) and "object_to_url" not in vars(broker.core)


async def test_webhooks_that_are_there_begin_at_once():
    broker = Harness()
    declare(broker)
    opened = service(broker)
    opened.open()
    assert hooked(broker)
    await opened.close(0)


async def test_the_second_server_of_a_broker_leaves_it_to_the_first():
    broker = Harness()
    declare(broker)
    first, second = service(broker), service(broker)
    first.open()
    second.open()
    await second.close(0)
    assert hooked(broker)
    await first.close(0)
    assert not hooked(broker)


@pytest.mark.parametrize("url", ["https://127.0.0.1", "https://a.example:22", "https://[::1]"])
async def test_what_will_never_be_called_is_refused_when_it_is_declared(url):
    broker = Harness()
    opened = service(broker)
    opened.open()
    with pytest.raises(InvalidArgument, match="may not call"):
        declare(broker, url)
    assert not broker.core.webhooks
    await opened.close(0)


async def test_switched_off_means_no_new_ones_and_nothing_is_posted():
    broker = Harness()
    declare(broker)
    opened = service(broker, enabled=False)
    opened.open()
    assert not hooked(broker)
    broker.core.delete_webhook(SYSTEM, "w", broker.clock.ms)
    with pytest.raises(InvalidArgument, match="switched off"):
        declare(broker)
    await opened.close(0)


async def test_who_declares_one_is_told_when_the_client_is_not_installed(monkeypatch):
    broker = Harness()
    opened = service(broker)
    opened.open()
    monkeypatch.setitem(sys.modules, "httpcore2", None)
    for name in ("sender", "client"):
        monkeypatch.delitem(sys.modules, f"braidmq.protocols.webhooks.{name}", raising=False)
    with pytest.raises(InvalidArgument, match=r"braidmq\[webhooks\]"):
        declare(broker)
    await opened.close(0)


@pytest.mark.parametrize(
    "policy",
    [
        {"ca_file": "not there"},
        {"ca_file": __file__},
        {"signing_key": "not there", "signing_certificate_url": "u"},
        {"signing_key": __file__, "signing_certificate_url": "u"},
    ],
)
async def test_files_that_cannot_be_used_are_told_when_the_server_opens(policy):
    broker = Harness()
    with pytest.raises(InvalidArgument, match=r"ca_file|signing.key"):
        service(broker, **policy).open()

"""Webhooks for people: the same in process and over the wire, times in seconds."""

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from braidmq.broker import Broker, Conflict, InvalidArgument, NotFound, PermissionDenied
from braidmq.broker.face import BrokerFace
from braidmq.broker.retry_policy import RetryPolicy
from braidmq.broker.webhook import WebhookSettings
from braidmq.broker.webhook_policy import WebhookPolicy
from braidmq.broker.webhookface import _TIMES, WebhookOptions
from braidmq.protocols import connect, serve

URL = "https://a.example/in"
SECRET = "whsec_" + "A" * 32


@asynccontextmanager
async def faces():
    """(the broker, the same over the wire). No webhook is posted: nobody is switched on to."""
    async with (
        Broker() as broker,
        serve(broker, "braid://127.0.0.1:0", webhooks=WebhookPolicy(enabled=False)) as server,
        connect(server.urls[0]) as remote,
    ):
        broker.core.object_to_url = lambda url: None  # else nothing could be declared
        yield broker, remote


async def a_life(broker: Broker, face: BrokerFace) -> list[object]:
    """What is seen of a webhook from its beginning to its end."""
    seen: list[object] = []
    info = await face.declare_webhook(
        "w",
        URL,
        retry=RetryPolicy(retries=1),
        timeout=1.5,
        retention=timedelta(hours=1),
        secrets=[SECRET],
        headers={"Authorization": "Bearer x"},
    )
    seen.append((info.settings, info.state, info.owner))
    with pytest.raises(Conflict):
        await face.declare_webhook("w", URL)
    info = await face.update_webhook("w", url="https://b.example", breaker_open=1)
    seen.append(info.settings)
    with pytest.raises(InvalidArgument):
        await face.update_webhook("w", timeout=-1)
    core = broker.core
    core.ask_webhook(core.webhooks["w"], "token", broker.now_ms())
    with pytest.raises(PermissionDenied):
        await face.confirm_webhook("w", "other")
    seen.append((await face.ask_webhook_again("w")).state)
    core.ask_webhook(core.webhooks["w"], "second", broker.now_ms())
    seen.append((await face.confirm_webhook("w", "second")).state)
    seen.append([each.name async for each in face.webhooks()])
    seen.append((await face.webhook("w")).activity)
    await face.delete_webhook("w")
    with pytest.raises(NotFound):
        await face.webhook("w")
    return seen


async def test_a_webhook_lives_the_same_life_in_process_and_over_the_wire():
    async with faces() as (broker, remote):
        here = await a_life(broker, broker)
        there = await a_life(broker, remote)
    assert isinstance(here[0], tuple) and isinstance(there[0], tuple)
    assert here[0][:2] == there[0][:2] and here[1:] == there[1:]
    settings = here[0][0]
    assert (settings.timeout_ms, settings.retention_ms) == (1_500, 3_600_000)
    assert settings.secrets == ("(hidden)",) and settings.retry.retries == 1


def test_every_setting_can_be_given():
    names = {_TIMES.get(name, name) for name in WebhookOptions.__annotations__} | {"url"}
    assert names == set(WebhookSettings.__struct_fields__)

"""The sender on a loop: what it begins ends, also when it closes in the middle."""

import asyncio
from collections.abc import Callable

import pytest

from braidmq.broker import Broker
from braidmq.broker.access import SYSTEM
from braidmq.broker.message import Outgoing
from braidmq.broker.webhook import WebhookSettings
from braidmq.broker.webhook_policy import WebhookPolicy
from braidmq.broker.webhook_url import WebhookUrl
from braidmq.broker.webhookqueue import WebhookQueue
from braidmq.protocols.webhooks.client import Answer, HttpClient
from braidmq.protocols.webhooks.sender import WebhookSender


class Client(HttpClient):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.posted: list[bytes] = []
        self.go = asyncio.Event()
        self.fault: Exception | None = None
        self.closed = False

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def post(self, url: WebhookUrl, headers, body: bytes, timeout_ms: int) -> Answer:
        self.posted.append(body)
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return Answer(200)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def declare(broker: Broker) -> WebhookQueue:
    settings = WebhookSettings(url="https://a.example", raw=True, confirm=False)
    broker.core.declare_webhook(SYSTEM, "w", settings, broker.now_ms())
    return broker.core.webhooks["w"]


def send(broker: Broker, *bodies: bytes) -> None:
    messages = [Outgoing(body) for body in bodies]
    broker.core.send(SYSTEM, "$webhook/w", messages, broker.now_ms())


async def test_what_is_sent_is_posted():
    client = Client()
    client.go.set()
    async with Broker() as broker:
        sender = WebhookSender(broker.core, broker.now_ms, WebhookPolicy(), client)
        sender.open()
        queue = declare(broker)
        send(broker, b"1", b"2", b"3")
        await until(lambda: queue.live == 0)
        assert sorted(client.posted) == [b"1", b"2", b"3"]
        await sender.close(10)
    assert client.closed


async def test_closing_lets_requests_end():
    client = Client()
    async with Broker() as broker:
        sender = WebhookSender(broker.core, broker.now_ms, WebhookPolicy(), client)
        sender.open()
        queue = declare(broker)
        send(broker, b"1")
        await until(lambda: client.posted == [b"1"])
        closing = asyncio.ensure_future(sender.close(60))
        await asyncio.sleep(0)
        client.go.set()
        await closing
        assert queue.live == 0


@pytest.mark.parametrize("hurry", [True, False])
async def test_closing_gives_back_what_does_not_end(hurry):
    client = Client()
    async with Broker() as broker:
        sender = WebhookSender(broker.core, broker.now_ms, WebhookPolicy(), client)
        sender.open()
        queue = declare(broker)
        send(broker, b"1")
        await until(lambda: client.posted == [b"1"])
        closing = asyncio.ensure_future(sender.close(60 if hurry else 0))
        await asyncio.sleep(0)
        if hurry:
            sender.hurry()
        await closing
        assert (queue.live, len(queue.leases), client.closed) == (1, 0, True)


async def test_a_mistake_of_ours_is_reported_and_tried_again():
    client = Client()
    client.fault = RuntimeError("a bug")
    client.go.set()
    faults: list[Exception] = []
    async with Broker() as broker:
        broker.core.on_fault = faults.append
        sender = WebhookSender(broker.core, broker.now_ms, WebhookPolicy(), client)
        sender.open()
        queue = declare(broker)
        send(broker, b"1")
        await until(lambda: queue.held == 1)
        assert faults == [client.fault] and queue.activity.error == "failed"
        await sender.close(10)

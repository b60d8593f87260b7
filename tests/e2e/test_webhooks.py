"""Webhooks from a broker to a real HTTP server: delivered, retried, given up, confirmed, killed."""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from braidmq.broker import Broker
from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.retry_policy import RetryPolicy
from braidmq.broker.signing import verify_body
from braidmq.broker.webhook import WebhookSettings
from braidmq.broker.webhook_policy import WebhookPolicy
from braidmq.protocols import connect, serve
from tests.faults.daemon import Daemon
from tests.webhook_receiver import OK, Received, Receiver, answer

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhook_receiver.py"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
QUICK = RetryPolicy(min_delay_ms=1_000, max_delay_ms=1_000, retries=2)


@asynccontextmanager
async def posting(receiver: Receiver, **settings: Any):
    """A broker with the webhook ``w`` to the receiver."""
    policy = WebhookPolicy(allow=("127.0.0.1",), ports=(receiver.port,))
    values: dict[str, Any] = {"url": receiver.url, "confirm": False, "retry": QUICK} | settings
    async with Broker() as broker, serve(broker, webhooks=policy):
        await broker.verbs.declare_webhook("w", WebhookSettings(**values))
        yield broker


async def send(broker: Any, *bodies: bytes) -> None:
    await broker.queue("$webhook/w").send_many(bodies)


async def emptied(broker: Broker, receiver: Receiver) -> None:
    queue = broker.core.webhooks["w"]
    await receiver.until(lambda: queue.live == 0)


async def test_messages_are_posted_and_can_be_verified():
    async with Receiver() as receiver, posting(receiver, secrets=(SECRET,)) as broker:
        await broker.queue("$webhook/w").send(b"hello", headers={"colour": "blue"})
        await emptied(broker, receiver)
        (request,) = receiver.requests
        assert request.line == "POST /hook HTTP/1.1"
        verify_body(request.headers, request.body, [SECRET], broker.now_ms())
        content = json.loads(request.body)
        assert content["Message"] == "hello"
        assert content["MessageAttributes"]["colour"]["Value"] == "blue"


async def test_what_is_published_to_a_bound_topic_is_posted():
    async with Receiver() as receiver, posting(receiver) as broker:
        target = Target("webhook", "w")
        broker.core.bind(SYSTEM, "orders/#", target, BindingSettings(), broker.now_ms())
        await broker.publish("orders/new", b"\xff\xfe", headers={"colour": "blue"})
        await broker.publish("other", b"not this one")
        await broker.publish("orders/new/x", b"text")
        await receiver.until(lambda: len(receiver.requests) == 2)
        await emptied(broker, receiver)
        contents = {}
        for request in receiver.requests:
            content = json.loads(request.body)
            contents[content["TopicArn"]] = content
            assert request.headers["x-amz-sns-topic-arn"] == content["TopicArn"]
        assert set(contents) == {"orders/new", "orders/new/x"}
        assert base64.b64decode(contents["orders/new"]["Message"]) == b"\xff\xfe"
        assert contents["orders/new/x"]["Message"] == "text"


async def test_a_thousand_raw_bodies():
    bodies = [b"%d" % n for n in range(1_000)]
    async with Receiver() as receiver, posting(receiver, raw=True, concurrency_max=16) as broker:
        await send(broker, *bodies)
        await emptied(broker, receiver)
        assert sorted(receiver.bodies) == sorted(bodies)


async def test_a_failure_is_tried_again():
    def failing_once(request: Received) -> bytes:
        return answer(503) if receiver.bodies.count(request.body) == 1 else OK

    async with Receiver(failing_once) as receiver, posting(receiver, raw=True) as broker:
        await send(broker, b"1", b"2")
        await emptied(broker, receiver)
        assert sorted(receiver.bodies) == [b"1", b"1", b"2", b"2"]
        ids = {(each.body, each.headers["webhook-id"]) for each in receiver.requests}
        assert len(ids) == 2, "the id is the same each time"


async def test_what_is_refused_becomes_a_dead_letter_at_once():
    async with (
        Receiver(lambda request: answer(404)) as receiver,
        posting(receiver, raw=True, dead_letter="dead") as broker,
    ):
        await send(broker, b"1")
        await emptied(broker, receiver)
        (message,) = await broker.queue("dead").receive(wait=30)
        assert (message.body, message.headers["dead-letter-reason"]) == (b"1", "http 404")
        assert len(receiver.requests) == 1


async def test_the_last_failure_makes_a_dead_letter():
    async with (
        Receiver(lambda request: answer(302, "Location: http://127.0.0.1/")) as receiver,
        posting(receiver, raw=True, dead_letter="dead") as broker,
    ):
        await send(broker, b"1")
        await emptied(broker, receiver)
        (message,) = await broker.queue("dead").receive(wait=30)
        assert message.headers["dead-letter-reason"] == "http 302 after 3 attempts"
        assert receiver.bodies == [b"1"] * 3


async def test_the_breaker_opens_and_closes():
    healthy = asyncio.Event()

    def answering(request: Received) -> bytes:
        return OK if healthy.is_set() else answer(500)

    settings = {"breaker_failures_max": 3, "breaker_open_ms": 500, "concurrency_max": 1}
    async with Receiver(answering) as receiver, posting(receiver, **settings) as broker:
        activity = broker.core.webhooks["w"].activity
        await send(broker, *(b"%d" % n for n in range(50)))
        await receiver.until(lambda: activity.breaker == "open")
        assert len(receiver.requests) == 3
        healthy.set()
        await emptied(broker, receiver)
        assert activity.breaker == "closed" and activity.delivered == 50


@pytest.mark.parametrize("kind", ["silent", "slow", "endless", "oversized", "hangs up"])
async def test_strange_answers(kind):
    """What has a status counts by it; what has none in time is tried again."""
    first = {
        "silent": None,
        "slow": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab",
        "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4_000_000,
        "oversized": answer(200, body=b"x" * 4_000_000),
        "hangs up": b"nonsense\r\n\r\n",
    }[kind]
    tries = 2 if kind in ("silent", "hangs up") else 1

    def answering(request: Received) -> bytes | None:
        return first if len(receiver.requests) == 1 else OK

    async with Receiver(answering) as receiver, posting(receiver, timeout_ms=500) as broker:
        await send(broker, b"1")
        await emptied(broker, receiver)
        assert len(receiver.requests) == tries


async def test_somebody_who_is_not_there_yet():
    receiver = Receiver()
    async with receiver:
        pass  # now its port is known, and nobody is there
    async with posting(receiver, raw=True) as broker:
        activity = broker.core.webhooks["w"].activity
        await send(broker, b"1")
        await receiver.until(lambda: activity.error == "unreachable")
        async with receiver:
            await emptied(broker, receiver)
            assert receiver.bodies == [b"1"]


# --- the daemon ---


def environment(receiver: Receiver, **more: str) -> dict[str, str]:
    return {
        "BRAIDMQ_WEBHOOKS__ALLOW": '["127.0.0.1"]',
        "BRAIDMQ_WEBHOOKS__PORTS": f"[{receiver.port}]",
    } | more


async def declare_at(data: Any, settings: WebhookSettings) -> None:
    async with Broker(data) as broker:
        await broker.verbs.declare_webhook("w", settings)


async def in_time(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_nobody_is_posted_to_who_did_not_confirm(tmp_path):
    """The handshake over the daemon's own HTTP port, by the link that it sent."""
    data = tmp_path / "data"
    async with Receiver() as receiver:
        await declare_at(data, WebhookSettings(url=receiver.url, raw=True))
        variables = environment(receiver, BRAIDMQ_WEBHOOKS__PUBLIC_URL="http://mq.example")
        flags = ("--listen", "http://127.0.0.1:0")
        daemon = Daemon(data, tmp_path, environment=variables, flags=flags)
        async with daemon, connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            await receiver.until(lambda: len(receiver.requests) == 1)
            content = json.loads(receiver.requests[0].body)
            assert content["Type"] == "SubscriptionConfirmation"
            await send(broker, b"before")
            link = urlsplit(content["SubscribeURL"])
            assert link.netloc == "mq.example"
            for query, status in ((link.query + "x", 403), (link.query, 200)):
                assert await get(daemon.ports[1], f"{link.path}?{query}") == status
            await send(broker, b"after")
            await receiver.until(lambda: len(receiver.requests) == 2)
            assert receiver.bodies[1] == b"after"


async def get(port: int, target: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


async def test_a_killed_daemon_loses_nothing(tmp_path):
    """At least once: whatever was acknowledged to its sender is posted, over several kills."""
    data = tmp_path / "data"
    sent: list[bytes] = []
    async with Receiver() as receiver:
        settings = WebhookSettings(url=receiver.url, raw=True, confirm=False, concurrency_max=8)
        await declare_at(data, settings)
        for cycle in range(4):
            daemon = Daemon(data, tmp_path, environment=environment(receiver))
            async with daemon:
                async with connect(f"braid://127.0.0.1:{daemon.port}") as broker:
                    bodies = [b"%d-%d" % (cycle, n) for n in range(200)]
                    await send(broker, *bodies)
                    sent += bodies
                    seen = len(receiver.requests)
                    await receiver.until(partial(has_more, receiver, seen + 50))
                    await daemon.kill()
        daemon = Daemon(data, tmp_path, environment=environment(receiver))
        async with daemon, connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            await receiver.until(lambda: set(receiver.bodies) >= set(sent))

            async def is_empty() -> bool:
                return (await broker.queue("$webhook/w").info()).messages == 0

            await in_time(is_empty)
        assert set(receiver.bodies) == set(sent)


def has_more(receiver: Receiver, than: int) -> bool:
    return len(receiver.requests) >= than


async def test_attempts_are_counted_over_a_kill(tmp_path):
    """A message that fails before and after a kill is given up after as many attempts as always."""
    data = tmp_path / "data"
    async with Receiver(lambda request: answer(500)) as receiver:
        settings = WebhookSettings(
            url=receiver.url, raw=True, confirm=False, retry=QUICK, dead_letter="dead"
        )
        await declare_at(data, settings)
        daemon = Daemon(data, tmp_path, environment=environment(receiver))
        async with daemon:
            async with connect(f"braid://127.0.0.1:{daemon.port}") as broker:
                await send(broker, b"1")
                await receiver.until(lambda: len(receiver.requests) == 2)
                await daemon.kill()
        daemon = Daemon(data, tmp_path, environment=environment(receiver))
        async with daemon, connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            (message,) = await broker.queue("dead").receive(wait=60)
            assert message.body == b"1"
        assert len(receiver.requests) in (3, 4)  # 4: killed before the second count was written


async def test_the_receiver_of_the_examples_confirms_and_handles_each_message_once(tmp_path):
    data = tmp_path / "data"
    reserved = Receiver()
    async with reserved:
        pass  # its port is free again, and the daemon has to be told which it is
    example = None
    settings = WebhookSettings(url=reserved.url, raw=True, secrets=(SECRET,), retry=QUICK)
    await declare_at(data, settings)
    flags = ("--listen", "http://127.0.0.1:0")
    daemon = Daemon(data, tmp_path, environment=environment(reserved), flags=flags)
    try:
        async with daemon, connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            example = await asyncio.create_subprocess_exec(
                *(sys.executable, str(EXAMPLE), "--port", str(reserved.port)),
                *("--secret", SECRET, "--broker", f"http://127.0.0.1:{daemon.ports[1]}"),
                stdout=asyncio.subprocess.PIPE,
            )
            assert example.stdout is not None
            said = example.stdout
            async with asyncio.timeout(60):
                assert (await said.readline()).startswith(b"listening on ")
                assert await said.readline() == b"confirmed w: 200\n"
                await send(broker, b"one")
                assert await said.readline() == b"one\n"
            await forged(reserved.port)
            await send(broker, b"two")
            async with asyncio.timeout(60):
                assert await said.readline() == b"two\n"
    finally:
        if example is not None:
            example.kill()
            await example.communicate()


async def forged(port: int) -> None:
    """Post what nobody signed; it must be refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nbad")
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()

"""Views of streams from outside: over two protocols, and through kill -9."""

import asyncio
import random
from asyncio import to_thread
from pathlib import Path

import pytest

from braidmq.broker import BraidError, Broker
from braidmq.protocols import connect, serve
from tests.conformance.client import Client
from tests.conformance.conftest import address_of
from tests.conformance.packets import USER_PROPERTY
from tests.faults.daemon import Daemon

pytestmark = pytest.mark.slow

RECORDS = 4_000
BATCH = 50


async def work(
    url: str,
    confirmed: set[bytes],
    buried: set[bytes],
    delivered: set[bytes],
    enough: asyncio.Event,
) -> None:
    """Consume until the broker is gone; what is confirmed is noted only then."""
    rng = random.Random(len(confirmed))
    target = min(len(confirmed) + 600, RECORDS - 500)
    async with connect(url) as broker:
        queue = broker.queue("work")
        while True:
            messages = await queue.receive(max=BATCH, wait=1)
            bodies = {message.body for message in messages}
            assert not bodies & (confirmed | buried), "what was settled never comes again"
            delivered |= bodies
            kept = [message for message in messages if rng.random() < 0.8]
            await queue.ack_many(kept)
            confirmed |= {message.body for message in kept}
            if len(confirmed) >= target or not messages:
                enough.set()
            for message in messages:
                if message not in kept and rng.random() < 0.2:
                    await message.dead_letter("unwanted")
                    buried.add(message.body)
                elif message not in kept:
                    await message.nack()


async def test_what_was_acknowledged_never_comes_again_and_the_rest_does(tmp_path: Path):
    data = tmp_path / "data"
    sent = {b"%d" % n for n in range(RECORDS)}
    confirmed: set[bytes] = set()
    buried: set[bytes] = set()
    delivered: set[bytes] = set()
    async with Daemon(data, tmp_path) as daemon:
        async with connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            stream = await broker.declare_stream("clicks", shards=3)
            await broker.declare_queue(
                "work", stream="clicks", max_receives=1_000, dead_letter="work-dlq"
            )
            for begin in range(0, RECORDS, 500):
                await stream.append_many([b"%d" % n for n in range(begin, begin + 500)])
        await daemon.kill()
    rounds = 0
    while len(confirmed) + len(buried) < RECORDS - 500:
        async with Daemon(data, tmp_path) as daemon:
            url = f"braid://127.0.0.1:{daemon.port}"
            enough = asyncio.Event()
            task = asyncio.create_task(work(url, confirmed, buried, delivered, enough))
            await enough.wait()
            await daemon.kill()
            with pytest.raises(BraidError):
                await task
        rounds += 1
    assert rounds > 2
    async with Daemon(data, tmp_path) as daemon:
        async with connect(f"braid://127.0.0.1:{daemon.port}") as broker:
            queue, dead = broker.queue("work"), broker.queue("work-dlq")
            rest: set[bytes] = set()
            while messages := await queue.receive(max=500):
                rest |= {message.body for message in messages}
                await queue.ack_many(messages)
            letters = [message.body async for message in dead.browse()]
            assert len(letters) == len(set(letters)), "a dead letter is there once"
            assert not rest & (confirmed | buried | set(letters))
            assert not confirmed & set(letters)
            assert buried <= set(letters)
            # Of one request that was under way nobody knows.
            lost = sent - confirmed - rest - set(letters)
            assert len(lost) <= rounds * BATCH and lost <= delivered
            info = await queue.info()
            assert info.messages == 0 and info.lag == 0


async def test_a_view_is_consumed_over_mqtt_as_every_queue_is():
    async with Broker() as broker, serve(broker, "mqtt://127.0.0.1:0") as server:
        stream = await broker.declare_stream("clicks")
        work = await broker.declare_queue("work", stream="clicks", start="earliest")
        await stream.append(b"one", key="user-1", headers={"table": "7"})
        client = Client(address_of(server.urls[0]))
        try:
            await to_thread(client.connect, "worker")
            refused = await to_thread(client.publish, "$queue/work", "x")
            assert refused is not None and refused.reason >= 0x80
            assert await to_thread(client.subscribe, "$queue/work", qos=2) == [1]
            first = await to_thread(client.receive)
            assert (first.topic, first.payload) == ("$queue/work", b"one")
            assert ("table", "7") in first.all(USER_PROPERTY)
            await to_thread(client.settle)
        finally:
            client.close()
        assert (await work.info()).messages == 0

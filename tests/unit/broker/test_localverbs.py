"""Verbs in this process: what waits is woken, what is cancelled holds nothing."""

import asyncio

import pytest

from braidmq.broker import Broker, BrokerFailed, Unavailable
from braidmq.broker.publishing import Posted
from braidmq.broker.verbs import Interest
from braidmq.storage.errors import LogFailed


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


async def test_a_reader_is_woken_by_what_comes(broker):
    verbs = broker.verbs
    messages = await verbs.subscribe(Interest(("t",)), 10)
    waiting = asyncio.ensure_future(messages.next())
    await asyncio.sleep(0)
    assert await verbs.publish("t", [Posted(b"1"), Posted(b"2")]) == [1, 1]
    assert [message.body for message in await waiting] == [b"1", b"2"]
    await messages.close()
    await messages.close()  # twice is fine
    with pytest.raises(Unavailable, match="closed"):
        await messages.next()
    assert await verbs.publish("t", [Posted(b"3")]) == [0]


async def test_a_cancelled_reader_loses_nothing(broker):
    messages = await broker.verbs.subscribe(Interest(("t",)), 10)
    waiting = asyncio.ensure_future(messages.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await broker.verbs.publish("t", [Posted(b"1")])
    assert [message.body for message in await messages.next()] == [b"1"]


async def test_closing_wakes_who_reads(broker):
    messages = await broker.verbs.subscribe(Interest(("t",)), 10)
    waiting = asyncio.ensure_future(messages.next())
    await asyncio.sleep(0)
    await messages.close()
    with pytest.raises(Unavailable):
        await waiting


async def test_the_end_of_the_broker_ends_subscriptions():
    async with Broker() as broker:
        verbs = broker.verbs
        messages = await verbs.subscribe(Interest(("t",), "d"), 10)
        waiting = asyncio.ensure_future(messages.next())
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="the broker was closed"):
        await waiting
    with pytest.raises(Unavailable):
        await verbs.publish("t", [Posted(b"")])
    await messages.close()


async def test_the_failure_of_the_broker_ends_subscriptions():
    async with Broker() as broker:
        messages = await broker.verbs.subscribe(Interest(("t",)), 10)
        waiting = asyncio.ensure_future(messages.next())
        await asyncio.sleep(0)
        broker._fail(broker.core.fail(LogFailed("broken")))
        with pytest.raises(BrokerFailed, match="broken"):
            await waiting
        await messages.close()


async def test_a_cancelled_subscribe_leaves_no_connection(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        subscribing = asyncio.ensure_future(broker.verbs.subscribe(Interest(("t",), "d"), 10))
        await asyncio.sleep(0)  # it waits for the disk
        subscribing.cancel()
        await asyncio.gather(subscribing, return_exceptions=True)
        assert not (await broker.session("d")).connected

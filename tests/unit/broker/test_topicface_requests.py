"""Request and reply: the same in this process and over a wire, so every test runs on both."""

# ruff: noqa: ASYNC110  - these tests wait for what others do
import asyncio

import pytest

from braidmq.broker import (
    Broker,
    InvalidArgument,
    LimitExceeded,
    Limits,
    NoResponders,
    Unavailable,
)
from braidmq.broker.topicface import REPLY_PREFIX
from tests.faces import opened
from tests.unit.broker.test_topicface import take, until


@pytest.fixture(params=["local", "remote"])
def where(request):
    return request.param


@pytest.fixture
async def broker(where):
    async with opened(where) as broker:
        yield broker


async def answer(broker, ready, topic="rpc/double"):
    async with broker.subscribe(topic, share="workers") as requests:
        ready.set()
        async for message in requests:
            async with message:
                await message.reply(message.body * 2, headers={"x": "y"})


@pytest.fixture
async def doubling(broker):
    ready = asyncio.Event()
    worker = asyncio.ensure_future(answer(broker, ready))
    await ready.wait()
    yield broker
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_a_request_is_answered(doubling):
    reply = await doubling.request("rpc/double", b"ab", timeout=10)
    assert reply.body == b"abab" and reply.headers["x"] == "y"
    assert reply.topic.startswith(REPLY_PREFIX)
    replies = await asyncio.gather(
        *(doubling.request("rpc/double", b"%d" % n, timeout=10) for n in range(50))
    )
    assert [each.body for each in replies] == [b"%d%d" % (n, n) for n in range(50)]
    assert [s.name async for s in doubling.sessions()] == ["$live-1", "$live-2"]


async def test_nobody_there_is_told_at_once(broker):
    with pytest.raises(NoResponders):
        await broker.request("rpc/none", b"", timeout=60)


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(broker):
    async with broker.subscribe("rpc/slow", share="g"):
        with pytest.raises(TimeoutError):
            await broker.request("rpc/slow", b"", timeout=0.05)
        with pytest.raises(InvalidArgument):
            await broker.request("rpc/slow", b"", timeout=0)


async def test_a_request_that_nobody_waits_for_is_not_delivered(broker):
    async with broker.subscribe("rpc", durable="d"):
        pass
    with pytest.raises(TimeoutError):
        await broker.request("rpc", b"old", timeout=0.02)
    await asyncio.sleep(0.1)  # the broker's clock has begun a little later
    await broker.publish("rpc", b"new")
    async with broker.subscribe(durable="d") as requests:
        assert [m.body for m in await take(requests, 1)] == [b"new"]


async def test_only_a_request_can_be_answered(broker):
    async with broker.subscribe("t") as messages:
        await broker.publish("t", b"")
        (message,) = await take(messages, 1)
        with pytest.raises(InvalidArgument, match="reply-to"):
            await message.reply(b"")


async def test_an_answer_to_nobody_says_so(broker):
    async with broker.subscribe("t") as messages:
        await broker.publish("t", b"", headers={"reply-to": "nowhere"})
        (message,) = await take(messages, 1)
        assert not await message.reply(b"")


async def test_requests_have_a_limit(where):
    async with opened(where, Limits(requests_in_flight_max=2)) as broker:
        async with broker.subscribe("t"):
            waiting = [asyncio.ensure_future(broker.request("t", b"")) for _ in range(2)]
            while len(broker._inbox._waiting if broker._inbox else ()) < 2:
                await asyncio.sleep(0.001)
            with pytest.raises(LimitExceeded):
                await broker.request("t", b"")
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_inbox_is_opened_again_when_it_was_ended(doubling):
    await doubling.request("rpc/double", b"a", timeout=10)
    names = [s.name async for s in doubling.sessions()]
    await doubling.kick(names[-1])
    await until(lambda: asyncio.sleep(0, doubling._inbox.is_over))
    assert (await doubling.request("rpc/double", b"a", timeout=10)).body == b"aa"


async def test_requests_under_way_end_with_the_broker():
    async with Broker() as broker:
        async with broker.subscribe("t"):
            waiting = asyncio.ensure_future(broker.request("t", b""))
            while not (broker._inbox and broker._inbox._waiting):
                await asyncio.sleep(0.001)
    with pytest.raises(Unavailable):
        await waiting

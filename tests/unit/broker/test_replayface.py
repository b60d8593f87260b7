"""Replays as people write them: the same in process and over the wire."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from braidmq.broker import InvalidArgument, NotFound
from tests.faces import opened


@pytest.fixture(params=["local", "remote"])
async def broker(request):
    async with opened(request.param) as broker:
        yield broker


async def test_a_queue_that_is_bound_later_gets_what_was_before(broker):
    archive = await broker.declare_stream("archive", shards=2)
    await broker.bind("orders/#", stream="archive")
    for number in range(10):
        await broker.publish(f"orders/{number}", b"%d" % number)
    queue = await broker.declare_queue("late")
    await broker.bind("orders/#", queue="late")
    now = datetime.now(UTC)
    info = await broker.replay(
        "orders/#", queue="late", archive="archive", start=now - timedelta(hours=1)
    )
    assert (info.state, info.target.name, info.policy.archive) == ("running", "late", "archive")
    bodies: set[bytes] = set()
    while len(bodies) < 10:
        for message in await queue.receive(max=10, wait=20):
            assert message.headers["replayed"] == "1"
            bodies.add(message.body)
            await message.ack()
    for _ in range(1_000):
        (info,) = await broker.replays()
        if info.state != "running":
            break
        await asyncio.sleep(0.01)
    assert (info.state, info.replayed, info.remaining) == ("done", 10, 0)
    assert (await archive.info()).records == 10


async def test_one_is_stopped(broker):
    await broker.declare_stream("archive")
    await broker.declare_queue("q")
    await broker.bind("t", stream="archive")
    await broker.publish_many("t", [b"x"] * 100)
    await broker.bind("t", queue="q")
    info = await broker.replay("t", queue="q", archive="archive", rate=0.01)
    assert (await broker.cancel_replay(info.id)).state == "cancelled"
    assert [each.state for each in await broker.replays()] == ["cancelled"]


async def test_what_is_wrong_is_said(broker):
    await broker.declare_stream("archive")
    await broker.declare_queue("q")
    with pytest.raises(InvalidArgument, match="one target"):
        await broker.replay("t", archive="archive")
    with pytest.raises(NotFound, match="not bound"):
        await broker.replay("t", queue="q", archive="archive")
    with pytest.raises(InvalidArgument, match="time zone"):
        await broker.replay("t", queue="q", archive="archive", start=datetime(2026, 1, 1))
    await broker.bind("t", queue="q")
    early = datetime(1969, 1, 1, tzinfo=UTC)
    info = await broker.replay("t", queue="q", archive="archive", start=early)
    assert info.policy.start_ms == 1
    with pytest.raises(NotFound, match="no replay"):
        await broker.cancel_replay(info.id + 1)

"""Schedules as people write them: the same in process and over the wire."""

from datetime import UTC, datetime, timedelta

import pytest

from braidmq.broker import InvalidArgument, Limits, NotFound, TooLarge
from tests.faces import opened


@pytest.fixture(params=["local", "remote"])
async def broker(request):
    async with opened(request.param, Limits(headers_bytes_max=4_096)) as broker:
        await broker.declare_queue("q")
        yield broker


async def test_a_message_is_sent_later(broker):
    queue = broker.queue("q")
    info = await broker.schedule(b"x", queue="q", delay=0.01, headers={"a": "b"})
    (message,) = await queue.receive(wait=20)
    assert message.body == b"x"
    assert message.headers == {"a": "b", "schedule-id": str(info.id)}
    assert [each async for each in broker.schedules()] == []


async def test_it_is_sent_to_topics_and_streams_again_and_again(broker):
    stream = await broker.declare_stream("s")
    async with broker.subscribe("t") as messages:
        await broker.schedule(b"1", topic="t", every=0.01, retain=True)
        await broker.schedule(b"2", stream="s", every=timedelta(milliseconds=10), key="k")
        number = 0
        async for message in messages:
            assert message.body == b"1"
            number += 1
            if number == 3:
                break
        number = 0
        async for record in stream.read(0):
            assert (record.body, record.key) == (b"2", "k")
            number += 1
            if number == 3:
                break
    assert await broker.unschedule_between() == 2


async def test_what_was_asked_for_is_told(broker):
    info = await broker.schedule(b"x", queue="q", delay=60, every=5, ttl=9, priority=7)
    assert (info.timing.delay_ms, info.timing.period_ms, info.timing.repeat) == (60_000, 5_000, -1)
    info = await broker.schedule(b"x", queue="q", every=5, repeat=0)
    assert info.timing.repeat == 0
    info = await broker.schedule(b"x", queue="q", every=5, cron="0 4 * * *", repeat=2)
    assert (info.timing.cron, info.timing.repeat) == ("0 4 * * *", 2)
    info = await broker.schedule(b"y" * 300_000, queue="q", cron="0 4 * * *", every=5)
    assert info.timing.repeat == 0
    assert (await broker.schedule_info(info.id)).body == b"y" * 300_000
    assert [each.id async for each in broker.schedules()] == [1, 2, 3, 4]


async def test_those_of_a_span(broker):
    now = datetime.now(UTC)
    for hours in (1, 2, 3):
        await broker.schedule(b"x", queue="q", delay=timedelta(hours=hours))
    start, end = now + timedelta(hours=1, minutes=30), now + timedelta(hours=2, minutes=30)
    assert [each.id async for each in broker.schedules(start, end)] == [2]
    assert [each.id async for each in broker.schedules(start)] == [2, 3]
    assert await broker.unschedule_between(start, end) == 1
    assert [each.id async for each in broker.schedules()] == [1, 3]
    await broker.unschedule(1)
    assert [each.id async for each in broker.schedules()] == [3]


async def test_a_long_list_comes_whole(broker):
    for _ in range(1_001):
        await broker.schedule(b"", topic="t", delay=3600)
    assert [each.id async for each in broker.schedules()] == list(range(1, 1_002))


async def test_what_is_wrong_is_said(broker):
    for targets in ({}, {"queue": "q", "topic": "t"}):
        with pytest.raises(InvalidArgument, match="one target"):
            await broker.schedule(b"x", delay=1, **targets)
    with pytest.raises(InvalidArgument, match="not negative"):
        await broker.schedule(b"x", queue="q", delay=-1)
    with pytest.raises(InvalidArgument, match="5 fields"):
        await broker.schedule(b"x", queue="q", cron="@daily")
    with pytest.raises(NotFound, match="no queue"):
        await broker.schedule(b"x", queue="none", delay=1)
    with pytest.raises(TooLarge):
        await broker.schedule(b"x", queue="q", delay=1, headers={"a": "b" * 4_000})
    with pytest.raises(InvalidArgument, match="time zone"):
        await broker.unschedule_between(datetime(2026, 1, 1))
    for call in (broker.unschedule, broker.schedule_info):
        with pytest.raises(NotFound, match="no schedule 7"):
            await call(7)

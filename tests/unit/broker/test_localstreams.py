"""The verbs of streams in this process: answers come, waits end, and nothing is left behind."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from braidmq.broker import Broker
from braidmq.broker.errors import NotFound, Throttled, Unavailable
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamverbs import Start
from tests.stream_client import batch_of, records_of


async def until(condition: Callable[[], bool]) -> None:
    """Let the broker work until something has happened."""
    while True:
        if condition():
            return
        await asyncio.sleep(0)


@pytest.fixture
async def verbs() -> AsyncIterator[Any]:
    async with Broker() as broker:
        yield broker.verbs


async def test_every_verb(verbs):
    info = await verbs.declare_stream("s", StreamSettings(), 2)
    assert info.open_shards == 2
    assert await verbs.append("s", batch_of(b"a", b"b", hash_key=0)) == [(0, 1), (0, 2)]
    assert await verbs.find_number("s", 0, Start("latest")) == 3
    chunk = await verbs.read_shard("s", 0, 1)
    assert [record.body for record in records_of(chunk)] == [b"a", b"b"]
    assert (await verbs.split_shard("s", 1)).open_shards == 3
    assert (await verbs.merge_shards("s", 2, 3)).open_shards == 2
    assert (await verbs.rescale_stream("s", 5)).open_shards == 5
    assert (await verbs.update_stream("s", {"tags": {"a": "b"}})).settings.tags == {"a": "b"}
    assert (await verbs.stream_info("s")).records == 2
    assert [each.name for each in await verbs.list_streams()] == ["s"]
    await verbs.delete_stream("s")
    with pytest.raises(NotFound):
        await verbs.stream_info("s")


async def test_a_read_waits_and_can_be_cancelled(verbs):
    await verbs.declare_stream("s", StreamSettings())
    reading = asyncio.ensure_future(verbs.read_shard("s", 0, 0, wait_ms=60_000))
    cancelled = asyncio.ensure_future(verbs.read_shard("s", 0, 0, wait_ms=60_000))
    waiting = verbs._core.streams._waiting
    await until(lambda: waiting.count == 2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert waiting.count == 1
    await verbs.append("s", batch_of(b"a"))
    assert (await reading).count == 1 and waiting.count == 0


async def test_the_end_of_the_broker_ends_a_read():
    async with Broker() as broker:
        await broker.verbs.declare_stream("s", StreamSettings())
        read = broker.verbs.read_shard("s", 0, 0, wait_ms=60_000)
        reading = asyncio.ensure_future(read)
        await until(lambda: broker.core.streams._waiting.count == 1)
    with pytest.raises(Unavailable):
        await reading


async def test_calls_that_fail_leave_nothing_behind(verbs):
    await verbs.declare_stream("s", StreamSettings(shard_bytes_out_per_second=1))
    await verbs.append("s", batch_of(b"x" * 1_000))
    await verbs.read_shard("s", 0, 0)
    for _ in range(50):
        with pytest.raises(Throttled):
            await verbs.read_shard("s", 0, 0)
        with pytest.raises(NotFound):
            await verbs.find_number("nowhere", 0, Start())
    gc.collect()
    assert len(verbs._answers) < 5, "but for what the last error remembers"

"""Reading a stream: from anywhere, all shards or one, record by record or in batches."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from braidmq.broker import InvalidArgument, NotFound
from braidmq.broker.recordreader import Position, RecordBatch, RecordReader, read_start
from braidmq.broker.streamface import NewRecord
from braidmq.broker.streamverbs import Start
from tests.faces import opened

WHERE = ["local", "remote"]


@pytest.fixture(params=WHERE)
async def broker(request):
    async with opened(request.param) as broker:
        yield broker


@pytest.fixture
async def stream(broker):
    return await broker.declare_stream("s")


async def bodies(reader):
    return [record.body async for record in reader]


async def take(reader, count):
    """The first records, and no more."""
    found = []
    async with reader:
        async for record in reader:
            found.append(record.body)
            if len(found) == count:
                return found


def test_a_start_is_a_word_a_time_or_a_number():
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert read_start("latest") == Start("latest")
    assert read_start(moment) == Start("time", time_ms=round(moment.timestamp() * 1000))
    assert read_start(7) == read_start(Position(3, 7)) == Start("at", number=7)
    for wrong in ("sometime", datetime(2026, 1, 2)):
        with pytest.raises(InvalidArgument):
            read_start(wrong)  # type: ignore[arg-type]


def test_positions_are_in_order():
    assert Position(0, 2) < Position(1, 1) < Position(1, 2) == Position(1, 2)


async def test_it_begins_anywhere(stream):
    await stream.append_many([b"1", b"2", b"3"])
    assert await bodies(stream.read(until_end=True)) == [b"1", b"2", b"3"]
    assert await bodies(stream.read(0, 2, until_end=True)) == [b"2", b"3"]
    assert await bodies(stream.read(start=Position(0, 3), until_end=True)) == [b"3"]
    assert await bodies(stream.read(start="latest", until_end=True)) == []
    now = datetime.now(UTC)
    assert await bodies(stream.read(start=now + timedelta(hours=1), until_end=True)) == []
    earlier = now - timedelta(hours=1)
    assert await bodies(stream.read(start=earlier, until_end=True)) == [b"1", b"2", b"3"]


async def test_it_waits_for_what_comes(stream):
    async with stream.read(start="latest") as reader:
        assert repr(reader) == "<RecordReader of s>"
        await stream.append_many([b"1", b"2"])
        records = aiter(reader)
        assert (await anext(records)).body == b"1"
        assert reader.behind == timedelta(0)
        assert (await anext(records)).body == b"2"
        waiting = asyncio.ensure_future(anext(records))
        await asyncio.sleep(0)
        await stream.append(b"3")
        assert (await waiting).body == b"3"


async def test_all_shards_are_read_each_in_order(broker):
    stream = await broker.declare_stream("many", shards=4)
    records = [NewRecord(body=b"%d" % n, key=f"{n % 20}") for n in range(1_000)]
    positions = await stream.append_many(records)
    found = [record async for record in stream.read(until_end=True)]
    assert sorted((each.shard, each.number) for each in found) == sorted(
        (each.shard, each.number) for each in positions
    )
    for shard in range(4):
        numbers = [each.number for each in found if each.shard == shard]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_children_follow_their_parents(broker):
    stream = await broker.declare_stream("s", shards=1)
    await stream.append(b"1", key="k")
    await stream.split(0)
    await stream.append(b"2", key="k")
    await stream.merge(1, 2)
    await stream.append(b"3", key="k")
    assert await bodies(stream.read(until_end=True)) == [b"1", b"2", b"3"]
    assert await bodies(stream.read(0, until_end=True)) == [b"1", b"2", b"3"]
    assert await bodies(stream.read(0, follow=False)) == [b"1"]
    reader = stream.read(3)
    assert await take(reader, 1) == [b"3"]


async def test_batches_are_no_larger_than_asked_for(stream):
    await stream.append_many([b"%d" % n for n in range(250)])
    await stream.append_many([b"%d" % n for n in range(250, 255)])
    found = []
    async for batch in stream.batches(max=100, until_end=True):
        assert isinstance(batch, RecordBatch) and batch.shard == 0
        assert len(batch) == len(batch.records) == len(batch.bodies) <= 100
        assert [each.body for each in batch] == batch.bodies
        assert batch.next == batch.records[-1].number + 1
        assert batch.records is batch.records
        found.append(batch)
    assert b"".join(body for batch in found for body in batch.bodies) == b"".join(
        b"%d" % n for n in range(255)
    )
    assert repr(found[0]) == "<RecordBatch of shard 0: 1 to 100>"
    assert found[-1].behind == timedelta(0)


async def test_more_than_is_read_ahead_comes_in_order(stream):
    for first in range(0, 60, 20):
        await stream.append_many([bytes([n]) * 100_000 for n in range(first, first + 20)])
    found = await bodies(stream.read(until_end=True))
    assert [body[0] for body in found] == list(range(60))
    assert all(len(body) == 100_000 for body in found)


async def test_it_ends_when_it_is_closed(stream):
    reader = stream.read()
    waiting = asyncio.ensure_future(bodies(reader))
    while reader._tail is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await reader.close()
    assert await waiting == []
    await reader.close()
    assert await bodies(reader) == []


async def test_a_loop_that_is_left_reads_no_more(broker, stream):
    await stream.append_many([b"1", b"2"])
    reader = stream.read()
    async for record in reader:
        assert record.body == b"1"
        break
    while not reader._closed:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_cancelled_reader_leaves_nothing_behind(stream):
    reader = stream.read()
    waiting = asyncio.ensure_future(bodies(reader))
    while reader._tail is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert reader._closed


async def test_what_is_wrong_is_said_when_it_is_read(broker, stream):
    for wrong in (stream.read(0, 5), stream.read(0, -1)):
        with pytest.raises(InvalidArgument):
            await bodies(wrong)
    with pytest.raises(InvalidArgument):
        stream.read(start=3)
    with pytest.raises(InvalidArgument):
        stream.read(1, Position(0, 1))
    with pytest.raises(InvalidArgument):
        await anext(stream.batches(max=0))
    for missing in (stream.read(4), broker.stream("none").read(), broker.stream("none").read(0)):
        with pytest.raises(NotFound):
            await bodies(missing)
    waiting = asyncio.ensure_future(bodies(stream.read()))
    await asyncio.sleep(0.01)
    await stream.delete()
    with pytest.raises(NotFound):
        await waiting


async def test_it_needs_nothing_of_the_broker_until_it_is_used(broker):
    assert isinstance(broker.stream("none").read(), RecordReader)

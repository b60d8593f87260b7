"""Streams for people, in this process and over a wire."""

from datetime import timedelta

import pytest

from braidmq.broker import (
    Broker,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    Limits,
    NotFound,
    TooLarge,
)
from braidmq.broker.errors import Throttled
from braidmq.broker.recordreader import Position
from braidmq.broker.streamface import NewRecord
from tests.faces import opened

WHERE = ["local", "remote"]


@pytest.fixture(params=WHERE)
async def broker(request):
    async with opened(request.param) as broker:
        yield broker


async def test_a_record_is_where_its_position_says(broker):
    clicks = await broker.declare_stream("clicks", shards=4, retention=timedelta(days=7))
    assert repr(clicks) == "<Stream clicks>"
    position = await clicks.append(b"one", key="user-1", headers={"tenant": "a"})
    assert await clicks.append(b"two", key="user-1") == Position(position.shard, 2)
    async for record in clicks.read(start=position):
        assert (record.shard, record.number) == (position.shard, position.number)
        assert (record.body, record.key, record.headers) == (b"one", "user-1", {"tenant": "a"})
        break
    assert (await clicks.append(b"low", hash_key=0)).shard == 0
    assert (await clicks.append(b"high", key="user-1", hash_key=2**128 - 1)).shard == 3


async def test_batches_have_a_position_for_each_record(broker):
    stream = await broker.declare_stream("s", shards=2)
    bodies = [b"%d" % n for n in range(12_000)]
    positions = await stream.append_many(bodies, key="k")
    assert {each.shard for each in positions} == {positions[0].shard}
    assert [each.number for each in positions] == list(range(1, 12_001))
    mixed = [b"bare", NewRecord(body=b"x", key="k", headers={"n": "1"}), NewRecord(body=b"y")]
    positions = await stream.append_many(mixed, key="k")
    assert [each.number for each in positions[:2]] == [12_001, 12_002]
    shard = positions[0].shard
    read = [each async for each in stream.read(shard, 12_001, until_end=True)]
    assert [(each.body, each.key) for each in read[:2]] == [(b"bare", "k"), (b"x", "k")]
    assert read[1].headers == {"n": "1"}
    assert await stream.append_many([]) == []
    large = await stream.append_many([bytes(1024 * 1024 - 1)] * 5, key="k")
    assert len({each.number for each in large}) == 5


async def test_some_records_may_be_refused(broker):
    stream = await broker.declare_stream("s", record_bytes_max=3)
    results = await stream.append_many([b"1", b"1234", b"2"], return_errors=True)
    assert results[0] == Position(0, 1) and results[2] == Position(0, 2)
    assert isinstance(results[1], TooLarge)
    with pytest.raises(TooLarge) as refused:
        await stream.append_many([b"1234", b"3", b"12345"])
    assert refused.value.__notes__ == ["2 of 3 records were refused"]
    with pytest.raises(TooLarge):
        await stream.append(b"1234")
    assert [each.body async for each in stream.read(until_end=True)] == [b"1", b"2", b"3"]
    keyed = [NewRecord(body=b"", hash_key=2**128), NewRecord(body=b"", key="k" * 1_025)]
    results = await stream.append_many(keyed, return_errors=True)
    assert [each.code for each in results] == ["invalid-argument", "too-large"]


async def test_a_busy_shard_refuses_single_records(broker):
    stream = await broker.declare_stream("s", shard_records_in_per_second=2)
    results = await stream.append_many([b"1", b"2", b"3"], return_errors=True)
    assert isinstance(results[2], Throttled) and isinstance(results[0], Position)


async def test_what_makes_no_sense_is_refused(broker):
    stream = await broker.declare_stream("s")
    for wrong in (
        stream.append("text"),
        stream.append(b"", hash_key=-1),
        stream.append(b"", key="\ud800"),
        stream.append_many(["text"]),
        stream.append_many([NewRecord(body="text")]),  # type: ignore[arg-type]
        broker.declare_stream("s2", shards=0),
        broker.declare_stream("s2", retention_bytes=-1),
        broker.declare_stream("s2", durability="maybe"),
        stream.update(record_bytes_max=0),
        stream.split(0, 0),
        stream.merge(0, 0),
    ):
        with pytest.raises(InvalidArgument):
            await wrong
    for missing in (
        broker.stream("none").append(b""),
        broker.stream("none").info(),
        stream.split(7),
        broker.stream("none").delete(),
    ):
        with pytest.raises(NotFound):
            await missing
    with pytest.raises(Conflict):
        await broker.declare_stream("s", retention_bytes=7)


async def test_streams_are_managed(broker):
    stream = await broker.declare_stream("s", shards=1, tags={"team": "web"})
    assert (await broker.declare_stream("s", tags={"team": "web"}, shards=9)).name == "s"
    await stream.append(b"x")
    info = await stream.split(0)
    assert [(each.index, each.parents, each.closed) for each in info.shards] == [
        (0, [], True),
        (1, [0], False),
        (2, [0], False),
    ]
    assert info.settings.tags == {"team": "web"} and info.records == 1
    assert (await stream.merge(1, 2)).open_shards == 1
    assert (await stream.rescale(3)).open_shards == 3
    assert (await stream.split(6, 2**128 - 5)).shards[-1].first_hash == str(2**128 - 5)
    with pytest.raises(Conflict):
        await stream.split(0)
    updated = await stream.update(retention=0, record_bytes_max=9)
    assert (updated.settings.retention_ms, updated.settings.record_bytes_max) == (0, 9)
    for name in ("a", "sa", "sb"):
        await broker.declare_stream(name, durability="os")
    listed = [each async for each in broker.streams("s")]
    assert [each.name for each in listed] == ["s", "sa", "sb"] and not listed[0].shards
    await stream.delete()
    assert [each.name async for each in broker.streams()] == ["a", "sa", "sb"]
    with pytest.raises(NotFound):
        await stream.info()


async def test_groups_share_a_stream(broker):
    stream = await broker.declare_stream("s", shards=2)
    await stream.append_many([NewRecord(body=b"%d" % n, key=f"{n}") for n in range(10)])
    async with stream.join("g") as member:
        seen = 0
        async for batch in member.batches():
            seen += len(batch.records)
            await batch.checkpoint()
            if seen == 10:
                break
    assert [each.name async for each in stream.groups()] == ["g"]
    assert (await stream.group("g").info()).lag == 0
    await stream.group("g").reset("earliest")
    assert (await stream.group("g").info()).lag == 10
    await stream.group("g").delete()
    assert [each async for each in stream.groups()] == []


@pytest.mark.parametrize("where", WHERE)
async def test_a_batch_is_cut_to_what_the_broker_takes(where):
    async with opened(where, Limits(batch_messages_max=3)) as broker:
        stream = await broker.declare_stream("s")
        positions = await stream.append_many([b"x"] * 8)
        assert [each.number for each in positions] == list(range(1, 9))


@pytest.mark.parametrize("where", WHERE)
async def test_there_are_as_many_shards_as_may_be(where):
    async with opened(where, Limits(shards_max=3)) as broker:
        stream = await broker.declare_stream("s", shards=2)
        with pytest.raises(LimitExceeded):
            await stream.rescale(3)


async def test_records_are_there_after_a_restart(tmp_path):
    async with Broker(tmp_path / "d") as broker:
        stream = await broker.declare_stream("s")
        await stream.append_many([b"1", b"2"])
    async with Broker(tmp_path / "d") as broker:
        found = [each.body async for each in broker.stream("s").read(until_end=True)]
        assert found == [b"1", b"2"]

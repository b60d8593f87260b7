"""Members in this process: what waits is woken, what ends holds nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from braidmq.broker import Broker, BrokerFailed, LeaseLost, NotFound, Unavailable
from braidmq.broker.groupverbs import GroupEvent, Membership
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.storage.errors import LogFailed


@pytest.fixture
async def verbs() -> AsyncIterator[Any]:
    async with Broker() as broker:
        await declare(broker.verbs)
        yield broker.verbs


async def declare(verbs: Any) -> None:
    await verbs.declare_stream("s", StreamSettings(), 2)


async def append(verbs: Any, *bodies: bytes, shard: int = 0) -> None:
    first_hash = (0, 1 << 127)[shard]
    batch = Appending(bodies, [b""] * len(bodies), None, [first_hash] * len(bodies))
    assert all(isinstance(each, tuple) for each in await verbs.append("s", batch))


async def expect(member: Membership, count: int) -> list[GroupEvent]:
    events: list[GroupEvent] = []
    while len(events) < count:
        events += await member.next()
    assert len(events) == count, events
    return events


async def test_a_member_reads_asks_for_more_and_sets_checkpoints(verbs):
    await append(verbs, b"a", b"b")
    member = await verbs.join_group("s", "g", Start(), records_max=1)
    first, _, records = await expect(member, 3)
    assert (first.kind, first.shard, records.kind) == ("assigned", 0, "records")
    member.more(0, first.epoch)
    (records,) = await expect(member, 1)
    assert records.chunk is not None and records.chunk.next == 3
    await member.checkpoint(0, first.epoch, 3)
    told = await verbs.group_info("s", "g")
    assert told.lag == 0 and [each.id for each in told.members] == [member.id]
    with pytest.raises(LeaseLost):
        await member.checkpoint(0, first.epoch - 1, 3)
    await member.close()
    await member.close()  # twice is fine
    member.more(0, first.epoch)
    member.release(0, first.epoch)
    with pytest.raises(Unavailable):
        await member.next()
    with pytest.raises(Unavailable):
        await member.checkpoint(0, first.epoch, 3)
    assert not (await verbs.group_info("s", "g")).members


async def test_a_shard_that_is_released_goes_to_another(verbs):
    await append(verbs, b"a", shard=1)
    one = await verbs.join_group("s", "g", Start())
    events = await expect(one, 3)
    two = await verbs.join_group("s", "g", Start())
    (revoked,) = await expect(one, 1)
    assert (revoked.kind, revoked.shard) == ("revoked", 1)
    one.release(1, revoked.epoch)
    (lost,) = await expect(one, 1)
    assert lost.kind == "lost"
    assigned, records = await expect(two, 2)
    assert assigned.epoch > max(event.epoch for event in events)
    assert records.chunk is not None and records.chunk.count == 1


async def test_groups_are_listed_reset_and_deleted(verbs):
    await append(verbs, b"a")
    member = await verbs.join_group("s", "g", Start())
    await member.close()
    assert [each.lag for each in await verbs.list_groups("s")] == [1]
    assert (await verbs.reset_group("s", "g", Start("latest"))).lag == 0
    assert (await verbs.reset_group("s", "g", Start("at", number=1), 0)).lag == 1
    await verbs.delete_group("s", "g")
    assert await verbs.list_groups("s") == []
    with pytest.raises(NotFound):
        await verbs.reset_group("s", "g", Start())


async def test_a_cancelled_reader_loses_nothing(verbs):
    member = await verbs.join_group("s", "g", Start())
    await expect(member, 2)
    waiting = asyncio.ensure_future(member.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await append(verbs, b"a")
    (records,) = await expect(member, 1)
    assert records.kind == "records"


async def test_closing_wakes_who_reads(verbs):
    member = await verbs.join_group("s", "g", Start())
    await expect(member, 2)
    waiting = asyncio.ensure_future(member.next())
    await asyncio.sleep(0)
    await member.close()
    with pytest.raises(Unavailable):
        await waiting


async def test_a_cancelled_join_leaves_no_member(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        verbs: Any = broker.verbs
        await declare(verbs)
        joining = asyncio.ensure_future(verbs.join_group("s", "g", Start()))
        await asyncio.sleep(0)  # it waits for the log
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        assert joining.cancelled()
        assert not (await verbs.group_info("s", "g")).members


async def test_the_end_of_the_stream_ends_members(verbs):
    member = await verbs.join_group("s", "g", Start())
    await verbs.delete_stream("s")
    with pytest.raises(NotFound):
        await member.next()
    await member.close()


async def test_the_end_of_the_broker_ends_members():
    async with Broker() as broker:
        verbs: Any = broker.verbs
        await declare(verbs)
        member = await verbs.join_group("s", "g", Start())
        await expect(member, 2)
        waiting = asyncio.ensure_future(member.next())
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="the broker was closed"):
        await waiting
    await member.close()
    with pytest.raises(Unavailable):
        await verbs.join_group("s", "g", Start())


async def test_the_failure_of_the_log_ends_members():
    async with Broker() as broker:
        verbs: Any = broker.verbs
        await declare(verbs)
        member = await verbs.join_group("s", "g", Start())
        await expect(member, 2)
        broker.core.fail(LogFailed("the disk is gone"))
        with pytest.raises(BrokerFailed):
            await member.next()
        await member.close()

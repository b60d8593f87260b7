"""Groups for people: batches in turn, checkpoints, and shards that leave while one is busy."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from braidmq.broker import Broker, Conflict, InvalidArgument, LeaseLost, NotFound
from braidmq.broker.groupface import Batch, ConsumerGroup, GroupMember, group_start
from braidmq.broker.groupverbs import GroupInfo
from braidmq.broker.limits import Limits
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from tests.faces import opened


@pytest.fixture(params=["local", "remote"])
async def verbs(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with opened(request.param) as broker:
        await broker.verbs.declare_stream("s", StreamSettings(), 2)
        yield broker.verbs


async def append(verbs: Any, shard: int, *bodies: bytes) -> None:
    first_hash = (0, 1 << 127)[shard]
    batch = Appending(bodies, [b"key"] * len(bodies), None, [first_hash] * len(bodies))
    assert all(isinstance(each, tuple) for each in await verbs.append("s", batch))


def join(verbs: Any, start: Start | None = None) -> GroupMember:
    return GroupMember(verbs, "s", "g", start or Start())


async def info(verbs: Any) -> GroupInfo:
    told: GroupInfo = await verbs.group_info("s", "g")
    return told


async def settled(verbs: Any, **owned: int) -> None:
    """Wait until members have so many shards, by their number."""
    while True:
        told = await info(verbs)
        if {f"m{each.id}": len(each.shards) for each in told.members} == owned:
            return
        await asyncio.sleep(0)


def bodies(batch: Batch) -> list[bytes]:
    return [record.body for record in batch.records]


async def test_batches_come_of_each_shard_in_turn_and_in_order(verbs):
    await append(verbs, 0, b"1", b"2", b"3", b"4", b"5")
    await append(verbs, 1, b"a", b"b", b"c")
    async with join(verbs) as member:
        got = []
        async for batch in member.batches(max=2):
            got.append((batch.shard, bodies(batch)))
            if len(got) == 5:
                break
        assert member.shards == [0, 1]
    assert got == [
        (0, [b"1", b"2"]),
        (1, [b"a", b"b"]),
        (0, [b"3", b"4"]),
        (1, [b"c"]),
        (0, [b"5"]),
    ]
    assert batch.records[0].number == 5 and batch.records[0].key == "key"
    assert batch.behind == timedelta(0) and repr(batch) == "<Batch of shard 0: 5 to 5>"


async def test_the_next_member_goes_on_at_the_checkpoint(verbs):
    await append(verbs, 0, b"1", b"2", b"3")
    async with join(verbs) as member:
        async for batch in member.batches(max=2):
            await batch.checkpoint()
            break
    assert (await info(verbs)).shards[0].number == 3
    async with join(verbs) as member:
        batch = await anext(member.batches())
        assert bodies(batch) == [b"3"]
        await append(verbs, 0, b"4")
        batch = await anext(member.batches())
        assert bodies(batch) == [b"4"], "what came is not lost with the loop that waited"
        await batch.checkpoint()
    assert (await info(verbs)).lag == 0


async def test_a_checkpoint_after_a_takeover_is_refused():
    async with Broker(limits=Limits(group_release_ms=1)) as broker:
        verbs: Any = broker.verbs
        await verbs.declare_stream("s", StreamSettings(), 2)
        await append(verbs, 1, b"1", b"2")
        async with join(verbs) as one:
            old = await anext(one.batches())
            async with join(verbs) as two:
                new = await anext(two.batches())
                assert bodies(old) == bodies(new) and old.shard == new.shard
                with pytest.raises(LeaseLost):
                    await old.checkpoint()
                await new.checkpoint()


async def test_a_shard_leaves_when_its_batch_is_checkpointed(verbs):
    await append(verbs, 1, *[b"%d" % n for n in range(10)])
    async with join(verbs) as one:
        batch = await anext(one.batches(max=4))
        async with join(verbs) as two:
            await settled(verbs, m1=2, m2=0)
            await batch.checkpoint()
            following = await anext(two.batches())
            assert following.records[0].number == 5
            assert one.shards == [0] and two.shards == [1]


async def test_a_shard_that_waits_leaves_while_the_program_is_busy(verbs):
    await append(verbs, 0, b"1")
    await append(verbs, 1, b"a")
    async with join(verbs) as one:
        batch = await anext(one.batches())
        assert batch.shard == 0, "the other one waits here"
        async with join(verbs) as two:
            assert bodies(await anext(two.batches())) == [b"a"]
            await batch.checkpoint()
        await settled(verbs, m1=2)
        assert bodies(await anext(one.batches())) == [b"a"], "nobody set a checkpoint"


async def test_what_ends_the_membership_ends_the_batches(verbs):
    async with join(verbs) as member:
        waiting = asyncio.ensure_future(anext(member.batches()))
        await asyncio.sleep(0)
        await verbs.delete_stream("s")
        with pytest.raises(NotFound):
            await waiting
        assert member.shards == []


async def test_closing_ends_the_batches(verbs):
    async with join(verbs) as member:
        waiting = asyncio.ensure_future(anext(member.batches(), None))
        await asyncio.sleep(0)
        await member.close()
        assert await waiting is None
        await member.close()  # twice is fine
    with pytest.raises(InvalidArgument):
        await member.__aenter__()
    assert not (await info(verbs)).members


@pytest.mark.parametrize("how", ["exception", "cancelled"])
async def test_whatever_ends_the_block_nothing_is_held(verbs, how):
    await append(verbs, 0, b"1")
    entered = asyncio.Event()

    async def work() -> None:
        async with join(verbs) as member:
            async for _ in member.batches():
                entered.set()
                if how == "exception":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await entered.wait()
    task.cancel() if how == "cancelled" else None
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError | ZeroDivisionError)
    assert not (await info(verbs)).members
    async with join(verbs) as member:
        assert bodies(await anext(member.batches())) == [b"1"]


async def test_a_cancelled_join_holds_nothing(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        verbs: Any = broker.verbs
        await verbs.declare_stream("s", StreamSettings(), 2)
        member = join(verbs)
        joining = asyncio.ensure_future(member.__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        assert joining.cancelled() and not (await info(verbs)).members


async def test_arguments_are_checked(verbs):
    with pytest.raises(InvalidArgument, match="join first"):
        await anext(join(verbs).batches())
    async with join(verbs) as member:
        with pytest.raises(InvalidArgument):
            await anext(member.batches(max=0))
    for wrong in ("first", datetime(2024, 1, 1)):
        with pytest.raises(InvalidArgument):
            group_start(wrong)  # type: ignore[arg-type]
    assert group_start("latest") == Start("latest")
    assert group_start(datetime(1970, 1, 2, tzinfo=UTC)) == Start("time", time_ms=86_400_000)


async def test_a_group_is_looked_at_reset_and_deleted(verbs):
    await append(verbs, 0, b"1", b"2")
    group = ConsumerGroup(verbs, "s", "g")
    assert repr(group) == "<ConsumerGroup g on s>"
    async with join(verbs):
        with pytest.raises(Conflict):
            await group.reset("latest")
        with pytest.raises(Conflict):
            await group.delete()
        assert (await group.reset("latest", force=True)).lag == 0
    assert (await group.reset(2, shard=0)).shards[0].number == 2
    assert (await group.reset(datetime.now(UTC) - timedelta(hours=1))).lag == 2
    assert (await group.info()).name == "g"
    await group.delete()
    with pytest.raises(NotFound):
        await group.info()

"""Transactions for people: nothing happens before the end of the block, then all of it or none.

The same in process and over the wire.
"""

import asyncio

import pytest

from braidmq.broker import (
    Broker,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    Limits,
    NotFound,
    QueueFull,
    TooLarge,
    Unavailable,
)
from braidmq.broker.recordreader import Position
from tests.faces import opened

BOTH = pytest.mark.parametrize("where", ["local", "remote"])


@pytest.fixture(params=["local", "remote"])
async def broker(request):
    async with opened(request.param) as broker:
        await broker.declare_queue("in")
        await broker.declare_queue("out")
        await broker.declare_stream("kept")
        yield broker


async def bodies(broker, name):
    return [message.body async for message in broker.queue(name).browse()]


async def test_all_happens_at_the_end_of_the_block(broker):
    queue, stream = broker.queue("out"), broker.stream("kept")
    await broker.queue("in").send(b"first")
    await broker.queue("in").send(b"second")
    first, second = await broker.queue("in").receive(2)
    async with broker.subscribe("t") as messages:
        async with broker.transaction() as tx:
            tx.ack(first)
            tx.nack(second, 60)
            tx.send("out", b"a", headers={"h": "v"}, delay=60, ttl=120, priority=7)
            tx.send(queue, b"b")
            tx.publish("t", b"c", headers={"h": "v"}, ttl=5)
            tx.append(stream, b"d", key="k", headers={"h": "v"})
            tx.append("kept", b"e", hash_key=0)
            assert not tx.results
            assert await bodies(broker, "out") == []
        message = await anext(aiter(messages))
        assert (message.body, message.headers["h"]) == (b"c", "v")
    assert tx.results[:2] == [None, None] and tx.results[4:] == [1, Position(0, 1), Position(0, 2)]
    sent = tx.results[3]
    (b,) = await queue.receive()
    assert (b.body, b.id) == (b"b", sent.id)
    assert first.settled and second.settled
    assert (await broker.queue("in").info()).delayed == 1
    (a,) = [each async for each in queue.browse(state="delayed")]
    assert (a.body, a.headers) == (b"a", {"h": "v"})
    records = [record async for record in stream.read(until_end=True)]
    assert [(each.body, each.key, each.headers) for each in records] == [
        (b"d", "k", {"h": "v"}),
        (b"e", "", {}),
    ]


async def test_nothing_happens_when_the_block_raises_or_is_cancelled(broker):
    await broker.queue("in").send(b"x")
    (message,) = await broker.queue("in").receive()
    for error in ZeroDivisionError, asyncio.CancelledError:
        with pytest.raises(error):
            async with broker.transaction() as tx:
                tx.ack(message)
                tx.send("out", b"y")
                raise error
    assert await bodies(broker, "out") == []
    assert not message.settled
    await message.ack()


async def test_a_step_that_cannot_be_done_is_named_and_nothing_happens(broker):
    await broker.declare_queue("small", messages_max=1)
    await broker.queue("in").send(b"x")
    (message,) = await broker.queue("in").receive()
    with pytest.raises(QueueFull, match="step 3, send 'small'") as caught:
        async with broker.transaction() as tx:
            tx.ack(message)
            tx.send("small", b"1")
            tx.send("small", b"2")
    assert caught.value.step == 2
    assert await bodies(broker, "small") == []
    assert not message.settled and not tx.results
    async with broker.transaction() as tx:
        tx.ack(message)
    with pytest.raises(LeaseLost):
        async with broker.transaction() as tx:
            tx.ack(message)


async def test_settled_messages_make_room_for_others(broker):
    for number in range(6):
        await broker.queue("in").send(b"%d" % number)
    moved = []
    async with asyncio.timeout(10):
        async with broker.queue("in").consume(prefetch=2) as messages:
            async for message in messages:
                async with broker.transaction() as tx:
                    tx.ack(message)
                    tx.send("out", message.body)
                moved.append(message.body)
                if len(moved) == 6:
                    break
    assert await bodies(broker, "out") == moved == [b"%d" % number for number in range(6)]
    assert await bodies(broker, "in") == []


async def test_messages_of_topics_are_settled_too(broker):
    async with broker.subscribe("t", durable="d") as kept, broker.subscribe("t") as live:
        async with broker.transaction() as tx:
            tx.publish("t", b"x")
        one, other = await anext(aiter(kept)), await anext(aiter(live))
        async with broker.transaction() as tx:
            tx.ack(one)
            tx.ack(other)  # nobody holds it: nothing to do
            tx.send("out", b"y")
        assert len(tx.results) == 2
        assert (await broker.verbs.session_info("d")).messages == 0


@BOTH
async def test_cancelled_while_it_is_kept_it_is_all_there(where, tmp_path):
    async with opened(where, path=str(tmp_path)) as broker:
        await broker.declare_queue("in")
        await broker.queue("in").send(b"x")
        (message,) = await broker.queue("in").receive()

        async def work():
            async with broker.transaction() as tx:
                tx.ack(message)
                tx.send("in", b"y")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert message.settled
        assert await bodies(broker, "in") == [b"y"]


async def test_what_is_no_step_is_refused_at_once(broker):
    async with Broker() as other:
        await other.declare_queue("in")
        await other.queue("in").send(b"x")
        (foreign,) = await other.queue("in").receive()
        async with broker.transaction() as tx:
            with pytest.raises(InvalidArgument, match="another broker"):
                tx.ack(foreign)
            with pytest.raises(InvalidArgument, match="a body is bytes"):
                tx.send("out", "text")
            with pytest.raises(InvalidArgument, match="a body is bytes"):
                tx.publish("out", "text")
            with pytest.raises(InvalidArgument, match="a body is bytes"):
                tx.append("kept", "text")
    assert tx.results == []


async def test_a_transaction_is_entered_once(broker):
    tx = broker.transaction()
    with pytest.raises(InvalidArgument, match="belong into"):
        tx.send("out", b"x")
    async with tx:
        tx.send("out", b"x")
    with pytest.raises(InvalidArgument, match="belong into"):
        tx.send("out", b"x")
    with pytest.raises(InvalidArgument, match="entered once"):
        async with tx:
            pass
    assert await bodies(broker, "out") == [b"x"]


@BOTH
async def test_the_limits_of_the_broker_hold(where):
    limits = Limits(transaction_steps_max=2, transaction_bytes_max=3_000)
    async with opened(where, limits) as broker:
        await broker.declare_queue("out")
        for size, error in (1, LimitExceeded), (2_000, TooLarge):
            with pytest.raises(error) as caught:
                async with broker.transaction() as tx:
                    for _ in range(3):
                        tx.send("out", bytes(size))
            assert type(caught.value) is error
            assert caught.value.step == (2 if error is LimitExceeded else 1)
        assert await bodies(broker, "out") == []
        closed = broker
    with pytest.raises(Unavailable):
        async with closed.transaction() as tx:
            tx.send("none", b"x")
    with pytest.raises(Unavailable, match="not open"):
        async with Broker().transaction() as tx:
            tx.send("none", b"x")


async def test_a_dead_letter_is_a_step(broker):
    await broker.declare_queue("dead")
    await broker.declare_queue("mortal", dead_letter="dead", max_receives=5)
    await broker.queue("mortal").send(b"x")
    (message,) = await broker.queue("mortal").receive()
    async with broker.transaction() as tx:
        tx.dead_letter(message, "because")
        tx.send("out", b"y")
    assert message.settled and tx.results[0] is None
    (dead,) = [each async for each in broker.queue("dead").browse()]
    assert dead.headers["dead-letter-reason"] == "because"


async def test_what_is_to_be_sent_later_is_scheduled_with_the_rest(broker):
    with pytest.raises(NotFound):
        async with broker.transaction() as tx:
            tx.schedule(b"never", queue="out", delay=60)
            tx.send("none", b"x")
    async with broker.transaction() as tx:
        tx.schedule(b"later", queue="out", delay=60, headers={"h": "v"}, priority=7)
        tx.schedule(b"often", topic="t", every=5)
        tx.schedule(b"r", stream="kept", cron="0 4 * * *", key="k")
    found = [info async for info in broker.schedules()]
    assert tx.results == found
    assert [(info.kind, info.timing.repeat) for info in found] == [
        ("queue", 0),
        ("topic", -1),
        ("stream", 0),
    ]
    with pytest.raises(InvalidArgument, match="one target"):
        async with broker.transaction() as tx:
            tx.schedule(b"x", queue="out", topic="t")
    with pytest.raises(InvalidArgument, match="a body is bytes"):
        async with broker.transaction() as tx:
            tx.schedule("x", queue="out")


async def test_as_much_as_a_frame_holds_goes_over_a_wire():
    limits = Limits(frame_bytes_max=1_000_000, body_bytes_max=200_000)
    async with opened("remote", limits) as broker:
        await broker.declare_queue("out")
        async with broker.transaction() as tx:
            for _ in range(9):
                tx.send("out", bytes(110_000))
        with pytest.raises(TooLarge, match="over a connection"):
            async with broker.transaction() as tx:
                for _ in range(10):
                    tx.send("out", bytes(110_000))
        assert (await broker.queue("out").info()).messages == 9

"""The objects people use: the same in this process and over a wire, so every test runs on both."""

# ruff: noqa: ASYNC110  - these tests wait for what others do
import asyncio
import gc
from datetime import UTC, datetime

import pytest

from braidmq.broker import (
    BrokerFace,
    Conflict,
    InvalidArgument,
    LeaseLost,
    Limits,
    Message,
    NewMessage,
    NotFound,
    Queue,
    QueueFull,
    TooLarge,
)
from tests.faces import opened


@pytest.fixture(params=["local", "remote"])
def where(request):
    return request.param


@pytest.fixture
async def broker(where):
    async with opened(where) as broker:
        yield broker


@pytest.fixture
async def queue(broker):
    return await broker.declare_queue("orders", visibility_timeout=30)


async def depth(queue):
    info = await queue.info()
    return info.ready, info.in_flight


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.001)


# --- sending ---


async def test_send_and_receive(queue):
    before = datetime.now(UTC)
    sent = await queue.send(b"one", headers={"tenant": "a", "raw": b"\xff"})
    assert (sent.sequence, sent.duplicate) == (1, False)
    (message,) = await queue.receive()
    assert (message.body, message.headers) == (b"one", {"tenant": "a", "raw": b"\xff"})
    assert (message.sequence, message.receives, message.id) == (1, 1, sent.id)
    assert len(sent.id) == 32 and int(sent.id, 16)
    assert abs((message.sent_at - before).total_seconds()) < 3600
    assert repr(message) == "<Message 1 of orders, 3 bytes>"
    await message.ack()
    assert await depth(queue) == (0, 0)


async def test_send_many_keeps_the_order(queue):
    results = await queue.send_many([b"%d" % n for n in range(2_500)])
    assert [result.sequence for result in results] == list(range(1, 2_501))
    messages = await queue.receive(max=1_000)
    assert [m.body for m in messages] == [b"%d" % n for n in range(len(messages))]
    assert await queue.send_many([]) == []


async def test_large_batches_are_sent_in_parts(queue):
    assert len(await queue.send_many([bytes(700_000)] * 5)) == 5
    assert (await queue.info()).bytes >= 3_500_000


async def test_messages_of_a_batch_may_have_everything_that_a_single_one_has(queue):
    await queue.send_many(
        [
            NewMessage(body=b"low", priority=0),
            NewMessage(body=b"high", priority=9, headers={"a": "b"}),
        ]
    )
    high, low = await queue.receive(max=2)
    assert (high.body, high.headers, low.body) == (b"high", {"a": "b"}, b"low")


async def test_refused_messages_are_raised_or_returned(broker):
    queue = await broker.declare_queue("small", messages_max=2)
    with pytest.raises(QueueFull) as caught:
        await queue.send_many([b"a", b"b", b"c", b"d"])
    assert caught.value.__notes__ == ["2 of 4 messages were refused"]
    await queue.purge()
    results = await queue.send_many([b"a", b"b", b"c"], return_errors=True)
    assert isinstance(results[2], QueueFull) and not isinstance(results[0], QueueFull)


@pytest.mark.parametrize("body", ["text", None, 5, bytearray(b"x"), {"a": 1}])
async def test_a_body_is_bytes(queue, body):
    with pytest.raises(InvalidArgument, match="a body is bytes"):
        await queue.send(body)
    with pytest.raises(InvalidArgument, match="a body is bytes"):
        await queue.send_many([body])


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"ttl": -1},
        {"priority": 10},
        {"priority": -1},
        {"headers": {"a": 1}},
        {"headers": {"": "x"}},
        {"headers": {b"a": "x"}},
        {"group": "g"},
        {"dedup_id": "d"},
    ],
    ids=str,
)
async def test_wrong_arguments_are_named(queue, options):
    with pytest.raises(InvalidArgument):
        await queue.send(b"x", **options)
    assert await depth(queue) == (0, 0)


async def test_sizes_have_limits(where):
    limits = Limits(body_bytes_max=1_000, headers_bytes_max=500, headers_count_max=2)
    async with opened(where, limits) as broker:
        queue = await broker.declare_queue("q")
        await queue.send(bytes(1_000), headers={"a": "", "b": ""})
        with pytest.raises(TooLarge):
            await queue.send(bytes(1_001))
        with pytest.raises(TooLarge):
            await queue.send(b"", headers={"a": "x" * 500})
        with pytest.raises(TooLarge):
            await queue.send(b"", headers={"a": "", "b": "", "c": ""})


async def test_a_missing_queue_shows_when_it_is_used(broker):
    queue = broker.queue("nowhere")
    assert isinstance(queue, Queue) and repr(queue) == "<Queue nowhere>"
    with pytest.raises(NotFound):
        await queue.send(b"x")
    with pytest.raises(NotFound):
        await queue.receive(wait=5)
    with pytest.raises(NotFound):
        async for _ in queue.consume():
            pass


# --- receiving ---


async def test_a_receive_waits_for_a_message(queue):
    waiting = asyncio.ensure_future(queue.receive(wait=60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await queue.send(b"x")
    assert [m.body for m in await waiting] == [b"x"]
    assert await queue.receive_one() is None
    assert await queue.receive(wait=0.01) == []


async def test_a_cancelled_receive_holds_nothing(queue):
    waiting = asyncio.ensure_future(queue.receive(wait=60))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await queue.send(b"x")
    assert (await queue.receive_one(wait=5)).receives == 1


async def test_a_receive_that_is_cancelled_as_messages_come_gives_them_back(queue):
    for _ in range(20):
        waiting = asyncio.ensure_future(queue.receive(max=10, wait=60))
        await asyncio.sleep(0.002)
        await queue.send(b"x")
        for _ in range(3):
            await asyncio.sleep(0)
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            await queue.ack_many(waiting.result())
            continue
        message = await queue.receive_one(wait=5)
        assert message is not None and message.receives == 1
        await message.ack()


async def test_settling(queue, broker):
    await broker.declare_queue("dead")
    await queue.update(dead_letter="dead")
    await queue.send(b"x")
    message = await queue.receive_one(lease=5)
    await message.extend(60)
    await message.nack()
    again = await queue.receive_one()
    assert again.receives == 2
    await again.dead_letter("not today")
    dead = await broker.queue("dead").receive_one()
    assert dead.headers["dead-letter-reason"] == "not today"
    assert dead.headers["dead-letter-queue"] == "orders"
    for settle in (again.ack, again.nack, again.dead_letter):
        with pytest.raises(LeaseLost):
            await settle()
    with pytest.raises(LeaseLost):
        await again.extend(5)


@pytest.mark.parametrize("lease", [0, -1])
async def test_a_lease_takes_time(queue, lease):
    with pytest.raises(InvalidArgument):
        await queue.receive(lease=lease)


async def test_nack_with_a_delay(queue):
    await queue.send(b"x")
    await (await queue.receive_one()).nack(delay=3600)
    assert await queue.receive_one() is None
    assert (await queue.info()).delayed == 1


async def test_many_are_acknowledged_at_once(queue):
    await queue.send_many([b"a", b"b", b"c"])
    messages = await queue.receive(max=3)
    await messages[1].ack()
    with pytest.raises(LeaseLost):
        await queue.ack_many(messages)
    assert await depth(queue) == (0, 0)
    assert all(message.settled for message in messages)


async def test_a_block_acknowledges_or_gives_back(queue):
    await queue.send(b"x")
    with pytest.raises(ZeroDivisionError):
        async with await queue.receive_one():
            1 / 0  # noqa: B018
    async with await queue.receive_one() as message:
        assert message.receives == 2
        await message.nack()
    async with await queue.receive_one() as message:
        assert message.receives == 3
    assert await depth(queue) == (0, 0)


async def test_a_cancelled_block_gives_back(queue):
    await queue.send(b"x")
    began = asyncio.Event()

    async def work():
        async with await queue.receive_one():
            began.set()
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await depth(queue) == (1, 0)


async def test_a_block_whose_lease_is_lost_says_so(queue):
    await queue.send(b"x")
    message = await queue.receive_one()
    await queue.purge()
    with pytest.raises(ZeroDivisionError) as caught:
        async with message:
            1 / 0  # noqa: B018
    assert "could not be given back" in caught.value.__notes__[0]


async def test_selectors(queue):
    await queue.send(b"a", headers={"tenant": "a"})
    await queue.send(b"b", headers={"tenant": "b"})
    assert [m.body for m in await queue.receive(max=10, where="tenant = 'b'")] == [b"b"]
    assert [m.body async for m in queue.browse(where="tenant = 'a'")] == [b"a"]
    with pytest.raises(InvalidArgument):
        await queue.receive(where="tenant = ")


# --- consuming ---


async def test_consume_to_the_end(queue):
    await queue.send_many([b"%d" % n for n in range(200)])
    seen = []
    async for message in queue.consume(prefetch=8):
        async with message:
            seen.append(message.body)
        if len(seen) == 200:
            break
    assert seen == [b"%d" % n for n in range(200)]
    await until(lambda: is_empty(queue))


async def is_empty(queue):
    return await depth(queue) == (0, 0)


async def test_no_more_than_prefetch_are_held(queue):
    await queue.send_many([b"x"] * 50)
    async with queue.consume(prefetch=7) as messages:
        held = []
        async for message in messages:
            held.append(message)
            if len(held) == 7:
                break
        await asyncio.sleep(0.02)
        assert (await queue.info()).in_flight == 7
        await queue.ack_many(held)
        async for message in messages:
            assert isinstance(message, Message)
            break


async def test_leaving_the_loop_gives_everything_back(queue):
    await queue.send_many([b"x"] * 10)
    async for message in queue.consume(prefetch=5):
        first = message.sequence
        break
    del message
    gc.collect()

    async def all_back():
        return await depth(queue) == (10, 0)

    await until(all_back)
    receives = {m.sequence: m.receives for m in await queue.receive(max=10)}
    assert receives.pop(first) == 2
    assert set(receives.values()) == {1}


async def test_a_consumer_in_a_block_ends_with_it(queue):
    await queue.send_many([b"x"] * 3)
    async with queue.consume() as messages:
        message = await anext(aiter(messages))
        assert (await queue.info()).consumers == 1
    assert await depth(queue) == (3, 0)
    assert (await queue.info()).consumers == 0
    with pytest.raises(LeaseLost):
        await message.ack()
    await messages.close()
    with pytest.raises(InvalidArgument):
        async with messages:
            pass


async def test_a_cancelled_consumer_leaves_nothing_held(queue):
    await queue.send_many([b"x"] * 3)
    got = asyncio.Event()

    async def work():
        async for _ in queue.consume():
            got.set()
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(work())
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def all_back():
        return await depth(queue) == (3, 0)

    await until(all_back)


async def test_consumers_share_the_work(queue):
    done = []

    async def work(name):
        async for message in queue.consume(prefetch=2):
            async with message:
                done.append(name)
                await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(work(name)) for name in "abc"]
    await asyncio.sleep(0.02)
    await queue.send_many([b"x"] * 60)
    await until(lambda: is_empty(queue))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(done) == 60 and set(done) == set("abc")


async def test_a_consumer_ends_with_its_queue(queue):
    async with queue.consume() as messages:
        await queue.delete()
        with pytest.raises(NotFound):
            async for _ in messages:
                pass


async def test_the_consumer_of_the_highest_priority_is_served_first(queue):
    async with queue.consume() as low, queue.consume(prefetch=2, priority=5) as high:
        await queue.send_many([b"1", b"2", b"3"])
        first = aiter(high)
        assert [(await anext(first)).body for _ in range(2)] == [b"1", b"2"]
        assert (await anext(aiter(low))).body == b"3"


async def test_who_is_preferred_is_served_alone(queue):
    async with queue.consume() as other:
        async with queue.consume(prefetch=1, exclusive="preferred") as preferred:
            await queue.send_many([b"1", b"2"])
            assert (await anext(aiter(preferred))).body == b"1"
            assert (await queue.info()).in_flight == 1
        again = aiter(other)
        assert [(await anext(again)).body for _ in range(2)] == [b"1", b"2"]


async def test_who_is_sole_lets_nobody_in_and_comes_to_nobody(queue):
    async with queue.consume(exclusive="sole") as sole:
        with pytest.raises(Conflict):
            await anext(aiter(queue.consume()))
        await queue.send(b"x")
        assert (await anext(aiter(sole))).body == b"x"
    async with queue.consume():
        with pytest.raises(Conflict):
            await anext(aiter(queue.consume(exclusive="sole")))


async def test_how_a_consumer_is_to_be_served_is_checked(queue):
    with pytest.raises(InvalidArgument, match="shared, preferred, sole"):
        queue.consume(exclusive="yes")
    with pytest.raises(InvalidArgument):
        await anext(aiter(queue.consume(priority=2**31)))


async def test_prefetch_is_at_least_one(queue):
    with pytest.raises(InvalidArgument):
        queue.consume(prefetch=0)


# --- FIFO ---


async def test_fifo_groups_and_deduplication(broker):
    pay = await broker.declare_queue("pay.fifo", fifo=True)
    first = await pay.send(b"1", group="a", dedup_id="p-1")
    again = await pay.send(b"1", group="a", dedup_id="p-1")
    assert again.duplicate and again.id == first.id
    await pay.send(b"2", group="a", dedup_id="p-2")
    await pay.send(b"3", group="b", dedup_id="p-3")
    (one,) = await pay.receive(max=1)
    assert (one.body, one.group) == (b"1", "a")
    assert [m.body for m in await pay.receive(max=10)] == [b"3"]
    await one.ack()
    assert [m.body for m in await pay.receive(max=10)] == [b"2"]


# --- managing ---


async def test_queues_are_found_and_conflicts_named(broker):
    await broker.declare_queue("a", max_receives=3, dead_letter="a.dlq", tags={"team": "x"})
    await broker.declare_queue("a", max_receives=3, dead_letter="a.dlq", tags={"team": "x"})
    with pytest.raises(Conflict):
        await broker.declare_queue("a")
    with pytest.raises(InvalidArgument):
        await broker.declare_queue("b", overflow="explode")
    with pytest.raises(InvalidArgument):
        await broker.declare_queue("no good")
    assert [info.name async for info in broker.queues()] == ["a", "a.dlq"]
    assert [info.name async for info in broker.queues(prefix="a.")] == ["a.dlq"]


async def test_updates_change_what_is_given(queue):
    info = await queue.update(visibility_timeout=60, tags={"a": "b"})
    assert info.settings.visibility_timeout_ms == 60_000
    info = await queue.update(ttl=5)
    assert (info.settings.visibility_timeout_ms, info.settings.ttl_ms) == (60_000, 5_000)
    with pytest.raises(InvalidArgument):
        await queue.update(max_receives=1)


async def test_browse_pages_without_effect(queue):
    await queue.send_many([b"%d" % n for n in range(250)])
    await queue.receive(max=1)
    page = [message async for message in queue.browse()]
    assert [message.sequence for message in page] == list(range(1, 251))
    assert page[0].state == "in-flight" and page[1].state == "ready"
    assert [m.sequence async for m in queue.browse(state="in-flight")] == [1]
    assert page[1].receives == 0


async def test_purge_and_delete(queue):
    await queue.send_many([b"x"] * 3)
    with pytest.raises(Conflict):
        await queue.delete(if_empty=True)
    assert await queue.purge() == 3
    await queue.delete(if_empty=True)
    with pytest.raises(NotFound):
        await queue.info()


async def test_redrive_with_progress(broker, queue):
    dead = await broker.declare_queue("dead")
    await queue.update(dead_letter="dead")
    await queue.send_many([b"x"] * 5)
    for message in await queue.receive(max=5):
        await message.dead_letter("why")
    states: list = []
    info = await dead.redrive(progress=states.append)
    assert (info.state, info.moved) == ("done", 5)
    assert await depth(queue) == (5, 0)
    assert [each.id for each in await broker.redrives()] == [info.id]


async def test_a_cancelled_redrive_stops(broker):
    dead = await broker.declare_queue("dead")
    await broker.declare_queue("there")
    await dead.send_many([b"x"] * 100)
    task = asyncio.ensure_future(dead.redrive("there", rate=0.01))
    while not await broker.redrives():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (info,) = await broker.redrives()
    assert info.state == "cancelled"
    with pytest.raises(NotFound):
        await broker.cancel_redrive(info.id + 1)


async def test_the_broker_tells_how_it_is(broker, queue):
    await queue.send(b"x")
    info = await broker.info()
    assert (info.queues, info.messages, info.instance) == (1, 1, broker.instance)
    assert info.version and info.log["records"]


def test_the_bare_face_has_nothing_behind_it():
    for name in ("verbs", "instance", "limits"):
        with pytest.raises(NotImplementedError):
            getattr(BrokerFace(), name)

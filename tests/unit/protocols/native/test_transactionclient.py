"""The client's side of transactions: what it asks for, and what it makes of the answer."""

import asyncio
from contextlib import suppress

import pytest

from braidmq.broker import Broker, Disconnected, LimitExceeded, NotFound
from braidmq.broker.message import Outgoing, Sent
from braidmq.broker.publishing import Posted
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled, ScheduleInfo
from braidmq.broker.streams import Appending
from braidmq.broker.transactionverbs import (
    Ack,
    Append,
    DeadLetter,
    Nack,
    Publish,
    Schedule,
    Send,
)
from braidmq.protocols import connect, serve
from braidmq.protocols.native.frames import append_frame
from braidmq.protocols.native.operations import BATCH_DECODED_MAX, OPERATIONS


@pytest.fixture
async def remote():
    async with Broker() as broker, serve(broker, "braid://127.0.0.1:0", grace=0) as server:
        await broker.declare_queue("q", dead_letter="dead", max_receives=9)
        await broker.declare_queue("f", fifo=True)
        await broker.declare_stream("s")
        async with connect(server.urls[0]) as remote:
            yield remote


async def test_every_kind_of_step_has_its_result(remote):
    verbs = remote.verbs
    await verbs.send("q", [Outgoing(b"%d" % number) for number in range(4)])
    one, two, three, four = [each.receipt for each in await verbs.receive("q", 4, 0)]
    scheduled = Scheduled(kind="topic", name="t", timing=Timing(60_000), body=b"x", retain=True)
    first, again, count, places, *settled, info = await verbs.transact(
        [
            Send("f", Outgoing(b"x", group="g", dedup_id="1")),
            Send("f", Outgoing(b"x", group="g", dedup_id="1")),
            Publish("t", Posted(b"x", b"", True, 5_000), 1),
            Append("s", Appending([b"x", b"y"], [b"", b"k"], None, [-1, 5])),
            Ack("q", [one, two]),
            Nack("q", [three], 0, False),
            DeadLetter("q", [four], "why"),
            Schedule(scheduled),
        ]
    )
    assert isinstance(first, Sent) and isinstance(again, Sent) and isinstance(info, ScheduleInfo)
    assert (again.id, first.duplicate, again.duplicate) == (first.id, False, True)
    assert (count, places, settled) == (0, [(0, 1), (0, 2)], [None] * 3)
    assert info == (await verbs.list_schedules())[0]
    assert [each.body for each in await verbs.browse("q")] == [b"2"]
    assert [each.body for each in await verbs.browse("dead")] == [b"3"]


async def test_a_step_that_cannot_be_done_is_told(remote):
    with pytest.raises(NotFound, match="step 2, send 'none'") as caught:
        steps = [Send("q", Outgoing(b"x")), Send("none", Outgoing(b"x"))]
        await remote.verbs.transact(steps)
    assert caught.value.step == 1


async def test_there_are_no_more_steps_than_a_frame_may_have(remote):
    with pytest.raises(LimitExceeded):
        await remote.verbs.transact([Ack("q", [])] * (BATCH_DECODED_MAX + 1))


async def test_the_end_of_the_connection_leaves_it_open_what_happened():
    """It is not asked for again: it may have been done."""
    asked: list[int] = []

    async def frame(reader):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))

    async def silent(reader, writer):
        await frame(reader)
        welcome = bytearray()
        append_frame(welcome, (OPERATIONS["WELCOME"], 1, 1, "silent", 7, 30_000, {}))
        writer.write(welcome)
        with suppress(asyncio.IncompleteReadError):
            asked.append((await frame(reader))[1])
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"braid://127.0.0.1:{port}") as broker:
            with pytest.raises(Disconnected):
                async with broker.transaction() as tx:
                    tx.send("q", b"x")
            assert tx.results == []
    assert asked == [OPERATIONS["TRANSACT"]]

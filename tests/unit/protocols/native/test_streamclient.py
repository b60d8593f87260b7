"""The client's side of streams: what it asks, what it believes, and lost connections."""

import asyncio
import struct
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from braidmq.broker import BraidError, Broker, Disconnected, LeaseLost, Limits, TooLarge
from braidmq.broker.recordreader import Position
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamrecord import chunk_records
from braidmq.broker.streams import Appending
from braidmq.protocols import connect, serve
from braidmq.protocols.native import client as native
from braidmq.protocols.native import streamclient
from braidmq.protocols.native.streamclient import check_chunk, split_records
from braidmq.storage.block import encode_block
from tests.ports import kept_port
from tests.unit.protocols.native.test_client import Doorman, until


@pytest.fixture(autouse=True)
def reconnect_quickly(monkeypatch):
    monkeypatch.setattr(native, "_PAUSE_SECONDS_FIRST", 0.001)


@pytest.fixture
async def broker():
    async with Broker() as broker:
        await broker.declare_stream("s", shards=2)
        yield broker


@pytest.fixture
async def door(broker):
    with kept_port() as port:
        door = Doorman(broker, port)
        await door.open()
        yield door
        await door.close()


@pytest.fixture
async def remote(door):
    async with connect(door.url) as remote:
        yield remote


def block(first, count=3, shard=1):
    return encode_block(shard, first, 1_000, [b"k"] * count, None, [b"body"] * count)


# --- what it believes ---


def test_sound_chunks_are_believed():
    for chunk in (
        Chunk([], 0, 0, 7, 0),
        Chunk([block(1)], 0, 3, 4, 0),
        Chunk([block(1)], 1, 1, 3, 0),
        Chunk([block(1), block(4)], 2, 4, 7, 0),
        Chunk([block(1), block(4)], 0, 4, 5, 0),
    ):
        check_chunk(chunk)


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk([], 0, 1, 7, 0),
        Chunk([], 1, 0, 7, 0),
        Chunk([b""], 0, 0, 7, 0),
        Chunk([block(1)[:-1]], 0, 3, 4, 0),
        Chunk([block(1) + b"x"], 0, 3, 4, 0),
        Chunk([block(1)[:-1] + b"?"], 0, 3, 4, 0),
        Chunk([block(1), block(1)], 0, 6, 7, 0),
        Chunk([block(1), block(5)], 0, 6, 7, 0),
        Chunk([block(1)], 3, 0, 4, 0),
        Chunk([block(1)], -1, 3, 3, 0),
        Chunk([block(1)], 0, 4, 5, 0),
        Chunk([block(1)], 0, 0, 1, 0),
        Chunk([block(1)], 0, 3, 5, 0),
        Chunk([block(1), block(4)], 0, 3, 4, 0),
        Chunk([block(1), block(4)], 3, 3, 7, 0),
    ],
    ids=str,
)
def test_chunks_that_do_not_fit_together_are_not(chunk):
    with pytest.raises(ValueError):
        check_chunk(chunk)


@given(st.binary(max_size=80), st.integers(-1, 9), st.integers(-1, 9), st.integers(0, 9))
@example(block(1)[8:], 0, 3, 4)
@example(struct.pack("<BBHIQIQ", 8, 7, 0, 1, 1, 2**32 - 1, 0), 0, 1, 2)
def test_whatever_comes_it_is_believed_or_refused(content, skip, count, following):
    sealed = struct.pack("<II", 8 + len(content), crc32(content)) + content
    for blocks in ([content], [sealed], [sealed, sealed]):
        try:
            check_chunk(Chunk(blocks, skip, count, following, 0))
        except ValueError:
            continue
        assert len(chunk_records(Chunk(blocks, skip, count, following, 0), 0)) == count


@pytest.mark.parametrize("verb", ["read", "tail", "join"])
async def test_a_broker_that_sends_damaged_blocks_is_told_from_one_that_is_gone(
    remote, monkeypatch, verb
):
    def refuse(chunk):
        raise ValueError("damaged")

    await remote.stream("s").append(b"x", hash_key=0)
    monkeypatch.setattr(streamclient, "check_chunk", refuse)
    with pytest.raises(BraidError, match="a chunk that is none: damaged") as caught:
        if verb == "read":
            await remote.verbs.read_shard("s", 0, 1)
        elif verb == "tail":
            async for _ in remote.stream("s").read(0):
                pass
        else:
            async with remote.stream("s").join("g") as member:
                async for _ in member.batches():
                    pass
    assert not isinstance(caught.value, Disconnected)
    assert (await remote.stream("s").info()).records == 1


# --- what it asks ---


def test_batches_are_cut_into_frames():
    limits = Limits(frame_bytes_max=2_000, batch_messages_max=3)
    batch = Appending([b"x"] * 7, [b"k"] * 7)
    frames, results = split_records("s", batch, limits)
    assert [list(frame) for frame in frames] == [[0, 1, 2], [3, 4, 5], [6]]
    assert results == [None] * 7
    batch = Appending([bytes(500), bytes(500), bytes(1_000), b"x"], [b""] * 4, None, [-1] * 4)
    frames, results = split_records("s", batch, limits)
    assert [list(frame) for frame in frames] == [[0], [1, 3]]
    assert isinstance(results[2], TooLarge)
    assert split_records("s", Appending([], []), limits) == ([], [])


async def test_results_of_several_frames_come_in_order():
    limits = Limits(frame_bytes_max=9_500, body_bytes_max=500, headers_bytes_max=500)
    async with Broker(limits=limits) as little:
        await little.declare_stream("s")
        async with serve(little, "braid://127.0.0.1:0", grace=0) as server:
            async with connect(server.urls[0]) as remote:
                bodies = [b"%d" % n * 1_500 for n in range(10)] + [bytes(9_300)]
                results = await remote.stream("s").append_many(bodies, return_errors=True)
                assert results[:10] == [Position(0, n) for n in range(1, 11)]
                assert isinstance(results[10], TooLarge)
                found = [r.body async for r in remote.stream("s").read(until_end=True)]
                assert found == bodies[:10]


async def test_a_cancelled_read_does_not_wait_at_the_broker(broker, remote):
    waiting = broker.core.streams.get("s").waiting
    read = asyncio.ensure_future(remote.verbs.read_shard("s", 0, 1, wait_ms=60_000))
    await until(lambda: 0 in waiting)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    await until(lambda: not waiting)
    assert (await remote.verbs.read_shard("s", 0, 1)).count == 0


# --- lost connections ---


async def test_a_reader_goes_on_where_it_was(broker, door, remote):
    stream = remote.stream("s")
    records = aiter(stream.read())
    await broker.stream("s").append(b"1", hash_key=0)
    assert (await anext(records)).body == b"1"
    await door.restart()
    await broker.stream("s").append(b"2", hash_key=0)
    assert (await anext(records)).body == b"2"
    await broker.stream("s").split(0)
    await broker.stream("s").append(b"3", hash_key=0)
    assert (await anext(records)).body == b"3"
    await door.restart()
    await broker.stream("s").append(b"4", hash_key=0)
    await broker.stream("s").append(b"other", hash_key=2**128 - 1)
    assert {(await anext(records)).body, (await anext(records)).body} == {b"4", b"other"}


async def test_a_waiting_read_is_asked_again(broker, door, remote):
    waiting = broker.core.streams.get("s").waiting
    read = asyncio.ensure_future(remote.verbs.read_shard("s", 0, 1, wait_ms=60_000))
    await until(lambda: 0 in waiting)
    await door.restart()
    await until(lambda: 0 in waiting)
    await broker.stream("s").append(b"1", hash_key=0)
    assert (await read).count == 1


async def test_a_member_joins_again_and_its_old_leases_are_lost(broker, door, remote):
    await broker.stream("s").append(b"1", hash_key=0)
    async with remote.stream("s").join("g") as member:
        batches = member.batches()
        batch = await anext(batches)
        membership = member._membership
        assert membership is not None and membership.id == 1
        await door.restart()
        again = await anext(batches)
        assert membership.id == 2
        assert [record.body for record in again.records] == [b"1"]
        with pytest.raises(LeaseLost):
            await batch.checkpoint()
        await again.checkpoint()
        assert (await broker.stream("s").group("g").info()).lag == 0


async def test_without_resuming_everything_ends_with_the_connection(broker, door):
    async with connect(door.url, resume=False) as remote:
        reader = aiter(remote.stream("s").read())
        waiting = asyncio.ensure_future(anext(reader))
        async with remote.stream("s").join("g") as member:
            batches = asyncio.ensure_future(anext(member.batches()))
            await until(lambda: len(broker.core.streams.get("s").waiting) == 2)
            await until(lambda: member.shards)
            await door.close()
            for each in (waiting, batches):
                with pytest.raises(Disconnected):
                    await each


async def test_closing_ends_what_waits(broker, remote):
    reader = remote.stream("s").read()
    async with reader:
        waiting = asyncio.ensure_future(anext(aiter(reader)))
        await until(lambda: len(broker.core.streams.get("s").waiting) == 2)
        await reader.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
    assert not broker.core.streams.get("s").waiting

"""The native client: connections that end, answers that come late, calls that are cancelled."""

# ruff: noqa: ASYNC110  - these tests wait for what others do
import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from braidmq.broker import (
    Broker,
    Conflict,
    Disconnected,
    InvalidArgument,
    LeaseLost,
    NewMessage,
    NotFound,
    TooLarge,
    Unauthenticated,
)
from braidmq.broker.lease import Exclusivity
from braidmq.broker.message import Outgoing, Sent
from braidmq.protocols import RemoteBroker, connect, serve
from braidmq.protocols.native import client as native
from braidmq.protocols.native import frames
from braidmq.protocols.native import operations as op
from tests.ports import kept_port

O = op.OPERATIONS  # noqa: E741


@pytest.fixture(autouse=True)
def reconnect_quickly(monkeypatch):
    monkeypatch.setattr(native, "_PAUSE_SECONDS_FIRST", 0.001)


@pytest.fixture
async def broker():
    async with Broker() as broker:
        await broker.declare_queue("q")
        yield broker


class Doorman:
    """A server that can be closed and opened again at the same port."""

    def __init__(self, broker, port):
        self.broker = broker
        self.url = f"braid://127.0.0.1:{port}"
        self.server = None

    async def open(self):
        self.server = serve(self.broker, self.url, grace=0)
        await self.server.__aenter__()

    async def close(self):
        if self.server is not None:
            server, self.server = self.server, None
            await server.__aexit__(None, None, None)

    async def restart(self):
        await self.close()
        await self.open()


@pytest.fixture
async def door(broker):
    with kept_port() as port:
        door = Doorman(broker, port)
        await door.open()
        yield door
        await door.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


# --- connecting ---


@pytest.mark.parametrize(
    "url", ["", "http://h", "braid://", "braid://h:x", "braid://h:99999", "127.0.0.1:7450"]
)
def test_urls_that_are_none_are_refused(url):
    with pytest.raises(InvalidArgument):
        connect(url)


async def test_nobody_answers():
    with pytest.raises(Disconnected, match="cannot connect"):
        async with connect("braid://127.0.0.1:1"):
            pass


async def test_a_broker_that_says_nothing_is_given_up():
    async def mute(reader, writer):
        await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Disconnected, match="no answer"):
        async with connect(f"braid://127.0.0.1:{port}", timeout=0.02):
            pass
    server.close()
    await gone.wait()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\1\xc1", b""])
async def test_who_does_not_speak_the_protocol_is_given_up(answer):
    async def strange(reader, writer):
        await reader.read(10)
        writer.write(answer)
        writer.close()
        closed.append(asyncio.ensure_future(writer.wait_closed()))

    closed: list = []
    server = await asyncio.start_server(strange, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Disconnected):
        async with connect(f"braid://127.0.0.1:{port}", timeout=5):
            pass
    server.close()
    await asyncio.gather(*closed, return_exceptions=True)


async def test_a_wrong_user_is_told_so(door):
    with pytest.raises(Unauthenticated):
        async with connect(door.url.replace("//", "//ada:p%40ss@")):
            pass


async def test_before_it_is_entered_it_knows_nothing():
    remote = connect("braid://127.0.0.1:7450")
    assert isinstance(remote, RemoteBroker)
    with pytest.raises(Disconnected, match="not connected"):
        _ = remote.instance


async def test_after_the_end_calls_raise(door):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        await queue.send(b"x")
        waiting = asyncio.ensure_future(queue.receive(wait=60, where="a = 1"))
        await asyncio.sleep(0.01)
    with pytest.raises(Disconnected):
        await waiting
    with pytest.raises(Disconnected):
        await queue.send(b"x")


# --- losing the connection ---


async def test_calls_wait_for_a_lost_connection(door):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        await queue.send(b"1")
        await door.close()
        later = asyncio.ensure_future(queue.send(b"2"))
        await asyncio.sleep(0.02)
        assert not later.done()
        await door.open()
        assert (await later).sequence == 2
        assert [m.body for m in await queue.receive(max=2)] == [b"1", b"2"]


async def test_calls_do_not_wait_for_ever(door):
    async with connect(door.url, timeout=0.02) as remote:
        await door.close()
        with pytest.raises(Disconnected, match="no connection"):
            while True:
                await remote.queue("q").send(b"x")


async def test_without_resuming_a_lost_connection_stays_lost(door):
    async with connect(door.url, resume=False) as remote:
        consumer = remote.queue("q").consume()
        async with consumer:
            looping = asyncio.ensure_future(anext(aiter(consumer)))
            await door.restart()
            with pytest.raises(Disconnected):
                await looping
        with pytest.raises(Disconnected):
            await remote.queue("q").send(b"x")
        with pytest.raises(Disconnected):
            await remote.queue("q").info()


async def test_calls_under_way_raise_and_reads_are_asked_again(door, broker):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        waiting = asyncio.ensure_future(remote.verbs.receive("q", 1, 60_000))
        await until(lambda: broker.core.queue("q").consumers)
        answers = asyncio.gather(*[queue.info() for _ in range(20)])
        await door.restart()
        with pytest.raises(Disconnected):
            await waiting
        assert len(await answers) == 20


async def test_consumers_resume_and_old_leases_are_lost(door, broker):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        await queue.send_many([b"a", b"b"])
        async with queue.consume(prefetch=4) as messages:
            stream = aiter(messages)
            old = await anext(stream)
            await door.restart()
            with pytest.raises(LeaseLost):
                await old.ack()
            found: dict[bytes, int] = {}
            while len(found) < 2:
                message = await anext(stream)
                found[message.body] = message.receives
                await message.ack()
            assert found[b"a"] == 2
            await queue.send(b"c")
            assert (await anext(stream)).body == b"c"
        assert (await queue.info()).consumers == 0


async def test_a_consumer_is_preferred_and_first_on_every_connection(door, broker):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        async with queue.consume(priority=7, exclusive="preferred") as messages:
            for _ in range(2):
                (consumer,) = broker.core.queue("q").consumers
                assert (consumer.priority, consumer.exclusive) == (7, Exclusivity.PREFERRED)
                await door.restart()
                await queue.send(b"x")
                await (await anext(aiter(messages))).ack()
        async with broker.queue("q").consume(exclusive="sole"):
            with pytest.raises(Conflict):
                await anext(aiter(queue.consume()))


async def test_a_consumer_whose_queue_is_gone_ends(door, broker):
    async with connect(door.url) as remote:
        async with remote.queue("q").consume() as messages:
            await door.close()
            await broker.queue("q").delete()
            await door.open()
            with pytest.raises(NotFound):
                await anext(aiter(messages))


async def test_a_closed_consumer_does_not_come_back(door, broker):
    async with connect(door.url) as remote:
        async with remote.queue("q").consume():
            await door.close()
        await door.open()
        await remote.queue("q").info()
        assert (await broker.queue("q").info()).consumers == 0


async def test_receipts_outlive_the_connection(door):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        await queue.send(b"x")
        (message,) = await queue.receive()
        await door.restart()
        await queue.info()
        await message.ack()
        assert (await queue.info()).messages == 0


# --- a broker that is not ours ---


class Script:
    """A server that answers as the test says."""

    writer: asyncio.StreamWriter

    def __init__(self, heartbeat_ms):
        self.heartbeat_ms = heartbeat_ms
        self.requests: asyncio.Queue = asyncio.Queue()
        self.hellos = 0

    async def serve(self, reader, writer):
        self.writer = writer
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                payload = memoryview(await reader.readexactly(size))
                if payload[1] == O["HELLO"]:
                    self.hellos += 1
                    self.answer(op.Welcome(1, 1, "script", 7, self.heartbeat_ms, {}))
                else:
                    self.requests.put_nowait(frames.decode_request(payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, *replies):
        out = bytearray()
        for reply in replies:
            frames.append_frame(out, reply)
        self.writer.write(out)


@asynccontextmanager
async def scripted(heartbeat_ms=60_000, **options):
    script = Script(heartbeat_ms)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connect(f"braid://127.0.0.1:{port}", **options) as remote:
        yield script, remote
    server.close()


async def test_answers_may_come_in_any_order():
    async with scripted() as (script, remote):
        calls = [asyncio.ensure_future(remote.queue("q").purge()) for _ in range(3)]
        requests = [await script.requests.get() for _ in range(3)]
        for request in reversed(requests):
            script.answer(op.CountReply(request.request, request.request))
        assert await asyncio.gather(*calls) == [request.request for request in requests]
        assert remote.instance == 7


async def test_replies_of_a_later_version_are_skipped():
    async with scripted() as (script, remote):
        call = asyncio.ensure_future(remote.queue("q").purge())
        request = await script.requests.get()
        script.answer((100, request.request), op.Pong(999), op.CountReply(request.request, 1))
        assert await call == 1


async def test_a_cancelled_receive_gives_late_messages_back():
    async with scripted() as (script, remote):
        call = asyncio.ensure_future(remote.verbs.receive("q", 10, 60_000))
        receive = await script.requests.get()
        message = (1, 2, 1, 4, 5, b"", b"body")
        script.answer((O["DELIVER"], receive.request, False, [message]))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        script.answer((O["DELIVER"], receive.request, True, [(3, 4, 1, 4, 5, b"", b"late")]))
        nack = await script.requests.get()
        assert isinstance(nack, op.Nack)
        assert (nack.receipts, nack.counted) == ([(1, 2)], False)
        cancel = await script.requests.get()
        assert (type(cancel), cancel.target) == (op.Cancel, receive.request)
        nack = await script.requests.get()
        assert (nack.queue, nack.receipts, nack.counted) == ("q", [(3, 4)], False)
        script.answer(op.DoneReply(cancel.request))


async def test_a_silent_client_sends_pings():
    async with scripted(heartbeat_ms=20) as (script, _):
        ping = await asyncio.wait_for(script.requests.get(), 10)
        assert isinstance(ping, op.Ping)


async def test_a_silent_broker_is_given_up():
    async with scripted(heartbeat_ms=20) as (script, _):
        await until(lambda: script.hellos >= 2)


async def test_what_the_broker_said_at_the_end_is_told():
    async with scripted(resume=False) as (script, remote):
        call = asyncio.ensure_future(remote.queue("q").purge())
        await script.requests.get()
        script.answer(op.ErrorReply(0, "broker-failed", "the log failed"))
        script.writer.close()
        with pytest.raises(Disconnected, match="the log failed"):
            await call


async def test_request_numbers_wrap_around_and_skip_those_in_use():
    async with scripted() as (script, remote):
        wire = remote._client._wire
        wire._last_request = 0xFFFF_FFFE
        first = asyncio.ensure_future(remote.queue("q").purge())
        assert (await script.requests.get()).request == 0xFFFF_FFFF
        second = asyncio.ensure_future(remote.queue("q").purge())
        assert (await script.requests.get()).request == 1
        wire._last_request = 0xFFFF_FFFE
        third = asyncio.ensure_future(remote.queue("q").purge())
        assert (await script.requests.get()).request == 2
        for number in (0xFFFF_FFFF, 1, 2):
            script.answer(op.CountReply(number, 0))
        await asyncio.gather(first, second, third)


# --- batches ---


async def test_many_calls_at_once(door):
    async with connect(door.url) as remote:
        queue = remote.queue("q")
        sent = await asyncio.gather(*[queue.send(b"%d" % n) for n in range(500)])
        assert [each.sequence for each in sent] == list(range(1, 501))


async def test_a_batch_larger_than_a_frame_takes_several(door):
    async with connect(door.url) as remote:
        big = [Outgoing(bytes(3_000_000)) for _ in range(4)]
        results = await remote.verbs.send("q", [*big, Outgoing(bytes(5_000_000))])
        assert isinstance(results[4], TooLarge)
        assert [each.seq for each in results if isinstance(each, Sent)] == [1, 2, 3, 4]
        assert await remote.verbs.send("q", []) == []
        assert len(await remote.verbs.receive("q", 10, 0)) == 3  # 8 MiB and the one that crosses it
        assert len(await remote.verbs.receive("q", 10, 0)) == 1


async def test_everything_a_message_may_have_arrives(door, broker):
    async with connect(door.url) as remote:
        message = NewMessage(body=b"x", headers={"a": b"b"}, delay=0.01, ttl=3600, priority=9)
        await remote.queue("q").send_many([message])
        (received,) = await remote.queue("q").receive(wait=60)
        assert (received.body, received.headers) == (b"x", {"a": b"b"})


def test_a_client_does_not_load_the_server():
    code = "import sys; from braidmq.protocols import connect; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    server = {"braidmq.protocols.server", "braidmq.broker.core", "braidmq.broker.runtime"}
    assert not loaded & server

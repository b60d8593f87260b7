"""The client's side of topics: subscriptions that outlive their connections, batches, refusals."""

# ruff: noqa: ASYNC110  - these tests wait for what others do
import asyncio

import pytest

from braidmq.broker import Broker, Disconnected, InvalidArgument, Limits, TooLarge
from braidmq.broker.publishing import Posted
from braidmq.broker.verbs import Interest
from braidmq.protocols import connect, serve
from braidmq.protocols.native import client as native
from braidmq.protocols.native.consumption import RemoteSubscription
from tests.ports import kept_port


@pytest.fixture(autouse=True)
def reconnect_quickly(monkeypatch):
    monkeypatch.setattr(native, "_PAUSE_SECONDS_FIRST", 0.001)


class Door:
    """A server that can be closed and opened again at the same port."""

    def __init__(self, broker, port):
        self.broker = broker
        self.url = f"braid://127.0.0.1:{port}"

    async def __aenter__(self):
        self.server = serve(self.broker, self.url, grace=0)
        await self.server.__aenter__()
        self.url = self.server.urls[0]
        return self

    async def __aexit__(self, *_):
        await self.server.__aexit__(None, None, None)

    async def restart(self):
        await self.__aexit__()
        await self.__aenter__()


@pytest.fixture
async def broker():
    async with Broker(limits=Limits(live_queue_messages_max=5)) as broker:
        yield broker


@pytest.fixture
async def door(broker):
    with kept_port() as port:
        async with Door(broker, port) as door:
            yield door


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_subscription_is_made_again(broker, door):
    await broker.publish("r", b"retained", retain=True)
    async with connect(door.url) as remote:
        messages = await remote.verbs.subscribe(Interest(("r", "t")), 10)
        assert (await messages.next())[0].retained
        await door.restart()
        await until(lambda: len(broker.core.sessions) == 1)
        (again,) = await messages.next()  # for a new connection it is a new subscription
        assert (again.body, again.retained) == (b"retained", True)
        await broker.publish("t", b"live")
        assert (await messages.next())[0].body == b"live"
        await messages.close()
        assert not broker.core.sessions


async def test_a_durable_subscription_goes_on_without_loss(broker, door):
    async with connect(door.url) as remote:
        messages = await remote.verbs.subscribe(Interest(("t",), "dash"), 2)
        for number in range(6):
            await broker.publish("t", b"%d" % number)
        (held,) = await messages.next()
        await door.restart()
        bodies: set[bytes] = set()
        while len(bodies) < 6:
            (message,) = await messages.next()
            result = await remote.verbs.ack(message.queue, [message.receipt])
            assert result == [None]
            bodies.add(message.body)
            messages.credit(1)
        assert len(bodies) == 6 and held.body in bodies
        assert (await broker.session("dash")).messages == 0


async def test_what_was_dropped_is_added_up_over_connections(broker, door):
    async with connect(door.url) as remote:
        messages = await remote.verbs.subscribe(Interest(("t",)), 1)
        await broker.publish_many("t", [b"x"] * 10)
        await until(lambda: messages.dropped)
        before = messages.dropped
        assert 4 <= before <= 5
        await door.restart()
        await until(lambda: len(broker.core.sessions) == 1)
        assert messages.dropped == before
        await broker.publish_many("t", [b"x"] * 20)
        await until(lambda: messages.dropped > before)


async def test_without_resuming_a_lost_connection_ends_it(broker, door):
    async with connect(door.url, resume=False) as remote:
        messages = await remote.verbs.subscribe(Interest(("t",)), 1)
        waiting = asyncio.ensure_future(messages.next())
        await door.restart()
        with pytest.raises(Disconnected):
            await waiting
        await messages.close()
        with pytest.raises(Disconnected):
            await remote.verbs.publish("t", [Posted(b"")])


async def test_what_nobody_looked_at_goes_back_uncounted(broker, door):
    async with connect(door.url) as remote:
        messages = await remote.verbs.subscribe(Interest(("t",), "dash"), 10)
        await broker.publish_many("t", [b"1", b"2", b"3"])
        found = await messages.next()
        assert isinstance(messages, RemoteSubscription)
        await until(lambda: len(messages._ready) == 2)
        await messages.close(found)
        messages = await remote.verbs.subscribe(Interest((), "dash"), 10)
        assert messages.resumed
        assert [(await messages.next())[0].receives for _ in range(3)] == [1, 1, 1]


async def test_a_refused_subscription_is_forgotten(broker, door):
    async with connect(door.url) as remote:
        with pytest.raises(InvalidArgument):
            await remote.verbs.subscribe(Interest(("a+",)), 1)
        assert not remote.verbs.flows  # type: ignore[attr-defined]


async def test_a_cancelled_subscribe_leaves_nothing(broker, door):
    async with connect(door.url) as remote:
        subscribing = asyncio.ensure_future(remote.verbs.subscribe(Interest(("t",)), 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        subscribing.cancel()
        await asyncio.gather(subscribing, return_exceptions=True)
        await remote.verbs.list_sessions()
        assert not broker.core.sessions


async def test_large_batches_take_several_frames():
    limits = Limits(frame_bytes_max=300_000, body_bytes_max=200_000)
    async with Broker(limits=limits) as broker, Door(broker, 0) as door:
        async with connect(door.url) as remote:
            posted = [Posted(bytes(100_000), b"", True)] * 5 + [Posted(bytes(200_001))]
            results = await remote.verbs.publish("t" * 1_000, posted)
            assert results[:5] == [0] * 5 and isinstance(results[5], TooLarge)
            assert broker.core.topics.published == 5

"""A consumer that outlives its connections, on wires that take notes."""

import asyncio

import pytest

from braidmq.broker.errors import Disconnected, NotFound
from braidmq.broker.lease import Exclusivity
from braidmq.broker.message import Delivery
from braidmq.protocols.native.consumption import RemoteConsumption


class Wire:
    """A connection that takes notes."""

    def __init__(self, loop):
        self.loop = loop
        self.pending = {}
        self.consumers = {}
        self.lost = loop.create_future()
        self.sent = []
        self._last = 0

    def new_request(self):
        self._last += 1
        return self._last

    def send(self, message):
        self.sent.append(message)

    def call(self, operation, *fields):
        self.sent.append((operation, self.new_request(), *fields))
        done = self.loop.create_future()
        done.set_result(None)
        return done


class Client:
    """A client that keeps count."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.resumes = True
        self.forgotten = []

    def forget(self, consumption):
        self.forgotten.append(consumption)


def message(seq):
    return Delivery(seq, seq, 1, seq, 0, b"", b"x")


@pytest.fixture
async def client():
    return Client()


@pytest.fixture
async def wire(client):
    return Wire(client.loop)


@pytest.fixture
async def consumption(client, wire):
    consumption = RemoteConsumption(client, "q", 10, "a = 1", 5, Exclusivity.PREFERRED)
    consumption.attach(wire)
    return consumption


async def test_it_asks_for_its_credit(consumption, wire):
    assert wire.sent == [(5, 1, "q", 10, "a = 1", 5, 1)]
    consumption.credit(3)
    assert wire.sent[1:] == [(6, 1, 3)]


async def test_messages_come_one_by_one(consumption):
    consumption.put([message(1), message(2)])
    assert [m.seq for m in await consumption.next()] == [1]
    assert [m.seq for m in await consumption.next()] == [2]
    waiting = asyncio.ensure_future(consumption.next())
    await asyncio.sleep(0)
    consumption.put([message(3)])
    assert [m.seq for m in await waiting] == [3]


async def test_on_a_new_connection_it_asks_for_what_nobody_will_use(consumption, client):
    consumption.put([message(1), message(2), message(3)])
    await consumption.next()
    consumption.detach()
    consumption.credit(2)
    wire = Wire(client.loop)
    consumption.attach(wire)
    # 10 at first, 1 in somebody's hands, 2 more allowed meanwhile.
    assert wire.sent == [(5, 1, "q", 11, "a = 1", 5, 1)]
    assert not client.forgotten


async def test_messages_of_the_old_connection_are_dropped(consumption, client):
    consumption.put([message(1)])
    consumption.detach()
    consumption.attach(Wire(client.loop))
    consumption.put([message(2)])
    assert [m.seq for m in await consumption.next()] == [2]


async def test_a_client_that_does_not_resume_ends_it(consumption, client):
    client.resumes = False
    consumption.detach()
    with pytest.raises(Disconnected):
        await consumption.next()
    assert client.forgotten == [consumption]


async def test_the_broker_ends_it(consumption):
    waiting = asyncio.ensure_future(consumption.next())
    await asyncio.sleep(0)
    consumption.end(NotFound("gone"))
    with pytest.raises(NotFound):
        await waiting
    consumption.credit(1)
    await consumption.close()


async def test_an_error_to_the_consume_ends_it(consumption, wire):
    wire.pending[1].set_exception(NotFound("no such queue"))
    await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await consumption.next()


async def test_a_lost_connection_before_the_answer_does_not_end_it(consumption, wire):
    wire.pending[1].set_exception(Disconnected("gone"))
    await asyncio.sleep(0)
    consumption.put([message(1)])
    assert len(await consumption.next()) == 1


async def test_closing_gives_back_what_nobody_looked_at(consumption, wire, client):
    consumption.put([message(1), message(2)])
    await consumption.next()
    await consumption.close([(9, 9)])
    assert wire.sent[-1] == (7, 2, 1, [(9, 9), (2, 2)])
    assert client.forgotten == [consumption]
    assert not wire.consumers
    await consumption.close()
    assert len(wire.sent) == 2


async def test_closing_without_a_connection_asks_nobody(consumption, wire):
    consumption.detach()
    await consumption.close()
    assert len(wire.sent) == 1


async def test_an_abandoned_one_is_cancelled(consumption, wire, client):
    consumption.abandon()
    assert wire.sent[-1] == (7, 2, 1, [])
    assert client.forgotten == [consumption]

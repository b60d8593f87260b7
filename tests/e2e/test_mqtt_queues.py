"""Queues from MQTT: ``$queue/NAME`` to send to and to consume from, beside every other client."""

from asyncio import to_thread
from contextlib import asynccontextmanager

from braidmq.broker import Broker
from braidmq.broker.access import Rule, User
from braidmq.broker.passwords import hash_password
from braidmq.protocols import serve
from tests.conformance.client import Client
from tests.conformance.conftest import address_of
from tests.conformance.packets import USER_PROPERTY

NOT_AUTHORIZED, TOPIC_NAME_INVALID, ADMINISTRATIVE_ACTION = 0x87, 0x90, 0x98
EVERYTHING = Rule("allow", ("*",), ("*",))


@asynccontextmanager
async def client_of(server, name, **options):
    """A client that is connected."""
    client = Client(address_of(server.urls[0]))
    try:
        await to_thread(client.connect, name, **options)
        yield client
    finally:
        client.close()


async def test_puback_is_for_the_queue_what_ack_is():
    async with Broker() as broker, serve(broker, "mqtt://127.0.0.1:0") as server:
        jobs = await broker.declare_queue("jobs", max_receives=2, dead_letter="dead")
        async with client_of(server, "sender") as sender:
            table = [(USER_PROPERTY, ("table", "7"))]
            await to_thread(sender.publish, "$queue/jobs", "one", properties=table)
            await to_thread(sender.publish, "$queue/jobs", "two", qos=2)
            refused = await to_thread(sender.publish, "$queue/none", "x")
            assert refused.reason == TOPIC_NAME_INVALID
        async with client_of(server, "worker") as worker:
            assert await to_thread(worker.subscribe, "$queue/jobs", qos=2) == [1]
            first = await to_thread(worker.receive)
            assert (first.topic, first.payload, first.qos) == ("$queue/jobs", b"one", 1)
            assert first.get(USER_PROPERTY) == ("table", "7")
            assert (await to_thread(worker.receive, acknowledge=False)).payload == b"two"
            await to_thread(worker.settle)
            assert (await jobs.info()).in_flight == 1
        [again] = await jobs.receive(wait=10)
        assert (again.body, again.receives) == (b"two", 2)
        await again.nack()
        [dead] = await broker.queue("dead").receive(wait=10)
        assert dead.body == b"two"


async def test_who_loses_the_right_gives_back_what_it_holds_and_destroys_nothing():
    before = User("m", hash_password("secret"), (EVERYTHING,))
    after = User("m", before.password_hash, (EVERYTHING, Rule("deny", ("queue:Receive",), ("*",))))
    async with (
        Broker(users=[before]) as broker,
        serve(broker, "mqtt://127.0.0.1:0") as server,
        client_of(server, "worker", username="m", password="secret") as worker,
    ):
        jobs = await broker.declare_queue("jobs")
        await to_thread(worker.subscribe, "$queue/jobs", qos=1)
        broker.access.replace([after])
        await jobs.send(b"one")
        await to_thread(worker.quiet)
        [message] = await jobs.receive(wait=10)
        assert message.body == b"one"
        assert await to_thread(worker.subscribe, "$queue/jobs") == [NOT_AUTHORIZED]


async def test_subscribing_again_changes_options_and_a_deleted_queue_ends_the_connection():
    async with Broker() as broker, serve(broker, "mqtt://127.0.0.1:0") as server:
        for body in (b"one", b"two"):
            async with client_of(server, "worker", clean=False) as worker:
                assert await to_thread(worker.subscribe, "$queue/jobs") == [NOT_AUTHORIZED]
                jobs = await broker.declare_queue("jobs")
                assert await to_thread(worker.subscribe, "$queue/jobs", qos=1) == [1]
                assert await to_thread(worker.subscribe, "$queue/jobs", qos=0) == [0]
                await jobs.send(body)
                message = await to_thread(worker.receive)
                assert (message.payload, message.qos) == (body, 0)
                assert await to_thread(worker.unsubscribe, "$queue/jobs") == [0]
                assert await to_thread(worker.subscribe, "$queue/jobs", qos=1) == [1]
                await jobs.delete()
                await to_thread(worker.closed, ADMINISTRATIVE_ACTION)

"""Messages that cross between clients of STOMP: every library, version and transport to each."""

import asyncio

import pytest

from .kinds import KINDS, here

HEADERS = {"content-type": "text/plain; charset=utf-8", "type": "letter", "größe": "12"}
TEXT = "grüße, ☃".encode()
BYTES = bytes(range(256))

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
every_requester = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if "unasked" in kind.can], ids=str
)


@each_kind
async def test_each_is_heard_by_every_other(kind, activemq, enter):
    listeners = await asyncio.gather(*(enter(other, activemq) for other in here()))
    for listener in listeners:
        await listener.subscribe("/topic/all")
        await listener.subscribe(f"/queue/{listener.kind}", ack="client-individual")
    client = await enter(kind, activemq)
    await client.send("/topic/all", TEXT, **HEADERS)
    for listener in listeners:
        await client.send(f"/queue/{listener.kind}", TEXT, **HEADERS)
        found = await listener.receive_all(2)
        pair = f"{kind} to {listener.kind}"
        wanted = {"/topic/all", f"/queue/{listener.kind}"}
        assert {each.destination for each in found} == wanted, pair
        for message in found:
            assert message.body == TEXT, pair
            assert {name: message.headers.get(name) for name in HEADERS} == HEADERS, pair
            if message.destination != "/topic/all":
                await listener.ack(message)
        assert listener.inbox.empty()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "sends-bytes" in kind.can], ids=str)
async def test_any_bytes_are_heard_by_every_other(kind, activemq, enter):
    able = [other for other in here() if "reads-bytes" in other.can]
    listeners = await asyncio.gather(*(enter(other, activemq) for other in able))
    for listener in listeners:
        await listener.subscribe("/topic/all")
    client = await enter(kind, activemq)
    await client.send("/topic/all", BYTES)
    for listener in listeners:
        assert (await listener.receive()).body == BYTES, f"{kind} to {listener.kind}"


@every_requester
async def test_each_is_answered_by_every_other(kind, activemq, enter):
    """ActiveMQ: the requester subscribes to a temporary queue."""
    client = await enter(kind, activemq)
    await client.subscribe("/temp-queue/answers")
    for other in here():
        responder = await enter(other, activemq)
        await responder.subscribe(f"/queue/{other}")
        question = {"reply-to": "/temp-queue/answers", "correlation-id": "7"}
        await client.send(f"/queue/{other}", b"what is it", **question)
        request = await responder.receive()
        known = {"correlation-id": request.headers["correlation-id"]}
        await responder.send(request.headers["reply-to"], TEXT, **known)
        answer = await client.receive()
        assert (answer.body, answer.headers["correlation-id"]) == (TEXT, "7"), f"{kind}, {other}"


@every_requester
async def test_each_is_answered_in_a_queue_that_it_did_not_subscribe_to(kind, rabbitmq, enter):
    """RabbitMQ: the queue that a reply-to names comes into being, and so does a subscription."""
    client = await enter(kind, rabbitmq)
    for other in here():
        responder = await enter(other, rabbitmq)
        await responder.subscribe(f"/queue/{other}")
        await client.send(f"/queue/{other}", b"what is it", **{"reply-to": "/temp-queue/answers"})
        request = await responder.receive()
        assert request.headers["reply-to"].startswith("/reply-queue/")
        await responder.send(request.headers["reply-to"], TEXT)
        answer = await client.receive()
        assert answer.body == TEXT, f"{kind}, {other}"
        assert answer.headers["subscription"] == "/temp-queue/answers"

"""The same message seen from MQTT, the native protocol and STOMP: pairwise, in all directions."""

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from braidmq.broker.config import Listener
from braidmq.broker.stomp_options import StompOptions

from .kinds import KINDS
from .parties import PARTIES, Letter

PLAIN = Letter(
    "grüße, ☃\0".encode() + bytes(range(256)),
    {
        "content-type": "text/plain; charset=utf-8",
        "correlation-id": "number 7: of 9",
        "reply-to": "answers/me",
        "group-id": "truck-7",
        "group-sequence": "3",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "colour": "red",
        "größe": "a:b\\c\nd",
        "x-empty": "",
    },
)
LETTERS = {
    "all that there is": PLAIN,
    "no more than a body": Letter(b"\0", lives=False),
}

posts = pytest.mark.parametrize("sender", PARTIES)
letters = pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)


@pytest.fixture
async def parties(start_stomp):
    rabbitmq = Listener(url="stomp://127.0.0.1:0", stomp=StompOptions(dialect="rabbitmq"))
    served = await start_stomp("activemq", rabbitmq, "mqtt://127.0.0.1:0", "braid://127.0.0.1:0")
    async with AsyncExitStack() as stack:
        found = {name: make(served, stack) for name, make in PARTIES.items()}
        for party in found.values():
            await party.enter()
        yield served.broker, found


def same(seen: dict[str, Letter], letter: Letter) -> None:
    """All saw the letter, and those who see ids and times to live the same of them."""
    ids = {each.id for each in seen.values() if each.id}
    assert len(ids) == 1
    for name, each in seen.items():
        assert each.body == letter.body, name
        assert each.headers == letter.headers, name
        assert each.lives in (letter.lives, None), name
    assert {name for name in seen if seen[name].id} == {*PARTIES} - {"mqtt"}


@posts
@letters
async def test_of_a_topic(sender, letter, parties):
    _, found = parties
    for party in found.values():
        await party.watch("letters/one")
    await found[sender].publish("letters/one", letter)
    same({name: await party.see() for name, party in found.items()}, letter)


@posts
@letters
async def test_of_a_queue(sender, letter, parties):
    broker, found = parties
    await broker.declare_queue("letters", group_affinity=True)
    await found[sender].send("letters", letter)
    order = sorted(found, key=lambda name: name == "mqtt")  # it takes the message
    same({name: await found[name].look("letters") for name in order}, letter)


@posts
async def test_of_a_topic_in_a_queue_that_is_bound_to_it(sender, parties):
    broker, found = parties
    await broker.declare_queue("letters", group_affinity=True)
    await broker.bind("letters/#", queue="letters")
    await found[sender].publish("letters/one", PLAIN)
    order = sorted(found, key=lambda name: name == "mqtt")
    same({name: await found[name].look("letters") for name in order}, PLAIN)


async def test_bytes_as_correlation_data_come_back_from_a_service_of_stomp(parties):
    _, found = parties
    service, client = found["stomp-activemq"], found["mqtt"]
    question = Letter(b"?", {"reply-to": "answers/me", "correlation-id": b"\xff\0\x01"})
    await service.watch("questions")
    await client.watch("answers/me")
    await client.publish("questions", question)
    asked = await service.see()
    known = {"correlation-id": asked.headers["correlation-id"]}
    await service.publish(str(asked.headers["reply-to"]), Letter(b"!", known))
    answer = await client.see()
    assert answer == replace(answer, body=b"!", headers={"correlation-id": b"\xff\0\x01"})


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_of_every_client_of_stomp_and_mqtt(kind, parties, enter):
    broker, found = parties
    mqtt = found["mqtt"]
    await broker.declare_queue("letters")
    client = await enter(kind, mqtt.served)
    own = {"content-type": "text/plain", "correlation-id": "7", "colour": "red"}
    for destination, topic in (("/topic/a.b", "a/b"), ("/queue/letters", "$queue/letters")):
        id = await client.subscribe(destination)
        await mqtt.publish(topic, Letter(b"to stomp", own))
        came = await client.receive()
        assert (came.destination, came.body) == (destination, b"to stomp")
        assert {name: came.headers[name] for name in own} == own
        await client.unsubscribe(id)
        await mqtt.watch(topic)
        await client.send(destination, b"to mqtt", **own)
        seen = await mqtt.see()
        seen_headers = {name: seen.headers[name] for name in own}
        assert (seen.body, seen_headers) == (b"to mqtt", own)

"""Messages that cross between clients: every library, version and transport to every other.

What one writes is often read only by its own kind in tests; the pairs find where two of them
understand the protocol differently, and whether one encoding serves them all.
"""

import asyncio

import pytest

from .facade import NONE, V5, Kind, Message, Properties, fresh_id
from .kinds import KINDS, WITH_PROPERTIES

# A name stands twice, and together: MQTT.js keeps the values of a name in one list.
PROPERTIES = Properties(
    content_type="text/plain; charset=utf-8",
    response_topic="answers/to/me",
    correlation=b"number-7",
    text=True,
    user=(("seen", "first"), ("seen", "again"), ("zwölf", "12")),
)


def here(kinds: list[Kind]) -> list[Kind]:
    """Those that can run here."""
    return [kind for kind in kinds if not kind.missing()]


@pytest.mark.parametrize("publisher", KINDS, ids=str)
async def test_each_is_heard_by_every_other(publisher, join):
    topic = "straße/☃"
    listeners = await asyncio.gather(*(join(kind) for kind in here(KINDS)))
    await asyncio.gather(*(listener.subscribe(topic, 2) for listener in listeners))
    client = await join(publisher)
    sent = [Message(topic, bytes(range(256)) * (qos * 50 + 1), qos) for qos in (0, 1, 2)]
    for message in sent:
        await client.publish(message.topic, message.payload, message.qos)
    for listener in listeners:
        found = await listener.receive_all(3)
        # QoS 0 may overtake or be overtaken
        found.sort(key=lambda message: message.qos)
        assert [(each.topic, each.payload, each.qos, each.retain) for each in found] == [
            (each.topic, each.payload, each.qos, False) for each in sent
        ], f"{publisher} to {listener.kind}"
        assert listener.inbox.empty()


@pytest.mark.parametrize("publisher", WITH_PROPERTIES, ids=str)
async def test_properties_pass_through_untouched(publisher, join):
    listeners = await asyncio.gather(*(join(kind) for kind in here(KINDS)))
    await asyncio.gather(*(listener.subscribe("a/b", 1) for listener in listeners))
    client = await join(publisher)
    await client.publish("a/b", "größer".encode(), 1, properties=PROPERTIES)
    for listener in listeners:
        found = await listener.receive()
        wanted = PROPERTIES if "properties" in listener.kind.can else NONE
        assert found.properties == wanted, f"{publisher} to {listener.kind}"


@pytest.mark.parametrize("subscriber", WITH_PROPERTIES, ids=str)
async def test_properties_are_kept_with_what_is_retained_and_what_waits(subscriber, join, clients):
    publisher = await join(here(WITH_PROPERTIES)[0])
    name = fresh_id()
    again = {"client_id": name, "clean": False, "expiry_seconds": 3600}
    client = await join(subscriber, **again)
    await client.subscribe("a/#", 1)
    await clients.leave(client)
    await publisher.publish("a/b", b"x", 1, retain=True, properties=PROPERTIES)
    for options in (again, {}):
        client = await join(subscriber, **options)
        if not options:
            await client.subscribe("a/#", 1)
        assert (await client.receive()).properties == PROPERTIES
        await client.settle()
        await clients.leave(client)


@pytest.mark.parametrize("requester", WITH_PROPERTIES, ids=str)
async def test_request_and_response(requester, join):
    asks = await join(requester)
    await asks.subscribe("answers/+", 1)
    for responder in here(WITH_PROPERTIES):
        answers = await join(responder)
        await answers.subscribe(f"requests/{responder}", 1)
        for number in (b"1", b"2"):
            wanted = Properties(response_topic="answers/here", correlation=number)
            await asks.publish(f"requests/{responder}", b"what is it", 1, properties=wanted)
        for _ in range(2):
            request = await answers.receive()
            kept = Properties(correlation=request.properties.correlation)
            await answers.publish(request.properties.response_topic, b"it", 1, properties=kept)
        found = await asks.receive_all(2)
        assert [each.properties.correlation for each in found] == [b"1", b"2"], responder


@pytest.mark.parametrize("kind", KINDS, ids=str)
async def test_a_session_is_kept_for_another_library(kind, join, clients):
    """The client id and not the library makes a session."""
    name = fresh_id()
    client = await join(
        kind, client_id=name, clean=False, expiry_seconds=3600 * (kind.version == V5)
    )
    await client.subscribe("a", 1)
    await clients.vanish(client)
    publisher = await join(KINDS[1])
    await publisher.publish("a", b"kept", 1)
    heir = KINDS[(KINDS.index(kind) + 5) % 10]  # of another library, and always here
    client = await join(
        heir, client_id=name, clean=False, expiry_seconds=3600 * (heir.version == V5)
    )
    assert (await client.receive()).payload == b"kept"

"""What MQTT 5 added, with those clients that can do it."""

import asyncio

import pytest

from .facade import V5, Message, Properties, fresh_id
from .kinds import KINDS, WITH_PROPERTIES, kind_named

OBSERVER = kind_named("paho-v5")


def who_can(*abilities):
    kinds = [kind for kind in KINDS if kind.version == V5 and {*abilities} <= kind.can]
    return pytest.mark.parametrize("kind", kinds, ids=str)


with_properties = pytest.mark.parametrize("kind", WITH_PROPERTIES, ids=str)


@who_can("aliases-out")
async def test_a_client_uses_topic_aliases(kind, join):
    observer = await join(OBSERVER)
    await observer.subscribe("#", 1)
    client = await join(kind)
    alias = Properties(alias=3)
    await client.publish("a/long/topic", b"1", 1, properties=alias)
    await client.publish("", b"2", 1, properties=alias)
    await client.publish("another", b"3", 1, properties=alias)
    await client.publish("", b"4", 1, properties=alias)
    found = await observer.receive_all(4)
    assert [(each.topic, each.payload) for each in found] == [
        ("a/long/topic", b"1"),
        ("a/long/topic", b"2"),
        ("another", b"3"),
        ("another", b"4"),
    ]
    # An alias belongs to a connection.
    assert all(each.properties.alias is None for each in found)


@who_can("aliases-in")
async def test_the_broker_uses_topic_aliases_as_far_as_it_may(kind, join):
    client = await join(kind, aliases=2)
    await client.subscribe("#")
    publisher = await join(OBSERVER)
    topics = [f"a/{number}" for number in (1, 1, 2, 2, 3, 3, 1, 2)]
    for topic in topics:
        await publisher.publish(topic, topic.encode(), 0)  # what may be sent again has none
    found = await client.receive_all(len(topics))
    assert [(each.topic, each.payload.decode()) for each in found] == [(t, t) for t in topics]
    used = [each.properties.alias for each in found]
    assert {1, 2} <= {*used} <= {None, 1, 2}


@who_can("identifiers")
async def test_subscription_identifiers_tell_which_subscriptions_match(kind, join):
    client = await join(kind)
    await client.subscribe("a/#", 1, identifier=7)
    await client.subscribe("a/+", 0, identifier=268_435_455)
    await client.subscribe("a/b", 1)
    await client.publish("a/b", b"x", 1)
    await client.publish("a/b/c", b"y", 1)
    both, one = await client.receive_all(2)
    assert sorted(both.properties.identifiers) == [7, 268_435_455]
    assert one.properties.identifiers == (7,)


@who_can("tell-present")
async def test_a_session_without_expiry_ends_with_its_connection(kind, join, clients):
    name = fresh_id()
    client = await join(kind, client_id=name, clean=False)
    await client.subscribe("a", 1)
    await clients.leave(client)
    await join(kind, client_id=name, clean=False)
    assert not clients.present


async def test_an_expired_message_is_not_delivered(join, clients):
    kinds = [kind for kind in WITH_PROPERTIES if not kind.missing()]
    again = [{"client_id": fresh_id(), "clean": False, "expiry_seconds": 3600} for _ in kinds]
    for kind, options in zip(kinds, again, strict=True):
        client = await join(kind, **options)
        await client.subscribe("a/#", 1)
        await clients.leave(client)
    publisher = await join(OBSERVER)
    await publisher.publish("a/short", b"1", 1, True, Properties(expiry_seconds=1))
    await publisher.publish("a/long", b"2", 1, True, Properties(expiry_seconds=600))
    await asyncio.sleep(1.1)  # an expiry has whole seconds, and is not early
    for kind, options in zip(kinds, again, strict=True):
        for client in (await join(kind, **options), await join(kind)):
            if client.options.clean:
                await client.subscribe("a/#", 1)
            found = await client.receive()
            # [MQTT-3.3.2-6]: less the time it waited
            left = found.properties.expiry_seconds
            assert found.topic == "a/long" and left is not None and 500 < left < 600, kind
            assert client.inbox.empty()


@with_properties
async def test_a_will_has_properties(kind, join, clients):
    observer = await join(OBSERVER)
    await observer.subscribe("will", 2)
    properties = Properties(content_type="text/plain", user=(("a", "1"), ("a", "2")))
    client = await join(kind, will=Message("will", b"gone", 2, properties=properties))
    await clients.vanish(client)
    assert await observer.receive() == Message("will", b"gone", 2, properties=properties)


@who_can("tell-end")
async def test_who_is_taken_over_is_told(kind, join):
    name = fresh_id()
    first = await join(kind, client_id=name)
    second = await join(kind, client_id=name)
    assert await asyncio.wait_for(first.ended, 20) == 0x8E
    assert not second.ended.done()


@who_can("tell-publish")
async def test_a_publication_that_cannot_be_is_refused(kind, join):
    client = await join(kind)
    with pytest.raises(Exception) as refused:
        await client.publish("$SYS/mine", b"x", 1)
    assert getattr(refused.value, "code", None) in (0x87, 0x90)
    await client.publish("mine", b"x", 1)

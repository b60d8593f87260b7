"""What MQTT is used for, with every client that we did not write.

Each test runs once for every library, version and transport of `kinds.py`, so a test here uses only
what all of them can do.
"""

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.passwords import hash_password

from .facade import V5, Kind, Login, Message, Refused, fresh_id
from .kinds import KINDS, kind_named

OBSERVER = kind_named("paho-v5")
EVERYTHING = (Rule("allow", ("*",), ("*",)),)

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=str)


def durable(kind: Kind, client_id: str) -> dict[str, object]:
    return {"client_id": client_id, "clean": False, "expiry_seconds": 3600 * (kind.version == V5)}


def plain(message: Message) -> tuple[str, bytes, int, bool]:
    return message.topic, message.payload, message.qos, message.retain


async def test_it_says_who_it_is_and_is_let_in(kind, start, clients):
    users = [User("alice", hash_password("s3cret", kind="scrypt"), EVERYTHING)]
    served = await start(users=users)
    client = await clients.join(kind, served.url(kind), login=Login("alice", "s3cret"))
    await client.subscribe("a", 1)
    await client.publish("a", b"x", 1)
    assert plain(await client.receive()) == ("a", b"x", 1, False)


async def test_a_wrong_password_is_refused_with_the_reason(kind, start, clients):
    users = [User("alice", hash_password("s3cret", kind="scrypt"), EVERYTHING)]
    served = await start(users=users)
    for login in (Login("alice", "wrong"), Login("nobody", "s3cret")):
        with pytest.raises(Refused) as refused:
            await clients.join(kind, served.url(kind), login=login)
        # [MQTT-3.1.4-2] of 5, table 3.1 of 3.1.1: bad user name or password
        assert refused.value.code == (0x86 if kind.version == V5 else 4)


async def test_nobody_is_let_in_where_there_are_users(kind, start, clients):
    served = await start(users=[User("alice", hash_password("s3cret", kind="scrypt"), EVERYTHING)])
    with pytest.raises(Refused) as refused:
        await clients.join(kind, served.url(kind))
    assert refused.value.code == (0x87 if kind.version == V5 else 5)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_it_hears_itself(kind, join, qos):
    client = await join(kind)
    assert await client.subscribe("a/b", qos) == qos
    await client.publish("a/b", bytes(range(256)), qos)
    assert plain(await client.receive()) == ("a/b", bytes(range(256)), qos, False)


async def test_the_lower_quality_of_the_two_counts(kind, join):
    client = await join(kind)
    await client.subscribe("a", 1)
    for qos in (2, 1, 0):
        await client.publish("a", b"%d" % qos, qos)
        assert plain(await client.receive()) == ("a", b"%d" % qos, min(qos, 1), False)


async def test_wildcards(kind, join):
    publisher = await join(OBSERVER)
    one = await join(kind)
    await one.subscribe("a/+/c", 1)
    many = await join(kind)
    await many.subscribe("a/#", 1)
    for topic in ("a/b/c", "a/b", "x", "a", "a//c"):
        await publisher.publish(topic, b"1", 1)
    assert [each.topic for each in await one.receive_all(2)] == ["a/b/c", "a//c"]
    assert [each.topic for each in await many.receive_all(4)] == ["a/b/c", "a/b", "a", "a//c"]
    assert one.inbox.empty() and many.inbox.empty()


async def test_a_retained_message_waits_for_it_until_it_is_cleared(kind, join):
    client = await join(kind)
    await client.publish("status/a", b"old", 1, retain=True)
    await client.publish("status/a", b"new", 1, retain=True)
    await client.subscribe("status/+", 1)
    assert plain(await client.receive()) == ("status/a", b"new", 1, True)
    await client.publish("status/a", b"", 1, retain=True)
    assert plain(await client.receive()) == ("status/a", b"", 1, False)
    late = await join(OBSERVER)
    await late.subscribe("status/+", 1)
    await client.publish("status/barrier", b"", 1)
    assert (await late.receive()).topic == "status/barrier"


async def test_its_will_is_published_when_it_vanishes_and_not_when_it_leaves(kind, join, clients):
    observer = await join(OBSERVER)
    await observer.subscribe("will/#", 1)
    will = Message("will/a", b"gone", 1)
    client = await join(kind, will=will)
    await clients.leave(client)
    client = await join(kind, will=will)
    await clients.vanish(client)
    # mosquitto_sub can only be left by a signal, and then leaves with reason 4: publish the will.
    for _ in range(1 + ("leave-with-will" in kind.can)):
        assert plain(await observer.receive()) == ("will/a", b"gone", 1, False)
    assert observer.inbox.empty()


async def test_a_durable_session_keeps_what_comes_meanwhile(kind, join, clients):
    name = fresh_id()
    client = await join(kind, **durable(kind, name))
    assert await client.subscribe("offline/#", 1) == 1
    await clients.vanish(client)
    publisher = await join(OBSERVER)
    for number in range(20):
        await publisher.publish(f"offline/{number}", b"%d" % number, number % 3)
    client = await join(kind, **durable(kind, name))
    if "tell-present" in kind.can:
        assert clients.present
    kept = [number for number in range(20) if number % 3]
    found = await client.receive_all(len(kept))
    assert [each.payload for each in found if each.qos] == [b"%d" % number for number in kept]
    # It goes on with what is published now, and all was acknowledged.
    await publisher.publish("offline/live", b"live", 1)
    assert (await client.receive()).payload == b"live"
    await client.settle()
    await clients.leave(client)
    client = await join(kind, **durable(kind, name))
    await publisher.publish("offline/last", b"last", 1)
    assert (await client.receive()).payload == b"last"


async def test_a_clean_session_forgets(kind, join, clients):
    name = fresh_id()
    client = await join(kind, **durable(kind, name))
    await client.subscribe("a", 1)
    await clients.leave(client)
    client = await join(kind, client_id=name)
    if "tell-present" in kind.can:
        assert not clients.present
    await (await join(OBSERVER)).publish("a", b"for nobody", 1)
    await client.subscribe("b", 1)
    await client.publish("b", b"barrier", 1)
    assert (await client.receive()).payload == b"barrier"


async def test_a_shared_subscription_divides(kind, join):
    members = [await join(kind) for _ in range(2)]
    for member in members:
        member.inbox = members[0].inbox
        assert await member.subscribe("$share/group/work/#", 1) == 1
    outside = await join(kind)
    await outside.subscribe("work/#", 1)
    payloads = [b"%d" % number for number in range(20)]
    await outside.publish_all("work/x", payloads, 1)
    assert [each.payload for each in await outside.receive_all(20)] == payloads
    # Each message goes to one of the two, and only to one.
    divided = await members[0].receive_all(20)
    assert sorted(each.payload for each in divided) == sorted(payloads)
    await outside.publish("work/barrier", b"", 1)
    assert (await members[0].receive()).topic == "work/barrier"


async def test_a_large_payload(kind, join):
    client = await join(kind)
    await client.subscribe("large", 1)
    payload = bytes(range(256)) * 3600  # 900 KiB
    await client.publish("large", payload, 1)
    assert (await client.receive()).payload == payload


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_thousand_quick_messages_arrive_in_order(kind, join, qos):
    client = await join(kind)
    await client.subscribe("quick", qos)
    payloads = [b"%d" % number for number in range(1000)]
    await client.publish_all("quick", payloads, qos)
    assert [each.payload for each in await client.receive_all(1000)] == payloads

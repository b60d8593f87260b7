"""Who may see what, on every way by which a message reaches a client, and after rights changed.

The holes that brokers had were never in the rule but in a path that did not ask: retained messages,
what waited for a session, wills, shares, wildcards. So here is every path, with clients that we did
not write, and the rules are changed under them while they are connected.
"""

import asyncio
import contextlib

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.passwords import hash_password

from .facade import V5, Login, Message, Refused, fresh_id
from .kinds import KINDS, kind_named

WORD = "a good password"
HASH = hash_password(WORD, kind="scrypt")
ADMIN = User("admin", HASH, (Rule("allow", ("*",), ("*",)),))
PAHO = kind_named("paho-v5")

# One client of each version; mosquitto cannot do without a subscription of its own.
EVES = [
    kind_named(name) for name in ("paho-v31", "aiomqtt-v311", "gmqtt-v5", "mqttjs-v5-websocket")
]

eves = pytest.mark.parametrize("kind", EVES, ids=str)


def eve(*rules):
    """A user who may connect and publish, and what these rules say of subscribing."""
    connect = Rule("allow", ("session:Connect", "topic:Publish"), ("*",))
    return User("eve", HASH, (connect, *rules))


def allow(*names):
    return Rule("allow", ("topic:Subscribe",), names)


def deny(*names):
    return Rule("deny", ("topic:Subscribe",), names)


DENIED = eve(allow("*"), deny("secret/#"))


class World:
    """A broker with an administrator and eve, whose rights can be changed."""

    def __init__(self, served, clients):
        self.served = served
        self.clients = clients

    async def join(self, kind, user="eve", **options):
        login = Login(user, WORD)
        return await self.clients.join(kind, self.served.url(kind), login=login, **options)

    async def administrator(self):
        return await self.join(PAHO, "admin")

    def now_may(self, *users):
        self.served.broker.access.replace([ADMIN, *users])


@pytest.fixture
async def world(start, clients):
    async def make(*users):
        return World(await start(users=[ADMIN, *users]), clients)

    return make


def refusal(kind):
    """What a SUBACK says of a filter that is not allowed."""
    return 0x87 if kind.version == V5 else 0x80


def durable(kind):
    return {"client_id": fresh_id(), "clean": False, "expiry_seconds": 3600 * (kind.version == V5)}


async def topics(client, last):
    """The topics of what came, up to the message that is always let through."""
    seen: list[str] = []
    while not seen or seen[-1] != last:
        seen.append((await client.receive()).topic)
    return seen


# --- a deny holds on every path ---


@eves
async def test_what_is_denied_cannot_be_subscribed(kind, world):
    world = await world(eve(allow("open/#", "part/a"), deny("open/secret/#")))
    client = await world.join(kind)
    for filter in ("open/secret/#", "open/secret/x", "#", "+/x", "secret", "part/+", "$SYS/#"):
        assert await client.subscribe(filter, 1) == refusal(kind), filter
    for filter in ("$share/g/secret/x", "$share/g/#", "$share/g/open/secret/x", "$queue/orders"):
        assert await client.subscribe(filter, 1) == refusal(kind), filter
    assert await client.subscribe("open/#", 1) == 1
    assert await client.subscribe("$share/g/open/+", 1) == 1


FILTERS = ["#", "+/x", "secret/+", "$share/g/#"]


@eves
@pytest.mark.parametrize("filter", FILTERS)
async def test_live_messages(kind, world, filter):
    rules = (allow("*"), deny("secret/x"))
    world = await world(eve(*rules))
    client = await world.join(kind)
    publisher = await world.administrator()
    # "secret/+" covers what is denied and more, so it is let in, and the message is not.
    last = "secret/y" if filter == "secret/+" else "open/x"
    for qos in (0, 1, 2):
        assert await client.subscribe(filter, qos) == qos
        await publisher.publish("secret/x", b"no", qos)
        await publisher.publish(last, b"yes", qos)
        assert await topics(client, last) == [last]


@eves
async def test_retained_messages(kind, world):
    world = await world(DENIED)
    publisher = await world.administrator()
    for topic in ("open/a", "secret/a", "secret", "secret/b"):
        await publisher.publish(topic, b"x", 1, retain=True)
    client = await world.join(kind)
    assert await client.subscribe("#", 1) == 1
    assert await client.subscribe("secret/+", 1) == refusal(kind)
    await publisher.publish("last", b"", 1)
    assert await topics(client, "last") == ["open/a", "last"]


@eves
async def test_what_waited_for_a_session(kind, world):
    world = await world(DENIED)
    options = durable(kind)
    client = await world.join(kind, **options)
    await client.subscribe("#", 1)
    await world.clients.vanish(client)
    publisher = await world.administrator()
    await publisher.publish("secret/a", b"no", 1)
    await publisher.publish("open/a", b"yes", 1)
    client = await world.join(kind, **options)
    assert await topics(client, "open/a") == ["open/a"]


@eves
async def test_wills(kind, world):
    world = await world(DENIED)
    client = await world.join(kind)
    await client.subscribe("#", 1)
    for topic in ("secret/will", "open/will"):
        dying = await world.join(PAHO, "admin", will=Message(topic, b"x", 1))
        await world.clients.vanish(dying)
    assert await topics(client, "open/will") == ["open/will"]


@eves
async def test_a_will_needs_the_right_to_publish(kind, world):
    may = User("eve", HASH, (Rule("allow", ("session:Connect",), ("*",)), allow("*")))
    world = await world(may)
    with pytest.raises(Refused) as refused:
        await world.join(kind, will=Message("will", b"x", 1))
    assert refused.value.code == (0x87 if kind.version == V5 else 5)


@eves
async def test_a_share_gives_it_to_a_member_who_may_see_it(kind, world):
    world = await world(DENIED)
    client = await world.join(kind)
    await client.subscribe("$share/g/#", 1)
    publisher = await world.administrator()
    other = await world.administrator()
    await other.subscribe("$share/g/#", 1)
    for number in range(6):
        await publisher.publish(f"secret/{number}", b"x", 1)
    expected = {f"secret/{number}" for number in range(6)}
    came: set[str] = set()
    while came != expected:  # in any order: some were tried on the other member first
        came.add((await other.receive()).topic)
    assert client.inbox.empty()


@eves
async def test_queues_need_a_right_of_their_own(kind, world):
    taking = Rule("allow", ("queue:Receive", "queue:Send"), ("orders",))
    world = await world(eve(allow("*"), taking))
    for queue in ("orders", "invoices"):
        await world.served.broker.declare_queue(queue)
    client = await world.join(kind)
    assert await client.subscribe("$queue/orders", 1) == 1
    assert await client.subscribe("$queue/invoices", 1) == refusal(kind)
    publisher = await world.administrator()
    await publisher.publish("$queue/invoices", b"no", 1)
    await publisher.publish("$queue/orders", b"yes", 1)
    assert (await client.receive()).payload == b"yes"
    assert client.inbox.empty()


# --- rights that are taken away, and what is delivered then ---


@eves
@pytest.mark.parametrize("filter", ["secret/#", "#", "$share/g/secret/#"])
async def test_a_right_that_is_taken_away_ends_live_delivery(kind, world, filter):
    world = await world(eve(allow("*")))
    client = await world.join(kind)
    await client.subscribe(filter, 1)
    await client.subscribe("open", 1)
    publisher = await world.administrator()
    await publisher.publish("secret/1", b"x", 1)
    assert (await client.receive()).topic == "secret/1"
    world.now_may(eve(allow("open")))
    await publisher.publish("secret/2", b"x", 1)
    await publisher.publish("secret/3", b"x", 0)
    await publisher.publish("open", b"x", 1)
    assert await topics(client, "open") == ["open"]
    # It gets what it may see again, without subscribing anew.
    world.now_may(eve(allow("*")))
    await publisher.publish("secret/4", b"x", 1)
    assert (await client.receive()).topic == "secret/4"


@eves
@pytest.mark.parametrize("when", ["before it is published", "after"])
async def test_a_durable_session_keeps_no_right(kind, world, when):
    world = await world(eve(allow("*")))
    options = durable(kind)
    client = await world.join(kind, **options)
    await client.subscribe("#", 1)
    await world.clients.leave(client)
    publisher = await world.administrator()
    if when != "after":
        world.now_may(DENIED)
    await publisher.publish("secret/a", b"no", 1)
    await publisher.publish("secret/b", b"no", 2)
    await publisher.publish("open", b"yes", 1)
    world.now_may(DENIED)
    client = await world.join(kind, **options)
    assert await topics(client, "open") == ["open"]
    # What was held back is gone and does not come when the right does.
    await client.settle()
    await world.clients.leave(client)
    world.now_may(eve(allow("*")))
    client = await world.join(kind, **options)
    await publisher.publish("open", b"last", 1)
    assert await topics(client, "open") == ["open"]


@eves
async def test_a_will_is_not_published_by_who_may_not_any_more(kind, world):
    world = await world(eve(allow("*")))
    observer = await world.administrator()
    await observer.subscribe("#", 1)
    client = await world.join(kind, will=Message("will", b"x", 1))
    connect = Rule("allow", ("session:Connect",), ("*",))
    world.now_may(User("eve", HASH, (connect, allow("*"))))
    await world.clients.vanish(client)
    assert observer.inbox.empty()
    client = await world.join(kind)  # its will was dealt with before
    await observer.publish("last", b"", 1)
    assert await topics(observer, "last") == ["last"]


@eves
async def test_a_right_to_publish_that_is_taken_away(kind, world):
    world = await world(eve(allow("*")))
    observer = await world.administrator()
    await observer.subscribe("#", 1)
    client = await world.join(kind)
    await client.publish("a", b"1", 1)
    connect = Rule("allow", ("session:Connect",), ("*",))
    world.now_may(User("eve", HASH, (connect, allow("*"))))
    with contextlib.suppress(Refused, TimeoutError, ConnectionError):
        async with asyncio.timeout(0.5):  # some never hear, and wait
            await client.publish("b", b"2", 1, retain=True)
    await observer.publish("last", b"", 1)
    assert await topics(observer, "last") == ["a", "last"]


@eves
async def test_a_queue_that_may_not_be_received_from_any_more(kind, world):
    taking = Rule("allow", ("queue:Receive",), ("orders",))
    world = await world(eve(taking))
    await world.served.broker.declare_queue("orders")
    client = await world.join(kind)
    await client.subscribe("$queue/orders", 1)
    publisher = await world.administrator()
    await publisher.publish("$queue/orders", b"1", 1)
    assert (await client.receive()).payload == b"1"
    await client.settle()
    world.now_may(eve(allow("open")))
    await publisher.publish("$queue/orders", b"2", 1)
    await client.subscribe("open", 1)
    await publisher.publish("open", b"", 1)
    assert (await client.receive()).topic == "open"
    assert client.inbox.empty()
    # It is there for somebody else.
    await publisher.subscribe("$queue/orders", 1)
    assert (await publisher.receive()).payload == b"2"


@pytest.mark.parametrize("kind", [k for k in KINDS if "tell-end" in k.can], ids=str)
async def test_who_is_removed_loses_the_connection(kind, world):
    world = await world(eve(allow("*")))
    client = await world.join(kind)
    await client.subscribe("#", 1)
    observer = await world.administrator()
    world.now_may()
    await observer.publish("secret", b"x", 1)
    assert await asyncio.wait_for(client.ended, 20) == 0x87
    assert client.inbox.empty()


# --- whose session it is ---


@eves
async def test_nobody_takes_over_the_session_of_another_user(kind, world):
    mallory = User("mallory", HASH, eve(allow("*")).rules)
    world = await world(eve(allow("*")), mallory)
    options = durable(kind)
    client = await world.join(kind, **options)
    await client.subscribe("mine/#", 1)
    publisher = await world.administrator()
    for clean in (False, True):
        for user in ("mallory", "admin"):
            with pytest.raises(Refused) as refused:
                await world.join(kind, user, **{**options, "clean": clean})
            assert refused.value.code == (0x87 if kind.version == V5 else 5)
    await publisher.publish("mine/1", b"x", 1)
    assert (await client.receive()).topic == "mine/1"
    await client.settle()
    # Nor while nobody is connected.
    await world.clients.vanish(client)
    await publisher.publish("mine/2", b"x", 1)
    with pytest.raises(Refused):
        await world.join(kind, "mallory", **options)
    client = await world.join(kind, **options)
    assert (await client.receive()).topic == "mine/2"


@eves
async def test_the_client_id_itself_is_a_right(kind, world):
    rules = (Rule("allow", ("session:Connect",), ("eve-*", "%u")), allow("*"))
    world = await world(User("eve", HASH, rules))
    for name in ("eve-1", "eve"):
        await world.join(kind, client_id=name)
    with pytest.raises(Refused) as refused:
        await world.join(kind, client_id="admin")
    assert refused.value.code == (0x87 if kind.version == V5 else 5)


# --- names that are made to widen a pattern ---

HOSTILE = ["#", "+", "a/b", "a/../b", "+/+", "*", "?", "a*", "%u", "%c", "$SYS", "a#", "\x7f", ">"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_client_id_does_not_widen_a_pattern(world, name):
    own = Rule("allow", ("topic:*",), ("dev/%c/#",))
    connect = Rule("allow", ("session:Connect",), ("*",))
    world = await world(User("eve", HASH, (connect, own)))
    observer = await world.administrator()
    await observer.subscribe("dev/#", 1)
    try:
        client = await world.join(PAHO, client_id=name)
    except Refused as refused:
        assert refused.code == 0x85  # no client may have such an id
        return
    for filter in ("#", "dev/#", "dev/+/x", "dev/other/#"):
        assert await client.subscribe(filter, 1) >= 0x80, filter
    for topic in ("dev/other/x", "dev/a/x", "dev/a/b/x", "dev//x"):
        with pytest.raises(Refused):
            await client.publish(topic, b"x", 1)
    good = await world.join(PAHO, client_id="good-1")
    assert await good.subscribe("dev/good-1/#", 1) == 1
    await good.publish("dev/good-1/x", b"x", 1)
    assert await topics(observer, "dev/good-1/x") == ["dev/good-1/x"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_user_name_does_not_widen_a_pattern(start, clients, name):
    rules = (
        Rule("allow", ("session:Connect",), ("*",)),
        Rule("allow", ("topic:*",), ("home/%u/#",)),
        Rule("deny", ("topic:Publish",), ("home/%u/locked",)),
    )
    try:
        user = User(name, HASH, rules)
    except ValueError:
        return  # such a name cannot be configured at all
    served = await start(users=[ADMIN, user])
    client = await clients.join(PAHO, served.url(PAHO), login=Login(name, WORD))
    for filter in ("#", "home/#", "home/+/x", "home/other/#"):
        assert await client.subscribe(filter, 1) == 0x87, filter
    for topic in ("home/other/x", "home/a/x", "home/a/b/x"):
        with pytest.raises(Refused):
            await client.publish(topic, b"x", 1)

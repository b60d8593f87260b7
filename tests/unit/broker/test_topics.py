"""Who gets what is published, at once or later; in all of its places or in none."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import letters as module
from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import (
    InvalidArgument,
    Overloaded,
    PermissionDenied,
    QueueFull,
    StorageFull,
)
from braidmq.broker.limits import Limits, SessionPolicy
from braidmq.broker.publication import Subscription
from braidmq.broker.publishing import Batch
from braidmq.broker.topics import merge
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from braidmq.storage.record import encode_message
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.topic_client import Client, publication_of

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def broker():
    return DiskBroker()


def connected(broker: Harness, name: str, expiry_ms: int = 60_000, **options) -> Client:
    client = Client(broker, name, **options)
    client.connect(expiry_ms=expiry_ms)
    return client


def user(name: str, *names: str, actions: tuple[str, ...] = ("topic:*", "session:*")) -> User:
    return User(name, HASH, (Rule("allow", actions, names),) if names else ())


# --- how messages come ---

SUBSCRIPTIONS = st.builds(
    Subscription, st.sampled_from("ab"), st.integers(0, 2), st.booleans(), st.booleans(),
    st.just(0), st.integers(0, 3),
)  # fmt: skip


@given(st.lists(SUBSCRIPTIONS, min_size=1, max_size=4))
def test_many_subscriptions_are_one(subscriptions):
    match = merge(subscriptions)
    assert match.qos == max(each.qos for each in subscriptions)
    assert list(match.ids) == [each.id for each in subscriptions if each.id]
    assert match.retain_as_published == any(s.retain_as_published for s in subscriptions)
    local = [each for each in subscriptions if not each.no_local]
    assert match.foreign == (len(local) < len(subscriptions))
    if local and match.foreign:
        assert match.own is not None
        assert match.own.qos == max(each.qos for each in local)
        assert list(match.own.ids) == [each.id for each in local if each.id]
    else:
        assert match.own is None
    assert len(match.each) == (len(subscriptions) if len(subscriptions) > 1 else 0)


def test_a_session_gets_a_message_once_however_many_subscriptions_match(broker):
    live, durable = connected(broker, "live", 0), connected(broker, "durable")
    for client in (live, durable):
        for number, filter in enumerate(("a/b", "a/+", "#", "a/#"), 1):
            client.subscribe(filter, number % 3, id=number)
    assert live.send("a/b", b"x", 2) == (Durability.SYNC, 2)
    ((topic, body, match),) = live.live
    assert (topic, body, match.qos, sorted(match.ids)) == ("a/b", b"x", 2, [1, 2, 3, 4])
    assert durable.bodies() == [b"x"] and not durable.live
    assert live.send("x", b"y", 0) == (Durability.MEMORY, 2)
    assert live.live[1][2].ids == (3,) and durable.take_live() == [b"y"]


def test_a_clients_own_messages_are_not_for_it_unless_another_subscription_wants_them(broker):
    for name, expiry_ms in (("live", 0), ("durable", 60_000)):
        client, other = connected(broker, name, expiry_ms), connected(broker, "o" + name, 0)
        client.subscribe("a/+", no_local=True)
        for qos in (0, 1):
            client.send("a/b", b"own", qos)
            other.send("a/b", b"other", qos)
        assert client.take_live() + client.ack() == [b"other"] * 2
        client.subscribe("a/b", 1)
        for qos in (0, 1):
            client.send("a/b", b"own", qos)
            client.send("a/c", b"not", qos)
        assert client.take_live() + client.ack() == [b"own"] * 2


def test_durable_sessions_get_later_what_is_published_while_they_are_away(broker):
    client, publisher = connected(broker, "c"), connected(broker, "p", 0)
    client.subscribe("t/+", 1)
    client.subscribe("zero/+", 0)
    client.disconnect()
    assert publisher.send("t/1", b"0", 0)[0] is Durability.MEMORY  # QoS 0 is not kept
    assert publisher.send("t/1", b"1")[0] is Durability.SYNC
    assert publisher.send("zero/1", b"z")[0] is Durability.MEMORY
    assert publisher.send("nobody", b"n") == (Durability.MEMORY, 0)
    client = Client(broker.restarted(), "c")
    client.connect()
    assert client.bodies() == [b"1"] and client.topics() == ["t/1"]
    client.ack()
    client = Client(client.broker.restarted(), "c")
    client.connect()
    assert client.bodies() == []


def test_consumer_that_comes_before_the_message_is_kept_gets_it(broker):
    """Nobody consumed when it was published, so nobody waited for it to be kept."""
    client, publisher = connected(broker, "c"), connected(broker, "p", 0)
    client.subscribe("t")
    client.disconnect()
    publication = publication_of("t", b"x")
    broker.core.topics.publish(SYSTEM, publication, broker.clock.ms)
    assert not broker.core._unsettled
    client.connect(settle=False)
    broker.core.run(broker.clock.ms)
    assert client.bodies() == []  # not kept yet
    publisher.broker.settle()
    assert client.bodies() == [b"x"] and not broker.core._unsettled


def test_a_run_of_messages_is_put_one_by_one(broker):
    client = connected(broker, "c")
    client.subscribe("t")
    attributes = publication_of("t", b"").attributes
    batch = Batch("t", [b"1", b"2", b"3"], attributes, 1, True, 0)
    assert broker.core.topics.publish(SYSTEM, batch, broker.clock.ms) == (Durability.SYNC, 1)
    broker.settle()
    assert client.ack() == [b"1", b"2", b"3"] and client.retained("t") == {"t": b"3"}
    assert broker.core.topics.published == 3


# --- QoS 2 ---


def test_message_and_its_identifier_are_kept_together(broker):
    publisher, client = connected(broker, "p"), connected(broker, "c")
    client.subscribe("t", 2)
    assert publisher.send("t", b"x", 2, inbound=7)[0] is Durability.SYNC
    assert publisher.send("nobody", b"y", 2, inbound=8) == (Durability.SYNC, 0)
    assert publisher.send("r", b"z", 2, retain=True, inbound=9)[0] is Durability.SYNC
    for number in range(3):
        broker = broker.restarted()
        if not number:
            broker.checkpoint()
        publisher, client = Client(broker, "p"), Client(broker, "c")
        assert publisher.queue.inbound == {7, 8, 9} - set(range(7, 7 + number))
        publisher.queue.release_inbound(7 + number)
        broker.settle()
        assert client.queue.live == 1 and publisher.queue.live == 0


def test_message_of_ones_own_and_its_identifier(broker):
    client = connected(broker, "c")
    client.subscribe("t", 2)
    client.send("t", b"x", 2, inbound=1)
    assert client.bodies() == [b"x"]
    client = Client(broker.restarted(), "c")
    client.connect()
    assert client.bodies() == [b"x"] and client.queue.inbound == {1}


# --- rights ---


def test_publishing_needs_the_right_and_a_topic(broker):
    broker.core.access.replace([user("a", "a/#")])
    who = broker.core.access.principal("a", "c")
    topics = broker.core.topics
    for topic, error in [
        ("b", PermissionDenied), ("a/+", InvalidArgument), ("a/" * 128, InvalidArgument),
        ("a/" + "x" * 1_024, InvalidArgument),
    ]:  # fmt: skip
        with pytest.raises(error):
            topics.publish(who, publication_of(topic, b"x"), broker.clock.ms)
    with pytest.raises(PermissionDenied, match="broker's own"):
        topics.publish(SYSTEM, publication_of("$SYS/x", b"x"), broker.clock.ms)
    assert topics.publish(who, publication_of("a/b", b"x"), 0)[1] == 0


def test_rights_that_are_taken_away_hold_for_what_is_published_and_for_what_waits(broker):
    access = broker.core.access
    access.replace([user("a", "#")])
    client = connected(broker, "c", who=access.principal("a", "c"))
    client.subscribe("t/+")
    client.disconnect()
    publisher = connected(broker, "p", 0)
    for topic in ("t/1", "t/2", "t/1"):
        publisher.send(topic, topic.encode())
    access.replace([user("a", "t/2", "c")])
    assert publisher.send("t/1", b"not this") == (Durability.MEMORY, 0)
    assert client.queue.live == 3
    client.who = access.principal("a", "c")
    client.connect()
    assert client.ack() == [b"t/2"]
    assert client.queue.live == 0 and client.queue.counters.dropped == 2
    access.replace([user("b", "#")])  # its owner is gone
    client.disconnect()
    assert publisher.send("t/2", b"nor this") == (Durability.MEMORY, 0)
    access.replace([user("a", "#")])
    client.who = access.principal("a", "c")
    client.connect()
    assert publisher.send("t/1", b"again")[1] == 1 and client.bodies() == [b"again"]


def test_owner_is_found_again_after_a_restart(broker):
    access = broker.core.access
    access.replace([user("a", "#")])
    client = connected(broker, "c", who=access.principal("a", "c"))
    client.subscribe("t")
    broker = broker.restarted()
    assert Client(broker, "p", SYSTEM).send("t", b"x") == (Durability.MEMORY, 0)  # nobody knows it
    broker.core.access.replace([user("a", "#")])
    assert Client(broker, "p", SYSTEM).send("t", b"y") == (Durability.SYNC, 1)


# --- room ---


def waiting(broker: Harness, overflow: str) -> Client:
    """A client that is away, with room for three messages; a publisher."""
    broker.core.clients._policy = SessionPolicy(overflow=overflow)  # type: ignore[arg-type]
    client, publisher = connected(broker, "c"), connected(broker, "p", 0)
    client.subscribe("t")
    client.disconnect()
    for number in range(3):
        publisher.send("t", b"%d" % number)
    return client


@pytest.fixture
def small():
    return DiskBroker(limits=Limits(session_messages_max=3, session_bytes_max=1_000))


def test_oldest_messages_make_way(small):
    client = waiting(small, "drop-oldest")
    publisher = Client(small, "p", SYSTEM)
    publisher.send("t", b"3")
    publisher.send("t", bytes(2_000))  # never fits: it is not worth what is there
    assert client.queue.counters.dropped == 2
    client = Client(small.restarted(), "c")
    client.connect()
    assert client.bodies() == [b"1", b"2", b"3"]
    client.send("t", b"4")  # what is leased is never taken away
    assert client.queue.counters.dropped == 1 and client.ack() == [b"1", b"2", b"3"]


def test_new_messages_are_dropped(small):
    client = waiting(small, "drop-newest")
    publisher = Client(small, "p", SYSTEM)
    other = connected(small, "o")
    other.subscribe("t")
    assert publisher.send("t", b"3") == (Durability.SYNC, 2)
    assert client.queue.counters.dropped == 1 and other.bodies() == [b"3"]
    client.connect()
    assert client.ack() == [b"0", b"1", b"2"]
    client.disconnect()
    publisher.send("t", bytes(900))
    publisher.send("t", bytes(100))
    assert client.queue.live == 1 and client.queue.counters.dropped == 2


def test_publishers_are_refused_and_nobody_gets_a_part(small):
    client = waiting(small, "refuse")
    publisher = Client(small, "p", SYSTEM)
    other = connected(small, "o")
    other.subscribe("t")
    for retain in (False, True):
        with pytest.raises(QueueFull):
            publisher.send("t", b"3", 2, retain=retain, inbound=1)
    assert other.bodies() == [] and other.retained("#") == {}
    attributes = publication_of("t", b"").attributes
    client.connect()
    client.ack(2)
    client.disconnect()
    with pytest.raises(QueueFull):  # all of a run or nothing
        batch = Batch("t", [b"1", b"2", b"3"], attributes, 1, False, 0)
        small.core.topics.publish(SYSTEM, batch, small.clock.ms)
    assert client.queue.live == 1 and client.queue.counters.dropped == 5
    publisher.send("t", b"3", 0)  # QoS 0 needs no room
    publisher.send("t", b"3")
    assert other.bodies() == [b"3"] and client.queue.live == 2


def test_messages_end_in_time_while_they_wait(broker):
    client, publisher = connected(broker, "c"), connected(broker, "p", 0)
    client.subscribe("t")
    client.disconnect()
    now = broker.clock.ms
    publisher.send("t", b"short", expire_ms=now + 1_000)
    publisher.send("t", b"long", expire_ms=now + 60_000)
    broker.advance(999)
    assert client.queue.live == 2
    broker.advance(1)
    assert client.queue.live == 1 and client.queue.counters.expired == 1
    broker.checkpoint()
    client = Client(broker.restarted(), "c")
    client.broker.advance(30_000)
    client.connect()
    assert client.bodies() == [b"long"] and client.held[0][1].expire_ms == now + 60_000


def full() -> None:
    raise DiskFull("no room")


def test_full_disk_refuses_what_would_be_kept_and_nothing_else(broker):
    client, live = connected(broker, "c"), connected(broker, "l", 0)
    client.subscribe("t")
    live.subscribe("#")
    live.subscribe("$share/g/shared")
    live.send("t", b"before")
    broker.log.admit = full
    with pytest.raises(StorageFull):
        live.send("t", b"x")
    with pytest.raises(StorageFull):
        live.send("r", b"x", 0, retain=True)
    with pytest.raises(StorageFull):
        client.send("nobody/..", b"x", 2, inbound=1)
    assert live.take_live() == [b"before"] and not client.queue.inbound
    live.send("t", b"zero", 0)
    live.send("live", b"one")
    live.send("shared", b"in memory")
    assert live.take_live() == [b"zero", b"one", b"in memory"]
    assert live.bodies() == [b"in memory"]
    assert client.ack() == [b"before"]


def test_memory_of_shares_is_limited():
    """Shares without durable members keep their messages in memory, whoever publishes."""
    broker = DiskBroker(limits=Limits(memory_bytes_max=2_000))
    client = connected(broker, "c", 0, credit=0)
    client.subscribe("$share/g/t")
    durable = connected(broker, "d")
    durable.subscribe("u")
    with pytest.raises(Overloaded):
        for _ in range(100):
            client.send("t", bytes(100))
    assert broker.core.memory.statistics().bytes_live_estimate < 2_500
    client.send("u", b"x")
    assert durable.bodies() == [b"x"]


def test_more_sessions_than_a_record_has_room_for(broker, monkeypatch):
    for name in ("letters", "topics"):
        monkeypatch.setattr(f"braidmq.broker.{name}.TARGETS_MAX", 3)
    clients = [connected(broker, f"c{number}") for number in range(8)]
    for client in clients:
        client.subscribe("t")
    clients[0].send("t", b"x", 2, retain=True, inbound=5)
    clients[0].send("t", b"y")
    assert all(client.bodies() == [b"x", b"y"] for client in clients)
    broker = broker.restarted()
    for number in range(8):
        client = connected(broker, f"c{number}")
        assert client.ack() == [b"x", b"y"] and client.retained("#") == {"t": b"x"}
        assert client.queue.inbound == ({5} if not number else set())
    client.send("t", b"", 0, retain=True)
    assert broker.log.statistics().bytes_live_estimate == 0


def test_targets_of_one_record_are_as_many_as_the_format_can_tell():
    targets = [(1, number) for number in range(module.TARGETS_MAX + 2)]
    head, _ = encode_message(targets, 0, b"", b"")
    assert len(head) > 12 * module.TARGETS_MAX


# --- routes ---


def test_routes_are_today_s(broker):
    topics = broker.core.topics
    client = connected(broker, "c", 0)
    assert topics.route("t").count == 0 and topics.route("t") is topics.route("t")
    client.subscribe("t")
    assert topics.route("t").count == 1 and topics.route("t").live
    stamp = topics.stamp
    broker.core.access.replace([user("x", "#")])
    assert topics.stamp != stamp
    client.disconnect()
    assert topics.route("t").count == 0
    durable = connected(broker, "d")
    durable.subscribe("t")
    assert not topics.route("t").live
    assert topics.match(durable.session, "t") is not None
    assert topics.match(durable.session, "u") is None


def test_caches_are_bounded():
    broker = Harness(limits=Limits(match_cache_topics_max=10))
    topics = broker.core.topics
    for number in range(3_000):
        topics.route(f"t/{number}")
        attributes = publication_of(f"t/{number}", b"").attributes
        assert topics.topic_of(attributes) == f"t/{number}"
    assert len(topics._cache) <= 10 and len(topics._topics) <= 1_024
    long = publication_of("x" * 600, b"").attributes
    assert topics.topic_of(long) == "x" * 600 and long not in topics._topics


def test_what_routes_hold_is_bounded_in_all():
    broker = Harness(limits=Limits(match_cache_targets_max=100))
    topics = broker.core.topics
    clients = [connected(broker, f"c{number}", 0) for number in range(20)]
    for client in clients:
        client.subscribe("many/#")
    for number in range(50):
        assert topics.route(f"many/{number}").count == 20
        assert len(topics._cache) <= 5
    kept = topics.route("many/49")
    assert topics.route("many/49") is kept and not kept.small
    # What a few sessions get in the same way is held once for all topics.
    for client in clients[:16]:
        client.subscribe("few/#")
    routes = [topics.route(f"few/{number}") for number in range(50)]
    assert len(topics._cache) == 50 and routes[0].small and routes[0].count == 16
    assert all(route.sessions is routes[0].sessions for route in routes)
    assert routes[0].sessions[0][1] is routes[0].sessions[15][1]
    for number in range(500):
        clients[number % 20].subscribe(f"own/{number}")
        assert topics.route(f"own/{number}").audience is not None
        assert len(topics._audiences) <= 1  # those of other times are gone


def test_counts_of_what_is_published_and_dropped(broker):
    rng = random.Random(1)
    client = connected(broker, "c", 0)
    client.subscribe("t")
    for _ in range(10):
        client.send(rng.choice("tu"), b"x", rng.randrange(2))
    assert broker.core.topics.published == 10 and broker.core.topics.dropped == 0


def test_limits_on_topics():
    broker = Harness(limits=Limits(topic_bytes_max=10, topic_levels_max=3))
    client = connected(broker, "c", 0)
    for good, bad in (("a/b/c", "a/b/c/d"), ("x" * 10, "x" * 11)):
        client.subscribe(good)
        assert client.send(good, b"") == (Durability.MEMORY, 1)
        with pytest.raises(InvalidArgument):
            client.subscribe(bad)
        with pytest.raises(InvalidArgument):
            client.send(bad, b"")

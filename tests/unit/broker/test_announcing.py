"""What the broker says of itself: to those who listen, regularly, and cheaply."""

import pytest

from braidmq.broker.announcing import INTERVAL_MS
from braidmq.broker.limits import Limits
from tests.broker_harness import Harness
from tests.topic_client import Client, publication_of


@pytest.fixture
def broker():
    return Harness()


@pytest.fixture
def client(broker):
    client = Client(broker)
    client.connect(expiry_ms=0)
    return client


def listen(client: Client, filter: str) -> None:
    client.subscribe(filter, 0)
    client.broker.core.announcing.soon()
    client.broker.settle()


def test_values_come_soon_and_then_regularly_as_long_as_somebody_listens(broker, client):
    broker.advance(7_000)
    listen(client, "$SYS/broker/uptime")
    assert client.take_live() == [b"7 seconds"]
    broker.advance(INTERVAL_MS - 1)
    assert client.take_live() == []
    broker.advance(1)
    assert client.take_live() == [b"17 seconds"]
    client.unsubscribe("$SYS/broker/uptime")
    broker.advance(10 * INTERVAL_MS)
    assert client.take_live() == [] and broker.core.next_deadline() is None
    listen(client, "$SYS/broker/uptime")
    assert client.take_live() == [b"117 seconds"]


def test_everything_can_be_heard(broker, client):
    away = Client(broker, "away")
    away.connect()
    away.subscribe("t")
    away.disconnect()
    client.send("t", b"12345", retain=True)
    broker.core.announcing.gauges["more"] = lambda: 42
    listen(client, "$SYS/#")
    values = {topic.removeprefix("$SYS/broker/"): body for topic, body, _ in client.live}
    size = publication_of("t", b"12345", retain=True)
    assert values == {
        "version": b"BraidMQ ",
        "uptime": b"0 seconds",
        "clients/connected": b"1",
        "clients/disconnected": b"1",
        "clients/expired": b"0",
        "clients/total": b"2",
        "subscriptions/count": b"2",
        "retained messages/count": b"1",
        "store/messages/count": b"1",
        "store/messages/bytes": b"%d" % (5 + len(size.attributes)),
        "bindings/count": b"0",
        "bindings/messages/dropped": b"0",
        "bindings/messages/dead-lettered": b"0",
        "publish/messages/received": values["publish/messages/received"],
        "publish/messages/dropped": b"0",
        "more": b"42",
    }
    assert broker.core.announcing.values().keys() == values.keys()


def test_a_value_may_appear_while_others_are_told(broker, client):
    gauges = broker.core.announcing.gauges
    gauges["first"] = lambda: gauges.setdefault("second", lambda: 2) and 1
    listen(client, "$SYS/broker/first")
    client.subscribe("$SYS/broker/second", 0)
    assert client.take_live() == [b"1"]
    broker.advance(INTERVAL_MS)
    assert client.take_live() == [b"1", b"2"]


def test_what_nobody_listens_to_is_not_even_counted(broker, client):
    asked = []
    broker.core.announcing.gauges["costly"] = lambda: asked.append(1)
    listen(client, "$SYS/broker/version")
    broker.advance(3 * INTERVAL_MS)
    assert len(client.take_live()) == 4 and not asked


def test_many_who_subscribe_at_once_are_told_once(broker, client):
    client.subscribe("$SYS/broker/version", 0)
    for _ in range(100):
        broker.core.announcing.soon()
    broker.settle()
    assert len(client.take_live()) == 1


def test_wildcards_do_not_hear_of_it(broker, client):
    listen(client, "#")
    assert client.take_live() == []


def test_its_alarm_may_be_at_the_moment_of_another(broker, client):
    """Sessions end and retained messages expire just when the next values are due."""
    listen(client, "$SYS/broker/version")
    other = Client(broker, "other")
    other.connect(expiry_ms=INTERVAL_MS)
    other.disconnect()
    client.send("r", b"x", 0, retain=True, expire_ms=broker.clock.ms + INTERVAL_MS)
    client.take_live()
    broker.advance(INTERVAL_MS)
    assert not other.present and client.take_live() == [b"BraidMQ "]


def test_values_whose_topics_are_deeper_than_topics_may_be_are_left_out():
    """The broker must not stop because of who subscribed."""
    broker = Harness(limits=Limits(topic_levels_max=3))
    client = Client(broker)
    client.connect(expiry_ms=0)
    listen(client, "$SYS/#")
    topics = {topic.removeprefix("$SYS/broker/") for topic, _, _ in client.live}
    assert topics == {"version", "uptime"}

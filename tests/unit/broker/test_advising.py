"""Advisories: told to who listens, in ActiveMQ's words, and to nobody else; they cause nothing."""

import json
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.advising import REPEAT_MS, SUBJECTS_MAX
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.errors import BraidError, InvalidArgument, PermissionDenied
from braidmq.broker.feed import Feed
from braidmq.broker.lease import Exclusivity
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers, unpack_headers
from braidmq.broker.publication import Match, Publication
from braidmq.broker.verbs import Interest
from tests.broker_harness import Harness, sent
from tests.fanout_harness import declare_stream
from tests.topic_client import Client

ROOT = "ActiveMQ/Advisory/"
QUEUE = {"@class": "ActiveMQQueue", "string": "q", "null": ""}


class Watcher(Client):
    """A client that keeps headers as well."""

    def __init__(self, broker: Harness, name: str = "watcher", filter: str = "#") -> None:
        super().__init__(broker, name)
        self.told: list[tuple[str, Any, dict[str, Any]]] = []
        self.connect(expiry_ms=0)
        self.subscribe(ROOT + filter, 0)

    def publish(self, publication: Publication, match: Match) -> None:
        super().publish(publication, match)
        for body in publication.bodies:
            name = publication.topic.removeprefix(ROOT)
            headers = unpack_headers(publication.attributes)
            assert headers["topic"] == publication.topic and publication.qos == 0
            self.told.append((name, json.loads(body), headers))

    def take(self) -> list[tuple[str, Any, dict[str, Any]]]:
        self.broker.settle()
        taken, self.told = self.told, []
        return taken

    def names(self) -> list[str]:
        return [name for name, _, _ in self.take()]


@pytest.fixture
def broker():
    return Harness()


@pytest.fixture
def watcher(broker):
    return Watcher(broker)


# --- who hears of it ---


def test_only_the_broker_publishes_there(broker):
    client = Client(broker)
    client.connect(expiry_ms=0)
    core, now_ms = broker.core, broker.clock.ms
    with pytest.raises(PermissionDenied, match="broker's own"):
        client.send(ROOT + "Connection", b"x")
    with pytest.raises(PermissionDenied, match="broker's own"):
        core.delaying.publish(SYSTEM, ROOT + "Connection", b"x", b"", 1_000, 0, now_ms)
    assert client.send("ActiveMQ/Other", b"x")[1] == 0


def test_nothing_is_bound_to_it(broker, watcher):
    broker.declare("audit")
    audit = Target("queue", "audit")
    core, now_ms = broker.core, broker.clock.ms
    with pytest.raises(InvalidArgument, match="broker's own"):
        core.bind(SYSTEM, ROOT + "#", audit, BindingSettings(), now_ms)
    for filter in ("ActiveMQ/#", "#"):
        core.bind(SYSTEM, filter, audit, BindingSettings(), now_ms)
    watcher.take()
    broker.declare("more")
    assert watcher.names() == ["Queue"]
    assert broker.info("audit").ready == 0


@pytest.mark.parametrize("filter", ["#", "+/#", "+/Advisory/Queue", "$share/g/#", "$share/g/+/#"])
def test_filters_that_begin_with_a_wildcard_do_not_hear_of_it(broker, watcher, filter):
    client = Client(broker)
    client.connect(expiry_ms=0)
    client.subscribe(filter, 0)
    broker.declare("q")
    assert "Queue" in watcher.names() and client.take_live() == []


@pytest.mark.parametrize("filter", ["ActiveMQ/#", "ActiveMQ/+/Queue", ROOT + "Queue", ROOT + "#"])
def test_filters_that_begin_with_its_name_do(broker, filter):
    for shared in ("", "$share/g/"):
        client = Client(broker, filter + shared)
        client.connect(expiry_ms=0)
        client.subscribe(shared + filter, 0)
        broker.declare("q" + shared.replace("/", "-").strip("$"))
        (body,) = [b for b in client.take_live() if b"DestinationInfo" in b]
        assert json.loads(body)["DestinationInfo"]["operationType"] == 0
        client.disconnect()
        broker.delete("q" + shared.replace("/", "-").strip("$"))


def test_a_durable_session_has_none_kept(broker):
    client = Client(broker)
    client.connect()
    client.subscribe(ROOT + "#")
    broker.declare("q")
    assert len(client.take_live()) == 1 and client.queue.live == 0
    client.disconnect()
    broker.delete("q")
    client.connect()
    assert client.take_live() == [] and client.bodies() == []


def test_while_nobody_listens_nothing_is_made(broker, watcher, monkeypatch):
    watcher.unsubscribe(ROOT + "#")
    made = []
    monkeypatch.setattr(type(broker.core.advising), "_publish", lambda *a: made.append(a))
    broker.declare("dead")
    broker.declare("q", dead_letter="dead", max_receives=1, messages_max=1)
    number = broker.core.advising.connected("c", "u", "mqtt", "1.2.3.4:5")
    consumer, _ = broker.consume(0)
    broker.send(b"1")
    broker.send(b"2")
    broker.cancel(consumer)
    broker.delete("q")
    broker.core.advising.disconnected(number)
    assert not made


def test_topics_that_are_too_deep_are_left_out():
    broker = Harness(limits=Limits(topic_levels_max=4))
    watcher = Watcher(broker)
    broker.declare("a.b.c")
    broker.consume(0, "a.b.c")
    assert watcher.names() == ["Queue"]


# --- connections ---


def test_connections_come_and_go(broker, watcher):
    advising = broker.core.advising
    number = advising.connected("sensor", "ann", "mqtt", "1.2.3.4:5")
    advising.disconnected(number)
    advising.disconnected(number)
    advising.disconnected(0)
    (_, come, headers), (_, gone, _) = watcher.take()
    origin = f"ID:braidmq-{broker.core.instance:016x}"
    assert headers == {
        "topic": ROOT + "Connection",
        "mqtt-qos": "0",
        "content-type": "application/json",
        "type": "Advisory",
        "transformation": "jms-advisory-json",
        "originBrokerId": origin,
        "originBrokerName": "braidmq",
    }
    assert come == {
        "ConnectionInfo": {
            "commandId": 0,
            "responseRequired": False,
            "connectionId": {"value": f"{origin}:{number}"},
            "clientId": "sensor",
            "clientIp": "mqtt://1.2.3.4:5",
            "userName": "ann",
            "password": "",
            "brokerMasterConnector": False,
            "manageable": False,
            "clientMaster": True,
            "faultTolerant": False,
            "failoverReconnect": False,
        }
    }
    assert gone == {
        "RemoveInfo": {
            "commandId": 0,
            "responseRequired": False,
            "objectId": {"@class": "ConnectionId", "value": f"{origin}:{number}"},
            "lastDeliveredSequenceId": -2,
        }
    }


def test_who_comes_late_is_told_what_is_there(broker):
    advising = broker.core.advising
    advising.disconnected(advising.connected("gone", "", "mqtt", "a"))
    advising.connected("here", "", "mqtt", "a")
    broker.declare("q")
    first = Watcher(broker, "first")
    assert sorted(first.names()) == ["Connection", "Queue"]
    second = Watcher(broker, "second", "Connection")
    ((_, body, _),) = second.take()
    assert body["ConnectionInfo"]["clientId"] == "here"
    assert first.names() == []
    assert Watcher(broker, "third", "Consumer/#").names() == []


def test_of_what_is_there_no_more_is_told_than_a_client_can_take():
    broker = Harness(limits=Limits(live_queue_messages_max=3))
    for number in range(5):
        broker.core.advising.connected(str(number), "", "mqtt", "a")
    assert len(Watcher(broker).names()) == 3


def test_who_has_gone_by_then_is_told_nothing(broker):
    broker.core.advising.connected("here", "", "mqtt", "a")
    client = Client(broker)
    client.connect(expiry_ms=0)
    session = client.session
    client.leave()
    broker.core.advising._catch_up(session, ROOT + "Connection")
    assert client.live == []


# --- queues and consumers ---


def test_queues_come_and_go(broker, watcher):
    broker.declare("q")
    broker.declare("q")
    broker.delete("q")
    told = watcher.take()
    assert [name for name, _, _ in told] == ["Queue", "Queue"]
    assert [body["DestinationInfo"]["operationType"] for _, body, _ in told] == [0, 1]
    assert told[0][1]["DestinationInfo"]["destination"] == QUEUE


def test_a_view_is_a_queue(broker, watcher):
    declare_stream(broker, "s")
    broker.declare("v", stream="s")
    assert watcher.names() == ["Queue"]


def test_consumers_are_counted(broker, watcher):
    broker.declare("q")
    watcher.take()
    one, _ = broker.consume(7)
    two, _ = broker.consume(9, priority=3, exclusive=Exclusivity.PREFERRED)
    broker.cancel(one)
    told = watcher.take()
    assert {name for name, _, _ in told} == {"Consumer/Queue/q"}
    assert [headers["consumerCount"] for _, _, headers in told] == ["1", "2", "1"]
    first, second = (body["ConsumerInfo"] for _, body, _ in told[:2])
    assert first["destination"] == QUEUE and first["prefetchSize"] == 7
    assert (first["exclusive"], first["priority"]) == (False, 0)
    assert (second["exclusive"], second["priority"]) == (True, 3)
    gone = told[2][1]["RemoveInfo"]["objectId"]
    assert gone == {"@class": "ConsumerId", **first["consumerId"]}
    assert first["consumerId"] != second["consumerId"]
    broker.delete("q")
    told = watcher.take()
    assert [name for name, _, _ in told] == ["Consumer/Queue/q", "Queue"]
    assert told[0][2]["consumerCount"] == "0" and two.closed


def test_a_receive_is_no_consumer(broker, watcher):
    broker.declare("q")
    watcher.take()
    broker.waiting()
    consumer, _ = broker.consume(0)
    broker.advance(30_000)
    broker.cancel(consumer)
    told = watcher.take()
    assert [headers["consumerCount"] for _, _, headers in told] == ["1", "0"]


def test_words_of_a_queue_are_levels(broker):
    watcher = Watcher(broker, filter="Consumer/Queue/orders/+")
    broker.declare("orders.eu")
    broker.consume(0, "orders.eu")
    assert watcher.names() == ["Consumer/Queue/orders/eu"]


# --- topics ---


def test_subscribers_of_a_topic_are_counted(broker, watcher):
    clients = [Client(broker, name) for name in ("one", "two")]
    for client in clients:
        client.connect(expiry_ms=0)
        client.subscribe("news/+/x")
        client.subscribe("news/+/x", 0)  # the same, changed
    clients[0].unsubscribe("news/+/x")
    clients[1].disconnect()
    told = watcher.take()
    consumers = "Consumer/Topic/news/*/x"
    names = [name for name, _, _ in told]
    assert names == ["Topic", consumers, consumers, consumers, consumers, "Topic"]
    assert [h.get("consumerCount") for _, _, h in told] == [None, "1", "2", "1", "0", None]
    topic = {"@class": "ActiveMQTopic", "string": "news.*.x", "null": ""}
    assert told[0][1]["DestinationInfo"] == {
        "commandId": 0,
        "responseRequired": False,
        "destination": topic,
        "operationType": 0,
        "timeout": 0,
    }
    assert told[5][1]["DestinationInfo"]["operationType"] == 1
    info = told[1][1]["ConsumerInfo"]
    assert info["destination"] == topic and info["consumerId"]["connectionId"] == "one"
    removed = told[3][1]["RemoveInfo"]["objectId"]
    assert removed == {"@class": "ConsumerId", **info["consumerId"]}


def test_nothing_is_told_of_the_brokers_own_topics(broker, watcher):
    client = Client(broker)
    client.connect(expiry_ms=0)
    for filter in ("$SYS/#", ROOT + "Queue", "$share/g/" + ROOT + "Queue"):
        client.subscribe(filter)
        client.unsubscribe(filter)
    assert watcher.names() == []


def test_a_shared_subscription_is_one_of_its_topic(broker, watcher):
    clients = [Client(broker, name) for name in ("one", "two")]
    for client in clients:
        client.connect(expiry_ms=0)
        client.subscribe("$share/g/t")
    for client in clients:
        client.unsubscribe("$share/g/t")
    told = [(n, h["consumerCount"]) for n, _, h in watcher.take() if n != "Topic"]
    assert told == [("Consumer/Topic/t", count) for count in ("1", "1", "1", "0")]


# --- messages ---


def test_a_message_that_expires(broker, watcher):
    broker.declare("q")
    packed = pack_headers({"a": "1"}, Limits())
    (taken,) = sent(broker.send(b"body", ttl_ms=1_000, attributes=packed))
    watcher.take()
    broker.advance(2_000)
    ((name, body, headers),) = watcher.take()
    id = f"ID:{broker.core.instance:016x}{taken.id:016x}"
    assert name == "Expired/Queue/q" and headers["orignalMessageId"] == id
    message = body["ActiveMQBytesMessage"]
    assert message["messageId"] == {"textView": id} and message["destination"] == QUEUE
    assert message["expiration"] == message["timestamp"] + 1_000
    assert message["properties"] == [{"entry": {"string": ["a", "1"]}}]
    assert "body" not in json.dumps(body)


def test_a_text_of_several_properties(broker, watcher):
    broker.declare("q")
    headers: dict[str, str | bytes] = {"a": "1", "amq-msg-type": "text", "b": b"\x00"}
    broker.send(b"body", ttl_ms=1_000, attributes=pack_headers(headers, Limits()))
    watcher.take()
    broker.advance(2_000)
    ((_, body, _),) = watcher.take()
    entries = [{"string": ["a", "1"]}, {"string": ["amq-msg-type", "text"]}]
    assert body["ActiveMQTextMessage"]["properties"] == [{"entry": entries}]


@pytest.mark.parametrize("readable", [True, False])
def test_a_dead_letter(broker, watcher, monkeypatch, readable):
    broker.declare("q", dead_letter="dead", max_receives=1)
    (taken,) = sent(broker.send(b"body"))
    (delivery,) = broker.receive()
    watcher.take()
    if not readable:
        monkeypatch.setattr(broker.core.log, "get", lambda lsn: None)
    broker.nack(delivery)
    ((name, body, headers),) = watcher.take()
    assert name == "MessageDLQd/Queue/q" and headers["dead-letter-reason"] == "max-receives"
    assert body["ActiveMQBytesMessage"]["destination"] == QUEUE
    id = f"ID:{broker.core.instance:016x}{taken.id:016x}"
    assert headers.get("orignalMessageId") == (id if readable else None)


def test_what_expires_into_a_dead_letter_queue_is_both(broker, watcher):
    broker.declare("q", dead_letter="dead", dead_letter_expired=True)
    broker.send(b"body", ttl_ms=1_000)
    watcher.take()
    broker.advance(2_000)
    assert watcher.names() == ["Expired/Queue/q", "MessageDLQd/Queue/q"]


@pytest.mark.parametrize("overflow", ["reject", "drop-oldest"])
def test_a_full_queue_says_so_now_and_then(broker, watcher, overflow):
    broker.declare("q", messages_max=1, overflow=overflow)
    watcher.take()
    broker.send(b"12345")
    assert watcher.names() == []
    for _ in range(3):
        broker.send(b"12345")
    broker.core.tick(broker.clock.ms)
    ((name, body, headers),) = watcher.take()
    assert name == "FULL/Queue/q" and body == {"null": ""}
    assert headers["usageName"] == "queue://q" and headers["usageCount"] == "5"
    broker.advance(REPEAT_MS)
    broker.core.tick(broker.clock.ms)
    broker.send(b"12345")
    assert watcher.names() == ["FULL/Queue/q"]


def test_a_slow_subscriber_and_what_it_missed(broker, watcher):
    client = Client(broker)
    client.connect(expiry_ms=0)
    advising = broker.core.advising
    advising.discarded(client.session, "news/x", 1)
    advising.discarded(client.session, "news/x", 5)
    advising.discarded(client.session, ROOT + "Queue", 1)
    advising.discarded(client.session, "$SYS/broker/uptime", 1)
    told = watcher.take()
    slow, discarded = "SlowConsumer/Topic/news/x", "MessageDiscarded/Topic/news/x"
    assert [name for name, _, _ in told] == [slow, discarded, discarded]
    assert told[0][1]["ConsumerInfo"]["consumerId"]["connectionId"] == client.name
    headers = told[2][2]
    assert (headers["consumerId"], headers["discardedCount"]) == (client.name, "5")
    assert headers["orignalDestination"] == "topic://news.x"


class Owner:
    """Takes nothing."""

    def feed_ready(self, feed: Feed) -> None:
        pass

    def feed_ended(self, feed: Feed, error: BraidError) -> None:
        pass


def test_a_feed_that_is_full_is_slow():
    """What Python and the native protocol subscribe with; its own advisories cause none."""
    broker = Harness(limits=Limits(live_queue_messages_max=1))
    watcher = Watcher(broker)
    interest = Interest(("t", ROOT + "#"))
    _, feed = broker.core.subscribe(SYSTEM, interest, Owner(), None, broker.clock.ms)
    client = Client(broker)
    client.connect(expiry_ms=0)
    watcher.take()
    for _ in range(2):
        client.send("t", b"x", 0)
    assert watcher.names() == ["SlowConsumer/Topic/t", "MessageDiscarded/Topic/t"]
    assert feed.dropped == 3


def test_what_is_remembered_of_what_was_told_is_bounded(broker, watcher):
    advising = broker.core.advising
    client = Client(broker)
    client.connect(expiry_ms=0)
    for number in range(SUBJECTS_MAX + 10):
        advising.discarded(client.session, f"t/{number}", 1)
        assert len(advising._told_ms) <= SUBJECTS_MAX
    watcher.unsubscribe(ROOT + "#")
    assert not advising._told_ms and not advising._listeners

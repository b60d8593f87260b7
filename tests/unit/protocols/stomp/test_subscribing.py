"""SUBSCRIBE and UNSUBSCRIBE: queues, topics, durable ones, and what is refused."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import NotFound
from braidmq.protocols.stomp.subscribing import ID_BYTES_MAX
from tests.stomp_peer import World


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_queue_is_declared_by_whoever_subscribes(world, version):
    peer = world.peer(version)
    peer.subscribe("/queue/a")
    (message,) = world.peer().send("/queue/a", b"x") or peer.read()
    assert message.headers["destination"] == "/queue/a"
    assert message.headers["subscription"] == "s"
    assert message.headers["message-id"].startswith("ID:")
    assert "ack" not in message.headers


def test_an_id_is_bounded(world):
    peer = world.peer()
    peer.subscribe("/topic/a", id="x" * ID_BYTES_MAX)
    error = peer.error("SUBSCRIBE", {"destination": "/topic/a", "id": "x" * (ID_BYTES_MAX + 1)})
    assert f"at most {ID_BYTES_MAX} bytes" in error.body.decode()


def test_in_1_0_a_subscription_needs_no_id(world):
    peer = world.peer("1.0")
    peer.sure("SUBSCRIBE", {"destination": "/queue/a"})
    (message,) = peer.send("/queue/a", b"x")
    assert "subscription" not in message.headers
    peer.sure("UNSUBSCRIBE", {"destination": "/queue/a"})
    assert peer.send("/queue/a", b"x") == []


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"id": "1"}, "SUBSCRIBE without a destination"),
        ({"destination": "/queue/a"}, "SUBSCRIBE without an id"),
        ({"destination": "/queue/a", "id": "1", "ack": "no"}, "The header ack cannot be used"),
        ({"destination": "/queue/a", "id": "1", "selector": "("}, "selector"),
        (
            {"destination": "/queue/a", "id": "1", "activemq.prefetchSize": "x"},
            "The header activemq.prefetchSize cannot be used",
        ),
        ({"destination": "/topic/a#.b", "id": "1"}, "Illegal destination name: [/topic/a#.b]"),
    ],
)
def test_what_cannot_be_subscribed_to_is_refused_and_leaves_nothing(world, headers, message):
    peer = world.peer()
    error = peer.error("SUBSCRIBE", {**headers, "receipt": "7"})
    assert message in error.headers["message"]
    assert error.headers["receipt-id"] == "7"
    queue = world.harness.core.queues.get("a")
    assert queue is None or not queue.consumers


def test_an_id_is_used_once_at_a_time(world):
    peer = world.peer()
    peer.subscribe("/queue/a")
    assert (
        "'s'" in peer.error("SUBSCRIBE", {"destination": "/queue/b", "id": "s"}).headers["message"]
    )


def test_a_connection_has_so_many_subscriptions():
    world = World(subscriptions_per_session_max=1)
    peer = world.peer()
    peer.subscribe("/queue/a", "1")
    error = peer.error("SUBSCRIBE", {"destination": "/queue/a", "id": "2"})
    assert "at most 1 subscriptions" in error.headers["message"]


def test_a_selector_chooses_in_a_queue_and_in_a_topic(world):
    peer = world.peer()
    peer.subscribe("/queue/a,/topic/t", selector="x = 'y'")
    assert peer.send("/queue/a", b"1") == []
    assert [m.body for m in peer.send("/queue/a", b"2", x="y")] == [b"2"]
    assert peer.send("/topic/t", b"3") == []
    assert [m.body for m in peer.send("/topic/t", b"4", x="y")] == [b"4"]


def test_no_more_than_the_prefetch_is_sent_ahead(world):
    peer = world.peer()
    world.harness.declare("a")
    world.harness.send(*[b"%d" % number for number in range(5)], name="a")
    found = peer.subscribe("/queue/a", ack="client-individual", **{"activemq.prefetchSize": "2"})
    found += peer.read()
    assert [message.body for message in found] == [b"0", b"1"]
    (more,) = peer.sure("ACK", peer.ack_of(found[0])) or peer.read()
    assert more.body == b"2"


def test_the_subscriptions_of_a_topic_share_its_messages_with_nobody(world):
    one, other = world.peer(), world.peer()
    one.subscribe("/topic/a.>")
    other.subscribe("/topic/a.b")
    world.peer().send("/topic/a.b", b"x")
    assert one.bodies() == other.bodies() == [b"x"]


def test_unsubscribe_ends_it_and_gives_back_what_is_held(world):
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client")
    assert len(peer.send("/queue/a", b"x")) == 1
    peer.sure("UNSUBSCRIBE", {"id": "s"})
    info = world.harness.info("a")
    assert (info.ready, info.in_flight, info.consumers) == (1, 0, 0)
    assert "No subscription" in peer.error("UNSUBSCRIBE", {"id": "s"}).headers["message"]


def test_a_queue_that_is_deleted_ends_the_connection(world):
    peer = world.peer()
    peer.subscribe("/queue/a")
    world.harness.delete("a")
    (error,) = peer.read()
    assert error.command == "ERROR"
    assert "a" in error.headers["message"]


class TestDurable:
    def connect(self, world, **fields):
        peer = world.peer(connect=False, **fields)
        peer.ask("CONNECT", {"accept-version": "1.2", "client-id": "ann"})
        return peer

    def test_activemq_names_it_by_client_id_and_name(self, world):
        name = {"activemq.subscriptionName": "d"}
        peer = self.connect(world)
        peer.subscribe("/topic/t", ack="client", **name)
        peer.lose()
        world.peer().send("/topic/t", b"1")
        peer = self.connect(world)
        found = peer.subscribe("/topic/t", ack="client", **name) + peer.read()
        assert [message.body for message in found] == [b"1"]
        peer.sure("ACK", peer.ack_of(found[0]))
        assert "ann:d" in world.harness.core.sessions
        peer.sure("UNSUBSCRIBE", {"id": "s"})
        assert "ann:d" in world.harness.core.sessions
        peer.sure("UNSUBSCRIBE", {"id": "s", **name})
        assert "ann:d" not in world.harness.core.sessions

    def test_it_needs_a_client_id(self, world):
        error = world.peer().error(
            "SUBSCRIBE", {"destination": "/topic/t", "id": "1", "activemq.subscriptionName": "d"}
        )
        assert "client-id" in error.body.decode()

    def test_rabbitmq_names_it_by_destination_and_id(self, world):
        peer = world.peer(dialect="rabbitmq")
        peer.subscribe("/topic/t", durable="true")
        assert "/topic/t:s" in world.harness.core.sessions
        peer.lose()
        world.peer().send("/topic/t", b"1")
        peer = world.peer(dialect="rabbitmq")
        found = peer.subscribe("/topic/t", durable="true") + peer.read()
        assert [message.body for message in found] == [b"1"]
        peer.sure("UNSUBSCRIBE", {"id": "s", "durable": "true"})
        assert "/topic/t:s" not in world.harness.core.sessions

    def test_another_connection_takes_it_over(self, world):
        name = {"activemq.subscriptionName": "d"}
        first = self.connect(world)
        first.subscribe("/topic/t", **name)
        second = self.connect(world)
        second.subscribe("/topic/t", **name)
        (error,) = first.read()
        assert "took the session" in error.headers["message"]
        world.peer().send("/topic/t", b"1")
        assert second.bodies() == [b"1"]

    def test_it_has_topics_only(self, world):
        error = self.connect(world).error(
            "SUBSCRIBE",
            {"destination": "/topic/t,/queue/q", "id": "1", "activemq.subscriptionName": "d"},
        )
        assert "more than topics" in error.headers["message"]

    def test_one_that_does_not_exist_cannot_be_ended(self, world):
        error = self.connect(world).error(
            "UNSUBSCRIBE", {"id": "s", "activemq.subscriptionName": "d"}
        )
        assert "ann:d" in error.headers["message"]
        with pytest.raises(NotFound):
            world.harness.core.session_info(SYSTEM, "ann:d")


def test_a_virtual_topic_is_consumed_by_name(world):
    one, other = world.peer(), world.peer()
    one.subscribe("/queue/Consumer.A.VirtualTopic.X")
    other.subscribe("/queue/Consumer.B.VirtualTopic.>")
    world.peer().send("/topic/VirtualTopic.X", b"x")
    assert one.bodies() == other.bodies() == [b"x"]


def test_an_exclusive_consumer_is_served_alone(world):
    first, second = world.peer(), world.peer()
    first.subscribe("/queue/a", **{"activemq.exclusive": "true"})
    second.subscribe("/queue/a")
    sender = world.peer()
    for _ in range(4):
        sender.send("/queue/a", b"x")
    assert len(first.bodies()) == 4
    assert second.bodies() == []


def test_rabbitmq_lets_nobody_beside_an_exclusive_consumer(world):
    world.peer(dialect="rabbitmq").subscribe("/queue/a", exclusive="true")
    error = world.peer(dialect="rabbitmq").error(
        "SUBSCRIBE", {"destination": "/queue/a", "id": "1"}
    )
    assert "a" in error.headers["message"]


def test_consumers_of_higher_priority_come_first(world):
    low, high = world.peer(), world.peer()
    low.subscribe("/queue/a", **{"activemq.priority": "-1"})
    high.subscribe("/queue/a", **{"activemq.priority": "5"})
    world.peer().send("/queue/a", b"x")
    assert (low.bodies(), high.bodies()) == ([], [b"x"])


class TestNotLocal:
    HEADERS = {"activemq.noLocal": "true"}

    def test_what_the_connection_publishes_itself_does_not_come(self, world):
        peer, other = world.peer(), world.peer()
        peer.subscribe("/topic/t", **self.HEADERS)
        other.subscribe("/topic/t")
        assert peer.send("/topic/t", b"1") == []
        assert peer.send("/queue/q,/topic/t", b"2") == []
        peer.sure("BEGIN", {"transaction": "x"})
        peer.send("/topic/t", b"3", transaction="x")
        assert peer.sure("COMMIT", {"transaction": "x"}) == []
        other.send("/topic/t", b"4")
        assert peer.bodies() == [b"4"]

    def test_others_of_the_connection_get_it(self, world):
        peer = world.peer()
        peer.subscribe("/topic/t", "1", **self.HEADERS)
        peer.subscribe("/topic/t", "2")
        (message,) = peer.send("/topic/t", b"1")
        assert message.headers["subscription"] == "2"

    def test_it_is_an_ordinary_header_for_rabbitmq(self, world):
        peer = world.peer(dialect="rabbitmq")
        peer.subscribe("/topic/t", **self.HEADERS)
        assert len(peer.send("/topic/t", b"1")) == 1

    def test_a_durable_one_cannot_have_it(self, world):
        peer = world.peer(connect=False)
        peer.ask("CONNECT", {"accept-version": "1.2", "client-id": "ann"})
        headers = {"destination": "/topic/t", "id": "1", "activemq.subscriptionName": "d"}
        error = peer.error("SUBSCRIBE", {**headers, **self.HEADERS})
        assert "activemq.noLocal" in error.headers["message"]
        assert "ann:d" not in world.harness.core.sessions


def test_the_receipt_of_a_durable_subscription_comes_before_its_messages(world):
    for _ in range(2):
        peer = world.peer(connect=False)
        peer.ask("CONNECT", {"accept-version": "1.2", "client-id": "ann"})
        headers = {"destination": "/topic/t", "id": "1", "activemq.subscriptionName": "d"}
        found = peer.ask("SUBSCRIBE", {**headers, "ack": "client", "receipt": "r"})
        assert found[0].command == "RECEIPT"
        world.peer().send("/topic/t", b"1")
        peer.lose()
    assert [frame.command for frame in found] == ["RECEIPT", "MESSAGE"]

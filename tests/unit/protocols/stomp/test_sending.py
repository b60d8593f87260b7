"""SEND: to queues, topics and streams, to several at once, and what of it is refused."""

from typing import Any

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.message import unpack_headers
from braidmq.broker.stream_settings import StreamSettings
from tests.stomp_peer import World


@pytest.fixture
def world():
    return World()


def test_a_queue_is_declared_by_its_first_message(world):
    world.peer().send("/queue/a", b"x", x="y")
    (message,) = world.harness.browse("a")
    assert (message.body, unpack_headers(message.attributes)["x"]) == (b"x", "y")
    settings = world.harness.info("a").settings
    assert (settings.dead_letter, settings.max_receives) == ("ActiveMQ.DLQ", 7)


def test_rabbitmq_declares_plain_queues(world):
    world.peer(dialect="rabbitmq").send("/queue/a", x_message_ttl="500")
    settings = world.harness.info("a").settings
    assert (settings.dead_letter, settings.ttl_ms) == ("", 500)


def test_a_topic_gets_what_is_published(world):
    peer = world.peer()
    peer.subscribe("/topic/a.*")
    (message,) = peer.send("/topic/a.b", b"x")
    assert message.headers["destination"] == "/topic/a.b"


def test_a_record_is_appended_with_its_key(world):
    core = world.harness.core
    core.declare_stream(SYSTEM, "s", StreamSettings(), 1, world.harness.clock.ms)
    peer = world.peer()
    peer.subscribe("/stream/s", start="earliest")
    (message,) = peer.send("/stream/s", b"x", partition_key="k", x="y")
    assert message.body == b"x"
    assert message.headers["partition-key"] == "k"
    assert message.headers["x"] == "y"
    assert message.headers["destination"] == "/stream/s"


def test_a_composite_destination_is_all_of_it(world):
    peer = world.peer()
    peer.subscribe("/topic/t")
    (message,) = peer.send("/queue/a,b,/topic/t", b"x")
    assert message.body == b"x"
    assert world.harness.bodies("a") == world.harness.bodies("b") == [b"x"]


def test_a_composite_destination_is_all_or_nothing(world):
    world.harness.declare("full", messages_max=1)
    world.harness.send(b"1", name="full")
    peer = world.peer()
    error = peer.error("SEND", {"destination": "/queue/a,full", "receipt": "1"}, b"x")
    assert "full" in error.headers["message"]
    assert world.harness.bodies("a") == []


def test_a_full_queue_refuses_and_names_the_receipt(world):
    world.harness.declare("a", messages_max=1)
    peer = world.peer()
    peer.write("SEND", {"destination": "/queue/a", "receipt": "1"}, b"1")
    peer.write("SEND", {"destination": "/queue/a", "receipt": "2"}, b"2")
    receipt, error = peer.read()
    assert receipt.headers["receipt-id"] == "1"
    assert (error.command, error.headers["receipt-id"]) == ("ERROR", "2")
    assert "queue a holds" in error.headers["message"]


def test_a_destination_is_needed_and_must_be_one(world):
    assert world.peer().error("SEND", {}).headers["message"] == "SEND without a destination"
    error = world.peer().error("SEND", {"destination": "plain"})
    assert "Illegal destination name: [plain]" in error.headers["message"]
    error = world.peer(dialect="rabbitmq").error("SEND", {"destination": "plain"})
    assert error.headers["message"] == "Unknown destination"


def test_an_existing_queue_is_not_declared(world):
    error = world.peer().error("SEND", {"destination": "/amq/queue/none"}, b"x")
    assert "no queue 'none'" in error.headers["message"]


def test_priority_expiry_and_delay_are_those_of_the_queue(world):
    peer = world.peer()
    peer.send("/queue/a", b"low", priority="1")
    peer.send("/queue/a", b"high", priority="9")
    assert world.harness.drain("a") == [b"high", b"low"]


def test_a_delay_in_a_queue(world):
    peer = world.peer(dialect="rabbitmq")
    peer.send("/queue/a", b"later", x_delay="1000")
    assert world.harness.info("a").delayed == 1


def test_a_delay_on_the_way_to_a_topic(world):
    peer = world.peer(dialect="rabbitmq")
    peer.subscribe("/topic/a")
    assert peer.send("/topic/a", b"later", x_delay="1000") == []
    world.harness.advance(1_000)
    assert peer.bodies() == [b"later"]


def test_a_retained_message_is_told_to_who_subscribes_later(world):
    peer = world.peer()
    peer.sure("SEND", {"destination": "/topic/a", "ActiveMQ.Retain": "true"}, b"kept")
    peer.write("SUBSCRIBE", {"destination": "/topic/a", "id": "s"})
    (message,) = peer.read()
    assert (message.body, message.headers["ActiveMQ.Retained"]) == (b"kept", "true")


def test_a_batch_is_no_larger_than_the_limit():
    world = World(batch_messages_max=2)
    peer = world.peer()
    for number in range(5):
        peer.write("SEND", {"destination": "/queue/a", "receipt": str(number)}, b"x")
    assert len(peer.read()) == 5


def test_a_body_with_nuls_and_its_length(world):
    world.peer().send("/queue/a", b"a\0b")
    assert world.harness.bodies("a") == [b"a\0b"]


class TestScheduled:
    def schedules(self, world) -> list[Any]:
        found: list[Any] = []
        core = world.harness.core
        core.list_schedules(SYSTEM, 0, 2**53, 0, 10, lambda _, answer: found.append(answer), None)
        world.harness.settle()
        assert isinstance(found[0], list), found
        return found[0]

    @pytest.mark.parametrize("kind", ["queue", "topic", "stream"])
    def test_a_message_comes_when_it_is_time(self, world, kind):
        core = world.harness.core
        core.declare_stream(SYSTEM, "a", StreamSettings(), 1, world.harness.clock.ms)
        peer = world.peer()
        peer.subscribe(f"/{kind}/a")
        assert peer.send(f"/{kind}/a", b"later", AMQ_SCHEDULED_DELAY="1000", x="y") == []
        (info,) = self.schedules(world)
        assert (info.kind, info.name) == (kind, "a")
        assert peer.read() == []
        world.harness.advance(1_000)
        (message,) = peer.read()
        assert (message.body, message.headers["x"]) == (b"later", "y")
        assert message.headers["scheduledJobId"] == str(info.id)

    def test_it_is_repeated(self, world):
        peer = world.peer()
        peer.subscribe("/queue/a")
        headers = {"AMQ_SCHEDULED_PERIOD": "500", "AMQ_SCHEDULED_REPEAT": "2"}
        assert peer.send("/queue/a", b"x", **headers) == []
        world.harness.advance(10_000)
        assert peer.bodies() == [b"x"] * 3

    def test_it_comes_to_all_destinations_of_a_composite(self, world):
        peer = world.peer()
        peer.send("/queue/a,/queue/b", b"x", AMQ_SCHEDULED_DELAY="1000")
        assert [info.name for info in self.schedules(world)] == ["a", "b"]
        world.harness.advance(1_000)
        assert world.harness.bodies("a") == world.harness.bodies("b") == [b"x"]

    def test_times_of_cron_must_be_some(self, world):
        headers = {"destination": "/queue/a", "AMQ_SCHEDULED_CRON": "never"}
        assert world.peer().error("SEND", headers).command == "ERROR"


class TestAlike:
    """Messages with the headers of the one before are sent without looking at these again."""

    def test_they_have_their_own_bodies(self, world):
        peer = world.peer()
        for destination in ("/queue/a", "/topic/a", "/queue/a"):
            peer.subscribe(destination, destination + str(world.ids))
            world.ids += 1
            for body in (b"1", b"22", b"333"):
                found = peer.send(destination, body, x="y")
                assert found and all(message.body == body for message in found)
                assert all(message.headers["x"] == "y" for message in found)

    def test_destinations_in_turn_get_their_own(self, world):
        peer = world.peer()
        for number in range(3):
            peer.write("SEND", {"destination": "/queue/a", "x": "a"}, b"a%d" % number)
            peer.write("SEND", {"destination": "/queue/b", "x": "b"}, b"b%d" % number)
        peer.read()
        assert world.harness.bodies("a") == [b"a0", b"a1", b"a2"]
        assert world.harness.bodies("b") == [b"b0", b"b1", b"b2"]

    def test_another_queue_of_the_name_is_looked_at(self, world):
        peer = world.peer()
        peer.send("/queue/a", b"1", group_id="g")
        world.harness.delete("a")
        world.harness.declare("a", fifo=True, content_dedup=True)
        peer.send("/queue/a", b"1", group_id="g")
        (delivery,) = world.harness.receive(name="a")
        assert unpack_headers(delivery.attributes)["group-id"] == "g"
        world.harness.delete("a")
        peer.send("/queue/a", b"2", group_id="g")
        assert world.harness.bodies("a") == [b"2"]

    def test_a_stream_and_text_without_length(self, world):
        core = world.harness.core
        core.declare_stream(SYSTEM, "s", StreamSettings(), 1, world.harness.clock.ms)
        peer = world.peer()
        peer.subscribe("/stream/s")
        for body in (b"1", b"2"):
            (message,) = peer.send("/stream/s", body, partition_key="k")
            assert (message.body, message.headers["partition-key"]) == (body, "k")

    def test_what_expires_does_so_in_its_own_time(self, world):
        peer = world.peer()
        end_ms = world.harness.clock.ms + 1_000
        peer.send("/queue/a", b"1", expires=str(end_ms))
        world.harness.advance(500)
        peer.send("/queue/a", b"2", expires=str(end_ms))
        world.harness.advance(501)
        assert world.harness.bodies("a") == []

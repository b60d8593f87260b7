"""Schedules, seen and removed by messages to a topic, as with ActiveMQ."""

import pytest

from braidmq.broker.access import Rule, User
from tests.stomp_peer import World

TOPIC = "/topic/ActiveMQ.Scheduler.Management"
SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture
def world():
    return World()


def scheduled(peer, *bodies):
    for number, body in enumerate(bodies):
        delay = str(1_000 * (number + 1))
        peer.send("/queue/a", body, AMQ_SCHEDULED_DELAY=delay, color="red")


def manage(peer, action, **headers):
    return peer.send(TOPIC, b"", AMQ_SCHEDULER_ACTION=action, **headers) + peer.read()


def test_a_browser_is_sent_copies_and_they_stay(world):
    peer = world.peer()
    scheduled(peer, b"1", b"2")
    peer.subscribe("/temp-queue/x")
    for _ in range(2):
        found = manage(peer, "BROWSE", reply_to="/temp-queue/x")
        assert [message.body for message in found] == [b"1", b"2"]
        assert [message.headers["AMQ_SCHEDULED_DELAY"] for message in found] == ["1000", "2000"]
        assert all(message.headers["color"] == "red" for message in found)
    peer.subscribe("/topic/t", "t")
    (message,) = manage(
        peer, "BROWSE", reply_to="/topic/t", ACTION_START_TIME=str(world.harness.clock.ms + 1_500)
    )
    assert message.body == b"2"
    world.harness.advance(2_000)
    assert world.harness.drain("a") == [b"1", b"2"]


def test_one_is_removed_by_its_number(world):
    peer = world.peer()
    scheduled(peer, b"1", b"2")
    peer.subscribe("/temp-queue/x")
    first, _ = manage(peer, "BROWSE", reply_to="/temp-queue/x")
    assert manage(peer, "REMOVE", scheduledJobId=first.headers["scheduledJobId"]) == []
    world.harness.advance(2_000)
    assert world.harness.bodies("a") == [b"2"]


def test_all_are_removed(world):
    peer = world.peer()
    scheduled(peer, b"1", b"2")
    manage(peer, "REMOVEALL")
    world.harness.advance(2_000)
    assert world.harness.bodies("a") == []


def test_those_of_a_time_are_removed(world):
    peer = world.peer()
    scheduled(peer, b"1", b"2")
    manage(peer, "REMOVEALL", ACTION_END_TIME=str(world.harness.clock.ms + 1_500))
    world.harness.advance(2_000)
    assert world.harness.bodies("a") == [b"2"]


def test_nothing_scheduled_is_no_error(world):
    peer = world.peer()
    peer.subscribe("/temp-queue/x")
    assert manage(peer, "BROWSE", reply_to="/temp-queue/x") == []
    assert manage(peer, "REMOVEALL") == []


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"AMQ_SCHEDULER_ACTION": "LOOK"}, "AMQ_SCHEDULER_ACTION"),
        ({"AMQ_SCHEDULER_ACTION": "REMOVE"}, "scheduledJobId"),
        ({"AMQ_SCHEDULER_ACTION": "REMOVE", "scheduledJobId": "77"}, "no schedule 77"),
        ({"AMQ_SCHEDULER_ACTION": "BROWSE"}, "reply-to"),
        ({"AMQ_SCHEDULER_ACTION": "BROWSE", "reply-to": "/stream/s"}, "reply-to"),
        ({"AMQ_SCHEDULER_ACTION": "REMOVEALL", "ACTION_END_TIME": "x"}, "ACTION_END_TIME"),
    ],
)
def test_what_makes_no_sense_is_refused(world, headers, message):
    error = world.peer().error("SEND", {"destination": TOPIC, "receipt": "r", **headers})
    assert message in error.headers["message"]
    assert error.headers["receipt-id"] == "r"


def test_nobody_removes_what_is_another_users():
    rules = (Rule("allow", ("queue:*",), ("*",)),)
    world = World(users=(User("ann", SECRET, rules), User("bob", SECRET, rules)))
    ann = world.peer(connect=False, certificate_user="ann")
    bob = world.peer(connect=False, certificate_user="bob")
    for peer in (ann, bob):
        peer.ask("CONNECT", {"accept-version": "1.2"})
    scheduled(ann, b"1")
    manage(bob, "REMOVEALL")
    world.harness.advance(1_000)
    assert world.harness.bodies("a") == [b"1"]


def test_a_request_of_a_connection_that_is_gone_is_done_all_the_same(world):
    peer = world.peer()
    scheduled(peer, b"1")
    peer.write("SEND", {"destination": TOPIC, "AMQ_SCHEDULER_ACTION": "REMOVEALL"})
    peer.lose()
    world.settle()
    world.harness.advance(1_000)
    assert world.harness.bodies("a") == []


def test_it_is_an_ordinary_topic_for_rabbitmq(world):
    peer = world.peer(dialect="rabbitmq")
    peer.subscribe(TOPIC)
    assert len(manage(peer, "REMOVEALL")) == 1

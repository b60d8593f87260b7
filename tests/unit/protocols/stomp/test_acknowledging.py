"""ACK and NACK in all versions, both modes and both dialects."""

import pytest

from tests.stomp_peer import World


@pytest.fixture
def world():
    return World()


def three(world, peer, mode):
    """Three messages that the client holds."""
    world.harness.declare("dead")
    world.harness.declare("a", dead_letter="dead", max_receives=5)
    world.harness.send(b"1", b"2", b"3", name="a")
    found = peer.subscribe("/queue/a", ack=mode) + peer.read()
    assert [message.body for message in found] == [b"1", b"2", b"3"]
    return found


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_client_acknowledges_all_before(world, version):
    peer = world.peer(version)
    found = three(world, peer, "client")
    peer.sure("ACK", peer.ack_of(found[1]))
    peer.lose()
    assert world.harness.bodies("a") == [b"3"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_client_individual_acknowledges_one(world, version):
    peer = world.peer(version)
    found = three(world, peer, "client-individual")
    peer.sure("ACK", peer.ack_of(found[1]))
    peer.lose()
    assert world.harness.bodies("a") == [b"1", b"3"]


def test_auto_needs_no_acknowledgement(world):
    peer = world.peer()
    peer.subscribe("/queue/a")
    assert len(peer.send("/queue/a", b"x")) == 1
    peer.lose()
    assert world.harness.bodies("a") == []


def test_what_auto_did_not_send_comes_back_as_if_it_had_not_been_given(world):
    peer = world.peer()
    peer.subscribe("/queue/a")
    world.harness.send(b"x", name="a")
    world.harness.settle()
    assert b"MESSAGE" in peer.session.out
    peer.lose()
    world.settle()
    (message,) = world.harness.browse("a")
    assert (message.state, message.receives) == ("ready", 0)


def test_a_nack_makes_a_dead_letter_of_it(world):
    peer = world.peer()
    found = three(world, peer, "client-individual")
    peer.sure("NACK", peer.ack_of(found[0]))
    assert world.harness.bodies("dead") == [b"1"]


def test_a_nack_gives_back_to_the_queue_with_rabbitmq(world):
    peer = world.peer(dialect="rabbitmq")
    found = three(world, peer, "client-individual")
    (again,) = peer.sure("NACK", peer.ack_of(found[0])) + peer.read()
    assert again.body == b"1"
    assert (again.headers["redelivered"], again.headers["x-delivery-count"]) == ("true", "1")
    peer.sure("NACK", {**peer.ack_of(again), "requeue": "false"})
    assert world.harness.bodies("dead") == [b"1"]


def test_a_nack_where_there_is_no_dead_letter_queue_lets_it_go(world):
    world.harness.declare("a")
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client")
    (message,) = peer.send("/queue/a", b"x")
    peer.sure("NACK", peer.ack_of(message))
    assert world.harness.bodies("a") == []


def test_messages_of_topics_can_be_acknowledged(world):
    peer = world.peer()
    peer.subscribe("/topic/a", ack="client", **{"activemq.prefetchSize": "1"})
    sender = world.peer()
    for number in range(3):
        sender.send("/topic/a", b"%d" % number)
    (first,) = peer.read()
    (second,) = peer.sure("ACK", peer.ack_of(first)) + peer.read()
    assert (first.body, second.body) == (b"0", b"1")
    assert first.headers["message-id"] != second.headers["message-id"]


@pytest.mark.parametrize(
    ("version", "headers", "message"),
    [
        ("1.2", {}, "ACK without an id"),
        ("1.2", {"id": "1-9"}, "ACK of a message that is not held"),
        ("1.2", {"id": "nonsense"}, "ACK of a message that is not held"),
        ("1.2", {"id": "1-" + "9" * 90}, "ACK of a message that is not held"),
        ("1.1", {"message-id": "1"}, "ACK without a subscription"),
        ("1.1", {"subscription": "s"}, "ACK without a message-id"),
        ("1.1", {"message-id": "1", "subscription": "none"}, "ACK of a message that is not held"),
        ("1.0", {}, "ACK without a message-id"),
        ("1.0", {"message-id": "1"}, "ACK of a message that is not held"),
    ],
)
def test_what_cannot_be_acknowledged_is_refused(world, version, headers, message):
    peer = world.peer(version)
    three(world, peer, "client")
    assert peer.error("ACK", headers).headers["message"] == message


def test_an_ack_twice_is_refused(world):
    peer = world.peer()
    found = three(world, peer, "client")
    peer.sure("ACK", peer.ack_of(found[0]))
    error = peer.error("ACK", peer.ack_of(found[0]))
    assert error.headers["message"] == "ACK of a message that is not held"


def test_acks_that_come_together_are_all_answered(world):
    peer = world.peer()
    found = three(world, peer, "client-individual")
    for number, message in enumerate(found):
        peer.write("ACK", {**peer.ack_of(message), "receipt": str(number)})
    assert [frame.headers["receipt-id"] for frame in peer.read()] == list("012")
    assert world.harness.info("a").acknowledged == 3


@pytest.mark.parametrize("mode", ["client", "client-individual"])
def test_a_message_that_came_twice_by_a_composite_is_acknowledged_twice(world, mode):
    queues = ["Consumer.A.VirtualTopic.X", "Consumer.B.VirtualTopic.X", "Consumer.C.VirtualTopic.X"]
    peer = world.peer("1.1")
    peer.subscribe("/queue/" + ",".join(queues), ack=mode)
    world.peer().send("/topic/VirtualTopic.X", b"x")
    found = peer.read()
    assert len(found) == 3
    assert len({message.headers["message-id"] for message in found}) == 1
    peer.ask("BEGIN", {"transaction": "t"})
    peer.sure("ACK", {**peer.ack_of(found[0]), "transaction": "t"})
    peer.sure("ABORT", {"transaction": "t"})
    for message in found:
        peer.sure("ACK", peer.ack_of(message))
    assert sum(world.harness.info(name).acknowledged for name in queues) == 3
    assert "not held" in peer.error("ACK", peer.ack_of(found[0])).headers["message"]

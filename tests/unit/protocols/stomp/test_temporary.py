"""Temporary queues and topics: request and reply between connections."""

import pytest

from braidmq.protocols.stomp.server import EPOCH_TAG, StompServer
from braidmq.protocols.stomp.temporary import TEMPORARY_MAX
from tests.stomp_peer import World


@pytest.fixture
def world():
    return World()


def test_a_request_is_answered_by_a_temporary_queue(world):
    service, client = world.peer(), world.peer()
    service.subscribe("/queue/work")
    client.subscribe("/temp-queue/answers", "t")
    client.send("/queue/work", b"ask", reply_to="/temp-queue/answers", correlation_id="7")
    (asked,) = service.read()
    assert asked.headers["reply-to"].startswith("/remote-temp-queue/")
    service.send(asked.headers["reply-to"], b"answer", correlation_id="7")
    (answer,) = client.read()
    assert answer.body == b"answer"
    assert answer.headers["destination"] == "/temp-queue/answers"
    assert (answer.headers["subscription"], answer.headers["correlation-id"]) == ("t", "7")


def test_rabbitmq_subscribes_to_the_answers_by_itself(world):
    service, client = world.peer(dialect="rabbitmq"), world.peer(dialect="rabbitmq")
    service.subscribe("/queue/work")
    client.send("/queue/work", b"ask", reply_to="/temp-queue/answers")
    (asked,) = service.read()
    assert asked.headers["reply-to"].startswith("/reply-queue/")
    service.send(asked.headers["reply-to"], b"answer")
    (answer,) = client.read()
    assert (answer.body, answer.headers["subscription"]) == (b"answer", "/temp-queue/answers")


def test_a_request_is_answered_by_a_temporary_topic(world):
    service, client = world.peer(), world.peer()
    service.subscribe("/queue/work")
    client.subscribe("/temp-topic/answers", "t")
    client.send("/queue/work", b"ask", reply_to="/temp-topic/answers")
    (asked,) = service.read()
    service.send(asked.headers["reply-to"], b"answer")
    (answer,) = client.read()
    assert (answer.body, answer.headers["destination"]) == (b"answer", "/temp-topic/answers")


def test_a_temporary_queue_is_gone_with_its_connection_and_answers_are_dropped(world):
    service, client = world.peer(), world.peer()
    service.subscribe("/queue/work")
    client.subscribe("/temp-queue/answers", "t")
    client.send("/queue/work", b"ask", reply_to="/temp-queue/answers")
    (asked,) = service.read()
    names = [name for name in world.harness.core.queues if name.startswith("temp-queue.")]
    assert len(names) == 1
    client.lose()
    assert names[0] not in world.harness.core.queues
    assert service.send(asked.headers["reply-to"], b"answer") == []
    assert world.server.unanswerable == 1


def test_nobody_else_can_subscribe_to_it(world):
    error = world.peer().error("SUBSCRIBE", {"destination": "/remote-temp-queue/id1", "id": "1"})
    assert "only the connection that made it" in error.body.decode()


def test_a_connection_has_so_many(world):
    peer = world.peer()
    for number in range(TEMPORARY_MAX):
        peer.write("SEND", {"destination": f"/temp-topic/{number}"}, b"x")
    peer.read()
    error = peer.error("SEND", {"destination": "/temp-queue/more"}, b"x")
    assert f"at most {TEMPORARY_MAX} temporary" in error.headers["message"]


def test_those_of_an_earlier_start_are_deleted(world):
    core = world.harness.core
    world.harness.declare("temp-queue.old", tags={EPOCH_TAG: str(core.epoch - 1)})
    world.harness.declare("temp-queue.now", tags={EPOCH_TAG: str(core.epoch)})
    world.harness.declare("temp-queue.mine")
    StompServer(core, lambda: "x")
    assert sorted(core.queues) == ["temp-queue.mine", "temp-queue.now"]

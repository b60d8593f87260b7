"""Browsers show what is in a queue and leave it there."""

import pytest

from braidmq.protocols.stomp.browsing import PAGE_MESSAGES
from tests.stomp_peer import World


@pytest.mark.parametrize("count", [0, 1, PAGE_MESSAGES, 2 * PAGE_MESSAGES + 3])
def test_all_is_shown_then_the_end(count):
    world = World()
    world.harness.declare("a")
    if count:
        world.harness.send(*[b"%d" % number for number in range(count)], name="a")
    peer = world.peer()
    found = peer.subscribe("/queue/a", browser="true") + peer.read()
    assert [message.body for message in found] == [b"%d" % n for n in range(count)] + [b""]
    assert found[-1].headers["browser"] == "end"
    assert found[-1].headers["subscription"] == "s"
    assert all("browser" not in message.headers for message in found[:-1])
    assert world.harness.info("a").ready == count
    peer.sure("UNSUBSCRIBE", {"id": "s"})


def test_a_selector_chooses():
    world = World()
    peer = world.peer()
    peer.send("/queue/a", b"1")
    peer.send("/queue/a", b"2", x="y")
    found = peer.subscribe("/queue/a", browser="true", selector="x = 'y'") + peer.read()
    assert [message.body for message in found] == [b"2", b""]


def test_a_queue_that_is_deleted_meanwhile_ends_the_connection():
    world = World()
    world.harness.declare("a")
    peer = world.peer()
    peer.write("SUBSCRIBE", {"destination": "/queue/a", "id": "s", "browser": "true"})
    world.harness.delete("a")
    assert peer.read()[-1].command == "ERROR"


def test_a_slow_client_gets_no_further_page():
    world = World()
    world.harness.declare("a")
    world.harness.send(*[b"x"] * (3 * PAGE_MESSAGES), name="a")
    peer = world.peer()
    peer.session.pause_writing()
    peer.write("SUBSCRIBE", {"destination": "/queue/a", "id": "s", "browser": "true"})
    assert peer.bodies() == []
    peer.session.resume_writing()
    assert len(peer.bodies()) == 3 * PAGE_MESSAGES + 1

"""How much a source sends ahead, and what bounds it."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streams import Appending
from braidmq.protocols.stomp.sources import WINDOW_BYTES, WINDOW_FIRST_MESSAGES
from tests.stomp_peer import World


@pytest.mark.parametrize(("destination", "queues"), [("/queue/a.0", 1), ("/queue/a.*", 5)])
def test_large_messages_are_sent_a_window_at_a_time(destination, queues):
    world = World()
    for number in range(queues):
        world.harness.declare(f"a.{number}")
        world.harness.send(*[b"x" * 200_000] * (40 // queues), name=f"a.{number}")
    peer = world.peer()
    peer.write("SUBSCRIBE", {"destination": destination, "id": "s"})
    most = 0
    came = 0
    for _ in range(200):
        world.harness.settle()
        most = max(most, len(peer.session.out))
        peer.step()
        while (frame := peer.frames.next_frame()) is not None:
            came += frame.command == "MESSAGE"
    assert came == 40
    assert most <= WINDOW_BYTES + 201_000


def test_who_stops_to_read_gets_nothing_more_by_any_subscription():
    world = World()
    peer = world.peer()
    for number in range(10):
        peer.subscribe(f"/queue/{number}", id=str(number))
    peer.session.pause_writing()
    for number in range(10):
        world.harness.send(b"x", name=str(number))
    world.harness.settle()
    assert not peer.session.out
    peer.session.resume_writing()
    assert len(peer.bodies()) == 10


def test_what_waits_at_once_is_bounded_over_all_subscriptions():
    world = World(outbound_bytes_max=50_000)
    peer = world.peer()
    world.harness.declare("a")
    world.harness.send(*[b"x" * 20_000] * 60, name="a")
    for number in range(20):
        peer.write("SUBSCRIBE", {"destination": "/queue/a", "id": str(number)})
    world.harness.settle()
    assert len(peer.session.out) <= 50_000 + WINDOW_FIRST_MESSAGES * 21_000
    assert len(peer.bodies()) == 60


def test_a_topic_of_large_messages_is_sent_a_window_at_a_time():
    world = World()
    peer, sender = world.peer(), world.peer()
    peer.subscribe("/topic/a")
    for _ in range(100):
        sender.write("SEND", {"destination": "/topic/a"}, b"x" * 50_000)
    peer.session.data_to_send(world.harness.clock.ms)
    assert len(peer.session.out) <= WINDOW_BYTES + WINDOW_FIRST_MESSAGES * 51_000


def test_live_messages_beyond_the_limit_are_dropped_and_counted():
    world = World(live_queue_messages_max=10)
    peer, sender = world.peer(), world.peer()
    peer.subscribe("/topic/a")
    peer.session.pause_writing()
    for number in range(20):
        sender.send("/topic/a", b"%d" % number)
    assert world.harness.core.topics.dropped == 10
    peer.session.resume_writing()
    assert len(peer.bodies()) == 10


def test_a_selector_of_a_durable_subscription_settles_what_it_does_not_want():
    world = World()
    peer = world.peer(connect=False)
    peer.ask("CONNECT", {"accept-version": "1.2", "client-id": "ann"})
    headers = {"activemq.subscriptionName": "d", "selector": "x = 'y'", "ack": "client"}
    peer.subscribe("/topic/t", **headers)
    sender = world.peer()
    sender.send("/topic/t", b"1")
    sender.send("/topic/t", b"2", x="y")
    assert peer.bodies() == [b"2"]
    queue = world.harness.core.sessions["ann:d"].queue
    assert queue is not None and queue.live == 1


def test_who_was_sent_all_at_once_is_sent_the_rest():
    world = World(outbound_bytes_max=1_000)
    world.harness.declare("a")
    world.harness.send(*[b"x" * 900] * 100, name="a")
    peer = world.peer()
    woken: list[bool] = []
    peer.host.wake = lambda: woken.append(True)  # type: ignore[method-assign]
    peer.write("SUBSCRIBE", {"destination": "/queue/a", "id": "s"})
    came = 0
    while woken:
        woken.clear()
        world.harness.settle()
        peer.step()
        while (frame := peer.frames.next_frame()) is not None:
            came += frame.command == "MESSAGE"
        world.harness.settle()
    assert came == 100


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("browser", ["false", "true"])
def test_records_that_a_queue_shows_have_the_default_priority(version, browser):
    world = World()
    harness = world.harness
    harness.core.declare_stream(SYSTEM, "s", StreamSettings(), 3, harness.clock.ms)
    harness.declare("v", stream="s", start="earliest")
    batch = Appending([b"x"] * 3, [b""] * 3, None, [0, 2**127, 2**128 - 1])
    harness.core.append(SYSTEM, "s", batch, harness.clock.ms)
    harness.settle()
    peer = world.peer(version)
    came = peer.subscribe("/queue/v", browser=browser) + peer.read()
    messages = [frame.headers for frame in came if "browser" not in frame.headers]
    assert [headers["priority"] for headers in messages] == ["4"] * 3

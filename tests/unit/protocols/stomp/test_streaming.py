"""Subscriptions to streams."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.protocols.stomp.dialects import ACTIVEMQ, Refused
from braidmq.protocols.stomp.streaming import start_of
from tests.stomp_peer import World


@pytest.fixture
def world():
    world = World()
    world.harness.core.declare_stream(SYSTEM, "s", StreamSettings(), 1, world.harness.clock.ms)
    return world


def append(world, *bodies):
    batch = Appending(bodies, [b""] * len(bodies))
    world.harness.core.append(SYSTEM, "s", batch, world.harness.clock.ms)
    world.harness.settle()


@pytest.mark.parametrize(
    ("headers", "start"),
    [
        ({}, Start("latest")),
        ({"start": "latest"}, Start("latest")),
        ({"start": "earliest"}, Start("earliest")),
        ({"start": "1700000000000"}, Start("time", time_ms=1_700_000_000_000)),
        ({"start": "2023-11-14T22:13:20Z"}, Start("time", time_ms=1_700_000_000_000)),
        ({"start": "2023-11-14T22:13:20"}, Start("time", time_ms=1_700_000_000_000)),
        ({"x-stream-offset": "first"}, Start("earliest")),
        ({"x-stream-offset": "next"}, Start("latest")),
        ({"x-stream-offset": "timestamp=1700000000"}, Start("time", time_ms=1_700_000_000_000)),
    ],
)
def test_where_to_begin(headers, start):
    assert start_of(headers, ACTIVEMQ) == start


@pytest.mark.parametrize("headers", [{"start": "soon"}, {"x-stream-offset": "offset=5"}])
def test_where_nobody_can_begin(headers):
    with pytest.raises(Refused):
        start_of(headers, ACTIVEMQ)


def test_records_come_in_order_from_the_beginning_or_from_now_on(world):
    append(world, b"1", b"2")
    first, second = world.peer(), world.peer()
    found = first.subscribe("/stream/s", start="earliest") + first.read()
    second.subscribe("/stream/s")
    append(world, b"3")
    found += first.read()
    assert [message.body for message in found] == [b"1", b"2", b"3"]
    assert [message.headers["sequence-number"] for message in found] == ["1", "2", "3"]
    assert second.bodies() == [b"3"]


def test_from_a_time_on(world):
    append(world, b"1")
    world.harness.advance(1_000)
    time_ms = world.harness.clock.ms
    append(world, b"2")
    peer = world.peer()
    found = peer.subscribe("/stream/s", start=str(time_ms)) + peer.read()
    assert [message.body for message in found] == [b"2"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_an_acknowledgement_lets_more_come(world, version):
    append(world, b"1", b"2", b"3")
    peer = world.peer(version)
    prefetch = {"activemq.prefetchSize": "1"}
    found = peer.subscribe("/stream/s", start="earliest", ack="client", **prefetch) + peer.read()
    assert [message.body for message in found] == [b"1"]
    (second,) = peer.sure("ACK", peer.ack_of(found[0])) + peer.read()
    assert second.body == b"2"


def test_a_selector_knows_when_a_record_came(world):
    peer = world.peer()
    time_ms = world.harness.clock.ms
    peer.subscribe("/stream/s", selector=f"JMSTimestamp > {time_ms} AND JMSPriority = 4")
    append(world, b"1")
    world.harness.advance(1)
    append(world, b"2")
    assert peer.bodies() == [b"2"]


def test_a_selector_chooses(world):
    peer = world.peer()
    peer.subscribe("/stream/s", selector="x = 'y'")
    assert peer.send("/stream/s", b"1") == []
    assert [m.body for m in peer.send("/stream/s", b"2", x="y") + peer.read()] == [b"2"]


def test_many_records_come_as_the_client_reads(world):
    append(world, *[b"x" * 1_000] * 1_000)
    peer = world.peer()
    found = peer.subscribe("/stream/s", start="earliest") + peer.read()
    assert len(found) == 1_000


def test_a_stream_that_is_not_there(world):
    error = world.peer().error("SUBSCRIBE", {"destination": "/stream/none", "id": "1"})
    assert "none" in error.headers["message"]


def test_a_stream_that_is_deleted_ends_the_connection(world):
    peer = world.peer()
    peer.subscribe("/stream/s")
    world.harness.core.delete_stream(SYSTEM, "s")
    found = peer.read()
    assert not found or found[-1].command == "ERROR"


def test_unsubscribe_ends_it(world):
    peer = world.peer()
    peer.subscribe("/stream/s")
    peer.sure("UNSUBSCRIBE", {"id": "s"})
    append(world, b"1")
    assert peer.bodies() == []

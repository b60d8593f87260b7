"""Topics that are no topics: sending to queues, publishing later, and what is the broker's own."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.message import unpack_headers
from braidmq.broker.settings import QueueSettings
from tests.broker_harness import Collector
from tests.conformance import packets as p
from tests.conformance.packets import V5, V311
from tests.mqtt_peer import World


def with_queue(world, **settings):
    world.core.declare_queue(SYSTEM, "orders", QueueSettings(**settings), world.clock.ms)
    world.settle()


def received(world):
    sink = Collector()
    world.core.receive(SYSTEM, "orders", sink, 10, 0, 1000, "", "", None, world.clock.ms)
    world.settle()
    return sink.deliveries


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publication_to_a_queue_is_sent_there(qos):
    world = World()
    with_queue(world)
    peer = world.join()
    properties = [(p.USER_PROPERTY, ("tenant", "a")), (p.CONTENT_TYPE, "text/plain")]
    peer.send(p.publish("$queue/orders", b"one", qos=qos, properties=properties))
    [message] = received(world)
    assert message.body == b"one"
    assert unpack_headers(message.attributes) == {"content-type": "text/plain", "tenant": "a"}
    expected = {0: [], 1: ["PUBACK"], 2: ["PUBREC"]}[qos]
    assert peer.kinds() == expected


def test_quality_2_sends_once_however_often_it_comes():
    world = World()
    with_queue(world)
    peer = world.join(clean=False)
    for dup in (False, True):
        peer.send(p.publish("$queue/orders", b"one", qos=2, packet_id=9, dup=dup))
    assert peer.kinds() == ["PUBREC", "PUBREC"]
    assert len(received(world)) == 1


def test_group_and_deduplication_id_are_user_properties():
    world = World()
    with_queue(world, fifo=True)
    peer = world.join()
    properties = [(p.USER_PROPERTY, ("group-id", "g")), (p.USER_PROPERTY, ("dedup-id", "d"))]
    for packet_id in (1, 2):
        packet = p.publish(
            "$queue/orders", b"one", qos=1, packet_id=packet_id, properties=properties
        )
        peer.send(packet)
    assert [packet.reason for packet in peer.take()] == [0, 0]
    assert len(received(world)) == 1


def test_what_a_queue_does_not_take_is_refused_with_a_reason():
    world = World()
    with_queue(world, messages_max=1)
    peer = world.join()
    for topic in ("$queue/orders", "$queue/orders", "$queue/none"):
        peer.send(p.publish(topic, b"x", qos=1))
    assert [packet.reason for packet in peer.take()] == [0, 0x97, 0x90]
    assert not peer.closed
    old = world.join("old", version=V311)
    old.send(p.publish("$queue/orders", b"x", qos=1, version=V311))
    assert old.closed and not old.take()  # 3.1.1 has no word for it, and nothing is acknowledged


def test_a_delayed_publication_comes_when_its_time_has_come():
    world = World()
    reader, writer = world.join("r"), world.join("w")
    reader.send(p.subscribe(("t/#", 1)))
    reader.take()
    writer.send(p.publish("$delayed/5/t/a", b"later", qos=1))
    assert writer.kinds() == ["PUBACK"]
    world.advance(4_999)
    assert reader.take() == []
    world.advance(600)
    [packet] = reader.take()
    assert (packet.topic, packet.payload, packet.qos) == ("t/a", b"later", 1)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("$delayed/x/t", 0x90),
        ("$delayed/-1/t", 0x90),
        ("$delayed/1234567890/t", 0x90),
        ("$delayed/5/$SYS/x", 0x87),
        ("$SYS/broker/version", 0x87),
        ("$anything", 0x87),
    ],
)
def test_everything_else_is_the_brokers_own(topic, reason):
    world = World()
    peer = world.join(version=V5)
    peer.send(p.publish(topic, b"x", qos=1))
    [packet] = peer.take()
    assert (packet.kind, packet.reason) == (p.PUBACK, reason)

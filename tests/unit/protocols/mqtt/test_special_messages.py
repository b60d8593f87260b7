"""Topics that are none: what they stand for, and what of a message survives. See test_inbound."""

from typing import Any

import pytest

from braidmq.broker.message import unpack_headers
from braidmq.protocols.mqtt.special import DELAYED_PREFIX
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V311
from tests.mqtt_peer import World


def test_a_message_for_a_queue_keeps_its_properties_as_headers():
    world = World()
    world.broker.declare("q")
    client = world.join()
    properties: list[tuple[int, Any]] = [
        (p.CONTENT_TYPE, "t"),
        (p.USER_PROPERTY, ("tenant", "a")),
        (p.MESSAGE_EXPIRY, 10),
    ]
    client.send(p.publish("$queue/q", b"x", qos=1, properties=properties))
    assert client.kinds() == ["PUBACK"]
    (found,) = world.broker.browse()
    assert unpack_headers(found.attributes) == {"content-type": "t", "tenant": "a"}
    world.advance(10_100)
    assert world.broker.bodies() == []


def test_group_and_deduplication_of_a_fifo_queue_come_as_user_properties():
    world = World()
    world.broker.declare("q.fifo", fifo=True)
    client = world.join()
    for body, dedup in ((b"1", "a"), (b"2", "b"), (b"1", "a")):
        user = [(p.USER_PROPERTY, ("group-id", "g")), (p.USER_PROPERTY, ("dedup-id", dedup))]
        client.send(p.publish("$queue/q.fifo", body, qos=1, properties=user))
    assert client.kinds() == ["PUBACK"] * 3
    assert world.broker.bodies("q.fifo") == [b"1", b"2"]
    user = [(p.USER_PROPERTY, ("group-id", "g" * 200))]
    client.send(p.publish("$queue/q.fifo", b"", qos=1, properties=user))
    assert client.take()[0].reason >= 0x80


def test_a_delayed_message_survives_the_broker():
    world = World(DiskBroker())
    client = world.join(version=V311)
    client.send(p.publish(DELAYED_PREFIX + "60/a", b"x", qos=1, retain=True, version=V311))
    assert client.kinds() == ["PUBACK"]
    world = world.restarted()
    late = world.join("late", V311, keep_alive=0)
    late.subscribe(("a", 1))
    world.advance(59_000)
    assert late.take() == []
    world.advance(2_000)
    assert late.bodies() == [b"x"]
    other = world.join("other", V311)
    other.send(p.subscribe(("a", 1), version=V311))
    assert other.take()[-1].retain


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_full_queue_refuses(qos):
    world = World()
    world.broker.declare("q", messages_max=1, overflow="reject")
    client = world.join()
    for number in (1, 2):
        client.send(p.publish("$queue/q", b"%d" % number, qos=qos, packet_id=number))
    assert world.broker.bodies() == [b"1"]
    assert [each.reason for each in client.take()] == ([0, 0x97] if qos else [])
    if qos == 2:  # what was refused is not remembered: its identifier is free
        client.send(p.ack(p.PUBREL, 2))
        assert client.take()[0].reason == 0x92


@pytest.mark.parametrize("topic", ["$queue/q", "$queue/q.fifo", DELAYED_PREFIX + "60/a"])
def test_a_message_and_its_identifier_are_kept_in_one_record(topic, monkeypatch):
    """So that a log which ends anywhere has both of them or neither."""
    world = World(DiskBroker())
    world.broker.declare("q")
    world.broker.declare("q.fifo", fifo=True)
    client = world.join(**DURABLE)
    client.send(p.publish(DELAYED_PREFIX + "60/a", b"", qos=1))  # its queue is there from now on
    records = []
    append = world.core.log.append

    def spy(parts, references=0, **options):
        records.append(parts)
        return append(parts, references, **options)

    with monkeypatch.context() as patch:
        patch.setattr(world.core.log, "append", spy)
        packet = p.publish(topic, b"x", qos=2, packet_id=7)
        client.feed(packet)
    assert len(records) == 1
    world.settle()
    world = world.restarted()
    client = world.join(**DURABLE)
    client.send(bytes([packet[0] | 8]) + packet[1:], p.ack(p.PUBREL, 7))
    assert [(each.kind, each.reason) for each in client.take()] == [(p.PUBREC, 0), (p.PUBCOMP, 0)]
    assert sum(queue.live for queue in world.core.entities()) == 2  # with the first one


def test_what_has_no_record_of_its_own_is_taken_once_as_well():
    """A queue in memory, and a duplicate for a FIFO queue."""
    world = World(DiskBroker())
    world.broker.declare("q", durability=Durability.MEMORY)
    world.broker.declare("q.fifo", fifo=True, content_dedup=True)
    client = world.join(**DURABLE)
    for packet_id, topic in enumerate(("$queue/q", "$queue/q.fifo", "$queue/q.fifo"), 1):
        client.send(p.publish(topic, b"x", qos=2, packet_id=packet_id))
    assert client.kinds() == ["PUBREC"] * 3
    world = world.restarted()
    client = world.join(**DURABLE)
    assert client.session.queue is not None
    assert client.session.queue.inbound == {1, 2, 3}

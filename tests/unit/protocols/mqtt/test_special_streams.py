"""Publishing to ``$stream/NAME``: what becomes of a message, and what its publisher hears."""

import random

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.limits import PARTITION_KEY_BYTES_MAX, Limits
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.log import Durability
from braidmq.storage.record import decode_message
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V311
from tests.group_client import declare_stream, read_all
from tests.mqtt_peer import World

TOPIC = "$stream/s"


def world_with(broker=None, shards=1, **settings):
    world = World(broker)
    declare_stream(world.broker, shards, **settings)
    return world


def user(*pairs):
    return [(p.USER_PROPERTY, pair) for pair in pairs]


def append(peer, body, qos=1, *pairs, **fields):
    fields.setdefault("properties", user(*pairs))
    peer.send(p.publish(TOPIC, body, qos=qos, **fields))


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_a_publication_is_appended(qos, durability, clean):
    world = world_with(durability=durability)
    peer = world.join("truck-7", clean=clean)
    append(peer, b"one", qos, ("tenant", "a"), ("partition-key", "k"))
    append(peer, b"two", qos, packet_id=2, properties=[(p.CONTENT_TYPE, "text/plain")])
    assert peer.kinds() == {0: [], 1: ["PUBACK"] * 2, 2: ["PUBREC"] * 2}[qos]
    one, two = read_all(world.broker)
    assert (one.number, one.key, one.body, one.headers["tenant"]) == (1, "k", b"one", "a")
    # Without a key of its own a message has its client's: what a client sends stays in order.
    assert (two.number, two.key, two.body) == (2, "truck-7", b"two")
    assert two.headers["content-type"] == "text/plain"
    assert one.time_ms == world.clock.ms


def test_the_acknowledgement_waits_for_the_disk():
    world = world_with(DiskBroker())
    peer = world.join()
    world.broker.auto_commit = False
    peer.feed(p.publish(TOPIC, b"one", qos=1))
    assert not peer.inbox
    world.broker.auto_commit = True
    assert peer.kinds() == ["PUBACK"]
    assert [record.body for record in read_all(world.restarted(random.Random(1)).broker)] == [
        b"one"
    ]


@pytest.mark.parametrize("seed", range(20))
def test_quality_2_is_once_also_through_power_cuts(seed):
    rng = random.Random(seed)
    world = world_with(DiskBroker(), 2)
    bodies = []
    peer = world.join("c", **DURABLE)
    for number in range(1, 9):
        body = b"%d" % number
        bodies.append(body)
        for attempt in range(20):
            packet = p.publish(TOPIC, body, qos=2, packet_id=number, dup=attempt > 0)
            peer.feed(packet)
            for _ in range(rng.randrange(6)):
                rng.choice([world.clock.turn, world.broker._step])()
            if rng.random() < 0.5:
                world = world.restarted(rng)
                peer = world.join("c", **DURABLE)
                continue
            if "PUBREC" in peer.kinds():
                break
        peer.send(p.ack(p.PUBREL, number))
        assert peer.kinds() == ["PUBCOMP"]
        if rng.random() < 0.3:
            world.broker.checkpoint()
            world.broker.rehome()
    assert sorted(record.body for record in read_all(world.broker)) == bodies
    assert not world.core.sessions["c"].queue.inbound


def test_quality_2_of_a_durable_session_is_one_record():
    world = world_with()
    peer = world.join("c", **DURABLE)
    at = world.broker.log.next_lsn
    append(peer, b"x", 2)
    extent = world.broker.log.get(at)
    assert len(decode_message(extent.buffer, at - extent.start, at).targets) == 2


def test_what_a_stream_does_not_take_is_refused_with_a_reason():
    world = world_with(shard_records_in_per_second=2, record_bytes_max=2_000)
    for qos, kind in ((1, p.PUBACK), (2, p.PUBREC)):
        peer = world.join("durable", **DURABLE)
        peer.send(p.publish("$stream/none", b"x", qos=qos))
        append(peer, b"x" * 2_001, qos)
        append(peer, b"x", qos, ("partition-key", "k" * (PARTITION_KEY_BYTES_MAX + 1)))
        append(peer, b"x", qos)
        append(peer, b"x", qos, packet_id=2)
        append(peer, b"x", qos, packet_id=3)
        taken = peer.take()
        assert {packet.kind for packet in taken} == {kind}
        reasons = [packet.reason for packet in taken]
        assert reasons == [0x90, 0x97, 0x90, 0, 0, 0x97]
        world.advance(2_000)
    assert len(read_all(world.broker)) == 4


def test_an_old_client_is_hung_up_on_before_the_acknowledgement():
    world = world_with(shard_records_in_per_second=1)
    peer = world.join("old", version=V311)
    for packet_id in (1, 2):
        peer.feed(p.publish(TOPIC, b"x", qos=1, packet_id=packet_id, version=V311))
    world.settle()
    assert peer.closed
    assert len(read_all(world.broker)) == 1


def test_it_needs_the_right_to_append():
    world = world_with()
    secret = "$scram-sha-256$x"
    rules = [Rule("allow", ("session:Connect", "topic:Publish"), ("*",))]
    world.core.access.replace([User("u", secret, tuple(rules))])
    peer = world.dial()
    peer.connect(username="u", password="x")
    peer.login[2](world.core.access.principal("u"))
    peer.take()
    for qos in (1, 2):
        append(peer, b"x", qos)
    assert [packet.reason for packet in peer.take()] == [0x87, 0x87]
    rules.append(Rule("allow", ("stream:Append",), ("s",)))
    world.core.access.replace([User("u", secret, tuple(rules))])
    append(peer, b"x", 1)
    assert [packet.reason for packet in peer.take()] == [0]


def test_nothing_is_retained():
    world = world_with()
    peer = world.join()
    append(peer, b"x", retain=True)
    assert peer.kinds() == ["PUBACK"]
    assert len(world.core.topics.retained) == 0
    assert len(read_all(world.broker)) == 1


def test_a_stream_in_memory_leaves_the_identifier_to_the_session():
    world = World(DiskBroker())
    settings = StreamSettings(durability=Durability.MEMORY)
    world.core.declare_stream(SYSTEM, "s", settings, 1, world.clock.ms)
    peer = world.join("c", **DURABLE)
    append(peer, b"x", 2)
    assert peer.kinds() == ["PUBREC"]
    world = world.restarted(random.Random(1))
    peer = world.join("c", **DURABLE)
    append(peer, b"x", 2, dup=True)
    assert peer.kinds() == ["PUBREC"]
    assert not read_all(world.broker)


# --- runs ---


def run_of(count, size=5, qos=1, version=V5, first=1):
    return b"".join(
        p.publish(TOPIC, b"%d" % number * size, qos=qos, packet_id=number, version=version)
        for number in range(first, first + count)
    )


def blocks(world):
    return sum(len(shard.firsts) for shard in world.core.streams.get("s").shards.values())


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("durability", list(Durability))
def test_messages_in_a_row_are_one_block(qos, version, durability):
    world = world_with(shards=4, durability=durability)
    peer = world.join("truck-7", version)
    peer.send(run_of(9, qos=qos, version=version))
    assert [packet.packet_id for packet in peer.take()] == list(range(1, 10))[: 9 * qos]
    found = read_all(world.broker)
    assert [record.body for record in found] == [b"%d" % n * 5 for n in range(1, 10)]
    assert {(record.key, record.raw_headers) for record in found} == {("truck-7", b"")}
    assert blocks(world) == 1
    assert world.server.received == 9


def test_a_run_is_no_longer_than_a_batch_may_be():
    world = World(limits=Limits(batch_messages_max=4))
    declare_stream(world.broker, 1)
    peer = world.join()
    peer.send(run_of(9))
    assert peer.kinds() == ["PUBACK"] * 9
    assert blocks(world) == 3


def test_the_answers_of_runs_wait_for_the_disk_in_their_order():
    world = world_with(broker=DiskBroker())
    peer = world.join()
    world.broker.auto_commit = False
    peer.feed(run_of(4) + p.publish("t", b"x", qos=1, packet_id=5))
    assert not peer.inbox
    world.broker.auto_commit = True
    taken = peer.take()
    assert [packet.packet_id for packet in taken] == [1, 2, 3, 4, 5]
    assert [packet.reason for packet in taken] == [0, 0, 0, 0, 0x10]


@pytest.mark.parametrize("version", [V311, V5])
def test_messages_in_a_row_are_refused_one_by_one(version):
    world = world_with(shard_records_in_per_second=3)
    peer = world.join("c", version)
    peer.send(run_of(5, version=version))
    reasons = [packet.reason for packet in peer.inbox]
    assert reasons == ([0, 0, 0, 0x97, 0x97] if version == V5 else [])
    assert peer.closed is (version == V311)
    assert len(read_all(world.broker)) == 3


def test_settings_that_change_are_heeded_by_the_next_run():
    world = world_with()
    peer = world.join()
    peer.send(run_of(3))
    world.core.update_stream(SYSTEM, "s", {"record_bytes_max": 10}, world.clock.ms)
    peer.send(run_of(2, size=20, first=10))
    world.core.delete_stream(SYSTEM, "s")
    peer.send(run_of(2, first=20))
    assert [packet.reason for packet in peer.take()] == [0, 0, 0, 0x97, 0x97, 0x90, 0x90]


def test_a_run_needs_the_right_to_append():
    world = world_with()
    secret = "$scram-sha-256$x"
    rules = Rule("allow", ("session:Connect", "topic:Publish", "stream:Append"), ("*",))
    no_more = Rule("deny", ("stream:Append",), ("s",))
    world.core.access.replace([User("u", secret, (rules,))])
    peer = world.dial()
    peer.connect(username="u", password="x")
    peer.login[2](world.core.access.principal("u"))
    peer.take()
    peer.send(run_of(3))
    world.core.access.replace([User("u", secret, (rules, no_more))])
    peer.send(run_of(3, first=10))
    assert [packet.reason for packet in peer.take()] == [0] * 3 + [0x87] * 3
    assert len(read_all(world.broker)) == 3


def test_a_run_for_a_stream_is_part_of_no_stretch():
    world = world_with()
    reader = world.join("r")
    reader.subscribe(("t/#", 1))
    peer = world.join("w")
    topics = ["t/1", "t/2", TOPIC, "t/3", TOPIC, "t/4", "t/5"]
    for first in (1, 11):
        peer.send(
            *[
                p.publish(topic, b"x", qos=1, packet_id=number)
                for number, topic in enumerate(topics, first)
            ]
        )
    assert [packet.packet_id for packet in peer.take()] == [*range(1, 8), *range(11, 18)]
    assert [packet.topic for packet in reader.take()] == ["t/1", "t/2", "t/3", "t/4", "t/5"] * 2
    assert len(read_all(world.broker)) == 4

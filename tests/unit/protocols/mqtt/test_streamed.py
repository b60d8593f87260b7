"""Records on their way to clients: order, how far ahead, and how far a group is."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.protocols.mqtt.streamed import (
    CHECKPOINT_MS,
    CHECKPOINT_RECORDS,
    OUT_BYTES_MAX,
    STREAMED_BYTES_MAX,
)
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.conformance import packets as p
from tests.conformance.packets import V311
from tests.group_client import append, declare_stream
from tests.mqtt_peer import World

TOPIC, SHARED = "$stream/s", "$share/g/$stream/s"
EARLIEST = [(p.USER_PROPERTY, ("start", "earliest"))]


def world_with(shards=1, broker=None, **settings):
    world = World(broker)
    declare_stream(world.broker, shards, **settings)
    return world


def reader(world, name="c", filter=TOPIC, qos=1, **fields):
    """A client that reads from the beginning; what came with the SUBACK is in its inbox."""
    peer = world.join(name, **fields)
    peer.send(p.subscribe((filter, qos), properties=EARLIEST, version=peer.version))
    peer.inbox = [packet for packet in peer.inbox if packet.kind != p.SUBACK]
    return peer


def numbers(count, first=0):
    return [b"%d" % number for number in range(first, first + count)]


def answer(peer, *packets):
    peer.send(*[p.ack(p.PUBACK, packet.packet_id) for packet in packets])


def info(world, name="g"):
    found = world.core.group_info(SYSTEM, "s", name, world.clock.ms)
    return {each.shard: each for each in found.shards}


def kept(world, shard=0):
    return info(world)[shard].number


class Spy:
    """A session whose output is looked at."""

    def __init__(self, session, data_to_send):
        self._session = session
        self.data_to_send = data_to_send

    def __getattr__(self, name):
        return getattr(self._session, name)


# --- what comes ---


def test_a_record_says_where_it_stands():
    world = world_with(2)
    world.advance(5)
    forged = {"shard": "9", "sequence-number": "9", "timestamp": "9", "colour": "red"}
    headers = pack_headers({**forged, "content-type": "text/plain"}, Limits())
    batch = Appending([b"x"], [b"key"], [headers], [0])
    world.core.append(SYSTEM, "s", batch, world.clock.ms)
    peer = reader(world)
    (record,) = peer.take()
    assert (record.topic, record.payload, record.qos, record.retain, record.dup) == (
        *(TOPIC, b"x", 1, False, False),
    )
    assert record.get(p.CONTENT_TYPE) == "text/plain"
    assert record.all(p.USER_PROPERTY) == [
        ("partition-key", "key"),
        ("shard", "0"),
        ("sequence-number", "1"),
        ("timestamp", str(world.clock.ms)),
        ("colour", "red"),
    ]


def test_what_a_publisher_says_of_shard_and_number_does_not_count():
    world = world_with()
    pairs = [("shard", "7"), ("a", "1"), ("a", "2"), ("partition-key", "k"), ("shard", "8")]
    for qos in (1, 2):
        properties = [(p.USER_PROPERTY, pair) for pair in pairs]
        world.join().send(p.publish(TOPIC, b"x", qos=qos, properties=properties))
    for record in reader(world).take():
        found = record.all(p.USER_PROPERTY)
        assert found[:2] == [("partition-key", "k"), ("shard", "0")]
        assert found[4:] == [("a", "1"), ("a", "2")]


def test_a_record_that_came_by_a_topic_says_which():
    world = world_with()
    settings = BindingSettings()
    world.core.bind(SYSTEM, "trucks/+", Target("stream", "s"), settings, world.clock.ms)
    world.join("truck").send(p.publish("trucks/7", b"x", qos=1))
    (record,) = reader(world).take()
    assert (record.topic, record.payload) == (TOPIC, b"x")
    found = dict(record.all(p.USER_PROPERTY))
    assert found["topic"] == found["partition-key"] == "trucks/7"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (b"", ""),
        ("k\u00e9y".encode(), "k\u00e9y"),
        (b"a\0b", None),
    ],
)
def test_a_key_that_mqtt_cannot_carry_is_left_out(key, said):
    world = world_with()
    world.core.append(SYSTEM, "s", Appending([b"1", b"2"], [b"first", key]), world.clock.ms)
    _, record = reader(world).take()
    found = dict(record.all(p.USER_PROPERTY))
    assert found.get("partition-key") == said
    assert found["sequence-number"] == "2"


def test_old_clients_get_the_records_alone():
    world = world_with()
    peer = world.join("old", V311)
    peer.subscribe((TOPIC, 1))
    append(world.broker, 0, b"x")
    (record,) = peer.take()
    assert (record.topic, record.payload, record.properties) == (TOPIC, b"x", [])


def test_subscription_identifiers_come_with_the_records():
    world = world_with()
    peer = world.join()
    for filter, number in ((TOPIC, 7), (SHARED, 8)):
        peer.subscribe((filter, 0), properties=[(p.SUBSCRIPTION_ID, number)])
    append(world.broker, 0, b"x")
    assert sorted(packet.get(p.SUBSCRIPTION_ID) for packet in peer.take()) == [7, 8]


def test_a_topic_alias_stands_for_the_stream():
    world = world_with()
    append(world.broker, 0, b"1", b"2")
    peer = reader(world, properties=[(p.TOPIC_ALIAS_MAXIMUM, 1)])
    assert [(packet.topic, packet.get(p.TOPIC_ALIAS)) for packet in peer.take()] == [
        (TOPIC, 1),
        ("", 1),
    ]


# --- how much ---


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_no_more_is_sent_than_the_client_may_have_unacknowledged(filter):
    world = world_with()
    append(world.broker, 0, *numbers(10))
    peer = reader(world, filter=filter, properties=[(p.RECEIVE_MAXIMUM, 3)])
    found = []
    while taken := peer.take():
        assert len(taken) <= 3
        found += [packet.payload for packet in taken]
        answer(peer, taken[0])
        if len(taken) > 1:
            found += [packet.payload for packet in peer.take()]
            answer(peer, *taken[1:])
    assert found == numbers(10)


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
@pytest.mark.parametrize("qos", [0, 1])
def test_no_more_is_held_than_its_limit(filter, qos):
    world = world_with(4)
    record = bytes(10_000)
    for _ in range(40):
        for shard in range(4):
            append(world.broker, shard, record)
    peer = world.join(properties=[(p.RECEIVE_MAXIMUM, 5)] if qos else None)
    peer.session.pause_writing()
    peer.send(p.subscribe((filter, qos), properties=EARLIEST))
    (source,) = peer.session.streaming._sources.values()
    held = sum(batch.bytes for batch in source._waiting)
    largest = 64 * 1024  # that a read of one of several shards may take
    assert STREAMED_BYTES_MAX / 2 < held <= STREAMED_BYTES_MAX + largest
    peer.session.resume_writing()
    peer.flush()
    count = 0
    while taken := [packet for packet in peer.take() if packet.kind == p.PUBLISH]:
        assert not qos or len(taken) <= 5
        count += len(taken)
        answer(peer, *[packet for packet in taken if packet.qos])
    assert count == 160


def test_records_wait_for_a_client_that_reads_slowly_and_none_is_dropped():
    world = world_with()
    body = bytes(1_000)
    for _ in range(20):
        append(world.broker, 0, *[body] * 100)
    peer = world.join()
    peer.feed(p.subscribe((TOPIC, 0), properties=EARLIEST))
    peer.session.pause_writing()
    world.settle()
    assert peer.session.out.out_bytes < OUT_BYTES_MAX + 2_000
    peer.session.resume_writing()
    peer.flush()
    assert len([packet for packet in peer.take() if packet.kind == p.PUBLISH]) == 2_000
    assert world.server.dropped == 0


def test_no_more_is_written_at_once_than_its_limit_and_the_rest_follows():
    world = world_with()
    for _ in range(25):
        append(world.broker, 0, bytes(10_000))
    peer = world.join()
    written = []
    data_to_send = peer.session.data_to_send

    def note(now_ms):
        data = data_to_send(now_ms)
        written.append(len(data))
        return data

    peer.session.pause_writing()
    filters = [f"$share/g{number}/$stream/s" for number in range(8)]
    peer.send(p.subscribe(*[(filter, 0) for filter in filters], properties=EARLIEST))
    spy = Spy(peer.session, note)
    peer.session = spy
    peer.session.resume_writing()
    peer.flush()
    assert len([packet for packet in peer.take() if packet.kind == p.PUBLISH]) == 8 * 25
    assert OUT_BYTES_MAX / 2 < max(written) < OUT_BYTES_MAX + 11_000


def test_what_is_too_large_for_the_client_is_passed_over():
    world = world_with()
    append(world.broker, 0, b"1", bytes(1_000), b"2")
    peer = reader(world, filter=SHARED, properties=[(p.MAXIMUM_PACKET_SIZE, 500)])
    taken = peer.take()
    assert [packet.payload for packet in taken] == [b"1", b"2"]
    assert world.server.too_large == 1
    answer(peer, *taken)
    world.advance(CHECKPOINT_MS)
    assert kept(world) == 4


def test_two_subscriptions_take_turns():
    world = world_with()
    append(world.broker, 0, *numbers(40))
    peer = world.join(properties=[(p.RECEIVE_MAXIMUM, 4)])
    peer.session.pause_writing()
    for number, filter in enumerate((TOPIC, SHARED), 1):
        properties = [*EARLIEST, (p.SUBSCRIPTION_ID, number)]
        peer.send(p.subscribe((filter, 1), properties=properties))
    peer.session.resume_writing()
    peer.flush()
    counts = {1: 0, 2: 0}
    while taken := [packet for packet in peer.take() if packet.kind == p.PUBLISH]:
        for packet in taken:
            counts[packet.get(p.SUBSCRIPTION_ID)] += 1
        assert abs(counts[1] - counts[2]) <= 8, counts
        answer(peer, *taken)
    assert counts == {1: 40, 2: 40}


def test_the_order_of_a_shard_is_kept_through_a_split():
    world = world_with()
    peer = reader(world, properties=[(p.RECEIVE_MAXIMUM, 2)])
    sent = {0: numbers(5), 1: numbers(5, 5), 2: numbers(5, 10)}
    append(world.broker, 0, *sent[0])
    world.core.split_shard(SYSTEM, "s", 0, "", world.clock.ms)
    for shard in (1, 2):
        append(world.broker, shard, *sent[shard])
    found: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    order = []
    while taken := peer.take():
        for packet in taken:
            shard = int(dict(packet.all(p.USER_PROPERTY))["shard"])
            found[shard].append(packet.payload)
            order.append(shard)
        answer(peer, *taken)
    assert found == sent
    assert order[:5] == [0] * 5


# --- groups ---


def test_acknowledgements_move_the_checkpoint_in_order():
    world = world_with()
    append(world.broker, 0, *numbers(5))
    peer = reader(world, filter=SHARED)
    taken = peer.take()
    answer(peer, taken[1], taken[2], taken[4])
    world.advance(CHECKPOINT_MS)
    assert kept(world) == 1  # the first one is missing
    answer(peer, taken[0])
    assert kept(world) == 1
    world.advance(CHECKPOINT_MS)
    assert kept(world) == 4
    answer(peer, taken[3])
    world.advance(CHECKPOINT_MS)
    assert kept(world) == 6


def test_many_acknowledgements_are_kept_before_their_time():
    world = world_with()
    append(world.broker, 0, *numbers(CHECKPOINT_RECORDS + 1))
    peer = reader(world, filter=SHARED)
    taken = peer.take()
    answer(peer, *taken[: CHECKPOINT_RECORDS - 1])
    assert kept(world) == 1
    answer(peer, taken[CHECKPOINT_RECORDS - 1])
    assert kept(world) == CHECKPOINT_RECORDS + 1


def test_a_checkpoint_is_a_record_and_not_one_for_each_acknowledgement():
    world = world_with()
    append(world.broker, 0, *numbers(50))
    peer = reader(world, filter=SHARED)
    at = world.broker.log.next_lsn
    for packet in peer.take():
        answer(peer, packet)
    assert world.broker.log.next_lsn == at
    world.advance(10 * CHECKPOINT_MS)
    assert 0 < world.broker.log.next_lsn - at < 200
    assert kept(world) == 51


def test_with_quality_0_what_was_sent_counts():
    world = world_with()
    append(world.broker, 0, *numbers(2 * CHECKPOINT_RECORDS + 2))
    peer = reader(world, filter=SHARED, qos=0)
    assert len(peer.take()) == 2 * CHECKPOINT_RECORDS + 2
    assert kept(world) > CHECKPOINT_RECORDS
    world.advance(CHECKPOINT_MS)
    assert kept(world) == 2 * CHECKPOINT_RECORDS + 3


@pytest.mark.parametrize("end", ["lose", "disconnect", "unsubscribe"])
def test_the_rest_comes_to_others_from_the_checkpoint_on(end):
    world = world_with(2)
    first = reader(world, "first", SHARED)
    for shard in (0, 1):
        append(world.broker, shard, *numbers(4, 4 * shard))
    taken = first.take()
    by_body = {packet.payload: packet for packet in taken}
    answer(first, *[by_body[body] for body in (b"0", b"1", b"3", b"4")])
    second = reader(world, "second", SHARED)
    if end == "lose":
        first.lose()
    elif end == "disconnect":
        first.send(p.disconnect())
    else:
        first.send(p.unsubscribe(SHARED))
    found = sorted(packet.payload for packet in second.take())
    assert found == [b"2", b"3", b"5", b"6", b"7"]
    if end == "unsubscribe":
        answer(first, by_body[b"2"])  # too late, and no harm
        assert not first.closed


def test_members_share_the_shards():
    world = world_with(4)
    peers = [reader(world, name, SHARED) for name in ("a", "b")]
    world.advance(20_000)
    for shard in range(4):
        append(world.broker, shard, *numbers(3, 3 * shard))
    found = [peer.take() for peer in peers]
    assert [len(each) for each in found] == [6, 6]
    shards = [{dict(packet.all(p.USER_PROPERTY))["shard"] for packet in each} for each in found]
    assert len(shards[0]) == len(shards[1]) == 2 and not shards[0] & shards[1]


def test_a_shard_that_is_asked_back_is_given_when_what_was_sent_is_acknowledged():
    world = world_with(2)
    for shard in (0, 1):
        append(world.broker, shard, *numbers(5, 5 * shard))
    first = reader(world, "first", SHARED, properties=[(p.RECEIVE_MAXIMUM, 3)])
    taken = first.take()
    assert len(taken) == 3
    second = reader(world, "second", SHARED)
    assert len(second.inbox) in (0, 5)
    states = [each.state for each in info(world).values()]
    if "revoked" in states:
        answer(first, *taken)
    world.settle()
    assert [each.state for each in info(world).values()] == ["held", "held"]
    assert len({each.member for each in info(world).values()}) == 2
    found = [packet.payload for packet in taken]
    answer(first, *taken)
    while more := [(peer, packet) for peer in (first, second) for packet in peer.take()]:
        for peer, packet in more:
            found.append(packet.payload)
            answer(peer, packet)
    assert sorted(found) == sorted(numbers(10))  # none twice


def test_a_shard_that_is_not_given_back_is_taken():
    world = world_with(2)
    first = reader(world, "first", SHARED)
    for shard in (0, 1):
        append(world.broker, shard, *numbers(5, 5 * shard))
    taken = first.take()
    second = reader(world, "second", SHARED)
    assert "revoked" in [each.state for each in info(world).values()]
    assert not second.take()
    world.advance(20_000)
    assert len(second.take()) == 5
    answer(first, *taken)  # of one shard too late
    world.advance(CHECKPOINT_MS)
    assert sorted(each.lag for each in info(world).values()) == [0, 5]
    assert not first.closed


def test_children_are_read_when_all_of_their_parent_is_acknowledged():
    world = world_with()
    peer = reader(world, filter=SHARED)
    append(world.broker, 0, b"old")
    world.core.split_shard(SYSTEM, "s", 0, "", world.clock.ms)
    append(world.broker, 1, b"left")
    append(world.broker, 2, b"right")
    (old,) = peer.take()
    assert old.payload == b"old"
    world.advance(10_000)
    assert not peer.take()
    answer(peer, old)
    world.advance(CHECKPOINT_MS)
    assert sorted(packet.payload for packet in peer.take()) == [b"left", b"right"]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_shard_that_was_closed_before_is_done_at_once(qos):
    world = world_with()
    append(world.broker, 0, *numbers(2 * CHECKPOINT_RECORDS))
    world.core.split_shard(SYSTEM, "s", 0, "", world.clock.ms)
    append(world.broker, 1, b"left")
    peer = reader(world, filter=SHARED, qos=qos)
    found = []
    while taken := peer.take():  # no time goes by
        found += [packet.payload for packet in taken]
        answer(peer, *[packet for packet in taken if packet.qos])
    assert found == [*numbers(2 * CHECKPOINT_RECORDS), b"left"]


def test_a_reset_begins_again():
    world = world_with()
    append(world.broker, 0, *numbers(3))
    peer = reader(world, filter=SHARED)
    answer(peer, *peer.take())
    world.core.reset_group(
        *(SYSTEM, "s", "g", Start(), 0, True, lambda *_: None, None, world.clock.ms)
    )
    assert [packet.payload for packet in peer.take()] == numbers(3)


def test_the_checkpoint_outlives_the_broker():
    world = world_with(1, DiskBroker())
    append(world.broker, 0, *numbers(4))
    peer = reader(world, filter=SHARED)
    taken = peer.take()
    answer(peer, *taken[:3])
    world.advance(CHECKPOINT_MS)
    world.settle()
    world = world.restarted()
    peer = reader(world, filter=SHARED)
    assert [packet.payload for packet in peer.take()] == [b"3"]


def test_members_come_and_go_and_no_record_is_missed():
    world = world_with(3, Harness())
    seen: dict[bytes, int] = {}
    for turn in range(30):
        shards = sorted(world.core.streams.get("s").open, key=lambda shard: shard.index)
        append(world.broker, shards[turn % len(shards)].index, *numbers(10, 10 * turn))
        if turn == 12:
            world.core.split_shard(SYSTEM, "s", 1, "", world.clock.ms)
        peers = [peer for peer in world.peers if not peer.closed]
        if turn % 4 == 0 and len(peers) < 4:
            reader(world, f"c{turn}", SHARED, properties=[(p.RECEIVE_MAXIMUM, 7)])
        if turn % 5 == 4 and peers:
            peers[0].lose()
        for peer in peers:
            for packet in peer.take():
                if packet.kind == p.PUBLISH:
                    seen[packet.payload] = seen.get(packet.payload, 0) + 1
                    if hash(packet.payload) % 3 or turn > 20:
                        answer(peer, packet)
        world.advance(700)
    last = reader(world, "last", SHARED)
    for peer in [peer for peer in world.peers if peer is not last]:
        peer.lose()
    while taken := last.take():
        for packet in taken:
            seen[packet.payload] = seen.get(packet.payload, 0) + 1
        answer(last, *taken)
        world.advance(CHECKPOINT_MS)
    assert set(seen) == set(numbers(300))
    assert sum(each.lag for each in info(world).values()) == 0

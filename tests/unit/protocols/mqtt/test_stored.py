"""Stored messages: in order, never more than the client takes, with it until it answers."""

import random

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.limits import Limits
from braidmq.protocols.mqtt.stored import LEASED_BYTES_MAX
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import V5, V311, Packet
from tests.mqtt_peer import World


def messages(peer) -> list[Packet]:
    return [packet for packet in peer.take() if packet.kind == p.PUBLISH]


def durable(receive_maximum=65_535):
    return {
        "clean": False,
        "properties": [(p.SESSION_EXPIRY, 3600), (p.RECEIVE_MAXIMUM, receive_maximum)],
    }


def publish_many(world, topic, count, size=1, qos=1, start=0, **fields):
    """Messages from somebody who has left when they arrive."""
    peer = world.join("publisher", **fields)
    for number in range(start, start + count):
        body = str(number).encode().ljust(size, b".")
        peer.send(p.publish(topic, body, qos=qos, packet_id=1 + number, version=peer.version))
        if qos == 2:
            peer.send(p.ack(p.PUBREL, 1 + number))
    peer.send(p.disconnect())


# --- the window ---


@pytest.mark.parametrize("window", [1, 2, 7])
def test_no_more_is_sent_than_receive_maximum_over_all_sources(window):
    world = World()
    world.broker.declare("q")
    peer = world.join("c", **durable(window))
    peer.subscribe(("own/#", 1), ("two/#", 2), ("$queue/q", 1), ("$share/g/shared/#", 1))
    for topic in ("own/a", "shared/a", "$queue/q"):
        publish_many(world, topic, 10)
    publish_many(world, "two/a", 10, qos=2)
    in_flight: dict[int, int] = {}
    seen = 0
    while True:
        for packet in peer.take():
            if packet.kind == p.PUBLISH:
                assert packet.packet_id not in in_flight
                in_flight[packet.packet_id] = packet.qos
                seen += 1
            elif packet.kind == p.PUBREL:
                in_flight[packet.packet_id] = 0
            elif packet.kind == p.PUBCOMP:
                raise AssertionError(packet)
        assert len(in_flight) <= window
        if not in_flight:
            break
        number, qos = next(iter(in_flight.items()))
        if qos == 2:
            peer.send(p.ack(p.PUBREC, number))
        else:
            del in_flight[number]
            peer.send(p.ack(p.PUBACK if qos else p.PUBCOMP, number))
    assert seen == 40


def test_quality_0_of_a_queue_waits_as_well_while_the_client_does_not_read():
    """It needs no acknowledgement: nothing else would hold it back."""
    world = World()
    world.broker.declare("q")
    peer = world.join("c")
    peer.subscribe(("$queue/q", 0))
    peer.session.pause_writing()
    world.broker.send(*[b"x" * 10_000] * 1000)
    world.settle()
    out = peer.session.out
    assert out.stored is not None
    assert out.out_bytes + out.stored._bytes < 3 * LEASED_BYTES_MAX
    assert world.broker.info().ready > 500
    while world.broker.info().ready:
        peer.session.resume_writing()
        peer.flush()
        peer.session.pause_writing()
        world.settle()
    peer.session.resume_writing()
    peer.flush()
    assert len(peer.bodies()) == 1000


@pytest.mark.parametrize("slow", [False, True])
def test_large_messages_are_not_all_fetched_for_one_client(slow):
    world = World(limits=Limits(receive_bytes_max=200_000))
    peer = world.join("c", **durable())
    peer.subscribe(("a", 1))
    if slow:
        peer.session.pause_writing()
    publish_many(world, "a", 200, size=100_000)
    queue = world.core.sessions["c"].queue
    assert queue is not None
    if slow:
        assert len(queue.leases) < 40
        peer.session.resume_writing()
        peer.flush()
    seen = 0
    while got := messages(peer):
        seen += len(got)
        peer.send(b"".join(p.ack(p.PUBACK, each.packet_id) for each in got))
    assert seen == 200 and queue.live == 0


def test_a_window_beyond_the_largest_credit_is_cut_to_it():
    world = World(limits=Limits(credit_max=10))
    peer = world.join("c", **durable(100))
    peer.subscribe(("a", 1))
    publish_many(world, "a", 50)
    seen = 0
    while got := messages(peer):
        assert len(got) <= 10
        seen += len(got)
        for each in got:
            peer.send(p.ack(p.PUBACK, each.packet_id))
    assert seen == 50


def test_a_queue_that_was_left_while_a_message_is_in_flight_is_not_paused():
    world = World()
    world.broker.declare("q")
    peer = world.join("c", **durable(10))
    peer.subscribe(("$queue/q", 1), ("a", 1))
    publish_many(world, "$queue/q", 1)
    assert len(messages(peer)) == 1
    peer.send(p.unsubscribe("$queue/q"))
    peer.take()
    peer.session.pause_writing()
    publish_many(world, "a", 8, size=LEASED_BYTES_MAX // 4)
    peer.session.resume_writing()
    peer.flush()
    assert len(messages(peer)) == 8


def test_what_was_never_sent_for_want_of_the_right_goes_back_as_if_never_received():
    world = World()
    world.broker.declare("q")
    secret = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    everything = Rule("allow", ("*",), ("*",))
    world.core.access.replace([User("u", secret, (everything,))])
    peer = world.dial()
    peer.connect("c", username="u", password="x")
    peer.login[2](world.core.access.principal("u"))
    peer.subscribe(("$queue/q", 1))
    world.broker.send(b"sent")
    assert [packet.payload for packet in messages(peer)] == [b"sent"]
    no_more = Rule("deny", ("queue:Receive",), ("q",))
    world.core.access.replace([User("u", secret, (everything, no_more))])
    world.broker.send(b"1", b"2", b"3")
    assert messages(peer) == [] and not peer.closed
    assert world.broker.info().consumers == 0
    found = world.broker.receive(10)
    counts = [(delivery.body, delivery.receives) for delivery in found]
    assert counts == [(b"sent", 2), (b"1", 1), (b"2", 1), (b"3", 1)]


# --- identifiers ---


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("version", [V311, V5])
def test_what_was_not_acknowledged_comes_again_under_its_identifier(version, restart):
    world = World(DiskBroker())
    fields = durable() if version == V5 else {"clean": False}
    peer = world.join("c", version, **fields)
    peer.subscribe(("a", 2))
    publish_many(world, "a", 3, qos=1)
    publish_many(world, "a", 3, qos=2, start=3)
    first = messages(peer)
    assert [each.dup for each in first] == [False] * 6
    peer.send(p.ack(p.PUBACK, first[1].packet_id))
    peer.send(p.ack(p.PUBREC, first[4].packet_id))
    assert peer.kinds() == ["PUBREL"]
    if restart:
        world = world.restarted(random.Random(1))
    else:
        peer.lose()
    peer = world.join("c", version, **fields)
    assert peer.connack.session_present
    again = peer.take()
    assert (again[0].kind, again[0].packet_id) == (p.PUBREL, first[4].packet_id)
    expected = [
        (each.packet_id, each.payload) for each in first if each not in (first[1], first[4])
    ]
    assert [(each.packet_id, each.payload) for each in again[1:]] == expected
    if not restart:  # how often it was sent may be forgotten in a power cut
        assert all(each.dup for each in again[1:])
    peer.send(p.ack(p.PUBCOMP, first[4].packet_id))
    for each in again[1:]:
        peer.send(p.ack(p.PUBACK if each.qos == 1 else p.PUBREC, each.packet_id))
        if each.qos == 2:
            peer.send(p.ack(p.PUBCOMP, each.packet_id))
    peer.take()
    peer.lose()
    assert world.join("c", version, **fields).take() == []


def test_an_identifier_that_is_still_in_use_is_waited_for(monkeypatch):
    monkeypatch.setattr("braidmq.broker.session.PACKET_ID_SEQUENCED_MAX", 4)
    world = World()
    peer = world.join("c", **durable())
    peer.subscribe(("a", 1))
    publish_many(world, "a", 6)
    got = messages(peer)
    assert [each.packet_id for each in got] == [1, 2, 3, 4]
    peer.send(p.ack(p.PUBACK, 2))
    assert messages(peer) == []  # the fifth message is 1 again
    peer.send(p.ack(p.PUBACK, 1))
    assert [(each.packet_id, each.payload) for each in messages(peer)] == [(1, b"4"), (2, b"5")]


def test_a_message_that_another_member_did_not_acknowledge_is_new_to_this_one():
    world = World()
    one = world.join("one")
    one.subscribe(("$share/g/a", 1))
    publish_many(world, "a", 1)
    assert messages(one)
    two = world.join("two")
    two.subscribe(("$share/g/a", 1))
    one.lose()
    (again,) = messages(two)
    assert not again.dup


# --- the end of a subscription ---


@pytest.mark.parametrize("filter", ["$share/g/a", "$queue/q"])
def test_what_was_sent_is_delivered_to_the_end_after_unsubscribe(filter):
    """[MQTT-3.10.4-3], and what was not sent goes to others."""
    world = World()
    world.broker.declare("q")
    one = world.join("one", properties=[(p.RECEIVE_MAXIMUM, 2)])
    one.subscribe((filter, 1))
    publish_many(world, "$queue/q" if filter == "$queue/q" else "a", 4)
    first = messages(one)
    assert len(first) == 2
    two = world.join("two")
    two.send(p.subscribe((filter, 1)))
    one.send(p.unsubscribe(filter))
    assert one.kinds() == ["UNSUBACK"]
    assert [each.payload for each in messages(two)] == [b"2", b"3"]
    one.send(p.ack(p.PUBACK, first[0].packet_id))
    one.subscribe((filter, 1))  # once more, while one is still on its way
    one.send(p.unsubscribe(filter))
    one.take()
    one.lose()  # the other was never acknowledged: now it goes on
    assert [each.payload for each in messages(two)] == [first[1].payload]


def test_subscribing_again_and_again_leaves_nothing_behind():
    world = World()
    world.broker.declare("q")
    peer = world.join("c")
    for _ in range(20):
        peer.subscribe(("$queue/q", 1), ("$share/g/a", 1))
        peer.send(p.unsubscribe("$queue/q", "$share/g/a"))
    stored = peer.session.out.stored
    assert stored is not None and stored._sources == []
    assert world.broker.info().consumers == 0


def test_a_deleted_queue_ends_the_connection_and_the_subscription():
    world = World()
    world.broker.declare("q")
    peer = world.join("c", **durable())
    peer.subscribe(("$queue/q", 1), ("a", 1))
    world.broker.delete()
    world.settle()
    assert peer.closed
    last = peer.take()[-1]
    assert last.reason == 0x98 and "q" in last.get(p.REASON_STRING)
    peer = world.join("c", **durable())
    assert peer.connack.session_present
    assert peer.subscribe(("$queue/q", 1)) == [0x87]
    assert list(world.core.sessions["c"].subscriptions) == ["a"]


def test_a_bug_ends_the_connection_and_no_subscription(monkeypatch):
    world = World()
    faults: list[Exception] = []
    world.core.on_fault = faults.append
    world.broker.declare("q")
    peer = world.join("c", **durable())
    peer.subscribe(("$queue/q", 1), ("a", 1))

    def broken(self, source, head):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr("braidmq.protocols.mqtt.stored.Stored._match", broken)
        world.broker.send(b"1")
        world.settle()
    assert len(faults) == 1 and peer.closed and peer.take()[-1].reason == 0x80
    peer = world.join("c", **durable())
    assert [each.payload for each in messages(peer)] == [b"1"]
    assert list(world.core.sessions["c"].subscriptions) == ["$queue/q", "a"]


def test_a_queue_that_is_not_there_is_not_told_from_a_forbidden_one():
    world = World()
    assert world.join().subscribe(("$queue/no", 1), ("$queue/+", 1), ("$share/g/$queue/q", 1)) == [
        0x87,
        0x87,
        0x87,
    ]


# --- shares, exactly once ---


def test_a_message_of_quality_2_is_one_members_only():
    """[MQTT-4.8.2-4] a durable member keeps it, [MQTT-4.8.2-5] no other gets it."""
    world = World(DiskBroker())
    durable_one = world.join("durable", **durable())
    durable_one.subscribe(("$share/g/a", 2))
    publish_many(world, "a", 1, qos=2)
    (given,) = messages(durable_one)
    other = world.join("other")
    other.subscribe(("$share/g/a", 2))
    durable_one.lose()
    assert other.take() == []
    back = world.join("durable", **durable())
    (again,) = messages(back)
    assert (again.packet_id, again.payload, again.dup) == (given.packet_id, b"0", True)


def test_a_session_that_ends_takes_its_message_of_quality_2_with_it():
    world = World()
    one, two = world.join("one"), world.join("two")
    one.subscribe(("$share/g/a", 2))
    publish_many(world, "a", 1, qos=2)
    assert messages(one)
    two.subscribe(("$share/g/a", 2))
    one.lose()
    assert two.take() == []


def test_a_member_does_not_draw_all_of_a_share_to_itself():
    world = World(DiskBroker())
    one = world.join("one", **durable(10))
    one.subscribe(("$share/g/a", 2))
    publish_many(world, "a", 50, qos=2)
    queue = world.core.sessions["one"].queue
    assert queue is not None and queue.live <= 20
    two = world.join("two", **durable(10))
    two.send(p.subscribe(("$share/g/a", 2)))
    assert messages(two)
    seen = 0
    while got := one.take():
        for packet in got:
            if packet.kind == p.PUBLISH:
                seen += 1
                one.send(p.ack(p.PUBREC, packet.packet_id))
            elif packet.kind == p.PUBREL:
                one.send(p.ack(p.PUBCOMP, packet.packet_id))
    assert seen >= 20


def test_the_release_of_a_live_message_waits_for_one_that_waits_for_the_disk():
    """[MQTT-4.6.0-4]"""
    world = World(DiskBroker())
    keeper = world.join("keeper", **durable())
    keeper.subscribe(("$share/g/a", 2))
    keeper.lose()
    peer = world.join("c")
    peer.subscribe(("$share/g/a", 2), ("live", 2))
    publish_many(world, "a", 1, qos=2)
    publish_many(world, "live", 2, qos=2)
    numbers = [each.packet_id for each in messages(peer)]
    peer.send(b"".join(p.ack(p.PUBREC, number) for number in numbers))
    assert [(each.kind, each.packet_id) for each in peer.take()] == [
        (p.PUBREL, number) for number in numbers
    ]


# --- time ---


def test_a_message_that_expires_while_it_waits_is_not_sent():
    world = World()
    peer = world.join("c", **durable(1), keep_alive=0)
    peer.subscribe(("a", 1))
    sender = world.join("s", keep_alive=0)
    for number, seconds in enumerate((100, 10, 30)):
        body = str(number).encode()
        found = [(p.MESSAGE_EXPIRY, seconds)]
        sender.send(p.publish("a", body, qos=1, packet_id=1 + number, properties=found))
    (first,) = messages(peer)
    world.advance(15_000)
    peer.send(p.ack(p.PUBACK, first.packet_id))
    (third,) = messages(peer)
    assert (third.payload, third.get(p.MESSAGE_EXPIRY)) == (b"2", 15)
    queue = world.core.sessions["c"].queue
    assert queue is not None and queue.live == 1

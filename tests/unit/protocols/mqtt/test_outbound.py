"""Live messages on their way out: what waits, what is dropped, who is waited for, and aliases."""

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.laggards import SLOW_WAIT_MS
from braidmq.broker.limits import Limits
from braidmq.broker.publishing import Posted
from tests.conformance import packets as p
from tests.conformance.packets import V5, V311
from tests.mqtt_peer import World


def messages(peer):
    return [packet for packet in peer.take() if packet.kind == p.PUBLISH]


def window(count, *more):
    return {"properties": [(p.RECEIVE_MAXIMUM, count), *more]}


# --- what waits ---


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("at_once", [False, True])
def test_live_messages_wait_for_the_window(qos, at_once):
    world = World()
    peer, sender = world.join("c", **window(3)), world.join("s")
    peer.subscribe(("a", qos))
    packets = [p.publish("a", b"%d" % n, qos=qos, packet_id=1 + n) for n in range(20)]
    for each in [b"".join(packets)] if at_once else packets:
        sender.send(each)
    world.advance(SLOW_WAIT_MS)
    assert (
        len(sender.take()) == 20
    )  # but for that time, a publisher does not wait for acknowledgements of others
    seen = []
    while got := peer.take():
        for packet in got:
            if packet.kind == p.PUBLISH:
                seen.append(packet.payload)
                peer.send(p.ack(p.PUBACK if qos == 1 else p.PUBREC, packet.packet_id))
            else:
                peer.send(p.ack(p.PUBCOMP, packet.packet_id))
        assert 0 <= peer.session.out.room <= 3
    assert seen == [b"%d" % n for n in range(20)]


def test_what_waits_is_bounded_by_number_and_by_bytes():
    world = World(limits=Limits(live_queue_messages_max=5, live_queue_bytes_max=10_000))
    peer, sender = world.join("c", **window(1)), world.join("s")
    peer.subscribe(("a", 1))
    for number in range(10):
        sender.send(p.publish("a", b"%d" % number, qos=1, packet_id=1 + number))
        world.advance(SLOW_WAIT_MS + 100)
    assert world.server.dropped == 4
    seen = []
    while got := messages(peer):
        seen += [packet.payload for packet in got]
        peer.send(*[p.ack(p.PUBACK, packet.packet_id) for packet in got])
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"5"]
    for number in range(10):
        sender.send(p.publish("a", b"x" * 6_000, qos=1, packet_id=1 + number))
        world.advance(SLOW_WAIT_MS + 100)
    assert world.server.dropped == world.core.topics.dropped == 4 + 10 - 3


def test_what_expires_while_it_waits_is_dropped_and_the_rest_counts_down():
    world = World()
    peer, sender = world.join("c", keep_alive=0, **window(1)), world.join("s", keep_alive=0)
    peer.subscribe(("a", 1))
    for number, seconds in enumerate((100, 10, 30)):
        found = [(p.MESSAGE_EXPIRY, seconds)]
        sender.send(p.publish("a", b"%d" % number, qos=1, packet_id=1, properties=found))
    (first,) = messages(peer)
    assert first.get(p.MESSAGE_EXPIRY) == 100
    world.advance(15_000)
    peer.send(p.ack(p.PUBACK, first.packet_id))
    (third,) = messages(peer)
    assert third.payload == b"2"
    assert third.get(p.MESSAGE_EXPIRY) == 16  # its sender waited a little, and it is rounded up


def test_what_waits_is_not_sent_when_the_right_to_it_was_taken_meanwhile():
    world = World()
    secret = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    everything = Rule("allow", ("*",), ("*",))
    world.core.access.replace([User("u", secret, (everything,))])
    peer = world.dial()
    peer.connect("c", username="u", password="x", **window(1))
    peer.login[2](world.core.access.principal("u"))
    peer.subscribe(("#", 1))
    for topic in ("first", "secret", "open"):
        world.core.publish(SYSTEM, topic, [Posted(b"x")], 1, world.clock.ms)
    (first,) = messages(peer)
    no_more = Rule("deny", ("topic:Subscribe",), ("secret",))
    world.core.access.replace([User("u", secret, (everything, no_more))])
    peer.send(p.ack(p.PUBACK, first.packet_id))
    assert [packet.topic for packet in messages(peer)] == ["open"]
    assert world.server.dropped == world.core.topics.dropped == 1


def test_identifiers_never_run_out():
    """The largest window that can be configured is more than there are identifiers for it."""
    world = World()
    options = {"in_flight_maximum": 65_535}
    peer, sender = world.join("c", options=options), world.join("s", V311)
    peer.subscribe(("a", 1))
    packet = p.publish("a", b"", qos=1, version=V311)
    for _ in range(40):
        sender.send(packet * 1000)
        world.advance(SLOW_WAIT_MS)
    got = messages(peer)
    numbers = {each.packet_id for each in got}
    assert len(numbers) == len(got) == 32_767
    assert all(number > 32_767 for number in numbers)


def test_a_run_stays_one_write_behind_a_message_that_is_not_acknowledged():
    """Else a busy subscriber, which always owes something, would never get a run again."""
    world = World()
    peer, sender = world.join("c"), world.join("s", V311)
    peer.subscribe(("a", 1))
    packet = p.publish("a", b"", qos=1, version=V311)
    sender.send(packet)
    (first,) = messages(peer)
    sender.feed(packet * 5)
    assert len(peer.session.out.out) == 1
    numbers = {each.packet_id for each in messages(peer)}
    assert len(numbers) == 5 and first.packet_id not in numbers


# --- who is slow ---


@pytest.mark.parametrize("version", [V311, V5])
def test_a_publisher_waits_for_a_slow_subscriber_a_little_and_only_once(version):
    world = World()
    slow, fast = world.join("slow"), world.join("fast")
    for each in (slow, fast):
        each.subscribe(("a", 0))
    sender = world.join("s", version)
    slow.session.pause_writing()
    packet = p.publish("a", b"x" * 100, version=version)
    sender.send(packet)
    assert not sender.session.reading
    sender.feed(packet + p.PING)  # what was on its way is kept, not lost
    assert sender.take() == []
    world.advance(SLOW_WAIT_MS)
    assert sender.session.reading and sender.kinds() == ["PINGRESP"]
    for _ in range(10):
        sender.send(packet)
        assert sender.session.reading  # it waited in vain: not again until that has caught up
    assert len(messages(fast)) == 12
    slow.session.resume_writing()
    slow.flush()
    assert 1 <= len(messages(slow)) <= 2
    slow.session.pause_writing()
    sender.send(packet)
    assert not sender.session.reading
    slow.session.resume_writing()
    world.settle()
    assert sender.session.reading  # at once, without waiting for the time


def test_who_waits_is_noted_once_however_often_another_catches_up():
    world = World()
    slow, other, sender = world.join("slow"), world.join("other"), world.join("s")
    for each in (slow, other):
        each.subscribe(("a", 0))
    slow.session.pause_writing()
    for _ in range(5):
        other.session.pause_writing()
        sender.send(p.publish("a", b""))
        assert not sender.session.reading
        other.session.resume_writing()
        world.advance(SLOW_WAIT_MS)
        assert sender.session.reading
    assert slow.session.out.publishers == {sender.session._pause}


def test_one_that_catches_up_does_not_end_the_wait_for_the_others():
    world = World()
    slow, other, sender = world.join("slow"), world.join("other"), world.join("s")
    for each in (slow, other):
        each.subscribe(("a", 0))
        each.session.pause_writing()
    sender.send(p.publish("a", b""))
    world.advance(SLOW_WAIT_MS // 2)
    other.session.resume_writing()
    world.settle()
    assert not sender.session.reading
    world.advance(SLOW_WAIT_MS // 2)
    assert sender.session.reading
    assert slow.session.out.lagging and not other.session.out.lagging
    sender.send(p.publish("a", b""))
    assert sender.session.reading  # nobody waits for it again until it has caught up


def test_a_publisher_that_waits_is_let_go_when_the_slow_one_leaves():
    world = World()
    slow, sender = world.join("slow"), world.join("s")
    slow.subscribe(("a", 0))
    slow.session.pause_writing()
    sender.send(p.publish("a", b""))
    assert not sender.session.reading
    slow.lose()
    assert sender.session.reading


@pytest.mark.parametrize("qos", [0, 1])
def test_whoever_floods_itself_without_reading_costs_a_bounded_amount(qos):
    limits = Limits(outbound_bytes_max=300_000, live_queue_bytes_max=100_000)
    world = World(limits=limits)
    peer = world.join("c", V311)
    peer.subscribe(("a", qos))
    peer.session.pause_writing()
    packet = p.publish("a", b"x" * 1_000, qos=qos, version=V311)
    for _ in range(1_000):
        if peer.session.reading:
            peer.feed(packet * 10)
        world.advance(10)
    out = peer.session.out
    assert out.out_bytes + out._waiting_bytes < 500_000
    assert world.server.dropped > 1_000 or not peer.session.reading


def test_a_flood_from_elsewhere_costs_a_bounded_amount_too():
    world = World(limits=Limits(outbound_bytes_max=100_000))
    peer = world.join("c")
    peer.subscribe(("a", 0))
    peer.session.pause_writing()
    for _ in range(1_000):
        world.core.publish(SYSTEM, "a", [Posted(b"x" * 1_000, b"")], 0, world.clock.ms)
        world.settle()
    assert peer.session.out.out_bytes < 200_000
    peer.lose()
    world.join("other")
    assert not world.core.topics.slow  # nobody is remembered for long


# --- sizes and aliases ---


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("where", ["live", "durable", "retained", "queue"])
def test_what_is_larger_than_a_client_takes_is_as_if_it_was_sent(where, qos):
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: it does not stop what comes after it."""
    world = World()
    world.broker.declare("q")
    sender = world.join("s")
    topic = "$queue/q" if where == "queue" else "a"

    def publish(*bodies):
        for body in bodies:
            found = p.publish(topic, body, qos=qos, packet_id=1, retain=where == "retained")
            sender.send(found, *([p.ack(p.PUBREL, 1)] if qos == 2 else []))

    if where == "retained":
        publish(b"x" * 200)
    properties = [(p.MAXIMUM_PACKET_SIZE, 100), (p.RECEIVE_MAXIMUM, 1)]
    if where == "durable":
        properties.append((p.SESSION_EXPIRY, 300))
    peer = world.join("c", clean=False, properties=properties)
    peer.subscribe((topic, qos))
    publish(*([b"x" * 200] * 5), b"small")
    assert [each.payload for each in messages(peer)] == [b"small"]
    assert world.server.too_large >= 5
    assert all(len(each) <= 100 for each in [peer.sent])


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("durable", [False, True])
def test_topics_get_aliases_as_far_as_the_client_takes_them(durable, qos):
    world = World()
    sender = world.join("s")
    expiry = [(p.SESSION_EXPIRY, 300)] if durable else []
    properties = [(p.TOPIC_ALIAS_MAXIMUM, 2), (p.MAXIMUM_PACKET_SIZE, 60), *expiry]
    peer = world.join("c", clean=False, properties=properties)
    peer.subscribe(("#", qos))
    # Too large, so no packet told the client what the alias stands for.
    order = [("a", b"x" * 100), ("a", b""), ("b", b""), ("c", b""), ("a", b""), ("b", b"1")]
    for topic, body in order:
        sender.send(p.publish(topic, body, qos=qos, packet_id=1), p.ack(p.PUBREL, 1))
    got = [(each.topic, each.get(p.TOPIC_ALIAS)) for each in messages(peer)]
    assert got == [("a", 1), ("b", 2), ("c", None), ("", 1), ("", 2)]


def test_a_message_of_a_queue_goes_out_under_the_queues_name():
    world = World()
    world.broker.declare("q")
    peer = world.join("c", properties=[(p.TOPIC_ALIAS_MAXIMUM, 2)])
    peer.subscribe(("$queue/q", 2))
    world.broker.send(b"1", b"2")
    world.settle()
    got = [(each.topic, each.qos, each.payload) for each in messages(peer)]
    assert got == [("$queue/q", 1, b"1"), ("", 1, b"2")]

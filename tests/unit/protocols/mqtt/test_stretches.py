"""Stretches change what a message costs, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import Rule, User
from braidmq.protocols.mqtt import stretches
from braidmq.protocols.mqtt.outbound import Outbound
from tests.conformance import packets as p
from tests.conformance.packets import V5, V31, V311
from tests.mqtt_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture
def passed(monkeypatch):
    """How many packets each stretch had."""
    counts: list[int] = []
    find = stretches.find_stretch

    def counting(*arguments):
        stretch = find(*arguments)
        if stretch is not None:
            counts.append(stretch.count)
        return stretch

    monkeypatch.setattr("braidmq.protocols.mqtt.inbound.find_stretch", counting)
    return counts


def chunk(count, qos=0, version=V5, topics=5):
    return b"".join(
        p.publish(f"t/{n % topics}", bytes(n % 7), qos=qos, packet_id=n + 1, version=version)
        for n in range(count)
    )


def bodies(packets):
    return [(packet.topic, packet.payload) for packet in packets if packet.kind == p.PUBLISH]


@pytest.mark.parametrize("version", [V31, V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
def test_many_topics_with_one_audience_pass_as_they_came(passed, version, qos):
    world = World()
    reader, writer = world.join("r", version=version), world.join("w", version=version)
    reader.send(p.subscribe(("t/#", qos), version=version))
    reader.take()
    writer.send(chunk(40, qos, version))  # each topic is decided on for the first time
    writer.send(chunk(40, qos, version))
    assert sum(passed) >= 40
    came = reader.take()
    expected = [(f"t/{n % 5}", bytes(n % 7)) for n in range(40)] * 2
    assert bodies(came) == expected
    if qos:
        ids = [packet.packet_id for packet in came]
        assert len(set(ids)) == 80 and 0 not in ids
        acks = [packet.packet_id for packet in writer.take()]
        assert acks == [*range(1, 41)] * 2


def test_a_subscriber_that_is_special_gets_what_it_asked_for(passed):
    world = World()
    plain, numbered, low = world.join("a"), world.join("b"), world.join("c", version=V311)
    plain.send(p.subscribe(("t/#", 1)))
    numbered.send(p.subscribe(("t/3", 1), properties=[(p.SUBSCRIPTION_ID, 7)]))
    low.send(p.subscribe(("t/4", 0), version=V311))
    for peer in (plain, numbered, low):
        peer.take()
    writer = world.join("w")
    for _ in range(2):
        writer.send(chunk(20, 1))
    assert len(bodies(plain.take())) == 40
    assert {topic for topic, _ in bodies(numbered.take())} == {"t/3"}
    quiet = low.take()
    assert {topic for topic, _ in bodies(quiet)} == {"t/4"}
    assert {packet.qos for packet in quiet} == {0}


def test_rights_that_change_are_seen_by_the_next_packet(passed):
    world = World()
    all_topics = Rule("allow", ("*",), ("*",))
    world.core.access.replace([User("u", SECRET, (all_topics,))])
    reader, writer = world.dial(), world.dial()
    for peer, name in ((reader, "r"), (writer, "w")):
        peer.connect(name, username="u", password="x")
        peer.login[2](world.core.access.principal("u"))
    world.settle()
    reader.send(p.subscribe(("t/#", 0)))
    writer.send(chunk(20))
    writer.send(chunk(20))
    assert passed and len(bodies(reader.take())) == 40
    denied = Rule("deny", ("topic:Publish",), ("t/3",))
    world.core.access.replace([User("u", SECRET, (all_topics, denied))])
    writer.send(chunk(20))
    assert {topic for topic, _ in bodies(reader.take())} == {"t/0", "t/1", "t/2", "t/4"}


@pytest.mark.parametrize("qos", [0, 1])
def test_a_bug_in_passing_on_costs_only_its_own_connection(passed, monkeypatch, qos):
    world = World()
    faults: list[Exception] = []
    world.core.on_fault = faults.append
    broken, reader, writer = world.join("b"), world.join("r"), world.join("w")
    for peer in (broken, reader):
        peer.send(p.subscribe(("t/#", qos)))
        peer.take()
    writer.send(chunk(10, qos))
    pass_on = Outbound.pass_on

    def fails(self, stretch):
        assert self is not broken.session.out, "a bug"
        pass_on(self, stretch)

    with monkeypatch.context() as patched:
        patched.setattr(Outbound, "pass_on", fails)
        writer.send(chunk(10, qos))
        world.settle()
    assert passed and len(faults) == 1 and broken.closed
    assert len(bodies(reader.take())) == 20 and not reader.closed and not writer.closed


def test_packet_id_0_is_found_in_a_stretch():
    world = World()
    reader, writer = world.join("r"), world.join("w")
    reader.send(p.subscribe(("t/#", 1)))
    writer.send(chunk(20, 1))
    writer.send(chunk(3, 1) + p.publish("t/4", b"x", qos=1, packet_id=0) + chunk(3, 1))
    assert writer.closed


def test_a_listener_that_takes_less_is_not_led_by_one_that_takes_more():
    world = World()
    reader, wide = world.join("r"), world.join("wide")
    reader.send(p.subscribe(("t/#", 1)))
    big = p.publish("t/big", bytes(3000)) + p.publish("t/0", b"")
    for _ in range(2):
        wide.send(big)
    assert len(bodies(reader.take())) == 4
    narrow = world.join("narrow", options={"maximum_packet_size_bytes": 2048})
    narrow.send(p.publish("t/0", b"") + big)
    assert narrow.closed


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_sent_at_once_is_as_if_it_was_sent_one_by_one(data):
    qos = data.draw(st.sampled_from([0, 1]))
    version = data.draw(st.sampled_from([V311, V5]))
    filters = data.draw(
        st.lists(st.sampled_from(["t/#", "t/+", "t/1", "t/2", "#"]), min_size=1, max_size=3)
    )
    topics = data.draw(st.lists(st.sampled_from(["t/1", "t/2", "u", "t/1/x"]), max_size=30))
    sizes = [data.draw(st.integers(0, 3)) for _ in topics]
    raw = [
        p.publish(topic, bytes(size), qos=qos, packet_id=n + 1, version=version)
        for n, (topic, size) in enumerate(zip(topics, sizes, strict=True))
    ]
    results = []
    for pieces in ([b"".join(raw)], raw):
        world = World()
        readers = [world.join(f"r{n}", version=version) for n in range(len(filters))]
        for reader, filter in zip(readers, filters, strict=True):
            reader.send(p.subscribe((filter, data.draw(st.just(1))), version=version))
            reader.take()
        writer = world.join("w", version=version)
        for _ in range(2):
            for piece in pieces:
                writer.send(piece)
        results.append(
            [bodies(reader.take()) for reader in readers]
            + [[(packet.kind, packet.packet_id, packet.reason) for packet in writer.take()]]
        )
    assert results[0] == results[1]


def test_nothing_is_looked_for_that_the_audience_could_not_take(monkeypatch):
    """Or every packet of a chunk would look at all that follow it."""
    calls = []
    monkeypatch.setattr(
        "braidmq.protocols.mqtt.inbound.find_stretch", lambda *arguments: calls.append(arguments)
    )
    world = World()
    reader, writer = world.join("r"), world.join("w")
    reader.send(p.subscribe(("t/#", 0)))  # QoS 1 becomes QoS 0: other packets
    for _ in range(3):
        writer.send(chunk(50, 1))
    assert not calls
    assert len(bodies(reader.take())) == 150


def test_what_many_get_is_not_held_on_to_by_the_shape(passed):
    world = World()
    peers = [world.join(f"s{number}", V311) for number in range(20)]
    publisher = world.join("p", V311)
    for few in (16, 17, 20):
        for peer in peers[:few]:
            peer.send(p.subscribe(("t/#", 0), version=V311))
            peer.take()
        for _ in range(2):
            publisher.send(chunk(20, 0, V311))
        world.settle()
        shapes = world.server.shapes(V311).values()
        assert len(shapes) == 20  # one for each topic and size
        assert all((shape.route is not None) == (few == 16) for shape in shapes)
        for peer in peers[:few]:
            assert len(peer.take()) == 40
    assert passed == [20]

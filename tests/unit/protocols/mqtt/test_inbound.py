"""What a client publishes: runs are a quicker way to the same end, and answers come in turn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.limits import DELAY_MS_MAX, Limits, SessionPolicy
from braidmq.protocols.mqtt.inbound import Inbound
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V311
from tests.mqtt_peer import World

# --- runs ---

_properties = st.sampled_from(
    [
        None,
        None,
        [(p.CONTENT_TYPE, "t")],
        [(p.MESSAGE_EXPIRY, 9)],
        [(p.USER_PROPERTY, ("k", "v")), (p.RESPONSE_TOPIC, "r")],
        [(p.TOPIC_ALIAS, 1)],
        b"\x80\x00",  # an overlong length
        b"\x02\x01",  # ends in the middle
    ]
)
_topics = st.one_of(
    st.sampled_from(["a", "a/b", "b/c", "a/b", "no/one", "é", "a" * 90, "a/" * 200]),
    st.sampled_from(["", "$SYS/x", "$x", "$queue/q", "$delayed/1/a", "a/+", "#", "a\0"]),
    st.sampled_from(["a", "a/b", "a", "a/b", b"\xff\xfe", b"\xed\xa0\x80"]),
)


@st.composite
def _messages(draw, version):
    """A packet, or a few like it with other identifiers and payloads."""
    qos = draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))
    topic = draw(_topics)
    found = draw(_properties)
    retain = draw(st.booleans()) and draw(st.booleans())
    dup = draw(st.booleans()) and draw(st.booleans())
    size = draw(st.sampled_from([0, 1, 5, 126, 130, 1100]))
    packets: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        packet = p.publish(
            topic,
            bytes([65 + len(packets)]) * size,
            qos=qos,
            packet_id=draw(st.sampled_from([1, 2, 3, 256, 65_535, 9, 10, 0]))
            if draw(st.integers(0, 9)) == 0
            else 1000 + len(packets),
            retain=retain,
            dup=dup,
            version=version,
            properties=found,
        )
        packets.append(packet)
    return packets


@st.composite
def _conversation(draw):
    version = draw(st.sampled_from([V311, V5]))
    others = st.sampled_from(
        [p.PING, p.ack(p.PUBREL, 1000), p.subscribe(("b/#", 1), version=version)]
    )
    packets: list[bytes] = []
    for _ in range(draw(st.integers(1, 6))):
        packets += draw(_messages(version)) if draw(st.integers(0, 4)) else [draw(others)]
    stream = b"".join(packets)
    if draw(st.integers(0, 9)) == 0:  # the length of one is written in too many bytes
        head = draw(st.sampled_from([b"\x30", b"\x32"]))
        stream += head + b"\x87\0" + b"\0\2a/" + b"\0" * 3
    return version, stream


def _outcome(version, stream, cuts, options):
    """What the client and two others get when the stream arrives in these pieces."""
    world = World(limits=Limits(topic_levels_max=50))
    world.broker.declare("q")
    others = [world.join("other5"), world.join("other3", V311)]
    for other in others:
        other.subscribe(("a/#", 1), ("é", 2), ("b/c", 0), ("$SYS/x", 0))
        other.take()
    if options:  # a listener that takes more knows the shapes
        peer = world.join("first", version, options={"maximum_packet_size_bytes": 2048})
        peer.send(p.publish("a/b", b"A" * 1100, qos=1, version=version))
        peer.send(p.publish("a/b", b"A" * 1100, version=version))
        for other in others:
            other.take()
    client = world.join("c", version, keep_alive=0, options=options)
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        client.feed(stream[begin:end])
        world.settle()
    world.advance(1500)
    for peer in others:
        assert not peer.closed and not peer.unread
    queued = world.broker.bodies()
    return client.closed, client.take(), [other.take() for other in others], queued


def _plain(outcome):
    """What has to be the same: not the identifiers that were free, nor what comes in between."""
    closed, answers, others, queued = outcome
    # What is retained now may be found by a search that began just before.
    messages = [
        [m for m in each if m.kind == p.PUBLISH and not m.retain] for each in [answers, *others]
    ]
    acks = [a.raw for a in answers if a.kind in (p.PUBACK, p.PUBREC, p.PUBCOMP)]
    told = [a.raw for a in answers if a.kind in (p.SUBACK, p.PINGRESP)]
    given = [[(m.flags, m.topic, m.payload, m.properties) for m in each] for each in messages]
    last = answers[-1].raw if closed and answers else b""
    return closed, last, [acks, told, *given, queued]


def _check_same(found, expected):
    """The same, but for what was on its way when an error ended the connection."""
    assert found[:1] == expected[:1]
    if not found[0]:
        assert found == expected
    for one, other in zip(found[2], expected[2], strict=True):
        size = min(len(one), len(other))
        assert one[:size] == other[:size]


class _Slow(Inbound):
    """Takes every packet the general way."""

    __slots__ = ()

    def take(self, data, at, end, now_ms):
        return at


@settings(max_examples=400, deadline=None)
@given(
    _conversation(), st.sampled_from([{}, {"maximum_qos": 0}, {"maximum_packet_size_bytes": 1024}])
)
def test_runs_are_taken_as_their_packets_are_one_by_one(conversation, options):
    version, stream = conversation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("braidmq.protocols.mqtt.session.Inbound", _Slow)
        expected = _outcome(version, stream, [], options)
    found = _outcome(version, stream, [], options)
    _check_same(_plain(found), _plain(expected))


@settings(max_examples=300, deadline=None)
@given(_conversation(), st.data())
def test_it_does_not_matter_where_the_stream_is_cut(conversation, data):
    version, stream = conversation
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=8)))
    if data.draw(st.integers(0, 5)) == 0 and len(stream) < 600:
        cuts = list(range(1, len(stream)))
    whole = _outcome(version, stream, [], {})
    parts = _outcome(version, stream, [cut for cut in cuts if cut < len(stream)], {})
    _check_same(_plain(parts), _plain(whole))


# --- answers ---


def test_acknowledgements_come_in_the_order_of_their_messages():
    """Some wait for the log, others do not; neither overtakes. [MQTT-4.6.0-2], [MQTT-4.6.0-3]"""
    broker = DiskBroker()
    broker.declare("q")
    broker.declare("m", durability=Durability.MEMORY)
    broker.declare("o", durability=Durability.OS)
    world = World(broker)
    keeper = world.join("keeper", **DURABLE)
    keeper.subscribe(("kept", 1))
    keeper.lose()
    live = world.join("live")
    live.subscribe(("live", 1))
    topics = ["live", "$queue/o", "live", "kept", "$queue/m", "live", "no", "$queue/q", "$x"]
    client = world.join("c", options={"receive_maximum": 100})
    numbers = list(range(1, 60))
    broker.auto_commit = False
    for at in range(0, len(numbers), 7):
        turn = numbers[at : at + 7]
        client.feed(
            b"".join(
                p.publish(topics[n % len(topics)], b"x", qos=1 + n % 2, packet_id=n) for n in turn
            )
        )
    broker.auto_commit = True
    acks = client.take()
    assert [ack.packet_id for ack in acks] == numbers
    assert [ack.kind for ack in acks] == [p.PUBREC if n % 2 else p.PUBACK for n in numbers]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("topic", ["kept", "$queue/q"])
@pytest.mark.parametrize("strict", [True, False])
def test_more_than_receive_maximum(strict, topic, qos):
    broker = DiskBroker()
    broker.declare("q")
    world = World(broker)
    keeper = world.join("keeper", **DURABLE)
    keeper.subscribe(("kept", 2))
    keeper.lose()
    options = {"receive_maximum": 3, "receive_maximum_strict": strict}
    client = world.join("c", options=options)
    assert client.connack.get(p.RECEIVE_MAXIMUM) == 3
    broker.auto_commit = False
    for number in (1, 2, 3):
        client.feed(p.publish(topic, b"x" * number, qos=qos, packet_id=number))
    assert not client.closed
    client.feed(p.publish(topic, b"xxxx", qos=qos, packet_id=4))
    broker.auto_commit = True
    world.settle()
    assert client.closed is strict
    if strict:
        assert client.take()[-1].reason == 0x93
    else:
        assert len(client.take()) == 4
        assert world.server.over_receive_maximum == 1


@pytest.mark.parametrize("cut", [1, 3, 7])  # packets that come at once
def test_every_message_beyond_receive_maximum_is_counted(cut):
    broker = DiskBroker()
    world = World(broker)
    keeper = world.join("keeper", **DURABLE)
    keeper.subscribe(("kept", 1))
    client = world.join("c", options={"receive_maximum": 3})
    broker.auto_commit = False
    packets = [p.publish("kept", b"x", qos=1, packet_id=number) for number in range(1, 8)]
    for at in range(0, 7, cut):
        client.feed(b"".join(packets[at : at + cut]))
    assert world.server.over_receive_maximum == 4


@pytest.mark.parametrize("fields", [{}, DURABLE])
@pytest.mark.parametrize("topic", ["a", "$queue/q"])
def test_quality_2_is_taken_once_however_often_it_comes(topic, fields):
    world = World()
    world.broker.declare("q")
    other = world.join("other")
    other.subscribe(("a", 0))
    client = world.join("c", **fields)
    for dup in (False, True, True):
        client.send(p.publish(topic, b"x", qos=2, packet_id=7, dup=dup))
    if fields:
        client.lose()
        client = world.join("c", **fields)
        client.send(p.publish(topic, b"x", qos=2, packet_id=7, dup=True))
    client.send(p.ack(p.PUBREL, 7), p.ack(p.PUBREL, 7))
    codes = [(each.kind, each.reason) for each in client.take()][-2:]
    assert codes == [(p.PUBCOMP, 0), (p.PUBCOMP, 0x92)]
    client.send(p.publish(topic, b"y", qos=2, packet_id=7))
    bodies = other.bodies() if topic == "a" else world.broker.bodies()
    assert bodies == [b"x", b"y"]


def test_messages_that_are_not_released_are_bounded():
    world = World(limits=Limits(requests_in_flight_max=5))
    client = world.join("c", V311)
    for number in range(1, 7):
        client.send(p.publish("a", qos=2, packet_id=number, version=V311))
    assert client.closed
    assert len(client.take()) == 5


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_of_a_run_that_does_not_fit_those_are_taken_that_do(size):
    world = World(limits=Limits(session_messages_max=5))
    world.core.clients._policy = SessionPolicy(overflow="refuse")
    keeper = world.join("keeper", **DURABLE)
    keeper.subscribe(("a", 1))
    keeper.lose()
    client = world.join("c", options={"receive_maximum": 100})
    published = world.core.topics.published
    for at in range(1, 11, size):
        turn = range(at, min(at + size, 11))
        client.feed(b"".join(p.publish("a", bytes([n]), qos=1, packet_id=n) for n in turn))
    acks = client.take()
    assert [ack.packet_id for ack in acks] == [*range(1, 11)]
    assert [ack.reason for ack in acks] == [0] * 5 + [0x97] * 5
    assert world.core.topics.published - published == 10
    keeper = world.join("keeper", **DURABLE)
    assert [packet.payload for packet in keeper.take()] == [bytes([n]) for n in range(1, 6)]


# --- topics that are none ---


def test_a_delayed_message_is_never_early():
    world = World()
    client = world.join(keep_alive=0, version=V311)
    client.subscribe(("a", 1))
    for number, delay in enumerate(("0", "1", "007", str(DELAY_MS_MAX // 1000)), 1):
        topic = f"$delayed/{delay}/a"
        client.send(p.publish(topic, delay, qos=1, packet_id=number, version=V311))
    assert not client.closed
    assert sorted(client.kinds()) == ["PUBACK"] * 4 + ["PUBLISH"]
    world.advance(999)
    assert client.take() == []
    world.advance(6_100)
    assert client.bodies() == [b"1", b"007"]


_NOWHERE = (
    "$delayed $delayed/ $delayed/1 $delayed/1/ $delayed//a $delayed/-1/a $delayed/1.5/a"
    f" $delayed/9999999999/a $delayed/²/a $delayed/1/a/+ $delayed/{DELAY_MS_MAX // 1000 + 1}/a"
    " $delayed/1/$delayed/1/a $delayed/1/$queue/q $SYS/broker/version $queue $queue/no $share/g/a"
    " $ $x"
)


@pytest.mark.parametrize("topic", _NOWHERE.split())
def test_topics_that_lead_nowhere_are_refused(topic):
    world = World()
    world.broker.declare("q")
    client = world.join()
    client.send(p.publish(topic, b"", qos=1, packet_id=1))
    (answer,) = client.take()
    assert answer.kind in (p.PUBACK, p.DISCONNECT) and answer.reason in (0x87, 0x90), answer
    assert world.broker.bodies() == []
    old = world.join("old", V311)
    old.send(p.publish(topic, b"", qos=0, version=V311))  # nobody is told
    assert old.take() == []


# --- aliases ---


def test_topic_aliases_of_a_client():
    world = World()
    client = world.join()
    other = world.join("other")
    other.subscribe(("+", 1))

    def send(topic, alias, body, qos=0):
        client.send(p.publish(topic, body, qos=qos, properties=[(p.TOPIC_ALIAS, alias)]))

    send("a", 1, b"1")
    send("", 1, b"2", qos=1)
    send("b", 1, b"3", qos=2)
    send("", 1, b"4")
    send("a", 64, b"5")
    got = [(each.topic, each.payload, each.get(p.TOPIC_ALIAS)) for each in other.take()]
    expected = [("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4"), ("a", b"5")]
    assert got == [(topic, body, None) for topic, body in expected]
    assert not client.closed
    send("", 2, b"")
    assert client.closed and client.take()[-1].reason == 0x82
    client = world.join()
    send("", 1, b"")  # another connection, other aliases
    assert client.closed
    client = world.join()
    send("a", 65, b"")
    assert client.take()[-1].reason == 0x94


def test_a_message_of_quality_2_that_found_no_room_can_be_sent_again(monkeypatch):
    """Before MQTT 5 the connection ends; the session must not remember what it did not take."""
    world = World(DiskBroker())
    receiver = world.join("receiver", V311, clean=False)
    receiver.subscribe(("a", 2))
    sender = world.join("sender", V311, clean=False)

    def full():
        raise DiskFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(world.core.log, "admit", full)
        sender.send(p.publish("a", b"1", qos=2, packet_id=7, version=V311))
    assert sender.closed and sender.kinds() == []
    sender = world.join("sender", V311, clean=False)
    sender.send(p.publish("a", b"1", qos=2, packet_id=7, version=V311, dup=True))
    assert sender.kinds() == ["PUBREC"]
    assert receiver.bodies() == [b"1"]

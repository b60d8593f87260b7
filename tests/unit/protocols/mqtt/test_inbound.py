"""What a client publishes: runs are a quicker way to the same end, and answers come in turn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.limits import Limits
from braidmq.protocols.mqtt.inbound import Inbound
from tests.conformance import packets as p
from tests.conformance.packets import V5, V311
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

"""Runs: what is found equal, and how it goes out again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.mqtt import runs
from braidmq.protocols.mqtt.runs import Run, Shape, Topic
from tests.conformance import packets as p
from tests.conformance.packets import V5, V31, V311
from tests.mqtt_peer import split

TOPIC = Topic("a/b", b"a/b")


def shape_of(packet, version, qos, after):
    prefix = packet[: 2 + 2 + 3]
    shape = Shape(TOPIC, version, qos, False, prefix, after, len(packet))
    return shape


def made(bodies, version, qos):
    return b"".join(
        p.publish("a/b", body, qos=qos, packet_id=300 + n, version=version)
        for n, body in enumerate(bodies)
    )


@given(
    st.integers(1, 9),
    st.integers(0, 40),
    st.sampled_from([V31, V311, V5]),
    st.sampled_from([V31, V311, V5]),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_a_run_goes_out_as_each_client_takes_it(count, size, come, go, qos, sent, retain):
    bodies = [bytes([65 + n]) * size for n in range(count)]
    data = b"before" + made(bodies, come, qos) + b"\x30"
    first = made(bodies[:1], come, qos)
    after = b"\0" if come == V5 else b""
    shape = shape_of(first, come, qos, after)
    assert runs.run_length(data, 6, len(data), shape) == count
    assert runs.run_length(data, 6, len(data) - 2, shape) == count - 1
    run = Run(shape, data, 6, count, 0, None)
    assert list(run.bodies) == bodies
    packets = run.packets(go, sent, retain)
    if sent:
        assert isinstance(packets, bytearray)
        stride, at = run.sizes(go, sent)
        ids = b"".join(runs.PACKET_IDS[500 + n] for n in range(count))
        runs.write_packet_ids(packets, at, stride, ids)
        assert runs.packet_ids(bytes(packets), at, stride, count) == ids
    found, rest = split(bytes(packets), go)
    assert not rest
    assert [(each.topic, each.payload, each.qos, each.retain) for each in found] == [
        ("a/b", body, sent, retain) for body in bodies
    ]
    if sent:
        assert [each.packet_id for each in found] == [500 + n for n in range(count)]


def test_a_run_has_an_end():
    packet = p.publish("a/b", b"", version=V311)
    shape = shape_of(packet, V311, 0, b"")
    data = packet * (runs.RUN_PACKETS_MAX + 10)
    assert runs.run_length(data, 0, len(data), shape) == runs.RUN_PACKETS_MAX


@pytest.mark.parametrize(
    "other",
    [
        p.publish("a/c", b"x", qos=1, version=V5),
        p.publish("a/b", b"xy", qos=1, version=V5),
        p.publish("a/b", b"x", qos=1, version=V5, retain=True),
        p.publish("a/b", b"x", qos=1, version=V5, dup=True),
        p.publish("a/b", b"x", qos=2, version=V5),
        p.publish("a/b", b"", qos=1, version=V5, properties=b"\1\1"),
        p.PING,
    ],
)
def test_a_run_ends_where_something_differs(other):
    packet = p.publish("a/b", b"x", qos=1, version=V5)
    shape = shape_of(packet, V5, 1, b"\0")
    data = packet * 3 + other + packet
    assert runs.run_length(data, 0, len(data), shape) == 3
    assert runs.run_length(data, 3 * len(packet), len(data), shape) == 0


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=20), st.sampled_from([0x40, 0x50]))
def test_acknowledgements_in_a_row(numbers, first):
    ids = b"".join(runs.PACKET_IDS[number] for number in numbers)
    acks = runs.ack_run(first, ids)
    assert acks == b"".join(bytes((first, 2)) + n.to_bytes(2, "big") for n in numbers)
    count = runs.puback_run(acks + b"\x40\3\0\1\0", 0, len(acks) + 5)
    assert count == (len(numbers) if first == 0x40 else 0)
    assert runs.packet_ids(acks, 2, 4, len(numbers)) == ids
    if first == 0x40:
        assert runs.puback_run(acks, 0, len(acks) - 1) == len(numbers) - 1
    refused = b"".join(bytes((first, 3)) + n.to_bytes(2, "big") + b"\x97" for n in numbers)
    assert runs.ack_run(first, ids, 0x97) == refused

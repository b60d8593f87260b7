"""Every message is checked: what is lost, twice, late or changed is counted, in every way to read.

A small broker is played here: it hands out what a publisher sends, with identifiers of its own.
"""

import pytest

from braidmq.benchmarks.drivers.mqtt_packets import next_packet, parse_publish, publish_packet
from braidmq.benchmarks.mqtt_cycle import (
    Acks,
    Expected,
    Stream,
    filters_of,
    messages_of,
    published,
    topics_of,
)
from braidmq.benchmarks.mqtt_plan import Plan

PLANS = {
    "plain": Plan(window=50, seed=2),
    "plain mixed": Plan(window=50, size_min=20, size_max=400, topics=7),
    "uniform": Plan(window=50, qos=1),
    "uniform 5": Plan(window=50, qos=1, version=5),
    "mixed": Plan(window=50, qos=1, size_min=20, size_max=400, topics=7),
    "mixed 5": Plan(window=50, qos=1, size_min=20, size_max=400, topics=7, version=5),
    "lowered": Plan(window=50, qos=1, deliver_qos=0),
}
FEW = 131  # messages of a cycle here: no multiple of anything


@pytest.fixture(autouse=True)
def small_cycles(monkeypatch):
    monkeypatch.setattr("braidmq.benchmarks.mqtt_cycle._MESSAGES_MAX", FEW)


def heads(plan):
    found = {}
    for number, topic in enumerate(topics_of(plan)):
        packet = memoryview(publish_packet(plan.version, plan.delivered_qos, topic, 0, b""))
        framed = next_packet(packet, 0)
        assert framed is not None
        first, begin, _ = framed
        found[number] = parse_publish(plan.version, first, packet[begin:]).head
    return found


def delivered(plan, numbers):
    """Packets as a broker sends them, identifiers counted from 1000 on."""
    topics, messages = topics_of(plan), messages_of(plan)
    return [
        publish_packet(plan.version, plan.delivered_qos, topics[topic], 1000 + order, payload)
        for order, number in enumerate(numbers)
        for topic, payload in [messages[number % FEW]]
    ]


def read(plan, packets, step=1000, stream=None):
    """Feed in pieces of ``step`` bytes; the stream, and all it answered."""
    stream = stream or Stream(Expected(plan, heads(plan)))
    data, carry, answers = b"".join(packets), b"", b""
    for start in range(0, len(data), step):
        piece = carry + data[start : start + step]
        buffer = bytearray(piece) + bytearray(50)
        done, answer = stream.feed(buffer, len(piece))
        carry, answers = piece[done:], answers + answer
    assert not carry
    return stream, answers


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("step", [7, 1000, 100_000])
def test_all_that_comes_in_order_is_counted_and_acknowledged(name, step):
    plan = PLANS[name]
    count = 2 * FEW + 40
    stream, answers = read(plan, delivered(plan, range(count)), step)
    assert (stream.received, stream.count, stream.due(count)) == (count, count, count)
    assert stream.duplicate == stream.reordered == stream.corrupt == 0
    ids = [1000 + order for order in range(count)] if plan.delivered_qos else []
    assert answers == b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in ids)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("step", [7, 1000, 100_000])
@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ([0, 1, 5, 6, 7, 8, 9], {"count": 7}),  # 2, 3, 4 are lost
        ([0, 1, 1, 2, 3], {"count": 4, "duplicate": 1}),
        ([0, 1, 4, 2, 3, 5], {"count": 6, "reordered": 2}),
        ([*range(60), *range(40, 60)], {"count": 60, "duplicate": 20}),
    ],
)
def test_what_is_wrong_is_counted(name, step, order, wrong):
    plan = PLANS[name]
    stream, answers = read(plan, delivered(plan, order), step)
    assert stream.received == len(order)
    expected = {"count": 0, "duplicate": 0, "reordered": 0, "corrupt": 0} | wrong
    assert {key: getattr(stream, key) for key in expected} == expected
    assert len(answers) == (4 * len(order) if plan.delivered_qos else 0)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("place", [-1, 17])
def test_a_changed_byte_is_found(name, place):
    plan = PLANS[name]
    packets = delivered(plan, range(90))
    at = place if place < 0 else packets[70].index(messages_of(plan)[70][1]) + place
    changed = bytearray(packets[70])
    changed[at] ^= 1
    packets[70] = bytes(changed)
    stream, _ = read(plan, packets)
    assert (stream.received, stream.count, stream.corrupt) == (90, 89, 1)


def test_a_message_of_nobody_is_corrupt():
    plan = PLANS["plain"]
    packets = delivered(plan, range(3))
    packets.insert(1, publish_packet(4, 0, topics_of(plan)[0], 0, b"short"))
    stream, _ = read(plan, packets)
    assert (stream.count, stream.corrupt) == (3, 1)


def test_after_an_error_it_is_quick_again():
    plan = PLANS["uniform"]
    stream, _ = read(plan, delivered(plan, [0, 2, 3, 4]))
    stream._by_packet = None  # would fail if a packet were looked at
    stream, _ = read(plan, delivered(plan, range(5, FEW)), stream=stream)
    assert stream.count == FEW - 1


def test_a_subscriber_of_some_topics_gets_only_those():
    plan = PLANS["mixed"]
    some = {number: head for number, head in heads(plan).items() if number in (1, 4)}
    stream = Stream(Expected(plan, some))
    wanted = [number for number, (topic, _) in enumerate(messages_of(plan)) if topic in some]
    stream, _ = read(plan, delivered(plan, wanted), stream=stream)
    assert stream.count == len(wanted) == stream.due(FEW)
    assert stream.due(2 * FEW + wanted[3]) == 2 * len(wanted) + 3


def test_what_is_published_is_a_whole_cycle():
    plan = PLANS["mixed"]
    cycle = published(plan)
    view, at, count = memoryview(cycle.data), 0, 0
    while at < len(view):
        framed = next_packet(view, at)
        assert framed is not None
        first, begin, at = framed
        count += 1
        assert parse_publish(4, first, view[begin:at]).packet_id == count
    assert (count, len(cycle), cycle.length) == (FEW, FEW, 0)
    assert published(PLANS["uniform"]).length > 100


def matching(plan, topic):
    def matches(pattern):
        pairs = zip(pattern.split("/"), topic.split("/"), strict=True)
        return all(level in ("+", name) for level, name in pairs)

    return sum(
        matches(each) for number in range(plan.subscribers) for each in filters_of(plan, number)
    )


@pytest.mark.parametrize("matches", [0, 1, 10])
def test_every_topic_has_as_many_matches_as_planned(matches):
    plan = Plan(subscriptions=1000, matches=matches, subscribers=10, topics=50, qos=1)
    assert sum(len(filters_of(plan, number)) for number in range(10)) == 1000
    assert len(set(topics_of(plan))) == 50
    assert {matching(plan, topic) for topic in topics_of(plan)} == {matches}


def acks(numbers):
    return b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in numbers)


@pytest.mark.parametrize("step", [1, 3, 64, 1000])
def test_acknowledgements_are_counted(step):
    counter = Acks(4, 10)
    data = acks([*range(1, 11), *range(1, 6)])
    for start in range(0, len(data), step):
        counter.feed(memoryview(data)[start : start + step])
    assert (counter.count, counter.problems) == (15, [])


@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_acknowledgements_in_another_order_or_with_reasons(step):
    counter = Acks(5, 10)
    data = acks([1, 2, 4, 3]) + b"\x40\x03\0\x05\x10" + b"\x40\x03\0\x06\x97" + acks([7])
    for start in range(0, len(data), step):
        counter.feed(memoryview(data)[start : start + step])
    assert (counter.count, counter.problems) == (6, ["PUBACK with 151"])

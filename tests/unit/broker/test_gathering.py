"""What is leased quickly, and that it is what would be leased otherwise."""

import random

import pytest

from braidmq.broker import queue as queue_module
from braidmq.broker.gathering import gather_plain
from braidmq.broker.lease import Consumer
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from tests.broker_harness import Collector, Harness

GROUP = pack_headers({"group-id": "g"}, Limits())
PLENTY = 10**9


def gather(broker: Harness, most: int = 9, bytes_left: int = PLENTY, selector=None) -> list[bytes]:
    queue = broker.core.queues["q"]
    consumer = Consumer("q", Collector(), 9, 0, selector, None)
    found, left = gather_plain(queue, consumer, most, bytes_left, broker.clock.ms)
    assert left == bytes_left - sum(len(each.body) + len(each.attributes) for each in found)
    assert consumer.held == {each.seq for each in found} == set(queue.leases.by_seq)
    return [each.body for each in found]


def three(**settings: object) -> Harness:
    broker = Harness()
    broker.declare("q", **settings)
    broker.send(b"a", b"b", b"c", name="q")
    broker.settle()
    return broker


def test_the_front_is_leased():
    assert gather(three()) == [b"a", b"b", b"c"]


def test_at_most_so_many_and_until_so_many_bytes():
    assert gather(three(), most=2) == [b"a", b"b"]
    assert gather(three(), bytes_left=2) == [b"a", b"b"]
    assert gather(three(), most=0) == gather(three(), bytes_left=0) == []


def test_what_is_not_kept_yet_is_not_there():
    broker = Harness()
    broker.declare("q")
    broker.settle()
    queue = broker.core.queues["q"]
    broker.send(b"a", name="q")
    queue.frontier = lambda: 0  # type: ignore[method-assign]
    assert gather(broker) == []


def test_it_ends_with_a_message_that_expires_or_has_a_group():
    for settings, fields in (
        ({}, {"ttl_ms": 5}),
        ({"group_affinity": True}, {"attributes": GROUP}),
    ):
        broker = three(**settings)
        broker.send(b"d", name="q", **fields)
        broker.send(b"e", name="q")
        broker.settle()
        assert gather(broker) == [b"a", b"b", b"c"]


def test_where_something_is_to_be_asked_there_is_nothing():
    broker = three()
    assert gather(broker, selector=object()) == []
    assert gather(three(retention_ms=60_000)) == []
    (delivery,) = broker.receive(name="q")
    broker.nack(delivery, name="q")
    assert gather(broker) == []  # it was received once: that is told


@pytest.mark.parametrize("affinity", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_nobody_can_tell(seed, affinity, monkeypatch):
    quick = _play(seed, affinity)
    monkeypatch.setattr(queue_module, "gather_plain", lambda queue, c, m, left, now: ([], left))
    assert quick == _play(seed, affinity)


def _play(seed: int, affinity: bool) -> list[object]:
    dice = random.Random(seed)
    broker = Harness()
    broker.declare("dead")
    broker.declare("q", group_affinity=affinity, max_receives=3, dead_letter="dead")
    held: list = []
    seen: list[object] = []
    for _ in range(60):
        step = dice.randrange(6)
        if step < 2:
            fields: dict = dice.choice([{}, {}, {"ttl_ms": 30}, {"priority": 7}, {"delay_ms": 9}])
            if affinity and dice.random() < 0.3:
                fields = {"attributes": GROUP}
            bodies = [b"%d" % dice.randrange(999) for _ in range(dice.randrange(1, 5))]
            broker.send(*bodies, name="q", **fields)
        elif step < 4:
            held += broker.receive(dice.randrange(1, 9), name="q")
        elif step == 4 and held:
            broker.ack(held.pop(dice.randrange(len(held))), name="q")
        elif held:
            broker.nack(held.pop(dice.randrange(len(held))), name="q")
        broker.advance(dice.randrange(12))
        info = broker.info("q")
        seen.append((info.ready, info.in_flight, info.bytes, info.delivered, info.dead_lettered))
        seen.append([(m.seq, m.token, m.receives, m.id, m.body, m.expire_ms) for m in held])
    return [*seen, broker.bodies("dead")]

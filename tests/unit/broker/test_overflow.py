"""A queue at its limits, by each of its policies."""

import pytest

from braidmq.broker.errors import QueueFull
from braidmq.broker.index import Lane
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers, unpack_headers
from tests.broker_harness import Harness, sent


@pytest.fixture
def broker() -> Harness:
    return Harness()


def test_full_queue_rejects(broker):
    broker.declare(messages_max=2)
    results = broker.send(b"a", b"b", b"c")
    assert isinstance(results[2], QueueFull)
    (delivery,) = broker.receive()
    assert isinstance(broker.send(b"c")[0], QueueFull)  # it still holds two
    broker.ack(delivery)
    sent(broker.send(b"c"))
    assert broker.bodies() == [b"b", b"c"]


def test_bytes_count_bodies_and_headers(broker):
    attributes = pack_headers({"a": "b"}, Limits())
    broker.declare(bytes_max=2 * (10 + len(attributes)))
    sent(broker.send(b"x" * 10, b"y" * 10, attributes=attributes))
    assert isinstance(broker.send(b"z")[0], QueueFull)
    assert broker.info().bytes == 2 * (10 + len(attributes))


def test_drop_oldest_makes_room_with_the_oldest_of_the_lowest_priority(broker):
    broker.declare(messages_max=3, overflow="drop-oldest")
    broker.send(b"high", priority=9)
    broker.send(b"a", b"b", b"c")
    assert sorted(broker.bodies()) == [b"b", b"c", b"high"]
    assert broker.info().dropped == 1


def test_drop_oldest_never_takes_what_somebody_holds(broker):
    broker.declare(messages_max=2, overflow="drop-oldest")
    broker.send(b"a", b"b")
    first, second = broker.receive(2)
    assert isinstance(broker.send(b"c")[0], QueueFull)
    broker.nack(second)
    sent(broker.send(b"c"))
    assert broker.bodies() == [b"a", b"c"] and broker.ack(first) == [None]


def test_overflow_may_go_to_the_dead_letter_queue(broker):
    broker.declare(messages_max=1, overflow="dead-letter", dead_letter="dead")
    broker.send(b"a")
    broker.send(b"b")
    assert (broker.bodies(), broker.bodies("dead")) == ([b"b"], [b"a"])
    (delivery,) = broker.receive(name="dead")
    assert unpack_headers(delivery.attributes)["dead-letter-reason"] == "overflow"


def test_message_that_can_never_fit_drives_nothing_out(broker):
    broker.declare(bytes_max=100, overflow="drop-oldest")
    broker.send(b"a" * 10, b"b" * 10)
    assert isinstance(broker.send(b"c" * 101)[0], QueueFull)
    assert broker.info().messages == 2


def test_fifo_queue_sacrifices_its_oldest_message_that_nobody_holds(broker):
    broker.declare("f", fifo=True, messages_max=3, overflow="drop-oldest")
    broker.send(b"a1", b"a2", b"a3", name="f", group="a")
    held = broker.receive(name="f")
    broker.send(b"b1", name="f", group="b")
    assert [each.body for each in held] == [b"a1"]
    assert broker.bodies("f") == [b"a1", b"a3", b"b1"]


def test_held_message_goes_only_when_none_is_ready(broker):
    broker.declare(messages_max=2, overflow="drop-oldest")
    broker.send(b"later", delay_ms=60_000)
    broker.send(b"a")
    broker.send(b"b")
    assert broker.bodies() == [b"later", b"b"]
    held = broker.receive()
    broker.send(b"c")
    assert broker.bodies() == [b"b", b"c"] and len(held) == 1


@pytest.mark.parametrize("fifo", [False, True])
def test_victim_is_found_without_looking_at_every_message(broker, fifo, monkeypatch):
    broker.declare(fifo=fifo, messages_max=5_000, overflow="drop-oldest", delay_ms=3_600_000)
    fields = {"group": "g"} if fifo else {}
    broker.send(*[b"held"] * 5_000, **fields)
    if not fifo:
        broker.send(b"ready", delay_ms=0)  # all others stand before it
    pages: list[int] = []
    get = Lane._first_live

    def first_live(lane: Lane, number: int) -> int:
        pages.append(number)
        return get(lane, number)

    monkeypatch.setattr(Lane, "_first_live", first_live)
    sent(broker.send(*[b"more"] * 2_000, **fields))
    assert broker.info().dropped == 2_000 + (not fifo)
    assert pages == sorted(pages) and pages[-1] - pages[0] <= 2_001


def test_held_messages_are_not_searched_again_for_one_that_is_ready(broker, monkeypatch):
    broker.declare(messages_max=5_000, overflow="drop-oldest", delay_ms=3_600_000)
    broker.send(*[b"held"] * 4_999)
    broker.send(b"ready", delay_ms=0)
    starts: list[int] = []
    get = Lane.first_ready

    def first_ready(lane: Lane, number: int) -> int:
        starts.append(number)
        return get(lane, number)

    monkeypatch.setattr(Lane, "first_ready", first_ready)
    for number in range(50):
        sent(broker.send(b"%d" % number, delay_ms=0))
    assert broker.bodies(state="ready") == [b"49"]
    assert min(starts[2:]) >= 5_000

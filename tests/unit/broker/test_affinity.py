"""Sticky groups: whose a group is, what waits for whom, and when a group is free again."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import InvalidArgument
from braidmq.broker.lease import Consumer, Exclusivity
from braidmq.broker.limits import Limits
from braidmq.broker.message import (
    GROUP_ID,
    Delivery,
    Headers,
    Outgoing,
    pack_headers,
    unpack_headers,
)
from braidmq.broker.transactionverbs import Send
from tests.broker_harness import Collector, Harness, sent

LAST = "-1"


def grouped(limits: Limits | None = None, **settings: object) -> Harness:
    harness = Harness(limits=limits)
    harness.declare("q", group_affinity=True, **settings)
    return harness


@pytest.fixture
def broker() -> Harness:
    return grouped()


def put(broker: Harness, *bodies: str, sequence: str = "", **headers: str) -> None:
    """Send messages whose first letter is their group; "." has none."""
    for body in bodies:
        more: Headers = dict(headers)
        if body[0] != ".":
            more[GROUP_ID] = body[0]
        if sequence:
            more["group-sequence"] = sequence
        sent(broker.send(body.encode(), attributes=pack_headers(more, Limits())))


def take(sink: Collector) -> str:
    return " ".join(each.body.decode() for each in sink.take())


def received(deliveries: list[Delivery]) -> str:
    return " ".join(each.body.decode() for each in deliveries)


def test_a_group_goes_to_one_consumer_and_groups_are_spread(broker):
    sinks = [broker.consume()[1] for _ in range(3)]
    put(broker, "a1", "b1", "c1", "b2", "a2", "c2", "c3", "a3", "b3")
    assert sorted(take(sink) for sink in sinks) == ["a1 a2 a3", "b1 b2 b3", "c1 c2 c3"]


def test_groups_of_a_backlog_are_spread_too(broker):
    held = [broker.consume(0) for _ in range(2)]
    put(broker, *[f"{group}{number}" for number in range(3) for group in "abcd"])
    queue = broker.core.queue("q")
    for consumer, _ in held:
        queue.feed(consumer, 100)
    broker.settle()
    got = [take(sink).split() for _, sink in held]
    assert [len({each[0] for each in bodies}) for bodies in got] == [2, 2]
    assert [len(bodies) for bodies in got] == [6, 6]


def test_a_group_whose_consumer_is_busy_holds_nobody_up(broker):
    busy, sink = broker.consume(credit=1)
    put(broker, "a1", "a2")
    _, other = broker.consume(credit=10)
    put(broker, "a3", "b1", ".1", "b2")
    assert (take(sink), take(other)) == ("a1", "b1 .1 b2")
    broker.credit(busy, 5)
    assert take(sink) == "a2 a3"


def test_the_groups_of_a_consumer_that_ends_go_to_others_from_the_front(broker):
    busy, sink = broker.consume(credit=2)
    put(broker, "a1", "a2")
    _, other = broker.consume()
    put(broker, "a3", "a4")
    broker.ack(sink.deliveries[0])
    assert take(other) == ""
    broker.cancel(busy)
    assert take(other) == "a2 a3 a4"
    put(broker, "a5")
    assert take(other) == "a5"


def test_what_is_given_back_comes_again_before_what_waits(broker):
    consumer, sink = broker.consume(credit=2)
    put(broker, "a1", "a2", "a3")
    broker.consume()
    first, second = sink.take()
    broker.nack(first)
    broker.credit(consumer, 1)
    assert take(sink) == "a1"
    broker.credit(consumer, 1)
    assert take(sink) == "a3"
    assert second.body == b"a2"


def test_the_last_message_of_a_group_lets_it_go(broker):
    busy, sink = broker.consume(credit=2)
    put(broker, "a1")
    put(broker, "a2", sequence=LAST)
    assert take(sink) == "a1 a2"
    _, other = broker.consume()
    put(broker, "a3", "a4")
    broker.credit(busy, 10)
    put(broker, "a5")
    assert take(other) == "a3 a4 a5" and take(sink) == ""


def test_what_follows_the_last_message_does_not_wait_for_whoever_is_to_get_it(broker):
    busy, sink = broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    put(broker, "a2", sequence="-7")
    put(broker, "a3", sequence="1")
    assert take(other) == "a3"
    broker.credit(busy, 10)
    assert take(sink) == "a1 a2"


def test_a_bucket_with_several_groups_stays_whole():
    broker = grouped(Limits(sticky_groups_max=1))
    _, one = broker.consume()
    _, two = broker.consume()
    put(broker, "a1", "b1")
    put(broker, "a2", sequence=LAST)
    put(broker, "b2", "a3", ".1", ".2")
    assert sorted([take(one), take(two)], key=len, reverse=True)[0].startswith("a1 b1 a2 b2 a3")
    assert len(broker.core.queue("q").affinity._buckets) == 1  # type: ignore[union-attr]


def test_memory_for_groups_is_bounded():
    broker = grouped(Limits(sticky_groups_max=16))
    consumer, _ = broker.consume(credit=5_000)
    for number in range(500):
        broker.send(b"x", group=f"g{number}")
    affinity = broker.core.queue("q").affinity
    assert affinity is not None and len(affinity._buckets) == 16
    broker.cancel(consumer)
    assert not affinity._buckets and not affinity._counts


def test_the_search_looks_ahead_as_far_as_the_limit_and_goes_on_later():
    broker = grouped(Limits(sticky_lookahead_messages_max=3))
    busy, sink = broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    put(broker, "a2", "a3", "a4", ".1")
    assert take(other) == ""  # three are parked
    broker.credit(busy, 1)
    assert (take(sink), take(other)) == ("a1 a2", ".1")
    put(broker, "a5", ".2")
    assert take(other) == ""
    broker.cancel(busy)
    assert take(other) == "a1 a2 a3 a4 a5 .2"


def test_messages_that_expired_while_they_were_parked_take_no_room():
    broker = grouped(Limits(sticky_lookahead_messages_max=20))
    broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    headers = pack_headers({GROUP_ID: "a"}, Limits())
    broker.send(*[b"a"] * 20, attributes=headers, ttl_ms=1_000)
    put(broker, ".1")
    assert take(other) == ""
    broker.advance(2_000)
    put(broker, ".2")
    assert take(other) == ".1 .2"


def test_higher_priorities_come_first_also_of_what_was_parked(broker):
    consumer, sink = broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    headers = pack_headers({GROUP_ID: "a"}, Limits())
    for priority in (4, 0, 9, 4):
        broker.send(b"a%d" % priority, attributes=headers, priority=priority)
    assert take(other) == ""
    broker.credit(consumer, 10)
    assert take(sink) == "a1 a9 a4 a4 a0"


def test_a_consumer_of_higher_priority_gets_the_groups_while_it_has_credit(broker):
    _, low = broker.consume()
    _, high = broker.consume(credit=2, priority=1)
    put(broker, "a1", "b1", "c1", "a2")
    assert (take(high), take(low)) == ("a1 b1", "c1")


def test_a_preferred_consumer_gets_every_group_and_leaves_none(broker):
    _, sink = broker.consume()
    put(broker, "a1")
    preferred, alone = broker.consume(exclusive=Exclusivity.PREFERRED)
    put(broker, "a2", "b1")
    assert (take(sink), take(alone)) == ("a1", "a2 b1")
    broker.cancel(preferred)
    assert take(sink) == "a2 b1"


# --- selectors ---


def test_a_consumer_with_a_selector_keeps_its_groups(broker):
    _, picky = broker.consume(selector="kind = 'x'")
    put(broker, "a1", kind="x")
    _, greedy = broker.consume()
    put(broker, "a2", "b1", kind="x")
    put(broker, "a3", "c1", kind="y")  # what it leaves out is for whoever wants it
    put(broker, "a4", kind="x")
    assert take(picky) == "a1 a2 a4"
    assert take(greedy) == "b1 a3 c1"


def test_selectors_are_asked_again_when_a_group_is_free(broker):
    first, one = broker.consume(credit=1, selector="kind = 'x'")
    second, two = broker.consume(credit=100, selector="kind = 'x'")
    put(broker, "a1", "a2", "a3", ".1", kind="x")
    assert (take(one), take(two)) == ("a1", ".1")
    broker.cancel(first)
    assert take(two) == "a1 a2 a3"
    broker.cancel(second)
    assert broker.info().ready == 4


def test_selectors_are_asked_again_behind_a_last_message(broker):
    first, one = broker.consume(credit=1, selector="kind = 'x'")
    put(broker, "a1", kind="x")
    _, two = broker.consume(selector="kind = 'x'")
    put(broker, "a2", kind="x", sequence=LAST)
    put(broker, "a3", kind="x")
    assert take(two) == ""
    broker.credit(first, 1)
    assert (take(one), take(two)) == ("a1 a2", "a3")


def test_nobody_with_a_selector_gets_a_group_it_would_leave_out(broker):
    _, picky = broker.consume(selector="kind = 'x'")
    _, greedy = broker.consume()
    put(broker, "a1", "b1", "c1", kind="y")
    assert (take(picky), take(greedy)) == ("", "a1 b1 c1")


# --- receives ---


def test_a_receive_gets_what_no_consumer_has(broker):
    put(broker, "a1", "b1", ".1")
    assert received(broker.receive(1)) == "a1"
    _, sink = broker.consume(credit=1)
    put(broker, "b2", "a2")
    assert take(sink) == "b1"
    assert received(broker.receive(5)) == ".1 a2"


def test_a_receive_takes_no_group_that_a_consumer_could_have(broker):
    consumer, sink = broker.consume(credit=0)
    put(broker, "a1", "a2")
    sinks = [broker.waiting(), broker.waiting()]
    assert [take(each) for each in sinks] == ["a1", "a2"]
    broker.credit(consumer, 10)
    broker.waiting()
    put(broker, "a3")
    assert take(sink) == "a3"


# --- the queue around it ---


def test_a_group_may_be_a_field_and_becomes_a_header(broker):
    headers = pack_headers({"n": "1"}, Limits())
    broker.send(b"x", attributes=headers, group="é")
    (delivery,) = broker.receive()
    assert unpack_headers(delivery.attributes) == {"n": "1", GROUP_ID: "é"}
    (result,) = broker.send(b"x", group="g", dedup_id="d")
    assert isinstance(result, InvalidArgument)
    (result,) = broker.send(b"x", group="g" * 200)
    assert isinstance(result, InvalidArgument)


def test_a_transaction_sends_with_groups_too(broker):
    steps = [Send("q", Outgoing(b"x", group="g"))]
    broker.core.transact(SYSTEM, steps, broker.clock.ms)
    broker.settle()
    (delivery,) = broker.receive()
    assert unpack_headers(delivery.attributes) == {GROUP_ID: "g"}


def test_names_of_groups_may_be_bytes(broker):
    _, one = broker.consume()
    _, two = broker.consume()
    for name in ("é", "é".encode(), b"\xff", b"\xff"):
        broker.send(b"x", attributes=pack_headers({GROUP_ID: name}, Limits()))
    assert [len(one.deliveries), len(two.deliveries)] == [2, 2]


def test_a_queue_without_affinity_knows_no_groups():
    broker = Harness()
    broker.declare()
    _, one = broker.consume()
    _, two = broker.consume()
    put(broker, "a1", "a2")
    assert (take(one), take(two)) == ("a1", "a2")
    (result,) = broker.send(b"x", group="g")
    assert isinstance(result, InvalidArgument)


def test_it_can_be_switched_on_and_off(broker):
    busy, sink = broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    put(broker, "a2", "a3")
    assert (take(sink), take(other)) == ("a1", "")
    broker.update(group_affinity=False)
    assert take(other) == "a2 a3"
    broker.update(group_affinity=True)
    put(broker, "a4")
    broker.credit(busy, 10)
    put(broker, "a5")
    assert (take(sink), take(other)) == ("", "a4 a5")


def test_a_purge_takes_what_was_parked_and_leaves_who_has_what():
    broker = grouped(Limits(sticky_lookahead_messages_max=2))
    busy, sink = broker.consume(credit=1)
    put(broker, "a1")
    _, other = broker.consume()
    put(broker, "a2", "a3", ".1")
    broker.purge()
    put(broker, ".2", "a4")
    broker.credit(busy, 5)
    assert (take(sink), take(other)) == ("a1 a4", ".2")


def test_the_oldest_message_makes_way_also_when_it_is_parked():
    broker = grouped(messages_max=3, overflow="drop-oldest")
    busy, sink = broker.consume(credit=1)
    put(broker, "a1")
    broker.consume()
    put(broker, "a2", "a3", "a4")
    broker.credit(busy, 5)
    assert take(sink) == "a1 a3 a4"


def test_dead_letters_leave_the_group_behind():
    broker = grouped(max_receives=1, dead_letter="dead")
    _, sink = broker.consume()
    put(broker, "a1", "a2")
    broker.nack(*sink.take())
    put(broker, "a3")
    assert take(sink) == "a3" and broker.bodies("dead") == [b"a1", b"a2"]


def test_consumers_that_have_no_groups_end_without_a_trace(broker):
    for _ in range(3):
        made: Consumer = broker.consume()[0]
        broker.receive()
        broker.cancel(made)
    affinity = broker.core.queue("q").affinity
    assert affinity is not None and not affinity._counts and not affinity._parked

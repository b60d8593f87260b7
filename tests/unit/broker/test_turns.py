"""Turns: who is served first, who alone, and who not at all."""

import pytest

from braidmq.broker.errors import Conflict, LimitExceeded
from braidmq.broker.lease import Consumer, Exclusivity
from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery
from braidmq.broker.turns import Turns
from tests.broker_harness import Collector, Harness

PREFERRED, SOLE = Exclusivity.PREFERRED, Exclusivity.SOLE


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.declare()
    return harness


def consumer(priority: int = 0, credit: int = 1, exclusive=Exclusivity.SHARED) -> Consumer:
    made = Consumer("q", Collector(), credit, 0, None, None)
    made.priority, made.exclusive = priority, exclusive
    return made


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def test_higher_ones_stand_in_front_and_equals_take_turns():
    turns = Turns()
    low, first, second, high = consumer(-1), consumer(0, 9), consumer(0, 9), consumer(7)
    for each in (low, first, second, high):
        turns.add(each)
    assert list(turns.hungry) == [high, first, second, low]
    high.credit = 0
    turns.served(high)
    turns.served(first)
    assert list(turns.hungry) == [second, first, low]
    turns.asked = 1  # the one in front could be given nothing
    turns.served(first)
    assert list(turns.hungry) == [second, first, low] and turns.asked == 1


def test_those_without_a_priority_are_turned_round():
    turns = Turns()
    first, second, third = consumer(0, 2), consumer(0, 2), consumer(0, 2)
    for each in (first, second, third):
        turns.add(each)
    turns.served(first)
    assert list(turns.hungry) == [second, third, first]
    turns.asked = 1
    turns.served(third)
    assert list(turns.hungry) == [second, first, third]
    turns.drop(second)
    assert list(turns.hungry) == [first, third] and turns.asked == 0


def test_whoever_comes_in_front_is_asked_even_if_others_were():
    turns = Turns()
    turns.add(consumer(3))
    turns.asked = 1
    late = consumer(5)
    turns.add(late)
    assert turns.hungry[turns.asked] is late


# --- priorities at a queue ---


def test_the_higher_one_gets_messages_as_long_as_it_has_credit(broker):
    _, low = broker.consume(priority=-5)
    high, first = broker.consume(credit=2, priority=1)
    broker.send(b"1")
    broker.send(b"2")
    broker.send(b"3")
    assert (bodies(first.take()), bodies(low.take())) == ([b"1", b"2"], [b"3"])
    broker.credit(high, 1)
    broker.send(b"4", b"5")
    assert (bodies(first.take()), bodies(low.take())) == ([b"4"], [b"5"])
    broker.cancel(high)
    assert bodies(low.take()) == [b"1", b"2", b"4"]


def test_the_lower_ones_get_what_the_higher_one_does_not_want(broker):
    broker.consume(priority=9, selector="n = 1")
    sinks = [broker.consume()[1] for _ in range(2)]
    for number in range(4):
        broker.send(b"%d" % number)
    assert [bodies(sink.deliveries) for sink in sinks] == [[b"0", b"2"], [b"1", b"3"]]


def test_a_large_backlog_goes_to_the_higher_one_first(broker):
    broker.send(*[b"x"] * 200)
    sinks = []
    for priority in (0, 1, 1):
        sink = Collector()
        made = consumer(priority, 70)
        made.sink = sink
        broker.core.queue("q").add(made)
        sinks.append(sink)
    broker.settle()
    assert [len(sink.deliveries) for sink in sinks] == [60, 70, 70]


# --- exclusivity ---


def test_one_consumer_is_served_alone_and_another_takes_over(broker):
    _, shared = broker.consume()
    first, one = broker.consume(exclusive=PREFERRED)
    _, two = broker.consume(exclusive=PREFERRED)
    waiting = broker.waiting()
    broker.send(b"1", b"2")
    assert bodies(one.take()) == [b"1", b"2"] and broker.receive() == []
    assert not (shared.batches or two.batches or waiting.batches)
    broker.cancel(first)
    assert bodies(two.take()) == [b"1", b"2"]  # they come again, to who came next
    assert not (shared.batches or waiting.batches)


def test_the_preferred_one_may_be_without_credit(broker):
    _, shared = broker.consume()
    preferred, sink = broker.consume(credit=1, exclusive=PREFERRED)
    broker.send(b"1", b"2")
    assert bodies(sink.take()) == [b"1"] and shared.batches == []
    broker.credit(preferred, 1)
    assert bodies(sink.take()) == [b"2"]


def test_of_several_the_one_with_the_highest_priority_is_preferred_then_the_oldest(broker):
    made = [broker.consume(priority=p, exclusive=PREFERRED) for p in (0, 5, 5, 3)]
    order = []
    for _ in made:
        broker.send(b"x")
        (served,) = [pair for pair in made if pair[1].deliveries]
        order.append(made.index(served))
        broker.ack(*served[1].take())
        broker.cancel(served[0])
    assert order == [1, 2, 3, 0]


def test_when_the_last_preferred_one_goes_all_others_are_served_again(broker):
    low, high = broker.consume(priority=0)[1], broker.consume(credit=1, priority=1)[1]
    preferred, sink = broker.consume(exclusive=PREFERRED)
    broker.send(b"1", b"2")
    broker.ack(*sink.take())
    broker.cancel(preferred)
    broker.send(b"3", b"4")
    assert (bodies(high.deliveries), bodies(low.deliveries)) == ([b"3"], [b"4"])


def test_a_preferred_one_that_is_not_served_comes_and_goes_unnoticed(broker):
    _, sink = broker.consume(exclusive=PREFERRED)
    other, _ = broker.consume(exclusive=PREFERRED)
    broker.credit(other, 5)
    other.limit(0)
    broker.credit(other, 5)
    broker.cancel(other)
    broker.send(b"1")
    assert bodies(sink.deliveries) == [b"1"]


def test_a_sole_consumer_lets_nobody_in(broker):
    sole, sink = broker.consume(exclusive=SOLE)
    for exclusive in Exclusivity:
        with pytest.raises(Conflict):
            broker.consume(exclusive=exclusive)
    with pytest.raises(Conflict, match="lets no other in"):
        broker.receive()
    broker.send(b"1")
    assert bodies(sink.take()) == [b"1"]
    broker.cancel(sole)
    assert bodies(broker.receive()) == [b"1"]


def test_nobody_can_be_the_only_one_where_others_are(broker):
    shared, _ = broker.consume()
    with pytest.raises(Conflict, match="nobody can be its only one"):
        broker.consume(exclusive=SOLE)
    broker.cancel(shared)
    broker.consume(exclusive=SOLE)


def test_fifo_queues_know_priorities_and_exclusivity_too():
    broker = Harness()
    broker.declare(fifo=True)
    _, low = broker.consume()
    _, high = broker.consume(credit=1, priority=1)
    for group in "ab":
        broker.send(group.encode(), group=group, dedup_id=group)
    assert (bodies(high.deliveries), bodies(low.deliveries)) == ([b"a"], [b"b"])
    _, preferred = broker.consume(exclusive=PREFERRED)
    broker.send(b"c", group="c", dedup_id="c")
    assert bodies(preferred.deliveries) == [b"c"]


def test_there_are_no_more_consumers_than_the_limit():
    turns = Turns()
    turns.check(consumer(), "q", 1)
    turns.add(consumer())
    with pytest.raises(LimitExceeded):
        turns.check(consumer(), "q", 1)
    assert Limits().consumers_per_queue_max > 1

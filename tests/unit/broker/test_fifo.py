"""FIFO queues: order in each group whatever happens, groups side by side, deduplication."""

import random

import pytest

from braidmq.broker.errors import InvalidArgument, LimitExceeded
from braidmq.broker.fifo import FifoQueue
from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness, sent

WINDOW = 300_000


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.declare(fifo=True)
    return harness


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def fill(broker: Harness, text: str) -> None:
    """Send "a1 b1 a2": each word to the group of its letter."""
    for word in text.split():
        sent(broker.send(word.encode(), group=word[0]))


# --- groups ---


def test_receive_takes_several_of_a_group_in_order(broker):
    fill(broker, "a1 b1 a2 a3 b2")
    assert bodies(broker.receive(10)) == [b"a1", b"b1", b"a2", b"a3", b"b2"]


def test_group_in_flight_is_closed_to_others(broker):
    fill(broker, "a1 a2 b1")
    (first,) = broker.receive(1)
    assert bodies(broker.receive(10)) == [b"b1"]
    assert broker.receive(10) == []
    broker.ack(first)
    assert bodies(broker.receive(10)) == [b"a2"]


def test_group_goes_on_only_when_all_its_messages_are_settled(broker):
    fill(broker, "a1 a2 a3")
    one, two = broker.receive(2)
    broker.ack(one)
    assert broker.receive() == []
    broker.ack(two)
    assert bodies(broker.receive()) == [b"a3"]


def test_nacked_message_comes_before_the_rest_of_its_group(broker):
    fill(broker, "a1 a2 a3 b1")
    one, two = broker.receive(2)
    broker.nack(two)
    broker.nack(one)
    assert bodies(broker.receive(10)) == [b"a1", b"a2", b"a3", b"b1"]


def test_nack_with_delay_holds_its_group_and_no_other(broker):
    fill(broker, "a1 a2 b1")
    (one,) = broker.receive(1)
    broker.nack(one, delay_ms=5_000)
    assert bodies(broker.receive(10)) == [b"b1"]
    broker.advance(4_999)
    assert broker.receive(10) == []
    broker.advance(1)
    assert bodies(broker.receive(10)) == [b"a1", b"a2"]


def test_expired_lease_puts_its_message_in_front_again(broker):
    fill(broker, "a1 a2 b1")
    broker.receive(1, lease_ms=1_000)
    broker.advance(1_064)
    again = broker.receive(1)
    assert bodies(again) == [b"a1"] and again[0].receives == 2
    assert bodies(broker.receive(10)) == [b"b1"]


def test_many_groups_are_in_flight_at_once(broker):
    for number in range(200):
        sent(broker.send(b"%d" % number, group=f"g{number % 100}"))
    firsts = [broker.receive(1)[0] for _ in range(100)]
    assert bodies(firsts) == [b"%d" % number for number in range(100)]
    assert broker.receive() == []
    for delivery in reversed(firsts):
        broker.ack(delivery)
    assert bodies(broker.receive(200)) == [b"%d" % number for number in range(100, 200)]


def test_waiting_receive_is_served_when_its_group_goes_on(broker):
    fill(broker, "a1 a2")
    (one,) = broker.receive(1)
    waiting = broker.waiting(count=5)
    broker.ack(one)
    assert bodies(waiting.deliveries) == [b"a2"]


def test_consumers_are_pushed_one_message_of_a_group_at_a_time(broker):
    _, one = broker.consume()
    _, two = broker.consume()
    fill(broker, "a1 a2 a3 b1 b2")
    held = one.take() + two.take()
    assert sorted(bodies(held)) == [b"a1", b"b1"]
    seen = []
    while held:
        seen += bodies(held)
        broker.ack(*held)
        held = one.take() + two.take()
    assert [body for body in seen if body[:1] == b"a"] == [b"a1", b"a2", b"a3"]


def test_dying_consumer_leaves_the_order_as_it_was(broker):
    consumer, sink = broker.consume()
    fill(broker, "a1 a2")
    assert bodies(sink.deliveries) == [b"a1"]
    broker.cancel(consumer)
    assert bodies(broker.receive(10)) == [b"a1", b"a2"]


def test_messages_without_a_group_are_one_group(broker):
    sent(broker.send(b"1", b"2"))
    broker.receive(1)
    assert broker.receive(10) == []


def test_dead_letter_lets_its_group_go_on_and_keeps_the_group(broker):
    broker.declare("orders", fifo=True, max_receives=1, dead_letter="dead")
    for body in (b"1", b"2", b"3"):
        broker.send(body, name="orders", group="a")
    broker.nack(*broker.receive(1, "orders"), name="orders")
    broker.dead_letter(*broker.receive(1, "orders"), name="orders")
    assert bodies(broker.receive(5, "orders")) == [b"3"]
    assert bodies(broker.receive(1, "dead")) == [b"1"]
    assert broker.receive(5, "dead") == []  # 2 is of the same group


def test_expired_message_does_not_stop_its_group(broker):
    sent(broker.send(b"1", group="a", ttl_ms=1_000))
    sent(broker.send(b"2", group="a"))
    (one,) = broker.receive(1)
    broker.advance(2_000)
    broker.nack(one)
    assert bodies(broker.receive(5)) == [b"2"]


def test_search_passes_over_no_more_than_the_lookahead():
    broker = Harness(limits=Limits(fifo_lookahead_messages_max=3))
    broker.declare(fifo=True)
    fill(broker, "a1 a2 a3 a4 a5 b1")
    (one,) = broker.receive(1)
    assert broker.receive(1) == []  # a2, a3, a4 were passed; b1 is beyond
    assert broker.receive(1) == []
    broker.ack(one)
    (two,) = broker.receive(1)
    assert two.body == b"a2" and broker.receive(1) == []
    broker.ack(two)
    broker.ack(*broker.receive(3))
    assert b"b1" in bodies(broker.receive(5))


def test_purge_frees_the_groups(broker):
    fill(broker, "a1 a2")
    broker.receive(1)
    broker.purge()
    fill(broker, "a3")
    assert bodies(broker.receive(5)) == [b"a3"]


def test_deleted_queue_with_messages_in_flight_is_forgotten(broker):
    fill(broker, "a1 a2")
    broker.receive(1)
    broker.delete()
    broker.advance(60_000)  # its lease would have ended
    broker.declare(fifo=True)
    assert broker.info().messages == 0


def test_idle_groups_cost_nothing(broker):
    for number in range(50):
        sent(broker.send(b"x", group=str(number)))
        broker.ack(*broker.receive())
    queue = broker.core.queue("q")
    assert queue.groups == {} and queue._passed == 0 and len(queue._free) <= 1


# --- delay ---


def test_delayed_message_comes_though_somebody_looked_before(broker):
    broker.declare("slow", fifo=True, delay_ms=1_000)
    waiting = broker.waiting(count=5, name="slow")
    broker.send(b"1", b"2", name="slow", group="a")
    broker.advance(999)
    assert waiting.deliveries == []
    broker.advance(1)
    assert bodies(waiting.deliveries) == [b"1", b"2"]


def test_shorter_delay_lets_no_message_overtake(broker):
    broker.update(delay_ms=10_000)
    fill(broker, "a1")
    broker.update(delay_ms=0)
    fill(broker, "a2")
    assert broker.receive(5) == []
    broker.advance(10_000)
    assert bodies(broker.receive(5)) == [b"a1", b"a2"]


def test_redriven_message_overtakes_none_that_is_delayed(broker):
    broker.declare("dead", fifo=True)
    broker.update(delay_ms=10_000, dead_letter="dead")
    fill(broker, "a1")
    sent(broker.send(b"a0", name="dead", group="a"))
    broker.redrive("dead", "q")
    broker.advance(100)
    assert broker.info().delayed == 2
    broker.advance(10_000)
    assert bodies(broker.receive(5)) == [b"a1", b"a0"]


def test_purged_messages_delay_nobody(broker):
    broker.update(delay_ms=10_000)
    fill(broker, "a1")
    broker.purge()
    broker.update(delay_ms=0)
    fill(broker, "a2")
    assert bodies(broker.receive(5)) == [b"a2"]


# --- deduplication ---


def test_second_message_with_an_id_is_answered_with_the_first(broker):
    (first,) = sent(broker.send(b"one", group="a", dedup_id="x"))
    (again,) = sent(broker.send(b"two", group="b", dedup_id="x"))
    assert (again.id, again.seq, again.duplicate) == (first.id, first.seq, True)
    assert not first.duplicate
    assert broker.bodies() == [b"one"] and broker.info().duplicates == 1


def test_id_is_remembered_after_the_message_is_consumed_or_purged(broker):
    sent(broker.send(b"a", dedup_id="x"))
    broker.ack(*broker.receive())
    assert sent(broker.send(b"a", dedup_id="x"))[0].duplicate
    sent(broker.send(b"b", dedup_id="y"))
    broker.purge()
    assert sent(broker.send(b"b", dedup_id="y"))[0].duplicate


def test_window_is_exactly_five_minutes_from_the_first(broker):
    sent(broker.send(b"a", dedup_id="x"))
    broker.advance(WINDOW - 2)
    assert sent(broker.send(b"a", dedup_id="x"))[0].duplicate
    broker.advance(1)
    assert sent(broker.send(b"a", dedup_id="x"))[0].duplicate  # a duplicate prolongs nothing
    broker.advance(1)
    assert not sent(broker.send(b"a", dedup_id="x"))[0].duplicate
    assert len(broker.bodies()) == 2


def test_body_identifies_a_message_when_the_queue_says_so(broker):
    broker.declare("content", fifo=True, content_dedup=True)
    results = sent(broker.send(b"a", b"a", b"b", name="content"))
    assert [each.duplicate for each in results] == [False, True, False]
    assert not sent(broker.send(b"a", name="content", dedup_id="x"))[0].duplicate
    results = sent(broker.send(b"a", b"a"))
    assert [each.duplicate for each in results] == [False, False]


def test_ids_may_be_unique_in_each_group(broker):
    broker.update(dedup_scope="group")
    assert not sent(broker.send(b"1", group="a", dedup_id="x"))[0].duplicate
    assert not sent(broker.send(b"2", group="b", dedup_id="x"))[0].duplicate
    assert sent(broker.send(b"3", group="a", dedup_id="x"))[0].duplicate


def test_no_more_ids_are_remembered_than_the_limit():
    broker = Harness(limits=Limits(dedup_ids_max=2))
    broker.declare(fifo=True)
    sent(broker.send(b"a", dedup_id="1"))
    broker.advance(1_000)
    sent(broker.send(b"b", dedup_id="2"))
    assert isinstance(broker.send(b"c", dedup_id="3")[0], LimitExceeded)
    assert sent(broker.send(b"a", dedup_id="1"))[0].duplicate
    sent(broker.send(b"without an id"))
    broker.advance(WINDOW - 1_000)
    sent(broker.send(b"c", dedup_id="3"))


def test_refused_message_is_not_remembered(broker):
    broker.update(messages_max=1)
    sent(broker.send(b"a", dedup_id="1"))
    broker.send(b"b", dedup_id="2")
    broker.ack(*broker.receive())
    assert not sent(broker.send(b"b", dedup_id="2"))[0].duplicate


# --- receive attempts ---


def test_repeated_attempt_gets_the_same_messages_with_fresh_leases(broker):
    fill(broker, "a1 a2 a3")
    first = broker.receive(2, lease_ms=1_000, attempt="try-1")
    broker.advance(900)
    again = broker.receive(2, lease_ms=1_000, attempt="try-1")
    assert [(each.body, each.receipt, each.receives) for each in again] == [
        (each.body, each.receipt, each.receives) for each in first
    ]
    assert broker.receive(2, attempt="try-2") == []
    broker.advance(900)
    assert broker.ack(*again) == [None, None]
    assert bodies(broker.receive(2, attempt="try-1")) == [b"a3"]


def test_repeated_attempt_leaves_out_what_is_settled(broker):
    fill(broker, "a1 b1")
    first = broker.receive(2, attempt="t")
    broker.ack(first[0])
    assert bodies(broker.receive(2, attempt="t")) == [b"b1"]


def test_attempt_is_forgotten_with_its_leases(broker):
    fill(broker, "a1 a2")
    broker.receive(1, lease_ms=1_000, attempt="t")
    broker.advance(1_064)
    again = broker.receive(2, attempt="t")
    assert [(each.body, each.receives) for each in again] == [(b"a1", 2), (b"a2", 1)]


def test_no_more_attempts_are_remembered_than_the_limit():
    broker = Harness(limits=Limits(receive_attempts_max=2))
    broker.declare(fifo=True)
    fill(broker, "a1 b1 c1 d1")
    for attempt in ("1", "2", "3"):
        broker.receive(1, attempt=attempt)
    queue = broker.core.queue("q")
    assert isinstance(queue, FifoQueue) and len(queue.attempts) <= 2
    assert bodies(broker.receive(1, attempt="3")) == [b"c1"]
    assert bodies(broker.receive(1, attempt="1")) == [b"d1"]  # forgotten: a new receive


def test_attempts_are_for_fifo_queues(broker):
    broker.declare("plain")
    with pytest.raises(InvalidArgument):
        broker.receive(name="plain", attempt="t")


def test_fifo_queue_takes_no_selector(broker):
    with pytest.raises(InvalidArgument):
        broker.receive(selector="a = 1")


# --- restart ---


def test_restart_keeps_order_ids_and_numbers():
    broker = DiskBroker()
    broker.declare(fifo=True)
    fill(broker, "a1 a2 b1 a3")
    (first,) = sent(broker.send(b"c1", group="c", dedup_id="x"))
    broker.receive(2)  # a1 and a2 are in flight
    broker = broker.restarted(random.Random(1))
    assert bodies(broker.receive(1)) == [b"a1"]
    assert bodies(broker.receive(10)) == [b"b1", b"c1"]
    (again,) = sent(broker.send(b"c1", group="c", dedup_id="x"))
    assert (again.id, again.seq, again.duplicate) == (first.id, first.seq, True)
    (new,) = sent(broker.send(b"c2", group="c"))
    assert new.seq > first.seq


@pytest.mark.parametrize("checkpoint", [False, True])
def test_window_ends_on_time_over_a_restart(checkpoint):
    broker = DiskBroker()
    broker.declare(fifo=True)
    sent(broker.send(b"a", dedup_id="x"))
    broker.ack(*broker.receive())
    broker.advance(WINDOW - 1)
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted()
    assert sent(broker.send(b"a", dedup_id="x"))[0].duplicate
    broker.advance(1)
    assert not sent(broker.send(b"a", dedup_id="x"))[0].duplicate


@pytest.mark.parametrize("checkpoint", [False, True])
def test_group_that_was_held_is_held_after_a_restart(checkpoint):
    broker = DiskBroker()
    broker.declare(fifo=True)
    fill(broker, "a1 a2 b1")
    broker.nack(*broker.receive(1), delay_ms=10_000)
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted()
    assert bodies(broker.receive(10)) == [b"b1"]
    broker.advance(10_000)
    assert bodies(broker.receive(10)) == [b"a1", b"a2"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_message_held_behind_others_of_its_group_blocks_and_overtakes_none(checkpoint):
    broker = DiskBroker()
    broker.declare(fifo=True)
    fill(broker, "a1 a2 a3 b1")
    broker.nack(broker.receive(2)[1], delay_ms=10_000)
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted()  # a1 was in flight
    held = broker.receive(10)
    assert bodies(held) == [b"a1", b"b1"]
    broker.nack(*held)
    broker.advance(10_000)
    assert bodies(broker.receive(1)) == [b"a1"]
    assert bodies(broker.receive(10)) == [b"b1"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_delayed_messages_are_delayed_after_a_restart(checkpoint):
    broker = DiskBroker()
    broker.declare(fifo=True, delay_ms=10_000)
    fill(broker, "a1 a2")
    broker.update(delay_ms=0)
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted()
    fill(broker, "a3")
    waiting = broker.waiting(count=5)
    broker.advance(9_999)
    assert waiting.deliveries == []
    broker.advance(1)
    assert bodies(waiting.deliveries) == [b"a1", b"a2", b"a3"]

"""Standard queues: who gets a message, when, how often, and what becomes of it."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import InvalidArgument, LeaseLost, LimitExceeded, TooLarge
from braidmq.broker.limits import DELAY_MS_MAX, Limits
from braidmq.broker.message import Delivery, Headers, Outgoing, pack_headers, unpack_headers
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Collector, Harness, sent

MINUTE = 60_000


@pytest.fixture
def broker() -> Harness:
    return Harness()


def headers_of(delivery: Delivery) -> Headers:
    return unpack_headers(delivery.attributes)


def packed(**headers: str) -> bytes:
    return pack_headers({name: value for name, value in headers.items()}, Limits())


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


# --- pull ---


def test_receive_gives_messages_in_order_of_arrival(broker):
    broker.declare()
    broker.send(b"one", b"two", b"three")
    assert bodies(broker.receive(2)) == [b"one", b"two"]
    assert bodies(broker.receive(2)) == [b"three"]
    assert broker.receive() == []


def test_received_message_is_nobody_elses_until_its_lease_ends(broker):
    broker.declare(visibility_timeout_ms=1_000)
    broker.send(b"a")
    (first,) = broker.receive()
    broker.advance(999)
    assert broker.receive() == []
    broker.advance(1 + 64)  # leases end in buckets of 64 ms, never early
    (second,) = broker.receive()
    assert (first.receives, second.receives) == (1, 2)
    assert first.token != second.token
    assert isinstance(broker.ack(first)[0], LeaseLost)
    assert broker.ack(second) == [None]


def test_lease_of_the_receive_overrides_the_queues(broker):
    broker.declare(visibility_timeout_ms=1_000)
    broker.send(b"a")
    broker.receive(lease_ms=10_000)
    broker.advance(9_999)
    assert broker.receive() == []
    broker.advance(65)
    assert len(broker.receive()) == 1


def test_acknowledged_message_never_comes_back(broker):
    broker.declare()
    broker.send(b"a", b"b")
    first, second = broker.receive(2)
    assert broker.ack(first, second) == [None, None]
    assert [type(each) for each in broker.ack(first)] == [LeaseLost]
    broker.advance(MINUTE)
    assert broker.receive() == [] and broker.info().messages == 0
    assert broker.info().acknowledged == 2 and broker.info().bytes == 0


def test_receipt_of_a_later_lease_is_not_that_of_an_earlier_one(broker):
    broker.declare()
    broker.send(b"a")
    (first,) = broker.receive()
    broker.nack(first)
    (second,) = broker.receive()
    for refused in (broker.ack(first), broker.nack(first), broker.extend(first)):
        assert isinstance(refused[0], LeaseLost)
    assert broker.ack(second) == [None]


def test_waiting_receive_gets_a_message_when_it_comes(broker):
    broker.declare()
    waiting = broker.waiting(count=5)
    broker.advance(5_000)
    assert waiting.batches == []
    broker.send(b"a")
    assert bodies(waiting.deliveries) == [b"a"]
    broker.send(b"b")
    assert bodies(waiting.deliveries) == [b"a"]  # one delivery, and it is gone
    assert broker.info().consumers == 0


def test_waiting_receive_ends_empty_at_its_deadline_and_not_before(broker):
    broker.declare()
    waiting = broker.waiting(wait_ms=5_000)
    broker.advance(4_999)
    assert waiting.batches == []
    broker.advance(1)
    assert waiting.batches == [[]]
    broker.send(b"a")
    assert len(broker.receive()) == 1


def test_waiting_receives_are_served_in_the_order_they_came(broker):
    broker.declare()
    first, second = broker.waiting(), broker.waiting()
    broker.send(b"a")
    broker.send(b"b")
    assert (bodies(first.deliveries), bodies(second.deliveries)) == ([b"a"], [b"b"])


def test_extend_holds_a_message_from_now_on(broker):
    broker.declare(visibility_timeout_ms=1_000)
    broker.send(b"a")
    (delivery,) = broker.receive()
    broker.advance(900)
    assert broker.extend(delivery, lease_ms=5_000) == [None]
    broker.advance(4_999)
    assert broker.receive() == []
    broker.advance(65)
    assert len(broker.receive()) == 1


def test_extend_may_shorten_a_lease_and_zero_gives_back_at_once(broker):
    broker.declare()
    broker.send(b"a", b"b")
    first, second = broker.receive(2)
    broker.extend(first, lease_ms=10)
    assert broker.extend(second, lease_ms=0) == [None]
    assert bodies(broker.receive()) == [b"b"]
    broker.advance(74)
    assert bodies(broker.receive()) == [b"a"]


def test_nacked_message_returns_at_once_before_newer_ones(broker):
    broker.declare()
    broker.send(b"a", b"b", b"c")
    first, second = broker.receive(2)
    broker.nack(second)
    broker.nack(first)
    assert bodies(broker.receive(3)) == [b"a", b"b", b"c"]
    assert broker.info().returned == 2


def test_nacked_message_returns_after_its_delay(broker):
    broker.declare()
    broker.send(b"a", b"b")
    (first,) = broker.receive()
    broker.nack(first, delay_ms=5_000)
    assert (broker.info().delayed, broker.info().ready) == (1, 1)
    assert bodies(broker.receive(2)) == [b"b"]
    waiting = broker.waiting(wait_ms=20_000)
    broker.advance(4_999)
    assert waiting.deliveries == []
    broker.advance(1)
    assert bodies(waiting.deliveries) == [b"a"] and waiting.deliveries[0].receives == 2


def test_uncounted_nack_is_as_if_never_received(broker):
    broker.declare(max_receives=2, dead_letter="dead")
    broker.send(b"a")
    for _ in range(5):
        (delivery,) = broker.receive()
        assert delivery.receives == 1
        broker.nack(delivery, counted=False)
    assert broker.info("dead").messages == 0


@pytest.mark.parametrize(
    "arguments",
    [{"delay_ms": -1}, {"delay_ms": DELAY_MS_MAX + 1}, {"delay_ms": 1, "counted": False}],
)
def test_nack_out_of_range_changes_nothing(broker, arguments):
    broker.declare()
    broker.send(b"a")
    (delivery,) = broker.receive()
    with pytest.raises(InvalidArgument):
        broker.nack(delivery, **arguments)
    assert broker.ack(delivery) == [None]


def test_batches_answer_each_item(broker):
    broker.declare()
    broker.send(*(b"%d" % n for n in range(20)))
    taken = broker.receive(20)
    broker.ack(*taken[::2])
    results = broker.nack(*taken)
    assert [result is None for result in results] == [n % 2 == 1 for n in range(20)]
    assert bodies(broker.receive(20)) == [b"%d" % n for n in range(1, 20, 2)]


# --- push ---


def test_consumer_gets_as_many_messages_as_its_credit(broker):
    broker.declare()
    consumer, sink = broker.consume(credit=2)
    broker.send(b"a", b"b", b"c")
    assert bodies(sink.take()) == [b"a", b"b"]
    broker.credit(consumer, 5)
    broker.send(b"d")
    assert bodies(sink.take()) == [b"c", b"d"]


def test_consumer_without_credit_waits_for_some(broker):
    broker.declare()
    broker.send(b"a")
    consumer, sink = broker.consume(credit=0)
    assert sink.deliveries == []
    broker.credit(consumer, 1)
    assert bodies(sink.deliveries) == [b"a"]


def test_pushed_message_is_leased_for_as_long_as_its_consumer_lives(broker):
    broker.declare(visibility_timeout_ms=1_000)
    broker.send(b"a", b"b")
    consumer, sink = broker.consume()
    broker.advance(3_600_000)
    assert broker.receive() == []
    assert broker.extend(*sink.deliveries, lease_ms=10) == [None, None]
    broker.advance(MINUTE)
    assert broker.receive() == []  # extending ends nothing either
    broker.ack(sink.deliveries[0])
    broker.cancel(consumer)
    (delivery,) = broker.receive(2)
    assert (delivery.body, delivery.receives) == (b"b", 2)


def test_cancelled_consumer_gives_back_what_it_did_not_process_uncounted(broker):
    broker.declare()
    broker.send(b"a", b"b")
    consumer, sink = broker.consume()
    _, second = sink.deliveries
    broker.cancel(consumer, second)
    assert [(each.body, each.receives) for each in broker.receive(2)] == [(b"a", 2), (b"b", 1)]


def test_cancelled_consumer_gets_nothing_more(broker):
    broker.declare()
    consumer, sink = broker.consume()
    broker.cancel(consumer)
    broker.cancel(consumer)
    broker.credit(consumer, 10)
    broker.send(b"a")
    assert sink.deliveries == [] and broker.info().consumers == 0
    assert len(broker.receive()) == 1


def test_cancelled_receive_holds_nothing(broker):
    broker.declare()
    sink = Collector()
    core, now_ms = broker.core, broker.clock.ms
    consumer = core.receive(SYSTEM, "q", sink, 1, 5_000, 0, "", "", None, now_ms)
    broker.settle()
    broker.cancel(consumer)
    broker.send(b"a")
    broker.advance(10_000)
    assert sink.batches == [] and len(broker.receive()) == 1


def test_consumers_take_turns(broker):
    broker.declare()
    sinks = [broker.consume()[1] for _ in range(3)]
    for number in range(9):
        broker.send(b"%d" % number)
    assert [len(sink.deliveries) for sink in sinks] == [3, 3, 3]


def test_large_backlog_is_shared_among_consumers(broker):
    broker.declare()
    broker.send(*[b"x"] * 300)
    sinks: list[Collector] = []
    for _ in range(3):
        sink = Collector()
        broker.core.consume(SYSTEM, "q", sink, 300, "", None, broker.clock.ms)
        sinks.append(sink)
    broker.settle()
    counts = [len(sink.deliveries) for sink in sinks]
    assert sum(counts) == 300 and min(counts) >= 90


def test_many_senders_do_not_outrun_who_can_keep_up(broker):
    broker.declare()
    old = [Outgoing(b"old")] * 3_000
    broker.core.send(SYSTEM, "q", old, broker.clock.ms)
    _, sink = broker.consume(credit=30_000)
    sink.take()
    broker.core.send(SYSTEM, "q", old, broker.clock.ms)
    for _ in range(4):  # between two turns of the broker
        broker.core.send(SYSTEM, "q", [Outgoing(b"new")] * 2_000, broker.clock.ms)
    broker.clock.turn()
    broker.core.run(broker.clock.ms)
    assert len(sink.take()) == 11_000


@pytest.mark.parametrize("selector", ["", "a = 'never'"])
def test_what_came_while_nobody_was_there_is_not_examined_in_one_turn(broker, selector):
    broker.declare()
    for _ in range(4):
        broker.core.send(SYSTEM, "q", [Outgoing(b"old")] * 10_000, broker.clock.ms)
        broker.settle()
    sink = Collector()
    consumer = broker.core.consume(SYSTEM, "q", sink, 60_000, selector, None, broker.clock.ms)
    broker.core.run(broker.clock.ms)
    examined = len(sink.deliveries) or consumer.positions[0] - 1
    assert 1_000 <= examined <= 11_000
    broker.settle()
    assert (len(sink.deliveries) or consumer.positions[0] - 1) == 40_000


def test_more_messages_than_one_turn_examines_are_all_delivered(broker):
    broker.declare()
    broker.send(*[b"x"] * 2_500)
    _, sink = broker.consume(credit=5_000)
    assert len(sink.deliveries) == 2_500


# --- delay, time to live ---


def test_delayed_message_waits_for_its_time(broker):
    broker.declare(delay_ms=1_000)
    waiting = broker.waiting(count=3)
    broker.send(b"queue's")
    broker.send(b"own", delay_ms=3_000)
    broker.send(b"none", delay_ms=0)
    assert bodies(waiting.deliveries) == [b"none"]
    assert broker.info().delayed == 2
    waiting = broker.waiting(count=3)
    broker.advance(999)
    assert waiting.deliveries == []
    broker.advance(1)
    assert bodies(waiting.deliveries) == [b"queue's"]
    broker.advance(1_999)
    assert broker.receive() == []
    broker.advance(1)
    assert bodies(broker.receive()) == [b"own"]


def test_message_expires_at_its_own_time_to_live_or_the_queues(broker):
    broker.declare(ttl_ms=2_000)
    broker.send(b"own", ttl_ms=1_000)
    broker.send(b"queue's")
    broker.advance(1_300)
    assert broker.bodies() == [b"queue's"]
    broker.advance(1_000)
    info = broker.info()
    assert (info.messages, info.expired) == (0, 2)


def test_expired_message_is_not_delivered_even_before_it_is_swept(broker):
    broker.declare()
    broker.send(b"a", ttl_ms=1_000)
    broker.clock.ms += 1_000
    assert broker.receive() == []
    assert broker.info().expired == 1


def test_leased_message_outlives_its_time_until_the_lease_ends(broker):
    broker.declare()
    broker.send(b"acked", b"nacked", ttl_ms=1_000)
    acked, nacked = broker.receive(2)
    broker.advance(5_000)
    assert broker.ack(acked) == [None]
    assert broker.nack(nacked) == [None]
    assert broker.info().messages == 0 and broker.info().expired == 1


def test_delayed_message_may_expire_before_it_is_due(broker):
    broker.declare()
    broker.send(b"a", delay_ms=5_000, ttl_ms=1_000)
    broker.advance(2_000)
    assert broker.info().messages == 0
    broker.advance(5_000)
    assert broker.receive() == [] and broker.info().delayed == 0


# --- priorities and selectors ---


def test_higher_priorities_come_first_and_keep_their_order(broker):
    broker.declare()
    for body, priority in ((b"4a", 4), (b"0", 0), (b"9a", 9), (b"4b", 4), (b"9b", 9), (b"5", 5)):
        broker.send(body, priority=priority)
    assert bodies(broker.receive(10)) == [b"9a", b"9b", b"5", b"4a", b"4b", b"0"]


def test_returned_message_keeps_its_priority(broker):
    broker.declare()
    broker.send(b"low", priority=1)
    broker.send(b"high", priority=8)
    high, low = broker.receive(2)
    broker.nack(low)
    broker.nack(high)
    broker.send(b"higher", priority=9)
    assert bodies(broker.receive(3)) == [b"higher", b"high", b"low"]


def test_selector_chooses_and_leaves_the_rest_to_others(broker):
    broker.declare()
    broker.send(b"eu", attributes=packed(region="EU"))
    broker.send(b"us", attributes=packed(region="US"))
    broker.send(b"none")
    assert bodies(broker.receive(5, selector="region = 'US'")) == [b"us"]
    assert bodies(broker.receive(5)) == [b"eu", b"none"]


def test_selective_consumer_gets_new_and_returned_messages(broker):
    broker.declare()
    _, sink = broker.consume(selector="n > 1")
    for number in range(4):
        broker.send(b"%d" % number, attributes=packed(n=str(number)))
    assert bodies(sink.take()) == [b"2", b"3"]
    _, other = broker.consume(selector="n < 2")
    assert bodies(other.take()) == [b"0", b"1"]


def test_message_given_back_is_offered_to_selective_consumers_again(broker):
    broker.declare()
    broker.send(b"a", attributes=packed(n="1"))
    (held,) = broker.receive()
    _, sink = broker.consume(selector="n = 1")
    broker.send(b"b", attributes=packed(n="1"))
    assert bodies(sink.take()) == [b"b"]
    broker.nack(held, delay_ms=1_000)
    assert sink.take() == []
    broker.advance(1_000)
    assert bodies(sink.take()) == [b"a"]


def test_selector_finds_one_message_behind_many(broker):
    broker.declare()
    broker.send(*[b"x"] * 1_500, attributes=packed(n="1"))
    _, sink = broker.consume(selector="n = 2")
    broker.send(b"y", attributes=packed(n="2"))
    assert bodies(sink.deliveries) == [b"y"]
    assert len(broker.drain()) == 1_500


def test_selective_and_other_consumers_share_a_queue(broker):
    broker.declare()
    _, picky = broker.consume(selector="n = 1")
    _, greedy = broker.consume()
    for number in range(10):
        broker.send(b"%d" % number, attributes=packed(n=str(number % 2)))
    assert len(picky.deliveries) + len(greedy.deliveries) == 10
    assert {each.body for each in picky.deliveries} <= {b"1", b"3", b"5", b"7", b"9"}
    assert picky.deliveries


def test_numbers_given_back_do_not_pile_up(broker):
    broker.declare()
    broker.send(b"a", b"b", attributes=packed(n="1"))
    first, second = broker.receive(2)  # the cursor is behind both
    broker.nack(first, second)
    for _ in range(100):
        broker.nack(*broker.receive(2, selector="n = 1"))
    (lane,) = broker.core.queue("q").lanes
    assert len(lane.returned) <= 4


# --- limits of a queue ---


def test_receive_gives_no_more_bytes_than_the_limit_but_always_a_message():
    broker = Harness(limits=Limits(receive_bytes_max=10))
    broker.declare()
    broker.send(b"x" * 6, b"y" * 6, b"z" * 50)
    assert [len(each.body) for each in broker.receive(10)] == [6, 6]
    assert [len(each.body) for each in broker.receive(10)] == [50]


def test_no_more_messages_are_in_flight_than_the_limit():
    broker = Harness(limits=Limits(in_flight_messages_max=3))
    broker.declare()
    broker.send(*[b"x"] * 5)
    taken = broker.receive(5)
    waiting = broker.waiting(count=5)
    assert len(taken) == 3 and waiting.batches == []
    broker.ack(taken[0])
    assert len(waiting.deliveries) == 1


def test_no_more_consumers_wait_than_the_limit():
    broker = Harness(limits=Limits(consumers_per_queue_max=2))
    broker.declare()
    consumer, _ = broker.consume()
    broker.waiting()
    with pytest.raises(LimitExceeded):
        broker.consume()
    broker.cancel(consumer)
    broker.consume()


def test_bad_message_in_a_batch_harms_no_other(broker):
    broker.core.limits = Limits(body_bytes_max=5)
    broker.declare()
    results = broker.send(b"a", b"toolong", b"b")
    assert [type(each).__name__ for each in results] == ["Sent", "TooLarge", "Sent"]
    assert isinstance(results[1], TooLarge) and broker.bodies() == [b"a", b"b"]


# --- purge ---


def test_purge_takes_everything_whatever_its_state(broker):
    broker.declare()
    broker.send(b"held", b"ready")
    broker.send(b"high", priority=9)
    broker.send(b"later", delay_ms=1_000)
    (held,) = broker.receive()
    consumer, sink = broker.consume(credit=1)
    assert broker.purge() == 4
    assert broker.info().messages == broker.info().bytes == broker.info().delayed == 0
    assert isinstance(broker.ack(held)[0], LeaseLost)
    assert isinstance(broker.nack(*sink.take())[0], LeaseLost)
    broker.advance(MINUTE)
    assert broker.receive() == []
    broker.credit(consumer, 1)
    broker.send(b"new")
    assert bodies(sink.take()) == [b"new"]


def test_sequence_numbers_rise_over_a_purge(broker):
    broker.declare()
    before = sent(broker.send(b"a", b"b"))
    broker.purge()
    (after,) = sent(broker.send(b"c"))
    assert after.seq > before[1].seq and after.id > before[1].id


def test_memory_queue_does_the_same_without_a_record():
    broker = DiskBroker()
    broker.declare(durability=Durability.MEMORY, max_receives=1, dead_letter="dead")
    broker.settle()
    lsn = broker.log.next_lsn
    broker.send(b"a", b"b", delay_ms=10)
    broker.advance(10)
    first, second = broker.receive(2)
    broker.ack(first)
    broker.nack(second)
    assert broker.bodies("dead") == [b"b"]
    assert broker.purge("dead") == 1
    assert broker.log.next_lsn == lsn
    broker = broker.restarted()
    assert broker.info().messages == broker.info("dead").messages == 0


def test_deadlines_of_messages_that_are_gone_do_not_pile_up(broker):
    broker.declare(ttl_ms=7 * 86_400_000)
    queue = broker.core.queues["q"]
    kept = broker.send(b"kept")
    broker.receive()
    for _ in range(2_000):
        broker.send(b"gone")
        broker.ack(*broker.receive())
        broker.clock.ms += 300
    assert len(queue.expiring) < 1_100 and len(queue.expiring._buckets) < 1_100
    assert len(kept) == 1
    broker.advance(8 * 86_400_000)
    assert broker.info().expired == 1 and len(queue.expiring) == 0


def test_receives_that_were_answered_do_not_pile_up(broker):
    broker.declare()
    for _ in range(500):
        sink = broker.waiting(wait_ms=60_000)
        broker.send(b"x")
        broker.ack(*sink.take())
    assert len(broker.core.queues["q"].waits) < 100
    waiting = [broker.waiting(wait_ms=1_000) for _ in range(3)]
    broker.advance(1_000)
    assert [sink.batches for sink in waiting] == [[[]]] * 3


def test_what_comes_back_is_found_by_selectors_that_went_past_it(broker):
    broker.declare()
    attributes = pack_headers({"a": "b"}, Limits())
    broker.send(b"1", b"2", attributes=attributes)
    first = broker.receive(2)
    _, sink = broker.consume(selector="a = 'b'")
    broker.send(b"3", attributes=attributes)
    assert [each.body for each in sink.take()] == [b"3"]
    broker.nack(*first)
    assert [each.body for each in sink.take()] == [b"1", b"2"]

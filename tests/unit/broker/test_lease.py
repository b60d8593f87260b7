"""Leases: one holder, proved by a token, until a time that is never early."""

import random

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError, BrokerFailed, NotFound
from braidmq.broker.lease import Consumer, LeaseTable, WaitList
from braidmq.broker.message import Delivery
from braidmq.storage.errors import LogFailed
from tests.broker_harness import Collector, Harness

NOW = 1_700_000_000_000


def grant(table: LeaseTable, seq: int, deadline_ms: int = 0, consumer: Consumer | None = None):
    return table.grant(seq, 1, deadline_ms, 0, 10, consumer, NOW)


def consumer() -> Consumer:
    return Consumer("q", Collector(), 1, 0, None, None)


def test_token_proves_who_holds_a_message():
    table = LeaseTable()
    token = grant(table, 7, NOW + 100)
    assert table.holds(7, token) is not None and table.holds(7, token + 1) is None
    assert table.take(7, token - 1) is None and table.take(8, token) is None
    assert table.take(7, token) is not None
    assert table.take(7, token) is None and len(table) == 0


def test_tokens_are_above_those_of_an_earlier_process_and_never_given_twice():
    table = LeaseTable()
    first = grant(table, 1)
    assert first >= NOW << 12
    assert grant(table, 2) == first + 1
    emptied = table.emptied()
    assert grant(emptied, 1) == first + 2 and len(emptied) == 1
    later = LeaseTable()
    assert later.grant(1, 1, 0, 0, 0, None, NOW + 1_000) > first + 1_000_000


def test_lease_ends_never_early_and_at_most_a_bucket_late():
    for after in range(1, 200, 7):
        table = LeaseTable()
        grant(table, 1, NOW + after)
        due_ms = table.next_due()
        assert due_ms is not None and NOW + after <= due_ms <= NOW + after + 64
        assert table.due(due_ms - 1, 10) == []
        assert table.due(due_ms, 10) == [1]


def test_settled_lease_does_not_fall_due():
    table = LeaseTable()
    token = grant(table, 1, NOW + 100)
    table.take(1, token)
    assert table.next_due() is None and table.due(NOW + 1_000, 10) == []


def test_extended_lease_falls_due_at_its_new_time_only():
    table = LeaseTable()
    token = grant(table, 1, NOW + 100)
    lease = table.holds(1, token)
    assert lease is not None
    table.extend(1, lease, NOW + 10_000)
    assert table.due(NOW + 9_000, 10) == []
    assert table.due(NOW + 10_064, 10) == [1]


def test_due_leases_come_in_order_and_no_more_than_asked_for():
    table = LeaseTable()
    for seq in (5, 3, 4, 1, 2):
        grant(table, seq, NOW + 10)
    first = table.due(NOW + 200, 3)
    for seq in first:
        table.drop(seq, table.by_seq[seq])
    rest = table.due(NOW + 200, 3)
    assert first == sorted(first) and rest == sorted(rest)
    assert sorted(first + rest) == [1, 2, 3, 4, 5]


def test_lease_without_a_deadline_belongs_to_its_consumer():
    table = LeaseTable()
    holder = consumer()
    token = grant(table, 1, 0, holder)
    assert holder.held == {1} and table.next_due() is None
    table.take(1, token)
    assert holder.held == set()
    grant(table, 2, 0, holder)
    table.extend(2, table.by_seq[2], NOW + 10)
    assert holder.held == set() and table.next_due() is not None


def test_table_is_a_dict_of_deadlines():
    rng = random.Random(5)
    table = LeaseTable()
    model: dict[int, int] = {}
    now = NOW
    for _ in range(2_000):
        seq = rng.randrange(40)
        now += rng.randrange(20)
        if seq not in model:
            model[seq] = now + rng.randrange(1, 3_000)
            grant(table, seq, model[seq])
        elif rng.random() < 0.3:
            table.drop(seq, table.by_seq[seq])
            del model[seq]
        elif rng.random() < 0.3:
            model[seq] = now + rng.randrange(1, 3_000)
            table.extend(seq, table.by_seq[seq], model[seq])
        for each in table.due(now, 1_000):
            assert model.pop(each) <= now
            table.drop(each, table.by_seq[each])
        assert all(deadline > now - 64 for deadline in model.values())
    assert set(table.by_seq) == set(model)


def test_settled_leases_cost_nothing_while_an_old_one_lives():
    table = LeaseTable()
    grant(table, 1, NOW + 100)
    for step in range(1_000):
        for seq in (2, 3):
            token = grant(table, seq, NOW + 1_000 + 100 * step)
            assert table.take(seq, token) is not None
    assert len(table._buckets) == 2 and len(table._keys) < 100
    assert table.due(NOW + 200, 10) == [1]


def test_bucket_that_was_emptied_and_filled_again_ends_once():
    table = LeaseTable()
    for deadline_ms in (NOW + 1_000, NOW + 2_000, NOW + 1_000):
        token = grant(table, 1, deadline_ms)
        assert table.take(1, token) is not None
    grant(table, 2, NOW + 1_000)
    grant(table, 3, NOW + 3_000)
    assert table.due(NOW + 1_100, 10) == [2]
    assert table.due(NOW + 2_900, 10) == []
    assert table.due(NOW + 3_100, 10) == [3]


# --- sinks that are broken ---


class BrokenSink(Collector):
    """A sink with a bug: what comes after the first ``good`` batches makes it fail."""

    def __init__(self, good: int = 0, fault: Exception | None = None) -> None:
        super().__init__()
        self.good = good
        self.fault = fault or ZeroDivisionError("a bug")

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        if len(self.batches) >= self.good:
            raise self.fault
        super().deliver(consumer, deliveries)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        super().closed(consumer, error)
        raise self.fault


@pytest.fixture
def broker():
    broker = Harness()
    broker.declare()
    return broker


@pytest.fixture
def faults(broker: Harness) -> list[Exception]:
    found: list[Exception] = []
    broker.core.on_fault = found.append
    return found


def consume(broker: Harness, sink: Collector, credit: int) -> Consumer:
    return broker.core.consume(SYSTEM, "q", sink, credit, "", None, broker.clock.ms)


def test_a_broken_sink_costs_only_itself_and_no_message(broker, faults):
    sink = BrokenSink(good=1)
    held = consume(broker, sink, 1)
    broker.send(b"0")
    assert len(sink.deliveries) == 1
    broker.credit(held, 10)
    _, other = broker.consume()
    broker.send(b"1", b"2", b"3")
    bodies = sorted(each.body for each in other.deliveries)
    assert bodies == [b"0", b"1", b"2", b"3"]  # also what the broken one had taken before
    assert held.closed and type(sink.error) is BraidError and not held.held
    assert broker.info().consumers == 1 and broker.core.failed is None
    assert [str(fault) for fault in faults] == ["a bug"] * 2  # of both of its methods
    # What it could not take counts as received, so that it ends as a dead letter at last.
    assert all(each.receives == 2 for each in other.deliveries if each.body in (b"0", b"1"))
    broker.credit(held, 5)
    assert broker.info().consumers == 1


def test_a_receive_that_is_broken_gives_back_at_once(broker, faults):
    broker.send(b"1")
    for wait_ms in (0, 10):
        broker.core.receive(
            *(SYSTEM, "q", BrokenSink(), 1, wait_ms, 3_600_000, "", "", None, broker.clock.ms)
        )
        broker.settle()
    assert len(faults) == 4
    (delivery,) = broker.receive()
    assert delivery.receives == 3
    broker.ack(delivery)
    waiting = broker.core.receive(
        *(SYSTEM, "q", BrokenSink(), 1, 10, 1_000, "", "", None, broker.clock.ms)
    )
    broker.advance(20)  # it is told that there was nothing
    assert waiting.closed and len(faults) == 6 and broker.info().consumers == 0


def test_everybody_is_told_of_the_end_whoever_is_broken(broker, faults):
    consume(broker, BrokenSink(), 1)
    _, other = broker.consume()
    broker.delete()
    assert isinstance(other.error, NotFound) and len(faults) == 1


def test_a_log_that_fails_is_no_mistake_of_a_sink(broker, faults):
    sink = BrokenSink(fault=LogFailed("a disk"))
    sink.closed = lambda consumer, error: None  # type: ignore[method-assign]
    consume(broker, sink, 1)
    broker.send(b"1")
    assert isinstance(broker.core.failed, BrokerFailed) and not faults


def test_faults_that_nobody_wants_to_hear_of_stop_the_broker(broker):
    consume(broker, BrokenSink(), 1)
    with pytest.raises(ZeroDivisionError):
        broker.send(b"1")


def waiting(deadline_ms: int) -> Consumer:
    consumer = Consumer("q", Collector(), 1, 1_000, None, None)
    consumer.deadline_ms = deadline_ms
    return consumer


def test_receives_that_wait_end_in_the_order_of_their_deadlines():
    waits = WaitList()
    late, early, answered = waiting(30), waiting(10), waiting(10)
    for consumer in (late, early, answered):
        waits.add(consumer)
    answered.closed = True
    assert waits.next_due() == 10
    assert waits.pop_due(9) is None
    assert waits.pop_due(10) is early
    assert waits.pop_due(10) is None
    assert waits.pop_due(30) is late
    assert waits.next_due() is None


def test_receives_that_were_answered_do_not_pile_up():
    waits = WaitList()
    stays = waiting(1)
    waits.add(stays)
    for _ in range(1_000):
        answered = waiting(10**9)
        waits.add(answered)
        answered.closed = True
        waits.trim(1)
    assert len(waits) < 100
    assert waits.pop_due(1) is stays

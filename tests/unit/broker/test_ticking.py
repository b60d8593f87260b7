"""What is due: each kind is done in time, in slices, and nothing before its time."""

from tests.broker_harness import Harness


def ticked(broker: Harness, ms: int) -> None:
    """Let time go on and have the queue do once what is due, no more."""
    broker.clock.ms += ms
    broker.core.queue("q").tick(broker.clock.ms)


def test_everything_that_is_due_is_done_at_once():
    broker = Harness()
    broker.declare(delay_ms=0)
    broker.send(b"leased")
    broker.receive(1, lease_ms=1_000)
    broker.send(b"delayed", delay_ms=1_000)
    broker.send(b"old", ttl_ms=1_000)
    ticked(broker, 900)
    info = broker.info()
    assert (info.in_flight, info.delayed, info.ready) == (1, 1, 1)
    ticked(broker, 200)
    info = broker.info()
    assert (info.in_flight, info.delayed, info.ready, info.expired) == (0, 0, 2, 1)


def test_a_receive_has_waited_long_enough():
    broker = Harness()
    broker.declare()
    sink = broker.waiting(wait_ms=500)
    ticked(broker, 499)
    assert sink.batches == []
    ticked(broker, 1)
    assert sink.batches == [[]] and broker.info().consumers == 0


def test_many_deadlines_are_met_in_slices():
    broker = Harness()
    broker.declare()
    broker.send(*[b"x"] * 1_500, delay_ms=100)
    ticked(broker, 200)
    assert broker.info().delayed == 500
    broker.advance(0)
    assert broker.info().delayed == 0


def test_what_is_past_its_retention_goes():
    broker = Harness()
    broker.declare(retention_ms=1_000)
    broker.send(b"x")
    ticked(broker, 1_001)
    assert broker.info().ready == 0

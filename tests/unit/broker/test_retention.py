"""Retention: no message is kept longer, whatever its state and wherever its time stands."""

import pytest

from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness


@pytest.fixture
def broker() -> Harness:
    return Harness()


def test_retention_ends_every_message(broker):
    broker.declare(retention_ms=10_000)
    broker.send(b"a")
    broker.send(b"short", ttl_ms=1_000)
    broker.advance(5_000)
    broker.send(b"b")
    assert broker.bodies() == [b"a", b"b"]
    broker.advance(5_100)
    assert broker.bodies() == [b"b"]
    broker.advance(5_000)
    assert broker.info().messages == 0 and broker.info().expired == 3


def test_retention_passes_over_a_leased_message_and_ends_it_afterwards(broker):
    broker.declare(retention_ms=1_000)
    broker.send(b"a")
    (delivery,) = broker.receive(lease_ms=20_000)
    broker.advance(10_000)
    assert broker.info().in_flight == 1
    broker.nack(delivery)
    assert broker.info().messages == 0


def test_retention_that_is_set_later_counts_from_when_a_message_came(broker):
    broker.declare()
    broker.send(b"a")
    broker.advance(10_000)
    broker.send(b"b")
    broker.update(retention_ms=5_000)
    broker.advance(200)
    assert broker.bodies() == [b"b"]


def test_thousands_of_messages_expire(broker):
    broker.declare(retention_ms=1_000)
    broker.send(*[b"x"] * 2_500)
    broker.advance(1_500)
    assert broker.info().messages == 0


def test_retention_reads_large_messages_back_without_a_consumer():
    broker = DiskBroker(cache_bytes_max=4_096, segment_bytes=1 << 20)
    broker.declare(retention_ms=60_000)
    broker.send(b"x" * 300_000, b"y" * 300_000, b"z")
    broker = broker.restarted()
    broker.advance(90_000)
    assert broker.info().messages == 0

"""Clients that fail, or find no room: nobody else suffers, and nothing is half made."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import LimitExceeded
from braidmq.broker.limits import Limits
from tests.broker_disk import DiskBroker
from tests.topic_client import Client, publication_of


@pytest.fixture
def broker():
    return DiskBroker()


# --- clients that are broken ---


class BrokenClient(Client):
    """One with a bug, which shows in these methods."""

    broken: tuple[str, ...] = ()

    def _fail(self, method: str) -> None:
        if method in self.broken:
            raise ZeroDivisionError(method)

    def publish(self, publication, match):
        self._fail("publish")
        super().publish(publication, match)

    def attach(self, queue, subscription):
        self._fail("attach")
        super().attach(queue, subscription)

    def replaced(self):
        self._fail("replaced")
        super().replaced()

    def ended(self, reason):
        self._fail("ended")
        super().ended(reason)


@pytest.fixture
def faults(broker):
    found: list[str] = []
    broker.core.on_fault = lambda fault: found.append(str(fault))
    return found


@pytest.mark.parametrize("broken", [("publish",), ("publish", "ended")])
@pytest.mark.parametrize("filter", ["t", "$share/g/t"])
def test_a_broken_subscriber_costs_only_its_connection(broker, faults, broken, filter):
    client, other = BrokenClient(broker, "broken"), Client(broker, "other")
    client.connect()
    client.subscribe(filter)
    client.subscribe("kept/#")
    other.connect(expiry_ms=0)
    other.subscribe("t")
    client.broken = broken
    # In the middle of one publish after the other, before the broker's next turn.
    for body in (b"1", b"2"):
        broker.core.topics.publish(SYSTEM, publication_of("t", body, 0), broker.clock.ms)
    broker.settle()
    assert other.take_live() == [b"1", b"2"] and faults == list(broken)
    session = broker.core.sessions["broken"]
    assert session.sink is None and len(session.subscriptions) == 2
    assert not client.queue.consumers
    other.send("kept/1", b"3")
    again = Client(broker, "broken")
    assert again.connect() and again.bodies() == [b"3"]


def test_who_cannot_even_hang_up_is_taken_off(broker, faults):
    client = BrokenClient(broker, "c")
    client.connect()
    client.subscribe("t")
    Client(broker, "p").connect()
    broker.core.topics.publish(SYSTEM, publication_of("t", b"1"), broker.clock.ms)
    broker.settle()
    assert client.bodies() == [b"1"]
    client.broken = ("replaced",)
    again = Client(broker, "c")
    assert again.connect() and faults == ["replaced"]
    assert again.bodies() == [b"1"] and len(client.queue.consumers) == 1


def test_a_share_that_becomes_durable_is_not_held_up_by_a_broken_member(broker, faults):
    client, durable = BrokenClient(broker, "broken"), Client(broker, "durable")
    client.connect(expiry_ms=0)
    client.subscribe("$share/g/t")
    client.broken = ("attach",)
    durable.connect()
    assert not durable.subscribe("$share/g/t")
    assert faults == ["attach"] and not client.present
    assert Client(broker).connect() is False
    broker.core.topics.publish(SYSTEM, publication_of("t", b"1"), broker.clock.ms)
    broker.settle()
    assert durable.bodies() == [b"1"]


# --- queues that have as many consumers as they may ---


@pytest.mark.parametrize("filter", ["$queue/q", "$share/g/t"])
def test_who_could_not_consume_is_not_made_a_subscriber(filter):
    broker = DiskBroker(limits=Limits(consumers_per_queue_max=1))
    broker.declare()
    one, two = Client(broker, "one"), Client(broker, "two")
    for client in (one, two):
        client.connect()
    one.subscribe(filter)
    before, bytes_before = broker.core.clients.subscriptions, broker.log.next_lsn
    with pytest.raises(LimitExceeded, match="as many consumers"):
        two.subscribe(filter)
    assert broker.core.clients.subscriptions == before and not two.session.subscriptions
    assert broker.log.next_lsn == bytes_before and two.session.shapes == 0
    one.disconnect()
    two.subscribe(filter)
    broker.core.clients.kick(SYSTEM, "two", True, broker.clock.ms)
    assert broker.core.clients.subscriptions == 1


def test_a_member_that_cannot_be_attached_hangs_up_and_nobody_else(broker):
    member = Client(broker, "member")
    member.connect(expiry_ms=0)
    member.subscribe("$share/g/t")
    durable = Client(broker, "durable")
    durable.connect()

    def full(queue, subscription):
        raise LimitExceeded("as many consumers as it may")

    member.attach = full  # type: ignore[method-assign]
    assert not durable.subscribe("$share/g/t")
    assert member.ends == ["as many consumers as it may"] and not member.present

"""A session's queue and its packet identifiers, over restarts and checkpoints at any moment."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.session import (
    INBOUND,
    PACKET_ID_SEQUENCED_MAX,
    Session,
    SessionDefinition,
    SubscriptionDefinition,
    packet_id,
)
from braidmq.broker.state import LANE_SHIFT
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.topic_client import Client


@pytest.fixture
def broker():
    return DiskBroker()


def connected(broker: DiskBroker, name: str = "c") -> Client:
    client = Client(broker, name)
    client.connect()
    return client


@given(st.integers(1, 1 << 40))
def test_packet_identifiers_follow_from_sequence_numbers(seq):
    assert 1 <= packet_id(seq) <= PACKET_ID_SEQUENCED_MAX
    assert packet_id(seq + 1) == packet_id(seq) % PACKET_ID_SEQUENCED_MAX + 1


def test_messages_keep_their_sequence_numbers_over_a_restart(broker):
    client = connected(broker)
    client.subscribe("t", 2)
    for number in range(3):
        client.send("t", b"%d" % number, 2)
    numbers = [delivery.seq for _, delivery in client.held]
    client = connected(broker.restarted())
    assert [delivery.seq for _, delivery in client.held] == numbers
    assert all(delivery.receives > 1 for _, delivery in client.held)


def test_exchange_of_quality_2_to_the_client(broker):
    """Received is gone; its identifier stays until it is complete."""
    client = connected(broker)
    client.subscribe("t", 2)
    for body in (b"1", b"2"):
        client.send("t", body, 2)
    (_, first), (_, second) = client.held
    assert client.queue.release(*first.receipt)
    assert not client.queue.release(*first.receipt)  # it was already
    assert client.queue.released == {1} and client.queue.live == 1
    broker.settle()
    client = connected(broker.restarted())
    assert client.bodies() == [b"2"] and client.queue.released == {1}
    client.broker.checkpoint()
    client.queue.complete(1)
    client.queue.complete(1)
    client.broker.settle()
    client.queue.release(*client.held[0][1].receipt)
    client.broker.settle()
    client = connected(client.broker.restarted())
    assert client.queue.released == {2} and client.queue.live == 0
    assert second.seq == 2


def test_identifiers_that_the_client_uses(broker):
    client = connected(broker)
    queue = client.queue
    for number in (3, 65_535, 9):
        queue.receive_inbound(number)
    queue.release_inbound(9)
    queue.release_inbound(9)
    broker.settle()
    client = connected(broker.restarted())
    assert client.queue.inbound == {3, 65_535} and client.queue.live == 0
    assert client.queue.lane(0).next == 1  # they are no messages


class Exchanges:
    """A client that is in the middle of many exchanges of QoS 2, both ways."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.client = connected(DiskBroker(segment_bytes=1_024))
        self.client.subscribe("t", 2)
        self.inbound: set[int] = set()
        self.released: set[int] = set()
        self.bodies: dict[int, bytes] = {}  # by sequence number

    def act(self) -> None:
        client, queue, rng = self.client, self.client.queue, self.rng
        choice = rng.randrange(5)
        if choice == 0:
            number = rng.randrange(1, 20)
            if number not in self.inbound:
                client.send("t", b"%d" % number, 2, inbound=number)
                self.inbound.add(number)
        elif choice == 1 and self.inbound:
            queue.release_inbound(self.inbound.pop())
        elif choice == 2 and client.held:
            _, delivery = client.held.pop(rng.randrange(len(client.held)))
            queue.release(*delivery.receipt)
            self.released.add(packet_id(delivery.seq))
        elif choice == 3 and self.released:
            queue.complete(self.released.pop())
        self.bodies.update({delivery.seq: delivery.body for _, delivery in client.held})
        client.broker.settle()

    def restart(self) -> None:
        """After it all is as it was."""
        held = sorted(delivery.seq for _, delivery in self.client.held)
        power = self.rng if self.rng.random() < 0.5 else None
        self.client = client = connected(self.client.broker.restarted(power))
        assert (client.queue.inbound, client.queue.released) == (self.inbound, self.released)
        assert sorted(delivery.seq for _, delivery in client.held) == held
        assert all(delivery.body == self.bodies[delivery.seq] for _, delivery in client.held)


def test_fuzzy_checkpoints_of_identifiers():
    """The checkpoint is taken in steps while identifiers come and go."""
    for seed in range(30):
        rng = random.Random(seed)
        exchanges = Exchanges(rng)
        for _ in range(6):
            for _ in range(rng.randrange(20)):
                exchanges.act()
            exchanges.client.broker.checkpoint(exchanges.act)
            for _ in range(rng.randrange(20)):
                exchanges.act()
            exchanges.restart()


def test_definitions_say_everything():
    session = Session("c", "u", 7)
    session.expiry_ms, session.ended_ms = 5, 6
    definition = session.definition()
    assert definition == SessionDefinition(
        name="c", user="u", expiry_ms=5, ended_ms=6, durability=Durability.SYNC, created_ms=7
    )
    other = Session("c", "u", 7)
    other.restore(definition)
    assert other.definition() == definition
    other.change_subscription(SubscriptionDefinition(filter="nothing", subscription=None))
    assert other.subscriptions == {}


def test_lanes_of_identifiers_are_not_those_of_messages():
    assert INBOUND >> LANE_SHIFT == 16  # on disk; priorities use 0 to 9

"""Records become dead letters: at once, or when they were read; once, and whatever happens."""

import random

import pytest

from braidmq.broker.message import unpack_headers
from braidmq.broker.viewreader import ViewReader
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient

COUNT = 40


def fill(**options):
    broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=2_048, **options)
    client = StreamClient(broker).declare()
    for n in range(COUNT):
        client.append(b"%d" % n + b"." * 150, key=b"k%d" % n)
    broker.declare("v", stream="s", max_receives=2, dead_letter="dead")
    broker.settle()
    return broker


@pytest.fixture
def broker():
    return fill()


@pytest.fixture
def nothing_in_memory(monkeypatch):
    monkeypatch.setattr(ViewReader, "peek", lambda self, slot: None)


def numbers(broker, name="dead"):
    return [int(body.rstrip(b".")) for body in broker.bodies(name)]


def test_a_dead_letter_is_the_same_message_and_tells_its_story(broker):
    (delivery,) = broker.receive(1, "v")
    broker.dead_letter(delivery, name="v", reason="ugly")
    (message,) = broker.browse("dead")
    assert (message.id, message.body) == (delivery.id, delivery.body)
    assert unpack_headers(message.attributes) == {
        "partition-key": "k0",
        "dead-letter-queue": "v",
        "dead-letter-reason": "ugly",
        "dead-letter-receives": "1",
        "dead-letter-time": str(broker.clock.ms),
    }
    assert broker.info("v").dead_lettered == 1 and broker.info("v").ready == COUNT - 1
    broker = broker.restarted()
    (again,) = broker.browse("dead")
    assert again == message and broker.info("v").ready == COUNT - 1


def test_it_lives_on_when_the_stream_lets_go_of_it(broker):
    (delivery,) = broker.receive(1, "v")
    broker.dead_letter(delivery, name="v")
    StreamClient(broker).core.streams.trim(StreamClient(broker).shard(), COUNT + 1)
    broker.settle()
    broker.checkpoint()
    while broker.compact():
        pass
    broker = broker.restarted()
    (message,) = broker.browse("dead")
    assert (message.id, message.body) == (delivery.id, delivery.body)
    (taken,) = broker.receive(1, "dead")
    assert taken.id == delivery.id


def test_what_has_to_be_read_first_is_buried_when_it_was(broker, nothing_in_memory):
    taken = broker.receive(COUNT, "v", lease_ms=60_000)
    while len(taken) < COUNT:
        taken += broker.receive(COUNT, "v", lease_ms=60_000)
    broker.rehome()
    broker.dead_letter(*taken, name="v")
    assert numbers(broker) == list(range(COUNT))
    assert broker.info("v").messages == 0


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_once_it_is_confirmed_it_never_comes_again(
    broker, nothing_in_memory, power, has_checkpoint
):
    """Not even if the broker ends before it has read what is to be buried."""
    taken = broker.receive(5, "v", lease_ms=60_000)
    view = broker.core.queues["v"]
    view.burials.step = lambda: None
    broker.dead_letter(*taken, name="v", reason="bad")
    if has_checkpoint:
        broker.checkpoint()
    assert numbers(broker) == []
    broker = broker.restarted(random.Random(1) if power else None)
    broker.settle()
    assert numbers(broker) == [0, 1, 2, 3, 4]
    rest = broker.drain("v")
    assert len(rest) == COUNT - 5 and not {delivery.body for delivery in taken} & set(rest)
    for message in broker.browse("dead"):
        assert unpack_headers(message.attributes)["dead-letter-reason"] == "rejected"


def test_what_waits_to_be_buried_stands_in_a_checkpoint(broker, nothing_in_memory):
    taken = broker.receive(3, "v", lease_ms=60_000)
    view = broker.core.queues["v"]
    view.burials.step = lambda: None
    broker.dead_letter(*taken, name="v")
    assert numbers(broker) == [] and len(view.burials.waiting) == 3
    assert broker.info("v").delayed == 3
    broker.checkpoint()
    broker = broker.restarted()
    broker.settle()
    assert numbers(broker) == [0, 1, 2]
    assert broker.info("v").delayed == 0


def test_what_is_gone_before_it_was_read_is_not_buried(broker, nothing_in_memory):
    taken = broker.receive(2, "v", lease_ms=60_000)
    view = broker.core.queues["v"]
    step, view.burials.step = view.burials.step, lambda: None
    broker.dead_letter(*taken, name="v")
    broker.core.streams.trim(StreamClient(broker).shard(), 2)
    broker.settle()
    view.burials.step = step
    step()
    broker.settle()
    assert numbers(broker) == [1]
    assert broker.info("v").delayed == 0


def test_without_room_on_disk_it_waits(broker, monkeypatch):
    (delivery,) = broker.receive(1, "v", lease_ms=60_000)
    bury = broker.core.bury_record
    monkeypatch.setattr(type(broker.core), "bury_record", lambda *arguments: False)
    broker.dead_letter(delivery, name="v")
    broker.advance(10)
    assert numbers(broker) == [] and broker.info("v").delayed == 1
    monkeypatch.setattr(type(broker.core), "bury_record", lambda self, *arguments: bury(*arguments))
    broker.advance(2_000)
    assert numbers(broker) == [0] and broker.info("v").delayed == 0


def test_what_cannot_be_read_stays_and_blocks_nobody(broker, nothing_in_memory):
    damaged = []
    broker.core.on_damage = lambda queue, seq, error: damaged.append((queue, seq))
    taken = broker.receive(2, "v", lease_ms=60_000)
    broker.rehome()
    (path,) = [name for name in broker.disk.names() if name.endswith(".seg")]
    broker.disk.damage(path, 200)
    broker.dead_letter(*taken, name="v")
    assert len(damaged) == 2 and numbers(broker) == []
    assert broker.info("v").delayed == 2 and broker.info("v").damaged == 2

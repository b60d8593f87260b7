"""Redrive: dead letters go back to work, at a rate, with progress, and can be stopped."""

import pytest

from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.errors import Conflict, InvalidArgument, LimitExceeded, NotFound
from braidmq.broker.limits import Limits
from braidmq.broker.message import unpack_headers
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


def kill(broker: Harness, count: int, name: str = "q") -> None:
    """Send messages and have them die."""
    broker.send(*(b"%d" % number for number in range(count)), name=name)
    broker.dead_letter(*broker.receive(count, name), name=name)


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.declare("dead")
    harness.declare(max_receives=1, dead_letter="dead")
    return harness


def test_messages_go_back_to_where_they_came_from(broker):
    broker.declare("r", max_receives=1, dead_letter="dead")
    kill(broker, 2)
    kill(broker, 1, "r")
    info = broker.redrive()
    assert (info.state, info.moved, info.total) == ("running", 0, 3)
    broker.settle()
    broker.advance(100)
    info = broker.progress()
    assert (info.state, info.moved) == ("done", 3)
    assert broker.info("dead").messages == 0
    assert (broker.bodies("q"), broker.bodies("r")) == ([b"0", b"1"], [b"0"])
    (delivery, _) = broker.receive(2)
    assert delivery.receives == 1 and unpack_headers(delivery.attributes) == {}


def test_messages_go_to_the_queue_that_is_named(broker):
    broker.declare("other")
    broker.send(b"sent there", name="dead")
    kill(broker, 2)
    broker.redrive(target="other")
    broker.advance(100)
    assert broker.bodies("other") == [b"sent there", b"0", b"1"]


def test_redriven_message_keeps_its_id(broker):
    (before,) = broker.send(b"a")
    broker.dead_letter(*broker.receive())
    broker.redrive()
    broker.advance(10)
    assert [each.id for each in broker.receive()] == [before.id]


def test_redriven_message_begins_a_new_life(broker):
    broker.update(retention_ms=60_000)
    broker.send(b"a", ttl_ms=1_000)
    broker.dead_letter(*broker.receive())
    broker.advance(600_000)
    broker.redrive()
    broker.advance(100)
    assert [each.body for each in broker.receive()] == [b"a"]
    broker.advance(100_000)  # but retention holds for everybody
    assert broker.info().messages == 0


def test_rate_is_kept_and_progress_can_be_seen(broker):
    kill(broker, 50)
    broker.redrive(rate=10)
    broker.settle()
    assert broker.progress().moved == 1
    broker.advance(1_000)
    assert 10 <= broker.progress().moved <= 11
    broker.advance(2_000)
    assert 30 <= broker.progress().moved <= 31
    assert broker.progress().state == "running"
    broker.advance(2_000)
    assert (broker.progress().moved, broker.progress().state) == (50, "done")


def test_limit_is_kept(broker):
    kill(broker, 10)
    broker.redrive(limit=3)
    broker.advance(100)
    assert (broker.progress().moved, broker.progress().total) == (3, 3)
    assert broker.info("dead").messages == 7


def test_cancelled_redrive_stops_where_it_is(broker):
    kill(broker, 10)
    info = broker.redrive(rate=1)
    broker.advance(3_500)
    assert broker.core.cancel_redrive(SYSTEM, info.id).state == "cancelled"
    broker.advance(60_000)
    assert broker.progress().moved == 4 and broker.info("dead").messages == 6
    assert broker.core.cancel_redrive(SYSTEM, info.id).state == "cancelled"
    with pytest.raises(NotFound):
        broker.core.cancel_redrive(SYSTEM, 99)


def test_messages_that_come_meanwhile_are_left_alone(broker):
    kill(broker, 2)
    broker.redrive(rate=1)
    broker.settle()
    broker.send(b"new", name="dead")
    broker.advance(10_000)
    assert broker.bodies("dead") == [b"new"]


def test_messages_that_somebody_holds_are_left_alone(broker):
    kill(broker, 3)
    broker.receive(1, "dead")
    broker.redrive()
    broker.advance(100)
    assert broker.progress().moved == 2 and broker.info("dead").in_flight == 1


def test_message_without_an_origin_fails_the_redrive(broker):
    kill(broker, 1)
    broker.send(b"sent there", name="dead")
    broker.redrive()
    broker.advance(100)
    info = broker.progress()
    assert (info.state, info.moved) == ("failed", 1) and "where" in info.error
    assert broker.bodies("dead") == [b"sent there"]


def test_origin_that_is_gone_fails_the_redrive(broker):
    kill(broker, 1)
    broker.delete()
    broker.redrive()
    broker.advance(100)
    assert broker.progress().state == "failed" and broker.info("dead").messages == 1


def test_source_that_is_deleted_ends_the_redrive(broker):
    kill(broker, 10)
    broker.redrive(target="q", rate=1)
    broker.advance(1_500)
    broker.update(max_receives=0, dead_letter="")
    broker.delete("dead")
    broker.advance(60_000)
    assert broker.progress().state == "done" and broker.info().messages == 2


def test_target_has_to_fit(broker):
    broker.declare("fifo", fifo=True)
    broker.declare("memory", durability=Durability.MEMORY)
    for target in ("fifo", "memory"):
        with pytest.raises(InvalidArgument):
            broker.redrive(target=target)
    with pytest.raises(NotFound):
        broker.redrive(target="nowhere")


def test_rights_are_checked_at_each_message(broker):
    kill(broker, 5)
    rules = (
        Rule("allow", ("queue:Redrive",), ("dead",)),
        Rule("allow", ("queue:Send",), ("q",)),
    )
    access = Access([User("alice", HASH, rules)])
    alice = access.principal("alice")
    broker.core.redrive(alice, "dead", "", 1, 0, broker.clock.ms)
    broker.advance(1_500)
    access.replace([User("alice", HASH, rules[:1])])
    broker.advance(10_000)
    assert (broker.progress().state, broker.progress().moved) == ("failed", 2)


def test_one_redrive_of_a_queue_at_a_time_and_not_too_many_in_all():
    broker = Harness(limits=Limits(redrive_tasks_max=2))
    for number in range(4):
        broker.declare(f"d{number}")
        broker.send(b"a", b"b", name=f"d{number}")
    broker.declare("t")
    broker.redrive("d0", "t", rate=0.001)
    with pytest.raises(Conflict):
        broker.redrive("d0", "t")
    broker.redrive("d1", "t", rate=0.001)
    with pytest.raises(LimitExceeded):
        broker.redrive("d2", "t")
    for info in broker.core.list_redrives(SYSTEM):
        broker.core.cancel_redrive(SYSTEM, info.id)
    for _ in range(5):
        broker.redrive("d3", "t")
        broker.advance(100)
    assert len(broker.core.list_redrives(SYSTEM)) <= 4  # ended ones are forgotten


def test_fifo_dead_letters_go_back_in_order():
    broker = Harness()
    broker.declare(fifo=True, max_receives=1, dead_letter="dead")
    for number in range(5):
        broker.send(b"%d" % number, group="a")
    broker.dead_letter(*broker.receive(5))
    broker.redrive()
    broker.advance(100)
    assert broker.drain() == [b"0", b"1", b"2", b"3", b"4"]


def test_redrive_reads_origins_back_from_disk_and_survives_a_restart():
    broker = DiskBroker(cache_bytes_max=2_000)
    broker.declare(max_receives=1, dead_letter="dead")
    broker.send(*(b"%03d" % number + b"x" * 500 for number in range(30)))
    broker.dead_letter(*broker.receive(30))
    broker = broker.restarted()
    broker.redrive(limit=10)
    broker.advance(5_000)
    assert broker.progress().state == "done"
    broker.checkpoint()
    broker = broker.restarted()
    assert broker.info("dead").messages == 20
    assert [body[:3] for body in broker.drain()] == [b"%03d" % number for number in range(10)]


def test_unreadable_origin_fails_the_redrive():
    broker = DiskBroker(cache_bytes_max=1)
    broker.declare(max_receives=1, dead_letter="dead")
    broker.send(b"a" * 100)
    broker.dead_letter(*broker.receive())
    broker = broker.restarted()
    broker.disk.fail_reads = {broker.disk.reads: 5}
    broker.redrive()
    broker.advance(1_000)
    assert broker.progress().state == "failed" and broker.progress().error
    assert broker.info("dead").messages == 1


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-9])
def test_rate_next_to_nothing_stops_nobody(rate):
    broker = Harness()
    broker.declare("dead")
    broker.declare("q")
    broker.send(b"a", b"b", name="dead")
    broker.redrive("dead", "q", rate=rate)
    broker.advance(60_000)
    assert broker.core.failed is None
    assert (broker.progress().moved, broker.progress().state) == (1, "running")

"""Browsing: every message, in order, a page at a time, and no effect on any of them."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import Unavailable
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.declare()
    return harness


def test_browse_shows_every_state(broker):
    broker.send(b"a", b"b")
    broker.send(b"c", delay_ms=1_000)
    broker.nack(*broker.receive())
    broker.receive()
    shown = [(each.body, each.state, each.receives) for each in broker.browse()]
    assert shown == [(b"a", "in-flight", 2), (b"b", "ready", 0), (b"c", "delayed", 0)]
    for state, bodies in (("ready", [b"b"]), ("delayed", [b"c"]), ("in-flight", [b"a"])):
        assert broker.bodies(state=state) == bodies


def test_browse_changes_nothing(broker):
    broker.send(b"a", b"b")
    before = broker.info()
    broker.browse()
    assert broker.info() == before
    (delivery,) = broker.receive()
    assert (delivery.body, delivery.receives) == (b"a", 1)


def test_pages_follow_one_another(broker):
    broker.send(*(b"%d" % number for number in range(25)))
    broker.send(b"high", priority=9)
    seen, after = [], 0
    while page := broker.browse(after=after, limit=10):
        assert len(page) <= 10
        seen += [each.body for each in page]
        after = page[-1].seq
    assert seen == [b"%d" % number for number in range(25)] + [b"high"]


def test_selector_chooses_what_is_shown(broker):
    for number in range(500):
        broker.send(b"%d" % number, attributes=pack_headers({"n": str(number)}, Limits()))
    assert [each.body for each in broker.browse(selector="n >= 498")] == [b"498", b"499"]
    assert [each.body for each in broker.browse(selector="n > 5", limit=2)] == [b"6", b"7"]


def test_long_browse_lets_others_have_their_turn(broker):
    broker.send(*[b"x"] * 1_000)
    answers: list[object] = []
    core = broker.core
    core.browse(
        SYSTEM, "q", 0, 1_000, "", "all", lambda argument, answer: answers.append(answer), None
    )
    turns = 0
    while not answers:
        core.run(broker.clock.ms)
        turns += 1
    assert turns > 3 and isinstance(answers[0], list) and len(answers[0]) == 1_000


def test_messages_that_go_meanwhile_are_left_out(broker):
    broker.send(*[b"x"] * 450)
    answers: list[object] = []
    core = broker.core
    core.browse(
        SYSTEM, "q", 0, 1_000, "", "all", lambda argument, answer: answers.append(answer), 0
    )
    core.run(broker.clock.ms)
    broker.core.purge(SYSTEM, "q", broker.clock.ms)
    broker.settle()
    assert isinstance(answers[0], list) and len(answers[0]) == 200


def test_queue_that_is_deleted_meanwhile_ends_the_browse(broker):
    broker.send(*[b"x"] * 450)
    answers: list[object] = []
    broker.core.browse(
        SYSTEM, "q", 0, 1_000, "", "all", lambda argument, answer: answers.append(answer), None
    )
    broker.delete()
    assert answers == [[]]


def test_browse_reads_back_what_left_the_cache():
    broker = DiskBroker(cache_bytes_max=1_000)
    broker.declare(max_receives=1, dead_letter="dead")
    broker.send(*(b"%03d" % number + b"x" * 400 for number in range(50)))
    broker.dead_letter(*broker.receive(20))
    broker = broker.restarted()
    assert [body[:3] for body in broker.bodies()] == [b"%03d" % n for n in range(20, 50)]
    assert [body[:3] for body in broker.bodies("dead")] == [b"%03d" % n for n in range(20)]
    assert broker.log.statistics().fetches > 0


def test_message_that_cannot_be_read_is_an_error_and_not_silence():
    broker = DiskBroker(cache_bytes_max=1)
    broker.declare()
    broker.send(b"x" * 100)
    broker = broker.restarted()
    broker.disk.fail_reads = {broker.disk.reads: 5}
    with pytest.raises(Unavailable):
        broker.browse()
    assert broker.bodies() == [b"x" * 100]

"""How a replay ends, and that it goes on after a restart where it was."""

from typing import Any

import pytest

from braidmq.broker import replaying
from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.bindingverbs import Target
from braidmq.storage.errors import Corrupt, DiskFull
from braidmq.storage.record import DEFINITION, MESSAGE
from tests.broker_disk import DiskBroker
from tests.broker_harness import START_MS, Harness
from tests.fanout_harness import bind, declare_stream, publish, queues, records
from tests.replay_harness import archived, numbered, replay, replays, run_replays

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def broker():
    return DiskBroker()


def running(broker: DiskBroker) -> None:
    """A replay that is in the middle."""
    archived(broker)
    publish(broker, "t", *numbered(100))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q", rate=100)
    broker.advance(100)
    assert 0 < replays(broker)[0].replayed < 50


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda core: core.unbind(SYSTEM, "t", Target("queue", "q")), "not bound any more"),
        (lambda core: core.delete_queue(SYSTEM, "q", False, 0), "not bound any more"),
        (lambda core: core.delete_stream(SYSTEM, "archive"), "was deleted"),
    ],
    ids=["unbound", "queue", "archive"],
)
def test_it_fails_when_what_it_needs_is_gone(broker, end, text):
    running(broker)
    end(broker.core)
    info = run_replays(broker)
    assert info.state == "failed" and text in info.error
    broker.settle()
    assert replays(broker.restarted()) == [info]


def test_an_archive_that_goes_while_it_is_read(broker):
    running(broker)
    task = broker.core.replays._running[replays(broker)[0].id]
    task._records = ()
    task.step(broker.clock.ms)
    assert task._read is not None
    broker.core.delete_stream(SYSTEM, "archive")
    assert run_replays(broker).state == "failed"


def test_rights_follow_it(broker):
    archived(broker)
    publish(broker, "t/1", b"1")
    publish(broker, "t/2", b"2")
    queues(broker, "q")
    may = [
        Rule("allow", ("topic:*", "queue:*", "stream:*"), ("#",)),
        Rule("deny", ("topic:Subscribe",), ("t/2",)),
    ]
    broker.core.access.replace([User("ann", HASH, tuple(may))])
    ann = broker.core.access.principal("ann")
    bind(broker, "t/+", "q", who=ann)
    replay(broker, "t/+", "q", who=ann)
    assert run_replays(broker).replayed == 1
    assert broker.bodies("q") == [b"1"]
    may.append(Rule("deny", ("stream:Read",), ("archive",)))
    replay(broker, "t/+", "q", who=ann)
    broker.core.access.replace([User("ann", HASH, tuple(may))])
    info = run_replays(broker)
    assert info.state == "failed" and "stream:Read" in info.error
    may[-1] = Rule("deny", ("queue:Send",), ("q",))
    broker.core.access.replace([User("ann", HASH, tuple(may[:-1]))])
    replay(broker, "t/+", "q", who=broker.core.access.principal("ann"))
    broker.core.access.replace([User("ann", HASH, tuple(may))])
    assert "queue:Send" in run_replays(broker).error


@pytest.mark.parametrize("start_ms", [0, START_MS + 500])
def test_an_archive_that_cannot_be_read_makes_it_fail(broker, start_ms, monkeypatch):
    archived(broker)
    for _ in range(3):
        publish(broker, "t", *(bytes(1_000) for _ in range(20)))
        broker.advance(1_000)
    broker.rehome()
    queues(broker, "q")
    bind(broker, "t", "q")
    broker.settle()

    def broken(*arguments: Any) -> None:
        callback, argument = arguments[-2:]
        broker.clock.soon(lambda: callback(argument, None, Corrupt(0, "broken")))

    monkeypatch.setattr(broker.log.cold, "read", broken)
    monkeypatch.setattr(broker.log.cold, "seek", broken)
    replay(broker, "t", "q", start_ms=start_ms)
    info = run_replays(broker)
    assert info.state == "failed" and "broken" in info.error
    assert replays(broker.restarted()) == [info]


def test_a_cancelled_one_stops(broker):
    running(broker)
    (info,) = replays(broker)
    info = broker.core.cancel_replay(SYSTEM, info.id)
    broker.advance(5_000)
    assert info.state == "cancelled"
    assert len(broker.bodies("q")) == info.replayed < 100
    assert broker.core.cancel_replay(SYSTEM, info.id) == info  # once more changes nothing
    assert replays(broker.restarted()) == [info]


def test_one_that_is_cancelled_while_it_reads(broker):
    running(broker)
    id = replays(broker)[0].id
    task = broker.core.replays._running[id]
    task._records = ()
    task.step(broker.clock.ms)
    assert task._read is not None
    broker.core.cancel_replay(SYSTEM, id)
    broker.advance(1_000)
    assert replays(broker)[0].state == "cancelled"


def test_one_that_is_cancelled_while_it_looks_for_its_start(broker, monkeypatch):
    archived(broker)
    for _ in range(3):
        publish(broker, "t", *(bytes(1_000) for _ in range(20)))
        broker.advance(1_000)
    broker.rehome()
    queues(broker, "q")
    bind(broker, "t", "q")
    broker.settle()
    asked: list[Any] = []
    monkeypatch.setattr(broker.log.cold, "seek", lambda *arguments: asked.append(arguments))
    id = replay(broker, "t", "q", start_ms=START_MS + 500).id
    broker.advance(100)
    ((_, _, callback, argument),) = asked
    broker.core.cancel_replay(SYSTEM, id)
    callback(argument, 25, None)
    broker.advance(100)
    assert (replays(broker)[0].state, broker.bodies("q")) == ("cancelled", [])


# --- a restart ---


@pytest.mark.parametrize("checkpoints", [False, True])
def test_it_goes_on_after_a_restart_where_it_was(broker, checkpoints):
    archived(broker, shards=3)
    for number in range(600):
        publish(broker, f"t/{number % 20}", b"%d" % number)
    queues(broker, "q")
    declare_stream(broker, "s")
    bind(broker, "#", "q")
    bind(broker, "#", "s", "stream")
    replay(broker, "#", "q", rate=1_000)
    replay(broker, "#", "s", "stream", rate=1_000)
    for _ in range(5):
        broker.advance(80)
        if checkpoints:
            broker.checkpoint()
        before = [each.replayed for each in replays(broker)]
        broker = broker.restarted()
        assert [each.replayed for each in replays(broker)] == before
        assert all(0 < each < 600 for each in before)
    run_replays(broker)
    bodies = broker.bodies("q")
    assert sorted(bodies, key=int) == numbered(600)
    assert sorted(records(broker, "s")[0], key=int) == numbered(600)
    assert {each.examined for each in replays(broker)} == {600}


def test_messages_and_how_far_it_is_are_one_frame(broker):
    running(broker)
    together: list[list[int]] = []
    append = broker.log.append_together

    def noting(parts, references):
        together.append([part[8] for part in parts])
        return append(parts, references)

    broker.log.append_together = noting
    broker.advance(100)
    assert together
    assert all(kinds == [MESSAGE] * (len(kinds) - 1) + [DEFINITION] for kinds in together)


def test_records_that_are_for_nobody_are_not_looked_at_again_and_again(broker, monkeypatch):
    monkeypatch.setattr(replaying, "_NOTED_RECORDS", 400)
    archived(broker)
    publish(broker, "other", *numbered(900))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    for _ in range(1_000):
        broker.advance(1)
        if replays(broker)[0].examined >= 800:
            break
    assert replays(broker)[0].state == "running"
    assert 400 <= replays(broker.restarted())[0].examined <= 800


def test_a_broker_that_failed_replays_no_more():
    broker = Harness()
    archived(broker)
    publish(broker, "t", *numbered(10))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q", rate=10)
    broker.core.fail(DiskFull("broken"))
    broker.advance(5_000)
    assert replays(broker)[0].replayed == 0

"""How many replays there are, and that each has its turn."""

import pytest

from braidmq.broker import replays as module
from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import LimitExceeded
from braidmq.broker.limits import Limits
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.fanout_harness import bind, publish, queues
from tests.replay_harness import archived, replay, replays, run_replays


def prepared(broker: Harness, count: int) -> list[str]:
    archived(broker)
    publish(broker, "t", *(b"%d" % number for number in range(300)))
    names = [f"q{number}" for number in range(count)]
    queues(broker, *names)
    for name in names:
        bind(broker, "t", name)
    return names


def test_as_many_run_as_may():
    broker = Harness(limits=Limits(replay_tasks_max=2))
    names = prepared(broker, 3)
    replay(broker, "t", names[0])
    replay(broker, "t", names[1])
    with pytest.raises(LimitExceeded, match="2 replays are running"):
        replay(broker, "t", names[2])
    run_replays(broker)
    replay(broker, "t", names[2])
    run_replays(broker)
    assert [len(broker.bodies(name)) for name in names] == [300] * 3


def test_a_slow_one_holds_no_other_up():
    broker = Harness()
    slow, fast = prepared(broker, 2)
    replay(broker, "t", slow, rate=1)
    replay(broker, "t", fast)
    broker.advance(500)
    assert [each.state for each in replays(broker)] == ["running", "done"]
    assert len(broker.bodies(slow)) == 1


def test_of_those_that_ended_the_newest_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "_ENDED_MAX", 2)
    broker = DiskBroker()
    (name, running) = prepared(broker, 2)
    replay(broker, "t", running, rate=0.01)
    ids = []
    for _ in range(4):
        ids.append(replay(broker, "t", name).id)
        broker.advance(1_000)
    found = [each.id for each in replays(broker) if each.state == "done"]
    assert found == ids[-2:]
    broker.checkpoint()
    again = broker.restarted()
    assert replays(again) == replays(broker) and len(replays(again)) == 3
    again.advance(200_000)
    assert len(again.bodies(running)) > len(broker.bodies(running))


def test_one_that_is_the_first_thing_asked_of_a_broker_begins():
    broker = DiskBroker()
    (name,) = prepared(broker, 1)
    broker.checkpoint()
    again = broker.restarted()
    assert again.core.now_ms == 0, "it has not had a turn yet"
    replay(again, "t", name)
    run_replays(again)
    assert [each.state for each in replays(again)] == ["done"]


def test_the_clock_is_left_alone_when_nothing_runs():
    broker = Harness()
    (name,) = prepared(broker, 1)
    replay(broker, "t", name)
    run_replays(broker)
    assert broker.core.replays.alarm_ms == 0
    broker.core.cancel_replay(SYSTEM, replays(broker)[0].id)
    assert replays(broker)[0].state == "done"

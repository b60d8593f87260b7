"""Scheduled messages: sent in their time, once each, whatever happens to the process."""

import random

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import LimitExceeded, Overloaded, StorageFull
from braidmq.broker.limits import DELAY_MS_MAX, Limits
from braidmq.broker.schedule import Timing
from braidmq.broker.schedulequeue import SCHEDULES_NAME
from braidmq.broker.scheduleverbs import Scheduled
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import START_MS, Harness
from tests.schedule_harness import listed, schedule, unschedule
from tests.topic_client import Client

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
HOUR = 3_600_000


@pytest.fixture
def broker():
    broker = DiskBroker()
    broker.declare()
    return broker


def waiting(broker: Harness) -> int:
    return broker.core.shares[SCHEDULES_NAME].live


def test_a_message_is_sent_in_its_time_and_not_before(broker):
    schedule(broker, Timing(5_000), b"late")
    schedule(broker, Timing(1_000), b"early", ttl_ms=60_000, priority=9)
    broker.advance(999)
    assert broker.bodies() == []
    broker.advance(1)
    assert broker.bodies() == [b"early"]
    (delivery,) = broker.receive(10)
    assert delivery.time_ms == START_MS + 1_000
    assert delivery.expire_ms == START_MS + 61_000  # it lives from when it is sent
    broker.ack(delivery)
    broker.advance(4_000)
    assert broker.drain() == [b"late"] and waiting(broker) == 0
    assert broker.log.statistics().bytes_live_estimate == 0


def test_what_is_sent_is_kept_though_nobody_waits_for_it(broker):
    schedule(broker, Timing(1_000))
    broker.auto_commit = False
    broker.advance(1_000)
    assert [delivery.body for delivery in broker.receive()] == [b"x"]


def test_it_is_sent_as_often_as_it_should_be(broker):
    schedule(broker, Timing(1_000, 500, 3))
    seen = []
    for _ in range(6):
        broker.advance(500)
        seen.append(len(broker.bodies()))
    assert seen == [0, 1, 2, 3, 4, 4] and waiting(broker) == 0


def test_a_short_period_loses_nothing_when_the_broker_is_in_time(broker):
    schedule(broker, Timing(0, 10, 99))
    broker.advance(1_000)
    assert len(broker.bodies()) == 100 and waiting(broker) == 0


def test_cron(broker):
    schedule(broker, Timing(1_000, 1_000, 9, "0 * * * *"))
    broker.advance(2 * HOUR)
    assert len(broker.bodies()) == 20 and waiting(broker) == 1
    times = [message.time_ms for message in broker.browse()]
    assert [time % HOUR for time in times] == [1_000 * n for n in range(1, 11)] * 2


def test_what_is_due_in_years_is_not_sent_in_a_year(broker):
    schedule(broker, Timing(cron="0 0 29 2 *"))  # START is in 2023
    (info,) = listed(broker)
    assert info.next_ms <= START_MS + DELAY_MS_MAX
    broker = broker.restarted()
    broker.advance(DELAY_MS_MAX)
    broker.drain()
    (info,) = listed(broker)
    assert info.fired == 1 and info.next_ms > broker.clock.ms + 3 * DELAY_MS_MAX
    schedule(broker, Timing(cron="0 0 29 2 *"))
    broker.advance(2 * DELAY_MS_MAX)
    assert broker.bodies() == [] and waiting(broker) == 2
    broker.advance(DELAY_MS_MAX + DELAY_MS_MAX)
    assert len(broker.bodies()) == 2


def test_it_goes_to_topics_streams_and_fifo_queues(broker):
    client = Client(broker, "c")
    client.connect()
    client.subscribe("t/#", 1)
    settings = StreamSettings(durability=Durability.SYNC)
    broker.core.declare_stream(SYSTEM, "s", settings, 1, broker.clock.ms)
    broker.declare("f", fifo=True)
    schedule(broker, Timing(0, 100, 1), b"1", kind="topic", name="t/1", retain=True)
    schedule(broker, Timing(0, 100, 1), b"2", kind="stream", name="s", key=b"k")
    schedule(broker, Timing(0, 100, 1), b"3", name="f", group="g")
    schedule(broker, Timing(0, 100, 1), b"4", name="f", group="g", dedup_id="once")
    broker.advance(200)
    assert client.bodies() == [b"1", b"1"] and client.retained("#") == {"t/1": b"1"}
    assert broker.core.stream_info(SYSTEM, "s").records == 2
    # A FIFO queue takes each of them, unless the program has said that they are the same.
    assert sorted(broker.bodies("f")) == [b"3", b"3", b"4"]
    assert waiting(broker) == 0


def test_it_says_what_sent_it(broker):
    info = schedule(broker, Timing(10), attributes=b"\x81\xa1a\xa1b")
    broker.advance(10)
    (message,) = broker.browse()
    assert message.attributes == b"\x82\xa1a\xa1b\xabschedule-id\xa11" and info.id == 1


def test_numbers_are_never_used_again(broker):
    assert [schedule(broker, Timing(10)).id for _ in range(3)] == [1, 2, 3]
    broker.advance(10)
    broker.checkpoint()
    broker = broker.restarted()
    assert schedule(broker, Timing(10)).id == 4


# Over the end of the process ------------------------------------------------------------------


def test_it_outlives_the_process_and_what_was_missed_comes_once(broker):
    schedule(broker, Timing(1_000, 1_000, -1), b"for ever")
    schedule(broker, Timing(1_000, 1_000, 4), b"five times")
    broker.advance(2_000)
    assert len(broker.drain()) == 4
    broker.checkpoint()
    broker = broker.restarted()
    assert broker.bodies() == []
    broker.clock.ms += 60_500  # nobody was there
    broker.advance(0)
    assert sorted(broker.drain()) == [b"five times", b"for ever"]
    broker.advance(499)
    assert broker.bodies() == []
    broker.advance(1)  # the grid is the same
    assert sorted(broker.drain()) == [b"five times", b"for ever"]
    broker = broker.restarted()
    broker.advance(3_000)
    assert sorted(broker.drain()) == [b"five times"] + [b"for ever"] * 3
    assert [info.fired for info in listed(broker)] == [7]


def test_a_clock_that_goes_back_sends_nothing_twice(broker):
    schedule(broker, Timing(0, 1_000, -1))
    schedule(broker, Timing(cron="* * * * *"))
    schedule(broker, Timing(1_000))
    broker.advance(60_000)
    assert len(broker.drain()) == 62
    broker = broker.restarted()
    broker.clock.ms -= 30_000
    broker.advance(30_000)
    assert broker.bodies() == []
    broker.advance(1_000)
    assert len(broker.bodies()) == 1


@pytest.mark.parametrize("seed", range(40))
def test_power_cuts_lose_nothing_and_repeat_nothing(seed):
    rng = random.Random(seed)
    broker = DiskBroker(segment_bytes=rng.choice([512, 4096]))
    broker.declare()
    counts = {}
    for number in range(rng.randrange(1, 6)):
        repeat = rng.randrange(6)
        body = b"%d" % number + b"." * rng.choice([0, 600])
        counts[body] = repeat + 1
        schedule(broker, Timing(rng.randrange(300), rng.randrange(1, 300), repeat), body)
    for _ in range(rng.randrange(1, 12)):
        broker.auto_commit = rng.random() < 0.3
        broker.advance(rng.randrange(400))
        if rng.random() < 0.3:
            broker.auto_commit = True
            broker.checkpoint()
            broker.compact()
        broker.auto_commit = False
        broker = broker.restarted(rng if rng.random() < 0.7 else None)
    broker.auto_commit = True
    broker.advance(10_000)
    assert waiting(broker) == 0
    found = broker.drain()
    assert {body: found.count(body) for body in counts} == counts


# What goes wrong ------------------------------------------------------------------------------


def test_what_finds_no_room_is_tried_again_soon():
    broker = DiskBroker()
    broker.declare(messages_max=1)
    schedule(broker, Timing(0, 1_000, 2))
    broker.advance(1_500)
    assert len(broker.bodies()) == 1
    broker.advance(600)
    (info,) = listed(broker)
    assert "queue q holds" in info.error
    assert info.fired == 1 and info.next_ms == START_MS + 3_000
    broker.drain()
    broker.advance(900)
    assert len(broker.drain()) == 1
    assert listed(broker)[0].error == ""
    broker.advance(5_000)
    assert len(broker.drain()) == 1 and waiting(broker) == 0


def test_what_is_not_allowed_any_more_waits_until_it_is(broker):
    rule = Rule("allow", ("queue:Send",), ("q",))
    broker.core.access.replace([User("a", HASH, (rule,))])
    who = broker.core.access.principal("a")
    schedule(broker, Timing(1_000), who=who)
    broker.core.access.replace([User("a", HASH, ())])
    broker.advance(30_000)
    (info,) = listed(broker)
    assert "may not queue:Send" in info.error and info.user == "a"
    assert info.next_ms == START_MS + 61_000
    broker.core.access.replace([])
    broker.advance(60_000)
    assert "no such user" in listed(broker)[0].error and broker.bodies() == []
    broker.core.access.replace([User("a", HASH, (rule,))])
    broker.advance(60_000)
    assert len(broker.bodies()) == 1 and waiting(broker) == 0


def test_a_queue_that_is_gone_is_waited_for(broker):
    schedule(broker, Timing(1_000, 1_000, -1))
    broker.delete()
    broker.advance(1_000)
    assert "no queue 'q'" in listed(broker)[0].error
    broker = broker.restarted()
    broker.advance(0)
    assert listed(broker)[0].error == "there is no queue 'q'"  # it was tried at once
    broker.declare()
    broker.advance(60_000)
    assert len(broker.drain()) == 1


def test_a_full_disk_refuses_new_ones_and_holds_up_the_others(broker):
    schedule(broker, Timing(1_000))
    admit = broker.log.admit

    def full():
        raise DiskFull("no room")

    broker.log.admit = full
    with pytest.raises(StorageFull):
        schedule(broker, Timing(1_000))
    before = broker.log.next_lsn
    broker.advance(10_000)
    assert broker.bodies() == [] and broker.log.next_lsn - before < 500  # nothing is written
    broker.log.admit = admit
    broker.advance(1_000)
    assert len(broker.bodies()) == 1


def test_there_are_only_so_many_and_so_large():
    broker = Harness(limits=Limits(schedules_max=2))
    broker.declare()
    schedule(broker, Timing(1_000))
    schedule(broker, Timing(1_000))
    with pytest.raises(LimitExceeded, match="2 messages are scheduled"):
        schedule(broker, Timing(1_000))
    unschedule(broker, 1)
    schedule(broker, Timing(1_000))
    broker = Harness(limits=Limits(schedules_bytes_max=1_000))
    broker.declare()
    schedule(broker, Timing(1_000), bytes(800))
    with pytest.raises(LimitExceeded, match="bytes of messages are scheduled"):
        schedule(broker, Timing(1_000), bytes(800))
    broker = Harness(limits=Limits(memory_bytes_max=1))
    broker.declare()
    schedule(broker, Timing(1_000), bytes(800))
    with pytest.raises(Overloaded):
        schedule(broker, Timing(1_000))


def test_thousands_are_due_at_once(broker):
    message = Scheduled(kind="queue", name="q", timing=Timing(1_000), body=b"x")
    for _ in range(3_000):
        broker.core.schedule(SYSTEM, message, broker.clock.ms)
    broker.settle()
    broker.advance(1_000)
    assert len(broker.bodies(state="ready")) == 1_000 and broker.info().ready == 3_000
    assert waiting(broker) == 0


def test_the_alarm_is_not_rung_for_those_that_were_removed(broker):
    info = schedule(broker, Timing(1_000))
    unschedule(broker, info.id)
    broker.advance(2_000)
    assert broker.bodies() == [] and waiting(broker) == 0
    assert broker.log.statistics().bytes_live_estimate == 0

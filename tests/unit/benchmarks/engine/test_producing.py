"""Producers in virtual time: what they send when, and what they know of it in the end."""

from typing import Any

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.producing import Producing, Quota, ranges
from braidmq.benchmarks.engine.tally import Tally
from braidmq.benchmarks.engine.task import Step, turn
from braidmq.benchmarks.engine.tracking import Sightings, Tracker, filling
from tests.unit.benchmarks.engine.load_support import (
    GO,
    FakeDriver,
    VirtualLoop,
    a_task,
)

_OPEN = (Step(1, 1),)


class Scene:
    """A producer, and all around it."""

    def __init__(self, messages: int = 0, **changes: Any) -> None:
        task = a_task(**changes)
        self.driver = FakeDriver()
        self.loop = VirtualLoop()
        self.quota = Quota(messages)
        self.tally: Tally = Tally(task, GO)
        self.ends = 0
        around = self.loop, self.tally, self._end
        contents = filling(4_000, 1)
        self.producer = Producing(task, 0, self.driver, *around, self.quota, contents)

    def _end(self) -> None:
        self.ends += 1

    @property
    def sent(self) -> list[bytes]:
        return [each for bodies, *_ in self.driver.client.published for each in bodies]

    def answer(self, *numbers: int, after_ns: int = 0) -> None:
        self.loop.time_ns += after_ns
        self.driver.client.confirmed += numbers
        self.producer.served(self.loop.time_ns)


def test_message_has_a_sound_stamp_with_the_time_when_it_was_due() -> None:
    scene = Scene(steps=_OPEN, sizes=(100, 250, 24), first_number=7)
    for place in range(6):
        scene.producer.due(GO + place, GO + 100)
    tracker = Tracker(sightings := Sightings())
    assert tracker.take(scene.sent) == [GO + place for place in range(6)]
    assert sightings.report()[7].below == 6
    sizes = (100, 250, 24)
    assert [len(each) for each in scene.sent] == [sizes[turn(7, n, 3)] for n in range(6)]


def test_latency_counts_from_when_a_message_was_due_and_when_it_was_sent() -> None:
    scene = Scene(steps=_OPEN)
    scene.loop.time_ns += 40
    scene.producer.due(GO, GO + 40)
    scene.answer(0, after_ns=100)
    assert scene.tally.timeline.window()[1].dump()[:2] == [140, 140]
    assert scene.tally.service.histogram.dump()[:2] == [100, 100]
    assert scene.tally.timeline.window()[0].confirmed == 1
    assert scene.tally.bytes_in == 200


def test_full_window_holds_back_what_is_due() -> None:
    scene = Scene(steps=_OPEN, inflight=2)
    for place in range(4):
        scene.producer.due(GO + place, GO + place)
    assert len(scene.sent) == 2
    assert not scene.producer.is_settled
    scene.answer(1, after_ns=1_000)
    assert len(scene.sent) == 3
    scene.answer(0, 2, after_ns=1_000)
    assert len(scene.sent) == 4
    scene.answer(3, after_ns=1_000)
    assert scene.producer.is_settled
    # Waiting for the broker is the broker's: the last one was due at 3 and confirmed at 3,000.
    assert scene.tally.timeline.window()[1].largest == 3_000 - 3


def test_closed_loop_keeps_its_window_full() -> None:
    scene = Scene(window=3)
    scene.producer.fill(GO)
    assert len(scene.sent) == 3
    scene.answer(0, 1)
    assert len(scene.sent) == 5
    scene.quota.is_over = True
    scene.answer(2, 3)
    assert len(scene.sent) == 5


@pytest.mark.parametrize("confirmed", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_batch_is_one_request_and_each_message_counts(confirmed: list[int]) -> None:
    scene = Scene(window=4, batch=2)
    scene.producer.fill(GO)
    assert [len(bodies) for bodies, *_ in scene.driver.client.published] == [2, 2]
    scene.quota.is_over = True
    scene.answer(*confirmed, after_ns=50)
    assert len(scene.tally.timeline.window()[1]) == 4
    assert scene.producer.is_settled


def test_messages_end_with_the_quota() -> None:
    scene = Scene(messages=5, window=4, batch=2)
    scene.producer.fill(GO)
    scene.answer(0, 1, 2, 3)
    assert [len(bodies) for bodies, *_ in scene.driver.client.published] == [2, 2, 1]
    assert scene.quota.is_over


def test_keys_destinations_and_delays_are_passed_on() -> None:
    wiring = Wiring(url="fake://x:1", names=("a", "b"))
    keys = ("x", "y", "z")
    scene = Scene(wirings=(wiring,), window=4, batch=2, keys=keys, delay_ms=30)
    scene.producer.fill(GO)
    (_, first, some, delay), (_, second, more, _) = scene.driver.client.published
    assert (first, second, delay) == (0, 1, 30)
    assert some + more == [keys[turn(0, sequence, 3)] for sequence in range(4)]


def test_what_is_refused_or_never_answered_is_unsure() -> None:
    scene = Scene(window=5)
    scene.producer.fill(GO)
    scene.quota.is_over = True
    scene.answer(0, 3)
    scene.driver.client.refused.append(1)
    scene.producer.served(GO)
    account = scene.producer.finish(GO + 900)
    assert (account.sent, account.confirmed) == (5, 2)
    assert account.unsure == [(1, 2), (4, 4)]
    assert scene.tally.refused == 1
    assert scene.tally.problems == ["the broker refused messages"]
    assert scene.tally.timeline.window()[1].largest == 900  # late so far


def test_confirmation_of_nothing_is_a_problem() -> None:
    scene = Scene(window=1)
    scene.producer.fill(GO)
    scene.quota.is_over = True
    scene.answer(5, 0, 0)
    assert scene.tally.problems == ["the broker confirmed a message that was not sent"]
    assert scene.tally.confirmed == scene.tally.timeline.window()[0].confirmed == 1


def test_written_is_all_that_is_known_without_confirmations() -> None:
    scene = Scene(window=2)
    scene.driver.client.confirms = False
    scene.producer.fill(GO)
    scene.producer.written(GO + 5)
    assert len(scene.sent) == 4
    assert scene.tally.confirmed == 2


def test_broken_connection_ends_a_producer() -> None:
    scene = Scene(window=2)
    scene.producer.fill(GO)
    scene.producer.broken("gone", GO + 5)
    assert not scene.producer.is_alive
    assert scene.ends == 1
    assert scene.tally.problems == ["a producer was disconnected: gone"]
    assert scene.producer.is_settled
    scene.producer.due(GO + 6, GO + 6)
    assert scene.producer.is_settled
    assert scene.producer.finish(GO + 7).unsure == [(0, 1)]


def test_nothing_is_sent_before_it_begins() -> None:
    scene = Scene(window=2)
    scene.producer.served(GO)  # a broker may ask whether anybody is there
    assert scene.sent == []
    scene.producer.broken("gone", GO)
    scene.tally.go(GO + 5)
    assert scene.tally.problems == ["a producer was disconnected: gone"]
    assert scene.ends == 1


def test_producer_comes_back_and_goes_on() -> None:
    scene = Scene(window=2, reconnects=True)
    scene.producer.fill(GO)
    scene.answer(0)
    scene.driver.failures = 3
    scene.producer.broken("killed", scene.loop.time_ns)
    assert scene.producer.is_alive
    assert scene.tally.clients == 0
    scene.loop.pass_time(2_000_000_000)
    assert len(scene.driver.clients) == 2
    assert (scene.tally.clients, scene.tally.reconnects) == (1, 1)
    tracker = Tracker(sightings := Sightings())
    tracker.take(scene.sent)  # of the new connection: its numbers begin again, sequences go on
    assert sorted(sightings.of) == [0]
    assert len(scene.sent) == 2
    scene.quota.is_over = True
    scene.answer(0, 1)
    account = scene.producer.finish(scene.loop.time_ns)
    assert (account.sent, account.confirmed, account.unsure) == (5, 3, [(1, 2)])


def test_ranges() -> None:
    assert ranges([5, 1, 2, 3, 9, 8]) == [(1, 3), (5, 5), (8, 9)]
    assert ranges([]) == []

"""Consumers in virtual time: what they acknowledge when, and what they count."""

from typing import Any

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.consuming import Consuming
from braidmq.benchmarks.engine.tally import Tally
from tests.unit.benchmarks.engine.load_support import (
    GO,
    SECOND,
    FakeDriver,
    VirtualLoop,
    a_task,
    body,
)

MS = 1_000_000


class Scene:
    """A consumer, and all around it."""

    def __init__(self, wiring: Wiring | None = None, **changes: Any) -> None:
        self.task = a_task(role="consumers", **changes)
        self.driver = FakeDriver()
        self.loop = VirtualLoop()
        self.tally = Tally(self.task, GO)
        self.ends = 0
        wiring = wiring or self.task.wirings[0]
        around = self.loop, self.tally, self._end
        self.consumer = Consuming(self.task, wiring, 3, self.driver, *around)
        self.consumer.begin()

    def _end(self) -> None:
        self.ends += 1

    def get(self, *bodies: bytes) -> None:
        client = self.driver.client
        client.bodies += bodies
        client.receipts += [f"receipt of {bodies.index(each)}" for each in bodies]
        self.consumer.served(self.loop.time_ns)
        assert client.bodies == client.receipts == []

    @property
    def acknowledged(self) -> list[list[Any]]:
        return self.driver.client.acknowledged


def test_delivery_counts_from_when_a_message_was_due() -> None:
    scene = Scene()
    scene.loop.time_ns = GO + 70
    scene.get(body(0, due_ns=GO), body(1, due_ns=GO + 20))
    counts, latencies = scene.tally.timeline.window()
    assert counts.received == 2
    assert (latencies.smallest, latencies.largest) == (50, 70)
    assert scene.tally.bytes_out == 200
    assert scene.tally.sightings[3].distinct == 2
    assert scene.acknowledged == [["receipt of 0", "receipt of 1"]]


def test_batch_over_two_seconds_is_filed_under_both() -> None:
    scene = Scene()
    scene.loop.time_ns = GO + 2 * SECOND - 1
    scene.get(body(0, due_ns=GO), body(1, due_ns=GO + SECOND))
    assert [len(each.latency) > 0 for each in scene.tally.timeline.series()] == [True, True]


def test_duplicates_have_no_latency_but_are_acknowledged() -> None:
    scene = Scene()
    scene.get(body(0), body(0))
    assert len(scene.tally.timeline.window()[1]) == 1
    assert scene.tally.sightings[3].duplicate == 1
    assert len(scene.acknowledged[0]) == 2


def test_work_is_done_one_after_the_other() -> None:
    scene = Scene(work_ms=5)
    scene.get(body(0), body(1))
    scene.loop.pass_time(5 * MS - 1)
    assert scene.acknowledged == []
    scene.loop.pass_time(1)
    assert scene.acknowledged == [["receipt of 0"]]
    scene.get(body(2))
    scene.loop.pass_time(5 * MS)
    assert len(scene.acknowledged) == 2
    scene.loop.pass_time(5 * MS)
    assert len(scene.acknowledged) == 3
    scene.get(body(3))
    scene.loop.pass_time(5 * MS)
    assert len(scene.acknowledged) == 4


def test_acknowledgements_go_in_batches_and_the_rest_after_a_moment() -> None:
    scene = Scene(ack_batch=2)
    scene.get(body(0), body(1), body(2))
    assert [len(each) for each in scene.acknowledged] == [2]
    scene.get(body(3))
    assert [len(each) for each in scene.acknowledged] == [2, 2]
    scene.get(body(4))
    scene.loop.pass_time(10 * MS)
    assert [len(each) for each in scene.acknowledged] == [2, 2, 1]


def test_poisoned_messages_are_rejected_whenever_they_come() -> None:
    scene = Scene(reject_percent=50)
    for _ in range(2):
        scene.get(*(body(sequence) for sequence in range(10)))
    rejected = len(scene.driver.client.rejected)
    assert 0 < rejected < 20
    assert scene.tally.rejected == rejected
    assert scene.tally.sightings[3].distinct == 10 - rejected // 2
    assert scene.tally.sightings[3].duplicate == 10 - rejected // 2


def test_delay_is_how_much_later_than_due() -> None:
    scene = Scene(delay_ms=10)
    scene.loop.time_ns = GO + 10 * MS + 4
    scene.get(body(0, due_ns=GO))
    assert scene.tally.main == "delay"
    assert scene.tally.timeline.window()[1].largest == 4
    assert scene.tally.early == 0
    scene.get(body(1, due_ns=GO + MS + 4))
    assert scene.tally.early == 0
    scene.get(body(2, due_ns=GO + MS + 5))
    assert scene.tally.early == 1


def test_slow_consumer_stops_reading_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[int] = []
    monkeypatch.setattr(VirtualLoop, "watch", lambda self, number, events: watched.append(events))
    scene = Scene(stop_after_seconds=1, stop_seconds=2)
    assert watched == [0], "nothing is read before it begins"
    scene.loop.pass_time(SECOND - 1)
    assert watched == [0, 1]
    scene.loop.pass_time(1)
    assert watched == [0, 1, 0]
    scene.loop.pass_time(2 * SECOND)
    assert watched == [0, 1, 0, 1]


def test_broken_connection_ends_a_consumer() -> None:
    scene = Scene(work_ms=5)
    scene.get(body(0))
    scene.consumer.broken("gone", GO)
    scene.loop.pass_time(SECOND)
    assert scene.acknowledged == []
    assert scene.ends == 1
    assert not scene.consumer.is_alive
    assert scene.tally.problems == ["a consumer was disconnected: gone"]


def test_consumer_comes_back_and_what_it_held_with_it() -> None:
    scene = Scene(work_ms=5, reconnects=True)
    scene.get(body(0))
    scene.driver.failures = 2
    scene.consumer.broken("killed", GO)
    scene.loop.pass_time(SECOND)
    assert scene.tally.reconnects == scene.tally.clients == 1
    assert scene.ends == 0
    scene.get(body(0), body(1))
    scene.loop.pass_time(10 * MS)
    assert len(scene.acknowledged) == 2
    assert scene.tally.sightings[3].distinct == 2


def test_consumer_may_connect_when_the_clock_runs() -> None:
    scene = Scene(connects_at_go=True)
    assert scene.driver.clients == []
    scene.loop.pass_time(0)
    assert scene.tally.clients == 1
    scene.get(body(0))
    assert scene.tally.sightings[3].distinct == 1


def test_consumer_that_cannot_connect_then_is_a_problem() -> None:
    scene = Scene(connects_at_go=True)
    scene.driver.failures = 1
    scene.loop.pass_time(0)
    assert scene.tally.problems == ["a consumer could not connect: nobody is there"]
    assert scene.ends == 1


@pytest.mark.parametrize(("group", "from_start"), [("", True), ("g", False)])
def test_reader_of_a_stream_passes_nothing_over(group: str, from_start: bool) -> None:
    wiring = Wiring(url="fake://x:1", kind="stream", group=group)
    scene = Scene(wiring, reconnects=True)
    scene.consumer.broken("killed", GO)
    scene.loop.pass_time(SECOND)
    assert [each.from_start for each in scene.driver.wirings] == [False, from_start]

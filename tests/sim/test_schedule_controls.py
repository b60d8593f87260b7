"""Negative controls of schedules: a broker with a bug put in is caught, and for that bug."""

from contextlib import nullcontext

import pytest

from braidmq.broker.schedule import Timing
from braidmq.broker.schedulequeue import ScheduleQueue
from braidmq.broker.schedules import Schedules
from braidmq.storage import FileLog
from tests.sim.schedule_world import ScheduleWorld
from tests.sim.worlds import Patch, check_caught


def what_was_sent_is_noted_in_another_frame(patch: pytest.MonkeyPatch) -> None:
    fire = Schedules._fire

    def firing(self, *arguments):
        fire(self, *arguments)
        self._core.log._commit._cut()

    patch.setattr(Schedules, "_fire", firing)
    patch.setattr(FileLog, "in_one_frame", lambda self, size: nullcontext())


def what_was_sent_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    def going_on(self, receipt, fired, due_ms):
        self.note_receives(receipt[0], fired)
        self.wait(receipt, due_ms)

    patch.setattr(ScheduleQueue, "go_on", going_on)


def handing_out_is_counted(patch: pytest.MonkeyPatch) -> None:
    wait = ScheduleQueue.wait

    def waiting(self, receipt, due_ms):
        self.note_receives(receipt[0], self.leases.by_seq[receipt[0]].receives)
        wait(self, receipt, due_ms)

    patch.setattr(ScheduleQueue, "wait", waiting)


def it_is_sent_at_once(patch: pytest.MonkeyPatch) -> None:
    add = Schedules.add
    patch.setattr(
        Schedules,
        "add",
        lambda self, body, attributes, due_ms, now_ms: add(self, body, attributes, 0, now_ms),
    )
    first = Timing.first_ms
    patch.setattr(Timing, "next_ms", lambda self, created, fired, now: first(self, now))
    patch.setattr(Schedules, "_send_one", _sent_whenever)


def _sent_whenever(self, queue, delivery):
    from braidmq.broker.schedulequeue import plan_of

    plan, attributes = plan_of(delivery.attributes)
    self._fire(plan, delivery.seq, 0, delivery.body, attributes, self._core.now_ms)
    queue.ack([delivery.receipt])


def removals_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Schedules, "remove", lambda self, id: None)


CONTROLS: dict[Patch, str] = {
    what_was_sent_is_noted_in_another_frame: "often",
    what_was_sent_is_not_noted: "often",
    handing_out_is_counted: "lost",
    it_is_sent_at_once: "early",
    removals_are_forgotten: "removed",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(ScheduleWorld, CONTROLS[plant])

"""The audit of schedules: it notices each broken promise, and nothing else."""

import pytest

from .audit import FAIL, INFO, OK
from .schedule_audit import Listed, Planned, ScheduleJournal, Timing
from .stomp_wire import Frame

NOW_MS = 1_000_000
ONCE, FOUR_TIMES = Timing(delay_ms=10), Timing(delay_ms=10, period_ms=20, repeat=3)
FOR_EVER, CRON = Timing(period_ms=20, repeat=-1), Timing(cron="* * * * *")


class Story:
    """Tells a journal what happened, a step a call."""

    def __init__(self) -> None:
        self.journal = ScheduleJournal()
        self.journal.run = 1
        self.count = 0

    def plan(self, timing: Timing, outcome: str = OK) -> Planned:
        self.count += 1
        planned = self.journal.plan(Planned("queue", "p", self.count, timing))
        self.journal.made(planned, outcome)
        if outcome == OK:
            self.journal.identified(planned, self.count, NOW_MS)
        return planned

    def come(self, planned: Planned, after_ms: int, **but: str) -> None:
        told = {
            "message-id": f"ID:{planned.number}-{after_ms}",
            "timestamp": str(NOW_MS + after_ms),
            "scheduledJobId": str(planned.number),
        }
        self.journal.delivered("queue", Frame("MESSAGE", told | but, planned.body))

    def come_all(self, planned: Planned, *after_ms: int) -> None:
        for each in after_ms:
            self.come(planned, each)

    def remove(self, planned: Planned, outcome: str, after_ms: int) -> None:
        self.journal.remove(planned)
        self.journal.removed(planned, outcome, NOW_MS + after_ms)

    def listed(self, planned: Planned, fired: int, next_after_ms: int) -> None:
        told = self.journal.listed(
            (planned.planner, planned.number),
            planned.number,
            NOW_MS,
            fired,
            NOW_MS + next_after_ms,
        )
        self.journal.claimed([told] if isinstance(told, Listed) else [])

    def found(self) -> set[str]:
        self.journal.emptied()
        return set(self.journal.found())


def test_a_clean_history_is_clean():
    story = Story()
    once, four, removed, unknown, never, cron = (
        story.plan(timing, outcome)
        for timing, outcome in (
            (ONCE, OK),
            (FOUR_TIMES, OK),
            (FOR_EVER, OK),
            (FOUR_TIMES, INFO),
            (FOUR_TIMES, INFO),
            (CRON, OK),
        )
    )
    story.plan(ONCE, FAIL)
    story.come_all(once, 10)
    story.come_all(four, 11, 33, 200)  # no broker ran for a while
    story.listed(four, 3, 210)
    story.come_all(four, 200, 211)  # one of them again
    story.come_all(removed, 20, 45)
    story.remove(removed, OK, 50)
    story.come_all(unknown, 10, 30, 50, 70)
    story.come_all(cron, 0, 1_400, 1_500)
    story.listed(cron, 3, 2_000)
    assert not story.found()
    assert story.journal.counts["redelivered"] == 1
    assert never.outcome == INFO


@pytest.mark.parametrize("outcome", [OK, INFO])
def test_lost_when_a_time_does_not_come(outcome):
    story = Story()
    story.come_all(story.plan(FOUR_TIMES, outcome), 10, 30, 50)
    assert story.found() == {"lost"}


def test_lost_when_it_is_not_there_any_more():
    story = Story()
    story.plan(FOR_EVER)
    story.journal.unlisted(set())
    assert story.found() == {"lost"}
    story = Story()
    story.remove(story.plan(FOR_EVER), FAIL, 10)
    assert story.found() == {"lost"}
    story = Story()
    story.plan(FOR_EVER, INFO)
    story.journal.unlisted(set())
    assert not story.found()


def test_lost_when_more_was_counted_than_came():
    story = Story()
    planned = story.plan(FOR_EVER)
    story.come_all(planned, 20, 60)
    story.listed(planned, 3, 80)
    assert story.found() == {"lost"}


def test_lost_when_a_removal_is_lost_and_then_the_rest():
    story = Story()
    planned = story.plan(FOUR_TIMES)
    story.remove(planned, INFO, 5)
    story.journal.unlisted({planned.id})
    story.come_all(planned, 10)
    assert story.found() == {"lost"}


def test_lost_when_it_is_said_that_all_came():
    story = Story()
    story.come_all(story.plan(FOUR_TIMES), 10, 30, 50)
    story.journal.ending()
    assert story.found() == {"lost"}
    assert story.journal.counts["lost"] == 1
    story = Story()
    story.plan(FOR_EVER)
    story.journal.ending()  # and then the broker dies
    story.journal.unlisted(set())
    assert not story.found()


def test_doubled():
    story = Story()
    story.come_all(story.plan(ONCE), 10, 11)
    assert story.found() == {"doubled"}
    for timing in (FOR_EVER, CRON):
        story = Story()
        story.come_all(story.plan(timing), 20, 21)
        assert story.found() == {"doubled"}
    story = Story()
    planned = story.plan(FOR_EVER)
    story.come_all(planned, 20, 45)
    story.listed(planned, 1, 60)
    assert story.found() == {"doubled"}


def test_early():
    story = Story()
    story.come(story.plan(ONCE), 9)
    assert story.found() == {"early"}


def test_removed():
    story = Story()
    planned = story.plan(FOR_EVER)
    story.remove(planned, OK, 30)
    story.come(planned, 40)
    assert story.found() == {"removed"}
    story = Story()
    planned = story.plan(FOR_EVER)
    story.remove(planned, OK, 30)
    story.listed(planned, 0, 40)
    assert story.found() == {"removed"}


def test_phantoms():
    story = Story()
    story.come(story.plan(ONCE, FAIL), 10)
    story.come(Planned("queue", "nobody", 1, ONCE), 10)
    story.listed(Planned("queue", "nobody", 2, ONCE), 0, 10)
    assert story.found() == {"phantom"}
    assert story.journal.counts["phantom"] == 3


def test_corrupt():
    story = Story()
    story.come(story.plan(ONCE), 10, scheduledJobId="77")
    assert story.found() == {"corrupt"}
    story = Story()
    planned = story.plan(ONCE)
    story.journal.delivered("queue", Frame("MESSAGE", {}, planned.body[:-1]))
    story.come(planned, 10)
    assert story.found() == {"corrupt"}


def test_cut():
    story = Story()
    story.journal.ended(None)
    story.journal.ended(Frame("ERROR", {"message": "it is shutting down"}, b""))
    assert not story.found()
    story.journal.ended(Frame("ERROR", {"message": "why not"}, b""))
    assert story.found() == {"cut"}

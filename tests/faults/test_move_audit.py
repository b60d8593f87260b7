"""Transactions of the native protocol are there as a whole, or not at all, whatever dies."""

import pytest

from .daemon import Daemon
from .journal import body_of
from .move_campaign import MoveCampaign, MoveJournal


@pytest.mark.slow
async def test_kill_9_while_messages_are_moved(tmp_path, request):
    campaign = MoveCampaign(tmp_path / "data", tmp_path, 1)

    async def kill(daemon: Daemon) -> None:
        await campaign.busy(daemon)
        await daemon.kill()

    for _ in range(6):  # `make faults` tries all faults, more often: see dialects.py
        await campaign.cycle(kill)
    await campaign.finish()
    assert campaign.journal.counts["acked"] and campaign.journal.counts["refused"]
    campaign.verdict(request)


# The audit itself ---------------------------------------------------------------------------------


def found(queues: dict[str, list[int]], **sets: set[int]) -> dict[str, int]:
    """The promises that are broken if these numbers are there."""
    journal = MoveJournal()
    journal.asked = {1, 2}
    for name, numbers in sets.items():
        setattr(journal, name, numbers)
    everywhere: dict[str, list[int]] = {"in": [], "out": [], "copy": [], "later": []}
    bodies = {
        queue: [body_of("mover", number, 8) for number in numbers]
        for queue, numbers in (everywhere | queues).items()
    }
    journal.audit(bodies)
    return journal.found()


MOVED = {"out": [1], "copy": [1], "later": [1]}


@pytest.mark.parametrize(
    ("queues", "sets", "broken"),
    [
        ({}, {}, {}),
        ({"in": [1, 2]}, {"taken": {1, 2}}, {}),
        ({"in": [2]} | MOVED, {"taken": {1}, "may_be_moved": {1}, "moved": {1}}, {}),
        (MOVED, {"may_be_moved": {1}}, {}),
        ({"in": [1]}, {"may_be_moved": {1}}, {}),
        ({"in": [1]}, {"taken": {1, 2}}, {"lost": 1}),
        ({"in": [1]}, {"may_be_moved": {1}, "moved": {1}}, {"lost": 1}),
        ({"in": [1, 1]}, {}, {"doubled": 1}),
        ({"in": [1]} | MOVED, {"may_be_moved": {1}}, {"doubled": 1}),
        ({queue: [1, 1] for queue in MOVED}, {"may_be_moved": {1}}, {"doubled": 1}),
        (MOVED | {"copy": []}, {"may_be_moved": {1}}, {"torn": 1}),
        (MOVED | {"later": [1, 1]}, {"may_be_moved": {1}}, {"torn": 1}),
        ({"in": [3]}, {}, {"phantom": 1}),
        (MOVED, {}, {"phantom": 1}),
    ],
)
def test_the_audit_sees_what_is_wrong(queues, sets, broken):
    assert found(queues, **sets) == broken


def test_the_audit_sees_a_body_that_nobody_sent():
    journal = MoveJournal()
    journal.audit({"in": [b"?"], "out": [], "copy": [], "later": []})
    assert journal.found() == {"phantom": 1}

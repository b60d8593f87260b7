"""Negative controls of fan-out: a broker with a bug put in must be caught, and for that bug."""

from collections.abc import Sequence

import pytest

from braidmq.broker import fanout
from braidmq.broker.bindings import Bindings
from braidmq.broker.fifo import FifoQueue
from braidmq.broker.index import LSN_MASK
from braidmq.broker.queue import Queue
from braidmq.storage import FileLog
from tests.sim.fanout_world import FanoutWorld
from tests.sim.worlds import Patch, check_caught


def letters_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """A frame for each letter of a message."""

    def append(log: FileLog, records: Sequence[bytes], references: Sequence[int]) -> list[int]:
        lsns = []
        for record, count in zip(records, references, strict=True):
            lsns.append(log.append((record,), count))
            log._commit._cut()
        return lsns

    patch.setattr(FileLog, "append_together", append)


def bindings_not_in_checkpoints(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Bindings, "snapshot", lambda self: iter(()))


def what_was_sent_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A restart makes a FIFO queue take a message twice."""
    patch.setattr(FifoQueue, "remember", lambda self, hashed, time_ms, lsn, seq: None)


def one_target_less(patch: pytest.MonkeyPatch) -> None:
    original = fanout._unseen
    calls = [0]

    def unseen(bindings, seen):
        calls[0] += 1
        found = original(bindings, seen)
        return found[:-1] if calls[0] % 10 == 0 else found

    patch.setattr(fanout, "_unseen", unseen)


def deliver_before_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Queue, "frontier", lambda self: LSN_MASK)


CONTROLS: dict[Patch, str] = {
    letters_one_by_one: "torn|duplicate|lost",
    bindings_not_in_checkpoints: "lost|torn",
    what_was_sent_is_forgotten: "duplicate",
    one_target_less: "lost|torn",
    deliver_before_sync: "duplicate|phantom|misordered|lost|torn",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(FanoutWorld, CONTROLS[plant])

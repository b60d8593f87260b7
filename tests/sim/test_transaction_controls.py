"""Negative controls of transactions: a broker with a bug put in is caught, and for that bug."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from braidmq.broker import transaction
from braidmq.broker.index import LSN_MASK
from braidmq.broker.queue import Queue
from braidmq.broker.transactionverbs import Send
from braidmq.storage import FileLog
from tests.sim.transaction_world import TransactionWorld
from tests.sim.worlds import Patch, check_caught


def frames_are_cut_as_ever(patch: pytest.MonkeyPatch) -> None:
    """Every record in a frame of its own."""
    append = FileLog.append

    @contextmanager
    def in_one_frame(log: FileLog, size: int) -> Iterator[None]:
        def cutting(parts, references=0, **options):
            lsn = append(log, parts, references, **options)
            log._commit._cut()
            return lsn

        log.append = cutting  # type: ignore[method-assign]
        try:
            yield
        finally:
            del log.append

    patch.setattr(FileLog, "in_one_frame", in_one_frame)


def steps_are_done_while_they_are_checked(patch: pytest.MonkeyPatch) -> None:
    """What is refused has happened in part."""
    check = transaction._Transaction.check

    def checking(self, step):
        check(self, step)
        if isinstance(step, Send) and step.queue == "out":
            self._steps.pop()()

    patch.setattr(transaction._Transaction, "check", checking)


def acknowledgements_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """They stand in no log: a restart brings the messages back."""
    settle = transaction._Transaction._settle

    def settling(self, queue, step):
        queue.logged = False
        try:
            return settle(self, queue, step)
        finally:
            queue.logged = True

    patch.setattr(transaction._Transaction, "_settle", settling)


def deliver_before_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Queue, "frontier", lambda self: LSN_MASK)


CONTROLS: dict[Patch, str] = {
    frames_are_cut_as_ever: "half|twice",
    steps_are_done_while_they_are_checked: "refused",
    acknowledgements_are_forgotten: "twice",
    deliver_before_sync: "half|twice|lost",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(TransactionWorld, CONTROLS[plant])

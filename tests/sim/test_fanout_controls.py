"""Negative controls of fan-out: a broker with a bug put in must be caught, and for that bug."""

from collections.abc import Sequence

import msgspec
import pytest

from braidmq.broker import fanout, replaying
from braidmq.broker.bindings import Bindings
from braidmq.broker.fifo import FifoQueue
from braidmq.broker.index import LSN_MASK
from braidmq.broker.letters import post_in_turn
from braidmq.broker.queue import Queue
from braidmq.broker.replays import Replays
from braidmq.broker.replaystore import ReplayStore
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


def replays_not_in_checkpoints(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplayStore, "snapshot", lambda self: iter(()))


def replays_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """A restart makes them forget how far they were."""
    original = Replays.start

    def start(self: Replays, now_ms: int) -> None:
        for id, definition in list(self._store.by_id.items()):
            self._store.define(id, msgspec.structs.replace(definition, number=0, shard=0))
        original(self, now_ms)

    patch.setattr(Replays, "start", start)


def replays_are_written_down_behind_their_messages(patch: pytest.MonkeyPatch) -> None:
    """In a frame of their own."""

    def post(log, letters, more, now_ms):
        post_in_turn(log, letters, (), now_ms)
        log._commit._cut()
        for record in more:
            log.append((record,))

    patch.setattr(replaying, "post_in_turn", post)


CONTROLS: dict[Patch, str] = {
    letters_one_by_one: "torn|duplicate|lost",
    bindings_not_in_checkpoints: "lost|torn",
    what_was_sent_is_forgotten: "duplicate",
    one_target_less: "lost|torn",
    deliver_before_sync: "duplicate|phantom|misordered|lost|torn",
    replays_not_in_checkpoints: "lost",
    replays_begin_anew: "duplicate",
    replays_are_written_down_behind_their_messages: "duplicate",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(FanoutWorld, CONTROLS[plant])

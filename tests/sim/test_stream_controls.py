"""Negative controls of streams: a broker with a bug put in must be caught, and caught for that bug.

As in ``test_controls.py``, where those of queues are.
"""

from collections.abc import Collection, Generator, Sequence
from typing import Any

import pytest

from braidmq.broker import rehoming, shard
from braidmq.broker.core import Core
from braidmq.broker.index import LSN_MASK
from braidmq.broker.shard import Shard, ShardDefinition, ShardState
from braidmq.broker.streamretention import StreamRetention
from braidmq.broker.streams import Streams
from braidmq.broker.streamwaiting import StreamWaiting
from braidmq.storage.cold import ColdFile
from tests.sim.stream_world import StreamWorld
from tests.sim.worlds import Patch, check_caught


def ack_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Say that it is kept when it was only asked for."""
    patch.setattr(
        Core, "when_kept", lambda self, level, callback, argument: callback(argument, None)
    )


def read_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Let readers see what is in memory only."""
    patch.setattr(Shard, "frontier", lambda self: LSN_MASK)


def end_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Tell readers that a shard has ended before that is kept."""
    patch.setattr(Shard, "has_ended", lambda self, number: self.closed and number >= self.next)


def wakeup_lost(patch: pytest.MonkeyPatch) -> None:
    """Let those wait on who asked for what was not kept yet."""
    patch.setattr(StreamWaiting, "progressed", lambda self: self._unsettled.clear())


def file_removed_at_once(patch: pytest.MonkeyPatch) -> None:
    """Remove files whose records the log has not durably let go."""

    def gone(
        self: StreamRetention, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]
    ) -> None:
        job = shard.log.cold.unlink(files) if shard.log.cold and files else None
        if job is not None:
            job()

    patch.setattr(StreamRetention, "gone", gone)


def file_without_what_it_replaces(patch: pytest.MonkeyPatch) -> None:
    """Replace files without taking in what is in them."""

    def take_in(self: Any, cold: object, files: object) -> Generator[None, None, bool]:
        yield
        return True

    patch.setattr(rehoming._Writer, "take_in", take_in)


def more_dropped_than_moved(patch: pytest.MonkeyPatch) -> None:
    """Drop all blocks when some have moved."""
    original = Shard.rehome

    def rehome(self: Shard, file: ColdFile, replaces: Collection[int]) -> tuple[Any, Any]:
        found = original(self, file, replaces)
        self._drop_blocks(len(self.firsts))
        return found

    patch.setattr(Shard, "rehome", rehome)


def files_left_out_of_checkpoints(patch: pytest.MonkeyPatch) -> None:
    def state(**fields: Any) -> ShardState:
        return ShardState(**{**fields, "cold": []})

    patch.setattr(shard, "ShardState", state)


def children_begin_at_one(patch: pytest.MonkeyPatch) -> None:
    def definition(**fields: Any) -> ShardDefinition:
        return ShardDefinition(**{**fields, "start": 1})

    patch.setattr("braidmq.broker.stream.ShardDefinition", definition)


def trimmed_too_early(patch: pytest.MonkeyPatch) -> None:
    """Let go of a whole file when its oldest record is too old."""

    def sweep(self: StreamRetention, shard: Shard, now_ms: int, retention_ms: int) -> None:
        if 0 < shard.oldest_ms() < now_ms - retention_ms:
            self.trim(shard, shard.cold_end or shard.block_end(0))

    patch.setattr(StreamRetention, "_sweep_shard", sweep)


def batch_the_other_way_round(patch: pytest.MonkeyPatch) -> None:
    """Put the records of a batch into the block the other way round."""
    original = Streams._append_to

    def append_to(self: Streams, shard: Shard, batch: Any, indexes: Any, *rest: Any) -> None:
        batch.bodies = batch.bodies[::-1]
        original(self, shard, batch, indexes, *rest)

    patch.setattr(Streams, "_append_to", append_to)


CONTROLS: dict[Patch, str] = {
    ack_before_sync: "lost|duplicate|changed|misordered",
    read_before_sync: "vanished|changed|duplicate|ended|gap|lost|stuck",
    end_before_sync: "ended",
    wakeup_lost: "stuck",
    file_removed_at_once: "damaged",
    file_without_what_it_replaces: "lost|vanished|gap|changed",
    more_dropped_than_moved: "lost|vanished|gap|changed|duplicate",
    files_left_out_of_checkpoints: "lost|vanished|gap|changed|misordered|duplicate",
    children_begin_at_one: "misordered",
    trimmed_too_early: "lost|vanished|gap",
    batch_the_other_way_round: "changed|duplicate",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(StreamWorld, CONTROLS[plant])

"""Negative controls of queues: a broker with a bug put in must be caught, and caught for that bug.

An audit that never complains proves nothing. Each control plants one bug that a hurried change
could bring, and runs histories until the audit speaks up.
"""

from collections.abc import Sequence

import pytest

from braidmq.broker import engine, queue
from braidmq.broker.core import Core
from braidmq.broker.engine import Engine
from braidmq.broker.fifo import FifoQueue
from braidmq.broker.index import LSN_MASK, Lane
from braidmq.broker.lease import LeaseTable
from braidmq.broker.queue import Queue
from braidmq.broker.state import QueueState
from braidmq.storage.record import encode_ack, encode_link, encode_receive
from tests.sim.queue_world import QueueWorld
from tests.sim.worlds import Patch, check_caught


def ack_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Say that it is kept when it was only asked for."""
    patch.setattr(
        Core, "when_kept", lambda self, level, callback, argument: callback(argument, None)
    )


def deliver_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Deliver what is in memory only."""
    patch.setattr(Queue, "frontier", lambda self: LSN_MASK)


def delete_not_logged(patch: pytest.MonkeyPatch) -> None:
    def encode(entity: int, reason: int, sequences: Sequence[int]) -> bytes:
        return encode_receive(entity, 1, sequences)

    patch.setattr(queue, "encode_ack", encode)


def window_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Forget the ids of the window at a restart."""
    original = FifoQueue.finish_replay

    def finish(self: FifoQueue) -> None:
        original(self)
        assert self.dedup is not None
        self.dedup._seen.clear()
        self.dedup._order.clear()

    patch.setattr(FifoQueue, "finish_replay", finish)


def lock_dropped_on_return(patch: pytest.MonkeyPatch) -> None:
    """One message of a group comes back: forget that others are in flight."""
    original = FifoQueue._lease_ended

    def ended(self: FifoQueue, lane: Lane, number: int, stays: bool) -> None:
        if stays:
            self.groups[lane.group(number)].in_flight = 1
        original(self, lane, number, stays)

    patch.setattr(FifoQueue, "_lease_ended", ended)


def returned_message_goes_last(patch: pytest.MonkeyPatch) -> None:
    """Order within a group as it came back, not as it was sent."""
    patch.setattr("braidmq.broker.fifo.heappush", lambda heap, item: heap.append(item))


def dead_letter_half_moved(patch: pytest.MonkeyPatch) -> None:
    """Two records instead of one, of which the second is lost."""
    original = Engine.move_message

    def move(self: Engine, source: Queue, seq: int, target: Queue, rest: bytes, now: int) -> None:
        self.log.append((encode_ack(source.id, 0, [seq]),))
        original(self, source, seq, target, rest, now)

    def link(*fields: object) -> bytes:
        values = list(fields)
        values[2] = 0  # to an entity that is not there
        return encode_link(*values)  # type: ignore[arg-type]

    patch.setattr(Engine, "move_message", move)
    patch.setattr(engine, "encode_link", link)


def dead_letter_stays_where_it_was(patch: pytest.MonkeyPatch) -> None:
    """Copy instead of moving, as far as the log is concerned."""
    encode = encode_link

    def copied(*fields: object) -> bytes:
        values = list(fields)
        values[0] = 0  # from an entity that is not there
        return encode(*values)  # type: ignore[arg-type]

    patch.setattr(engine, "encode_link", copied)


def numbers_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """An empty queue has forgotten after a restart how far it had counted."""
    original = QueueState.finish_replay

    def finish(self: QueueState) -> None:
        original(self)
        for lane in self.lanes:
            if not lane.live:
                lane.pages.clear()
                lane.next = 1

    patch.setattr(QueueState, "finish_replay", finish)


def lease_ends_early(patch: pytest.MonkeyPatch) -> None:
    original = LeaseTable.grant

    def grant(self: LeaseTable, *fields: int) -> int:
        values = list(fields)
        values[2] = max(values[2] - 150, 0)  # the deadline
        return original(self, *values)  # type: ignore[arg-type]

    patch.setattr(LeaseTable, "grant", grant)


def receipt_without_token(patch: pytest.MonkeyPatch) -> None:
    """Take an acknowledgement from whoever had the message some time."""

    def take(self: LeaseTable, seq: int, token: int) -> object:
        lease = self.by_seq.get(seq)
        if lease is not None:
            self.drop(seq, lease)
        return lease

    patch.setattr(LeaseTable, "take", take)


def delay_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A message that is given back with a delay is not held after a restart."""
    patch.setattr(queue, "encode_delay", lambda entity, due, seqs: encode_receive(entity, 1, seqs))


CONTROLS: dict[Patch, str] = {
    ack_before_sync: "lost|resurrected|vanished|duplicate|early|reused",
    deliver_before_sync: "vanished|phantom|duplicate|reused",
    delete_not_logged: "resurrected",
    window_in_memory_only: "duplicate",
    lock_dropped_on_return: "misordered",
    returned_message_goes_last: "misordered",
    dead_letter_half_moved: "lost|vanished|reused",
    dead_letter_stays_where_it_was: "resurrected|duplicate|misordered",
    numbers_begin_anew: "reused",
    lease_ends_early: "duplicate|stolen|misordered",
    receipt_without_token: "stolen|duplicate",
    delay_forgotten: "early",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(QueueWorld, CONTROLS[plant])

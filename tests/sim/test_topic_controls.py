"""Negative controls of topics: a broker with a bug put in must be caught, and caught for that bug.

As in ``test_controls.py``, where those of queues are.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from braidmq.broker.clients import Clients
from braidmq.broker.core import Core
from braidmq.broker.index import LSN_MASK
from braidmq.broker.queue import Queue
from braidmq.broker.session import Session, SessionQueue
from braidmq.broker.topics import Topics
from braidmq.storage.record import encode_receive
from tests.sim.topic_world import TopicWorld
from tests.sim.worlds import Patch, check_caught


def ack_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Say that it is kept when it was only asked for."""
    patch.setattr(
        Core, "when_kept", lambda self, level, callback, argument: callback(argument, None)
    )


def deliver_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Deliver what is in memory only."""
    patch.setattr(Queue, "frontier", lambda self: LSN_MASK)


def inbound_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """Take a message of QoS 2 without writing down that it was taken."""
    original = Topics._log_one

    def log_one(self: Topics, publication: Any, body: bytes, queues: Any, *rest: Any) -> None:
        original(self, publication, body, queues, (), *rest[1:])

    patch.setattr(Topics, "_log_one", log_one)


def one_record_for_each(patch: pytest.MonkeyPatch) -> None:
    """A frame for each of those who are owed a message."""
    original: Any = Topics._log_one

    def log_one(self: Topics, publication: Any, body: bytes, queues: Any, *rest: Any) -> None:
        for queue in queues[1:]:
            original(self, publication, body, [queue], (), -1, *[None] * (len(rest) - 3), rest[-1])
            self._log._commit._cut()  # type: ignore[attr-defined]
        original(self, publication, body, queues[:1], *rest)

    patch.setattr(Topics, "_log_one", log_one)


def subscription_not_logged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Clients, "_log_subscription", lambda self, session, filter, made: None)


def retained_not_logged(patch: pytest.MonkeyPatch) -> None:
    """Retained as long as the process lives."""
    patch.setattr("braidmq.broker.topics.RETAINED_ENTITY", 0xFFFF_FFFE)


def clearing_not_logged(patch: pytest.MonkeyPatch) -> None:
    def encode(entity: int, reason: int, sequences: Sequence[int]) -> bytes:
        return encode_receive(entity, 1, sequences)

    patch.setattr("braidmq.broker.topics.encode_ack", encode)


def received_comes_again(patch: pytest.MonkeyPatch) -> None:
    """A message of QoS 2 that its client has is not taken out of the log."""

    def release(self: SessionQueue, seq: int, token: int) -> bool:
        lease = self.leases.take(seq, token)
        if lease is not None:
            self._release(*self.remove(seq)[:2])
        return lease is not None

    patch.setattr(SessionQueue, "release", release)


def session_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A client that comes back begins anew."""
    original = Clients.open

    def opened(self: Clients, who: Any, name: str, *rest: Any) -> tuple[Session, bool]:
        sink, _, *more = rest
        return original(self, who, name, sink, True, *more)

    patch.setattr(Clients, "open", opened)


CONTROLS: dict[Patch, str] = {
    ack_before_sync: "lost|duplicate|resurrected|forgotten|phantom",
    deliver_before_sync: "duplicate|phantom|misordered|lost|torn",
    inbound_in_memory_only: "duplicate",
    one_record_for_each: "torn|duplicate",
    subscription_not_logged: "lost|torn",
    retained_not_logged: "forgotten|phantom",
    clearing_not_logged: "phantom",
    received_comes_again: "duplicate",
    session_forgotten: "lost|torn|duplicate",
}


@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    check_caught(TopicWorld, CONTROLS[plant])

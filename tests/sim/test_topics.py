"""A broker that dies at any moment keeps its word to publishers and subscribers.

QoS 1 is never lost, QoS 2 neither lost nor doubled, a message reaches all who are owed it or none,
and a topic retains what was acknowledged last. Seeds as in ``test_crashes.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from braidmq.broker.clients import Clients
from braidmq.broker.core import Core
from braidmq.broker.index import LSN_MASK
from braidmq.broker.queue import Queue
from braidmq.broker.session import Session, SessionQueue
from braidmq.broker.topics import Topics
from braidmq.storage.record import encode_receive
from tests.sim.audit import Broken
from tests.sim.test_crashes import BATCH, FIRST_SEED, SEEDS
from tests.sim.topic_world import TopicWorld

CONTROL_SEEDS = 150
SCRIPT_TURNS = 600

Patch = Callable[[pytest.MonkeyPatch], None]


def live(seed: int, turns: int = 1_500) -> TopicWorld:
    """A history with crashes between calls of the disk, and in the middle of some."""
    world = TopicWorld(seed)
    try:
        while turns > 0:
            world.run(40)
            turns -= 40
            fate = world.rng.random()
            if fate < 0.06:
                world.crash(power=True)
            elif fate < 0.10:
                world.crash(power=False)
            elif fate < 0.20:
                world.plan_crash(world.rng.randrange(12))
            elif fate < 0.30:
                world.guarded(world.look)
        world.finish()
    except Exception as error:
        error.add_note(f"seed {seed}: BRAIDMQ_SIM_FIRST_SEED={seed} BRAIDMQ_SIM_SEEDS=1")
        raise
    return world


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_broker_keeps_its_word_whenever_it_dies(first):
    crashes = got = 0
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        world = live(seed)
        crashes += world.crashes
        got += world.topic_audit.counts["got"]
    assert SEEDS < BATCH or (crashes > BATCH and got > 100 * BATCH)


def scripted(crash_at: int) -> TopicWorld:
    """The same history every time, up to the call of the disk at which power is cut."""
    world = TopicWorld(4711, crash_at)
    try:
        world.run(SCRIPT_TURNS)
        world.finish()
    except Exception as error:
        error.add_note(f"crash at call {crash_at} of the script")
        raise
    return world


@pytest.mark.parametrize("part", range(4))
def test_power_may_be_cut_at_every_call_of_the_disk(part):
    world = TopicWorld(4711)
    world.run(SCRIPT_TURNS)
    assert world.disk.calls > 60
    for crash_at in range(part, world.disk.calls, 4):
        assert scripted(crash_at).crashes >= 1


def test_one_seed_is_one_history():
    first, second = live(17, 800), live(17, 800)
    assert first.log_lines == second.log_lines
    assert first.topic_audit.counts == second.topic_audit.counts


def test_histories_are_rich():
    """What is never reached is not tested."""
    counts: dict[str, int] = {}
    compacted = crashes = info = 0
    for seed in range(500, 510):
        world = live(seed)
        crashes += world.crashes
        compacted += world.compacted
        info += sum(not sending.ok for sending in world.topic_audit.sendings.values())
        for name, count in world.topic_audit.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert crashes > 30 and compacted > 0 and info > 10
    assert counts["again"] > 100 and counts["resent"] > 50 and counts["retained"] > 300


# --- negative controls: a broker with a bug put in must be caught, and caught for that bug ---


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
    original = Topics._log_one

    def log_one(self: Topics, publication: Any, body: bytes, queues: Any, *rest: Any) -> None:
        for queue in queues[1:]:
            original(self, publication, body, [queue], (), -1, rest[-1])
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
    with pytest.raises(Broken, match=f"^({CONTROLS[plant]})"):
        for seed in range(CONTROL_SEEDS):
            live(seed)

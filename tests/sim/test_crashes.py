"""A broker that dies at any moment keeps its word: nothing lost, invented, or done twice.

BRAIDMQ_SIM_SEEDS says how many random histories are lived through, and BRAIDMQ_SIM_FIRST_SEED
where they begin; a history that fails can be lived again by its seed, which is printed.
"""

import os

import pytest

from tests.sim.audit import Broken
from tests.sim.world import World

SEEDS = int(os.environ.get("BRAIDMQ_SIM_SEEDS", "100"))
FIRST_SEED = int(os.environ.get("BRAIDMQ_SIM_FIRST_SEED", "0"))
BATCH = 10  # histories in one test
SCRIPT_TURNS = 1_000


def live(seed: int, turns: int = 1_500) -> World:
    """A history with crashes between calls of the disk, and in the middle of some."""
    world = World(seed)
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
        world.finish()
    except Exception as error:
        error.add_note(f"seed {seed}: BRAIDMQ_SIM_FIRST_SEED={seed} BRAIDMQ_SIM_SEEDS=1")
        raise
    return world


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_broker_keeps_its_word_whenever_it_dies(first):
    crashes = delivered = 0
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        world = live(seed)
        crashes += world.crashes
        delivered += world.audit.counts["delivered"]
    assert SEEDS < BATCH or (crashes > BATCH and delivered > 100 * BATCH)


def scripted(crash_at: int) -> World:
    """The same history every time, up to the call of the disk at which power is cut."""
    world = World(4711, crash_at)
    try:
        world.run(SCRIPT_TURNS)
        world.finish()
    except Exception as error:
        error.add_note(f"crash at call {crash_at} of the script")
        raise
    return world


def script_calls() -> int:
    world = World(4711)
    world.run(SCRIPT_TURNS)
    return world.disk.calls


@pytest.mark.parametrize("part", range(4))
def test_power_may_be_cut_at_every_call_of_the_disk(part):
    calls = script_calls()
    assert calls > 100
    for crash_at in range(part, calls, 4):
        assert scripted(crash_at).crashes >= 1


def test_script_reaches_what_it_is_for():
    """Every kind of call that changes the disk, a checkpoint, and a compaction."""
    world = World(4711)
    world.run(SCRIPT_TURNS)
    kinds = {call.split()[0] for call in world.disk.trace}
    assert {"pwrite", "fdatasync", "create", "rename", "fsync_dir", "unlink"} <= kinds
    world.run(3 * SCRIPT_TURNS)
    statistics = world.core.log.statistics()
    assert statistics.checkpoints > 0 and statistics.fetches > 0


def test_one_seed_is_one_history():
    first, second = live(17, 800), live(17, 800)
    assert first.log_lines == second.log_lines
    assert first.disk.trace == second.disk.trace
    assert first.audit.counts == second.audit.counts
    assert live(18, 800).log_lines != first.log_lines


def test_histories_are_rich():
    """What is never reached is not tested."""
    counts: dict[str, int] = {}
    compacted = crashes = 0
    for seed in range(500, 510):
        world = live(seed)
        crashes += world.crashes
        compacted += world.compacted
        for name, count in world.audit.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert crashes > 30 and compacted > 0
    assert counts["again"] > 300 and counts["dead"] > 30 and counts["repeated"] > 10
    assert counts["ok"] < counts["sent"]  # some never heard


def test_audit_speaks_up():
    world = World(1)
    world.audit.invoked(b"x", "plain", "", 0)
    world.audit.entries[b"x"].ok = True
    with pytest.raises(Broken, match="lost"):
        world.audit.close()

"""A broker that dies at any moment keeps its word: nothing lost, invented, or done twice.

To queues' producers and consumers, and to publishers and subscribers: QoS 1 is never lost, QoS 2
neither lost nor doubled, a message reaches all who are owed it or none, and a topic retains what
was acknowledged last.
"""

from collections import Counter

import pytest

from tests.sim.audit import Broken
from tests.sim.queue_world import QueueWorld
from tests.sim.worlds import FIRST_SEED, SEEDS, WORLDS, live, scripted

BATCH = 10  # histories in one test


@pytest.fixture(params=WORLDS)
def world(request):
    """Every kind of world."""
    return WORLDS[request.param]


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_broker_keeps_its_word_whenever_it_dies(world, first):
    crashes = delivered = 0
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        lived = live(world, seed)
        crashes += lived.crashes
        delivered += lived.delivered
    assert SEEDS < BATCH or (crashes > BATCH and delivered > 100 * BATCH)


@pytest.mark.parametrize("part", range(4))
def test_power_may_be_cut_at_every_call_of_the_disk(world, part):
    calls = scripted(world).disk.calls
    assert calls > 60
    for crash_at in range(part, calls, 4):
        assert scripted(world, crash_at).crashes >= 1


def test_script_reaches_what_it_is_for():
    """Every kind of call that changes the disk, a checkpoint, and a compaction."""
    lived = scripted(QueueWorld)
    kinds = {call.split()[0] for call in lived.disk.trace}
    assert {"pwrite", "fdatasync", "create", "rename", "fsync_dir", "unlink"} <= kinds
    lived.run(3 * QueueWorld.SCRIPT_TURNS)
    statistics = lived.core.log.statistics()
    assert statistics.checkpoints > 0 and statistics.fetches > 0


def test_one_seed_is_one_history(world):
    first, second = live(world, 17, 800), live(world, 17, 800)
    assert first.log_lines == second.log_lines
    assert first.disk.trace == second.disk.trace
    assert first.counts == second.counts
    assert live(world, 18, 800).log_lines != first.log_lines


def test_histories_are_rich(world):
    """What is never reached is not tested."""
    counts: Counter[str] = Counter()
    compacted = crashes = unheard = 0
    for seed in range(500, 510):
        lived = live(world, seed)
        crashes += lived.crashes
        compacted += lived.compacted
        unheard += lived.unheard
        counts.update(lived.counts)
    assert crashes > 30 and compacted > 0 and unheard > 10
    assert {name for name, least in world.RICH.items() if counts[name] <= least} == set()


def test_audit_speaks_up():
    lived = QueueWorld(1)
    lived.audit.invoked(b"x", "plain", "", 0)
    lived.audit.entries[b"x"].ok = True
    with pytest.raises(Broken, match="lost"):
        lived.audit.close()

"""The worlds, and the histories that are lived through in each of them.

BRAIDMQ_SIM_SEEDS says how many random histories there are, and BRAIDMQ_SIM_FIRST_SEED where they
begin; a history that fails can be lived again by its seed, which is printed.
"""

import os
from collections.abc import Callable

import pytest

from tests.sim.audit import Broken
from tests.sim.fanout_world import FanoutWorld
from tests.sim.queue_world import QueueWorld
from tests.sim.schedule_world import ScheduleWorld
from tests.sim.stream_world import StreamWorld
from tests.sim.topic_world import TopicWorld
from tests.sim.transaction_world import TransactionWorld
from tests.sim.world import World

__all__ = ["FIRST_SEED", "SEEDS", "WORLDS", "Patch", "check_caught", "live", "scripted"]

SEEDS = int(os.environ.get("BRAIDMQ_SIM_SEEDS", "100"))
FIRST_SEED = int(os.environ.get("BRAIDMQ_SIM_FIRST_SEED", "0"))
CONTROL_SEEDS = 150  # a bug that this many histories do not show is not caught
SCRIPT_SEED = 4711

WORLDS: dict[str, type[World]] = {
    "queues": QueueWorld,
    "topics": TopicWorld,
    "fanout": FanoutWorld,
    "streams": StreamWorld,
    "transactions": TransactionWorld,
    "schedules": ScheduleWorld,
}

Patch = Callable[[pytest.MonkeyPatch], None]


def live(make: type[World], seed: int, turns: int = 1_500) -> World:
    """A history with crashes between calls of the disk, and in the middle of some."""
    world = make(seed)
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


def scripted(make: type[World], crash_at: int = -1) -> World:
    """The same history every time, up to the call of the disk at which power is cut."""
    world = make(SCRIPT_SEED, crash_at)
    try:
        world.run(make.SCRIPT_TURNS)
        if crash_at >= 0:
            world.finish()
    except Exception as error:
        error.add_note(f"crash at call {crash_at} of the script")
        raise
    return world


def check_caught(make: type[World], broken: str) -> None:
    """Live until the audit finds one of the ``broken`` promises (words with a bar between)."""
    with pytest.raises(Broken, match=f"^({broken})"):
        for seed in range(CONTROL_SEEDS):
            live(make, seed)

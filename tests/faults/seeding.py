"""A daemon with a bug in it, killed again and again until the audit has noticed.

The daemon is ours, and a module that Python runs first replaces one method of it by one that is
wrong. When such a bug is not noticed, its method may have another name by now, or the audit has
become blind.
"""

import asyncio
from contextlib import suppress

import pytest

from tests.figures import figures

from .campaign import Campaign
from .daemon import Daemon
from .stream_planting import SLOW_DISK, planted

__all__ = ["check_noticed"]

CYCLES_MAX = 40


async def check_noticed(
    request: pytest.FixtureRequest,
    campaign: Campaign,
    code: str,
    kinds: set[str],
    seconds: tuple[float, float] = (0.2, 0.6),
) -> None:
    """Fail unless one of these kinds of broken promises is found.

    Args:
        code: what makes the daemon wrong. seconds: of load before a kill, at least and at most.
    """
    environment = planted(campaign.scratch, SLOW_DISK + code)
    campaign.guard_seconds = 1.0  # something is missing: there is nothing to wait for
    journal = campaign.journal

    async def kill(daemon: Daemon) -> None:
        await asyncio.sleep(campaign.rng.uniform(*seconds))
        await daemon.kill()

    def noticed() -> bool:
        return bool(journal.found().keys() & kinds)

    cycle = 0
    while not noticed() and cycle < CYCLES_MAX:
        cycle += 1
        await campaign.cycle(kill, campaign.daemon((), environment))
        async with campaign.daemon((), environment) as daemon:
            with suppress(*campaign.GONE):  # some bugs show themselves by an error
                await campaign.begun(daemon)
                if not noticed():
                    await campaign.drain(daemon)
    figures(request, f"noticed in cycle {cycle}: {', '.join(journal.found())}")
    assert noticed(), "\n".join([campaign.line, *journal.findings])

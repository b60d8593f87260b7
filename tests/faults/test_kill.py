"""The process dies under load, again and again: nothing acknowledged is lost.

kill -9 spares the page cache, so this holds for ``os`` queues as well. SIGTERM is no fault at all:
it ends with status 0, and only what was in somebody's hands comes again. Every dialect keeps its
word: queues theirs, and MQTT that of its sessions, exchanges of QoS 2 and retained messages.
"""

import asyncio
import signal

import pytest

from .campaign import cycles
from .daemon import Daemon
from .dialects import DIALECTS

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("dialect", DIALECTS)]


async def test_kill_9_under_load(tmp_path, request, dialect):
    campaign = DIALECTS[dialect](tmp_path / "data", tmp_path, 1)

    async def kill(daemon: Daemon) -> None:
        await campaign.busy(daemon)
        await daemon.kill()

    for _ in range(cycles(8)):
        await campaign.cycle(kill)
    await campaign.finish()
    campaign.verdict(request)


async def test_kill_9_while_it_stops_and_while_it_starts(tmp_path, request, dialect):
    """The end takes a checkpoint and unlinks segments; the start writes a new epoch."""
    campaign = DIALECTS[dialect](tmp_path / "data", tmp_path, 4)
    rng = campaign.rng

    async def stop_and_kill(daemon: Daemon) -> None:
        await campaign.busy(daemon, 0.5)
        daemon.signal(signal.SIGTERM)
        await asyncio.sleep(rng.choice([0.0, 0.01, 0.03, 0.1]))
        await daemon.kill()

    async def stop(daemon: Daemon) -> None:
        await campaign.busy(daemon, 0.5)
        assert await daemon.stop() == 0, daemon.log

    for count in range(cycles(4)):
        await campaign.cycle(stop if count % 3 == 1 else stop_and_kill)
        unborn = campaign.daemon()
        await unborn.spawn()
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        await unborn.kill()
    await campaign.finish()
    campaign.verdict(request)


async def test_sigterm_under_load_ends_in_peace(tmp_path, request, dialect):
    campaign = DIALECTS[dialect](tmp_path / "data", tmp_path, 5)

    async def stop(daemon: Daemon) -> None:
        await campaign.busy(daemon)
        assert await daemon.stop() == 0, daemon.log
        with pytest.raises(LookupError):
            daemon.logged("the broker was closed without a checkpoint")

    for _ in range(cycles(3)):
        await campaign.cycle(stop)
        assert campaign.replayed_bytes == 0, "a clean end leaves nothing to replay"
    await campaign.finish()
    campaign.verdict(request)

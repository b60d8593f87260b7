"""The process dies under MQTT load, again and again: sessions keep what was acknowledged.

QoS 1 loses nothing, QoS 2 loses and doubles nothing, from publisher to subscriber; retained
messages are the last acknowledged; a message for twenty sessions is for all of them or none.
"""

import asyncio
import signal

import pytest

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .mqtt_campaign import MqttCampaign
from .strace import inject, why_no_strace
from .test_kill_at_syscall import KILLED, POINTS

pytestmark = [pytest.mark.slow]


async def test_mqtt_kill_9_under_load(tmp_path, request):
    campaign = MqttCampaign(tmp_path / "data", tmp_path, seed=31)
    rng = campaign.rng

    async def kill(daemon: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.1, 0.8))
        await daemon.kill()

    for _ in range(cycles(8)):
        await campaign.cycle(kill)
    await campaign.finish()
    assert campaign.journal.counts["acked"] > 100
    assert campaign.journal.counts["sent again"], "no exchange was ever interrupted"
    campaign.verdict(request)


async def test_mqtt_sigterm_and_kill_9_by_turns(tmp_path, request):
    """A clean end tells everybody; a kill in the middle of it tells nobody."""
    campaign = MqttCampaign(tmp_path / "data", tmp_path, seed=32)
    rng = campaign.rng

    async def stop(daemon: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        assert await daemon.stop() == 0, daemon.log

    async def stop_and_kill(daemon: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        daemon.signal(signal.SIGTERM)
        await asyncio.sleep(rng.choice([0.0, 0.01, 0.03, 0.1]))
        await daemon.kill()

    for count in range(cycles(4)):
        await campaign.cycle(stop_and_kill if count % 2 else stop)
    await campaign.finish()
    campaign.verdict(request)


async def test_mqtt_kill_9_at_the_nth_system_call(tmp_path, request):
    """A message for many, an exchange of QoS 2, a retained one: never half of it."""
    if reason := why_no_strace():
        pytest.skip(reason)
    campaign = MqttCampaign(tmp_path / "data", tmp_path, seed=35)
    rng = campaign.rng
    points: set[tuple[str, int]] = set()

    for count in range(cycles(6)):
        calls = [*POINTS][count % len(POINTS)]
        when = rng.randint(1, POINTS[calls])

        async def stop(daemon: Daemon, point: tuple[str, int] = (calls, when)) -> None:
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            daemon.signal(signal.SIGTERM)
            status = await daemon.wait()
            assert status in (0, *KILLED), daemon.log
            if status:
                points.add(point)

        try:
            await campaign.cycle(stop, campaign.daemon(inject(calls, "signal=SIGKILL", str(when))))
        except NotStarted as killed:
            assert killed.status in KILLED, killed.log
            points.add((calls, when))
    await campaign.finish()
    assert points, "no kill ever hit"
    request.node.name += f" ({len(points)} different calls)"
    campaign.verdict(request)

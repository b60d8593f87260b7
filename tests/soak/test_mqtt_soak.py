"""MQTT under constant load with churn: nothing the daemon holds may grow, and nothing is lost.

The clients of the fault tests publish and subscribe with every QoS, go and come back, and are
audited all the time; beside them clients come once: sessions that end by themselves, retained
messages that are taken back, shares of one member.
"""

import asyncio
import random
import sys
import time

import pytest

from tests.faults.daemon import Daemon
from tests.faults.mqtt_campaign import MqttCampaign
from tests.faults.mqtt_neighbours import Recorder, told
from tests.faults.mqtt_wire import V5, MqttWire
from tests.faults.waiting import until
from tests.faults.wire import LIST_SESSIONS, Wire
from tests.figures import figures
from tests.soak.samples import SAMPLE_SECONDS, SECONDS, Sample, check_growth, line, sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of the daemon"),
]

CHAPTER_SECONDS = min(20.0, SECONDS / 3)  # then everything is delivered, and forgotten
END_SECONDS_MAX = 60.0  # a hang, not a measure: sessions end by themselves after a second


class Passing:
    """Clients that come once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.count = 0

    async def come_and_go(self, rng: random.Random) -> None:
        """For as long as it is told to."""
        while True:
            self.count += 1
            name = f"passing/{self.count}"
            recorder = Recorder()
            wire = await MqttWire.open(self.port, name, V5, False, 1, listener=recorder)
            try:
                await wire.subscribe({f"{name}/#": 1, f"$share/{self.count}/{name}/+": 1})
                for number, body in enumerate((b"kept", b"x" * rng.choice([10, 5_000]), b""), 1):
                    wire.publish(f"{name}/x", body, 1, number, retain=True)
                assert await until(lambda: len(recorder.reasons) == 3)  # noqa: B023
                if rng.random() < 0.5:
                    wire.close()
            finally:
                wire.abort()
            await asyncio.sleep(0.02)


async def held(daemon: Daemon) -> dict[str, int]:
    """What the broker holds: every session by name, with its subscriptions; and their sum."""
    wire = await Wire.open(daemon.port)
    sessions = (await wire.call(LIST_SESSIONS))[2]
    wire.abort()
    assert len(sessions) < 1_000, "there may be more than one answer tells"
    each = {session["name"]: session["subscriptions"] for session in sessions}
    return each | {"all of them": await told(daemon.ports[1], "subscriptions/count")}


async def given_back(daemon: Daemon, before: dict[str, int]) -> None:
    """Wait until the broker holds no more than before."""
    end = time.monotonic() + END_SECONDS_MAX
    while more := {
        name: count
        for name, count in (await held(daemon)).items()
        if name not in before or count > before[name]
    }:
        assert time.monotonic() < end, f"the broker still holds {more}"
        await asyncio.sleep(0.1)


async def test_mqtt_holds_nothing_that_is_over(tmp_path, request):
    data = tmp_path / "data"
    campaign = MqttCampaign(data, tmp_path, seed=40)
    for subscriber in campaign.subscribers:
        subscriber.offline = 0.0  # so that each chapter is like the others
    samples: list[Sample] = []
    end = time.monotonic() + SECONDS

    async def observe(daemon: Daemon) -> None:
        until_then = min(time.monotonic() + CHAPTER_SECONDS, end)
        while time.monotonic() < until_then:
            await asyncio.sleep(SAMPLE_SECONDS)
            samples.append(sample(daemon.pid, data, 0))

    async with campaign.daemon() as daemon:
        port = daemon.ports[1]
        await campaign.begun(daemon)
        await campaign.drain(daemon)
        before = await held(daemon)
        passing = Passing(port)
        task = asyncio.ensure_future(passing.come_and_go(campaign.rng))
        while time.monotonic() < end:
            await campaign.under_load(daemon, observe)
            assert not task.done(), task
            await campaign.look(daemon)
            await campaign.drain(daemon)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await given_back(daemon, before)
        assert await daemon.stop() == 0, daemon.log
    journal = campaign.journal
    figures(
        request,
        f"passing clients {passing.count}, {journal.figures()}, {line(samples)}",
    )
    assert not journal.found(), "\n".join(journal.findings)
    check_growth(samples)

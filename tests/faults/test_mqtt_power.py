"""Real power cuts under MQTT load: what was acknowledged is there when power is back.

The negative control runs the same with fdatasync made into nothing, and must be caught.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import figures

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .mqtt_campaign import MqttCampaign
from .powercut import LossyDisk, lossy_disk, lying_disk, why_no_lies, why_not

pytestmark = [pytest.mark.slow]

CONTROL_CYCLES_MAX = 20


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LossyDisk]:
    kind = request.param
    if reason := why_not(kind):
        pytest.skip(reason)
    with lossy_disk(kind, tmp_path) as mounted:
        yield mounted


async def power_cycle(campaign: MqttCampaign, disk: LossyDisk, daemon: Daemon) -> None:
    """Load, a power cut in the middle of it, and power again."""
    rng = campaign.rng

    async def cut(running: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.05, 0.6))
        for _ in range(rng.choice([0, 0, 1, 3])):
            disk.write_back(campaign.data, rng)
        running.freeze()  # the power goes for the processor too
        disk.cut()
        await running.kill()

    await campaign.cycle(cut, daemon)
    disk.umount()
    disk.mount()


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
async def test_mqtt_power_cuts_under_load(disk, tmp_path, request):
    campaign = MqttCampaign(disk.path / "data", tmp_path, seed=33)
    for _ in range(cycles(6)):
        await power_cycle(campaign, disk, campaign.daemon())
    await campaign.finish()
    assert campaign.journal.counts["acked"] > 100
    campaign.verdict(request)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
async def test_the_mqtt_audit_notices_when_nothing_is_synced(disk, tmp_path, request):
    if reason := why_no_lies():
        pytest.skip(reason)
    prefix, environment = lying_disk(tmp_path)
    campaign = MqttCampaign(disk.path / "data", tmp_path, seed=34)
    campaign.guard_seconds = 1.0  # something is missing: there is nothing to wait for
    noticed = ""
    for count in range(1, CONTROL_CYCLES_MAX + 1):
        try:
            await power_cycle(campaign, disk, campaign.daemon(prefix, environment))
        except NotStarted as refused:
            assert refused.status == 74, refused.log
            noticed = f"refused to start in cycle {count}"
        if campaign.journal.broken:
            broken = {kind: campaign.journal.counts[kind] for kind in campaign.journal.BROKEN}
            noticed = f"cycle {count}, { {kind: n for kind, n in broken.items() if n} }"
        if noticed:
            break
    figures(request, f"negative control noticed: {noticed}; {campaign.line}")
    assert noticed, "without any fdatasync nothing seemed to be lost: the audit is blind"

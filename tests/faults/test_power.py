"""Real power cuts under load: what was acknowledged as ``sync`` is there when power is back.

The negative control runs the same with fdatasync and fsync made into nothing for that process: an
audit that does not notice that would notice nothing.
"""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.figures import figures

from .audit import QUEUES
from .campaign import Campaign, cycles
from .daemon import Daemon, NotStarted
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


async def power_cycle(
    campaign: Campaign,
    disk: LossyDisk,
    daemon: Daemon,
    queues: Collection[str] = tuple(QUEUES),
) -> None:
    """Load, a power cut in the middle of it, and power again."""
    rng = campaign.rng

    async def cut(running: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        for _ in range(rng.choice([0, 0, 1, 3])):
            disk.write_back(campaign.data, rng)
        # The power goes for the processor too. If it did not, an fdatasync that is under way would
        # return success for what the ioctl then drops: about every tenth cut shows that.
        running.freeze()
        disk.cut()
        await running.kill()

    await campaign.cycle(cut, daemon, queues)
    campaign.journal.power_cut_runs.add(campaign.journal.run)
    disk.umount()
    disk.mount()


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
async def test_power_cuts_under_load(disk, tmp_path, request):
    campaign = Campaign(disk.path / "data", tmp_path, seed=2)
    for _ in range(cycles(10)):
        await power_cycle(campaign, disk, campaign.daemon())
    await campaign.finish()
    assert campaign.journal.counts["acked"] > 100
    campaign.verdict(request)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
async def test_what_was_only_written_may_be_lost_and_is_counted(disk, tmp_path, request):
    """``os`` promises nothing here; but what survives is whole, and nothing else suffers."""
    campaign = Campaign(disk.path / "data", tmp_path, seed=15)
    for _ in range(cycles(3)):
        await power_cycle(campaign, disk, campaign.daemon(), ["relaxed", "relaxed-backlog"])
    await campaign.finish()
    campaign.verdict(request)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
async def test_the_audit_notices_when_nothing_is_synced(disk, tmp_path, request):
    if reason := why_no_lies():
        pytest.skip(reason)
    prefix, environment = lying_disk(tmp_path)
    campaign = Campaign(disk.path / "data", tmp_path, seed=3)
    noticed = ""
    for count in range(1, CONTROL_CYCLES_MAX + 1):
        try:
            await power_cycle(campaign, disk, campaign.daemon(prefix, environment))
            await campaign.finish()
        except NotStarted as refused:
            assert refused.status == 74, refused.log
            noticed = f"refused to start in cycle {count}"
        if campaign.journal.counts["lost"]:
            noticed = f"cycle {count}, lost {campaign.journal.counts['lost']}"
        if noticed:
            break
    figures(request, f"negative control noticed: {noticed}; {campaign.line}")
    assert noticed, "without any fdatasync nothing seemed to be lost: the audit is blind"

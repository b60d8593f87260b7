"""Real power cuts under load: what was acknowledged as ``sync`` is there when power is back.

The negative control runs the same with fdatasync and fsync made into nothing for that process: an
audit that does not notice that would notice nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import figures

from .campaign import Campaign, cycles
from .daemon import Daemon, NotStarted
from .dialects import DIALECTS
from .powercut import LossyDisk, lossy_disk, lying_disk, why_no_lies, why_not
from .queue_campaign import QueueCampaign

pytestmark = [pytest.mark.slow]

CONTROL_CYCLES_MAX = 20


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LossyDisk]:
    kind = request.param
    if reason := why_not(kind):
        pytest.skip(reason)
    with lossy_disk(kind, tmp_path) as mounted:
        yield mounted


async def power_cycle(campaign: Campaign, disk: LossyDisk, daemon: Daemon) -> None:
    """Load, a power cut in the middle of it, and power again."""
    rng = campaign.rng

    async def cut(running: Daemon) -> None:
        await campaign.busy(running)
        for _ in range(rng.choice([0, 0, 1, 3])):
            disk.write_back(campaign.data, rng)
        # The power goes for the processor too. If it did not, an fdatasync that is under way would
        # return success for what the ioctl then drops: about every tenth cut shows that.
        running.freeze()
        disk.cut()
        await running.kill()

    await campaign.cycle(cut, daemon)
    campaign.journal.power_cut_runs.add(campaign.journal.run)
    disk.umount()
    disk.mount()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
async def test_power_cuts_under_load(disk, tmp_path, request, dialect):
    campaign = DIALECTS[dialect](disk.path / "data", tmp_path, 2)
    for _ in range(cycles(6)):
        await power_cycle(campaign, disk, campaign.daemon())
    await campaign.finish()
    campaign.verdict(request)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
async def test_what_was_only_written_may_be_lost_and_is_counted(disk, tmp_path, request):
    """``os`` promises nothing here; but what survives is whole, and nothing else suffers."""
    campaign = QueueCampaign(disk.path / "data", tmp_path, 15)
    campaign.queues = ["relaxed", "relaxed-backlog"]
    for _ in range(cycles(3)):
        await power_cycle(campaign, disk, campaign.daemon())
    await campaign.finish()
    campaign.verdict(request)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
async def test_the_audit_notices_when_nothing_is_synced(disk, tmp_path, request, dialect):
    if reason := why_no_lies():
        pytest.skip(reason)
    prefix, environment = lying_disk(tmp_path)
    campaign = DIALECTS[dialect](disk.path / "data", tmp_path, 3)
    campaign.guard_seconds = 1.0  # something is missing: there is nothing to wait for
    noticed, count = "", 0
    while not noticed and count < CONTROL_CYCLES_MAX:
        count += 1
        try:
            await power_cycle(campaign, disk, campaign.daemon(prefix, environment))
            await campaign.finish()
        except NotStarted as refused:
            assert refused.status == 74, refused.log
            noticed = "refused to start"
        if found := campaign.journal.found():
            noticed = str(found)
    figures(request, f"noticed in cycle {count}: {noticed}; {campaign.line}")
    assert noticed, "without any fdatasync nothing seemed to be lost: the audit is blind"

"""Records move from the log to files of their own: a fault in the midst of that changes nothing.

What ``test_kill_at_syscall.py`` and ``test_disk_errors.py`` do to the whole broker, at the calls
that moving makes: a sync of the file, its renaming, a sync of its directory, and the removal of
files that are replaced or let go. Here records move all the time.
"""

import asyncio
import signal

import pytest

from tests.figures import figures

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .powercut import lossy_disk, why_not
from .strace import inject, why_no_strace
from .stream_campaign import StreamCampaign
from .stream_planting import FILES_ALL_THE_TIME, planted

pytestmark = [pytest.mark.slow]

LOAD_SECONDS = 1.5
# What it calls, and up to which time of those. strace counts for each thread by itself.
POINTS = {
    "rename,renameat,renameat2": 20,
    "fsync": 25,
    "unlink,unlinkat": 20,
    "fdatasync": 20,
}
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


@pytest.fixture(autouse=True)
def traced() -> None:
    if reason := why_no_strace():
        pytest.skip(reason)


async def test_kill_9_while_records_move(tmp_path, request):
    campaign = StreamCampaign(tmp_path / "data", tmp_path, seed=41)
    environment = planted(tmp_path, FILES_ALL_THE_TIME)
    points: set[tuple[str, int]] = set()

    for count in range(cycles(6)):
        calls = [*POINTS][count % len(POINTS)]
        when = campaign.rng.randint(1, POINTS[calls])

        async def wait(daemon: Daemon, point: tuple[str, int] = (calls, when)) -> None:
            try:
                assert await daemon.wait(LOAD_SECONDS) in KILLED, daemon.log
            except TimeoutError:
                await daemon.kill()
            else:
                points.add(point)

        prefix = inject(calls, "signal=SIGKILL", str(when))
        try:
            await campaign.cycle(wait, campaign.daemon(prefix, environment))
        except NotStarted as killed:
            assert killed.status in KILLED, killed.log
            points.add((calls, when))
    await campaign.finish()
    assert points, "no kill ever hit"
    assert campaign.journal.counts["files"], "nothing ever moved"
    campaign.verdict(request, f"{len(points)} different calls, ")


async def test_files_that_the_disk_refuses_are_not_counted_on(tmp_path, request):
    """EIO at a sync of a file's directory or its renaming, and then the power goes."""
    if reason := why_not("ext4"):
        pytest.skip(reason)
    environment = planted(tmp_path, FILES_ALL_THE_TIME)
    ended = 0
    with lossy_disk("ext4", tmp_path) as disk:
        campaign = StreamCampaign(disk.path / "data", tmp_path, seed=42)
        for count in range(cycles(4)):
            calls = ["fsync", "rename,renameat,renameat2"][count % 2]
            when = f"{campaign.rng.randint(3, 12)}{'+' if count % 3 == 2 else ''}"

            async def cut(daemon: Daemon) -> None:
                await asyncio.sleep(LOAD_SECONDS)
                daemon.freeze() if daemon.running else None
                disk.cut()
                await daemon.kill()

            prefix = inject(calls, "error=EIO", when)
            try:
                await campaign.cycle(cut, campaign.daemon(prefix, environment))
            except NotStarted as refused:
                assert refused.status == 74, refused.log
                ended += 1
            campaign.journal.power_cut_runs.add(campaign.journal.run)
            disk.umount()
            disk.mount()
        await campaign.finish()
        figures(request, f"did not start {ended} times")
        campaign.verdict(request)

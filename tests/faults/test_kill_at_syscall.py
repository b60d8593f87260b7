"""The process dies at the n-th call that changes the disk: no step of the log may be in between.

A kill at a random time mostly hits a process that waits. strace hits the very call: a write, a
sync, the rename of MANIFEST, the unlink of a segment, while it starts, works and stops.
"""

import signal

import pytest

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .dialects import DIALECTS
from .strace import inject, why_no_strace

pytestmark = [pytest.mark.slow]

# What it calls, and how often it does in a short run (start, load, checkpoint at the end).
POINTS = {
    "fdatasync": 10,
    "fsync": 8,
    "pwrite64,pwritev,pwritev2": 60,
    "rename,renameat,renameat2": 3,
    "unlink,unlinkat": 5,
    "fallocate": 1,
}
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_kill_9_at_the_nth_system_call(tmp_path, request, dialect):
    """What is one step for a client is one on the disk: never half of it."""
    if reason := why_no_strace():
        pytest.skip(reason)
    campaign = DIALECTS[dialect](tmp_path / "data", tmp_path, 10)
    rng = campaign.rng
    points: set[tuple[str, int]] = set()

    for count in range(cycles(len(POINTS))):
        calls = [*POINTS][count % len(POINTS)]
        when = rng.randint(1, POINTS[calls])

        async def stop(daemon: Daemon, point: tuple[str, int] = (calls, when)) -> None:
            await campaign.busy(daemon, 0.1)  # strace makes it slow
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
    campaign.verdict(request, f"{len(points)} different calls, ")

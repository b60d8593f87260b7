"""The disk says no: EIO ends the daemon before it confirms anything more, a full disk does not.

After each failed sync power is cut as well, where that can be done: the kernel drops what it could
not write, so whatever was confirmed after the failure would be missing then.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.figures import figures

from .audit import Entry, QueueJournal
from .campaign import cycles
from .daemon import Daemon, NotStarted
from .dialects import DIALECTS
from .journal import body_of
from .load import Load, drain
from .powercut import LossyDisk, lossy_disk, tmpfs, why_no_mount, why_not
from .queue_campaign import QueueCampaign
from .strace import inject, why_no_strace
from .stream_planting import SYNCED_APART, planted
from .waiting import until
from .wire import SEND, Gone, Refusal, Wire

pytestmark = [pytest.mark.slow]

WRITES = "pwrite64,pwritev,pwritev2"
FREE_AGAIN_SECONDS_MAX = 60.0  # a hang, not a measure
SETTLED_ENOUGH = 200  # messages, to say that consumers go on


@pytest.fixture
def traced() -> None:
    if reason := why_no_strace():
        pytest.skip(reason)


@contextmanager
def a_disk(scratch: Path) -> Iterator[tuple[Path, LossyDisk | None]]:
    """Where to put the data, on a disk that can lose power if that is possible here."""
    if why_not("ext4"):
        yield scratch / "data", None
        return
    with lossy_disk("ext4", scratch) as disk:
        yield disk.path / "data", disk


async def until_it_ends(daemon: Daemon) -> None:
    """Wait for the daemon to give up by itself, as it must after a failed write."""
    assert await daemon.wait() == 74, daemon.log


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("calls", "when"),
    [("fdatasync", "once"), ("fdatasync", "forever"), (WRITES, "once")],
    ids=["fdatasync-once", "fdatasync-forever", "write-once"],
)
async def test_eio_ends_it_before_it_confirms_more(traced, tmp_path, request, dialect, calls, when):
    """After the failure power is cut as well: what was confirmed after it would be gone."""
    with a_disk(tmp_path) as (data, disk):
        campaign = DIALECTS[dialect](data, tmp_path, 6)
        campaign.expect_write_errors()
        environment = planted(tmp_path, SYNCED_APART) if calls == "fdatasync" else {}
        for _ in range(cycles(2)):
            count = campaign.rng.randint(4, 60)
            prefix = inject(calls, "error=EIO", f"{count}+" if when == "forever" else f"{count}")
            await campaign.cycle(until_it_ends, campaign.daemon(prefix, environment))
            if disk is not None:
                disk.cut()
                campaign.journal.power_cut_runs.add(campaign.journal.run)
                disk.umount()
                disk.mount()
        await campaign.finish()
        campaign.verdict(request)


async def test_eio_on_every_fsync_keeps_it_from_starting(traced, tmp_path):
    daemon = Daemon(tmp_path / "data", tmp_path, inject("fsync,fdatasync", "error=EIO", "1+"))
    with pytest.raises(NotStarted) as refused:
        await daemon.start()
    assert refused.value.status == 74
    assert "Traceback" not in refused.value.log


async def test_a_disk_that_goes_away_ends_it(tmp_path):
    if reason := why_not("ext4"):
        pytest.skip(reason)
    with lossy_disk("ext4", tmp_path) as disk:
        campaign = QueueCampaign(disk.path / "data", tmp_path, seed=16)

        async def pull_out(daemon: Daemon) -> None:
            await campaign.busy(daemon)
            disk.cut()
            await until_it_ends(daemon)
            assert "Traceback" not in daemon.log

        await campaign.cycle(pull_out)


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


async def test_a_write_that_stops_half_way(tmp_path, request):
    """RLIMIT_FSIZE: the kernel writes a part of a frame, and refuses the rest with EFBIG."""
    campaign = QueueCampaign(tmp_path / "data", tmp_path, seed=7)
    no_reserve = {"BRAIDMQ_LIMITS__RESERVE_BYTES": "0"}
    for _ in range(cycles(2)):
        size = campaign.rng.randint(20_000, 120_000)
        prefix = [sys.executable, "-c", LIMITED, str(size)]
        try:
            await campaign.cycle(until_it_ends, campaign.daemon(prefix, no_reserve))
        except NotStarted as no_room:  # what it had to write again was more than that
            assert no_room.status == 75, no_room.log
            async with campaign.daemon() as daemon:
                await campaign.begun(daemon)
    await campaign.finish()
    assert campaign.dropped_bytes, "no write stopped half way"
    campaign.verdict(request)


# --- a full disk ---


def fill(directory: Path, leave: int) -> Path:
    """Take all but ``leave`` bytes of the disk."""
    path = directory / "filler"
    state = os.statvfs(directory)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - leave)
    return path


async def send_some(port: int, journal: QueueJournal, numbers: range) -> str:
    """Send messages one by one; return the code of the first refusal, or an empty text."""
    wire = await Wire.open(port)
    try:
        for number in numbers:
            entry = Entry("standard", "to-full", number, {})
            journal.invoke(entry)
            message = [body_of("to-full", number, 4_000)]
            try:
                reply = await wire.call(SEND, "standard", [message])
            except Refusal as refusal:
                journal.fail(entry)
                return refusal.code
            if reply[2][0] is None:
                journal.fail(entry)
                return str(reply[3][0][1])
            journal.ok(entry, reply[2][0][0], False)
    finally:
        wire.abort()
    return ""


async def until_taken(port: int, journal: QueueJournal, first: int) -> float:
    """Send until it is taken again; how many seconds that took."""
    began = time.monotonic()
    while refused := await send_some(port, journal, range(first, first + 1)):
        assert refused == "storage-full"
        assert time.monotonic() - began < FREE_AGAIN_SECONDS_MAX, "it does not recover by itself"
        first += 1
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def test_a_full_disk_refuses_publishers_and_nobody_else(tmp_path, request):
    if reason := why_no_mount():
        pytest.skip(f"a full disk cannot be made here: {reason}")
    with tmpfs(tmp_path / "small", "12m") as directory:
        campaign = QueueCampaign(directory / "data", tmp_path, seed=8)
        journal = campaign.journal
        async with campaign.daemon() as daemon:
            await campaign.begun(daemon)
            assert not await send_some(daemon.port, journal, range(100))
            filler = fill(directory, leave=1_500_000)
            assert await send_some(daemon.port, journal, range(100, 2_000)) == "storage-full"
            settled = journal.counts["settled"]
            async with Load(daemon.port, journal, campaign.rng):
                came = await until(
                    lambda: (
                        journal.counts["settled"] > settled + SETTLED_ENOUGH
                        and journal.counts["refused storage-full"] > 0
                    )
                )
            assert came, "consumers were held up, or publishers were not told"
            assert daemon.running, daemon.log
            filler.unlink()
            seconds = await until_taken(daemon.port, journal, 10_000)
            async with Load(daemon.port, journal, campaign.rng):
                await campaign.busy(daemon)
        await campaign.finish()
        figures(request, f"{seconds:.1f} s from room to taking again, {campaign.line}")
        assert not journal.found(), "\n".join(journal.findings)


async def test_killed_on_a_full_disk(tmp_path, request):
    """It starts on the full disk, or says that there is no room; it never loses or invents."""
    if reason := why_no_mount():
        pytest.skip(f"a full disk cannot be made here: {reason}")
    with tmpfs(tmp_path / "small", "12m") as directory:
        campaign = QueueCampaign(directory / "data", tmp_path, seed=9)
        journal = campaign.journal
        started = refused = 0
        for count in range(cycles(3)):
            async with campaign.daemon() as daemon:
                await campaign.begun(daemon)
                first = count * 10_000
                await send_some(daemon.port, journal, range(first, first + 50))
                filler = fill(directory, leave=1_200_000)
                async with Load(daemon.port, journal, campaign.rng):
                    await asyncio.sleep(campaign.rng.uniform(0.1, 0.6))  # perhaps all is refused
                    await daemon.kill()
            free = os.statvfs(directory)
            if rest := free.f_bavail:
                with filler.open("ab") as file:
                    os.posix_fallocate(file.fileno(), 0, file.tell() + rest * free.f_frsize)
            reserve_left = (campaign.data / "ballast").exists()
            try:
                async with campaign.daemon() as daemon:
                    journal.run += 1
                    started += 1
                    try:
                        await drain(daemon.port, journal)
                    except (Gone, Refusal):  # the reserve was not enough for all of it
                        await until_it_ends(daemon)
            except NotStarted as no_room:
                assert no_room.status == 75, no_room.log
                assert not reserve_left, "the reserve is there for this, and was not used"
                refused += 1
            filler.unlink()
        await campaign.finish()
        figures(request, f"on the full disk started {started}, refused {refused}, {campaign.line}")
        assert not journal.found(), "\n".join(journal.findings)

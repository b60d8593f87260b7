"""RealDisk, and that SimDisk means the same by the same calls."""

import errno
import os
import random
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from braidmq.storage.disk import Disk, RealDisk
from braidmq.storage.errors import Locked
from tests.simdisk import SECTOR, PowerCut, SimDisk


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return RealDisk() if request.param == "real" else SimDisk()


@pytest.fixture
def root(disk: Disk, tmp_path: Path) -> str:
    path = str(tmp_path / "a" / "b")
    disk.makedirs(path)
    disk.makedirs(path)
    return path


def test_what_is_written_is_read_back(disk: Disk, root: str):
    handle = disk.create(f"{root}/file")
    disk.pwrite(handle, 0, [b"one", b"", b"two"])
    disk.pwrite(handle, 10, [b"x" * 300_000, b"y"])
    disk.fdatasync(handle)
    disk.close(handle)
    disk.fsync_dir(root)
    handle = disk.open(f"{root}/file")
    assert disk.pread(handle, 0, 10) == b"onetwo\0\0\0\0"
    assert disk.pread(handle, 300_009, 100) == b"xy"
    assert disk.pread(handle, 400_000, 100) == b""
    assert disk.size(f"{root}/file") == 300_011
    disk.close(handle)


def test_many_buffers_arrive_in_order(disk: Disk, root: str):
    handle = disk.create(f"{root}/file")
    rng = random.Random(1)
    buffers = [rng.randbytes(rng.randrange(400)) for _ in range(3000)]
    disk.pwrite(handle, 5, buffers)
    assert disk.pread(handle, 5, 2_000_000) == b"".join(buffers)
    disk.close(handle)


def test_a_durable_write_is_a_write(disk: Disk, root: str):
    handle = disk.create(f"{root}/file")
    rng = random.Random(1)
    for count in (1, 100, 3000):  # one iovec, some, more than the system takes
        buffers = [rng.randbytes(rng.randrange(1, 400)) for _ in range(count)]
        disk.pwrite_durable(handle, 5, buffers)
        assert disk.pread(handle, 5, 2_000_000).startswith(b"".join(buffers))
    disk.close(handle)


@pytest.mark.skipif(not hasattr(os, "RWF_DSYNC"), reason="the system has no such write")
@pytest.mark.parametrize("refusal", [0, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_durable_write_is_one_call_where_the_kernel_can(tmp_path, monkeypatch, refusal):
    calls: list[object] = []
    pwritev, fdatasync = os.pwritev, os.fdatasync

    def write(handle, views, offset, flags):
        calls.append(flags)
        if flags and refusal:
            raise OSError(refusal, "not known")
        return pwritev(handle, [views[0][:4]], offset, flags)  # never all at once

    def sync(handle):
        calls.append("fdatasync")
        fdatasync(handle)

    monkeypatch.setattr(os, "pwritev", write)
    monkeypatch.setattr(os, "fdatasync", sync)
    disk = RealDisk()
    handle = disk.create(str(tmp_path / "file"))
    for offset in (0, 8):
        disk.pwrite_durable(handle, offset, [b"12345", b"678"])
    both = [0, 0, "fdatasync"]
    assert calls == ([os.RWF_DSYNC, *both, *both] if refusal else [os.RWF_DSYNC] * 4)
    assert disk.pread(handle, 0, 100) == b"12345678" * 2
    disk.close(handle)


@pytest.mark.skipif(not hasattr(os, "RWF_DSYNC"), reason="the system has no such write")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_a_durable_write_that_fails_is_not_repeated(tmp_path, monkeypatch, number):
    calls: list[object] = []

    def write(handle, views, offset, flags):
        calls.append(flags)
        raise OSError(number, "injected")

    monkeypatch.setattr(os, "pwritev", write)
    monkeypatch.setattr(os, "fdatasync", calls.append)
    disk = RealDisk()
    handle = disk.create(str(tmp_path / "file"))
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            disk.pwrite_durable(handle, 0, [b"12345"])
        assert caught.value.errno == number
    assert calls == [os.RWF_DSYNC] * 2
    disk.close(handle)


def test_directories_are_names_too_and_go_when_they_are_empty(disk: Disk, root: str):
    disk.makedirs(f"{root}/c/d")
    disk.close(disk.create(f"{root}/c/d/file"))
    assert disk.listdir(root) == ["c"]
    assert disk.listdir(f"{root}/c") == ["d"]
    for path in (f"{root}/c", f"{root}/c/d"):
        with pytest.raises(OSError) as caught:
            disk.rmdir(path)
        assert caught.value.errno == errno.ENOTEMPTY
    disk.unlink(f"{root}/c/d/file")
    disk.rmdir(f"{root}/c/d")
    assert disk.listdir(f"{root}/c") == []
    with pytest.raises(FileNotFoundError):
        disk.rmdir(f"{root}/c/d")


def test_names(disk: Disk, root: str):
    disk.close(disk.create(f"{root}/b"))
    disk.close(disk.create(f"{root}/a"))
    assert disk.listdir(root) == ["a", "b"]
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/a")
    disk.rename(f"{root}/a", f"{root}/b")
    assert disk.listdir(root) == ["b"]
    disk.unlink(f"{root}/b")
    assert disk.listdir(root) == []
    assert disk.listdir(f"{root}/nowhere") == []
    for call in (disk.open, disk.unlink, disk.size):
        with pytest.raises(FileNotFoundError):
            call(f"{root}/a")


def test_room(disk: Disk, root: str):
    assert disk.free_bytes(root) > 0
    handle = disk.create(f"{root}/file")
    disk.fallocate(handle, 100_000)
    assert disk.size(f"{root}/file") == 100_000
    disk.close(handle)
    assert len(disk.random(8)) == 8


def test_the_lock_is_held_until_it_is_closed(disk: Disk, root: str):
    path = f"{root}/LOCK"
    assert disk.holder(path) == ""
    handle = disk.lock(path)
    disk.note(handle, "epoch 7")
    assert disk.holder(path) != ""
    for _ in range(2):
        with pytest.raises(Locked):
            disk.lock(path)
    disk.close(handle)
    assert disk.holder(path) == ""
    disk.close(disk.lock(path))


def test_another_process_sees_who_holds_the_lock(tmp_path: Path):
    disk = RealDisk()
    path = str(tmp_path / "LOCK")
    handle = disk.lock(path)
    disk.note(handle, "epoch 7")
    code = (
        "import sys; from braidmq.storage.disk import RealDisk; disk = RealDisk()\n"
        "print(disk.holder(sys.argv[1]))\n"
        "try: disk.lock(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == f"pid {os.getpid()} epoch 7"
    assert lines[1].endswith(f"held by another process (pid {os.getpid()} epoch 7)")
    disk.close(handle)


def test_what_is_queued_is_nobody_elses_business(tmp_path: Path):
    disk = RealDisk()
    disk.makedirs(str(tmp_path / "a"))
    disk.close(disk.create(str(tmp_path / "a" / "file")))
    disk.close(disk.lock(str(tmp_path / "a" / "LOCK")))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "LOCK").stat().st_mode) == 0o600


def test_a_directory_whose_name_may_be_lost_is_not_there(tmp_path: Path):
    class Failing(RealDisk):
        failures = 1
        synced: list[str] = []

        def fsync_dir(self, path: str) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EIO, "injected")
            self.synced.append(path)

    disk = Failing()
    path = tmp_path / "a"
    with pytest.raises(OSError, match="injected"):
        disk.makedirs(str(path))
    assert not path.exists()
    disk.makedirs(str(path))
    assert path.is_dir() and disk.synced == [str(tmp_path)]


def test_a_short_write_goes_on_until_the_system_says_why(tmp_path: Path):
    disk = RealDisk()
    handle = disk.create(str(tmp_path / "file"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for buffers in ([bytes(60_000)] * 2, [bytes(200_000)] * 2):
            with pytest.raises(OSError, match="large") as caught:
                disk.pwrite(handle, 0, buffers)
            assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert disk.size(str(tmp_path / "file")) == 100_000
    disk.close(handle)


# What only the simulated one does ---------------------------------------------------------------


def test_what_was_not_synced_may_be_gone_in_part():
    outcomes = set()
    for seed in range(300):
        disk = SimDisk()
        handle = disk.create("/d/file")
        disk.pwrite(handle, 0, [b"a" * 1024])
        disk.fdatasync(handle)
        disk.fsync_dir("/d")
        disk.pwrite(handle, 1024, [b"b" * 1024])
        found = disk.after_power_cut(random.Random(seed))
        data = bytes(found.content("/d/file"))
        assert data[:1024] == b"a" * 1024
        outcomes.add(bytes(dict.fromkeys(data)))
    assert {b"a", b"ab", b"a\0b"} <= outcomes  # nothing, all, the later but not the earlier


def test_a_durable_write_makes_nothing_else_durable():
    outcomes = set()
    for seed in range(50):
        disk = SimDisk()
        handle = disk.create("/d/file")
        disk.fsync_dir("/d")
        disk.pwrite(handle, 0, [b"a" * SECTOR])
        disk.pwrite_durable(handle, SECTOR, [b"b" * SECTOR])
        data = bytes(disk.after_power_cut(random.Random(seed)).content("/d/file"))
        assert data[SECTOR:] == b"b" * SECTOR
        outcomes.add(data[:1])
    assert outcomes == {b"a", b"\0"}


def test_a_name_that_was_not_synced_may_be_gone_or_not():
    outcomes = set()
    for seed in range(50):
        disk = SimDisk()
        disk.close(disk.create("/d/old"))
        disk.fsync_dir("/d")
        disk.rename("/d/old", "/d/new")
        disk.close(disk.create("/d/more"))
        outcomes.add(tuple(disk.after_power_cut(random.Random(seed)).names()))
        assert disk.after_kill().names() == ["/d/more", "/d/new"]
    assert outcomes == {
        ("/d/old",),
        ("/d/new",),
        ("/d/more", "/d/old"),
        ("/d/more", "/d/new"),
    }


def test_after_a_failed_sync_the_next_one_succeeds_and_the_data_is_gone():
    disk = SimDisk()
    handle = disk.create("/d/file")
    disk.fsync_dir("/d")
    disk.pwrite(handle, 0, [b"x" * 100])
    disk.fail_at[disk.calls] = errno.EIO
    with pytest.raises(OSError, match="injected"):
        disk.fdatasync(handle)
    disk.fdatasync(handle)
    assert disk.pread(handle, 0, 100) == b"x" * 100
    assert b"x" not in disk.after_power_cut(random.Random(1)).content("/d/file")
    assert disk.faults == {"fdatasync EIO": 1}


def test_after_the_cut_nothing_goes_on():
    disk = SimDisk()
    handle = disk.create("/d/file")
    disk.crash_at = disk.calls
    with pytest.raises(PowerCut):
        disk.pwrite(handle, 0, [b"x"])
    for call in (
        lambda: disk.pwrite(handle, 0, [b"x"]),
        lambda: disk.pread(handle, 0, 1),
        lambda: disk.fdatasync(handle),
        lambda: disk.listdir("/d"),
        lambda: disk.open("/d/file"),
        lambda: disk.lock("/d/LOCK"),
    ):
        with pytest.raises(PowerCut):
            call()
    assert disk.faults["power cut"] == 1

"""FileLog when the disk fails or is full: what is refused, what goes on, what comes back."""

import errno
import random

import pytest

from braidmq.storage import DiskFull, Durability, LogFailed, StorageError
from tests.simdisk import SimDisk
from tests.unit.storage.support import DIRECTORY, Driver, check, check_bodies, reopened
from tests.unit.storage.test_filelog import opened

# Failures of the disk ---------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "after"), [("pwrite", 0), ("fdatasync", 1)])
def test_a_write_or_sync_that_fails_poisons_the_log_for_good(what, after):
    driver = opened()
    driver.publish()
    driver.commit()
    call = driver.disk.calls + after
    driver.disk.fail_at[call] = errno.EIO
    driver.publish()
    driver.wait()
    driver.scheduler.step()
    driver.publish()  # the next batch, while that one is in flight
    driver.wait()
    driver.settle()
    assert driver.disk.faults[f"{what} EIO"] == 1
    assert driver.acknowledged == 1
    assert [type(error) for error in driver.errors] == [LogFailed, LogFailed]
    assert driver.disk.calls == call + 1  # nothing was tried again
    with pytest.raises(LogFailed):
        driver.log.admit()
    with pytest.raises(LogFailed):
        driver.log.append((b"0123456789",))
    with pytest.raises(LogFailed):
        list(driver.log.checkpoint())
    driver.wait()
    fetched: list[StorageError | None] = []
    driver.log.fetch(64, lambda _, extent, error: fetched.append(error), None)
    driver.settle()
    assert [type(error) for error in driver.errors[2:] + fetched] == [LogFailed, LogFailed]
    driver.log.release(64)  # cleaning up goes on
    driver.run(driver.log.housekeep())
    assert not driver.log.checkpoint_due() and not driver.log.compaction_due()
    driver.log.close()
    assert driver.disk.calls == call + 1


def test_after_a_failed_sync_reopening_shows_what_reached_the_disk():
    for seed in range(30):
        driver = opened()
        driver.publish()
        driver.commit()
        driver.disk.fail_at[driver.disk.calls + 1] = errno.EIO
        driver.publish()
        driver.commit()
        assert driver.disk.faults["fdatasync EIO"] == 1
        driver.log.close()
        # First as the page cache shows it: a recovery that believed it would lose it here.
        again = reopened(driver, driver.disk.after_kill())
        again.open()
        check(again)
        shown = frozenset(again.ledger.slots)
        last = reopened(again, again.disk.after_power_cut(random.Random(seed)))
        last.open()
        assert frozenset(last.ledger.slots) == shown


def test_a_failed_checkpoint_sync_poisons_too():
    driver = opened()
    driver.publish()
    driver.commit()
    driver.disk.fail_at[driver.disk.calls + 2] = errno.EIO
    with pytest.raises(LogFailed, match="checkpoint"):
        driver.run(driver.log.checkpoint())
    assert driver.disk.faults["fdatasync EIO"] == 1
    with pytest.raises(LogFailed):
        driver.log.admit()


def full_disk(**options) -> Driver:
    options = {"ballast_bytes": 8192, "disk_free_bytes_min": 1024} | options
    driver = opened(SimDisk(capacity=40_000), segment_bytes=16_384, **options)
    while True:
        try:
            driver.log.admit()
        except DiskFull:
            return driver
        driver.publish(1000)
        driver.commit()


@pytest.mark.parametrize("level", [Durability.OS, Durability.SYNC])
def test_a_batch_that_was_in_flight_when_a_checkpoint_failed_is_not_heard_of_again(level):
    driver = opened()
    driver.publish()
    driver.commit()
    driver.publish()
    driver.wait(level)
    driver.disk.fail_at[driver.disk.calls] = errno.EIO
    with pytest.raises(LogFailed, match="checkpoint"):
        for job in driver.log.checkpoint():  # begins with handing over what is open
            assert job is not None
            job()
    assert len(driver.errors) == 1 and driver.acknowledged == 1
    driver.log.close()  # only now the writer gets to it
    assert driver.disk.locks == set()
    assert len(driver.errors) == 1 and driver.acknowledged == driver.acknowledged_os == 1
    driver = reopened(driver, driver.disk)
    driver.open()
    check(driver)


def test_a_full_disk_refuses_messages_keeps_what_was_admitted_and_recovers_by_itself():
    driver = full_disk()
    assert driver.disk.faults["pwrite full"] == 2  # of the room that was tried first, and of this
    assert driver.errors == []
    operations = driver.acknowledged
    assert operations == len(driver.history) - 1  # the last one succeeded, from the reserve
    assert f"{DIRECTORY}/ballast" not in driver.disk.names()
    driver.run(driver.log.housekeep())
    with pytest.raises(DiskFull):
        driver.log.admit()
    # Acknowledging goes on, and frees room.
    for key in sorted(driver.ledger.slots)[:-2]:
        driver.acknowledge(key)
        driver.commit()
    assert driver.errors == []
    check_bodies(driver)
    driver.run(driver.log.checkpoint())
    driver.run(driver.log.housekeep())
    driver.log.admit()
    assert f"{DIRECTORY}/ballast" in driver.disk.names()
    driver.publish()
    driver.commit()
    assert driver.errors == []
    again = reopened(driver, driver.disk.after_power_cut(random.Random(1)))
    again.open()
    check(again)


def test_when_even_the_reserve_does_not_suffice_the_log_fails():
    driver = full_disk()
    driver.publish(20_000)
    driver.commit()
    assert [type(error) for error in driver.errors] == [LogFailed]
    # Not even a new epoch fits. With room again it opens, and everything is there.
    disk = driver.disk.after_power_cut(random.Random(1))
    with pytest.raises(DiskFull, match="no room to open"):
        reopened(driver, disk).open()
    disk.capacity = None
    again = reopened(driver, disk)
    again.open()
    check(again)


def test_opening_a_full_disk_takes_the_room_of_the_reserve():
    driver = opened(SimDisk(capacity=40_000), segment_bytes=16_384, ballast_bytes=8192)
    driver.publish(1000)
    driver.commit()
    disk = driver.disk.after_kill()
    disk.capacity = 40_000 - disk.free_bytes("") + 10
    again = reopened(driver, disk, ballast_bytes=8192, disk_free_bytes_min=2000)
    again.open()
    check(again)
    with pytest.raises(DiskFull):
        again.log.admit()


def test_messages_are_refused_before_the_disk_is_full():
    driver = opened(SimDisk(capacity=100_000), disk_free_bytes_min=60_000, segment_bytes=1 << 20)
    driver.log.admit()
    for _ in range(50):
        driver.publish(1000)
    driver.commit()
    driver.run(driver.log.housekeep())
    with pytest.raises(DiskFull):
        driver.log.admit()
    assert not driver.log.compaction_due()


def test_a_checkpoint_without_room_leaves_the_one_before():
    driver = opened(SimDisk(capacity=30_000), segment_bytes=1 << 20)
    for _ in range(10):
        driver.publish(1000)
    driver.commit()
    driver.run(driver.log.checkpoint())
    for _ in range(17):
        driver.publish(1000)
    driver.commit()
    driver.disk.capacity = 30_000 - driver.disk.free_bytes("") + 100
    with pytest.raises(DiskFull, match="checkpoint"):
        driver.run(driver.log.checkpoint())
    assert len([name for name in driver.disk.names() if "/ckpt-" in name]) == 1
    driver.disk.capacity = None
    again = reopened(driver, driver.disk.after_power_cut(random.Random(1)))
    assert again.open().checkpoint_lsn > 0
    check(again)
    driver.run(driver.log.checkpoint())
    assert driver.log.statistics().checkpoints == 2

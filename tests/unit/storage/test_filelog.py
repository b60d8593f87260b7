"""FileLog: group commit, order, failures of the disk, a full disk, checkpoints, reading back."""

import asyncio
import errno
import os
import random
import subprocess
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from braidmq.storage import (
    Corrupt,
    Durability,
    FileLog,
    Locked,
    LogClosed,
    StorageError,
)
from braidmq.storage.record import encode_message
from tests.simdisk import SimDisk, run_steps
from tests.unit.storage.support import Driver, Ledger, check, check_bodies, reopened


def opened(disk: SimDisk | None = None, **options) -> Driver:
    driver = Driver(SimDisk() if disk is None else disk, **options)
    driver.open()
    return driver


def calls_since(driver: Driver, first: int) -> list[str]:
    return [call.split()[0] for call in driver.disk.trace[first:]]


# Group commit -----------------------------------------------------------------------------------


def test_what_is_appended_in_one_turn_is_one_write_and_one_sync():
    driver = opened()
    first = driver.disk.calls
    for _ in range(10):
        driver.publish()
        driver.wait()
    driver.settle()
    assert driver.acknowledged == 10
    assert calls_since(driver, first) == ["pwrite", "fdatasync"]
    assert driver.log.statistics().frames == 1


def test_what_arrives_while_a_batch_is_in_flight_is_the_next_batch():
    driver = opened(segment_bytes=1 << 20)
    first = driver.disk.calls
    driver.publish()
    driver.wait()
    driver.scheduler.step()  # handed over, not written yet
    for _ in range(5):
        driver.publish()
        driver.wait()
        driver.scheduler.step()
    assert driver.log.statistics().frames == 1
    driver.settle()
    assert driver.acknowledged == 6
    assert driver.log.statistics().commits == 2
    assert calls_since(driver, first) == ["pwrite", "fdatasync"] * 2


def test_without_a_sync_waiter_nothing_is_synced_until_housekeeping():
    driver = opened(segment_bytes=1 << 20)
    first = driver.disk.calls
    driver.publish()
    driver.commit(Durability.OS)
    driver.publish()
    driver.settle()
    assert calls_since(driver, first) == ["pwrite", "pwrite"]
    assert driver.log.written_lsn > driver.log.durable_lsn
    driver.publish()
    driver.log.wait(Durability.OS, lambda *_: None, None)
    behind = driver.log.next_lsn - driver.log.written_lsn
    assert driver.log.pending_bytes == behind > 0, "what is written waits in no memory"
    driver.settle()
    driver.run(driver.log.housekeep())
    assert driver.log.written_lsn == driver.log.durable_lsn
    assert calls_since(driver, first) == ["pwrite", "pwrite", "pwrite", "fdatasync"]


def test_what_lingers_has_its_own_time_however_soon_that_of_others_was_up(monkeypatch):
    driver = opened(segment_bytes=1 << 20)
    timers: list[Any] = []
    monkeypatch.setattr(driver.scheduler, "later", lambda delay_ms, call: timers.append(call))
    record = encode_message([(1, 1)], 7, b"", b"x")
    driver.log.append(record, linger=True)
    driver.publish()
    driver.wait()
    driver.settle()  # a batch took it along
    driver.log.append(record, linger=True)
    first = driver.disk.calls
    timers[0]()
    driver.settle()
    assert calls_since(driver, first) == [] and driver.log.pending_bytes
    timers[1]()
    driver.settle()
    assert calls_since(driver, first) == ["pwrite"] and not driver.log.pending_bytes
    for timer in timers:
        timer()
    driver.settle()
    assert calls_since(driver, first) == ["pwrite"]


def test_a_batch_with_both_levels_reports_written_before_durable():
    driver = opened()
    events: list[Any] = []
    driver.publish()
    driver.log.wait(Durability.SYNC, lambda name, _: events.append((name, driver.disk.calls)), "s")
    driver.log.wait(Durability.OS, lambda name, _: events.append((name, driver.disk.calls)), "o")
    driver.log.on_progress = lambda: events.append(
        (driver.log.written_lsn > 0, driver.log.durable_lsn > 0)
    )
    driver.settle()
    assert [event[0] for event in events[::2]] == ["o", "s"]
    assert events[1::2] == [(True, False), (True, True)]


def test_waiters_are_called_in_order_of_lsn_and_once():
    driver = opened()
    called: list[Any] = []
    for number in range(50):
        driver.publish(random.Random(number).choice([10, 5000]))
        driver.log.wait(Durability.SYNC, lambda n, error: called.append(n), number)
        if number % 7 == 0:
            driver.scheduler.step()
    driver.settle()
    assert called == list(range(50))


def test_a_wait_for_what_is_there_is_answered_in_a_later_turn_without_the_disk():
    driver = opened()
    driver.publish()
    driver.commit()
    first = driver.disk.calls
    called: list[Any] = []
    for level in Durability:
        driver.log.wait(level, lambda level, error: called.append((level, error)), level)
    assert called == []
    driver.settle()
    assert sorted(called) == [(level, None) for level in Durability]
    assert driver.disk.calls == first


def test_a_wait_for_sync_of_what_was_only_written_syncs():
    driver = opened()
    driver.publish()
    driver.commit(Durability.OS)
    first = driver.disk.calls
    driver.commit(Durability.SYNC)
    assert driver.acknowledged == 1
    assert calls_since(driver, first) == ["fdatasync"]


def test_a_callback_that_fails_harms_nobody_else():
    driver = opened()
    called: list[object] = []

    def bad(argument: object, error: StorageError | None) -> None:
        raise ZeroDivisionError

    driver.publish()
    driver.log.wait(Durability.SYNC, lambda n, error: called.append(n), 1)
    driver.log.wait(Durability.SYNC, bad, 2)
    driver.log.wait(Durability.SYNC, lambda n, error: called.append(n), 3)
    with pytest.raises(ZeroDivisionError):
        driver.settle()
    driver.settle()
    assert called == [1, 3]
    driver.publish()
    driver.commit()
    assert driver.acknowledged == 2


def test_frames_are_cut_at_their_limit_and_segments_roll():
    driver = opened(segment_bytes=1 << 20)
    for _ in range(40):
        driver.publish(100_000)
    driver.publish(1_000_000)
    driver.publish(10)
    driver.commit()
    statistics = driver.log.statistics()
    assert statistics.frames == 8 + 2
    assert statistics.segments > 4
    assert statistics.synced_commits == 1
    check_bodies(driver)


# Locks and life ---------------------------------------------------------------------------------


def test_two_logs_in_one_directory_are_one_too_many(tmp_path):
    options: Any = {"ballast_bytes": 0, "disk_free_bytes_min": 0}
    directory = str(tmp_path / "data")
    first, second = FileLog(directory, **options), FileLog(directory, **options)
    first.open(ledger_of(first))
    with pytest.raises(Locked, match="this process"):
        second.open(ledger_of(second))
    code = (
        "import sys; from braidmq.storage.disk import RealDisk\n"
        "try: RealDisk().lock(sys.argv[1] + '/LOCK')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, directory]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.startswith("Locked ")
    assert f"pid {os.getpid()} epoch 1" in answer
    first.close()
    third = FileLog(directory, **options)
    assert third.open(ledger_of(third)).epoch == 2
    third.close()


def ledger_of(log: FileLog) -> Ledger:
    ledger = Ledger()
    ledger.log = log
    return ledger


def test_the_number_of_a_log_stays_its_own(tmp_path: Path):
    numbers = []
    for name in ("one", "one", "other"):
        log = FileLog(str(tmp_path / name), ballast_bytes=0, disk_free_bytes_min=0)
        log.open(ledger_of(log))
        numbers.append(log.instance)
        log.close()
    assert numbers[0] == numbers[1] != numbers[2]


def test_a_failed_opening_gives_the_lock_back():
    driver = opened()
    driver.publish()
    driver.commit()
    driver.log.close()
    driver.disk.remove("/data/shard-00/MANIFEST")
    for _ in range(2):
        with pytest.raises(Corrupt):
            reopened(driver, driver.disk).open()


def test_before_open_and_after_close_it_says_so():
    driver = Driver(SimDisk())
    with pytest.raises(LogClosed, match="not open"):
        driver.log.append((b"0123456789",))
    driver.open()
    driver.publish()
    driver.wait()
    driver.log.close()
    assert driver.acknowledged == 1  # what was appended is committed
    driver.log.close()
    for call in (driver.log.admit, lambda: driver.log.append((b"0123456789",))):
        with pytest.raises(LogClosed):
            call()
    driver.wait()
    driver.settle()
    assert [type(error) for error in driver.errors] == [LogClosed]


def test_close_commits_what_is_in_flight_and_what_is_open():
    driver = opened()
    driver.publish()
    driver.wait()
    driver.scheduler.step()
    driver.publish(3000)
    driver.wait(Durability.OS)
    driver.publish()
    driver.log.close()
    again = reopened(driver, driver.disk.after_power_cut(random.Random(1)))
    again.open()
    check(again, 3)


def test_releases_in_the_open_batch_and_of_moved_segments_balance():
    driver = opened()
    for number in range(30):
        key = driver.publish(500)
        if number % 3:
            driver.acknowledge(key)  # before it was even handed over
        if number % 4 == 0:
            driver.commit()
    driver.commit()
    live = sum(segment.live for segment in driver.log._segments.items)
    assert live == len(driver.ledger.slots) == 10
    again = reopened(driver, driver.disk.after_kill())
    again.open()
    assert sum(segment.live for segment in again.log._segments.items) == 10
    totals = [segment.total for segment in again.log._segments.items]
    assert sum(totals) == 30


# Checkpoints ------------------------------------------------------------------------------------


def test_a_checkpoint_is_due_by_size_and_by_time():
    driver = opened(segment_bytes=64 << 20)
    assert not driver.log.checkpoint_due()
    driver.publish(2 << 20)
    driver.commit()
    assert not driver.log.checkpoint_due()
    driver.scheduler.now += 60_000
    assert driver.log.checkpoint_due()
    driver.run(driver.log.checkpoint())
    assert not driver.log.checkpoint_due()
    for _ in range(33):
        driver.publish(2 << 20)
        driver.settle()
    assert driver.log.checkpoint_due()


def test_a_checkpoint_during_which_everything_changes_gives_the_same_state():
    for seed in range(25):
        rng = random.Random(seed)
        driver = opened()

        def change(rng=rng, driver=driver) -> None:
            for _ in range(rng.randrange(3)):
                driver.publish(rng.choice([10, 900]))
            if driver.ledger.slots and rng.random() < 0.6:
                key = rng.choice(sorted(driver.ledger.slots))
                if rng.random() < 0.3 and key[0] == 1:
                    driver.link(key, 9)
                else:
                    driver.acknowledge(key)
            if rng.random() < 0.5:
                driver.settle()

        for _ in range(40):
            change()
        jobs = driver.log.checkpoint()
        other = driver.log.compact()
        for job in jobs:
            change()
            if job is not None:
                job()
            change()
            run_steps(iter([j for j in [next(other, None)] if j is not None]))
        driver.commit()
        again = reopened(driver, driver.disk.after_power_cut(rng))
        assert again.open().checkpoint_lsn > 0
        assert again.ledger.slots == driver.ledger.slots
        check_bodies(again)


def test_a_second_checkpoint_without_appends_does_nothing():
    driver = opened()
    driver.publish()
    driver.commit()
    driver.run(driver.log.checkpoint())
    first = driver.disk.calls
    driver.run(driver.log.checkpoint())
    assert driver.disk.calls == first
    driver.publish()  # open, not handed over
    jobs = driver.log.checkpoint()
    driver.run(jobs)
    assert driver.log.statistics().checkpoints == 2


def test_a_restart_after_checkpoint_and_close_replays_nothing():
    driver = opened()
    for _ in range(10):
        driver.publish(500)
    driver.run(driver.log.checkpoint())
    driver.log.close()
    again = reopened(driver, driver.disk)
    report = again.open()
    assert (report.frames, report.bytes_replayed, report.bytes_reappended) == (0, 0, 0)
    check(again, 10)
    check_bodies(again)


# Reading back -----------------------------------------------------------------------------------


def cold(**options) -> Driver:
    driver = opened(segment_bytes=1 << 20, **options)
    for number in range(300):
        driver.publish(1000 + number)
        if number % 10 == 0:
            driver.commit()
    driver.publish(700_000)
    driver.commit()
    again = reopened(driver, driver.disk.after_kill().copy())
    again.open()
    return again


def test_cold_records_are_read_in_long_runs():
    driver = cold()
    for key in sorted(driver.ledger.slots):
        driver.body(key)
    assert driver.log.statistics().fetches <= 4


def test_fetches_of_neighbours_share_one_read():
    driver = cold()
    got: list[Any] = []
    keys = sorted(driver.ledger.slots)[:100]
    for key in keys:
        lsn = driver.ledger.slots[key]
        driver.log.fetch(lsn, lambda lsn, extent, error: got.append(lsn), lsn)
    reads = driver.disk.reads
    driver.settle()
    assert driver.disk.reads == reads + 1
    assert got == [driver.ledger.slots[key] for key in keys]


def test_a_damaged_record_is_an_error_to_who_wants_it_and_to_nobody_else():
    driver = cold()
    keys = sorted(driver.ledger.slots)
    lsn = driver.ledger.slots[keys[50]]
    driver.disk.damage("/data/shard-00/wal-0000000000000000-00000001.log", lsn + 500)
    for key in keys:
        if key == keys[50]:
            with pytest.raises(Corrupt, match="fails its CRC") as caught:
                driver.body(key)
            assert caught.value.lsn == lsn
        else:
            driver.body(key)


def test_a_read_error_is_an_error_to_who_wants_it():
    driver = cold()
    key, other = sorted(driver.ledger.slots)[:2]
    driver.disk.fail_reads[driver.disk.reads] = errno.EIO
    with pytest.raises(Corrupt, match="cannot be read"):
        driver.body(key)
    driver.body(other)
    driver.log.admit()


def test_what_is_nowhere_is_an_error_in_a_later_turn():
    driver = cold()
    got: list[object] = []
    driver.log.fetch(1 << 50, lambda _, extent, error: got.append(error), None)
    assert got == []
    driver.settle()
    assert isinstance(got[0], Corrupt)


def test_what_was_just_appended_can_be_read_at_every_stage():
    driver = opened(segment_bytes=1 << 20)
    keys = [driver.publish(size) for size in (5, 300_000, 300_000, 0, 10)]
    for key in keys:  # open
        assert driver.body(key)
    extent = driver.log.get(driver.ledger.slots[keys[4]])
    assert extent is not None and len(extent.buffer) < 100
    driver.wait()
    driver.scheduler.step()  # in flight
    for key in keys:
        assert driver.log.get(driver.ledger.slots[key]) is not None
    driver.settle()
    for key in keys:
        assert driver.log.get(driver.ledger.slots[key]) is not None


def test_adopt_counts_single_references():
    driver = opened()
    key = driver.publish()
    lsn = driver.ledger.slots[key]
    driver.log.adopt(lsn)
    driver.log.release(lsn)
    driver.commit()
    driver.log.adopt(lsn)
    driver.log.adopt_many(array("Q", [lsn]))
    assert driver.log._segments.items[0].live == 3
    assert driver.log.pending_bytes == 0
    driver.publish()
    assert driver.log.pending_bytes > 0


# Threads ----------------------------------------------------------------------------------------


class LoopScheduler:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def soon(self, callback) -> None:
        self.loop.call_soon(callback)

    def soon_from_thread(self, callback) -> None:
        self.loop.call_soon_threadsafe(callback)

    def later(self, delay_ms, callback) -> None:
        self.loop.call_later(delay_ms / 1000, callback)

    def now_ms(self) -> int:
        return int(time.time() * 1000)


def set_result(future: Any, result: object) -> None:
    future.set_result(result)


async def test_with_real_threads_and_files(tmp_path: Path):
    directory = str(tmp_path / "deep" / "data")
    keys: set[tuple[int, int]] = set()
    for cycle in range(3):
        log = FileLog(
            directory,
            segment_bytes=200_000,
            cache_bytes_max=50_000,
            ballast_bytes=1 << 20,
            disk_free_bytes_min=0,
        )
        ledger = ledger_of(log)
        await asyncio.to_thread(log.open, ledger)
        assert set(ledger.slots) == keys
        log.start(LoopScheduler())
        futures = []
        for number in range(300):
            key = (1, cycle * 1000 + number)
            lsn = log.append(encode_message([key], 7, b"", bytes(3000)), references=1)
            ledger.slots[key] = lsn
            future = asyncio.get_running_loop().create_future()
            log.wait(Durability.SYNC, set_result, future)
            futures.append(future)
            if number % 20 == 0:
                await asyncio.sleep(0)
        assert set(await asyncio.gather(*futures)) == {None}
        for steps in (log.housekeep(), log.checkpoint()):
            for job in steps:
                if job is not None:
                    await asyncio.to_thread(job)
        for lsn in list(ledger.slots.values())[::50]:
            found = asyncio.get_running_loop().create_future()
            log.fetch(lsn, lambda f, *answer: set_result(f, answer), found)
            extent, error = await found
            assert error is None and extent.start <= lsn < extent.end
        keys = set(ledger.slots)
        log.close()
    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700
    files = [path for path in (tmp_path / "deep" / "data").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_what_may_linger_is_written_though_nobody_waits(tmp_path: Path):
    log = FileLog(str(tmp_path / "data"), ballast_bytes=1 << 20, disk_free_bytes_min=0)
    log.open(ledger_of(log))
    log.start(LoopScheduler())
    for _ in range(3):
        log.append(encode_message([(1, 1)], 7, b"", b"x"), linger=True)
        assert log.pending_bytes > 0
        async with asyncio.timeout(10):
            while log.pending_bytes:  # noqa: ASYNC110  - nobody may wait for it
                await asyncio.sleep(0.001)
    assert log.statistics().commits == 3 and log.statistics().synced_commits == 0
    log.close()

"""Recovery: crashes at every call of the disk, torn tails, damage, and what must be refused."""

import random
from collections.abc import Callable

import pytest

from braidmq.storage import Corrupt, Durability, FormatUnknown, frame, recovery
from braidmq.storage.checkpoint import read_manifest, write_manifest
from braidmq.storage.frame import encode_frame
from braidmq.storage.record import encode_ack
from braidmq.storage.tools import verify
from braidmq.storage.writer import LogWriter
from tests.simdisk import PowerCut, SimDisk
from tests.unit.storage.support import (
    SHARD,
    Driver,
    check,
    check_bodies,
    frames_of,
    last_segment,
    reopened,
    rngs,
    segments_of,
    settled_prefix,
    written,
)


def script(driver: Driver) -> None:
    """A workload that goes through everything a log does."""
    driver.open()
    first = [driver.publish() for _ in range(3)]
    driver.commit()
    driver.publish(700, copies=2)
    driver.publish(900)
    driver.wait()
    driver.publish(100)
    driver.settle()
    driver.acknowledge(first[0], first[2])
    driver.commit(Durability.OS)
    for _ in range(6):
        driver.publish(600)
        driver.wait(Durability.OS)
    driver.settle()
    driver.run(driver.log.housekeep())
    driver.run(driver.log.checkpoint())
    keys = sorted(key for key in driver.ledger.slots if key[0] == 1)
    driver.acknowledge(*keys[1:5])
    driver.commit()
    driver.publish(50)
    driver.run(driver.log.compact())
    driver.commit()
    driver.run(driver.log.checkpoint())
    driver.publish(1500)
    driver.publish(10)
    driver.commit()
    driver.run(driver.log.housekeep())
    driver.run(driver.log.housekeep())
    driver.log.close()


def crashed_at(call: int, work: Callable[[Driver], None] = script) -> Driver:
    driver = Driver(SimDisk())
    driver.disk.crash_at = call
    try:
        work(driver)
    except PowerCut:
        pass
    return driver


def calls_of_script() -> int:
    driver = Driver(SimDisk())
    script(driver)
    assert driver.log.statistics().segments > 2
    assert driver.log.statistics().compacted_bytes > 0
    assert driver.log.statistics().checkpoints == 2
    return driver.disk.calls


def test_a_power_cut_at_every_call_loses_nothing_acknowledged():
    calls = calls_of_script()
    assert calls > 60
    for call in range(calls):
        crashed = crashed_at(call)
        assert crashed.disk.faults["power cut"] == 1
        for rng in rngs(4, call):
            driver = reopened(crashed, crashed.disk.after_power_cut(rng))
            driver.open()
            check(driver)
            check_bodies(driver)


def test_after_a_kill_at_every_call_even_what_was_only_written_is_there():
    for call in range(calls_of_script()):
        crashed = crashed_at(call)
        driver = reopened(crashed, crashed.disk.after_kill())
        driver.open()
        check(driver, crashed.acknowledged_os)
        # What recovery has shown is served: from now on not even a power cut may take it.
        settled_prefix(driver)
        again = reopened(driver, driver.disk.after_power_cut(random.Random(call)))
        again.open()
        check(again)
        check_bodies(again)


@pytest.mark.slow
def test_a_crash_at_every_call_of_recovery_twice_loses_nothing():
    for call in range(0, calls_of_script()):
        crashed = crashed_at(call)
        for kill in (False, True):
            rng = random.Random(call)
            for step in range(100):
                disk = crashed.disk.after_kill() if kill else crashed.disk.after_power_cut(rng)
                one = reopened(crashed, disk)
                disk.crash_at = step
                try:
                    one.open()
                except PowerCut:
                    pass
                finished = disk.crash_at >= disk.calls
                disk = disk.after_power_cut(rng)
                if step % 3 == 0:
                    two = reopened(crashed, disk)
                    disk.crash_at = step // 2
                    try:
                        two.open()
                    except PowerCut:
                        pass
                    disk = disk.after_power_cut(rng)
                last = reopened(crashed, disk)
                last.open()
                check(last)
                if finished:
                    break
            else:
                raise AssertionError("recovery never ends")


def test_work_goes_on_after_each_of_many_crashes():
    for seed in range(60):
        rng = random.Random(seed)
        driver = Driver(SimDisk())
        driver.open()
        for _ in range(6):
            driver.disk.crash_at = driver.disk.calls + rng.randrange(40)
            try:
                while True:
                    for _ in range(rng.randrange(1, 5)):
                        driver.publish(rng.choice([10, 100, 800, 2500]))
                    keys = sorted(driver.ledger.slots)
                    for key in rng.sample(keys, rng.randrange(min(len(keys), 4) + 1)):
                        driver.acknowledge(key)
                    driver.wait(rng.choice([Durability.SYNC, Durability.OS]))
                    if rng.random() < 0.7:
                        driver.settle()
                    if rng.random() < 0.15:
                        driver.run(driver.log.checkpoint())
                    if rng.random() < 0.15:
                        driver.run(driver.log.compact())
                    if rng.random() < 0.15:
                        driver.run(driver.log.housekeep())
            except PowerCut:
                pass
            disk = driver.disk.after_power_cut(rng)
            other = reopened(driver, disk)
            other.open()
            check(other)
            check_bodies(other)
            settled_prefix(other)
            driver = other


def crashes_that_lose(seeds: int = 4) -> int:
    """How many of the crashes of the first test go wrong, in whatever way."""
    wrong = 0
    for call in range(calls_of_script()):
        crashed = crashed_at(call)
        for rng in rngs(seeds, call):
            try:
                driver = reopened(crashed, crashed.disk.after_power_cut(rng))
                driver.open()
                check(driver)
                check_bodies(driver)
            except Exception:
                wrong += 1
    return wrong


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (LogWriter, "_sync"),  # acknowledged before it is on disk
        (SimDisk, "fsync_dir"),  # a rename, or a new segment, without its directory
        (SimDisk, "fdatasync"),
        (recovery, "frame_is_intact"),  # the CRC is not looked at
    ],
)
def test_the_simulation_catches_a_bug_that_is_put_in(monkeypatch, owner, name):
    assert crashes_that_lose(1) == 0
    monkeypatch.setattr(owner, name, lambda *arguments: True)
    assert crashes_that_lose() > 0


def test_without_writing_the_tail_again_a_second_cut_takes_what_was_served(monkeypatch):
    def reappend(self, handle, base, end, prev_crc, epoch):
        result = original(self, handle, base, end, prev_crc, epoch)
        monkeypatch.setattr(SimDisk, "fdatasync", lambda disk, handle: None)
        return result

    original = recovery._Recovery._reappend
    wrong = 0
    for call in range(calls_of_script()):
        crashed = crashed_at(call)
        driver = reopened(crashed, crashed.disk.after_kill())
        with monkeypatch.context() as patched:
            patched.setattr(recovery._Recovery, "_reappend", reappend)
            driver.open()
        monkeypatch.undo()
        settled_prefix(driver)
        try:
            again = reopened(driver, driver.disk.after_power_cut(random.Random(call)))
            again.open()
            check(again)
        except (AssertionError, Corrupt):
            wrong += 1
    assert wrong > 0


# Torn tails and damage --------------------------------------------------------------------------


def with_unacknowledged_tail() -> tuple[Driver, SimDisk]:
    """Three frames that were acknowledged, three that were only written, killed there."""
    driver = Driver(SimDisk(), segment_bytes=1 << 20)
    driver.open()
    for level in [Durability.SYNC] * 3 + [Durability.OS] * 3:
        driver.publish(70)
        driver.publish(30)
        driver.commit(level)
    return driver, driver.disk.after_kill().copy()


def test_a_tail_cut_at_every_byte_keeps_every_whole_frame():
    driver, disk = with_unacknowledged_tail()
    path = last_segment(disk)
    headers = frames_of(disk, path)
    whole = written(disk, path)
    ends = [header.lsn + header.length for header in headers]
    for size in range(ends[2], len(whole) + 1):
        for room in (0, 5, 64, len(whole)):  # it may end within zeros that were there before
            content = whole[:size] + bytes(room)
            kept = [end for end in ends if content[:end] == whole[:end]]
            other = disk.copy()
            other.replace(path, content)
            found = reopened(driver, other)
            report = found.open()
            assert (report.frames, report.end_lsn) == (len(kept), kept[-1])
            assert len(found.ledger.slots) == 2 * len(kept)
            assert report.bytes_dropped == max(len(content.rstrip(b"\0")) - kept[-1], 0)
            check_bodies(found)


@pytest.mark.parametrize("filler", ["zeros", "garbage", "a stale frame"])
def test_a_filled_tail_is_dropped(filler):
    driver, disk = with_unacknowledged_tail()
    path = last_segment(disk)
    headers = frames_of(disk, path)
    whole = written(disk, path)
    for header in headers[3:]:
        keep = header.lsn - headers[0].lsn
        tail = {
            "zeros": bytes(len(whole) - keep),
            "garbage": random.Random(keep).randbytes(len(whole) - keep),
            "a stale frame": whole[: headers[0].length],
        }[filler]
        other = disk.copy()
        other.replace(path, whole[:keep] + tail)
        found = reopened(driver, other)
        assert found.open().bytes_dropped == len(tail.rstrip(b"\0"))
        assert len(found.ledger.slots) == 2 * headers.index(header)


def test_a_bit_that_flips_in_what_was_not_acknowledged_ends_the_log_there():
    driver, disk = with_unacknowledged_tail()
    path = last_segment(disk)
    headers = frames_of(disk, path)
    for header in headers[3:]:
        for offset in range(0, header.length, 7):
            other = disk.copy()
            other.damage(path, header.lsn - headers[0].lsn + offset, offset % 8)
            found = reopened(driver, other)
            assert found.open().end_lsn == header.lsn
            assert len(found.ledger.slots) == 2 * headers.index(header)


def test_a_bit_that_flips_in_what_was_acknowledged_is_refused():
    driver, disk = with_unacknowledged_tail()
    path = last_segment(disk)
    headers = frames_of(disk, path)
    # The third frame's durability is told by nobody but the fourth's header.
    for header in headers[:3]:
        for offset in range(0, header.length):
            other = disk.copy()
            other.damage(path, header.lsn - headers[0].lsn + offset, offset % 8)
            found = reopened(driver, other)
            with pytest.raises(Corrupt) as caught:
                found.open()
            assert caught.value.lsn == header.lsn
            assert f"damaged at lsn {header.lsn}" in str(caught.value)


def test_after_a_clean_close_damage_to_the_last_frame_is_refused():
    driver = Driver(SimDisk())
    driver.open()
    driver.publish()
    driver.commit()
    driver.log.close()
    disk = driver.disk
    disk.damage(last_segment(disk), 70)
    with pytest.raises(Corrupt, match="fails its CRC"):
        reopened(driver, disk).open()


def test_when_idle_a_frame_is_written_that_vouches_for_the_last_one():
    driver = Driver(SimDisk())
    driver.open()
    driver.publish()
    driver.commit()
    for _ in range(3):
        driver.run(driver.log.housekeep())
    disk = driver.disk.after_kill()
    headers = frames_of(disk, last_segment(disk))
    assert [header.count for header in headers] == [1, 0]
    assert headers[1].durable_lsn == headers[1].lsn
    disk.damage(last_segment(disk), 70)
    with pytest.raises(Corrupt):
        reopened(driver, disk).open()


def test_with_accept_loss_it_goes_on_and_says_what_was_lost():
    driver, disk = with_unacknowledged_tail()
    path = last_segment(disk)
    header = frames_of(disk, path)[1]
    disk.damage(path, header.lsn + 80)
    found = reopened(driver, disk, accept_loss=True)
    report = found.open()
    assert report.accepted_loss is not None
    assert f"damaged at lsn {header.lsn}" in report.accepted_loss
    assert len(found.ledger.slots) == 2
    assert report.end_lsn > header.lsn  # positions of lost records are never used again
    settled_prefix(found)
    found.next_seq = 100
    found.publish()
    found.commit()
    # From now on it opens without the flag, before and after a checkpoint.
    again = reopened(found, found.disk.after_power_cut(random.Random(1)))
    again.open()
    check(again)
    check_bodies(again)
    again.run(again.log.checkpoint())
    last = reopened(again, again.disk.after_power_cut(random.Random(2)))
    last.open()
    check(last)
    check_bodies(last)


# What is missing --------------------------------------------------------------------------------


def with_checkpoint() -> Driver:
    driver = Driver(SimDisk())
    driver.open()
    for _ in range(12):
        driver.publish(600)
        driver.commit()
    driver.run(driver.log.checkpoint())
    for _ in range(6):
        driver.publish(600)
        driver.commit()
    driver.log.close()
    return driver


def test_every_missing_segment_is_named():
    driver = with_checkpoint()
    names = segments_of(driver.disk)
    assert len(names) > 6
    for name in names:
        disk = driver.disk.copy()
        disk.remove(name)
        with pytest.raises(Corrupt) as caught:
            reopened(driver, disk).open()
        text = str(caught.value)
        assert "missing" in text or "ends there" in text or "acknowledged" in text


def test_every_shortened_segment_is_refused():
    driver = with_checkpoint()
    for name in segments_of(driver.disk):
        disk = driver.disk.copy()
        disk.replace(name, written(disk, name)[:-1])
        with pytest.raises(Corrupt):
            reopened(driver, disk).open()


def test_a_missing_or_damaged_manifest_is_never_an_empty_log():
    driver = with_checkpoint()
    path = f"{SHARD}/MANIFEST"
    disk = driver.disk.copy()
    disk.remove(path)
    with pytest.raises(Corrupt, match="MANIFEST is missing, but there is data"):
        reopened(driver, disk).open()
    size = len(driver.disk.content(path))
    for offset in range(size):
        disk = driver.disk.copy()
        disk.damage(path, offset, offset % 8)
        with pytest.raises(Corrupt, match="MANIFEST is damaged"):
            reopened(driver, disk).open()
    for length in range(size):
        disk = driver.disk.copy()
        disk.replace(path, bytes(driver.disk.content(path))[:length])
        with pytest.raises(Corrupt):
            reopened(driver, disk).open()


def test_a_missing_or_damaged_checkpoint_is_refused():
    driver = with_checkpoint()
    path = next(name for name in driver.disk.names() if "/ckpt-" in name)
    disk = driver.disk.copy()
    disk.remove(path)
    with pytest.raises(Corrupt, match="is missing; MANIFEST names it"):
        reopened(driver, disk).open()
    whole = bytes(driver.disk.content(path))
    for offset in range(len(whole)):
        if offset in range(16, 24):
            continue  # the epoch in the header is for people
        disk = driver.disk.copy()
        disk.damage(path, offset, offset % 8)
        with pytest.raises((Corrupt, FormatUnknown)):
            reopened(driver, disk).open()
    for length in range(len(whole)):
        disk = driver.disk.copy()
        disk.replace(path, whole[:length])
        with pytest.raises(Corrupt):
            reopened(driver, disk).open()


def test_another_format_is_refused_by_its_number():
    driver = with_checkpoint()
    manifest = read_manifest(driver.disk, SHARD)
    manifest.version = 9
    write_manifest(driver.disk, SHARD, manifest)
    with pytest.raises(FormatUnknown, match=f"format 9; this BraidMQ reads format {frame.VERSION}"):
        reopened(driver, driver.disk).open()


def test_opening_and_closing_leaves_no_trail_of_files():
    driver = Driver(SimDisk())
    driver.open()
    driver.publish()
    driver.commit()
    driver.log.close()
    for _ in range(5):
        driver = reopened(driver, driver.disk)
        assert driver.open().bytes_reappended == 0
        driver.log.close()
    assert len(segments_of(driver.disk)) == 2
    assert read_manifest(driver.disk, SHARD).epoch == 6


def test_a_record_larger_than_a_frame_or_a_window_survives():
    driver = Driver(SimDisk(), segment_bytes=1 << 20)
    driver.open()
    for size in (10, 600_000, 5_000_000, 10):
        driver.publish(size)
    driver.commit()
    found = reopened(driver, driver.disk.after_power_cut(random.Random(3)), cache_bytes_max=0)
    report = found.open()
    assert report.records == 4
    check(found)
    check_bodies(found)
    sizes = sorted(len(found.body(key)) for key in found.ledger.slots)
    assert sizes[-2:] == [600_000, 5_000_000]


# Frames that are intact and wrong ---------------------------------------------------------------


def with_frame(payload: bytes, count: int, **changes: int) -> tuple[Driver, SimDisk]:
    """A log behind whose only frame stands another one, sealed by whatever wrote ``payload``."""
    driver = Driver(SimDisk())
    driver.open()
    driver.publish()
    driver.commit()
    disk = driver.disk.after_kill().copy()
    path = last_segment(disk)
    (header,) = frames_of(disk, path)
    fields = {
        "lsn": header.length,
        "durable_lsn": header.length,
        "epoch": 1,
        "time_ms": 5,
        "prev_crc": header.crc,
    } | changes
    frame = encode_frame(payload, count, **fields)
    disk.replace(path, written(disk, path) + frame)
    return driver, disk


@pytest.mark.parametrize(
    "changes", [{"lsn": 8}, {"epoch": 2}, {"epoch": 0}, {"prev_crc": 1}], ids=str
)
def test_a_frame_of_elsewhere_ends_the_log(changes):
    driver, disk = with_frame(b"", 0, durable_lsn=0, **changes)
    found = reopened(driver, disk)
    report = found.open()
    assert report.frames == 1
    assert 0 < report.bytes_dropped <= 64  # but for the zeros that it ends with


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (encode_ack(1, 0, [1]), 2),
        (encode_ack(1, 0, [1]) * 2, 1),
        (encode_ack(1, 0, [1])[:-1], 1),
        (b"\xff" * 40, 1),
        (b"short", 1),
    ],
)
def test_records_that_do_not_fit_their_frame_are_damage(payload, count):
    driver, disk = with_frame(payload, count)
    with pytest.raises(Corrupt, match=r"does not fit|left over"):
        reopened(driver, disk).open()
    assert list(verify("/data", disk))[-1].problems


def test_a_frame_of_a_later_version_is_refused_by_its_number(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(frame, "VERSION", 7)
        driver, disk = with_frame(encode_ack(1, 0, [1]), 1)
    with pytest.raises(FormatUnknown, match="frame format 7, codec 0"):
        reopened(driver, disk).open()


def test_progress_is_told_now_and_then():
    driver = Driver(SimDisk())
    driver.open()
    for _ in range(300):
        driver.publish()
        driver.commit()
    found = reopened(driver, driver.disk.after_kill())
    told: list[tuple[int, int]] = []
    found.log.open(found.ledger, lambda done, total: told.append((done, total)))
    assert len(told) >= 2
    assert told == sorted(told) and told[-1][0] <= told[-1][1]

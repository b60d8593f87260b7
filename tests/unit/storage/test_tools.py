"""Verify and dump: they see everything, change nothing, and name what is damaged."""

import random
from typing import Any

import pytest

from braidmq.storage import StorageError
from braidmq.storage.tools import Verification, dump, verify
from tests.simdisk import SimDisk
from tests.unit.storage.support import DIRECTORY, Driver, body_of, reopened
from tests.unit.storage.test_recovery import frames_of, last_segment, script


def verified(disk: SimDisk) -> Verification:
    calls = disk.calls
    result = list(verify(DIRECTORY, disk))[-1]
    assert disk.calls == calls  # nothing was changed
    return result


def test_a_log_that_went_through_everything_is_intact():
    driver = Driver(SimDisk())
    script(driver)
    result = verified(driver.disk)
    assert result.problems == []
    assert result.holder == ""
    assert result.frames and result.records >= result.frames
    assert result.bytes_done == result.bytes_total
    assert result.end_lsn == driver.log.durable_lsn
    assert result.segments == driver.log.statistics().segments
    assert result.checkpoint_sections > 1


def test_after_crashes_too():
    driver = Driver(SimDisk())
    for seed in range(20):
        driver.open()
        for _ in range(4):
            driver.publish(700)
            driver.commit()
        driver.publish(900)
        if seed % 5 == 4:
            driver.run(driver.log.checkpoint())
        driver = reopened(driver, driver.disk.after_power_cut(random.Random(seed)))
        assert verified(driver.disk).problems == []


def test_it_says_who_has_the_directory_open():
    driver = Driver(SimDisk())
    driver.open()
    assert verified(driver.disk).holder == "epoch 1"


def test_an_unfinished_tail_is_no_problem():
    driver = Driver(SimDisk())
    driver.open()
    driver.publish()
    driver.commit()
    disk = driver.disk.after_kill().copy()
    path = last_segment(disk)
    disk.replace(path, bytes(disk.content(path)) + b"half a frame")
    result = verified(disk)
    assert result.problems == []
    assert result.tail_bytes == 12


def test_each_damaged_byte_of_what_was_acknowledged_is_found():
    driver = Driver(SimDisk())
    driver.open()
    for _ in range(5):
        driver.publish(500)
        driver.commit()
    driver.log.close()
    for name in [name for name in driver.disk.names() if "/wal-" in name]:
        for offset in range(0, len(driver.disk.content(name)), 13):
            disk = driver.disk.copy()
            disk.damage(name, offset, offset % 8)
            assert len(verified(disk).problems) == 1


def test_a_missing_segment_and_a_damaged_checkpoint_are_found():
    driver = Driver(SimDisk())
    script(driver)
    for name in driver.disk.names():
        if "/wal-" in name:
            disk = driver.disk.copy()
            disk.remove(name)
            assert verified(disk).problems
        if "/ckpt-" in name:
            disk = driver.disk.copy()
            disk.damage(name, 40)
            assert verified(disk).problems


def test_dump_yields_every_record_in_order():
    driver = Driver(SimDisk())
    driver.open()
    first = driver.publish(copies=2)
    second = driver.publish(3000)
    driver.link(second, 9)
    driver.acknowledge(first)
    driver.commit()
    driver.log.close()
    rows = list(dump(DIRECTORY, disk=driver.disk))
    assert [row["type"] for row in rows] == ["message", "message", "link", "ack"]
    lsns: list[Any] = [row["lsn"] for row in rows]
    assert lsns == sorted(lsns)
    assert rows[0]["targets"] == ((1, 1), (2, 1))
    assert rows[0]["body"] == body_of((1, 1))
    assert rows[3]["sequences"] == [1]
    later = list(dump(DIRECTORY, lsns[2], driver.disk))
    assert later == rows[2:]


def test_dump_steps_over_damage_and_says_where():
    driver = Driver(SimDisk(), segment_bytes=1 << 20)
    driver.open()
    for _ in range(5):
        driver.publish()
        driver.commit()
    driver.log.close()
    path = last_segment(driver.disk)
    header = frames_of(driver.disk, path)[2]
    driver.disk.damage(path, header.lsn + 80)
    rows = list(dump(DIRECTORY, disk=driver.disk))
    assert [row["type"] for row in rows] == ["message"] * 2 + ["damaged"] + ["message"] * 2
    assert rows[2]["lsn"] == header.lsn
    assert rows[2]["bytes"] == header.length
    assert "CRC" in str(rows[2]["reason"])


def test_a_directory_without_a_log_is_an_error():
    with pytest.raises(StorageError, match="holds no log"):
        list(verify(DIRECTORY, SimDisk()))
    with pytest.raises(StorageError, match="holds no log"):
        list(dump(DIRECTORY, disk=SimDisk()))

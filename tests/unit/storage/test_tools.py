"""Verify and dump: they see everything, change nothing, and name what is damaged."""

import random
from typing import Any

import pytest

from braidmq.storage import StorageError
from braidmq.storage.coldreader import cold_path
from braidmq.storage.streams import encode_cold, encode_cursor
from braidmq.storage.tools import Verification, dump, verify
from tests.simdisk import SimDisk
from tests.unit.storage.cold_support import SHARD, make_blocks, rows
from tests.unit.storage.support import (
    DIRECTORY,
    Driver,
    body_of,
    frames_of,
    last_segment,
    reopened,
    written,
)
from tests.unit.storage.test_recovery import script


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
    room = len(disk.content(path)) - len(written(disk, path))
    assert room
    for content in (b"half a frame", b"half a frame" + bytes(room), bytes(70) + b"its end"):
        disk.replace(path, written(driver.disk, path) + content)
        result = verified(disk)
        assert result.problems == []
        assert result.tail_bytes == len(content.rstrip(b"\0"))
        assert result.bytes_done == result.bytes_total


def test_each_damaged_byte_of_what_was_acknowledged_is_found():
    driver = Driver(SimDisk())
    driver.open()
    for _ in range(5):
        driver.publish(500)
        driver.commit()
    driver.log.close()
    for name in [name for name in driver.disk.names() if "/wal-" in name]:
        for offset in range(0, len(written(driver.disk, name)), 13):
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


def with_stream() -> tuple[Driver, str]:
    """A log with a block, a cursor and a cold file; the path of the file."""
    driver = Driver(SimDisk())
    driver.open()
    blocks = make_blocks(1, 2)
    driver.log.append((blocks[0].bytes,), references=1)
    driver.log.append((encode_cursor(9, SHARD, 4, 5, 6),))
    file = driver.log.cold.write(SHARD, 1, blocks)
    driver.log.append((encode_cold(file, [3]),))
    driver.commit()
    driver.log.close()
    return driver, cold_path(f"{DIRECTORY}/shard-00/cold", file)


def test_blocks_cursors_and_cold_files_are_known():
    driver, path = with_stream()
    result = verified(driver.disk)
    assert result.problems == []
    assert (result.cold_files, result.cold_records) == (1, 6)
    assert result.bytes_done == result.bytes_total
    found = list(dump(DIRECTORY, disk=driver.disk))
    assert [row["type"] for row in found] == ["stream"] * 3 + ["cursor", "cold"] + ["stream"] * 6
    for part in (found[:3], found[5:]):
        expected = rows(make_blocks(1, 2))[: len(part)]
        names = ("number", "time_ms", "key", "body")
        assert [tuple(row[name] for name in names) for row in part] == expected
    assert {row["file"] for row in found[5:]} == {path.removeprefix(f"{DIRECTORY}/shard-00/")}
    assert [found[3][name] for name in ("group", "shard", "number", "epoch")] == [9, SHARD, 4, 5]
    assert found[4]["replaces"] == (3,)
    lsn = found[3]["lsn"]
    assert isinstance(lsn, int)
    assert list(dump(DIRECTORY, lsn, driver.disk)) == found[3:5]


def test_damage_in_a_cold_file_is_found():
    driver, path = with_stream()
    for offset in range(0, len(driver.disk.content(path)), 7):
        disk = driver.disk.copy()
        disk.damage(path, offset, offset % 8)
        result = verified(disk)
        assert len(result.problems) == 1 and path in result.problems[0]
        assert result.bytes_done == result.bytes_total
        *_, last = dump(DIRECTORY, disk=disk)
        assert (last["type"], last["lsn"]) == ("damaged", 0)
        assert path in str(last["reason"])


def test_a_cold_file_that_a_running_broker_has_removed_meanwhile_is_no_problem():
    driver, path = with_stream()
    for read in (verify, dump):
        disk = driver.disk.copy()
        walk = iter(read(DIRECTORY, disk=disk))
        next(walk)
        disk.remove(path)
        found: Any = list(walk)[-1]
        assert found["type"] == "cold" if read is dump else found.problems == []


def test_a_directory_without_a_log_is_an_error():
    with pytest.raises(StorageError, match="holds no log"):
        list(verify(DIRECTORY, SimDisk()))
    with pytest.raises(StorageError, match="holds no log"):
        list(dump(DIRECTORY, disk=SimDisk()))

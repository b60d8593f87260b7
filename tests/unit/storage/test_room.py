"""The zeros that the writer writes ahead: to whoever reads a log they are not there."""

import random

import pytest

from braidmq.storage import Corrupt
from braidmq.storage.record import MESSAGE, encode_message
from braidmq.storage.tools import dump, verify
from tests.simdisk import SimDisk
from tests.unit.storage.support import (
    DIRECTORY,
    Driver,
    check,
    check_bodies,
    frames_of,
    last_segment,
    reopened,
    segments_of,
    written,
)

ZEROS = bytes(300)  # a body: so a frame ends with some as well


def with_zeros() -> Driver:
    driver = Driver(SimDisk(), segment_bytes=1 << 20)
    driver.open()
    driver.publish()
    record = b"".join(encode_message([(2, 1)], 7, b"", ZEROS))
    driver.ledger.apply(driver.log.append((record,), references=1), MESSAGE, record, 0)
    driver.commit()
    return driver


def test_zeros_behind_the_last_frame_are_no_tail():
    driver = with_zeros()
    end = driver.log.durable_lsn
    for disk in (driver.disk.after_kill(), driver.disk.after_power_cut(random.Random(1))):
        path = last_segment(disk)
        assert disk.size(path) == 2 * end
        (*_, verification) = verify(DIRECTORY, disk)
        assert (verification.end_lsn, verification.tail_bytes) == (end, 0)
        assert verification.bytes_done == verification.bytes_total
        assert [row["type"] for row in dump(DIRECTORY, disk=disk)] == ["message"] * 2
        found = reopened(driver, disk)
        report = found.open()
        assert (report.end_lsn, report.bytes_dropped) == (end, 0)
        assert found.ledger.slots == driver.ledger.slots


def test_zeros_that_the_last_frame_ends_with_are_its_own():
    driver = with_zeros()
    driver.log.close()
    found = reopened(driver, driver.disk, cache_bytes_max=0)
    assert found.open().bytes_reappended == 0
    assert found.body((2, 1)) == ZEROS


def with_room_in_each_segment() -> Driver:
    driver = Driver(SimDisk(), segment_bytes=2048)
    driver.open()
    for _ in range(4):
        driver.publish(900)
        driver.commit()
        driver.publish(300)
        driver.commit()
    return driver


def test_segments_end_before_the_zeros_in_their_files():
    driver = with_room_in_each_segment()
    driver.run(driver.log.checkpoint())
    driver.publish(900)
    driver.commit()
    names = segments_of(driver.disk)
    assert all(len(written(driver.disk, name)) < driver.disk.size(name) for name in names)
    statistics = driver.log.statistics()
    assert statistics.bytes_in_segments == sum(len(written(driver.disk, name)) for name in names)
    assert list(verify(DIRECTORY, driver.disk))[-1].problems == []
    found = reopened(driver, driver.disk.after_power_cut(random.Random(1)), cache_bytes_max=0)
    found.open()
    check(found)
    check_bodies(found)


def test_zeros_before_the_end_of_a_segment_are_damage():
    driver = with_room_in_each_segment()
    name, *_ = segments_of(driver.disk)
    header = frames_of(driver.disk, name)[-1]
    disk = driver.disk.copy()
    content = bytes(disk.content(name))
    disk.replace(name, content[: header.lsn] + bytes(len(content) - header.lsn))
    with pytest.raises(Corrupt, match=f"ends there, {header.length} bytes early") as caught:
        reopened(driver, disk).open()
    assert caught.value.lsn == header.lsn
    problems = list(verify(DIRECTORY, disk))[-1].problems
    assert len(problems) == 1 and f"lsn {header.lsn} in" in problems[0]
    rows = list(dump(DIRECTORY, disk=disk))
    assert [row["type"] for row in rows[:3]] == ["message", "damaged", "message"]
    assert (rows[1]["lsn"], rows[1]["bytes"]) == (header.lsn, header.length)

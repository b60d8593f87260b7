"""The reserve: it takes up room, makes way once, comes back when there is room for both."""

import errno

import pytest

from braidmq.storage.reserve import Reserve
from tests.simdisk import SimDisk


def reserve(disk: SimDisk, reserve_bytes: int = 1000, free_bytes_min: int = 500) -> Reserve:
    return Reserve(disk, "/d", reserve_bytes, free_bytes_min)


def test_it_takes_up_room_and_gives_it_back():
    disk = SimDisk(capacity=5000)
    one = reserve(disk)
    assert one.restore()
    assert disk.free_bytes("/d") == 4000
    assert one.restore()
    one.give_up()
    one.give_up()
    assert disk.free_bytes("/d") == 5000


def test_messages_are_taken_only_above_the_minimum():
    disk = SimDisk(capacity=1600)
    one = reserve(disk)
    assert one.restore()
    handle = disk.create("/d/other")
    disk.pwrite(handle, 0, [bytes(200)])
    assert not one.restore()  # 400 left


def test_it_comes_back_only_when_there_is_room_for_both():
    disk = SimDisk(capacity=1400)
    one = reserve(disk)
    assert not one.restore()
    assert disk.names() == []
    disk.capacity = 1500
    assert one.restore()


def test_without_a_file_only_the_minimum_counts():
    disk = SimDisk(capacity=500)
    assert reserve(disk, 0).restore()
    assert disk.names() == []
    disk.capacity = 499
    assert not reserve(disk, 0).restore()


def test_a_file_of_another_size_is_replaced():
    disk = SimDisk(capacity=5000)
    assert reserve(disk, 2000).restore()
    assert reserve(disk, 1000).restore()
    assert disk.free_bytes("/d") == 4000


def test_when_the_system_says_full_after_all_it_is_full():
    disk = SimDisk()
    disk.fail_at[1] = errno.ENOSPC
    assert not reserve(disk).restore()
    assert disk.names() == []
    disk.fail_at[disk.calls + 1] = errno.EIO
    with pytest.raises(OSError, match="injected"):
        reserve(disk).restore()


def test_before_opening_it_makes_way_when_there_is_little_room():
    disk = SimDisk(capacity=2000)
    one = reserve(disk)
    assert one.restore()
    one.make_way()
    assert disk.names() == ["/d/ballast"]
    disk.capacity = 1100
    one.make_way()
    assert disk.names() == []

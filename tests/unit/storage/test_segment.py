"""Segments: which file a position is in, how much of it is needed, which files count."""

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import Corrupt
from braidmq.storage.frame import encode_frame
from braidmq.storage.record import encode_message
from braidmq.storage.segment import (
    EXTENT_BYTES,
    Segment,
    SegmentFiles,
    Segments,
    effective_segments,
    parse_segment_name,
    segment_name,
    size_without_zeros,
    verified_end,
)
from tests.simdisk import SimDisk


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_names_come_back_and_sort_by_base(base, epoch):
    name = segment_name(base, epoch)
    assert parse_segment_name(name) == (base, epoch)
    assert base == 0 or segment_name(base - 1, epoch) < name


@pytest.mark.parametrize("name", ["MANIFEST", "wal-1-1.log", segment_name(1, 1) + ".lost", "x"])
def test_other_names_are_no_segments(name):
    assert parse_segment_name(name) is None


def effective(*found: tuple[int, int], epoch: int) -> tuple[list[tuple[int, int, int]], int]:
    names = [segment_name(*each) for each in found] + ["MANIFEST"]
    random.Random(1).shuffle(names)
    kept, ignored = effective_segments(names, epoch)
    return [(segment.base, segment.end, segment.epoch) for segment in kept], len(ignored)


def test_segments_of_one_epoch_follow_each_other():
    assert effective((0, 1), (100, 1), (300, 1), epoch=1) == (
        [(0, 100, 1), (100, 300, 1), (300, 300, 1)],
        0,
    )


def test_a_later_epoch_is_right_from_its_first_base_on():
    assert effective((0, 1), (100, 1), (200, 1), (150, 2), epoch=2) == (
        [(0, 100, 1), (100, 150, 1), (150, 150, 2)],
        1,
    )


def test_what_an_unfinished_recovery_left_does_not_count():
    assert effective((0, 1), (100, 1), (50, 2), epoch=1) == ([(0, 100, 1), (100, 100, 1)], 1)


def test_a_later_epoch_at_the_same_base_replaces():
    assert effective((0, 1), (0, 2), (0, 3), epoch=3) == ([(0, 0, 3)], 2)


def table(segment_bytes: int = 100) -> Segments:
    return Segments([Segment(0, 1, 0)], segment_bytes)


def test_frames_are_placed_and_segments_rolled():
    segments = table()
    assert segments.place(0, 64, 1, 1) == 0
    assert segments.place(64, 96, 2, 2) == 0
    assert segments.place(96, 160, 1, 1) == 96
    assert segments.place(160, 500, 1, 1) == 160  # too large for any: alone
    assert segments.place(500, 564, 1, 1) == 500
    with pytest.raises(AssertionError):
        segments.place(570, 600, 1, 1)
    assert [(each.base, each.end) for each in segments.items] == [
        (0, 96),
        (96, 160),
        (160, 500),
        (500, 564),
    ]
    for lsn in range(564):
        found = segments.find(lsn)
        assert found is not None and found.base <= lsn < found.end
    assert segments.find(564) is None and segments.find(-1) is None
    assert segments.active.base == 500


@given(st.lists(st.integers(0, 563), max_size=300), st.randoms())
def test_references_are_counted_alike_one_by_one_and_many_at_once(lsns, rng):
    one, many = table(), table()
    for segments in (one, many):
        for lsn, end in ((0, 96), (96, 160), (160, 500), (500, 564)):
            segments.place(lsn, end, 0, 0)
    for lsn in lsns:
        one.adopt(lsn)
    many.adopt_many(array("Q", lsns))
    assert [each.live for each in one.items] == [each.live for each in many.items]
    rng.shuffle(lsns)
    for lsn in lsns:
        one.release(lsn)
    assert [each.live for each in one.items] == [0] * 4
    for count in (0, 1, 2, len(lsns) - 3):  # of one segment, and of all
        many.release_many(lsns[:count])
        del lsns[:count]
    assert [each.live for each in many.items] == [0] * 4


def test_dead_segments_are_below_the_line_and_never_the_active_one():
    segments = table()
    for lsn, end in ((0, 96), (96, 160), (160, 240)):
        segments.place(lsn, end, 1, 1)
    segments.release(10)
    segments.release(170)
    assert [each.base for each in segments.dead(240)] == [0]
    segments.release(100)
    assert [each.base for each in segments.dead(240)] == [0, 96]
    assert [each.base for each in segments.dead(159)] == [0]
    segments.remove(segments.dead(240))
    assert segments.find(10) is None
    assert segments.find(170) is segments.active


def test_live_bytes_are_estimated():
    segment = Segment(0, 1, 1000)
    assert segment.live_bytes == 0
    segment.total, segment.live = 4, 1
    assert segment.live_bytes == 250


# Reading ----------------------------------------------------------------------------------------


def written(records_of_frames: list[list[int]]) -> tuple[SimDisk, list[int], int]:
    """A segment at base 1000 with frames of records of these body sizes; the LSNs; its end."""
    disk = SimDisk()
    data = b""
    lsns = []
    base = 1000
    for sizes in records_of_frames:
        records = [b"".join(encode_message([(1, 1)], 5, b"", bytes(size))) for size in sizes]
        at = base + len(data) + 64
        for record in records:
            lsns.append(at)
            at += len(record)
        data += encode_frame(b"".join(records), len(records), base + len(data), 0, 1, 5, 0)
    handle = disk.create("/d/" + segment_name(base, 1))
    disk.pwrite(handle, 0, [data])
    return disk, lsns, base + len(data)


def test_an_extent_goes_over_frames_and_ends_behind_a_whole_record():
    disk, lsns, end = written([[10, 20, 33], [5], [1, 2, 3]])
    files = SegmentFiles(disk, "/d")
    for index, lsn in enumerate(lsns):
        extent = files.read_extent(segment_name(1000, 1), 1000, lsn, end)
        assert extent.start == lsn
        for other in lsns[index:]:
            assert verified_end(extent.buffer[other - lsn :], other) > other
        assert end - 8 < extent.end <= end


def test_a_run_ends_before_a_damaged_record_and_starts_again_behind_it():
    disk, lsns, end = written([[10, 20, 33], [5], [1, 2, 3]])
    name = segment_name(1000, 1)
    disk.damage("/d/" + name, lsns[3] + 30 - 1000)
    files = SegmentFiles(disk, "/d")
    extent = files.read_extent(name, 1000, lsns[0], end)
    assert lsns[2] < extent.end < lsns[3]
    with pytest.raises(Corrupt, match="fails its CRC"):
        files.read_extent(name, 1000, lsns[3], end)
    assert files.read_extent(name, 1000, lsns[4], end).end > lsns[6]


def test_an_empty_frame_ends_a_run_without_harm():
    disk, lsns, end = written([[10], [], [20]])
    files = SegmentFiles(disk, "/d")
    extent = files.read_extent(segment_name(1000, 1), 1000, lsns[0], end)
    assert lsns[0] < extent.end < lsns[1]


def test_a_record_longer_than_an_extent_is_read_whole():
    disk, lsns, end = written([[10, 3 * EXTENT_BYTES, 20]])
    files = SegmentFiles(disk, "/d")
    name = segment_name(1000, 1)
    assert files.read_extent(name, 1000, lsns[0], end).end == lsns[1]
    assert files.read_extent(name, 1000, lsns[1], end).end == lsns[2]
    with pytest.raises(Corrupt):
        files.read_extent(name, 1000, lsns[1], lsns[2] - 1)


def test_a_missing_file_is_damage_to_who_reads_and_handles_are_few():
    disk = SimDisk()
    files = SegmentFiles(disk, "/d")
    with pytest.raises(Corrupt, match="cannot be read"):
        files.read_extent("nothing", 0, 64, 128)
    for number in range(40):
        disk.pwrite(disk.create(f"/d/{number}"), 0, [b"x"])
        assert files.read(str(number), 0, 10) == b"x"
    assert len(files._handles) == 16
    assert files.read("0", 0, 10) == b"x"
    files.close()
    assert not files._handles


@given(st.binary(max_size=200))
def test_garbage_has_no_verified_records(buffer):
    end = verified_end(buffer, 1000)
    assert 1000 <= end <= 1000 + len(buffer)


@pytest.mark.parametrize("zeros", [0, 1, EXTENT_BYTES - 1, EXTENT_BYTES, 3 * EXTENT_BYTES])
@pytest.mark.parametrize("content", [b"", b"x", b"\0x", b"x" * EXTENT_BYTES])
def test_the_zeros_that_a_file_ends_with_do_not_count(content, zeros):
    disk = SimDisk()
    handle = disk.create("/d/file")
    disk.pwrite(handle, 0, [content + bytes(zeros)])
    assert size_without_zeros(disk, "/d/file") == len(content)


def test_what_is_sealed_ends_at_the_last_base_that_is_durable():
    segments = Segments([Segment(100, 1, 200), Segment(200, 1, 300), Segment(300, 1, 350)])
    expected = {0: 0, 99: 0, 100: 100, 199: 100, 200: 200, 299: 200, 300: 300, 350: 300}
    assert {lsn: segments.sealed_lsn(lsn) for lsn in expected} == expected

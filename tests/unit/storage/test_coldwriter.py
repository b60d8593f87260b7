"""Writing cold files: all records in order, in larger blocks and bounded frames, or no file."""

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import DiskFull, StorageError
from braidmq.storage.block import BLOCK_SPAN_MS, Block
from braidmq.storage.codec import Compressor
from braidmq.storage.coldreader import ColdReader, cold_path
from braidmq.storage.coldwriter import FRAME_BYTES_MAX, MERGED_BYTES_MAX, SYNC_BYTES, ColdFileWriter
from braidmq.storage.streams import ColdFile
from tests.simdisk import PowerCut, SimDisk
from tests.unit.storage.cold_support import SHARD, make_block, make_blocks, rows

COLD = "/data/shard-00/cold"


def writer_on(disk: SimDisk, generation: int = 1, compress: bool = False) -> ColdFileWriter:
    return ColdFileWriter(disk, COLD, SHARD, generation, Compressor(compress))


def written(disk: SimDisk, blocks: list[Block], compress: bool = False) -> ColdFile:
    writer = writer_on(disk, 1, compress)
    for block in blocks:
        writer.add([block])
    return writer.finish()


def frames_of(disk: SimDisk, file: ColdFile) -> list[list[Block]]:
    reader = ColdReader(disk, COLD)
    try:
        return list(reader.frames(file))
    finally:
        reader.close()


parts = st.lists(
    st.tuples(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.integers(0, 10**6)),
    min_size=1,
    max_size=20,
)


@given(parts, st.integers(1, 2**60), st.booleans())
def test_what_is_written_is_what_was_added(parts, first, compress):
    blocks = []
    for bodies, time_ms in parts:
        blocks.append(make_block(first, bodies, time_ms))
        first = blocks[-1].end
    disk = SimDisk()
    file = written(disk, blocks, compress)
    expected = rows(blocks)
    assert rows(block for frame in frames_of(disk, file) for block in frame) == expected
    assert (file.shard, file.generation, file.records) == (SHARD, 1, len(expected))
    assert (file.first, file.end) == (blocks[0].first, blocks[-1].end)
    times = [time_ms for _, time_ms, _, _ in expected]
    assert (file.time_first_ms, file.time_last_ms) == (min(times), max(times))
    assert disk.names() == [cold_path(COLD, file)]
    assert disk.size(cold_path(COLD, file)) == file.bytes


def test_small_blocks_become_large_ones_and_frames_have_a_limit():
    disk = SimDisk()
    blocks = make_blocks(1, 3000, records=1, body_bytes=1000)
    frames = frames_of(disk, written(disk, blocks))
    assert len(frames) == 3
    for frame in frames:
        assert sum(block.length for block in frame) <= FRAME_BYTES_MAX
        for block in frame:
            assert block.length <= MERGED_BYTES_MAX
    merged = [block for frame in frames for block in frame]
    assert len(merged) < 60
    assert rows(merged) == rows(blocks)


def test_a_block_over_the_limits_is_a_frame_of_its_own():
    disk = SimDisk()
    blocks = [make_block(1, [b"a"]), make_block(2, [bytes(FRAME_BYTES_MAX)]), make_block(3, [b"c"])]
    frames = frames_of(disk, written(disk, blocks))
    assert [len(frame) for frame in frames] == [1, 1, 1]
    assert rows(block for frame in frames for block in frame) == rows(blocks)


def test_what_is_written_is_synced_now_and_then():
    disk = SimDisk()
    written(disk, make_blocks(1, 20, records=1, body_bytes=FRAME_BYTES_MAX - 200))
    unsynced, most = 0, 0
    for call in disk.trace:
        if call.startswith("pwrite"):
            unsynced += int(call.split()[1])
        elif call == "fdatasync":
            most, unsynced = max(most, unsynced), 0
    assert unsynced == 0
    assert SYNC_BYTES - FRAME_BYTES_MAX < most < SYNC_BYTES + FRAME_BYTES_MAX


def test_blocks_whose_times_lie_too_far_apart_stay_apart():
    disk = SimDisk()
    blocks = [make_block(1 + n, [b"x"], n * (BLOCK_SPAN_MS // 2)) for n in range(5)]
    blocks += [make_block(6, [b"older than the one before"], 3)]
    (frame,) = frames_of(disk, written(disk, blocks))
    assert [block.count for block in frame] == [2, 2, 1, 1]
    assert rows(frame) == rows(blocks)


def test_blocks_that_do_not_follow_and_files_without_any_are_refused():
    writer = writer_on(SimDisk())
    with pytest.raises(ValueError, match="without records"):
        writer.finish()
    writer.add([make_block(1, [b"x", b"y"])])
    other = make_block(3, [b"z"])
    other.shard += 1
    for block in (make_block(2, [b"z"]), make_block(4, [b"z"]), other):
        with pytest.raises(ValueError, match="does not follow"):
            writer.add([block])


def test_a_full_disk_is_said_so_and_leaves_nothing():
    disk = SimDisk(capacity=100_000)
    writer = writer_on(disk)
    with pytest.raises(DiskFull, match="no room"):
        writer.add(make_blocks(1, 300, records=1, body_bytes=10_000))
    writer.abandon()
    assert disk.names() == []
    assert disk.free_bytes(COLD) == 100_000


def test_every_error_of_the_disk_is_said_and_leaves_no_file_that_is_not_whole():
    blocks = make_blocks(1, 20, records=5, body_bytes=3000)
    probe = SimDisk()
    written(probe, blocks)
    assert probe.calls >= 6
    for call in range(probe.calls):
        disk = SimDisk()
        disk.fail_at[call] = errno.EIO
        writer = writer_on(disk)
        with pytest.raises(StorageError, match="cannot be written"):
            writer.add(blocks)
            writer.finish()
        writer.abandon()
        assert not any(name.endswith(".tmp") for name in disk.names())
        assert rows(b for f in frames_of(disk, written(disk, blocks)) for b in f) == rows(blocks)


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_leaves_the_whole_file_or_nothing_of_that_name(seed):
    rng = random.Random(seed)
    blocks = make_blocks(1, 20, records=5, body_bytes=rng.choice([100, 3000]))
    probe = SimDisk()
    file = written(probe, blocks)
    for call in range(probe.calls):
        disk = SimDisk()
        disk.crash_at = call
        with pytest.raises(PowerCut):
            written(disk, blocks)
        disk = disk.after_power_cut(rng)
        if cold_path(COLD, file) in disk.names():
            assert rows(b for f in frames_of(disk, file) for b in f) == rows(blocks)
    after = probe.after_power_cut(rng)
    assert rows(b for f in frames_of(after, file) for b in f) == rows(blocks)

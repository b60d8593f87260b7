"""Reading cold files: from any number on, bounded, checked each time, refused with a reason."""

import errno
import sys

import msgspec
import pytest

from braidmq.storage import ColdCorrupt, Corrupt, FormatUnknown
from braidmq.storage import coldfile as coldfile_module
from braidmq.storage.codec import Compressor
from braidmq.storage.coldfile import encode_cold_index
from braidmq.storage.coldreader import ColdReader, cold_path
from braidmq.storage.coldwriter import ColdFileWriter
from braidmq.storage.streams import ColdFile
from tests.simdisk import SimDisk
from tests.unit.storage.cold_support import SHARD, make_block, make_blocks, rows

COLD = "/data/shard-00/cold"


class Bench:
    """A file of several frames, with blocks too large to be merged."""

    def __init__(self, compress: bool = False, generation: int = 1) -> None:
        self.disk = SimDisk()
        self.blocks = make_blocks(10, 60, records=7, body_bytes=9000)
        self.file = self.write(generation, compress)
        self.path = cold_path(COLD, self.file)

    def write(self, generation: int, compress: bool = False) -> ColdFile:
        writer = ColdFileWriter(self.disk, COLD, SHARD, generation, Compressor(compress))
        writer.add(self.blocks)
        return writer.finish()

    def reader(self, **limits: int) -> ColdReader:
        return ColdReader(self.disk, COLD, **limits)

    def expected(self, number: int) -> list:
        return [row for row in rows(self.blocks) if row[0] >= number]


@pytest.fixture(params=[False, True], ids=["plain", "zstd"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


@pytest.mark.parametrize("bytes_max", [1, 100_000, 1 << 20, 1 << 30])
def test_a_walk_from_any_number_meets_every_record(bench: Bench, bytes_max: int):
    reader = bench.reader()
    for start in (bench.file.first, bench.file.first + 5, bench.file.end - 1):
        number, found = start, []
        while number < bench.file.end:
            blocks = reader.read(bench.file, number, 1 << 30, bytes_max)
            assert blocks[0].first <= number < blocks[0].end
            assert len(blocks) == 1 or sum(block.length for block in blocks) <= bytes_max
            found += [row for row in rows(blocks) if row[0] >= number]
            number = blocks[-1].end
        assert found == bench.expected(start)


@pytest.mark.parametrize("records_max", [1, 7, 8, 100])
def test_no_block_is_read_behind_the_records_that_were_asked_for(bench: Bench, records_max: int):
    reader = bench.reader()
    for number in range(bench.file.first, bench.file.end):
        blocks = reader.read(bench.file, number, records_max, 1 << 30)
        end = min(number + records_max, bench.file.end)
        assert blocks[0].first <= number and blocks[-1].first < end <= blocks[-1].end


def test_frames_are_all_of_it(bench: Bench):
    frames = list(bench.reader().frames(bench.file))
    assert len(frames) > 3
    assert rows(block for frame in frames for block in frame) == rows(bench.blocks)


def test_a_time_is_found_as_by_looking_at_each(bench: Bench):
    reader = bench.reader()
    for time_ms in range(990, 1000 + 60 * 100 + 20, 37):
        later = [number for number, at_ms, _, _ in rows(bench.blocks) if at_ms >= time_ms]
        assert reader.seek(bench.file, time_ms) == (later[0] if later else bench.file.end)


def test_a_time_that_went_back_is_found_where_it_comes_first():
    bench = Bench()
    bench.blocks = [
        make_block(1, [b"a"], 500),
        make_block(2, [b"b"], 100),
        make_block(3, [b"c"], 300),
    ]
    file = bench.write(2)
    found = [bench.reader().seek(file, time_ms) for time_ms in (50, 200, 500, 501)]
    assert found == [1, 1, 1, file.end]


def test_what_was_read_a_moment_ago_is_not_read_again_and_has_a_limit(bench: Bench):
    reader = bench.reader()
    reader.read(bench.file, 10, 1 << 30, 1)
    reads = bench.disk.reads
    for number in range(10, 40):
        reader.read(bench.file, number, 1 << 30, 1)
    assert bench.disk.reads == reads
    frame_bytes = len(reader.read(bench.file, 10, 1 << 30, 1)[0].buffer)
    for limit, again in ((frame_bytes, 1), (frame_bytes - 1, 2)):
        reader = bench.reader(cache_bytes_max=limit)
        reader.read(bench.file, 10, 1 << 30, 1)
        reads = bench.disk.reads
        reader.read(bench.file, 10, 1 << 30, 1)
        assert bench.disk.reads == reads + again - 1
        for _ in range(2):  # and back and forth: what does not fit is gone
            reader.read(bench.file, bench.file.end - 1, 1 << 30, 1)
            reader.read(bench.file, 10, 1 << 30, 1)
        assert reader._cache_bytes <= limit
        assert reader._cache_bytes == sum(
            len(blocks[0].buffer) for blocks in reader._cache.values()
        )


def test_so_many_files_are_open_and_no_more():
    bench = Bench()
    bench.blocks = bench.blocks[:1]
    files = [bench.write(generation) for generation in range(2, 8)]
    before = len(bench.disk._handles)
    reader = bench.reader(files_max=3)
    for file in [*files, files[0], files[5], files[0]]:
        assert rows(reader.read(file, 10, 1 << 30, 1)) == rows(bench.blocks)
        assert len(bench.disk._handles) - before <= 3
    reader.forget(files[0])
    reader.forget(files[0])
    assert len(bench.disk._handles) - before == 2
    reader.close()
    assert len(bench.disk._handles) == before


def test_an_index_larger_than_the_first_read_is_read_whole(monkeypatch):
    bench = Bench()
    monkeypatch.setattr("braidmq.storage.coldreader._END_BYTES", 60)
    assert rows(bench.reader().read(bench.file, 10, 1 << 30, 1 << 30)) == rows(bench.blocks)


def test_each_damaged_byte_is_found_and_said_where(bench: Bench):
    size = len(bench.disk.content(bench.path))
    index = bench.reader()._open(bench.file).index
    for offset in [*range(0, size, 4099), *range(index.offsets[-1], size)]:
        bench.disk.damage(bench.path, offset, offset % 8)
        with pytest.raises(ColdCorrupt) as caught:
            list(bench.reader().frames(bench.file))
        assert caught.value.path == bench.path
        assert caught.value.offset <= offset
        assert offset >= index.offsets[-1] or caught.value.offset in index.offsets
        bench.disk.damage(bench.path, offset, offset % 8)
    list(bench.reader().frames(bench.file))


def test_a_damaged_frame_leaves_the_others_readable(bench: Bench):
    index = bench.reader()._open(bench.file).index
    bench.disk.damage(bench.path, index.offsets[1] + 100)
    reader = bench.reader()
    assert reader.read(bench.file, 10, 1 << 30, 1)
    with pytest.raises(Corrupt, match="CRC"):
        reader.read(bench.file, index.numbers[1], 1 << 30, 1)
    assert (
        rows(reader.read(bench.file, index.numbers[2], 1 << 30, 1 << 30))[-1]
        == rows(bench.blocks)[-1]
    )


@pytest.mark.parametrize("cut", [1, 100, 5000, 10**9])
def test_a_file_that_is_too_short_is_damage(bench: Bench, cut: int):
    content = bytes(bench.disk.content(bench.path))
    reader = bench.reader()
    reader._open(bench.file)  # the index is known: so the frame is what is missing
    bench.disk.replace(bench.path, content[: max(len(content) - cut, 0)])
    with pytest.raises(Corrupt):
        bench.reader().read(bench.file, 10, 1 << 30, 1)
    if cut > 5000:
        with pytest.raises(ColdCorrupt, match="ends in a frame"):
            reader.read(bench.file, 10, 1 << 30, 1)


def test_files_that_were_mixed_up_are_damage():
    bench = Bench()
    other = bench.write(2)
    content = bytes(bench.disk.content(cold_path(COLD, other)))
    bench.disk.replace(bench.path, content)
    with pytest.raises(ColdCorrupt, match="it is the foot of"):
        bench.reader().read(bench.file, 10, 1 << 30, 1)


def test_an_index_that_leads_to_another_frame_is_damage():
    bench = Bench()
    index = bench.reader()._open(bench.file).index
    frames = bytes(bench.disk.content(bench.path))[: index.offsets.pop()]
    index.numbers[1] += 1
    bench.disk.replace(bench.path, frames + encode_cold_index(bench.file, index))
    with pytest.raises(ColdCorrupt, match="a frame of"):
        bench.reader().read(bench.file, index.numbers[1], 1 << 30, 1)


def test_a_file_that_is_not_there_or_cannot_be_read_is_damage():
    bench = Bench()
    missing = msgspec.structs.replace(bench.file, generation=9)
    with pytest.raises(ColdCorrupt, match="cannot be opened"):
        bench.reader().read(missing, 10, 1 << 30, 1)
    for read in range(2):  # the index, a frame
        bench.disk.reads = 0
        bench.disk.fail_reads = {read: errno.EIO}
        handles = len(bench.disk._handles)
        reader = bench.reader()
        with pytest.raises(ColdCorrupt, match="injected"):
            reader.read(bench.file, 10, 1 << 30, 1)
        reader.close()
        assert len(bench.disk._handles) == handles


def test_a_format_of_later_is_unknown(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(coldfile_module, "VERSION", 99)
        bench = Bench()
    with pytest.raises(FormatUnknown, match="format 99"):
        bench.reader().read(bench.file, 10, 1 << 30, 1)


def test_without_zstd_it_says_what_is_missing_and_where(monkeypatch):
    bench = Bench(compress=True)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(FormatUnknown, match=r"-00000001\.seg: .* not installed"):
        bench.reader().read(bench.file, 10, 1 << 30, 1)

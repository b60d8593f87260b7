"""Cold files offline: everything in them is looked at, and what a name says is held to the foot."""

import msgspec
import pytest

from braidmq.storage import ColdCorrupt
from braidmq.storage.block import Block
from braidmq.storage.codec import Compressor
from braidmq.storage.coldfile import encode_cold_index
from braidmq.storage.coldreader import ColdReader, cold_path
from braidmq.storage.coldtools import (
    block_rows,
    check_cold_blocks,
    cold_sizes,
    find_cold_file,
    is_gone,
    read_cold_blocks,
)
from braidmq.storage.coldwriter import ColdFileWriter
from braidmq.storage.streams import ColdFile
from tests.simdisk import SimDisk
from tests.unit.storage.cold_support import SHARD, make_block, make_blocks, rows

COLD = "/data/shard-00/cold"


def write(disk: SimDisk, blocks: list[Block], generation: int = 1) -> ColdFile:
    writer = ColdFileWriter(disk, COLD, SHARD, generation, Compressor(False))
    writer.add(blocks)
    return writer.finish()


def test_files_are_found_by_their_names_and_nothing_else_is():
    disk = SimDisk()
    files = [write(disk, make_blocks(first, 2), first) for first in (1, 7)]
    for name in ("00000007/00000004.tmp", "00000007/notes.txt", "notes.txt"):
        disk.close(disk.create(f"{COLD}/{name}"))
    paths = [cold_path(COLD, file) for file in files]
    sizes = cold_sizes(disk, COLD)
    assert list(sizes.items()) == [(p, f.bytes) for p, f in zip(paths, files, strict=True)]
    assert [find_cold_file(disk, path, size) for path, size in sizes.items()] == files
    assert cold_sizes(SimDisk(), COLD) == {}
    assert not is_gone(disk, paths[0])
    disk.remove(paths[0])
    assert is_gone(disk, paths[0])


def test_all_blocks_are_read_and_each_record_is_a_row():
    disk = SimDisk()
    blocks = make_blocks(1, 3)
    file = write(disk, blocks)
    found = list(read_cold_blocks(disk, COLD, file))
    assert rows(found) == rows(blocks)
    first = next(block_rows(found[0]))
    assert first == {
        "shard": SHARD,
        "number": 1,
        "time_ms": 1000,
        "key": b"key 1",
        "headers": b"",
        "body": blocks[0].bodies()[0],
    }
    assert check_cold_blocks(disk, COLD, cold_path(COLD, file), file.bytes) == file.records == 9


def test_a_file_under_another_name_is_found():
    disk = SimDisk()
    file = write(disk, make_blocks(1, 2))
    other = msgspec.structs.replace(file, generation=2)
    disk.rename(cold_path(COLD, file), cold_path(COLD, other))
    with pytest.raises(ColdCorrupt, match="it is the foot of"):
        find_cold_file(disk, cold_path(COLD, other), file.bytes)
    with pytest.raises(ColdCorrupt, match="end with its foot"):
        find_cold_file(disk, cold_path(COLD, other), 3)
    with pytest.raises(ColdCorrupt, match="no such file"):
        find_cold_file(disk, cold_path(COLD, file), file.bytes)


def test_what_only_a_writer_that_errs_could_have_written_is_found():
    """Every CRC of the file holds, and yet the blocks are not what they should be."""
    wrong = make_block(1, [b"one"])
    broken = bytearray(wrong.bytes)
    broken[-1] ^= 1
    disk = SimDisk()
    file = write(disk, [msgspec.structs.replace(wrong, buffer=bytes(broken))])
    with pytest.raises(ColdCorrupt, match="the block of 1: it fails its CRC"):
        check_cold_blocks(disk, COLD, cold_path(COLD, file), file.bytes)

    disk = SimDisk()
    file = write(disk, make_blocks(1, 2))
    path = cold_path(COLD, file)
    longer = msgspec.structs.replace(file, end=file.end + 1)
    index = ColdReader(disk, COLD)._open(file).index
    frames = bytes(disk.content(path))[: index.offsets[-1]]
    index.offsets.pop()
    disk.replace(path, frames + encode_cold_index(longer, index))
    with pytest.raises(ColdCorrupt, match=f"end with {file.end}, not with {longer.end}"):
        check_cold_blocks(disk, COLD, path, file.bytes)

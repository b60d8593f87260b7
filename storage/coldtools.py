"""Reading cold files offline, whether or not a record names them: for ``tools.py``.

Which of them count, only the broker's state says; a file that a crash left and no opening has
removed yet is read like the others.
"""

from collections.abc import Iterator

import msgspec

from .block import Block, decode_block
from .coldfile import FOOT_BYTES, decode_cold_foot, parse_cold_name, parse_cold_shard
from .coldreader import ColdReader
from .disk import Disk
from .errors import ColdCorrupt
from .record import record_is_intact
from .streams import ColdFile

__all__ = [
    "block_rows",
    "check_cold_blocks",
    "cold_sizes",
    "find_cold_file",
    "is_gone",
    "read_cold_blocks",
]


def cold_sizes(disk: Disk, directory: str) -> dict[str, int]:
    """The paths of the cold files below ``directory``, by shard and number, and their sizes."""
    sizes: dict[str, int] = {}
    for shard in disk.listdir(directory):
        names = disk.listdir(f"{directory}/{shard}") if parse_cold_shard(shard) is not None else []
        for name in filter(parse_cold_name, names):
            path = f"{directory}/{shard}/{name}"
            try:
                sizes[path] = disk.size(path)
            except FileNotFoundError:
                continue  # a broker that runs has removed it meanwhile
    return sizes


def is_gone(disk: Disk, path: str) -> bool:
    """Whether a file that was there has been removed meanwhile: then it is not damaged."""
    directory, _, name = path.rpartition("/")
    return name not in disk.listdir(directory)


def find_cold_file(disk: Disk, path: str, size: int) -> ColdFile:
    """What the foot of the file says, compared with its name.

    Raises:
        ColdCorrupt: it cannot be read, or is another file's.
    """
    start = max(size - FOOT_BYTES, 0)
    try:
        handle = disk.open(path)
        try:
            file, _, _ = decode_cold_foot(disk.pread(handle, start, FOOT_BYTES), size)
        finally:
            disk.close(handle)
    except (OSError, ValueError) as error:
        raise ColdCorrupt(path, start, str(error)) from error
    _, shard, name = path.rsplit("/", 2)
    if parse_cold_shard(shard) != file.shard or parse_cold_name(name) != (
        file.first,
        file.generation,
    ):
        raise ColdCorrupt(path, start, f"it is the foot of {file}")
    return file


def read_cold_blocks(disk: Disk, directory: str, file: ColdFile) -> Iterator[Block]:
    """All blocks of ``file``.

    Raises:
        Corrupt, FormatUnknown: see ``ColdReader``.
    """
    reader = ColdReader(disk, directory)
    try:
        for blocks in reader.frames(file):
            yield from blocks
    finally:
        reader.close()


def check_cold_blocks(disk: Disk, directory: str, path: str, size: int) -> int:
    """Check every block of a file; return how many records there are.

    Raises:
        Corrupt: something is not as it was written. FormatUnknown: see ``ColdReader``.
    """
    file = find_cold_file(disk, path, size)
    end = file.first
    for block in read_cold_blocks(disk, directory, file):
        try:
            if not record_is_intact(block.buffer, block.at):
                raise ValueError("it fails its CRC")
            decode_block(block.buffer, block.at)
            if block.first != end:
                raise ValueError(f"it stands where {end} should")
        except ValueError as error:
            raise ColdCorrupt(path, 0, f"the block of {block.first}: {error}") from None
        end = block.end
    if end != file.end:
        raise ColdCorrupt(path, 0, f"its records end with {end}, not with {file.end}")
    return file.records


def block_rows(block: Block) -> Iterator[dict[str, object]]:
    """The fields of each record of a block."""
    for record in block.records():
        yield {"shard": block.shard} | msgspec.structs.asdict(record)

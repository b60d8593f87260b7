"""A record of a stream as people get it, decoded as far as it is looked at."""

from collections.abc import Iterator
from datetime import datetime
from itertools import repeat

import msgspec

from ..storage.block import Block, decode_block_head
from .message import Headers, unpack_headers
from .streamreading import Chunk
from .values import moment

__all__ = ["Piece", "Record", "chunk_pieces", "chunk_records"]


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record that was read.

    Attributes:
        shard: the index of its shard. number: its place there; rises, and is never used again.
        time_ms: when the broker took it, unix ms.
        raw_key, raw_headers: the partition key in UTF-8, and the header map, as they are stored.
        body: the bytes that were appended.
    """

    shard: int
    number: int
    time_ms: int
    raw_key: bytes
    raw_headers: bytes
    body: bytes

    def __repr__(self) -> str:
        return f"<Record {self.number} of shard {self.shard}, {len(self.body)} bytes>"

    @property
    def key(self) -> str:
        """The partition key; "" when it was appended without."""
        return self.raw_key.decode()

    @property
    def headers(self) -> Headers:
        """The header map, decoded at each call."""
        return unpack_headers(self.raw_headers)

    @property
    def time(self) -> datetime:
        """When the broker took it, UTC."""
        return moment(self.time_ms)


class Piece(msgspec.Struct, gc=False):
    """A part of a block: ``count`` records behind the first ``skip``."""

    block: Block
    skip: int
    count: int

    def records(self, shard: int) -> Iterator[Record]:
        """Its records; ``shard`` is the index of their shard."""
        return map(Record, repeat(shard), *self.block.fields(self.skip, self.count))


def chunk_pieces(chunk: Chunk) -> Iterator[Piece]:
    """What a chunk consists of, in order. Its blocks are sound: see ``decode_block``."""
    skip, left = chunk.skip, chunk.count
    for content in chunk.blocks:
        block = decode_block_head(content, 0)
        count = min(block.count - skip, left)
        yield Piece(block, skip, count)
        left -= count
        skip = 0


def chunk_records(chunk: Chunk, shard: int) -> list[Record]:
    """The records of a chunk, in order; ``shard`` is the index of their shard."""
    return [record for piece in chunk_pieces(chunk) for record in piece.records(shard)]

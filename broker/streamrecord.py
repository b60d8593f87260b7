"""A record of a stream as people get it, decoded as far as it is looked at."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from ..storage.block import StreamRecord, decode_block
from .message import Headers, unpack_headers
from .streamreading import Chunk
from .values import moment

__all__ = ["Record", "chunk_records"]


class Record:
    """A record that was read.

    Attributes:
        number: its place in its shard; rises, and is never used again.
        body: the bytes that were appended.
    """

    __slots__ = ("_record", "body", "number")

    def __init__(self, record: StreamRecord) -> None:
        self.number = record.number
        self.body = record.body
        self._record = record

    def __repr__(self) -> str:
        return f"<Record {self.number}, {len(self.body)} bytes>"

    @property
    def key(self) -> str:
        """The partition key; "" when it was appended without."""
        return self._record.key.decode()

    @property
    def headers(self) -> Headers:
        """The header map, decoded at each call."""
        return unpack_headers(self._record.headers)

    @property
    def time(self) -> datetime:
        """When the broker took it, UTC."""
        return moment(self._record.time_ms)


def chunk_records(chunk: Chunk) -> Iterator[StreamRecord]:
    """The records of a chunk, in order. Raises ValueError when its blocks are none."""

    def records() -> Iterator[StreamRecord]:
        skip = chunk.skip
        for content in chunk.blocks:
            yield from decode_block(content).records(skip)
            skip = 0

    return islice(records(), chunk.count)

"""What can be asked about streams: the verbs, to await, and the values that go in and out.

The broker in this process and the client of the native protocol both implement them; ``Stream``
objects (``streamface.py``) are built on nothing else.
"""

from typing import Any, Literal, Protocol

import msgspec

from .errors import BraidError
from .stream_settings import StreamSettings
from .streamreading import Chunk
from .streams import Appending, Position

__all__ = ["ShardInfo", "ShardTail", "Start", "StartKind", "StreamInfo", "StreamVerbs"]

StartKind = Literal["earliest", "latest", "at", "after", "time"]


class Start(msgspec.Struct, frozen=True, gc=False):
    """Where to begin to read a shard.

    Attributes:
        kind: the oldest record there is (Kinesis: TRIM_HORIZON), behind the newest (LATEST), at
            or after ``number`` (AT_ and AFTER_SEQUENCE_NUMBER), or at the first record that came
            at ``time_ms``, unix ms, or later (AT_TIMESTAMP).
    """

    kind: StartKind = "earliest"
    number: int = 0
    time_ms: int = 0


class ShardInfo(msgspec.Struct):
    """A shard as it is now. Hash keys are decimal text: they have 128 bits."""

    index: int
    first_hash: str
    last_hash: str
    parents: list[int]
    closed: bool
    first: int  # the oldest record that can be read
    next: int  # behind the newest
    bytes: int  # as it is stored
    oldest_ms: int  # about when the oldest came, unix ms; 0: there is none
    newest_ms: int
    created_ms: int
    files: int  # that hold its older records


class StreamInfo(msgspec.Struct):
    """A stream as it is now. Lists leave out the shards."""

    name: str
    settings: StreamSettings
    created_ms: int
    open_shards: int
    records: int
    bytes: int
    groups: int
    shards: list[ShardInfo] = []


class ShardTail(Protocol):
    """Shards that are read on and on, within a credit in bytes."""

    async def next(self) -> list[tuple[int, Chunk]]:
        """Wait for the next chunks, each with its shard; [] when all shards have ended.

        Raises NotFound, PermissionDenied, Disconnected, ...
        """

    def more(self, size: int) -> None:
        """Allow ``size`` more bytes: those of the chunks that were looked at."""

    async def close(self) -> None:
        """Stop."""


class StreamVerbs(Protocol):
    """The verbs of streams. What they raise is in ``errors.py``."""

    async def declare_stream(
        self, name: str, settings: StreamSettings, shards: int = 1
    ) -> StreamInfo:
        """Make a stream, or find it with these settings; then ``shards`` means nothing."""

    async def update_stream(self, name: str, changes: dict[str, Any]) -> StreamInfo:
        """Change settings."""

    async def delete_stream(self, name: str) -> None:
        """Delete a stream with its records, groups and bindings."""

    async def stream_info(self, name: str) -> StreamInfo:
        """The stream as it is now, with its shards."""

    async def list_streams(
        self, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[StreamInfo]:
        """Streams by name, a page at a time: those after ``after``."""

    async def append(self, stream: str, batch: Appending) -> list[Position | BraidError]:
        """Append records: where each one is, as durable as the stream promises, or why not."""

    async def find_number(self, stream: str, shard: int, start: Start) -> int:
        """The number of the record to begin with."""

    async def read_shard(
        self,
        stream: str,
        shard: int,
        number: int,
        records_max: int = 1_000,
        bytes_max: int = 1024 * 1024,
        wait_ms: int = 0,
    ) -> Chunk:
        """Read from ``number`` on; at the end of the shard wait for records up to ``wait_ms``.

        Records that were trimmed meanwhile are left out: look at ``Chunk``'s first number.
        """

    async def tail_shards(
        self,
        stream: str,
        starts: dict[int, int],
        credit: int,
        follow: bool = True,
        until_end: bool = False,
    ) -> ShardTail:
        """Read shards on and on, each from a number (0: its oldest record), parents first.

        ``credit`` bytes may come; ``follow``: children are read where a shard was split or merged;
        ``until_end``: a shard ends with the records that are there when its turn comes.
        """

    async def split_shard(self, stream: str, shard: int, hash_key: str = "") -> StreamInfo:
        """Split a shard in two, at a hash key or in the middle."""

    async def merge_shards(self, stream: str, shard: int, other: int) -> StreamInfo:
        """Merge two adjacent shards."""

    async def rescale_stream(self, stream: str, shards: int) -> StreamInfo:
        """Have so many even shards from now on."""

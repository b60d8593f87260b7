"""A stream: shards that tile the hash keys, and which of them a record goes to.

A record's hash key is the MD5 of its partition key, or given by its sender, as in Kinesis. Open
shards tile 0 to 2**128 - 1. Resharding closes shards and opens others, their children, which go
on counting behind all of their parents: so numbers rise along the life of every hash key. What is
in the parents stays there, to be read before the children.

Records without a partition key are in no order among each other: those of a batch go to one
shard, and batches take turns.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from hashlib import md5
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from ..storage.log import Log
from .errors import Conflict, InvalidArgument, NotFound
from .shard import HASH_KEY_END, Shard, ShardDefinition
from .stream_settings import StreamSettings

if TYPE_CHECKING:
    from .streamreading import ShardRead

__all__ = [
    "Places",
    "Stream",
    "StreamDefinition",
    "hash_key_of",
    "merged",
    "rescaled",
    "split",
    "tile",
]

_PLACES_MAX = 65_536  # partition keys whose shard is remembered, of all streams


class StreamDefinition(msgspec.Struct, kw_only=True):
    """The content of a stream's DEFINITION record."""

    kind: str = "stream"
    name: str
    settings: StreamSettings
    created_ms: int
    next_index: int  # of the next shard
    shards: list[ShardDefinition]


def hash_key_of(key: bytes) -> int:
    """The hash key of a partition key in UTF-8: its MD5 as a big-endian number."""
    return int.from_bytes(md5(key, usedforsecurity=False).digest())


class Places:
    """Where partition keys go that came of late, of all streams: so that they stay few."""

    def __init__(self) -> None:
        self._count = 0
        self._all: list[dict[bytes, Shard]] = []

    def add(self, places: dict[bytes, Shard], key: bytes, shard: Shard) -> None:
        """Remember one among those of its stream."""
        if self._count >= _PLACES_MAX:
            for each in self._all:
                each.clear()
            self._all.clear()
            self._count = 0
        if not places:
            self._all.append(places)
        places[key] = shard
        self._count += 1


class Stream:
    """A stream as it is now. What changes it stands in ``streams.py``.

    Attributes:
        shards: all that can still be read, by index. open: those that take records, by hash key.
        stamp: changes with every resharding.
        deleted: it is gone.
        waiting: reads at the end of a shard, by its index.
    """

    def __init__(self, id: int, definition: StreamDefinition, log: Log, places: Places) -> None:
        self.id = id
        self.name = definition.name
        self.created_ms = definition.created_ms
        self.log = log
        self.settings = definition.settings
        self.next_index = definition.next_index
        self.shards: dict[int, Shard] = {}
        self.open: list[Shard] = []
        self.stamp = 0
        self.deleted = False
        self.waiting: dict[int, dict[ShardRead, None]] = {}
        self._bounds: list[int] = []
        self._places: dict[bytes, Shard] = {}
        self._all_places = places
        self._turn = 0

    def definition(self) -> StreamDefinition:
        """What a DEFINITION record says of it."""
        return StreamDefinition(
            name=self.name,
            settings=self.settings,
            created_ms=self.created_ms,
            next_index=self.next_index,
            shards=[shard.definition for shard in self.shards.values()],
        )

    def apply(self, definition: StreamDefinition) -> list[Shard]:
        """Apply: it is as the definition says. Returns the shards that are gone."""
        self.settings = definition.settings
        self.next_index = definition.next_index
        gone = dict(self.shards)
        shards: dict[int, Shard] = {}
        for each in definition.shards:
            shard = gone.pop(each.index, None)
            if shard is None:
                shard = Shard(each, definition.settings.durability, self.log)
            shard.definition = each
            shards[each.index] = shard
        self.shards = shards
        self.open = sorted(
            (shard for shard in shards.values() if not shard.closed),
            key=lambda shard: shard.first_hash,
        )
        self._bounds = [shard.first_hash for shard in self.open]
        self._places.clear()
        self.stamp += 1
        return list(gone.values())

    @property
    def stored_bytes(self) -> int:
        """Of all that can be read, as it is stored."""
        return sum(shard.stored_bytes for shard in self.shards.values())

    def shard(self, index: int) -> Shard:
        """The shard of that number. Raises NotFound."""
        shard = self.shards.get(index)
        if shard is None:
            raise NotFound(f"stream {self.name} has no shard {index}")
        return shard

    def children(self, index: int) -> list[int]:
        """The shards that go on where a closed one ends."""
        return [each.index for each in self.shards.values() if index in each.definition.parents]

    def parents(self, shard: Shard) -> list[Shard]:
        """Those of its parents that can still be read."""
        return [self.shards[each] for each in shard.definition.parents if each in self.shards]

    # Routing ----------------------------------------------------------------------------------

    def place(self, key: bytes) -> Shard:
        """The shard of a partition key."""
        shard = self._places.get(key)
        if shard is None:
            shard = self.place_hash(hash_key_of(key))
            self._all_places.add(self._places, key, shard)
        return shard

    def place_hash(self, hash_key: int) -> Shard:
        """The shard of a hash key. Raises InvalidArgument."""
        if not 0 <= hash_key < HASH_KEY_END:
            raise InvalidArgument("a hash key is between 0 and 2**128 - 1")
        return self.open[bisect_right(self._bounds, hash_key) - 1]

    def place_any(self) -> Shard:
        """The shard for a batch without partition keys: each in turn."""
        self._turn += 1
        return self.open[self._turn % len(self.open)]


# Resharding ---------------------------------------------------------------------------------
#
# Pure: each returns the new definition. Closed shards get their end, children their start.


def tile(count: int) -> list[tuple[int, int]]:
    """``count`` ranges of hash keys, as even as may be."""
    bounds = [HASH_KEY_END * index // count for index in range(count + 1)]
    return [(first, end - 1) for first, end in pairwise(bounds)]


def split(
    stream: Stream, index: int, hash_key: int | None, ids: Sequence[int], now_ms: int
) -> StreamDefinition:
    """Split a shard in two; the second begins at ``hash_key``, or in the middle.

    Raises NotFound, Conflict (it is closed), InvalidArgument (the hash key is not inside).
    """
    shard = _open_shard(stream, index)
    if hash_key is None:
        hash_key = (shard.first_hash + shard.last_hash + 1) // 2
    if not shard.first_hash < hash_key <= shard.last_hash:
        raise InvalidArgument(
            f"shard {index} is split between {shard.first_hash + 1} and {shard.last_hash}"
        )
    ranges = [(shard.first_hash, hash_key - 1), (hash_key, shard.last_hash)]
    return _resharded(stream, [shard], ranges, ids, now_ms)


def merged(
    stream: Stream, index: int, other: int, ids: Sequence[int], now_ms: int
) -> StreamDefinition:
    """Merge two shards that are adjacent.

    Raises NotFound, Conflict (one is closed), InvalidArgument (they are not adjacent).
    """
    shards = [_open_shard(stream, index), _open_shard(stream, other)]
    shards.sort(key=lambda shard: shard.first_hash)
    low, high = shards
    if low.last_hash + 1 != high.first_hash:
        raise InvalidArgument(f"shards {index} and {other} are not adjacent")
    return _resharded(stream, shards, [(low.first_hash, high.last_hash)], ids, now_ms)


def rescaled(stream: Stream, ids: Sequence[int], now_ms: int) -> StreamDefinition:
    """As many even shards as there are ``ids``, instead of those that are open."""
    return _resharded(stream, stream.open, tile(len(ids)), ids, now_ms)


def _open_shard(stream: Stream, index: int) -> Shard:
    shard = stream.shard(index)
    if shard.closed:
        raise Conflict(f"shard {index} of stream {stream.name} is closed")
    return shard


def _resharded(
    stream: Stream,
    closing: Iterable[Shard],
    ranges: Sequence[tuple[int, int]],
    ids: Sequence[int],
    now_ms: int,
) -> StreamDefinition:
    closed = {shard.index: shard for shard in closing}
    shards = []
    for shard in stream.shards.values():
        each = shard.definition
        if shard.index in closed:
            each = msgspec.structs.replace(each, end=shard.next, closed_ms=now_ms)
        shards.append(each)
    next_index = stream.next_index
    for id, (first, last) in zip(ids, ranges, strict=True):
        parents = [p for p in closed.values() if p.first_hash <= last and first <= p.last_hash]
        shards.append(
            ShardDefinition(
                id=id,
                index=next_index,
                first_hash=str(first),
                last_hash=str(last),
                parents=[parent.index for parent in parents],
                start=max(parent.next for parent in parents),
                created_ms=now_ms,
            )
        )
        next_index += 1
    return StreamDefinition(
        name=stream.name,
        settings=stream.settings,
        created_ms=stream.created_ms,
        next_index=next_index,
        shards=shards,
    )

"""A stream: which shard a record goes to, and what resharding makes of the shards."""

import hashlib
from itertools import pairwise

import pytest

from braidmq.broker import stream as module
from braidmq.broker.errors import Conflict, InvalidArgument, NotFound
from braidmq.broker.shard import HASH_KEY_END, ShardDefinition
from braidmq.broker.stream import (
    Places,
    Stream,
    StreamDefinition,
    hash_key_of,
    merged,
    rescaled,
    split,
    tile,
)
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.memory import MemoryLog


def make(shards: int = 2, places: Places | None = None) -> Stream:
    definitions = [
        ShardDefinition(
            id=10 + index,
            index=index,
            first_hash=str(first),
            last_hash=str(last),
            parents=[],
            start=1,
            created_ms=0,
        )
        for index, (first, last) in enumerate(tile(shards))
    ]
    definition = StreamDefinition(
        name="s", settings=StreamSettings(), created_ms=0, next_index=shards, shards=definitions
    )
    stream = Stream(1, definition, MemoryLog(), places or Places())
    stream.apply(definition)
    return stream


def ranges(stream: Stream) -> list[tuple[int, int]]:
    return [(shard.first_hash, shard.last_hash) for shard in stream.open]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10_000])
def test_tiles_cover_all_hash_keys_evenly(count):
    tiles = tile(count)
    assert tiles[0][0] == 0 and tiles[-1][1] == HASH_KEY_END - 1
    assert all(low[1] + 1 == high[0] for low, high in pairwise(tiles))
    sizes = {last - first for first, last in tiles}
    assert max(sizes) - min(sizes) <= 1


def test_a_hash_key_is_the_md5_of_the_partition_key():
    digest = hashlib.md5(b"user-1", usedforsecurity=False).hexdigest()
    assert hash_key_of(b"user-1") == int(digest, 16)


def test_every_hash_key_has_its_shard():
    stream = make(4)
    for shard in stream.open:
        assert stream.place_hash(shard.first_hash) is shard
        assert stream.place_hash(shard.last_hash) is shard
    for key in (b"a", b"b", b"truck-77"):
        assert stream.place(key) is stream.place_hash(hash_key_of(key)) is stream.place(key)
    for wrong in (-1, HASH_KEY_END):
        with pytest.raises(InvalidArgument, match="hash key"):
            stream.place_hash(wrong)


def test_batches_without_keys_take_turns():
    stream = make(3)
    assert len({stream.place_any() for _ in range(3)}) == 3


def test_places_are_remembered_up_to_a_limit_for_all_streams(monkeypatch):
    monkeypatch.setattr(module, "_PLACES_MAX", 10)
    places = Places()
    streams = [make(2, places) for _ in range(3)]
    for number in range(100):
        stream = streams[number % 3]
        key = b"%d" % number
        assert stream.place(key) is stream.place_hash(hash_key_of(key))
        assert sum(len(stream._places) for stream in streams) <= 10


def test_after_a_split_keys_go_to_the_children():
    stream = make(1)
    before = stream.place(b"a")
    before.put(1, 5, 1, 1, 1)
    stamp = stream.stamp
    assert stream.apply(split(stream, 0, None, [20, 21], 9)) == []
    assert stream.stamp != stamp and stream.place(b"a") is not before
    assert before.closed and before.definition.end == 6 and before.definition.closed_ms == 9
    assert ranges(stream) == tile(2)
    assert [shard.next for shard in stream.open] == [6, 6], "numbers rise along a hash key's life"
    assert stream.children(0) == [1, 2]
    assert [parent.index for parent in stream.parents(stream.shard(1))] == [0]


def test_a_split_may_be_anywhere_inside():
    stream = make(2)
    first, last = ranges(stream)[1]
    for wrong in (first, last + 1, 0):
        with pytest.raises(InvalidArgument, match="split between"):
            split(stream, 1, wrong, [20, 21], 9)
    stream.apply(split(stream, 1, last, [20, 21], 9))
    assert ranges(stream)[1:] == [(first, last - 1), (last, last)]
    with pytest.raises(InvalidArgument):
        split(stream, 3, None, [22, 23], 0)  # one hash key cannot be divided


def test_a_merge_goes_on_behind_both():
    stream = make(3)
    stream.shard(0).put(1, 5, 1, 1, 1)
    stream.shard(1).put(1, 9, 1, 1, 1)
    stream.apply(merged(stream, 1, 0, [20], 9))
    child = stream.shard(3)
    assert (child.next, child.definition.parents) == (10, [0, 1])
    assert len(stream.open) == 2
    for one, other in ((3, 3), (0, 2), (2, 9)):
        with pytest.raises((Conflict, InvalidArgument, NotFound)):
            merged(stream, one, other, [21], 9)


def test_shards_that_are_not_adjacent_are_not_merged():
    with pytest.raises(InvalidArgument, match="not adjacent"):
        merged(make(3), 0, 2, [20], 9)


def test_a_closed_shard_is_not_split():
    stream = make(1)
    stream.apply(split(stream, 0, None, [20, 21], 9))
    with pytest.raises(Conflict, match="closed"):
        split(stream, 0, None, [22, 23], 9)


@pytest.mark.parametrize(("before", "after"), [(1, 5), (4, 2), (3, 2), (2, 3)])
def test_rescaling_tiles_anew_and_names_the_parents(before, after):
    stream = make(before)
    for shard in stream.open:
        shard.put(1, shard.index + 1, 1, 1, 1)
    old = list(stream.open)
    stream.apply(rescaled(stream, range(20, 20 + after), 9))
    assert ranges(stream) == tile(after)
    for shard in stream.open:
        parents = [
            each.index
            for each in old
            if each.first_hash <= shard.last_hash and shard.first_hash <= each.last_hash
        ]
        assert shard.definition.parents == parents
        assert shard.next == max(stream.shard(index).next for index in parents)


def test_a_definition_without_a_shard_drops_it():
    stream = make(1)
    stream.apply(split(stream, 0, None, [20, 21], 9))
    closed = stream.shard(0)
    definition = stream.definition()
    definition.shards = definition.shards[1:]
    assert stream.apply(definition) == [closed]
    assert stream.apply(stream.definition()) == []
    assert stream.parents(stream.shard(1)) == []
    with pytest.raises(NotFound):
        stream.shard(0)

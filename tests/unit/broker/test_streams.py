"""What goes into a stream: per-record answers, blocks, rates, limits; and how it changes."""

import hashlib
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import streams as module
from braidmq.broker.errors import (
    BraidError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Throttled,
    TooLarge,
)
from braidmq.broker.limits import PARTITION_KEY_BYTES_MAX, Limits
from braidmq.broker.stream import Stream
from braidmq.broker.stream_settings import (
    KINESIS_BYTES_IN_PER_SECOND,
    KINESIS_RECORDS_IN_PER_SECOND,
    StreamSettings,
)
from braidmq.broker.streams import Appending
from tests.broker_harness import Harness
from tests.stream_client import StreamClient, batch_of


@pytest.fixture
def client() -> StreamClient:
    return StreamClient(Harness()).declare(4)


def kinds(results: list[Any]) -> list[Any]:
    return [type(each) if isinstance(each, BraidError) else each for each in results]


def test_records_of_a_key_stay_in_one_shard_in_their_order(client):
    keys = [b"user-%d" % (n % 7) for n in range(50)]
    bodies = [b"%d" % n for n in range(50)]
    results = client.try_append(Appending(bodies, keys))
    for key, body, (index, number) in zip(keys, bodies, results, strict=True):
        shard = client.shard(index)
        digest = int(hashlib.md5(key, usedforsecurity=False).hexdigest(), 16)
        assert shard.first_hash <= digest <= shard.last_hash
        (record, *_) = client.read(index, number)
        assert (record.key, record.body) == (key, body)


def test_a_hash_key_overrides_the_key(client):
    last = 2**128 - 1
    batch = Appending([b"a", b"b", b"c"], [b"k"] * 3, None, [0, last, -1])
    expected = client.stream.place(b"k").index
    assert [each[0] for each in client.try_append(batch)] == [0, 3, expected]


def test_headers_are_kept(client):
    batch = Appending([b"a", b"b"], [b"k"] * 2, [b"\x81\xa1x\xa1y", b""])
    (index, number), _ = client.try_append(batch)
    assert [each.headers for each in client.read(index, number)] == [b"\x81\xa1x\xa1y", b""]


def test_each_record_has_its_own_answer():
    client = StreamClient(Harness()).declare(1, record_bytes_max=100)
    batch = Appending(
        [b"ok", b"x" * 101, b"ok", b"x" * 60, b"ok", b"ok", b"ok"],
        [b"k", b"k", b"\xff", b"k" * 41, b"k", b"", b"k"],
        [b"", b"", b"", b"", b"h" * 98, b"", b""],
        [-1, -1, -1, -1, -1, 2**128, -1],
    )
    assert kinds(client.try_append(batch)) == [
        (0, 1),
        TooLarge,
        InvalidArgument,
        TooLarge,
        TooLarge,
        InvalidArgument,
        (0, 2),
    ]


RECORDS = st.tuples(
    st.sampled_from([b"", b"x" * 60, b"x" * 101]),
    st.sampled_from([b"", b"k", b"key", b"\xff", b"k" * (PARTITION_KEY_BYTES_MAX + 1)]),
    st.sampled_from([b"", b"\x81\xa1x\xa1y", b"h" * 98]),
    st.sampled_from([-1, 0, 2**127, 2**128 - 1, 2**128]),
)


@given(st.integers(1, 3), st.lists(RECORDS, max_size=8), st.sampled_from([0, 3]))
def test_a_record_that_comes_alone_is_treated_as_one_in_a_batch(shards, records, rate):
    """Those of a batch without keys go to one shard, those that come alone to each in turn."""
    results = []
    for size in (1, len(records)):
        settings = {"record_bytes_max": 100, "shard_records_in_per_second": rate}
        client = StreamClient(Harness()).declare(shards, **settings)
        stream: Any = client.stream
        stream.place_any = partial(stream.shard, 0)
        answers = []
        for at in range(0, len(records), size or 1):
            bodies, keys, headers, hash_keys = zip(*records[at : at + size], strict=True)
            answers += kinds(client.try_append(Appending(bodies, keys, headers, hash_keys)))
        streams = client.core.streams
        found = [client.read(n) for n in range(shards) if client.shard(n).next > 1]
        results.append((answers, found, streams.appended, streams.throttled))
    assert results[0] == results[1]


def test_the_largest_record_just_fits():
    client = StreamClient(Harness()).declare(1, record_bytes_max=2_000)
    key = b"k" * PARTITION_KEY_BYTES_MAX
    body = b"x" * (2_000 - len(key))
    batch = Appending([body, body + b"x", b""], [key, key, key + b"k"])
    assert kinds(client.try_append(batch)) == [(0, 1), TooLarge, InvalidArgument]
    umlaut = "\u00fc".encode()
    results = client.try_append(Appending([b"", b""], [umlaut[:1], umlaut[1:]]))
    assert kinds(results) == [InvalidArgument] * 2, "no key lends its bytes to the next"


def test_a_batch_becomes_blocks_of_a_bounded_size(client, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES_MAX", 1_000)
    bodies = [b"x" * size for size in (400, 400, 400, 3_000, 1, 1)]
    keys = [b"k"] * 6
    headers = [b"", b"", b"", b"", b"", b"h" * 999]
    results = client.try_append(Appending(bodies, keys, headers))
    shard = client.shard(results[0][0])
    assert list(shard.firsts) == [1, 3, 4, 5, 6]
    assert [record.body for record in client.read(shard.index)] == bodies


def test_rates_let_a_seconds_worth_through_and_answer_for_each_record():
    client = StreamClient(Harness()).declare(
        1,
        shard_records_in_per_second=KINESIS_RECORDS_IN_PER_SECOND,
        shard_bytes_in_per_second=KINESIS_BYTES_IN_PER_SECOND,
    )
    results = kinds(client.try_append(batch_of(*[b"x"] * 1_200, key=b"k")))
    assert results == [(0, n + 1) for n in range(1_000)] + [Throttled] * 200
    assert client.core.streams.throttled == 200
    client.broker.advance(100)
    assert kinds(client.try_append(batch_of(*[b"x"] * 200))).count(Throttled) == 100
    client.broker.advance(2_000)
    results = kinds(client.try_append(batch_of(*[b"x" * 300_000] * 5)))
    assert results.count(Throttled) == 2
    assert client.shard().next == 1_000 + 100 + 3 + 1


def test_rates_are_those_of_a_shard():
    client = StreamClient(Harness()).declare(2, shard_records_in_per_second=1)
    hash_keys = [0, 0, 2**127, 2**127]
    batch = Appending([b""] * 4, [b""] * 4, None, hash_keys)
    assert kinds(client.try_append(batch)) == [(0, 1), Throttled, (1, 1), Throttled]


def test_rates_can_be_changed_and_are_off_by_default(client):
    client.append(*[b"x" * 1_000] * 5_000, key=b"k")
    client.update(shard_records_in_per_second=10)
    assert kinds(client.try_append(batch_of(*[b""] * 20, key=b"k"))).count(Throttled) == 10
    client.update(shard_records_in_per_second=0)
    client.append(*[b""] * 20, key=b"k")


def test_reading_has_a_rate_too():
    client = StreamClient(Harness()).declare(1, shard_bytes_out_per_second=1_000)
    client.append(b"x" * 2_500)
    assert client.chunk().count == 1
    with pytest.raises(Throttled):
        client.chunk()
    client.broker.advance(1_500)
    with pytest.raises(Throttled):
        client.chunk()
    client.broker.advance(500)
    assert client.chunk().count == 1


def test_rates_of_shards_that_are_gone_are_forgotten():
    client = StreamClient(Harness()).declare(
        2, shard_records_in_per_second=1, shard_bytes_out_per_second=1
    )
    client.append(b"a", hash_key=0)
    client.chunk()
    assert client.core.streams._rates
    client.delete()
    assert not client.core.streams._rates


def test_there_are_only_so_many_streams():
    broker = Harness(limits=Limits(streams_max=2))
    for name in "ab":
        StreamClient(broker, name).declare()
    with pytest.raises(LimitExceeded, match="2 streams"):
        StreamClient(broker, "c").declare()
    StreamClient(broker, "a").declare()  # it is there
    StreamClient(broker, "a").delete()
    StreamClient(broker, "c").declare()


def test_a_stream_has_only_so_many_open_shards():
    client = StreamClient(Harness(limits=Limits(shards_per_stream_max=3)))
    for wrong in (0, 4):
        with pytest.raises(InvalidArgument, match="1 to 3"):
            client.declare(wrong)
    client.declare(3)
    with pytest.raises(InvalidArgument):
        client.split(0)
    with pytest.raises(InvalidArgument):
        client.rescale(4)
    client.merge(0, 1)
    client.split(3)


def test_there_are_only_so_many_shards_in_all():
    broker = Harness(limits=Limits(shards_max=5))
    client = StreamClient(broker).declare(3)
    with pytest.raises(LimitExceeded, match="5 shards"):
        StreamClient(broker, "other").declare(3)
    client.split(0)  # two more, and one that is closed
    for reshard in (lambda: client.split(1), lambda: client.merge(3, 4), lambda: client.rescale(2)):
        with pytest.raises(LimitExceeded):
            reshard()
    broker.advance(2_000)  # the closed one was empty
    client.merge(3, 4)


def test_rescaling_to_what_is_there_does_nothing(client):
    before = client.stream.stamp
    client.rescale(4)
    assert client.stream.stamp == before


class Watcher:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def resharded(self, stream: Stream) -> None:
        self.heard.append("resharded")

    def ended(self, stream: Stream) -> None:
        self.heard.append("ended")


def test_watchers_hear_of_every_change(client):
    watcher = Watcher()
    client.core.streams.watchers.setdefault(client.stream.id, {})[watcher] = None
    client.split(0)
    client.merge(1, 2)
    client.append(b"x")
    assert watcher.heard == ["resharded"] * 2
    client.delete()
    assert watcher.heard[-1] == "ended" and not client.core.streams.watchers


def test_a_deleted_stream_is_gone_and_its_name_free(client):
    client.append(b"x")
    client.delete()
    with pytest.raises(NotFound):
        client.append(b"x")
    client.declare(1)
    assert client.append(b"x") == [(0, 1)]


def test_settings_change_and_shards_stay(client):
    client.append(b"x", hash_key=0)
    client.update(tags={"a": "b"})
    assert client.stream.settings == StreamSettings(retention_ms=0, tags={"a": "b"})
    assert client.bodies(0) == [b"x"]

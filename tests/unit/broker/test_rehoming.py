"""Blocks move to files: nothing is lost or changed on the way, whatever comes between."""

import random

import pytest

from braidmq.broker import rehoming
from braidmq.broker.rehoming import rehoming_due
from braidmq.broker.streamreading import block_at
from braidmq.storage.errors import Corrupt, DiskFull
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, publish
from tests.simdisk import run_steps
from tests.stream_client import Got, StreamClient


def noise(count: int, size: int = 100) -> list[bytes]:
    """Bodies that cannot be compressed."""
    rng = random.Random(count)
    return [rng.randbytes(size) for _ in range(count)]


@pytest.fixture
def client() -> StreamClient:
    return StreamClient(DiskBroker(cache_bytes_max=4_096)).declare()


def fill(client: StreamClient, count: int) -> None:
    """Append records, and what seals their segment."""
    for body in noise(count):
        client.append(body)
    client.append(*noise(1, 4_000))
    client.append(b"." * 4_000)


def rehome(client: StreamClient, between=lambda: None) -> None:
    client.broker.rehome(between)


def files(client: StreamClient) -> list[str]:
    return [name for name in client.broker.disk.names() if "/cold/" in name]


def test_what_is_settled_moves_and_reads_the_same(client):
    fill(client, 50)
    before = client.read()
    sealed = client.broker.log.sealed_lsn
    rehome(client)
    shard = client.shard()
    assert [(file.first, file.generation) for file in shard.cold] == [(1, 1)]
    assert all(lsn >= sealed for lsn in shard.lsns)
    assert client.read() == before
    assert client.read(number=17) == before[16:]
    assert client.read(bytes_max=1) == before


def test_the_segments_are_free(client):
    fill(client, 100)
    broker = client.broker
    segments = broker.log.statistics().segments
    broker.checkpoint()
    assert broker.log.statistics().segments == segments
    rehome(client)
    broker.checkpoint()
    assert broker.log.statistics().segments <= 3


def test_a_quiet_stream_does_not_keep_old_segments(client):
    """Others write; what it has stands in the way of their segments."""
    client.append(b"quiet")
    other = StreamClient(client.broker, "other").declare()
    fill(other, 50)
    rehome(client)
    assert not client.shard().lsns and client.bodies() == [b"quiet"]


def test_small_files_are_taken_in_and_large_ones_are_not(client):
    fill(client, 60)
    rehome(client)
    fill(client, 3)
    rehome(client)
    assert [file.generation for file in client.shard().cold] == [1, 2]
    before = client.read()
    fill(client, 90)
    rehome(client)
    (file,) = client.shard().cold
    assert (file.generation, file.first) == (3, 1)
    assert client.read()[: len(before)] == before
    rehome(client)
    assert len(files(client)) == len(client.shard().cold) == 2, "those taken in are removed"


def test_files_stay_below_their_limit(client, monkeypatch):
    monkeypatch.setattr(rehoming, "FILE_BYTES_MAX", 10_000)
    for _ in range(6):
        fill(client, 30)
        rehome(client)
    assert len(client.shard().cold) >= 3


def test_files_are_small_parts_of_what_a_stream_may_have(client):
    """Because they go as a whole."""
    client.update(retention_bytes=100_000)
    for _ in range(20):
        fill(client, 30)
        rehome(client)
    assert max(file.bytes for file in client.shard().cold) < 10_000
    client.broker.advance(2_000)
    assert 85_000 < client.stream.stored_bytes <= 100_000


def test_only_so_many_blocks_move_in_one_go(client, monkeypatch):
    monkeypatch.setattr(rehoming, "_BLOCKS_MAX", 10)
    monkeypatch.setattr(rehoming, "FILE_BYTES_MAX", 1)
    fill(client, 40)
    before = client.read()
    rehome(client)
    assert len(client.shard().cold) == 5 and client.read() == before


def test_records_that_came_by_a_topic_move_as_well(client):
    broker = client.broker
    broker.declare("q")
    bind(broker, "t/#", "s", "stream")
    bind(broker, "t/#", "q")
    for number in range(30):
        publish(
            broker, f"t/{number % 3}", b"%d" % number + b"." * 100, partition_key=f"k{number % 2}"
        )
    fill(client, 1)
    before = client.read()
    assert {record.key for record in before[:30]} == {b"k0", b"k1"} and before[0].headers
    rehome(client)
    assert client.shard().cold and client.read() == before
    broker.checkpoint()
    broker.compact()
    assert [body.split(b".")[0] for body in broker.drain("q")] == [b"%d" % n for n in range(30)]
    assert StreamClient(broker.restarted()).read() == before


def interrupted(client: StreamClient, change, at: int) -> None:
    """Have something happen after a step of a re-homing."""
    steps = iter(range(10_000))
    rehome(client, lambda: change() if next(steps) == at else None)


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("first", [3, 55, 70, 1_000])
def test_it_may_be_trimmed_meanwhile(client, at, first):
    fill(client, 40)
    rehome(client)
    fill(client, 40)
    before = client.read()
    interrupted(client, lambda: client.core.streams.trim(client.shard(), first), at)
    client.core.streams.trim(client.shard(), first)
    expected = [record for record in before if record.number >= first]
    assert client.read() == expected
    for _ in range(2):
        fill(client, 1)
        rehome(client)
    assert client.read()[: len(expected)] == expected
    rehome(client)
    assert len(files(client)) == len(client.shard().cold)


@pytest.mark.parametrize("at", range(12))
def test_its_stream_may_be_deleted_meanwhile(client, at):
    fill(client, 40)
    rehome(client)
    fill(client, 40)
    deleted = []

    def delete() -> None:
        client.delete()
        deleted.append(at)

    interrupted(client, delete, at)
    if not deleted:
        client.delete()
    rehome(client)
    client.declare()
    fill(client, 2)
    rehome(client)
    rehome(client)
    assert len(files(client)) == len(client.shard().cold), "nothing is left behind"


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("at", range(0, 60, 4))
def test_it_may_die_at_every_call_of_the_disk(client, at, power):
    fill(client, 40)
    rehome(client)
    fill(client, 40)
    before = client.read()
    disk = client.broker.disk
    disk.crash_at = disk.calls + at
    try:
        rehome(client)
        client.broker.checkpoint()
        rehome(client)
    except BaseException as error:
        assert type(error).__name__ == "PowerCut"
    rng = random.Random(at) if power else None
    again = StreamClient(client.broker.restarted(rng))
    assert again.read() == before
    assert len(files(again)) == len(again.shard().cold)


def damage(client: StreamClient, offset: int) -> None:
    (path,) = files(client)
    client.broker.disk.damage(path, offset)


def test_a_damaged_file_is_left_alone(client):
    fill(client, 10)
    rehome(client)
    damage(client, 60)
    fill(client, 40)
    end = client.shard().cold_end
    expected: list[Got] = client.read(number=end)
    rehome(client)
    assert [file.generation for file in client.shard().cold] == [1, 2]
    assert client.read(number=end) == expected


def test_what_cannot_be_read_stays_and_nobody_else_suffers(client, monkeypatch):
    other = StreamClient(client.broker, "other").declare()
    fill(client, 10)
    fill(other, 10)
    shard = client.shard()

    def broken(shard_, extent, index):
        if shard_ is shard:
            raise Corrupt(5, "so it is")
        return block_at(shard_, extent, index)

    monkeypatch.setattr(rehoming, "block_at", broken)
    failures = 0
    for job in client.core.streams.jobs():
        try:
            run_steps(job, client.broker.settle)
        except Corrupt:
            failures += 1
    assert failures == 1 and not shard.cold and other.shard().cold
    assert list(client.core.streams.jobs()) == [], "not before there is more to move"


def test_a_full_disk_leaves_nothing_behind(client):
    fill(client, 100)
    disk = client.broker.disk
    before = client.read()
    disk.capacity = sum(disk.size(name) for name in disk.names()) + 3_000
    with pytest.raises(DiskFull):
        rehome(client)
    assert not files(client)
    disk.capacity = None
    rehome(client)
    assert client.shard().cold and client.read() == before


def test_which_shards_are_due(client):
    store = client.core.stream_store
    fill(client, 20)
    sealed = client.broker.log.sealed_lsn
    shard = client.shard()
    lag = sealed - shard.lsns[0]
    assert list(rehoming_due(store, sealed, shard.hot_bytes, lag)) == []
    assert list(rehoming_due(store, sealed, shard.hot_bytes - 1, lag)) == [(client.stream, shard)]
    assert list(rehoming_due(store, sealed, shard.hot_bytes, lag - 1)) == [(client.stream, shard)]
    assert list(rehoming_due(store, shard.lsns[0], 0, 0)) == [], "nothing of it is sealed"

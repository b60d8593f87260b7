"""Reading: from memory, from segments and from files, also while these change under the reader."""

import pytest

from braidmq.broker import streamreading
from braidmq.broker.errors import InvalidArgument, NotFound, Unavailable
from braidmq.broker.streamreading import partition_key
from braidmq.storage.errors import Corrupt
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, pack, publish
from tests.stream_client import StreamClient, records_of


@pytest.fixture
def client() -> StreamClient:
    """Little of what it writes stays in memory."""
    return StreamClient(DiskBroker(cache_bytes_max=2_048)).declare()


def fill(client: StreamClient, blocks: int = 60) -> list[bytes]:
    bodies = [b"%d" % n + b"." * 200 for n in range(blocks * 3)]
    for at in range(0, len(bodies), 3):
        client.append(*bodies[at : at + 3])
    return bodies


def test_what_has_left_memory_is_read_back(client):
    bodies = fill(client)
    before = client.broker.log.statistics().fetches
    assert client.bodies() == bodies
    assert client.broker.log.statistics().fetches > before


@pytest.mark.parametrize("cold", [False, True])
def test_a_chunk_keeps_to_what_was_asked_for(client, cold):
    bodies = fill(client)
    if cold:
        client.broker.rehome()
    chunk = client.chunk(number=5, records_max=7)
    assert [record.body for record in records_of(chunk)] == bodies[4 : 4 + chunk.count]
    assert 0 < chunk.count <= 7 and chunk.next == 5 + chunk.count
    chunk = client.chunk(number=5, bytes_max=1)
    assert chunk.count >= 1, "there is always one"
    chunk = client.chunk(number=5, bytes_max=2_000)
    assert sum(map(len, chunk.blocks)) <= 2_000 or len(chunk.blocks) == 1
    assert client.chunk(number=0).skip == 0


def test_how_far_a_reader_is_behind(client):
    client.append(b"a")
    client.broker.advance(5_000)
    client.append(b"b")
    client.broker.advance(1_000)
    assert client.chunk(records_max=1).behind_ms == 6_000
    assert client.chunk(number=2).behind_ms == 0


def test_numbers_that_are_not_there_yet_are_refused(client):
    client.append(b"a")
    assert client.chunk(number=2).count == 0
    for wrong in (-1, 3):
        with pytest.raises(InvalidArgument, match="goes from 1 to 2"):
            client.chunk(number=wrong)
    with pytest.raises(NotFound):
        client.chunk(shard=1)


def test_what_was_trimmed_is_left_out(client):
    bodies = fill(client)
    client.core.streams.trim(client.shard(), 51)
    assert client.bodies(number=3) == bodies[50:]


def test_it_may_be_trimmed_moved_or_deleted_while_it_is_fetched(client):
    bodies = fill(client)
    for change, expected in (
        (lambda: client.core.streams.trim(client.shard(), 31), bodies[30]),
        (lambda: client.broker.rehome(), bodies[30]),
        (lambda: client.core.streams.trim(client.shard(), 61), bodies[60]),
    ):
        _, answers = client.begin(number=1)
        client.core.run(client.broker.clock.ms)
        change()
        client.broker.settle()
        assert records_of(answers[0])[0].body in (
            expected,
            bodies[client.shard().first - 1],
            bodies[0],
            bodies[30],
        )
    _, answers = client.begin(number=1)
    client.core.run(client.broker.clock.ms)
    client.delete()
    assert isinstance(answers[0], NotFound)


def test_a_cancelled_read_is_not_answered_when_it_has_come(client):
    fill(client)
    read, answers = client.begin(number=1)
    client.core.run(client.broker.clock.ms)
    client.core.streams.cancel(read)
    client.broker.settle()
    assert not answers


def test_what_is_damaged_is_said_and_what_stands_before_it_is_read(client, monkeypatch):
    client = StreamClient(DiskBroker()).declare()
    for number in range(6):
        client.append(b"%d" % number)
    original = streamreading.block_at

    def block_at(shard, extent, index):
        if index == 3:
            raise Corrupt(shard.lsns[index], "so it is")
        return original(shard, extent, index)

    monkeypatch.setattr(streamreading, "block_at", block_at)
    assert [record.body for record in records_of(client.chunk())] == [b"0", b"1", b"2"]
    with pytest.raises(Unavailable, match="stream s, shard 0"):
        client.chunk(number=4)
    assert client.bodies(number=5) == [b"4", b"5"]


def test_a_damaged_file_is_said(client):
    fill(client)
    broker = client.broker
    broker.rehome()
    (path,) = [name for name in broker.disk.names() if "/cold/" in name]
    broker.disk.damage(path, 70)
    with pytest.raises(Unavailable, match="damaged"):
        client.chunk()
    assert client.bodies(number=client.shard().cold_end)


def test_holes_are_passed_over(client):
    """As a loss that was accepted leaves them."""
    client = StreamClient(DiskBroker()).declare()
    client.append(b"1", b"2")
    shard = client.shard()
    shard.next = 10
    client.append(b"10")
    assert [record.number for record in client.read()] == [1, 2, 10]
    assert [record.number for record in client.read(number=5)] == [10]
    client.append(b"." * 5_000)
    client.append(b"." * 5_000)
    client.broker.rehome()
    assert [file.first for file in shard.cold] == [1, 10]
    assert [record.number for record in client.read()][:3] == [1, 2, 10]
    assert client.read(number=5)[0].number == 10


def test_messages_of_topics_are_records(client):
    broker = client.broker
    bind(broker, "t/#", "s", "stream")
    publish(broker, "t/1", b"one")
    publish(broker, "t/1", b"two", partition_key="k")
    publish(broker, "t/1", b"three", b"four")
    found = client.read()
    assert [record.body for record in found] == [b"one", b"two", b"three", b"four"]
    assert [record.key for record in found] == [b"t/1", b"k", b"t/1", b"t/1"]
    assert all(record.time_ms == broker.clock.ms for record in found)


def test_the_partition_key_of_a_message():
    def key(**headers: str | bytes) -> bytes:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return partition_key(pack("t/1", named))

    assert key(partition_key="k", group_id="g") == key(partition_key=b"k") == b"k"
    assert key(group_id="g") == key(partition_key="", group_id="g") == b"g"
    assert key() == key(partition_key=b"\xff") == key(partition_key="k" * 1_025) == b"t/1"
    assert partition_key(b"") == b""

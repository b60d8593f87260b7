"""How the log brings streams back, whatever happened while a checkpoint was taken."""

import random

import pytest

from braidmq.broker import streamstore
from braidmq.broker.access import SYSTEM
from braidmq.broker.settings import QueueSettings
from braidmq.storage.errors import Corrupt
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient


def again(client: StreamClient) -> StreamClient:
    return StreamClient(client.broker.restarted())


def test_a_stream_comes_back_as_it_was():
    broker = DiskBroker()
    client = StreamClient(broker).declare(2, retention_bytes=10**6, tags={"a": "b"})
    client.append(*[b"x" * 100] * 50, hash_key=5)
    client.split(0)
    client.append(b"child", hash_key=5)
    before = broker.core.stream_info(SYSTEM, "s")
    broker.checkpoint()
    client.append(b"behind it", hash_key=5)
    client = again(client)
    info = client.core.stream_info(SYSTEM, "s")
    assert info.settings == before.settings and len(info.shards) == 4
    assert client.bodies(0) == [b"x" * 100] * 50
    assert client.bodies(2) == [b"child", b"behind it"]


def test_a_stream_of_many_shards_comes_back(monkeypatch):
    monkeypatch.setattr(streamstore, "_SHARDS_PER_SECTION", 3)
    client = StreamClient(DiskBroker()).declare(10)
    for index in range(10):
        client.append(b"%d" % index, hash_key=client.shard(index).first_hash)
    client.merge(4, 5)
    definition = client.stream.definition()
    client.broker.checkpoint()
    client = again(client)
    assert client.stream.definition() == definition
    assert [client.bodies(index) for index in range(10)] == [[b"%d" % n] for n in range(10)]


def test_entities_are_not_used_again():
    client = StreamClient(DiskBroker()).declare(3)
    client.rescale(2)
    used = {client.stream.id, *(shard.id for shard in client.stream.shards.values())}
    client.delete()
    client = again(client).declare(3)
    assert not used & {client.stream.id, *(shard.id for shard in client.stream.shards.values())}


def interrupted(client: StreamClient, change) -> StreamClient:
    """Begin a checkpoint, change something, end the checkpoint, and start again."""
    changes = iter([change])
    client.broker.checkpoint(lambda: next(changes, lambda: None)())
    assert next(changes, None) is None
    return again(client)


def test_a_stream_that_was_deleted_while_a_checkpoint_was_taken():
    """Replay begins with records of a shard whose earlier ones are not to be had any more."""
    client = StreamClient(DiskBroker()).declare()
    client.append(b"before")

    def change() -> None:
        client.update(retention_bytes=10**9)
        client.append(b"meanwhile")
        client.delete()

    assert interrupted(client, change).core.list_streams(SYSTEM, "", "", 10) == []


def test_a_name_that_was_used_again_while_a_checkpoint_was_taken():
    client = StreamClient(DiskBroker()).declare()
    client.append(b"old")

    def change() -> None:
        client.update(retention_bytes=10**9)
        client.delete()
        client.declare(1, tags={"new": ""})
        client.append(b"new")

    client = interrupted(client, change)
    assert client.bodies() == [b"new"] and client.stream.settings.tags == {"new": ""}


def test_a_queue_whose_name_was_used_again_while_a_checkpoint_was_taken():
    broker = DiskBroker()
    broker.declare("q")

    def change() -> None:
        broker.update("q", delay_ms=5)
        broker.delete("q")
        broker.declare("q", delay_ms=7)

    changes = iter([change])
    broker.checkpoint(lambda: next(changes, lambda: None)())
    broker = broker.restarted()
    assert broker.info("q").settings == QueueSettings(delay_ms=7)


def test_shards_that_were_made_while_a_checkpoint_was_taken():
    client = StreamClient(DiskBroker()).declare()
    client.append(b"parent")

    def change() -> None:
        client.split()
        client.append(b"child", hash_key=0)

    client = interrupted(client, change)
    assert client.bodies(0) == [b"parent"] and client.bodies(1) == [b"child"]
    assert client.chunk(0, 2).children == [1, 2]


def test_what_lives_in_memory_is_gone_and_the_stream_is_not():
    client = StreamClient(DiskBroker()).declare(2, durability=Durability.MEMORY)
    client.append(b"x", hash_key=0)
    assert client.bodies(0) == [b"x"]
    client.broker.checkpoint()
    client = again(client)
    assert client.bodies(0) == [] and len(client.stream.open) == 2
    client.append(b"y", hash_key=0)
    assert client.bodies(0) == [b"y"]


def in_files() -> tuple[DiskBroker, list[str]]:
    """A broker whose stream has two cold files; and their paths."""
    broker = DiskBroker()
    client = StreamClient(broker).declare()
    for count in (60, 6):
        for number in range(count):
            client.append(random.Random(number).randbytes(100))  # that cannot be compressed
        client.append(random.Random(0).randbytes(4_000))
        client.append(b"." * 4_000)
        broker.rehome()
    assert len(client.shard().cold) == 2
    broker.checkpoint()
    return broker, [name for name in broker.disk.names() if name.endswith(".seg")]


def test_a_file_that_is_missing_is_damage_unless_that_is_accepted():
    broker, paths = in_files()
    broker.disk.remove(paths[0])
    disk = broker.disk.after_kill()
    with pytest.raises(Corrupt, match="missing"):
        DiskBroker(disk)
    DiskBroker(disk, accept_loss=True)


@pytest.mark.parametrize("lost", [0, 1])
def test_with_an_accepted_loss_the_rest_can_be_read(lost):
    broker, paths = in_files()
    files = StreamClient(broker).shard().cold
    expected = StreamClient(broker).read()
    broker.disk.remove(paths[lost])
    expected = [
        record for record in expected if not files[lost].first <= record.number < files[lost].end
    ]
    broker = broker.restarted(accept_loss=True)
    client = StreamClient(broker)
    assert client.read() == expected
    assert client.shard().cold_bytes == files[1 - lost].bytes
    client.append(b"x" * 4_000)
    client.append(b"x" * 4_000)
    broker.rehome()
    assert [record.body for record in client.read()][:-2] == [record.body for record in expected]
    client.update(retention_bytes=1)
    broker.advance(3_000)
    assert client.read() == []

"""Which lanes a view has: from its beginning, and after every reshard."""

import msgspec
import pytest

from braidmq.broker import viewdefinition
from braidmq.broker.settings import QueueSettings
from braidmq.broker.viewdefinition import ViewDefinition, ViewShard, first_definition, reshaped
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient

NOW_MS = 1_900_000_000_000


@pytest.fixture
def client():
    return StreamClient(DiskBroker()).declare(2, durability=Durability.OS)


def starts(client, **settings):
    definition = first_definition("v", QueueSettings(stream="s", **settings), client.stream, NOW_MS)
    return [each.start for each in definition.shards]


def test_it_begins_where_it_is_told(client):
    client.append(b"a", b"b", hash_key=0)
    client.append(b"c", hash_key=2**128 - 1)
    client.broker.advance(1_000)
    when = client.broker.clock.ms
    client.append(b"d", hash_key=0)
    client.core.streams.trim(client.shard(0), 2)
    assert starts(client, start="earliest") == [2, 1]
    assert starts(client, start="latest") == [4, 2]
    assert starts(client, start="time", start_ms=when) == [3, 2]
    assert starts(client, start="time", start_ms=1) == [2, 1]


def test_in_a_file_it_begins_with_the_file_until_that_was_searched(client):
    for _ in range(40):
        client.append(b"x" * 200, hash_key=0)
        client.broker.advance(1)
    client.broker.rehome()
    file = client.shard(0).cold[0]
    assert starts(client, start="time", start_ms=file.time_first_ms + 1)[0] == file.first
    assert starts(client, start="time", start_ms=client.broker.clock.ms)[0] == client.shard(0).next


def test_it_is_as_durable_as_its_stream(client):
    definition = first_definition("v", QueueSettings(stream="s"), client.stream, NOW_MS)
    assert definition.settings.durability is Durability.OS
    assert definition.stream == client.stream.id and definition.next_code == 2
    packed = msgspec.msgpack.encode(definition)
    assert msgspec.msgpack.decode(packed, type=ViewDefinition) == definition


def test_children_get_lanes_from_their_beginning(client):
    client.append(b"a", b"b", hash_key=0)
    before = first_definition("v", QueueSettings(stream="s", start="latest"), client.stream, NOW_MS)
    assert reshaped(before, client.stream, []) is None
    client.split(0)
    after = reshaped(before, client.stream, [])
    assert after is not None
    assert after.shards[:2] == before.shards
    assert after.shards[2:] == [ViewShard(code, client.shard(code).id, 3) for code in (2, 3)]
    assert after.next_code == 4 and not after.spent


def test_a_code_is_used_again_only_behind_all_that_was_in_its_lane(client):
    view = ViewDefinition(
        name="v",
        settings=QueueSettings(stream="s"),
        created_ms=0,
        stream=client.stream.id,
        shards=[],
        spent={5: 2, 9: 1},
        next_code=10,
    )
    after = reshaped(view, client.stream, [])
    assert after is not None
    assert [each.code for each in after.shards] == [9, 10]  # 5 had number 1 in it
    assert after.spent == {5: 2} and after.next_code == 11
    assert view.spent == {5: 2, 9: 1}, "the one before stays as it is"


def test_there_are_so_many_lanes_and_no_more(client, monkeypatch):
    monkeypatch.setattr(viewdefinition, "CODES_MAX", 3)
    client.rescale(4)
    view = first_definition("v", QueueSettings(stream="s"), client.stream, NOW_MS)
    assert [each.code for each in view.shards] == [0, 1, 2]
    assert reshaped(view, client.stream, []) is None
    after = reshaped(view, client.stream, [client.shard(0)])
    assert after is not None
    assert [each.code for each in after.shards] == [1, 2, 0]

"""What the log brings back of groups, in whatever order it comes."""

import msgspec

from braidmq.broker.group import Cursor, GroupDefinition
from braidmq.broker.groupstore import GROUP, GroupStore
from braidmq.broker.streamverbs import Start
from braidmq.storage.streams import CursorRecord
from tests.broker_harness import Harness
from tests.group_client import declare_stream


def definition(stream: int, name: str = "g") -> GroupDefinition:
    return GroupDefinition(name=name, stream=stream, start=Start("latest"), created_ms=7)


def opened() -> tuple[Harness, GroupStore, int]:
    broker = Harness()
    declare_stream(broker)
    stream = broker.core.streams.get("s")
    return broker, GroupStore(broker.log, broker.core.stream_store), stream.id


def test_what_a_checkpoint_keeps_comes_back():
    broker, store, stream = opened()
    group = store.define(50, definition(stream))
    store.set_cursor(CursorRecord(50, stream + 1, 9, 77, 1_000))
    ((kind, content),) = store.snapshot()
    assert kind == GROUP
    other = GroupStore(broker.log, broker.core.stream_store)
    other.load(content)
    (found,) = other.by_id.values()
    assert group is not None and found.definition() == group.definition()
    assert found.cursors == {stream + 1: Cursor(9, 77, 1_000)}
    assert other.epoch_max == 77 and other.of(stream) == {"g": found}


def test_applying_twice_changes_nothing():
    _, store, stream = opened()
    for _ in range(2):
        group = store.define(50, definition(stream))
        store.set_cursor(CursorRecord(50, stream + 1, 9, 77, 1_000))
    assert group is not None and group.cursors == {stream + 1: Cursor(9, 77, 1_000)}
    store.set_cursor(CursorRecord(50, stream + 1, 3, 78, 1_001))
    assert group.cursors[stream + 1].number == 3, "a reset"
    for _ in range(2):
        store.undefine(50)
        store.set_cursor(CursorRecord(50, stream + 1, 9, 79, 1_000))
    assert not store.by_id and not store.of(stream) and store.epoch_max == 79


def test_a_group_of_a_stream_that_is_not_there_is_left_out():
    _, store, _ = opened()
    content = msgspec.msgpack.encode(
        {"id": 51, "definition": definition(4_711), "cursors": {1: Cursor(2, 88, 3)}}
    )
    store.load(content)
    assert store.define(52, definition(4_711)) is None
    assert not store.by_id and store.epoch_max == 88


def test_groups_go_with_their_stream_and_names_may_come_again():
    _, store, stream = opened()
    store.define(50, definition(stream))
    store.define(51, definition(stream, "h"))
    store.undefine(stream)
    assert not store.by_id and not store.of(stream)
    store.define(52, definition(stream))
    store.define(53, definition(stream))
    store.undefine(52)
    assert store.of(stream)["g"].id == 53


def test_cursors_of_shards_that_are_gone_are_forgotten_in_the_end():
    _, store, stream = opened()
    group = store.define(50, definition(stream))
    store.set_cursor(CursorRecord(50, 4_711, 9, 77, 1_000))
    store.set_cursor(CursorRecord(50, stream + 1, 9, 77, 1_000))
    store.finish()
    assert group is not None and list(group.cursors) == [stream + 1]


def test_a_group_that_ends_while_a_checkpoint_is_written_is_left_out():
    _, store, stream = opened()
    store.define(50, definition(stream))
    store.define(51, definition(stream, "h"))
    sections = store.snapshot()
    next(sections)
    store.undefine(51)
    assert list(sections) == []

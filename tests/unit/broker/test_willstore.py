"""Wills in the log: what their records and sections say, and that saying it twice does nothing."""

import msgspec

from braidmq.broker.willstore import WillDefinition, WillStore
from tests.topic_client import will_of


def definition(number: int, body: bytes = b"x", due_ms: int = 0) -> WillDefinition:
    return WillDefinition(
        number=number, session="c", user="u", due_ms=due_ms, message=will_of("w", body, 5_000)
    )


def test_a_definition_can_be_applied_again_and_replaced():
    store = WillStore()
    for _ in range(2):
        store.define(definition(1, b"long"))
        assert store.bytes == definition(1, b"long").message.size
    store.define(definition(1, b"x", due_ms=7))
    assert store.by_number == {1: definition(1, b"x", due_ms=7)}
    assert store.remove(1) and not store.remove(1)
    assert not store.by_number and store.bytes == 0


def test_a_number_is_not_given_to_two_wills():
    store = WillStore()
    for _ in range(3):
        store.define(definition(store.next_number()))
    assert sorted(store.by_number) == [1, 2, 3]
    store.remove(2)
    assert store.next_number() == 4


def test_sections_bring_all_back_also_when_some_go_meanwhile():
    store = WillStore()
    for number in range(1, 41):
        store.define(definition(number, b"%d" % number, due_ms=number))
    snapshot = store.snapshot()
    sections = [next(snapshot)]
    store.remove(1)  # it stands in the section already: the log will take it back again
    store.remove(40)
    sections += snapshot
    assert len(sections) == 3
    loaded = WillStore()
    for _, content in sections:
        loaded.load(content)
    loaded.remove(1)
    assert loaded.by_number == store.by_number and loaded.bytes == store.bytes
    assert loaded.next_number() == 40


def test_what_stands_on_disk():
    """Fields may be added; these names stay."""
    content = msgspec.msgpack.decode(msgspec.msgpack.encode(definition(3, b"x", 9)))
    message = content.pop("message")
    assert content == {"kind": "will", "number": 3, "session": "c", "user": "u", "due_ms": 9}
    assert message.keys() == {
        *("topic", "body", "attributes", "qos", "retain", "lifetime_ms", "delay_ms")
    }

"""Replays come back from their records and sections as they were."""

import msgspec

from braidmq.broker.bindingverbs import Target
from braidmq.broker.replaystore import REPLAYS, ReplayDefinition, ReplayStore
from braidmq.broker.replayverbs import ReplayPolicy


def definition(number: int) -> ReplayDefinition:
    return ReplayDefinition(
        binding=number,
        archive=2,
        filter="t",
        target=Target("queue", "q"),
        policy=ReplayPolicy("archive", 1, 2, 0.5),
        user="ann",
        created_ms=3,
        shard=1,
        number=number,
        examined=5,
        replayed=4,
    )


def test_the_last_definition_counts_and_an_empty_one_ends_it():
    store = ReplayStore()
    store.define(7, definition(1))
    store.define(8, definition(1))
    store.define(7, definition(2))
    assert store.by_id == {7: definition(2), 8: definition(1)}
    store.undefine(7)
    store.undefine(7)
    assert list(store.by_id) == [8]


def test_sections_bring_all_back_in_their_order():
    store, again = ReplayStore(), ReplayStore()
    for number in range(150):
        store.define(200 - number, definition(number))
    sections = list(store.snapshot())
    assert len(sections) == 3 and {kind for kind, _ in sections} == {REPLAYS}
    for _, content in sections:
        again.load(content)
    plain = {id: msgspec.structs.replace(each, id=0) for id, each in again.by_id.items()}
    assert list(plain.items()) == list(store.by_id.items())


def test_one_that_goes_while_sections_are_written():
    store = ReplayStore()
    for number in range(100):
        store.define(number, definition(number))
    sections = store.snapshot()
    next(sections)
    store.undefine(99)
    again = ReplayStore()
    again.load(next(sections)[1])
    assert list(again.by_id) == list(range(64, 99))

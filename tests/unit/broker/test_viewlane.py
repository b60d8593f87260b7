"""A lane of a view: a window on a shard, whatever its length."""

from itertools import product
from random import Random

import pytest

from braidmq.broker.index import LSN_MASK, PAGE_SLOTS
from braidmq.broker.shard import Shard, ShardDefinition
from braidmq.broker.viewlane import (
    CODES_MAX,
    ViewLane,
    record_id,
    record_slot,
    section_code,
    slot_record,
)
from braidmq.storage.cold import ColdFile
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog

FAR = 1_000_000_000


@pytest.fixture
def shard():
    definition = ShardDefinition(
        id=7, index=0, first_hash="0", last_hash="9", parents=[], start=1, created_ms=0
    )
    return Shard(definition, Durability.MEMORY, MemoryLog())


def put(shard, count, size=100):
    shard.put(shard.next, count, shard.next * 10, size * count, 1)


def test_a_slot_says_which_record_it_is():
    for code, number in product((0, 1, CODES_MAX - 1), (1, 2**40, 2**47 - 2)):
        slot = record_slot(code, number)
        assert 0 < slot < LSN_MASK
        assert slot_record(slot) == (code, number)


def test_ids_are_different_and_none_is_a_position():
    rng = Random(7)
    entities = [*range(1, 200), *(rng.randrange(1 << 24) for _ in range(200))]
    numbers = [*range(1, 50), *(rng.randrange(1 << 36) for _ in range(50))]
    ids = {record_id(entity, number) for entity in entities for number in numbers}
    assert len(ids) == len(set(entities)) * len(set(numbers))
    assert all(1 << 63 <= id < 1 << 64 for id in ids)


def test_records_are_admitted_in_order_as_far_as_they_can_be_read(shard):
    put(shard, 10)
    lane = ViewLane(3, shard, 4)
    assert lane.unread == 7 and not lane.admitted
    assert lane.admit(2) == 200
    assert list(lane.live_numbers()) == [4, 5] and lane.base == 3 << 48
    assert slot_record(lane.slot(5)) == (3, 5)
    assert lane.admit(100) == 500
    assert lane.admitted and lane.admit(100) == 0 and lane.unread == 0


def test_nothing_is_admitted_that_readers_would_not_see(shard, monkeypatch):
    put(shard, 10)
    monkeypatch.setattr(Shard, "readable", lambda self: 6)
    lane = ViewLane(0, shard, 1)
    lane.admit(100)
    assert lane.next == 6 and lane.unread == 5 and not lane.admitted
    assert lane.admit(100) == 0


def test_a_stretch_ends_with_a_file(shard):
    put(shard, 30)
    shard.rehome(ColdFile(7, 1, 1, 11, 500, 1, 1), [])
    lane = ViewLane(0, shard, 1)
    assert lane.admit(100) == 10 * 50
    assert lane.next == 11


def test_a_stretch_ends_where_records_were_lost(shard):
    put(shard, 10)
    shard.reach(15)
    put(shard, 10)
    lane = ViewLane(0, shard, 1)
    lane.admit(100)
    assert lane.next == 11
    assert lane.skip_missing() == 4
    lane.admit(100)
    assert lane.next == 25 and lane.live == 20


def test_what_is_missing_is_left_out(shard):
    put(shard, 10)
    put(shard, 10)
    shard.trim(5)
    lane = ViewLane(0, shard, 1)
    assert lane.skip_missing() == 4 and lane.next == 5
    shard.rehome(ColdFile(7, 1, 1, 11, 500, 1, 1), [])
    assert lane.skip_missing() == 0
    shard.cold.clear()  # lost with its disk
    assert lane.skip_missing() == 6 and lane.next == 11
    shard.trim(21)
    assert lane.skip_missing() == 10 and lane.unread == 0


@pytest.mark.parametrize("number", [3, 500, PAGE_SLOTS, PAGE_SLOTS + 1, 5 * PAGE_SLOTS, FAR])
@pytest.mark.parametrize("keeps", [True, False])
def test_skipping_takes_no_memory_and_leaves_the_rest_as_it_is(shard, number, keeps):
    put(shard, 2)
    shard.put(3, FAR + 10, 100, 10 * FAR, 1)
    lane = ViewLane(0, shard, 1)
    lane.admit(2)
    if not keeps:
        lane.remove(1)
        lane.remove(2)
    assert lane.skip_to(number) == number - 3
    assert lane.skip_to(number - 1) == 0
    lane.admit(5)
    assert list(lane.live_numbers()) == [1, 2] * keeps + [number + n for n in range(5)]
    assert [slot_record(lane.slot(number + n))[1] for n in range(5)] == [
        number + n for n in range(5)
    ]
    assert len(lane.pages) <= 3
    for live in list(lane.live_numbers()):
        assert lane.remove(live)[0]
    assert lane.live == 0 and list(lane.live_numbers()) == []


def test_what_a_record_of_the_log_speaks_of_was_admitted(shard):
    lane = ViewLane(0, shard, 1)
    assert lane.fill_to(2_000) == 1_999
    assert lane.fill_to(2_000) == 0
    assert lane.live == 1_999 and lane.next == 2_000


def test_pages_come_back_as_far_as_they_were_admitted(shard):
    rng = Random(3)
    put(shard, 5_000)
    lane = ViewLane(300, shard, 900)
    lane.admit(3_000)
    for number in rng.sample(range(900, 3_900), 2_500):
        lane.remove(number)
    some = next(lane.live_numbers(2_000))
    lane.set_receives(some, 9)
    following = lane.next
    pages = list(lane.pages)
    lane.admit(50)  # while the checkpoint is written
    loaded = ViewLane(300, shard, 900)
    loaded.next = following
    size = 0
    for index in pages:
        content = lane.page_section(77, index)
        assert section_code(content) == 300
        assert int.from_bytes(content[:4], "little") == 77
        size += loaded.load_page(content)
    assert list(loaded.live_numbers()) == [n for n in lane.live_numbers() if n < following]
    assert loaded.live == 500 and size > 0
    assert loaded.receives(some) == 9
    loaded.admit(50)
    assert list(loaded.live_numbers()) == list(lane.live_numbers())


def test_a_page_of_which_nothing_is_left_does_not_come_back(shard):
    put(shard, 10)
    lane = ViewLane(0, shard, 1)
    lane.admit(10)
    loaded = ViewLane(0, shard, 1)
    assert loaded.load_page(lane.page_section(1, 0)) == 0  # all of it was admitted later
    assert not loaded.pages

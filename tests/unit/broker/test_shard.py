"""A shard: what goes in, where it stands, and that every change may be applied twice."""

import msgspec
import pytest

from braidmq.broker import shard as module
from braidmq.broker.shard import BLOCKS, SHARD, Shard, ShardDefinition, ShardState
from braidmq.storage.cold import ColdFile
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog


def make(start: int = 1, durability: Durability = Durability.MEMORY) -> Shard:
    definition = ShardDefinition(
        id=7,
        index=0,
        first_hash="0",
        last_hash=str(2**128 - 1),
        parents=[],
        start=start,
        created_ms=1,
    )
    return Shard(definition, durability, MemoryLog())


def filled(count: int = 10, size: int = 5) -> Shard:
    """Blocks of ``size`` records at the LSNs 100, 200, ..."""
    shard = make()
    for index in range(count):
        shard.put(1 + index * size, size, 100 * (index + 1), 50, 1_000 + index)
    return shard


def file(generation: int, first: int, end: int, time_ms: int = 1_000) -> ColdFile:
    return ColdFile(7, generation, first, end, 40, time_ms, time_ms + end - first)


def test_a_block_is_put_once_and_times_never_go_back():
    shard = make()
    shard.put(1, 3, 100, 50, 1_000)
    shard.put(4, 2, 200, 60, 900)
    before = (shard.next, list(shard.firsts), list(shard.times), shard.hot_bytes)
    shard.put(1, 3, 100, 50, 1_000)
    shard.put(4, 2, 200, 60, 900)
    assert (shard.next, list(shard.firsts), list(shard.times), shard.hot_bytes) == before
    assert before == (6, [1, 4], [1_000, 1_000], 110)


def test_trimming_drops_whole_blocks_and_twice_does_nothing():
    shard = filled()
    lsns, files = shard.trim(8)
    assert (list(lsns), files, shard.first, shard.firsts[0]) == ([100], [], 8, 6)
    assert [list(each) for each in shard.trim(8)] == [[], []]
    assert [list(each) for each in shard.trim(3)] == [[], []]
    lsns, _ = shard.trim(1_000)
    assert len(lsns) == 9 and shard.first == shard.next == 51
    assert shard.stored_bytes == 0


def test_rehoming_drops_what_the_file_holds_and_twice_does_nothing():
    shard = filled()
    lsns, files = shard.rehome(file(1, 1, 11), [])
    assert (list(lsns), files, shard.cold_end, shard.firsts[0]) == ([100, 200], [], 11, 11)
    assert [list(each) for each in shard.rehome(file(1, 1, 11), [])] == [[], []]
    assert (shard.hot_bytes, shard.cold_bytes) == (400, 40)
    lsns, files = shard.rehome(file(2, 1, 21), [1])
    assert (list(lsns), files) == ([300, 400], [file(1, 1, 11)])
    assert shard.cold == [file(2, 1, 21)]
    assert shard.stored_bytes == 340


def test_a_file_that_was_trimmed_before_it_counted_is_of_no_use():
    shard = filled()
    shard.trim(12)
    assert shard.rehome(file(1, 1, 11), [])[1] == [file(1, 1, 11)]
    assert shard.cold == [] and shard.generation == 1


def test_a_trim_lets_go_of_files_and_blocks():
    shard = filled()
    shard.rehome(file(1, 1, 11), [])
    shard.rehome(file(2, 11, 21), [])
    lsns, files = shard.trim(23)
    assert files == [file(1, 1, 11), file(2, 11, 21)] and not lsns
    assert shard.cold_bytes == 0 and shard.first == 23


def test_where_a_number_stands():
    shard = filled()
    shard.rehome(file(1, 1, 11), [])
    shard.rehome(file(2, 11, 21), [])
    assert [shard.cold_file(number).generation for number in (1, 10, 11, 20)] == [1, 1, 2, 2]
    assert [shard.block_of(number) for number in (21, 25, 26)] == [0, 0, 1]
    assert [shard.present(number) for number in (0, 10, 21, 51)] == [1, 10, 21, 51]
    shard.lose(file(1, 1, 11))
    assert shard.present(1) == 11 and shard.cold_bytes == 40
    shard.lose(file(2, 11, 21))
    assert shard.present(1) == 21


def test_holes_are_passed_over():
    """A loss that was accepted; or a shard that is deleted further on in the log."""
    shard = make()
    shard.put(1, 5, 100, 50, 1_000)
    shard.put(9, 2, 200, 50, 1_001)
    assert (shard.next, shard.block_end(0), shard.block_end(1)) == (11, 9, 11)
    shard.trim(7)
    assert shard.first == 7
    shard.trim(11)
    assert shard.stored_bytes == 0


def test_a_number_that_was_given_is_not_given_again():
    shard = filled(2)
    shard.reach(5)
    assert shard.next == 11 and shard.holes == []
    shard.reach(15)
    shard.reach(20)
    shard.put(20, 5, 300, 50, 1_002)
    shard.put(30, 5, 400, 50, 1_003)
    assert shard.holes == [(11, 15), (15, 20), (25, 30)]
    assert [shard.present(number) for number in (0, 10, 11, 19, 24, 25, 34)] == [
        *(1, 10, 20, 20, 24, 30, 34)
    ]
    assert [shard.run_end(number) for number in (1, 10, 20, 30)] == [11, 11, 25, 35]
    shard.rehome(file(1, 1, 11), [])
    assert [shard.run_end(number) for number in (1, 20)] == [11, 25]
    assert look(loaded(list(shard.sections()))) == look(shard)
    shard.trim(21)
    assert shard.holes == [(25, 30)]
    shard.trim(35)
    assert shard.holes == [] and shard.present(0) == 35


def test_the_first_number_at_a_time():
    shard = filled()
    assert [shard.number_at(time) for time in (0, 1_000, 1_001, 1_009, 1_010)] == [1, 1, 6, 46, 51]
    shard.trim(8)
    assert shard.number_at(0) == 8
    cold = file(1, 1, 11, 1_000)
    shard.rehome(cold, [])
    assert shard.number_at(1_000) == 8
    assert shard.number_at(1_001) is cold
    assert shard.number_at(1_011) == 51


@pytest.mark.parametrize(
    ("durability", "written", "durable", "readable"),
    [
        (Durability.MEMORY, 0, 0, 51),
        (Durability.OS, 300, 100, 11),
        (Durability.OS, 1_001, 100, 51),
        (Durability.SYNC, 300, 101, 6),
        (Durability.SYNC, 1_001, 1_001, 51),
        (Durability.SYNC, 0, 0, 1),
    ],
)
def test_readers_see_what_is_as_durable_as_the_stream_promises(
    durability, written, durable, readable
):
    class At(MemoryLog):
        written_lsn = written
        durable_lsn = durable

    shard = filled()
    shard.durability = durability
    shard.log = At()
    assert shard.readable() == readable
    assert shard.is_settled() == (readable == 51)


@pytest.mark.parametrize("durability", [Durability.OS, Durability.SYNC])
def test_an_end_counts_when_it_is_on_disk(durability):
    class At(MemoryLog):
        written_lsn = 2_000
        durable_lsn = 1_100

    shard = filled()
    shard.definition = msgspec.structs.replace(shard.definition, end=51, closed_ms=5)
    shard.durability = durability
    shard.log = At()
    shard.closed_lsn = 1_100
    assert not shard.has_ended(51) and not shard.is_settled()
    shard.closed_lsn = 1_099
    assert shard.has_ended(51) and not shard.has_ended(50) and shard.is_settled()


def loaded(sections: list[tuple[int, bytes]]) -> Shard:
    shard = make()
    for kind, content in sections:
        if kind == SHARD:
            shard.load(msgspec.msgpack.decode(content, type=ShardState))
        else:
            assert kind == BLOCKS and content[:4] == (7).to_bytes(4, "little")
            shard.load_blocks(content)
    return shard


def look(shard: Shard) -> tuple[object, ...]:
    columns = [list(c) for c in (shard.firsts, shard.lsns, shard.sizes, shard.times)]
    numbers = (shard.first, shard.next, shard.holes)
    return (numbers, shard.last_ms, shard.cold, shard.stored_bytes, columns)


def test_a_checkpoint_brings_it_back_in_slices(monkeypatch):
    monkeypatch.setattr(module, "_BLOCKS_PER_SECTION", 3)
    shard = filled()
    shard.rehome(file(1, 1, 11), [])
    sections = list(shard.sections())
    assert [kind for kind, _ in sections] == [SHARD, BLOCKS, BLOCKS, BLOCKS]
    assert look(loaded(sections)) == look(shard)
    assert look(loaded(list(make().sections()))) == look(make())


@pytest.mark.parametrize("steps", range(6))
def test_what_happens_while_it_is_sliced_comes_again_by_replay(monkeypatch, steps):
    monkeypatch.setattr(module, "_BLOCKS_PER_SECTION", 2)
    shard = filled()
    slices = shard.sections()
    sections = [next(slices) for _ in range(steps)]
    changes = [
        lambda shard: shard.put(51, 5, 1_100, 50, 2_000),
        lambda shard: shard.rehome(file(1, 1, 21), []),
        lambda shard: shard.trim(23),
    ]
    for change in changes:
        change(shard)
    sections += list(slices)
    again = loaded(sections)
    for change in changes:
        change(again)
    assert look(again) == look(shard)

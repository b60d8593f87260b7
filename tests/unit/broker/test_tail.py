"""Shards read on and on: within the credit, parents before children, until they end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker import tail
from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.errors import BraidError, InvalidArgument, NotFound, PermissionDenied
from braidmq.broker.limits import Limits
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamrecord import chunk_records
from braidmq.broker.streams import Appending
from braidmq.broker.tail import Tail
from tests.broker_harness import Harness


class Reader:
    """A sink that takes notes."""

    def __init__(self, broker, starts, credit=10**9, follow=True, until_end=False, who=SYSTEM):
        self.broker = broker
        self.got: dict[int, list[bytes]] = {}
        self.order: list[int] = []
        self.bytes = 0
        self.last = False
        self.error: BraidError | None = None
        self.tail = broker.core.tail_shards(who, "s", starts, credit, follow, until_end, self, None)
        broker.settle()

    def tail_chunk(self, tail: Tail, shard: int, chunk: Chunk, last: bool) -> bool:
        assert not self.last and self.error is None
        assert tail is getattr(self, "tail", tail), "told within the call that made it"
        bodies = [record.body for record in chunk_records(chunk, shard)]
        self.got.setdefault(shard, []).extend(bodies)
        self.order += [shard] * len(bodies)
        self.bytes += sum(map(len, chunk.blocks))
        self.last = last
        return True

    def tail_ended(self, tail: Tail, error: BraidError) -> None:
        assert not self.last and self.error is None
        self.error = error


def declared(shards=1, limits=None, **settings):
    broker = Harness(limits=limits)
    broker.core.declare_stream(SYSTEM, "s", StreamSettings(**settings), shards, broker.clock.ms)
    return broker


def append(broker, *bodies, hash_key=0):
    batch = Appending(list(bodies), [b""] * len(bodies), None, [hash_key] * len(bodies))
    _, results = broker.core.append(SYSTEM, "s", batch, broker.clock.ms)
    broker.settle()
    return results


def test_it_ends_where_the_last_records_were_lost():
    broker = declared()
    append(broker, b"1", b"2")
    broker.core.streams.get("s").shard(0).reach(9)
    reader = Reader(broker, {0: 0}, until_end=True)
    assert reader.got == {0: [b"1", b"2"]} and reader.last


def test_what_is_there_comes_and_then_what_is_appended():
    broker = declared()
    append(broker, b"1", b"2")
    reader = Reader(broker, {0: 2})
    assert reader.got == {0: [b"2"]}
    append(broker, b"3")
    append(broker, b"4")
    assert reader.got == {0: [b"2", b"3", b"4"]} and not reader.last
    reader.tail.close()
    append(broker, b"5")
    assert reader.got == {0: [b"2", b"3", b"4"]}


def test_it_waits_for_longer_than_a_read_may(monkeypatch):
    monkeypatch.setattr(tail, "_WAIT_MS", 1_000)
    broker = declared()
    reader = Reader(broker, {0: 0})
    broker.advance(2_500)
    append(broker, b"late")
    assert reader.got == {0: [b"late"]}


def test_no_more_comes_than_there_is_credit_for():
    broker = declared(2)
    for _ in range(5):
        append(broker, bytes(1_000))
        append(broker, bytes(1_000), hash_key=2**127)
    reader = Reader(broker, {0: 1, 1: 1}, credit=0)
    assert not reader.got
    reader.tail.grant(1)
    broker.settle()
    first = reader.bytes
    assert 0 < first, "one chunk may be more than the credit"
    append(broker, b"x")
    append(broker, b"y", hash_key=2**127)
    assert reader.bytes == first
    for _ in range(3):
        reader.tail.grant(10_000)
        broker.settle()
    assert [len(reader.got[shard]) for shard in (0, 1)] == [6, 6]


def test_children_come_behind_all_of_their_parents():
    broker = declared(2)
    append(broker, b"a")
    append(broker, b"b", hash_key=2**127)
    broker.core.merge_shards(SYSTEM, "s", 0, 1, broker.clock.ms)
    append(broker, b"c")
    broker.core.split_shard(SYSTEM, "s", 2, "", broker.clock.ms)
    append(broker, b"d")
    append(broker, b"e", hash_key=2**128 - 1)
    reader = Reader(broker, {2: 0, 1: 0, 0: 0, 4: 0})
    assert reader.got == {0: [b"a"], 1: [b"b"], 2: [b"c"], 3: [b"d"], 4: [b"e"]}
    places = [reader.order.index(shard) for shard in range(5)]
    assert max(places[:2]) < places[2] < min(places[3:])
    broker.core.merge_shards(SYSTEM, "s", 3, 4, broker.clock.ms)
    append(broker, b"f")
    assert reader.got[5] == [b"f"] and not reader.last


def test_a_shard_waits_for_a_parent_that_is_itself_still_to_come():
    """Shard 6 is a child of 1, which ends at once, and of 5, a grandchild of 0."""
    broker = declared(2)
    core, now_ms = broker.core, broker.clock.ms
    core.split_shard(SYSTEM, "s", 0, "", now_ms)  # 2 and 3
    core.split_shard(SYSTEM, "s", 3, "", now_ms)  # 4 and 5
    append(broker, b"first", hash_key=2**127 - 1)
    core.merge_shards(SYSTEM, "s", 5, 1, now_ms)
    append(broker, b"second", hash_key=2**127)
    reader = Reader(broker, {1: 0, 0: 0})
    assert reader.order == [5, 6] and reader.got[6] == [b"second"]


def test_without_following_it_ends_with_its_shards():
    broker = declared()
    append(broker, b"a")
    reader = Reader(broker, {0: 0}, follow=False)
    assert not reader.last
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.settle()
    assert reader.last and reader.got == {0: [b"a"]}


def test_it_may_end_with_what_is_there():
    broker = declared(2)
    append(broker, b"a", b"b")
    reader = Reader(broker, {0: 0, 1: 0}, until_end=True)
    assert reader.last and reader.got == {0: [b"a", b"b"], 1: []}
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    append(broker, b"c")
    reader = Reader(broker, {0: 3, 1: 1}, until_end=True)
    assert reader.last and reader.got == {0: [], 1: [], 2: [b"c"], 3: []}


def test_a_shard_that_was_let_go_is_one_that_has_ended():
    broker = declared(retention_ms=1_000)
    append(broker, b"a")
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.advance(10_000)
    assert sorted(broker.core.streams.get("s").shards) == [1, 2]
    append(broker, b"b")
    reader = Reader(broker, {0: 0})
    assert reader.got == {0: [], 1: [b"b"]} and not reader.last


def test_it_ends_with_its_stream():
    broker = declared()
    waiting = Reader(broker, {0: 0})
    stalled = Reader(broker, {0: 0}, credit=0)
    broker.core.delete_stream(SYSTEM, "s")
    broker.settle()
    assert isinstance(waiting.error, NotFound)
    stalled.tail.grant(1)
    broker.settle()
    assert isinstance(stalled.error, NotFound)


def test_it_ends_when_its_user_may_not_read_any_more():
    broker = declared()
    rules = (Rule("allow", ("stream:Read",), ("s",)),)
    access = broker.core.access = Access((User("ada", "", rules),))
    reader = Reader(broker, {0: 0}, who=access.principal("ada"))
    append(broker, b"a")
    assert reader.got == {0: [b"a"]}
    access.replace((User("ada", "", ()),))
    append(broker, b"b")
    assert reader.got == {0: [b"a"]} and isinstance(reader.error, PermissionDenied)


def test_a_throttled_shard_goes_on_by_itself_and_holds_up_no_other():
    broker = declared(2, shard_bytes_out_per_second=1_000)
    for _ in range(4):
        append(broker, bytes(2_000))
    append(broker, b"other", hash_key=2**127)
    limits = Limits(receive_messages_max=1)
    broker.core.limits = limits
    reader = Reader(broker, {0: 0, 1: 0})
    assert reader.got == {0: [bytes(2_000)], 1: [b"other"]}
    broker.advance(60_000)
    assert len(reader.got[0]) == 4


def test_what_cannot_be_read_is_refused():
    broker = declared()
    for starts, kind in (
        ({}, InvalidArgument),
        ({0: 2}, InvalidArgument),
        ({0: -1}, InvalidArgument),
        ({1: 0}, NotFound),
        ({-1: 0}, NotFound),
    ):
        with pytest.raises(kind):
            Reader(broker, starts)


def test_as_many_reads_wait_as_may():
    broker = declared(2, Limits(stream_reads_waiting_max=1))
    reader = Reader(broker, {0: 0, 1: 0})
    assert reader.error is not None and reader.error.code == "limit-exceeded"
    assert not broker.core.streams.get("s").waiting, "the other one was ended as well"


def test_a_sink_that_fails_costs_only_its_tail():
    broker = declared()
    faults: list[Exception] = []
    broker.core.on_fault = faults.append
    reader = Reader(broker, {0: 0})
    healthy = Reader(broker, {0: 0})
    reader.tail_chunk = None  # type: ignore[method-assign,assignment]
    append(broker, b"a")
    assert len(faults) == 1 and reader.error is not None
    append(broker, b"b")
    assert healthy.got == {0: [b"a", b"b"]}


def test_what_was_not_taken_comes_again():
    broker = declared()
    append(broker, b"a")
    reader = Reader(broker, {0: 0}, credit=0)
    take, reader.tail_chunk = reader.tail_chunk, lambda *_: False  # type: ignore[method-assign]
    reader.tail.grant(1_000)
    broker.settle()
    assert reader.tail.credit == 0 and not reader.tail.closed
    append(broker, b"b")
    reader.tail_chunk = take  # type: ignore[method-assign]
    broker.settle()
    assert not reader.got, "it has no credit any more"
    reader.tail.grant(1_000)
    broker.settle()
    assert reader.got == {0: [b"a", b"b"]}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_record_comes_once_in_order_behind_its_ancestors(data):
    broker = declared(data.draw(st.integers(1, 3)))
    stream = broker.core.streams.get("s")
    sizes = st.sampled_from([1, 100, 70_000])
    reader: Reader | None = None
    written: dict[int, list[bytes]] = {}
    refusing = [False]
    for step in range(data.draw(st.integers(3, 25))):
        action = data.draw(st.sampled_from(["append"] * 4 + ["split", "merge", "grant", "refuse"]))
        if action == "append":
            hash_key = data.draw(st.integers(0, 2**128 - 1))
            body = (b"%d " % step).ljust(data.draw(sizes), b".")
            [(shard, _)] = append(broker, body, hash_key=hash_key)
            written.setdefault(shard, []).append(body)
        elif action == "split":
            index = data.draw(st.sampled_from([each.index for each in stream.open]))
            broker.core.split_shard(SYSTEM, "s", index, "", broker.clock.ms)
        elif action == "merge" and len(stream.open) > 1:
            at = data.draw(st.integers(0, len(stream.open) - 2))
            pair = [each.index for each in stream.open[at : at + 2]]
            broker.core.merge_shards(SYSTEM, "s", *pair, broker.clock.ms)
        elif action == "refuse":
            refusing[0] = not refusing[0]
        elif reader is not None:
            reader.tail.grant(data.draw(st.integers(1, 200_000)))
        if reader is None and data.draw(st.booleans()):
            starts = dict.fromkeys(stream.shards, 0)
            reader = Reader(broker, starts, data.draw(st.integers(0, 1_000)))
            take = reader.tail_chunk
            reader.tail_chunk = (  # type: ignore[method-assign]
                lambda *chunk, take=take: not refusing[0] and take(*chunk)
            )
        broker.settle()
    reader = reader or Reader(broker, dict.fromkeys(stream.shards, 0))
    refusing[0] = False
    reader.tail.grant(10**9)
    broker.settle()
    assert {shard: bodies for shard, bodies in reader.got.items() if bodies} == written
    first = {shard: reader.order.index(shard) for shard in set(reader.order)}
    last = {shard: place for place, shard in enumerate(reader.order)}
    for shard in stream.shards.values():
        for parent in shard.definition.parents:
            if shard.index in first and parent in last:
                assert last[parent] < first[shard.index]

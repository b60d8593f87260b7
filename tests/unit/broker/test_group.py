"""Who gets which shard: evenly, parents first, and no more moves than that takes."""

from itertools import count, product

from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM
from braidmq.broker.group import (
    Cursor,
    Group,
    GroupDefinition,
    GroupLease,
    GroupSink,
    Member,
    record_time_ms,
)
from braidmq.broker.shard import Shard
from braidmq.broker.stream import Stream, StreamDefinition, merged, split
from braidmq.broker.streamverbs import Start
from braidmq.storage.cold import ColdFile
from braidmq.storage.log import Durability
from tests.broker_harness import Harness
from tests.group_client import declare_stream

SINK: GroupSink = None  # type: ignore[assignment]  # nobody listens here


def make_stream(shards: int) -> Stream:
    broker = Harness()
    declare_stream(broker, shards, Durability.MEMORY)
    return broker.core.streams.get("s")


class World:
    """A group whose members do at once what they are told."""

    def __init__(self, shards: int, start: Start | None = None) -> None:
        self.stream = make_stream(shards)
        definition = GroupDefinition(name="g", stream=1, start=start or Start(), created_ms=1)
        self.group = Group(2, definition, self.stream)
        self.ids = count(1)
        self.entities = count(1_000)

    def join(self) -> Member:
        member = Member(next(self.ids), self.group, SYSTEM, 1, 1, SINK, None, joined_ms=1)
        self.group.members[member.id] = member
        return member

    def leave(self, member: Member) -> None:
        del self.group.members[member.id]
        for index in list(member.leases):
            self.end(index)

    def end(self, index: int) -> None:
        lease = self.group.leases.pop(index)
        del lease.member.leases[index]

    def reshard(self, definition: StreamDefinition) -> None:
        self.stream.apply(definition)

    def finish(self, shard: Shard) -> None:
        self.group.cursors[shard.id] = Cursor(shard.next, 1, 1)

    def settle(self) -> int:
        """Balance until nothing changes; how many rounds that took."""
        for rounds in range(10):
            for lease in list(self.group.leases.values()):
                if self.group.done(lease.shard):
                    self.end(lease.shard.index)
            given, back = self.group.balance()
            if not given and not back:
                return rounds
            for lease in back:
                self.end(lease.shard.index)
            for shard, member in given:
                lease = GroupLease(shard, member, next(self.ids))
                self.group.leases[shard.index] = member.leases[shard.index] = lease
        raise AssertionError("it does not come to rest")

    def owners(self) -> dict[int, int]:
        return {index: lease.member.id for index, lease in self.group.leases.items()}


def fewest_moves(before: dict[int, int], shards: list[int], members: list[int]) -> int:
    """How many shards must leave a member that is there, found by trying everything."""
    held = {index: id for index, id in before.items() if index in shards and id in members}
    best = len(shards)
    for owners in product(members, repeat=len(shards)):
        loads = [owners.count(id) for id in members]
        if max(loads) - min(loads) <= 1:
            now = dict(zip(shards, owners, strict=True))
            best = min(best, sum(now[index] != id for index, id in held.items()))
    return best


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "split", "merge", "finish"]), st.integers(0, 9)),
    max_size=12,
)


@given(st.integers(1, 4), STEPS)
def test_every_shard_has_one_owner_loads_are_even_and_moves_are_fewest(shards, steps):
    world = World(shards)
    group, stream = world.group, world.stream
    for step, number in steps:
        members = list(group.members.values())
        opened = [each.index for each in stream.open]
        if step == "join" and len(members) < 3:
            world.join()
        elif step == "leave" and members:
            world.leave(members[number % len(members)])
        elif step == "split" and len(stream.shards) < 6:
            index = opened[number % len(opened)]
            ids = [next(world.entities), next(world.entities)]
            world.reshard(split(stream, index, None, ids, 5))
        elif step == "merge" and len(opened) > 1 and len(stream.shards) < 6:
            at = number % (len(opened) - 1)
            world.reshard(merged(stream, opened[at], opened[at + 1], [next(world.entities)], 5))
        elif step == "finish":
            shard = list(stream.shards.values())[number % len(stream.shards)]
            shard.put(shard.next, 1, 1, 1, 1)
            if shard.closed:
                world.finish(shard)
        before = world.owners()
        world.settle()
        readable = [each.index for each in group.readable()]
        after = world.owners()
        if not group.members:
            assert not after
            continue
        assert sorted(after) == sorted(readable)
        loads = [len(member.leases) for member in group.members.values()]
        assert sum(loads) == len(readable) and max(loads) - min(loads) <= 1
        moved = sum(
            after[index] != id
            for index, id in before.items()
            if index in after and id in group.members
        )
        assert moved == fewest_moves(before, readable, list(group.members))


def test_who_has_too_many_gives_back_what_it_got_last():
    world = World(4)
    one = world.join()
    world.settle()
    world.join()
    given, back = world.group.balance()
    assert not given and [lease.shard.index for lease in back] == [2, 3]
    for lease in back:
        lease.release_ms = 9
    assert one.load() == 2 and world.group.balance() == ([], []), "they were asked"


def test_two_rounds_are_enough():
    world = World(100)
    for _ in range(7):
        world.join()
        assert world.settle() <= 2


def closed(world: World, index: int = 0) -> Shard:
    """A shard with two records that was split."""
    shard = world.stream.shard(index)
    shard.put(1, 1, 8, 10, 1_000)
    shard.put(2, 1, 16, 10, 2_000)
    world.reshard(split(world.stream, index, None, [50, 51], 5))
    return shard


def test_a_closed_shard_is_done_when_its_cursor_is_at_its_end():
    world = World(1)
    shard = closed(world)
    group = world.group
    assert group.readable() == [shard]
    group.cursors[shard.id] = Cursor(2, 1, 1)
    assert not group.done(shard)
    group.cursors[shard.id] = Cursor(3, 1, 1)
    assert group.done(shard) and group.readable() == world.stream.open


def test_a_closed_shard_that_is_trimmed_is_done_unless_a_member_has_it():
    world = World(1)
    shard = closed(world)
    member = world.join()
    world.settle()
    shard.trim(3)
    assert not world.group.done(shard)
    world.leave(member)
    assert world.group.done(shard)


def test_nothing_is_read_before_its_grandparents():
    world = World(1)
    shard = closed(world)
    child = world.stream.shard(1)
    child.put(3, 1, 24, 10, 3_000)
    world.reshard(split(world.stream, 1, None, [60, 61], 5))
    world.finish(child)
    assert world.group.readable() == [shard], "whatever became of what is between"
    world.finish(shard)
    assert [each.index for each in world.group.readable()] == [2, 3, 4]


def test_a_shard_that_closed_before_the_time_of_the_start_is_done():
    for time_ms, done in ((2_000, False), (2_001, True)):
        world = World(1, Start("time", time_ms=time_ms))
        assert world.group.done(closed(world)) is done


def test_where_a_group_goes_on():
    world = World(2)
    shard = world.stream.shard(0)
    assert world.group.number(shard) == 1
    shard.put(1, 5, 8, 10, 1_000)
    world.group.cursors[shard.id] = Cursor(3, 1, 1)
    assert world.group.number(shard) == 3
    world.group.start = Start("time", time_ms=5)
    assert world.group.number(world.stream.shard(1)) is None
    world.group.cursors[4_711] = Cursor(3, 1, 1)
    world.group.forget_gone()
    assert list(world.group.cursors) == [shard.id]


def test_when_a_record_came():
    shard = make_stream(1).shard(0)
    assert record_time_ms(shard, 1) == 0
    shard.put(1, 10, 8, 100, 1_000)
    shard.put(11, 10, 16, 100, 2_000)
    assert [record_time_ms(shard, number) for number in (1, 10, 11, 20, 21)] == [
        1_000,
        1_000,
        2_000,
        2_000,
        0,
    ]
    shard.rehome(ColdFile(shard.id, 1, 1, 11, 90, 1_000, 1_500), ())
    assert [record_time_ms(shard, number) for number in (0, 1, 6, 10, 11)] == [
        1_000,
        1_000,
        1_250,
        1_450,
        2_000,
    ]
    shard.trim(11)
    assert record_time_ms(shard, 1) == 2_000
    shard.reach(30)  # a loss was accepted
    assert record_time_ms(shard, 21) == 0
    shard.trim(21)
    assert record_time_ms(shard, 21) == 0

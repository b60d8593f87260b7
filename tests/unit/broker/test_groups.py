"""Groups at work: leases, records, checkpoints, takeovers, and what may go wrong with them."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import (
    BraidError,
    BrokerFailed,
    Conflict,
    InvalidArgument,
    LeaseLost,
    NotFound,
    Unavailable,
)
from braidmq.broker.group import Group
from braidmq.broker.shard import Shard
from braidmq.broker.streamstart import NumberFound
from braidmq.broker.streamverbs import Start
from braidmq.storage.errors import LogFailed
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.group_client import GroupClient, append, declare_stream, group_info
from tests.stream_client import StreamClient, without_what_followed


def reset(
    broker: Harness, start: Start, shard: int = -1, force: bool = False
) -> list[Group | BraidError]:
    answers: list[Group | BraidError] = []

    def answer(argument: object, result: Group | BraidError) -> None:
        answers.append(result)

    now_ms = broker.clock.ms
    broker.core.reset_group(SYSTEM, "s", "g", start, shard, force, answer, None, now_ms)
    broker.settle()
    assert len(answers) == 1
    return answers


@pytest.fixture
def broker() -> Harness:
    broker = Harness()
    declare_stream(broker)
    return broker


# Members and their shards ---------------------------------------------------------------------


def test_one_member_has_all_shards_and_two_have_half_of_them_each(broker):
    one = GroupClient(broker)
    assert sorted(one.held) == [0, 1, 2, 3]
    two = GroupClient(broker)
    assert sorted([*one.held, *two.held]) == [0, 1, 2, 3] and len(two.held) == 2
    kept = dict(one.held)
    three = GroupClient(broker)
    assert sorted(map(len, (one.held, two.held, three.held))) == [1, 1, 2]
    assert one.held.items() <= kept.items(), "nothing new for who had more"
    two.leave()
    assert sorted([*one.held, *three.held]) == [0, 1, 2, 3]
    assert len(one.held) == len(three.held) == 2


def test_a_member_without_a_shard_gets_the_next_that_is_free(broker):
    members = [GroupClient(broker) for _ in range(5)]
    (idle,) = (each for each in members if not each.held)
    gone = next(each for each in members if each.held)
    shards = list(gone.held)
    gone.leave()
    assert list(idle.held) == shards


def test_epochs_rise_with_every_take_of_any_shard(broker):
    one = GroupClient(broker)
    epochs = list(one.held.values())
    two = GroupClient(broker)
    epochs += two.held.values()
    one.leave()
    epochs += [epoch for epoch in two.held.values() if epoch not in epochs]
    assert epochs == sorted(set(epochs)) and len(epochs) == 8


def test_a_shard_that_is_asked_back_moves_when_all_of_it_is_checkpointed(broker):
    append(broker, 3, b"a", b"b", b"c")
    one = GroupClient(broker)
    two = GroupClient(broker)
    assert one.revoked == {3} and sorted(two.held) == [2]
    append(broker, 3, b"d")
    one.more(3)
    assert one.got[3] == [b"a", b"b", b"c"], "no more of what is to be given back"
    one.keep(3, 3)
    assert one.revoked == {3}
    one.keep(3)
    assert one.take()[-1] == ("lost", 3)
    assert two.got == {3: [b"d"]}


def test_a_shard_that_is_given_back_is_read_again_from_its_checkpoint(broker):
    append(broker, 3, b"a", b"b")
    one = GroupClient(broker)
    two = GroupClient(broker)
    one.keep(3, 2)
    one.release(3)
    assert two.got == {3: [b"b"]}


def test_a_shard_that_is_not_given_back_is_taken_away(broker):
    append(broker, 3, b"a")
    one = GroupClient(broker)
    epoch = one.held[3]
    two = GroupClient(broker)
    broker.advance(broker.core.limits.group_release_ms - 1)
    assert one.revoked == {3} and not two.got
    broker.advance(1)
    assert 3 not in one.held and two.got == {3: [b"a"]}
    with pytest.raises(LeaseLost):
        one.keep(3, 2, epoch)
    assert group_info(broker).shards[3].number == 1
    two.keep(3)
    assert group_info(broker).shards[3].number == 2


def test_a_member_that_goes_while_it_is_asked_leaves_its_shards_at_once(broker):
    append(broker, 3, b"a")
    one = GroupClient(broker)
    two = GroupClient(broker)
    one.leave()
    assert sorted(two.held) == [0, 1, 2, 3] and two.got == {3: [b"a"]}
    broker.advance(2 * broker.core.limits.group_release_ms)
    assert sorted(two.held) == [0, 1, 2, 3]


def test_what_is_said_of_a_lease_that_is_gone_changes_nothing(broker):
    append(broker, 3, b"a")
    one = GroupClient(broker)
    old = one.held[3]
    one.release(3)
    assert one.take()[-2:] == [("assigned", 3), ("records", 3)], "nobody else is there"
    broker.core.release_shard(one.member, 3, old)
    broker.core.more_records(one.member, 3, old)
    broker.core.release_shard(one.member, 9, old)
    broker.settle()
    assert not one.events and one.held[3] > old
    with pytest.raises(LeaseLost):
        one.keep(3, 2, old)
    one.leave()
    one.broker.core.leave_group(one.member)
    with pytest.raises(LeaseLost):
        one.keep(3, 2, old)


# Records --------------------------------------------------------------------------------------


def test_the_next_chunk_of_a_shard_comes_when_it_was_asked_for(broker):
    member = GroupClient(broker, records_max=2)
    append(broker, 0, b"a", b"b", b"c")
    append(broker, 1, b"x")
    assert member.got == {0: [b"a", b"b"], 1: [b"x"]}
    append(broker, 1, b"y")
    append(broker, 2, b"!")
    assert member.got[1] == [b"x"] and member.got[2] == [b"!"], "no shard waits for another"
    member.more(0)
    member.more(0)
    assert member.got[0] == [b"a", b"b", b"c"]
    member.more(1)
    assert member.got[1] == [b"x", b"y"]


def test_a_member_that_holds_as_much_as_it_said_gets_no_more(broker):
    member = GroupClient(broker, bytes_max=1)
    for shard in range(4):
        append(broker, shard, b"a", b"b")
    assert list(member.got) == [0] and len(member.member.stalled) == 3
    for shard in range(3):
        member.more(shard)
        assert list(member.got) == list(range(shard + 2)), "first come, first served"
    assert all(bodies == [b"a", b"b"] for bodies in member.got.values())
    append(broker, 0, b"c")
    assert len(member.got[0]) == 2 and member.member.bytes
    member.leave()
    assert not member.member.stalled and not member.member.bytes


def test_a_reader_ahead_of_what_is_kept_does_not_keep_others_from_it():
    broker = DiskBroker()
    declare_stream(broker, 1)
    broker.auto_commit = False
    append(broker, 0, b"a")
    late = GroupClient(broker, Start("latest"), group="late")
    early = GroupClient(broker, group="early")
    assert not early.got, "it may yet be lost"
    broker.auto_commit = True
    broker.settle()
    assert early.got == {0: [b"a"]} and not late.got


def test_a_shard_that_cannot_be_read_is_tried_again_and_the_others_go_on(broker):
    broker.core.update_stream(SYSTEM, "s", {"shard_bytes_out_per_second": 1}, broker.clock.ms)
    member = GroupClient(broker)
    append(broker, 0, b"a" * 100)
    append(broker, 1, b"b")
    assert sorted(member.got) == [0, 1]
    append(broker, 0, b"c")
    member.more(0)
    assert len(member.got[0]) == 1 and "busy" in group_info(broker).shards[0].error
    append(broker, 2, b"x")
    assert member.got[2] == [b"x"]
    broker.core.update_stream(SYSTEM, "s", {"shard_bytes_out_per_second": 0}, broker.clock.ms)
    broker.advance(1_000)
    assert member.got[0][1:] == [b"c"] and not group_info(broker).shards[0].error


def test_records_that_were_trimmed_are_left_out_and_counted(broker):
    append(broker, 0, *[b"%d" % n for n in range(10)])
    one = GroupClient(broker, records_max=3)
    one.keep(0)
    one.leave()
    shard = broker.core.streams.get("s").shard(0)
    append(broker, 0, b"new")
    broker.core.streams.trim(shard, 11)
    two = GroupClient(broker)
    assert two.got == {0: [b"new"]}
    assert group_info(broker).skipped == group_info(broker).shards[0].skipped == 7
    two.release(0)
    assert two.got == {0: [b"new"] * 2} and group_info(broker).skipped == 7, "each one once"
    two.keep(0)
    assert group_info(broker).shards[0].lag == 0


def test_what_was_missed_of_a_shard_that_is_gone_is_counted():
    broker = Harness()
    declare_stream(broker, 1, retention_ms=1_000)
    append(broker, 0, *[b"%d" % n for n in range(10)])
    member = GroupClient(broker, records_max=3)
    member.keep(0)
    member.leave()
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.advance(5_000)
    assert 0 not in broker.core.streams.get("s").shards
    assert (
        group_info(broker).skipped == 7
        and sum(each.skipped for each in group_info(broker).shards) == 0
    )


def test_a_closed_shard_that_was_trimmed_to_its_end_is_done(broker):
    append(broker, 0, b"a", b"b")
    one = GroupClient(broker, records_max=1)
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.settle()
    assert 0 in one.held and 4 not in one.held
    broker.core.streams.trim(broker.core.streams.get("s").shard(0), 3)
    one.more(0)
    assert 0 in one.held, "it has a record in hand"
    one.keep(0, 2)
    assert 0 not in one.held and {4, 5} <= set(one.held)
    assert one.take().count(("done", 0)) == 1


# Checkpoints ----------------------------------------------------------------------------------


def test_checkpoints_go_forward_and_not_beyond_what_was_given(broker):
    member = GroupClient(broker, records_max=3)
    append(broker, 0, *[b"%d" % n for n in range(5)])
    for wrong in (-1, 5):
        with pytest.raises(InvalidArgument):
            member.keep(0, wrong)
    member.keep(0, 3)
    member.keep(0, 2)
    shown = group_info(broker).shards[0]
    assert (shown.number, shown.lag, shown.checkpoint_ms) == (3, 3, broker.clock.ms)
    assert shown.epoch == member.held[0]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_group_goes_on_after_a_restart_with_higher_epochs(checkpointed):
    broker = DiskBroker()
    declare_stream(broker)
    append(broker, 0, b"a", b"b", b"c")
    member = GroupClient(broker)
    member.keep(0, 2)
    epoch = max(member.held.values())
    if checkpointed:
        broker.checkpoint()
    broker = broker.restarted()
    assert group_info(broker).shards[0].number == 2 and not group_info(broker).members
    member = GroupClient(broker, Start("latest"))
    assert member.got == {0: [b"b", b"c"]}
    assert min(member.held.values()) > epoch


def test_behind_a_loss_that_was_accepted_no_number_is_given_again():
    broker = DiskBroker()
    declare_stream(broker, 1, retention_ms=0)
    client = GroupClient(broker)
    append(broker, 0, b"1", b"2")
    client.keep(0)

    def meanwhile() -> None:
        append(broker, 0, b"3", b"4", b"5")
        client.more(0)
        client.keep(0)

    again = without_what_followed(broker, meanwhile)
    (shard,) = group_info(again).shards
    assert (shard.number, shard.next, shard.lag, shard.skipped) == (6, 6, 0, 0)
    assert StreamClient(again).append(b"6") == [(0, 6)]
    assert GroupClient(again).got == {0: [b"6"]}
    other = GroupClient(again, group="other")
    assert other.got == {0: [b"1", b"2"]}
    other.more(0)
    assert other.got == {0: [b"1", b"2", b"6"]}
    (shard,) = again.core.group_info(SYSTEM, "s", "other", again.clock.ms).shards
    assert shard.skipped == 3
    again = again.restarted()
    assert [(record.number, record.body) for record in StreamClient(again).read()] == [
        (1, b"1"),
        (2, b"2"),
        (6, b"6"),
    ]


def test_a_group_in_memory_begins_again_with_its_stream():
    broker = DiskBroker()
    declare_stream(broker, durability=Durability.MEMORY)
    append(broker, 0, b"a", b"b")
    member = GroupClient(broker)
    member.keep(0)
    broker.checkpoint()
    broker = broker.restarted()
    assert group_info(broker).shards[0].number == 1
    append(broker, 0, b"c")
    assert GroupClient(broker).got == {0: [b"c"]}


def test_a_checkpoint_is_refused_when_the_log_has_failed(broker):
    append(broker, 0, b"a")
    member = GroupClient(broker)
    broker.core.fail(LogFailed("gone"))
    with pytest.raises(BrokerFailed):
        member.keep(0)
    with pytest.raises(BrokerFailed):
        GroupClient(broker)


# Where a group begins -------------------------------------------------------------------------


def test_a_group_begins_at_the_latest_also_after_a_restart():
    broker = DiskBroker()
    declare_stream(broker)
    append(broker, 0, b"old")
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    append(broker, 1, b"old")
    GroupClient(broker, Start("latest")).leave()
    broker = broker.restarted()
    append(broker, 1, b"new")
    append(broker, 4, b"new")
    broker.core.merge_shards(SYSTEM, "s", 4, 5, broker.clock.ms)
    append(broker, 6, b"child")
    member = GroupClient(broker)
    assert 0 not in member.held, "what was closed before is done"
    assert member.got == {1: [b"new"], 4: [b"new"]}
    member.keep(4)
    assert member.got[6] == [b"child"], "children are read from their beginning"


@pytest.mark.parametrize("cold", [False, True])
def test_a_group_begins_at_a_time_also_in_a_cold_file(cold):
    broker = DiskBroker()
    declare_stream(broker, 2, retention_ms=0)
    append(broker, 1, b"closed before")
    broker.core.split_shard(SYSTEM, "s", 1, "", broker.clock.ms)
    times = []
    for n in range(50):
        broker.advance(10)
        times.append(broker.clock.ms)
        append(broker, 0, b"%d" % n * 100)
    if cold:
        broker.checkpoint()
        broker.rehome()
        assert broker.core.streams.get("s").shard(0).cold
    member = GroupClient(broker, Start("time", time_ms=times[20]))
    assert member.got[0][0] == b"20" * 100
    assert 1 not in member.held and sorted(member.held) == [0, 2, 3]
    shown = group_info(broker).shards[0]
    assert shown.lag == 30 and shown.number == 21
    assert 0 < shown.behind_ms <= broker.clock.ms - times[20] + 30


def test_a_time_that_cannot_be_found_is_looked_for_again(broker, monkeypatch):
    append(broker, 0, b"a")
    start = Start("time", time_ms=broker.clock.ms)

    def damaged(shard: Shard, time_ms: int, found: NumberFound) -> None:
        found(Unavailable("damaged"))

    with monkeypatch.context() as patch:
        patch.setattr("braidmq.broker.groups.find_time", damaged)
        member = GroupClient(broker, start)
        told = group_info(broker).shards[0]
        assert not member.held and (told.state, told.error) == ("held", "damaged")
        assert told.number == 1 and told.lag == 1
    broker.advance(1_000)
    assert member.got == {0: [b"a"]} and not group_info(broker).shards[0].error


def test_a_reset_to_a_time_that_cannot_be_found_moves_nothing(broker, monkeypatch):
    append(broker, 0, b"a")
    member = GroupClient(broker)
    member.keep(0)
    member.leave()

    def damaged(shard: Shard, start: Start, found: NumberFound) -> None:
        found(Unavailable("damaged") if shard.index == 0 else 1)

    monkeypatch.setattr("braidmq.broker.groups.find_number", damaged)
    (answer,) = reset(broker, Start("time", time_ms=1))
    assert isinstance(answer, Unavailable) and group_info(broker).shards[0].number == 2


def test_where_a_group_begins_means_nothing_to_one_that_is_there(broker):
    append(broker, 0, b"a")
    GroupClient(broker, Start("latest")).leave()
    assert GroupClient(broker, Start("earliest")).got == {}
    assert group_info(broker).start == Start("latest")


# Parents and children -------------------------------------------------------------------------


def test_children_come_when_all_of_their_parents_are_done(broker):
    append(broker, 0, b"a")
    append(broker, 1, b"b")
    member = GroupClient(broker)
    other = GroupClient(broker)
    broker.core.merge_shards(SYSTEM, "s", 0, 1, broker.clock.ms)
    broker.settle()
    append(broker, 4, b"child")
    states = [each.state for each in group_info(broker).shards]
    assert states == ["held", "held", "held", "held", "waiting"]
    member.keep(0)
    assert group_info(broker).shards[0].state == "done"
    assert group_info(broker).shards[4].state == "waiting"
    member.keep(1)
    assert (member.got | other.got)[4] == [b"child"]
    assert group_info(broker).shards[4].state == "held"


def test_an_empty_shard_that_closes_is_done_at_once(broker):
    member = GroupClient(broker)
    broker.core.rescale_stream(SYSTEM, "s", 2, broker.clock.ms)
    broker.settle()
    assert sorted(member.held) == [4, 5]


def test_a_shard_that_closes_is_done_when_what_came_is_checkpointed(broker):
    append(broker, 0, b"a")
    member = GroupClient(broker)
    member.more(0)
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.settle()
    assert 4 not in member.held
    member.keep(0)
    assert {4, 5} <= set(member.held) and 0 not in member.held


def test_a_shard_that_is_gone_is_done(broker):
    append(broker, 0, b"a")
    broker.core.update_stream(SYSTEM, "s", {"retention_ms": 1_000}, broker.clock.ms)
    member = GroupClient(broker)
    member.keep(0, 2)
    broker.core.split_shard(SYSTEM, "s", 0, "", broker.clock.ms)
    broker.advance(5_000)
    assert 0 not in broker.core.streams.get("s").shards
    assert sorted(member.held) == [1, 2, 3, 4, 5]
    assert len(broker.core.group_store.of(broker.core.streams.get("s").id)["g"].cursors) == 0


# Reset and delete -----------------------------------------------------------------------------


def test_a_reset_moves_all_checkpoints_or_one(broker):
    for shard in (0, 1):
        append(broker, shard, b"a", b"b", b"c")
    GroupClient(broker).leave()
    (group,) = reset(broker, Start("latest"))
    assert isinstance(group, Group)
    assert [each.number for each in group_info(broker).shards] == [4, 4, 1, 1]
    reset(broker, Start("at", number=2), 0)
    assert [each.number for each in group_info(broker).shards] == [2, 4, 1, 1]
    reset(broker, Start("after", number=2), 1)
    assert [each.number for each in group_info(broker).shards] == [2, 3, 1, 1]
    reset(broker, Start("time", time_ms=broker.clock.ms), 0)
    assert group_info(broker).shards[0].number == 1
    reset(broker, Start("earliest"))
    assert [each.lag for each in group_info(broker).shards] == [3, 3, 0, 0]
    with pytest.raises(InvalidArgument):
        reset(broker, Start("at", number=2))
    with pytest.raises(InvalidArgument):
        reset(broker, Start("at", number=9), 0)
    with pytest.raises(NotFound):
        reset(broker, Start("latest"), 9)


def test_a_reset_with_members_takes_force_and_their_leases(broker):
    append(broker, 0, b"a", b"b")
    member = GroupClient(broker)
    member.keep(0)
    epoch = member.held[0]
    with pytest.raises(Conflict):
        reset(broker, Start("earliest"))
    member.take()
    reset(broker, Start("earliest"), force=True)
    assert ("lost", 0) in member.take() and member.got[0] == [b"a", b"b"] * 2
    with pytest.raises(LeaseLost):
        member.keep(0, 3, epoch)


def test_a_reset_survives_a_restart():
    broker = DiskBroker()
    declare_stream(broker)
    append(broker, 0, b"a", b"b")
    member = GroupClient(broker)
    member.keep(0)
    member.leave()
    reset(broker, Start("at", number=2), 0)
    broker = broker.restarted()
    assert GroupClient(broker).got == {0: [b"b"]}


def test_a_reset_to_a_time_looks_again_when_it_has_found_it():
    broker = DiskBroker()
    declare_stream(broker, 1, retention_ms=0)
    for n in range(50):
        broker.advance(10)
        append(broker, 0, b"%d" % n * 100)
    GroupClient(broker).leave()
    broker.checkpoint()
    broker.rehome()
    answers: list[Group | BraidError] = []
    start = Start("time", time_ms=broker.clock.ms - 300)
    args = (False, lambda _, found: answers.append(found), None, broker.clock.ms)
    broker.core.reset_group(SYSTEM, "s", "g", start, 0, *args)
    assert not answers, "the index is on disk"
    member = GroupClient(broker)
    assert isinstance(answers[0], Conflict) and member.got[0][0] == b"0" * 100
    member.leave()
    broker.core.reset_group(SYSTEM, "s", "g", start, 0, *args)
    broker.core.delete_group(SYSTEM, "s", "g")
    broker.settle()
    assert isinstance(answers[1], NotFound)


def test_a_group_is_deleted_when_nobody_is_a_member(broker):
    append(broker, 0, b"a")
    member = GroupClient(broker)
    member.keep(0)
    with pytest.raises(Conflict):
        broker.core.delete_group(SYSTEM, "s", "g")
    member.leave()
    broker.core.delete_group(SYSTEM, "s", "g")
    with pytest.raises(NotFound):
        group_info(broker)
    assert not broker.core.streams.watchers.get(broker.core.streams.get("s").id)
    assert GroupClient(broker).got == {0: [b"a"]}, "another of the same name knows nothing"


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_group_goes_with_its_stream(checkpointed):
    broker = DiskBroker()
    declare_stream(broker)
    member = GroupClient(broker)
    append(broker, 0, b"a")
    member.keep(0)
    broker.core.delete_stream(SYSTEM, "s")
    broker.settle()
    assert isinstance(member.error, NotFound) and not broker.core.group_store.by_id
    declare_stream(broker)
    if checkpointed:
        broker.checkpoint()
    broker = broker.restarted()
    assert not broker.core.group_store.by_id
    with pytest.raises(NotFound):
        group_info(broker)

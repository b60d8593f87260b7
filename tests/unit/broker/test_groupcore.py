"""What clients may ask about groups, and what they are told."""

from functools import partial

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import InvalidArgument, NotFound, PermissionDenied
from braidmq.broker.groupverbs import GroupInfo, GroupShardInfo, MemberInfo
from braidmq.broker.limits import NAME_BYTES_MAX, Limits
from braidmq.broker.streamverbs import Start
from braidmq.storage.log import Durability
from tests.broker_harness import Harness
from tests.group_client import GroupClient, append, declare_stream


@pytest.fixture
def broker() -> Harness:
    broker = Harness()
    declare_stream(broker, 2)
    return broker


def test_every_operation_passes_the_gate(broker):
    GroupClient(broker).leave()
    core, now_ms = broker.core, broker.clock.ms

    def refuse(action: str, *allowed: str) -> None:
        rules = [Rule("allow", allowed, ("*",))] if allowed else []
        core.access.replace([User("ada", rules=tuple(rules))])
        who = core.access.principal("ada")
        with pytest.raises(PermissionDenied, match=action):
            if action in ("group:Join", "stream:Read"):
                GroupClient(broker, who=who)
            elif action == "group:Describe":
                core.group_info(who, "s", "g", now_ms)
            elif action == "group:Reset":
                core.reset_group(who, "s", "g", Start(), -1, False, print, None, now_ms)
            else:
                core.delete_group(who, "s", "g")

    refuse("group:Join", "stream:Read")
    refuse("stream:Read", "group:Join")
    for action in ("group:Describe", "group:Reset", "group:Delete"):
        refuse(action, "stream:Read")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a#", "$g", "x" * (NAME_BYTES_MAX + 1)])
def test_names_that_no_group_has(broker, name):
    with pytest.raises(InvalidArgument):
        GroupClient(broker, group=name)


def test_what_a_member_may_ask_for():
    broker = Harness(limits=Limits(receive_messages_max=10, receive_bytes_max=100))
    declare_stream(broker)
    GroupClient(broker, records_max=10, bytes_max=100)
    for records, size in ((0, 1), (11, 1), (1, 0), (1, 101)):
        with pytest.raises(InvalidArgument):
            GroupClient(broker, records_max=records, bytes_max=size)
    for start in (Start("at", number=1), Start("after", number=1)):
        with pytest.raises(InvalidArgument):
            GroupClient(broker, start)
    assert broker.core.group_info(SYSTEM, "s", "g", broker.clock.ms).members_count == 1


def test_only_who_makes_a_group_has_to_wait_for_the_log(broker):
    sink = GroupClient(broker, group="other")
    join = partial(broker.core.join_group, SYSTEM, "s", "g", Start(), 1, 1, sink, None, 1)
    assert [join()[0] for _ in range(2)] == [Durability.SYNC, Durability.MEMORY]


def test_what_is_not_there(broker):
    core, now_ms = broker.core, broker.clock.ms
    GroupClient(broker)
    for stream, group in (("s", "h"), ("t", "g")):
        with pytest.raises(NotFound):
            core.group_info(SYSTEM, stream, group, now_ms)
        with pytest.raises(NotFound):
            core.delete_group(SYSTEM, stream, group)
    with pytest.raises(NotFound):
        core.list_groups(SYSTEM, "t", "", "", 10, now_ms)


def test_groups_are_listed_by_name_a_page_at_a_time_as_far_as_one_may_see(broker):
    for name in ("b1", "a", "b2", "b3"):
        GroupClient(broker, group=name)
    core, now_ms = broker.core, broker.clock.ms

    def names(prefix: str = "", after: str = "", limit: int = 10, who=SYSTEM) -> list[str]:
        found = core.list_groups(who, "s", prefix, after, limit, now_ms)
        assert all(not each.shards and not each.members for each in found)
        return [each.name for each in found]

    assert names() == ["a", "b1", "b2", "b3"]
    assert names("b", "b1", 1) == ["b2"]
    core.access.replace([User("ada", rules=(Rule("allow", ("group:Describe",), ("b?",)),))])
    assert names(who=core.access.principal("ada")) == ["b1", "b2", "b3"]
    for limit in (0, 1_001):
        with pytest.raises(InvalidArgument):
            names(limit=limit)


def test_a_group_says_how_far_it_is(broker):
    member = GroupClient(broker)
    joined_ms = broker.clock.ms
    append(broker, 0, b"a", b"b", b"c")
    broker.advance(500)
    member.keep(0, 3)
    told = broker.core.group_info(SYSTEM, "s", "g", broker.clock.ms)
    epoch = member.held[0]
    assert told == GroupInfo(
        name="g",
        stream="s",
        start=Start(),
        created_ms=joined_ms,
        members_count=1,
        lag=1,
        behind_ms=500,
        skipped=0,
        shards=[
            GroupShardInfo(0, "held", 1, epoch, 3, 4, 1, 500, broker.clock.ms, 0),
            GroupShardInfo(1, "held", 1, member.held[1], 1, 1, 0, 0, 0, 0),
        ],
        members=[MemberInfo(1, SYSTEM.name, joined_ms, [0, 1])],
    )
    member.leave()
    told = broker.core.group_info(SYSTEM, "s", "g", broker.clock.ms)
    assert [each.state for each in told.shards] == ["free", "free"]
    assert told.shards[0].epoch == epoch and told.shards[0].member == 0

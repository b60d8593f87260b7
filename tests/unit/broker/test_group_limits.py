"""What groups may not do: rights that were taken, limits that were reached, sinks that fail."""

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.errors import BraidError, LimitExceeded, PermissionDenied
from braidmq.broker.group import Member
from braidmq.broker.groupverbs import GroupEvent
from braidmq.broker.limits import Limits
from tests.broker_harness import Harness
from tests.group_client import GroupClient, append, declare_stream, group_info


@pytest.fixture
def broker() -> Harness:
    broker = Harness()
    declare_stream(broker)
    return broker


def users(*rules: Rule) -> list[User]:
    return [User("ada", rules=rules)]


@pytest.mark.parametrize("taken", ["group:Join", "stream:Read"])
def test_a_member_whose_rights_went_is_ended(broker, taken):
    access = broker.core.access
    both = Rule("allow", ("group:Join", "stream:Read"), ("*",))
    access.replace(users(both))
    member = GroupClient(broker, who=access.principal("ada"))
    access.replace(users(both, Rule("deny", ("queue:Send",), ("*",))))
    broker.settle()
    assert member.error is None and member.held
    access.replace(users(both, Rule("deny", (taken,), ("*",))))
    broker.settle()
    assert isinstance(member.error, PermissionDenied)
    assert not group_info(broker).members


def test_nothing_is_read_after_the_right_to_it_went(broker):
    access = broker.core.access
    both = Rule("allow", ("group:Join", "stream:Read"), ("*",))
    access.replace(users(both))
    append(broker, 0, b"a")
    member = GroupClient(broker, who=access.principal("ada"))
    append(broker, 0, b"secret")
    broker.core.more_records(member.member, 0, member.held[0])  # it is read in the next turn
    access.replace(users(both, Rule("deny", ("stream:Read",), ("s",))))
    broker.settle()
    assert isinstance(member.error, PermissionDenied) and member.got == {0: [b"a"]}


def test_as_many_groups_and_members_as_may_be():
    broker = Harness(limits=Limits(groups_per_stream_max=1, members_per_group_max=2))
    declare_stream(broker)
    GroupClient(broker)
    GroupClient(broker)
    with pytest.raises(LimitExceeded):
        GroupClient(broker)
    with pytest.raises(LimitExceeded):
        GroupClient(broker, group="h")


def test_the_time_to_give_a_shard_back_is_a_limit():
    broker = Harness(limits=Limits(group_release_ms=50))
    declare_stream(broker)
    append(broker, 3, b"a")
    GroupClient(broker)
    two = GroupClient(broker)
    broker.advance(50)
    assert two.got == {3: [b"a"]}


def test_a_sink_that_fails_costs_only_its_own_member(broker):
    faults: list[Exception] = []
    broker.core.on_fault = faults.append

    class Broken(GroupClient):
        def group_event(self, member: Member, event: GroupEvent) -> None:
            raise RuntimeError("a bug")

        def group_ended(self, member: Member, error: BraidError) -> None:
            raise RuntimeError("another")

    good = GroupClient(broker)
    Broken(broker)
    assert len(good.held) == 4 and group_info(broker).members_count == 1
    assert str(faults[-1]) == "another"

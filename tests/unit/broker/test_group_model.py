"""Groups do as their model does (``group_model.py``), and the model has teeth."""

from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from braidmq.broker.access import SYSTEM
from braidmq.broker.group import Group, GroupLease, Member
from braidmq.broker.groups import Groups
from braidmq.broker.groupverbs import GroupEvent
from braidmq.broker.shard import Shard
from braidmq.broker.streamstart import NumberFound, find_time
from braidmq.broker.streamverbs import Start
from braidmq.storage.streams import encode_cursor
from tests.broker_harness import Harness
from tests.group_client import GroupClient, append, declare_stream
from tests.group_model import GroupMachine


def old_epochs_count(patch: pytest.MonkeyPatch) -> None:
    def find(self: Groups, member: Member, index: int, epoch: int) -> GroupLease | None:
        return member.leases.get(index)

    patch.setattr(Groups, "find", find)


def epochs_begin_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Groups, "start", lambda self, epoch: None)


def children_come_before_parents(patch: pytest.MonkeyPatch) -> None:
    def readable(self: Group) -> list[Shard]:
        return [shard for shard in self.stream.shards.values() if not self.done(shard)]

    patch.setattr(Group, "readable", readable)


def checkpoints_are_not_logged(patch: pytest.MonkeyPatch) -> None:
    def encode(group: int, shard: int, number: int, epoch: int, time_ms: int) -> bytes:
        return encode_cursor(group, 4_711, number, epoch, time_ms)

    patch.setattr("braidmq.broker.groups.encode_cursor", encode)


def members_begin_at_the_end(patch: pytest.MonkeyPatch) -> None:
    def number(self: Group, shard: Shard) -> int:
        return shard.next

    patch.setattr(Group, "number", number)


def losers_are_not_told(patch: pytest.MonkeyPatch) -> None:
    original = Groups._tell

    def tell(self: Groups, lease: GroupLease, event: GroupEvent) -> None:
        if event.kind != "lost":
            original(self, lease, event)

    patch.setattr(Groups, "_tell", tell)


def who_has_most_keeps_all(patch: pytest.MonkeyPatch) -> None:
    original = Group.balance
    patch.setattr(Group, "balance", lambda self: (original(self)[0], []))


def what_is_held_is_not_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Groups, "_free_bytes", lambda self, lease: None)


def what_is_asked_back_is_read_on(patch: pytest.MonkeyPatch) -> None:
    original = Groups._read

    def read(self: Groups, lease: GroupLease) -> None:
        release_ms, lease.release_ms = lease.release_ms, 0
        original(self, lease)
        lease.release_ms = release_ms

    patch.setattr(Groups, "_read", read)


PLANTED = [
    old_epochs_count,
    epochs_begin_anew,
    children_come_before_parents,
    checkpoints_are_not_logged,
    members_begin_at_the_end,
    losers_are_not_told,
    who_has_most_keeps_all,
    what_is_held_is_not_forgotten,
    what_is_asked_back_is_read_on,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_bug_is_noticed(plant, monkeypatch):
    """A model that never complains proves nothing."""
    plant(monkeypatch)
    quick = settings(
        max_examples=1_000,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(GroupMachine, settings=quick)


TestGroupModel = GroupMachine.TestCase
TestGroupModel.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


@given(st.data())
def test_nothing_is_heard_of_a_shard_before_it_is_assigned(data):
    """However long it takes to find where to begin: the clients themselves check what they hear."""
    broker = Harness()
    declare_stream(broker, 3)
    for index in range(3):
        append(broker, index, b"a")
    start = Start("time", time_ms=broker.clock.ms)
    searches = []
    clients: list[GroupClient] = []

    def search(shard: Shard, time_ms: int, found: NumberFound) -> None:
        searches.append(partial(find_time, shard, time_ms, found))

    def leave() -> None:
        clients.pop().leave()

    def release() -> None:
        for client in clients:
            for index, lease in list(client.member.leases.items()):
                broker.core.release_shard(client.member, index, lease.epoch)

    def reset() -> None:
        broker.core.reset_group(
            *(SYSTEM, "s", "g", Start(), -1, True, lambda *_: None, None, broker.clock.ms)
        )

    def split() -> None:
        opened = broker.core.streams.get("s").open[0]
        broker.core.split_shard(SYSTEM, "s", opened.index, "", broker.clock.ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("braidmq.broker.groups.find_time", search)
        for _ in range(data.draw(st.integers(1, 10))):
            changes = [lambda: clients.append(GroupClient(broker, start)), split]
            if clients:
                changes += [leave, release, reset]
            if searches:
                changes += [lambda: searches.pop(0)()] * 2
            data.draw(st.sampled_from(changes))()
            broker.settle()
            broker.advance(10_000)

"""Groups against a model that is obviously right: members, crashes, resharding, restarts.

The model knows what stands in each shard, which shards come before which, and how far the group
is: that is moved by checkpoints that were accepted, and by resets. Whatever a member is given is
compared with it at that moment: where it begins, that nothing is left out, that parents came
before, that nobody else has the shard. Who gets which shard is the broker's to decide; the model
says only that somebody must have it, and that loads are even once everything has settled.
"""

import random
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import LeaseLost
from braidmq.broker.group import Member
from braidmq.broker.groupverbs import GroupEvent
from braidmq.broker.streamrecord import chunk_records
from braidmq.broker.streamverbs import Start
from tests.broker_disk import DiskBroker
from tests.group_client import GroupClient, append, declare_stream

__all__ = ["GroupMachine"]

PICKS = st.integers(0, 1_000)
MEMBERS_MAX = 4
SHARDS_MAX = 12


@dataclass
class ModelShard:
    """A shard as it should be: ``bodies[n]`` is the record ``start + n``."""

    start: int
    parents: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    closed: bool = False
    first: int = 1  # the oldest that was not trimmed
    begin: int = 1  # where a group without a checkpoint here begins, if it is still there
    kept: int = 0  # the checkpoint; 0: none
    epoch: int = 0  # of the newest lease

    @property
    def next(self) -> int:
        return self.start + len(self.bodies)

    @property
    def cursor(self) -> int:
        """The group goes on here."""
        return self.kept or max(self.begin, self.first)

    @property
    def done(self) -> bool:
        return self.closed and max(self.cursor, self.first) >= self.next


class ModelClient(GroupClient):
    """A member whose every event is checked."""

    def __init__(self, machine: "GroupMachine", start: Start, records_max: int) -> None:
        self.machine = machine
        self.kept: dict[int, int] = {}
        super().__init__(machine.broker, start, records_max=records_max)

    def group_event(self, member: Member, event: GroupEvent) -> None:
        shard = self.machine.shards[event.shard]
        if event.kind == "assigned":
            others = [each for each in self.machine.members if each is not self]
            assert not any(event.shard in each.held for each in others), "one owner"
            assert event.epoch > shard.epoch, "epochs rise"
            shard.epoch = event.epoch
            assert self.machine.over(shard), "parents come before children"
            assert event.number == shard.cursor, "it goes on where it was"
            self.kept[event.shard] = event.number
        elif event.kind == "records":
            assert event.number == max(self.next[event.shard], shard.first), "nothing is left out"
            assert event.chunk is not None
            at = event.number - shard.start
            found = [record.body for record in chunk_records(event.chunk, event.shard)]
            assert found == shard.bodies[at : at + event.chunk.count], "in order, as they are"
        elif event.kind == "done":
            assert shard.done
            shard.kept = shard.next
        super().group_event(member, event)


class GroupMachine(RuleBasedStateMachine):
    """One stream, one group."""

    @initialize(shards=st.integers(1, 4), start=st.sampled_from(["earliest", "latest", "time"]))
    def open(self, shards: int, start: str) -> None:
        self.broker = DiskBroker()
        self.random = random.Random(7)
        self.count = 0
        self.members: list[ModelClient] = []
        self.lost: list[tuple[ModelClient, int, int]] = []  # leases that are over
        declare_stream(self.broker, shards, retention_ms=0)
        self.shards = {index: ModelShard(1) for index in range(shards)}
        for index in self.shards:
            self.put(index, 2)
        self.broker.advance(1_000)
        self.start = Start(start, time_ms=self.broker.clock.ms)  # type: ignore[arg-type]
        for index, shard in self.shards.items():
            shard.begin = 1 if start == "earliest" else shard.next
            self.put(index, 2)
            if start == "latest":
                shard.kept = shard.next
        self.join(1)

    def put(self, index: int, count: int) -> None:
        bodies = [b"%d" % (self.count + n) for n in range(count)]
        self.count += count
        self.shards[index].bodies += bodies
        append(self.broker, index, *bodies)

    def over(self, shard: ModelShard) -> bool:
        """Whether all before a shard is done."""
        parents = [self.shards[parent] for parent in shard.parents]
        return all(parent.done and self.over(parent) for parent in parents)

    def opened(self) -> list[int]:
        return [index for index, shard in self.shards.items() if not shard.closed]

    def held(self, number: int) -> tuple[ModelClient, int] | None:
        """Some shard that some member has."""
        found = [(each, index) for each in self.members for index in sorted(each.held)]
        return found[number % len(found)] if found else None

    # What happens -----------------------------------------------------------------------------

    @rule(number=PICKS, count=st.integers(1, 4))
    def append_records(self, number: int, count: int) -> None:
        opened = self.opened()
        self.put(opened[number % len(opened)], count)

    @precondition(lambda self: len(self.members) < MEMBERS_MAX)
    @rule(records_max=st.sampled_from([1, 3, 100]))
    def join(self, records_max: int) -> None:
        client = ModelClient.__new__(ModelClient)
        self.members.append(client)
        client.held = {}
        ModelClient.__init__(client, self, self.start, records_max)

    @precondition(lambda self: self.members)
    @rule(number=PICKS)
    def leave(self, number: int) -> None:
        client = self.members.pop(number % len(self.members))
        self.lost += [(client, index, epoch) for index, epoch in client.held.items()]
        client.leave()

    @rule(number=PICKS)
    def ask_for_more(self, number: int) -> None:
        found = self.held(number)
        if found is not None:
            client, index = found
            client.more(index)

    @rule(number=PICKS, part=st.integers(0, 3))
    def checkpoint(self, number: int, part: int) -> None:
        """Of what was given: all, or a part of it."""
        found = self.held(number)
        if found is None:
            return
        client, index = found
        kept, given = client.kept[index], client.next[index]
        at = given if part == 0 else kept + (given - kept) * part // 4
        if at > kept:
            epoch = client.held[index]
            client.kept[index] = at
            self.shards[index].kept = at
            client.keep(index, at)
            if index not in client.held:
                self.lost.append((client, index, epoch))

    @rule(number=PICKS)
    def give_back(self, number: int) -> None:
        found = self.held(number)
        if found is not None:
            client, index = found
            self.lost.append((client, index, client.held[index]))
            client.release(index)

    @precondition(lambda self: self.lost)
    @rule(number=PICKS)
    def checkpoint_of_what_was_lost(self, number: int) -> None:
        client, index, epoch = self.lost[number % len(self.lost)]
        if client.broker is not self.broker:
            return
        before = self.shards[index].cursor
        try:
            client.keep(index, client.next[index], epoch)
        except LeaseLost:
            assert self.shards[index].cursor == before
        else:
            raise AssertionError("who lost a shard has no say in it")

    @precondition(lambda self: len(self.shards) < SHARDS_MAX)
    @rule(number=PICKS)
    def split(self, number: int) -> None:
        index = self.opened()[number % len(self.opened())]
        self.shards[index].closed = True
        children = len(self.shards), len(self.shards) + 1
        for child in children:
            start = self.shards[index].next
            self.shards[child] = ModelShard(start, [index], first=start, begin=start)
        self.broker.core.split_shard(SYSTEM, "s", index, "", self.broker.clock.ms)
        self.broker.settle()

    @precondition(lambda self: len(self.shards) < SHARDS_MAX and len(self.opened()) > 1)
    @rule(number=PICKS)
    def merge(self, number: int) -> None:
        opened = [each.index for each in self.broker.core.streams.get("s").open]
        at = number % (len(opened) - 1)
        low, high = parents = opened[at : at + 2]
        start = max(self.shards[parent].next for parent in parents)
        for parent in parents:
            self.shards[parent].closed = True
        child = ModelShard(start, parents, first=start, begin=start)
        self.shards[len(self.shards)] = child
        self.broker.core.merge_shards(SYSTEM, "s", low, high, self.broker.clock.ms)
        self.broker.settle()

    @rule(ms=st.sampled_from([100, 1_500, 10_000]))
    def wait(self, ms: int) -> None:
        before = self.leases()
        self.broker.advance(ms)
        self.note_lost(before)

    def leases(self) -> list[tuple[ModelClient, int, int]]:
        return [
            (client, index, epoch)
            for client in self.members
            for index, epoch in client.held.items()
        ]

    def note_lost(self, before: list[tuple[ModelClient, int, int]]) -> None:
        now = self.leases()
        self.lost += [each for each in before if each not in now]

    @rule(number=PICKS, kind=st.sampled_from(["earliest", "latest", "at"]), whole=st.booleans())
    def reset(self, number: int, kind: str, whole: bool) -> None:
        there = list(self.broker.core.streams.get("s").shards)
        index = -1 if whole and kind != "at" else there[number % len(there)]
        chosen = list(self.shards.values()) if index < 0 else [self.shards[index]]
        at = max(chosen[0].start, min(1 + number % 7, chosen[0].next))
        for shard in chosen:
            if kind == "at":
                shard.kept = max(at, shard.first)
            else:
                shard.kept = shard.first if kind == "earliest" else shard.next
        before = self.leases()
        answers: list[object] = []
        self.broker.core.reset_group(
            SYSTEM,
            "s",
            "g",
            Start(kind, number=at),  # type: ignore[arg-type]
            index,
            True,
            lambda _, answer: answers.append(answer),
            None,
            self.broker.clock.ms,
        )
        self.broker.settle()
        assert len(answers) == 1
        self.note_lost(before)

    @rule(number=PICKS, part=st.integers(1, 4))
    def trim(self, number: int, part: int) -> None:
        there = list(self.broker.core.streams.get("s").shards)
        index = there[number % len(there)]
        shard = self.shards[index]
        first = shard.first + (shard.next - shard.first) * part // 4
        if first > shard.first:
            shard.first = first
            streams = self.broker.core.streams
            streams.trim(streams.get("s").shard(index), first)
            self.wait(1_500)  # until a closed one that is empty now is gone

    @rule(power_cut=st.booleans())
    def restart(self, power_cut: bool) -> None:
        self.broker = self.broker.restarted(self.random if power_cut else None)
        self.members.clear()

    @rule(number=PICKS, step=st.integers(0, 12))
    def write_checkpoint(self, number: int, step: int) -> None:
        """While it is written, things go on."""
        steps = 0

        def between() -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                self.append_records(number, 2)
                self.checkpoint(number, 0)
                if number % 3 == 0 and len(self.shards) < SHARDS_MAX:
                    self.split(number)

        self.broker.checkpoint(between)

    @rule()
    def move_to_cold_files(self) -> None:
        self.broker.checkpoint()
        self.broker.rehome(self.broker.settle)

    # What always holds ------------------------------------------------------------------------

    @invariant()
    def every_shard_is_where_it_should_be(self) -> None:
        told = self.broker.core.group_info(SYSTEM, "s", "g", self.broker.clock.ms)
        for shown in told.shards:
            shard = self.shards[shown.shard]
            searching = self.start.kind == "time" and shown.state in ("free", "waiting")
            if shown.state != "done":
                number = max(shown.number, shard.first)
                assert number == max(shard.cursor, shard.first) or (
                    searching and not shard.kept and number < shard.cursor
                ), (shown, shard)
                assert shown.lag == shard.next - number
        held = sorted(index for client in self.members for index in client.held)
        assert held == [shown.shard for shown in told.shards if shown.state in ("held", "revoked")]
        if self.members:
            assert not any(shown.state == "free" for shown in told.shards)
            loads = [len(client.held) - len(client.revoked) for client in self.members]
            if not any(client.revoked for client in self.members):
                assert max(loads) - min(loads) <= 1
        assert {client.error for client in self.members} <= {None}

    @invariant()
    def nothing_is_left_behind(self) -> None:
        groups = self.broker.core.groups
        assert len(groups._due) < 100 and not groups._changed
        for client in self.members:
            leases = client.member.leases.values()
            assert client.member.bytes == sum(lease.bytes for lease in leases)
            assert set(client.member.stalled) <= set(leases)

    def teardown(self) -> None:
        """One member that reads all gets to the end of everything."""
        if not hasattr(self, "broker"):
            return
        for client in self.members:
            client.leave()
        self.members.clear()
        self.join(3)
        (client,) = self.members
        for _ in range(1_000):
            behind = [index for index in client.held if self.has_more(client, index)]
            if not behind:
                break
            for index in behind:
                if client.next[index] > client.kept[index]:
                    client.kept[index] = self.shards[index].kept = client.next[index]
                    client.keep(index)
                if index in client.held:
                    client.more(index)
        for index, shard in self.shards.items():
            at_end = max(shard.cursor, shard.first) == shard.next
            assert shard.done or (index in client.held and at_end)
        client.leave()

    def has_more(self, client: ModelClient, index: int) -> bool:
        shard = self.shards[index]
        return max(client.kept[index], shard.first) < shard.next

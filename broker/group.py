"""A group: members that share the shards of a stream, each shard with one of them at a time.

The decisions, without IO; ``groups.py`` carries them out, ``groupstore.py`` brings them back.

- Where a group goes on in a shard is its *cursor*: all before is done. Cursors are in the log.
- Who reads a shard is said by a *lease*, in memory only. Its epoch is higher than that of every
  lease before, also of those before a restart: whoever comes with an older one has lost it.
- Every shard that may be read has a member, members have equally many, or one more; and no more
  shards change hands than that takes.
- Parents come before children: a shard may be read when all before it are done, that is closed
  and read to the end by this group, or gone.
"""

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

import msgspec

from .access import Principal
from .groupverbs import GroupEvent, MemberInfo
from .shard import Shard
from .stream import Stream
from .streamreading import ShardRead
from .streamverbs import Start

if TYPE_CHECKING:
    from .errors import BraidError

__all__ = [
    "Cursor",
    "Group",
    "GroupDefinition",
    "GroupLease",
    "GroupSink",
    "Member",
    "record_time_ms",
]


class GroupDefinition(msgspec.Struct, kw_only=True):
    """The content of a group's DEFINITION record.

    Attributes:
        stream: its entity. start: where a shard without a cursor begins. A group that begins at
            the latest records has a cursor in every shard that was there with it.
    """

    kind: str = "group"
    name: str
    stream: int
    start: Start
    created_ms: int


class Cursor(msgspec.Struct, array_like=True, gc=False):
    """The group goes on at ``number``; set at ``time_ms`` under a lease of ``epoch``."""

    number: int
    epoch: int
    time_ms: int


class _Missed(msgspec.Struct, gc=False):
    count: int
    end: int  # all of them were below


class GroupSink(Protocol):
    """Who hears what a member is told. Called in the middle of the broker's work: take a note."""

    def group_event(self, member: "Member", event: GroupEvent) -> None:
        """A shard was assigned, or asked back, or here are its records."""

    def group_ended(self, member: "Member", error: "BraidError") -> None:
        """The broker ended the membership; it holds nothing any more."""


class GroupLease:
    """A shard in the hands of a member.

    Attributes:
        kept: all below is checkpointed. given: all below was given to the member. next: where the
            next chunk begins. bytes: of the chunk that the member has not asked on behind.
        asked: the member wants the next chunk. ended: there is none, the shard was read to its end.
        release_ms: when it is taken away, if it is not given back before; 0: nobody wants it.
        retry_ms: when reading is tried again. over: it is the member's no longer.
    """

    __slots__ = (
        "asked",
        "bytes",
        "ended",
        "epoch",
        "error",
        "given",
        "kept",
        "member",
        "next",
        "over",
        "read",
        "release_ms",
        "retry_ms",
        "shard",
    )

    def __init__(self, shard: Shard, member: "Member", epoch: int) -> None:
        self.shard = shard
        self.member = member
        self.epoch = epoch
        self.kept = self.given = self.next = 0
        self.bytes = 0
        self.asked = True
        self.ended = self.over = False
        self.release_ms = self.retry_ms = 0
        self.read: ShardRead | None = None
        self.error = ""

    @property
    def settled(self) -> bool:
        """Whether all that was given is checkpointed."""
        return self.kept >= self.given


class Member:
    """A member of a group. ``sink`` hears of it; ``tag`` is the sink's.

    Attributes:
        leases: by the index of the shard. bytes: of the chunks it has not asked on behind.
        stalled: leases that are read on when it has fewer of these.
    """

    __slots__ = (
        "bytes",
        "bytes_max",
        "closed",
        "group",
        "id",
        "joined_ms",
        "leases",
        "records_max",
        "sink",
        "stalled",
        "tag",
        "who",
    )

    def __init__(
        self,
        id: int,
        group: "Group",
        who: Principal,
        records_max: int,
        bytes_max: int,
        sink: GroupSink,
        tag: object,
        joined_ms: int,
    ) -> None:
        self.id = id
        self.group = group
        self.who = who
        self.records_max = records_max
        self.bytes_max = bytes_max
        self.sink = sink
        self.tag = tag
        self.joined_ms = joined_ms
        self.leases: dict[int, GroupLease] = {}
        self.stalled: dict[GroupLease, None] = {}
        self.bytes = 0
        self.closed = False

    def load(self) -> int:
        """How many shards it has, without those that it is to give back."""
        return sum(not lease.release_ms for lease in self.leases.values())

    def info(self) -> MemberInfo:
        """As clients see it."""
        return MemberInfo(self.id, self.who.name, self.joined_ms, sorted(self.leases))


class Group:
    """A group as it is now.

    Attributes:
        cursors: by the entity of the shard. leases: by the index of the shard.
        skipped: records that were trimmed before the group got them.
    """

    def __init__(self, id: int, definition: GroupDefinition, stream: Stream) -> None:
        self.id = id
        self.stream = stream
        self.name = definition.name
        self.start = definition.start
        self.created_ms = definition.created_ms
        self.cursors: dict[int, Cursor] = {}
        self.members: dict[int, Member] = {}
        self.leases: dict[int, GroupLease] = {}
        self.skipped = 0
        self._missed: dict[int, _Missed] = {}  # by the index of the shard
        self._known: dict[int, Shard] = {}  # the shards of the stream when it was looked at last

    def definition(self) -> GroupDefinition:
        """What a DEFINITION record says of it."""
        return GroupDefinition(
            name=self.name, stream=self.stream.id, start=self.start, created_ms=self.created_ms
        )

    # Where it is ------------------------------------------------------------------------------

    def number(self, shard: Shard) -> int | None:
        """Where it goes on in a shard; None: where the time of ``start`` is."""
        cursor = self.cursors.get(shard.id)
        if cursor is not None:
            return cursor.number
        return None if self.start.kind == "time" else shard.first

    def done(self, shard: Shard) -> bool:
        """Whether nothing of a shard is left to be read: it is closed, and at its end."""
        if not shard.closed:
            return False
        cursor = self.cursors.get(shard.id)
        if cursor is not None and cursor.number >= shard.next:
            return True
        if shard.index in self.leases:
            return False  # its member has yet to say so
        if shard.first >= shard.next:
            return True
        return cursor is None and self.start.kind == "time" and shard.last_ms < self.start.time_ms

    def readable(self) -> list[Shard]:
        """The shards with something to read, and nothing to be read before."""
        over: set[int] = set()  # done, and all before them
        found = []
        for shard in self.stream.shards.values():  # parents stand before their children
            if all(parent.index in over for parent in self.stream.parents(shard)):
                if self.done(shard):
                    over.add(shard.index)
                else:
                    found.append(shard)
        return found

    def miss(self, shard: Shard, first: int, end: int) -> None:
        """Count the records from ``first`` to below ``end``, which were trimmed: each one once."""
        missed = self._missed.setdefault(shard.index, _Missed(0, 0))
        count = end - max(first, missed.end)
        if count > 0:
            missed.count += count
            missed.end = end
            self.skipped += count

    def missed(self, shard: Shard) -> int:
        """How many records of a shard were trimmed before the group got them."""
        missed = self._missed.get(shard.index)
        return 0 if missed is None else missed.count

    def forget_gone(self) -> None:
        """Let go of shards that are gone; what stood in them behind the cursors was missed."""
        shards = {shard.id: shard for shard in self.stream.shards.values()}
        for id, shard in self._known.items():
            cursor = self.cursors.get(id)
            if id not in shards:
                if cursor is not None:
                    self.miss(shard, cursor.number, shard.next)
                self._missed.pop(shard.index, None)
        for id in [id for id in self.cursors if id not in shards]:
            del self.cursors[id]
        self._known = shards

    # Who has what -----------------------------------------------------------------------------

    def free(self) -> list[Shard]:
        """The shards that wait for a member."""
        return [each for each in self.readable() if each.index not in self.leases]

    def balance(self) -> tuple[list[tuple[Shard, Member]], list[GroupLease]]:
        """What is to change: (who gets which free shards, which leases are to be given back).

        What is given back is free in the next round. Of the members that have most, some may keep
        one more than others; who has too many gives back what it got last; who has fewest gets
        first.
        """
        members = self.members
        if not members:
            return [], []
        free = self.free()
        least, over = divmod(len(self.leases) + len(free), len(members))
        loads = [(-member.load(), member.id) for member in members.values()]
        room: dict[int, int] = {}
        back: list[GroupLease] = []
        for rank, (load, id) in enumerate(sorted(loads)):
            room[id] = least + (rank < over) + load
            if room[id] < 0:
                held = [each for each in members[id].leases.values() if not each.release_ms]
                held.sort(key=_epoch)
                back.extend(held[room[id] :])
        takers = [(-load, id) for load, id in loads if room[id] > 0]
        heapify(takers)
        given: list[tuple[Shard, Member]] = []
        for shard in free:
            load, id = heappop(takers)  # their room together is at least what is free
            given.append((shard, members[id]))
            room[id] -= 1
            if room[id]:
                heappush(takers, (load + 1, id))
        return given, back


def _epoch(lease: GroupLease) -> int:
    return lease.epoch


def record_time_ms(shard: Shard, number: int) -> int:
    """About when the record ``number`` came; 0: there is none.

    In a cold file, whose index is on disk, as if its records had come evenly.
    """
    number = shard.present(number)
    if number >= shard.next:
        return 0
    if number >= shard.cold_end:
        return shard.times[shard.block_of(number)]
    file = next(each for each in shard.cold if number < each.end)
    span = file.time_last_ms - file.time_first_ms
    return file.time_first_ms + span * max(number - file.first, 0) // file.records

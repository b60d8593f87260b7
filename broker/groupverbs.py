"""What can be asked about consumer groups: the verbs, to await, and the values that go in and out.

The broker in this process and the client of the native protocol both implement them; the members
that people use (``groupface.py``) are built on nothing else. The same for callbacks, which a
server uses, stands in ``groupcore.py``.

How a member works. It is told which shards are its own (``assigned``), and gets their records in
chunks: one of each shard, and the next one when it has asked for ``more`` of that shard. When it
is done with records it sets a checkpoint: where the group goes on, whoever reads. A shard that is
asked back (``revoked``) brings no more records; the member may still checkpoint those it has, until
it has checkpointed all or releases the shard, at most for ``group_release_ms``. After ``lost`` and
``done`` the shard is not its own any more. Each time a shard is assigned it has a higher epoch, and
a checkpoint with an older one raises LeaseLost.
"""

from typing import Literal, Protocol

import msgspec

from .streamreading import Chunk
from .streamverbs import Start

__all__ = [
    "GroupEvent",
    "GroupEventKind",
    "GroupInfo",
    "GroupShardInfo",
    "GroupShardState",
    "GroupVerbs",
    "MemberInfo",
    "Membership",
]

GroupEventKind = Literal["assigned", "records", "revoked", "lost", "done"]
GroupShardState = Literal["waiting", "free", "held", "revoked", "done"]


class GroupEvent(msgspec.Struct, gc=False):
    """What a member hears about one of its shards.

    Attributes:
        kind: ``assigned``: it is the member's from now on; ``records``: here are some; ``revoked``:
            give it back; ``lost``: another may have it, or its checkpoint was reset; ``done``: it
            was closed, and is checkpointed to its end.
        shard: its index. epoch: of the lease.
        number: where the member begins, or the first of the records.
        chunk: ``records``: these, else None.
    """

    kind: GroupEventKind
    shard: int
    epoch: int
    number: int = 0
    chunk: Chunk | None = None


class MemberInfo(msgspec.Struct):
    """A member of a group."""

    id: int  # unique while the broker runs
    user: str
    joined_ms: int
    shards: list[int]  # that it holds now, by index


class GroupShardInfo(msgspec.Struct):
    """How far a group is in one shard.

    Attributes:
        state: ``waiting`` for its parents to be done, ``free``: no member has it, ``held``,
            ``revoked``: its member is to give it back, ``done``: closed, and read to its end.
        member: who has it, 0: nobody. epoch: of the lease, or of the last checkpoint.
        number: where the group goes on. next: behind the newest record. lag: records between.
        behind_ms: about how much older than now the record at ``number`` is; 0: there is none.
        checkpoint_ms: when the checkpoint was set, unix ms; 0: never.
        skipped: records that were trimmed before the group got them, since the broker started.
        error: why the shard cannot be read right now; it is tried again and again.
    """

    shard: int
    state: GroupShardState
    member: int
    epoch: int
    number: int
    next: int
    lag: int
    behind_ms: int
    checkpoint_ms: int
    skipped: int
    error: str = ""


class GroupInfo(msgspec.Struct):
    """A group as it is now. Lists leave out ``shards`` and ``members``."""

    name: str
    stream: str
    start: Start  # where shards without a checkpoint begin
    created_ms: int
    members_count: int
    lag: int  # records, of all shards
    behind_ms: int  # of the shard that is furthest behind
    skipped: int
    shards: list[GroupShardInfo] = []
    members: list[MemberInfo] = []


class Membership(Protocol):
    """One member of a group. It ends with its connection, and then loses its shards at once."""

    @property
    def id(self) -> int:
        """What :class:`MemberInfo` calls it."""

    async def next(self) -> list[GroupEvent]:
        """Wait for the next events (never empty). Raises Disconnected, NotFound, ..."""

    def more(self, shard: int, epoch: int) -> None:
        """Have the next chunk of a shard; to be asked once for each chunk."""

    async def checkpoint(self, shard: int, epoch: int, number: int) -> None:
        """The group is done with all below ``number``; returns when that is kept.

        A number below the checkpoint changes nothing. Raises LeaseLost, InvalidArgument (beyond
        what the member got).
        """

    def release(self, shard: int, epoch: int) -> None:
        """Give a shard back; nothing happens if it is not the member's any more."""

    async def close(self) -> None:
        """Leave the group; the others get its shards."""


class GroupVerbs(Protocol):
    """The verbs of groups. What they raise is in ``errors.py``."""

    async def join_group(
        self,
        stream: str,
        group: str,
        start: Start,
        records_max: int = 1_000,
        bytes_max: int = 4 * 1024 * 1024,
    ) -> Membership:
        """Become a member, and make the group if it is not there.

        ``start`` (earliest, latest or time) is where a new group begins; it means nothing to one
        that is there. A chunk has at most ``records_max`` records, and all chunks that the member
        has not asked on behind have about ``bytes_max`` bytes at most.
        """

    async def list_groups(
        self, stream: str, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[GroupInfo]:
        """The groups of a stream by name, a page at a time: those after ``after``."""

    async def group_info(self, stream: str, group: str) -> GroupInfo:
        """The group as it is now, with its shards and members. Raises NotFound."""

    async def reset_group(
        self, stream: str, group: str, start: Start, shard: int = -1, force: bool = False
    ) -> GroupInfo:
        """Move the checkpoints of one shard, or of all (-1), to ``start``.

        A number is of one shard. Raises Conflict when the group has members, unless ``force``:
        then they lose their leases, and begin again there.
        """

    async def delete_group(self, stream: str, group: str) -> None:
        """Delete a group with its checkpoints. Raises Conflict while it has members."""

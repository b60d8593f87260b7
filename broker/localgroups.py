"""``GroupVerbs`` on a core in this process: the part of ``LocalVerbs`` that is about groups.

The core calls back in the middle of its work, so nothing here does more than wake somebody.
"""

import asyncio
from collections.abc import Callable

from ..storage.log import Durability
from .access import Principal
from .core import Core
from .errors import BraidError, Unavailable
from .group import Group, Member
from .groupverbs import GroupEvent, GroupInfo, Membership
from .localstreams import LocalStreams, tell
from .streamverbs import Start

__all__ = ["LocalGroups"]


class _LocalMembership:
    """A member of a group in this process. See ``Membership``."""

    def __init__(self, verbs: "LocalGroups") -> None:
        self._verbs = verbs
        self._events: list[GroupEvent] = []
        self._error: BraidError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.member: Member

    def put(self, event: GroupEvent) -> None:
        """Something happened to a shard."""
        self._events.append(event)
        self._wake()

    def end(self, error: BraidError) -> None:
        """Nothing more will come."""
        if self._error is None:
            self._error = error
            self._events.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def id(self) -> int:
        """What ``MemberInfo`` calls it."""
        return self.member.id

    async def next(self) -> list[GroupEvent]:
        """Wait for the next events."""
        while not self._events:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events, self._events = self._events, []
        return events

    def more(self, shard: int, epoch: int) -> None:
        """Have the next chunk of a shard."""
        if self._error is None:
            self._verbs.more_records(self.member, shard, epoch)

    async def checkpoint(self, shard: int, epoch: int, number: int) -> None:
        """The group is done with all below ``number``."""
        if self._error is not None:
            raise self._error
        await self._verbs.checkpoint(self.member, shard, epoch, number)

    def release(self, shard: int, epoch: int) -> None:
        """Give a shard back."""
        if self._error is None:
            self._verbs.release_shard(self.member, shard, epoch)

    async def close(self) -> None:
        """Leave the group."""
        if self._error is None:
            self._verbs.leave_group(self)
            self.end(Unavailable("this membership was closed"))


class LocalGroups(LocalStreams):
    """``GroupVerbs`` for one principal."""

    def __init__(self, core: Core, who: Principal, now_ms: Callable[[], int]) -> None:
        super().__init__(core, who, now_ms)
        self._memberships: set[_LocalMembership] = set()

    # --- what the core calls ---

    def group_event(self, member: Member, event: GroupEvent) -> None:
        """Something happened to one of a member's shards."""
        assert isinstance(member.tag, _LocalMembership)
        member.tag.put(event)

    def group_ended(self, member: Member, error: BraidError) -> None:
        """The broker ended a membership."""
        assert isinstance(member.tag, _LocalMembership)
        self._memberships.discard(member.tag)
        member.tag.end(error)

    # --- what memberships call ---

    def more_records(self, member: Member, shard: int, epoch: int) -> None:
        """Have the next chunk of a shard."""
        self._core.more_records(member, shard, epoch)

    async def checkpoint(self, member: Member, shard: int, epoch: int, number: int) -> None:
        """Set a checkpoint, and wait until it is kept."""
        core = self._check_open()
        await self.kept(core.checkpoint(member, shard, epoch, number, self._now_ms()))

    def release_shard(self, member: Member, shard: int, epoch: int) -> None:
        """Give a shard back."""
        self._core.release_shard(member, shard, epoch)

    def leave_group(self, membership: _LocalMembership) -> None:
        """End a membership."""
        self._memberships.discard(membership)
        if self._core.failed is None:
            self._core.leave_group(membership.member)

    def end_answers(self, error: BraidError) -> None:
        """Nothing more will come."""
        super().end_answers(error)
        for membership in list(self._memberships):
            self.leave_group(membership)
            membership.end(error)

    # --- the verbs ---

    async def join_group(
        self,
        stream: str,
        group: str,
        start: Start,
        records_max: int = 1_000,
        bytes_max: int = 4 * 1024 * 1024,
    ) -> Membership:
        core = self._check_open()
        membership = _LocalMembership(self)
        level, membership.member = core.join_group(
            self._who,
            stream,
            group,
            start,
            records_max,
            bytes_max,
            self,
            membership,
            self._now_ms(),
        )
        self._memberships.add(membership)
        try:
            await self.kept(level)
        except BaseException:
            await membership.close()
            raise
        return membership

    async def list_groups(
        self, stream: str, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[GroupInfo]:
        core = self._check_open()
        return core.list_groups(self._who, stream, prefix, after, limit, self._now_ms())

    async def group_info(self, stream: str, group: str) -> GroupInfo:
        return self._check_open().group_info(self._who, stream, group, self._now_ms())

    async def reset_group(
        self, stream: str, group: str, start: Start, shard: int = -1, force: bool = False
    ) -> GroupInfo:
        core = self._check_open()
        now_ms = self._now_ms()
        waiter: asyncio.Future[Group] = self._expect()
        core.reset_group(self._who, stream, group, start, shard, force, tell, waiter, now_ms)
        found = await waiter
        await self.kept(Durability.SYNC)
        return core.describe_group(found, self._now_ms())

    async def delete_group(self, stream: str, group: str) -> None:
        self._check_open().delete_group(self._who, stream, group)
        await self.kept(Durability.SYNC)

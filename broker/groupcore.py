"""What clients can ask about consumer groups: the gate before ``groups.py``.

The rules are those of ``core.py``, of which this is a part. A member is told of its shards by its
sink (see ``group.py``), and is ended when its user may not be one any more.
"""

from ..storage.log import Durability
from .access import Principal
from .errors import InvalidArgument, LeaseLost
from .group import Group, GroupSink, Member, record_time_ms
from .groups import GroupAnswer
from .groupverbs import GroupInfo, GroupShardInfo, GroupShardState
from .settings import check_name
from .shard import Shard
from .streamcore import StreamCore
from .streamverbs import Start
from .topiccore import PAGE_MAX

__all__ = ["GroupCore"]


class GroupCore(StreamCore):
    """Consumer groups, for a principal."""

    # Members ----------------------------------------------------------------------------------

    def join_group(
        self,
        who: Principal,
        stream: str,
        name: str,
        start: Start,
        records_max: int,
        bytes_max: int,
        sink: GroupSink,
        tag: object,
        now_ms: int,
    ) -> tuple[Durability, Member]:
        """Become a member, and make the group if it is not there: (what to wait for, the member).

        ``sink`` hears of shards from a later turn on. End it with :meth:`leave_group`.
        """
        who.check("group:Join", name)
        who.check("stream:Read", stream)
        check_name(name, "group")
        if "/" in name:
            raise InvalidArgument("a group name holds no /")
        if start.kind not in ("earliest", "latest", "time"):
            raise InvalidArgument("a group starts at the earliest or latest records, or at a time")
        limits = self.limits
        if not 1 <= records_max <= limits.receive_messages_max:
            raise InvalidArgument(f"a chunk has 1 to {limits.receive_messages_max} records")
        if not 1 <= bytes_max <= limits.receive_bytes_max:
            raise InvalidArgument(f"a member takes 1 to {limits.receive_bytes_max} bytes")
        found = self.streams.get(stream)
        made = name not in self.group_store.of(found.id)
        member = self.groups.join(
            who, found, name, start, records_max, bytes_max, sink, tag, now_ms
        )
        return Durability.SYNC if made else Durability.MEMORY, member

    def more_records(self, member: Member, shard: int, epoch: int) -> None:
        """Have the next chunk of a shard."""
        self.groups.more(member, shard, epoch)

    def checkpoint(
        self, member: Member, shard: int, epoch: int, number: int, now_ms: int
    ) -> Durability:
        """All below ``number`` is done, once :meth:`when_kept` calls back for the level.

        Raises LeaseLost, InvalidArgument, BrokerFailed.
        """
        if self.failed is not None:
            raise self.failed
        if member.closed:
            raise LeaseLost("this membership has ended")
        return self.groups.checkpoint(member, shard, epoch, number, now_ms)

    def release_shard(self, member: Member, shard: int, epoch: int) -> None:
        """Give a shard back."""
        self.groups.release(member, shard, epoch)

    def leave_group(self, member: Member) -> None:
        """End a membership; the sink is not called for it any more."""
        self.groups.leave(member)

    # Groups -----------------------------------------------------------------------------------

    def list_groups(
        self, who: Principal, stream: str, prefix: str, after: str, limit: int, now_ms: int
    ) -> list[GroupInfo]:
        """Those groups of a stream that the principal may see, by name, a page at a time."""
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidArgument(f"a page has 1 to {PAGE_MAX} entries")
        by_name = self.group_store.of(self.streams.get(stream).id)
        shown: list[GroupInfo] = []
        for name in sorted(name for name in by_name if name > after and name.startswith(prefix)):
            if len(shown) == limit:
                break
            if who.allows("group:Describe", name):
                info = self.describe_group(by_name[name], now_ms)
                info.shards, info.members = [], []
                shown.append(info)
        return shown

    def group_info(self, who: Principal, stream: str, name: str, now_ms: int) -> GroupInfo:
        """The group as it is now, with its shards and members."""
        who.check("group:Describe", name)
        return self.describe_group(self._group(stream, name), now_ms)

    def reset_group(
        self,
        who: Principal,
        stream: str,
        name: str,
        start: Start,
        shard: int,
        force: bool,
        answer: GroupAnswer,
        argument: object,
        now_ms: int,
    ) -> None:
        """Move the cursors of one shard, or of all (-1); ``answer(argument, group)`` comes once.

        Then ask for its :meth:`group_info`, when the log has kept it.
        """
        who.check("group:Reset", name)
        group = self._group(stream, name)
        if shard < 0 and start.kind in ("at", "after"):
            raise InvalidArgument("a number is of one shard: say which")
        found = group.stream
        shards = list(found.shards.values()) if shard < 0 else [found.shard(shard)]
        self.groups.reset(group, shards, start, force, answer, argument, now_ms)

    def delete_group(self, who: Principal, stream: str, name: str) -> None:
        """Delete a group. Conflict while it has members."""
        who.check("group:Delete", name)
        self.groups.delete(self._group(stream, name))

    def _group(self, stream: str, name: str) -> Group:
        return self.groups.get(self.streams.get(stream), name)

    def describe_group(self, group: Group, now_ms: int) -> GroupInfo:
        """The group as it is now, for who was let in to it."""
        free = {shard.index for shard in group.free()}
        shards = [
            _shard_info(group, each, each.index in free, now_ms)
            for each in group.stream.shards.values()
        ]
        return GroupInfo(
            name=group.name,
            stream=group.stream.name,
            start=group.start,
            created_ms=group.created_ms,
            members_count=len(group.members),
            lag=sum(each.lag for each in shards),
            behind_ms=max((each.behind_ms for each in shards), default=0),
            skipped=group.skipped,
            shards=shards,
            members=[member.info() for member in group.members.values()],
        )


def _shard_info(group: Group, shard: Shard, free: bool, now_ms: int) -> GroupShardInfo:
    lease = group.leases.get(shard.index)
    cursor = group.cursors.get(shard.id)
    number = _number(group, shard)
    time_ms = 0 if group.done(shard) else record_time_ms(shard, number)
    return GroupShardInfo(
        shard=shard.index,
        state=_state(group, shard, free),
        member=0 if lease is None else lease.member.id,
        epoch=lease.epoch if lease is not None else cursor.epoch if cursor is not None else 0,
        number=number,
        next=shard.next,
        lag=shard.next - max(number, shard.first),
        behind_ms=max(now_ms - time_ms, 0) if time_ms else 0,
        checkpoint_ms=cursor.time_ms if cursor is not None else 0,
        skipped=group.missed(shard),
        error="" if lease is None else lease.error,
    )


def _number(group: Group, shard: Shard) -> int:
    """Where the group goes on. If it is to find a time in a file first: not before that file."""
    number = group.number(shard)
    if number is not None:
        return number
    lease = group.leases.get(shard.index)
    if lease is not None and lease.kept:
        return lease.kept
    found = shard.number_at(group.start.time_ms)
    return found if isinstance(found, int) else max(found.first, shard.first)


def _state(group: Group, shard: Shard, free: bool) -> GroupShardState:
    lease = group.leases.get(shard.index)
    if lease is not None:
        return "revoked" if lease.release_ms else "held"
    if group.done(shard):
        return "done"
    return "free" if free else "waiting"

"""Groups at work: who joins and leaves, who gets which shard, its records, and how far it is.

``group.py`` decides who gets what; here it is done. Rules:

- Leases change in one place, :meth:`Groups._refresh`, once in a turn for all that happened.
- A lease has at most one read under way, which waits at the end of the shard as long as it takes.
  What it finds goes to the member, and the next read begins when the member has asked for more:
  so each shard goes at its own pace, and a member holds as much as it said it would.
- A shard that is to move is asked back. Its member may still checkpoint what it holds, until it
  gives the shard back, all of it is checkpointed, or ``group_release_ms`` have passed.
- A checkpoint counts only under the lease that the shard has now. No record is written of leases:
  whatever was leased before a restart has a lower epoch than what is leased after it.
- A shard that cannot be read is tried again and again; the others go on.
"""

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from ..storage.log import Durability
from ..storage.record import encode_definition
from ..storage.streams import CursorRecord, encode_cursor
from .access import Principal
from .errors import (
    BraidError,
    Conflict,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from .group import Group, GroupDefinition, GroupLease, GroupSink, Member
from .groupverbs import GroupEvent, GroupEventKind
from .shard import Shard
from .stream import Stream
from .streamreading import Chunk, ShardRead
from .streamstart import find_number, find_time
from .streamverbs import Start

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["GroupAnswer", "Groups"]

GroupAnswer = Callable[[object, Group | BraidError], None]

_WAIT_MS = 365 * 24 * 3600 * 1000  # at the end of a shard; then it waits on
_RETRY_MS = 1_000  # before a read that failed is tried again
_CHUNK_BYTES_MIN = 64 * 1024  # that a member of many shards gets of each at once


class Groups:
    """The groups of a broker. See the module's rules.

    Attributes:
        id, alarm_ms: for the engine's alarms, as a queue has them.
    """

    id = -3  # -2 is that of streams.py

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._log = engine.log
        self._store = engine.group_store
        self.alarm_ms = 0
        self._epoch = 0
        self._members = 0  # that ever joined
        self._changed: dict[Group, None] = {}  # to be refreshed in the next turn
        self._due: list[tuple[int, int, GroupLease]] = []  # to be taken away, or read again
        self._turn = 0

    def start(self, epoch: int) -> None:
        """Everything is recovered; ``epoch`` is that of the log, which rises whenever it opens."""
        self._epoch = max(epoch << 32, self._store.epoch_max)
        for group in self._store.by_id.values():
            self._watch(group.stream)

    # Groups -----------------------------------------------------------------------------------

    def get(self, stream: Stream, name: str) -> Group:
        """The group of that name. Raises NotFound."""
        group = self._store.of(stream.id).get(name)
        if group is None:
            raise NotFound(f"stream {stream.name} has no group {name!r}")
        return group

    def join(
        self,
        who: Principal,
        stream: Stream,
        name: str,
        start: Start,
        records_max: int,
        bytes_max: int,
        sink: GroupSink,
        tag: object,
        now_ms: int,
    ) -> Member:
        """Add a member; its shards are assigned from a later turn. Raises LimitExceeded."""
        group = self._store.of(stream.id).get(name)
        if group is None:
            group = self._make(stream, name, start, now_ms)
        if len(group.members) >= self._engine.limits.members_per_group_max:
            raise LimitExceeded(f"group {name} has {len(group.members)} members, as many as may be")
        self._members += 1
        member = Member(
            self._members, group, who, records_max, bytes_max, sink, tag, joined_ms=now_ms
        )
        group.members[member.id] = member
        self._refresh_soon(group)
        return member

    def _make(self, stream: Stream, name: str, start: Start, now_ms: int) -> Group:
        engine = self._engine
        engine.admit()
        if len(self._store.of(stream.id)) >= engine.limits.groups_per_stream_max:
            most = engine.limits.groups_per_stream_max
            raise LimitExceeded(f"stream {stream.name} has {most} groups, as many as may be")
        id = engine.take_id()
        definition = GroupDefinition(name=name, stream=stream.id, start=start, created_ms=now_ms)
        cursors = []
        if start.kind == "latest":
            epoch = self._next_epoch()
            cursors = [
                CursorRecord(id, shard.id, shard.next, epoch, now_ms)
                for shard in stream.shards.values()
            ]
        self._write(stream, [encode_definition(id, msgspec.msgpack.encode(definition))], cursors)
        group = self._store.define(id, definition)
        assert group is not None
        self._apply(cursors)
        self._watch(stream)
        return group

    def _write(self, stream: Stream, records: list[bytes], cursors: Iterable[CursorRecord]) -> None:
        """Have records and cursors kept, all or none. A stream in memory has no cursors there."""
        if stream.log is self._log:
            records += [
                encode_cursor(each.group, each.shard, each.number, each.epoch, each.time_ms)
                for each in cursors
            ]
        if records:
            self._log.append_together(records, [0] * len(records))

    def _apply(self, cursors: Iterable[CursorRecord]) -> None:
        for each in cursors:
            self._store.set_cursor(each)

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def delete(self, group: Group) -> None:
        """Delete a group. Raises Conflict while it has members."""
        if group.members:
            raise Conflict(f"group {group.name} has {len(group.members)} members")
        self._log.append((encode_definition(group.id, b""),))
        self._store.undefine(group.id)
        if not self._store.of(group.stream.id):
            self._engine.streams.watchers.get(group.stream.id, {}).pop(self, None)

    def reset(
        self,
        group: Group,
        shards: list[Shard],
        start: Start,
        force: bool,
        answer: GroupAnswer,
        argument: object,
        now_ms: int,
    ) -> None:
        """Move cursors; ``answer(argument, group)`` is called once, perhaps at once.

        Raises InvalidArgument, Conflict.
        """
        _check_members(group, force)
        reset = _Reset(self, group, len(shards), force, answer, argument, now_ms)
        for shard in shards:
            find_number(shard, start, partial(reset.found, shard))

    def set_cursors(self, group: Group, numbers: dict[int, int], force: bool, now_ms: int) -> None:
        """Have the group go on elsewhere, by the entity of the shard; leases end.

        Raises NotFound, Conflict.
        """
        if self._engine.failed is not None:
            raise self._engine.failed
        if group.id not in self._store.by_id:
            raise NotFound(f"group {group.name} was deleted")
        _check_members(group, force)
        for lease in list(group.leases.values()):
            self._end_lease(lease, "lost")
        epoch = self._next_epoch()
        cursors = [
            CursorRecord(group.id, id, number, epoch, now_ms) for id, number in numbers.items()
        ]
        self._write(group.stream, [], cursors)
        self._apply(cursors)
        self._refresh_soon(group)

    # Streams change ---------------------------------------------------------------------------

    def _watch(self, stream: Stream) -> None:
        self._engine.streams.watchers.setdefault(stream.id, {})[self] = None

    def resharded(self, stream: Stream) -> None:
        """A stream has other shards."""
        for group in self._store.of(stream.id).values():
            self._refresh_soon(group)

    def ended(self, stream: Stream) -> None:
        """A stream was deleted, and its groups with it."""
        groups = list(self._store.of(stream.id).values())
        self._store.undefine(stream.id)
        for group in groups:
            for member in list(group.members.values()):
                self.end(member, NotFound(f"stream {stream.name} was deleted"))

    # Members ----------------------------------------------------------------------------------

    def leave(self, member: Member) -> None:
        """A member goes; what it held is free at once."""
        if member.closed:
            return
        member.closed = True
        group = member.group
        del group.members[member.id]
        for lease in list(member.leases.values()):
            self._end_lease(lease, None)
        self._refresh_soon(group)

    def end(self, member: Member, error: BraidError) -> None:
        """The same, and the member is told why."""
        if not member.closed:
            self.leave(member)
            try:
                member.sink.group_ended(member, error)
            except Exception as fault:
                self._engine.on_fault(fault)

    def check_rights(self) -> None:
        """End the members whose users may not be members any more."""
        for group in list(self._store.by_id.values()):
            for member in list(group.members.values()):
                self._may_read(member)

    def _may_read(self, member: Member) -> bool:
        who, group = member.who, member.group
        if who.allows("group:Join", group.name) and who.allows("stream:Read", group.stream.name):
            return True
        self.end(member, PermissionDenied(f"{who.name} may not read with group {group.name}"))
        return False

    def _tell(self, lease: GroupLease, event: GroupEvent) -> None:
        member = lease.member
        if member.closed:
            return
        try:
            member.sink.group_event(member, event)
        except Exception as fault:
            self._engine.on_fault(fault)
            error = BraidError("this member was ended by an error of the broker")
            self._engine.later(partial(self.end, member, error))

    # Leases -----------------------------------------------------------------------------------

    def _refresh_soon(self, group: Group) -> None:
        if not self._changed:
            self._engine.later(self._refresh_all)
        self._changed[group] = None

    def _refresh_all(self) -> None:
        changed, self._changed = self._changed, {}
        for group in changed:
            if group.id in self._store.by_id:
                self._refresh(group)

    def _refresh(self, group: Group) -> None:
        """Shards that are done are nobody's; those that are free get members; some move."""
        shards = group.stream.shards
        for lease in list(group.leases.values()):
            if lease.shard.index not in shards or group.done(lease.shard):
                self._end_lease(lease, "done")
        group.forget_gone()
        given, back = group.balance()
        for lease in back:
            self._ask_back(lease)
        leases = [GroupLease(shard, member, self._next_epoch()) for shard, member in given]
        for lease in leases:
            index = lease.shard.index
            group.leases[index] = lease.member.leases[index] = lease
        for lease in leases:
            self._begin(lease)

    def _begin(self, lease: GroupLease) -> None:
        """Begin to read, where the group goes on: perhaps the place is to be found first."""
        group = lease.member.group
        number = group.number(lease.shard)
        if number is None:
            find_time(lease.shard, group.start.time_ms, partial(self._on_begin, lease))
        else:
            self._on_begin(lease, number)

    def _on_begin(self, lease: GroupLease, number: int | BraidError) -> None:
        if lease.over:
            return
        if isinstance(number, BraidError):
            self._put_off(lease, number)
            return
        lease.kept = lease.given = lease.next = number
        self._tell(lease, GroupEvent("assigned", lease.shard.index, lease.epoch, number))
        self._read(lease)

    def _ask_back(self, lease: GroupLease) -> None:
        self._stop(lease)
        if lease.asked and lease.settled:
            self._end_lease(lease, "lost")  # nothing of it is with the member
            return
        lease.release_ms = self._engine.now_ms + self._engine.limits.group_release_ms
        self._remind(lease, lease.release_ms)
        self._tell(lease, GroupEvent("revoked", lease.shard.index, lease.epoch))

    def _end_lease(self, lease: GroupLease, event: GroupEventKind | None) -> None:
        self._stop(lease)
        lease.over = True
        member = lease.member
        index = lease.shard.index
        del member.group.leases[index], member.leases[index]
        member.stalled.pop(lease, None)
        self._free_bytes(lease)
        if event is not None and lease.next:  # else it was never assigned: its place was looked for
            self._tell(lease, GroupEvent(event, index, lease.epoch))
        self._refresh_soon(member.group)

    def _stop(self, lease: GroupLease) -> None:
        if lease.read is not None:
            self._engine.streams.cancel(lease.read)
            lease.read = None

    def find(self, member: Member, index: int, epoch: int) -> GroupLease | None:
        """The member's lease of that epoch, if it has it."""
        lease = member.leases.get(index)
        return lease if lease is not None and lease.epoch == epoch else None

    def release(self, member: Member, index: int, epoch: int) -> None:
        """A member gives a shard back. If it was not asked to, it may well get it again."""
        lease = self.find(member, index, epoch)
        if lease is not None:
            self._end_lease(lease, "lost")

    # Records ----------------------------------------------------------------------------------

    def more(self, member: Member, index: int, epoch: int) -> None:
        """A member wants the next chunk of a shard."""
        lease = self.find(member, index, epoch)
        if lease is not None and not lease.asked:
            lease.asked = True
            self._free_bytes(lease)
            self._read(lease)

    def _free_bytes(self, lease: GroupLease) -> None:
        member = lease.member
        member.bytes -= lease.bytes
        lease.bytes = 0
        while member.stalled and member.bytes < member.bytes_max:
            stalled = next(iter(member.stalled))
            del member.stalled[stalled]
            self._read(stalled)

    def _read(self, lease: GroupLease) -> None:
        """Read the next chunk, if the member wants it and has room."""
        member = lease.member
        if lease.over or lease.release_ms or lease.ended or not lease.asked or member.closed:
            return
        if member.bytes >= member.bytes_max:
            member.stalled[lease] = None
            return
        lease.read = ShardRead(
            self._engine.streams,
            member.group.stream,
            lease.shard,
            lease.next,
            member.records_max,
            max(member.bytes_max // len(member.leases), _CHUNK_BYTES_MIN),
            self._engine.now_ms + _WAIT_MS,
            self._on_chunk,
            lease,
        )
        try:
            self._engine.streams.begin(lease.read)
        except BraidError as error:
            self._put_off(lease, error)

    def _on_chunk(self, argument: object, chunk: Chunk | BraidError) -> None:
        assert isinstance(argument, GroupLease)
        lease = argument
        lease.read = None
        if lease.over:
            return
        if isinstance(chunk, BraidError):
            self._put_off(lease, chunk)
            return
        member = lease.member
        if not self._may_read(member):
            return
        lease.error = ""
        if chunk.count and member.bytes >= member.bytes_max:
            member.stalled[lease] = None  # others were first: it is read again when there is room
            return
        first = chunk.next - chunk.count
        member.group.miss(lease.shard, lease.next, first)
        lease.next = chunk.next
        lease.ended = chunk.ended
        if chunk.count:
            lease.given = chunk.next
            lease.asked = False
            lease.bytes = sum(map(len, chunk.blocks))
            member.bytes += lease.bytes
            self._tell(lease, GroupEvent("records", lease.shard.index, lease.epoch, first, chunk))
        elif not lease.ended:
            self._read(lease)
        elif lease.settled:
            self._keep(lease, lease.next)

    def _put_off(self, lease: GroupLease, error: BraidError) -> None:
        lease.read = None
        lease.error = str(error)
        lease.retry_ms = self._engine.now_ms + _RETRY_MS
        self._remind(lease, lease.retry_ms)

    def checkpoint(
        self, member: Member, index: int, epoch: int, number: int, now_ms: int
    ) -> Durability:
        """All below ``number`` is done, once it is kept as durably as is returned.

        Raises LeaseLost, InvalidArgument.
        """
        group = member.group
        lease = self.find(member, index, epoch)
        if lease is None:
            raise LeaseLost(f"shard {index} of stream {group.stream.name} is not yours any more")
        if not 0 < number <= lease.given:
            raise InvalidArgument(f"of shard {index} you have got what is below {lease.given}")
        if number > lease.kept:
            lease.kept = number
            at_end = lease.ended and lease.settled
            self._keep(lease, lease.next if at_end else number, now_ms)
        return group.stream.settings.durability

    def _keep(self, lease: GroupLease, number: int, now_ms: int = 0) -> None:
        group = lease.member.group
        shard = lease.shard
        cursor = CursorRecord(
            group.id, shard.id, number, lease.epoch, now_ms or self._engine.now_ms
        )
        if shard.log is self._log:
            record = encode_cursor(group.id, shard.id, number, lease.epoch, cursor.time_ms)
            self._log.append((record,))
        self._apply([cursor])
        if group.done(shard):
            self._end_lease(lease, "done")
        elif lease.release_ms and lease.settled:
            self._end_lease(lease, "lost")

    # Time -------------------------------------------------------------------------------------

    def _remind(self, lease: GroupLease, due_ms: int) -> None:
        self._turn += 1
        heappush(self._due, (due_ms, self._turn, lease))
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._due and (not self.alarm_ms or self._due[0][0] < self.alarm_ms):
            self.alarm_ms = self._due[0][0]
            self._engine.alarm(self, self.alarm_ms)

    def tick(self, now_ms: int) -> None:
        """Take what was not given back; try again what could not be read."""
        self.alarm_ms = 0
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, lease = heappop(self._due)
            if lease.over:
                continue
            if due_ms == lease.release_ms:
                self._end_lease(lease, "lost")
            elif due_ms == lease.retry_ms:
                lease.retry_ms = 0
                if lease.next:
                    self._read(lease)
                else:
                    self._begin(lease)
        self._set_alarm()


class _Reset:
    """A reset under way: the numbers that were found so far, by the entity of the shard."""

    def __init__(
        self,
        groups: Groups,
        group: Group,
        count: int,
        force: bool,
        answer: GroupAnswer,
        argument: object,
        now_ms: int,
    ) -> None:
        self._groups = groups
        self._group = group
        self._missing = count
        self._force = force
        self._answer = answer
        self._argument = argument
        self._now_ms = now_ms
        self._numbers: dict[int, int] = {}
        self._error: BraidError | None = None

    def found(self, shard: Shard, number: int | BraidError) -> None:
        """Where the group is to go on in a shard. With the last one it does."""
        self._missing -= 1
        if isinstance(number, BraidError):
            self._error = number
        else:
            self._numbers[shard.id] = number
        if self._missing:
            return
        if self._error is None:
            try:
                self._groups.set_cursors(self._group, self._numbers, self._force, self._now_ms)
            except BraidError as error:
                self._error = error
        self._answer(self._argument, self._error or self._group)


def _check_members(group: Group, force: bool) -> None:
    if group.members and not force:
        raise Conflict(f"group {group.name} has {len(group.members)} members")

"""Consumer groups for people: join, batches, checkpoints; the same in process and over the wire.

Built on nothing but ``GroupVerbs``. The rules are those of ``face.py``. A member listens to the
broker all the while, not only when it is asked for a batch: so a shard that is asked back while
the program is busy with another one leaves at once.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from .errors import InvalidArgument
from .groupverbs import GroupEvent, GroupInfo, GroupVerbs, Membership
from .received import finish
from .streamreading import Chunk
from .streamrecord import Record, chunk_records
from .streamverbs import Start

__all__ = ["Batch", "ConsumerGroup", "GroupMember", "GroupStart", "group_start"]

_RECORDS_MAX = 1_000  # asked for at a time, of each shard
_BYTES_MAX = 4 * 1024 * 1024  # held for all shards together before they are looked at

GroupStart = Literal["earliest", "latest"] | datetime


def group_start(start: GroupStart) -> Start:
    """Where a group begins, as the verbs have it. Raises InvalidArgument."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidArgument("a time to start at has a time zone")
        return Start("time", time_ms=round(start.timestamp() * 1000))
    if start not in ("earliest", "latest"):
        raise InvalidArgument("a group starts at earliest, latest or a datetime")
    return Start(start)


class _HeldShard:
    """A shard that this member has: the records that are not handed out yet, and how far it is."""

    __slots__ = ("behind_ms", "epoch", "given", "index", "kept", "records", "revoked")

    def __init__(self, index: int, epoch: int, number: int) -> None:
        self.index = index
        self.epoch = epoch
        self.given = self.kept = number  # handed out, and checkpointed: all below
        self.records: list[Record] = []  # the next one is the last
        self.behind_ms = 0
        self.revoked = False


class Batch:
    """Records of one shard, in order.

    Attributes:
        shard: its index. records: at least one.
        behind: how much older than then the record after these was when they were read; 0 at the
            end of the shard.
    """

    __slots__ = ("_held", "_member", "behind", "records", "shard")

    def __init__(self, member: "GroupMember", held: _HeldShard, records: list[Record]) -> None:
        self.shard = held.index
        self.records = records
        self.behind = timedelta(milliseconds=held.behind_ms)
        self._member = member
        self._held = held

    def __repr__(self) -> str:
        first, last = self.records[0].number, self.records[-1].number
        return f"<Batch of shard {self.shard}: {first} to {last}>"

    async def checkpoint(self) -> None:
        """The group is done with these records, and all before: it goes on behind them.

        Returns when that is as durable as the stream promises. Raises LeaseLost when the shard is
        not this member's any more: whoever has it begins at the checkpoint before.
        """
        await self._member.keep(self._held, self.records[-1].number + 1)


class GroupMember:
    """A member of a group: ``async with stream.join("analytics") as member: ...``

    The shards of the stream are shared among the members, each with one of them. A member that
    leaves, or whose connection ends, leaves its shards to the others, who begin at the last
    checkpoints: so every record is seen at least once, and those of a shard in order.
    """

    def __init__(self, verbs: GroupVerbs, stream: str, group: str, start: Start) -> None:
        self._verbs = verbs
        self._stream = stream
        self._group = group
        self._start = start
        self._shards: dict[int, _HeldShard] = {}
        self._ready: deque[_HeldShard] = deque()  # with records, whose turn is next first
        self._changed = asyncio.Event()
        self._membership: Membership | None = None
        self._listener: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<GroupMember of {self._group} on {self._stream}>"

    @property
    def shards(self) -> list[int]:
        """The shards that it has now."""
        return sorted(self._shards)

    async def __aenter__(self) -> Self:
        if self._membership is not None or self._closed:
            raise InvalidArgument("a member joins once; make another one")
        joining = asyncio.ensure_future(
            self._verbs.join_group(self._stream, self._group, self._start, _RECORDS_MAX, _BYTES_MAX)
        )
        try:
            self._membership = await finish(joining)
        except asyncio.CancelledError:
            if not joining.cancelled() and joining.exception() is None:
                await finish(asyncio.ensure_future(joining.result().close()))
            raise
        self._listener = asyncio.ensure_future(self._listen(self._membership))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the group. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        if self._membership is not None:
            await finish(asyncio.ensure_future(self._leave(self._membership)))

    async def _leave(self, membership: Membership) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        self._shards.clear()
        self._ready.clear()
        await membership.close()

    # --- records ---

    async def batches(self, max: int = 500) -> AsyncIterator[Batch]:
        """Batches of up to ``max`` records as they come, of each shard in turn; ends with close.

        Raises what ends the membership: NotFound, PermissionDenied, Disconnected, ...
        """
        if max < 1:
            raise InvalidArgument("a batch has at least 1 record")
        if self._membership is None:
            raise InvalidArgument("join first: async with stream.join(...) as member")
        while not self._closed:
            if self._ready:
                yield self._take(self._ready.popleft(), max)
            elif self._error is not None:
                raise self._error
            else:
                self._changed.clear()
                await self._changed.wait()

    def _take(self, held: _HeldShard, count: int) -> Batch:
        assert self._membership is not None
        records = held.records[: -count - 1 : -1]
        del held.records[-count:]
        held.given = records[-1].number + 1
        if held.records:
            self._ready.append(held)
        else:
            self._membership.more(held.index, held.epoch)
        return Batch(self, held, records)

    async def keep(self, held: _HeldShard, number: int) -> None:
        """Set a checkpoint; see :meth:`Batch.checkpoint`."""
        assert self._membership is not None
        await self._membership.checkpoint(held.index, held.epoch, number)
        held.kept = max(held.kept, number)
        self._give_back(held)

    def _give_back(self, held: _HeldShard) -> None:
        """Give back a shard that was asked back, when nobody here is busy with it."""
        if held.revoked and held.kept >= held.given and self._membership is not None:
            self._membership.release(held.index, held.epoch)

    # --- what the broker says ---

    async def _listen(self, membership: Membership) -> None:
        try:
            while True:
                for event in await membership.next():
                    self._on_event(event)
                self._changed.set()
        except Exception as error:
            self._error = error  # for whoever asks for the next batch
        finally:
            self._shards.clear()
            self._changed.set()

    def _on_event(self, event: GroupEvent) -> None:
        if event.kind == "assigned":
            self._shards[event.shard] = _HeldShard(event.shard, event.epoch, event.number)
            return
        held = self._shards.get(event.shard)
        if held is None or held.epoch != event.epoch:
            return
        if event.kind == "records":
            assert event.chunk is not None
            self._on_chunk(held, event.chunk)
            return
        if held.records:
            held.records = []
            self._ready.remove(held)
        if event.kind == "revoked":
            held.revoked = True
            self._give_back(held)
        else:
            del self._shards[event.shard]

    def _on_chunk(self, held: _HeldShard, chunk: Chunk) -> None:
        held.records = chunk_records(chunk, held.index)[::-1]
        held.behind_ms = chunk.behind_ms
        if held.records:
            self._ready.append(held)


class ConsumerGroup:
    """A group by its name. Making one asks nobody; a missing group shows when it is used."""

    __slots__ = ("_verbs", "name", "stream")

    def __init__(self, verbs: GroupVerbs, stream: str, name: str) -> None:
        self._verbs = verbs
        self.stream = stream
        self.name = name

    def __repr__(self) -> str:
        return f"<ConsumerGroup {self.name} on {self.stream}>"

    async def info(self) -> GroupInfo:
        """The group as it is now: members, checkpoints, lag. Raises NotFound."""
        return await self._verbs.group_info(self.stream, self.name)

    async def reset(
        self, to: GroupStart | int, *, shard: int | None = None, force: bool = False
    ) -> GroupInfo:
        """Have the group go on elsewhere: in one shard, or in all (None).

        A number is where it goes on in one shard. Raises Conflict when the group has members,
        unless ``force``: then they lose their shards and begin again there.
        """
        start = Start("at", number=to) if isinstance(to, int) else group_start(to)
        index = -1 if shard is None else shard
        return await self._verbs.reset_group(self.stream, self.name, start, index, force)

    async def delete(self) -> None:
        """Delete it with its checkpoints. Raises NotFound, Conflict while it has members."""
        await self._verbs.delete_group(self.stream, self.name)

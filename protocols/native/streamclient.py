"""The client's side of streams and groups in the native protocol. Part of ``client.py``.

Blocks come as they stand in the log of the broker, and are checked here before anybody looks into
them. A tail that loses its connection goes on behind the last record that came. A member of a group
loses its shards with its connection, and joins again on the next one.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Protocol

from ...broker.errors import BraidError, Disconnected, LeaseLost, TooLarge, error_from_code
from ...broker.groupverbs import GroupEvent, GroupInfo, Membership
from ...broker.limits import Limits
from ...broker.stream_settings import StreamSettings
from ...broker.streamreading import Chunk
from ...broker.streams import Appending, Position
from ...broker.streamverbs import ShardTail, Start, StreamInfo
from ...storage.block import decode_block
from ...storage.record import record_is_intact
from .batches import ENVELOPE_BYTES
from .consumption import Holder, RemoteFlow, Wire
from .operations import OPERATIONS
from .stream_operations import AppendedReply, ChunkReply, GroupEventReply, GroupsReply, StreamsReply

__all__ = ["StreamCalls", "check_chunk", "record_fields", "split_records"]

_O = OPERATIONS
_RECORD_BYTES = 24  # what a record takes in an APPEND beside its texts and bytes, at most
_HASH_KEY_BYTES = 41
_READS_REPEATED = 3
_CREDIT_MAX = 2**32 - 1


def check_chunk(chunk: Chunk) -> None:
    """Raise ValueError unless these are sound blocks that hold what the chunk says."""
    try:
        blocks = [decode_block(content) for content in chunk.blocks if record_is_intact(content)]
    except OverflowError as error:
        raise ValueError(str(error)) from None
    sizes = [block.length for block in blocks]
    if sizes != list(map(len, chunk.blocks)):
        raise ValueError("a block is damaged")
    if any(before.end != after.first for before, after in pairwise(blocks)):
        raise ValueError("blocks do not follow each other")
    if not blocks:
        if chunk.count or chunk.skip:
            raise ValueError("records without blocks")
        return
    first = blocks[0].first + chunk.skip
    end = first + chunk.count
    if not (blocks[0].first <= first < blocks[0].end and blocks[-1].first < end <= blocks[-1].end):
        raise ValueError("records that are not in the blocks")
    if chunk.next != end:
        raise ValueError("what comes next does not follow")


def split_records(
    stream: str, batch: Appending, limits: Limits
) -> tuple[list[Sequence[int]], list[Position | BraidError | None]]:
    """Which records go into which frame, and the results so far: errors of the misfits."""
    room = limits.frame_bytes_max - ENVELOPE_BYTES - 4 * len(stream)
    results: list[Position | BraidError | None] = [None] * len(batch.bodies)
    columns = [batch.bodies, batch.keys] + ([] if batch.headers is None else [batch.headers])
    each_bytes = _RECORD_BYTES + (0 if batch.hash_keys is None else _HASH_KEY_BYTES)
    count = len(batch.bodies)
    total = sum([sum(map(len, column)) for column in columns]) + each_bytes * count
    if total <= room and 0 < count <= limits.batch_messages_max:
        return [range(count)], results
    frames: list[Sequence[int]] = []
    frame: list[int] = []
    size = 0
    for index, parts in enumerate(zip(*columns, strict=True)):
        length = sum(map(len, parts)) + each_bytes
        if length > room:
            results[index] = TooLarge(f"a record and its frame have at most {room} bytes")
            continue
        size += length
        if not frame or size > room or len(frame) >= limits.batch_messages_max:
            frame = []
            frames.append(frame)
            size = length
        frame.append(index)
    return frames, results


def record_fields(batch: Appending, frame: Sequence[int]) -> tuple[object, ...]:
    """The columns of those records as they go into an APPEND."""
    bodies, keys, headers, hash_keys = batch.bodies, batch.keys, batch.headers, batch.hash_keys
    if len(frame) < len(bodies):
        bodies = [bodies[index] for index in frame]
        keys = [keys[index] for index in frame]
        headers = None if headers is None else [headers[index] for index in frame]
        hash_keys = None if hash_keys is None else [hash_keys[index] for index in frame]
    texts = [str(each) if each >= 0 else "" for each in hash_keys or ()]
    return bodies, keys if any(keys) else (), headers or (), texts


def _note_appended(
    results: list[Position | BraidError | None], frame: Sequence[int], reply: AppendedReply
) -> None:
    """Put a reply's results where they belong."""
    places = list(zip(reply.shards, reply.numbers, strict=True))
    for error in reply.errors:
        places[error.index] = error_from_code(error.code, error.text)  # type: ignore[call-overload]
    if len(frame) == len(results):
        results[:] = places
    else:
        for index, place in zip(frame, places, strict=True):
            results[index] = place


class _RemoteTail(RemoteFlow[tuple[int, Chunk]]):
    """A TAIL that outlives the connection it is on. See ``ShardTail``."""

    def __init__(
        self,
        client: Holder,
        stream: str,
        starts: dict[int, int],
        credit: int,
        follow: bool,
        until_end: bool,
    ) -> None:
        super().__init__(client, credit)
        self._stream = stream
        self._numbers = dict(starts)  # to go on with, of each shard that has not ended
        self._follow = follow
        self._until_end = until_end
        self._over = False

    def _opening(self, credit: int) -> tuple[object, ...]:
        shards = list(self._numbers.items())
        credit = min(max(credit, 0), _CREDIT_MAX)
        return _O["TAIL"], self._stream, shards, credit, self._follow, self._until_end

    def detach(self) -> None:
        """The connection is gone; what came stays."""
        self._wire = None
        if not self._client.resumes:
            self.end(Disconnected("the connection is gone"))

    def take(self, reply: ChunkReply) -> None:
        """Records came."""
        if self._error is not None:
            return
        chunk, shard = reply.chunk, reply.shard
        try:
            check_chunk(chunk)
        except ValueError as error:
            self.abandon()
            self.end(BraidError(f"the broker sent a chunk that is none: {error}"))
            return
        self._numbers[shard] = chunk.next
        if chunk.ended:
            del self._numbers[shard]
            for child in chunk.children if self._follow else ():
                self._numbers.setdefault(child, 0)
        self._unused -= sum(map(len, chunk.blocks))
        self._ready.append((shard, chunk))
        if reply.last:
            self._over = True
            self._client.forget(self)
            if self._wire is not None:
                self._wire.consumers.pop(self._request, None)
        self._wake()

    async def next(self) -> list[tuple[int, Chunk]]:
        """The next chunks."""
        while not self._ready and not self._over:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def more(self, size: int) -> None:
        """Allow ``size`` more bytes."""
        if size and not self._over:
            self.credit(size)

    async def close(self) -> None:
        """Stop."""
        wire, live = self._wire, self._error is None and not self._over
        if live:
            self.end(Disconnected("this tail was closed"))
            if wire is not None and not wire.lost.done():
                with suppress(Disconnected):
                    await wire.call(_O["CANCEL"], self._request, [])
                wire.consumers.pop(self._request, None)


class _RemoteMembership(RemoteFlow[GroupEvent]):
    """A JOIN_GROUP that outlives the connection it is on. See ``Membership``."""

    def __init__(self, client: "_Caller", *fields: object) -> None:
        super().__init__(client, 0)
        self._fields = fields
        self._epochs: dict[int, int] = {}  # of the shards that are its own
        self._caller = client
        self.id = 0

    def _opening(self, credit: int) -> tuple[object, ...]:
        return _O["JOIN_GROUP"], *self._fields

    def _on_opened(self, opened: "asyncio.Future[Any]") -> None:
        super()._on_opened(opened)
        if not opened.cancelled() and opened.exception() is None:
            self.id = opened.result().member

    def detach(self) -> None:
        """The connection is gone, and with it all shards."""
        self._wire = None
        if not self._client.resumes:
            self.end(Disconnected("the connection is gone"))
            return
        self._ready.extend([GroupEvent("lost", *each) for each in self._epochs.items()])
        self._epochs.clear()
        self._wake()

    def take(self, reply: GroupEventReply) -> None:
        """Something happened to a shard."""
        event = reply.event
        if self._error is not None:
            return
        try:
            if event.chunk is not None:
                check_chunk(event.chunk)
            elif event.kind == "records":
                raise ValueError("no records")
        except ValueError as error:
            self.abandon()
            self.end(BraidError(f"the broker sent a chunk that is none: {error}"))
            return
        if event.kind == "assigned":
            self._epochs[event.shard] = event.epoch
        elif event.kind in ("lost", "done"):
            self._epochs.pop(event.shard, None)
        self._ready.append(event)
        self._wake()

    async def next(self) -> list[GroupEvent]:
        """The next events."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def more(self, shard: int, epoch: int) -> None:
        """Have the next chunk of a shard."""
        self._tell("MORE", shard, epoch)

    def release(self, shard: int, epoch: int) -> None:
        """Give a shard back."""
        self._tell("RELEASE", shard, epoch)

    def _tell(self, operation: str, shard: int, epoch: int) -> None:
        if self._wire is not None and self._error is None and self._epochs.get(shard) == epoch:
            self._wire.send((_O[operation], self._request, shard, epoch))

    async def checkpoint(self, shard: int, epoch: int, number: int) -> None:
        """The group is done with all below ``number``."""
        if self._error is not None:
            raise self._error
        wire = self._wire
        if wire is None:
            raise LeaseLost(f"shard {shard} was lost with the connection")
        await wire.call(_O["CHECKPOINT"], self._request, shard, epoch, number)

    async def close(self) -> None:
        """Leave the group."""
        wire = self._wire
        if self._error is None:
            self.end(Disconnected("this membership was closed"))
            if wire is not None and not wire.lost.done():
                with suppress(Disconnected):
                    await wire.call(_O["CANCEL"], self._request, [])
                wire.consumers.pop(self._request, None)


class _Caller(Holder, Protocol):
    """What ``NativeClient`` has for all its verbs."""

    limits: Limits
    flows: dict[RemoteFlow[Any], None]

    async def connected(self) -> Wire:
        """The connection, once it is there and takes more."""

    async def call(self, operation: str, *fields: object) -> Any:
        """Ask once."""

    async def read(self, operation: str, *fields: object) -> Any:
        """Ask for what changes nothing, again if need be."""


async def _opened(caller: _Caller, flow: RemoteFlow[Any]) -> Any:
    """Begin a flow: what the broker answers."""
    wire = await caller.connected()
    caller.flows[flow] = None
    flow.attach(wire)
    try:
        return await asyncio.shield(flow.opened)
    except BaseException:
        flow.abandon()
        raise


class StreamCalls:
    """The verbs of streams and groups."""

    async def declare_stream(
        self: _Caller, name: str, settings: StreamSettings, shards: int = 1
    ) -> StreamInfo:
        return _stream(await self.call("DECLARE_STREAM", name, settings, shards))

    async def update_stream(self: _Caller, name: str, changes: dict[str, Any]) -> StreamInfo:
        return _stream(await self.call("UPDATE_STREAM", name, changes))

    async def delete_stream(self: _Caller, name: str) -> None:
        await self.call("DELETE_STREAM", name)

    async def stream_info(self: _Caller, name: str) -> StreamInfo:
        return _stream(await self.read("STREAM_INFO", name))

    async def list_streams(
        self: _Caller, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[StreamInfo]:
        found: list[StreamInfo] = (await self.read("LIST_STREAMS", prefix, after, limit)).streams
        return found

    async def append(self: _Caller, stream: str, batch: Appending) -> list[Position | BraidError]:
        wire = await self.connected()
        frames, results = split_records(stream, batch, self.limits)
        calls = [wire.call(_O["APPEND"], stream, *record_fields(batch, frame)) for frame in frames]
        replies = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        for frame, reply in zip(frames, replies, strict=True):
            _note_appended(results, frame, reply)
        return results  # type: ignore[return-value]

    async def find_number(self: _Caller, stream: str, shard: int, start: Start) -> int:
        reply = await self.read("FIND_NUMBER", stream, shard, _start(start))
        number: int = reply.number
        return number

    async def read_shard(
        self: _Caller,
        stream: str,
        shard: int,
        number: int,
        records_max: int = 1_000,
        bytes_max: int = 1024 * 1024,
        wait_ms: int = 0,
    ) -> Chunk:
        fields = (stream, shard, number, records_max, bytes_max, wait_ms)
        reply: ChunkReply
        for attempt in range(1, _READS_REPEATED + 1):
            wire = await self.connected()
            try:
                reply = await wire.poll(_O["READ"], *fields)
                break
            except Disconnected:
                if not self.resumes or attempt == _READS_REPEATED:
                    raise
        try:
            check_chunk(reply.chunk)
        except ValueError as error:
            raise BraidError(f"the broker sent a chunk that is none: {error}") from None
        return reply.chunk

    async def tail_shards(
        self: _Caller,
        stream: str,
        starts: dict[int, int],
        credit: int,
        follow: bool = True,
        until_end: bool = False,
    ) -> ShardTail:
        tail = _RemoteTail(self, stream, starts, credit, follow, until_end)
        await _opened(self, tail)
        return tail

    async def split_shard(self: _Caller, stream: str, shard: int, hash_key: str = "") -> StreamInfo:
        return _stream(await self.call("SPLIT_SHARD", stream, shard, hash_key))

    async def merge_shards(self: _Caller, stream: str, shard: int, other: int) -> StreamInfo:
        return _stream(await self.call("MERGE_SHARDS", stream, shard, other))

    async def rescale_stream(self: _Caller, stream: str, shards: int) -> StreamInfo:
        return _stream(await self.call("RESCALE_STREAM", stream, shards))

    async def join_group(
        self: _Caller,
        stream: str,
        group: str,
        start: Start,
        records_max: int = 1_000,
        bytes_max: int = 4 * 1024 * 1024,
    ) -> Membership:
        fields = (stream, group, _start(start), records_max, bytes_max)
        membership = _RemoteMembership(self, *fields)
        await _opened(self, membership)
        return membership

    async def list_groups(
        self: _Caller, stream: str, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[GroupInfo]:
        reply = await self.read("LIST_GROUPS", stream, prefix, after, limit)
        found: list[GroupInfo] = reply.groups
        return found

    async def group_info(self: _Caller, stream: str, group: str) -> GroupInfo:
        return _group(await self.read("GROUP_INFO", stream, group))

    async def reset_group(
        self: _Caller,
        stream: str,
        group: str,
        start: Start,
        shard: int = -1,
        force: bool = False,
    ) -> GroupInfo:
        return _group(await self.call("RESET_GROUP", stream, group, _start(start), shard, force))

    async def delete_group(self: _Caller, stream: str, group: str) -> None:
        await self.call("DELETE_GROUP", stream, group)


def _start(start: Start) -> tuple[str, int, int]:
    return start.kind, start.number, start.time_ms


def _stream(reply: StreamsReply) -> StreamInfo:
    return reply.streams[0]


def _group(reply: GroupsReply) -> GroupInfo:
    return reply.groups[0]

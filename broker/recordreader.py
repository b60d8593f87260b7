"""Reading a stream, for people: records one by one, or in batches, the same in process and remote.

Built on nothing but ``StreamVerbs``. The rules are those of ``face.py``.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Literal, Self

import msgspec

from .errors import BraidError, InvalidArgument
from .groupface import group_start
from .received import finish
from .streamreading import Chunk
from .streamrecord import Piece, Record, chunk_pieces
from .streamverbs import ShardTail, Start, StreamVerbs

__all__ = ["Position", "ReadStart", "RecordBatch", "RecordReader", "read_start"]

_AHEAD_BYTES = 2 * 1024 * 1024  # that may be here before they are looked at
_ALL = 2**62


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a record is: the index of its shard, and its number there."""

    shard: int
    number: int


ReadStart = Literal["earliest", "latest"] | datetime | Position | int


def read_start(start: ReadStart) -> Start:
    """Where to begin, as the verbs have it. Raises InvalidArgument."""
    if isinstance(start, Position):
        return Start("at", number=start.number)
    if isinstance(start, int):
        return Start("at", number=start)
    return group_start(start)


class RecordBatch:
    """Records of one shard, in order, decoded when they are looked at.

    Attributes:
        shard: its index. next: the number to go on with.
        behind: how much older than then the record after these was when they were read; 0 at the
            end of the shard.
    """

    __slots__ = ("_count", "_pieces", "_records", "behind", "next", "shard")

    def __init__(self, shard: int, pieces: list[Piece], behind_ms: int) -> None:
        self.shard = shard
        self.behind = timedelta(milliseconds=behind_ms)
        last = pieces[-1]
        self.next = last.block.first + last.skip + last.count
        self._pieces = pieces
        self._count = sum([piece.count for piece in pieces])
        self._records: list[Record] | None = None

    def __repr__(self) -> str:
        return f"<RecordBatch of shard {self.shard}: {self.next - len(self)} to {self.next - 1}>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def records(self) -> list[Record]:
        """The records; at least one."""
        if self._records is None:
            shard = self.shard
            self._records = [each for piece in self._pieces for each in piece.records(shard)]
        return self._records

    @property
    def bodies(self) -> list[bytes]:
        """Their bodies alone, which costs less."""
        return [body for p in self._pieces for body in p.block.bodies(p.skip, p.count)]


class RecordReader:
    """The records of a stream, as they come: ``async for record in stream.read(): ...``

    Over a connection it resumes by itself when that comes back. It reads ahead, up to 2 MiB. Use it
    with ``async with ... as reader`` to decide the moment when that ends.
    """

    def __init__(
        self,
        verbs: StreamVerbs,
        stream: str,
        shard: int | None,
        start: ReadStart,
        follow: bool,
        until_end: bool,
    ) -> None:
        if isinstance(start, Position):
            if shard not in (None, start.shard):
                raise InvalidArgument(f"the position is in shard {start.shard}, not in {shard}")
            shard = start.shard
        self._start = read_start(start)
        if shard is None and self._start.kind == "at":
            raise InvalidArgument("a number is of one shard: say which")
        self._verbs = verbs
        self._stream = stream
        self._shard = shard
        self._follow = follow
        self._until_end = until_end
        self._tail: ShardTail | None = None
        self._chunks: deque[tuple[int, Chunk]] = deque()
        self._pieces: deque[Piece] = deque()  # of the chunk that is looked at
        self._now: tuple[int, Chunk] | None = None
        self._closed = False
        self._managed = False

    def __repr__(self) -> str:
        return f"<RecordReader of {self._stream}>"

    @property
    def behind(self) -> timedelta:
        """How much older than then the next record was when what is here was read."""
        return timedelta(milliseconds=0 if self._now is None else self._now[1].behind_ms)

    async def __aenter__(self) -> Self:
        self._managed = True
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._chunks.clear()
            self._pieces.clear()
            if self._tail is not None:
                await finish(asyncio.ensure_future(self._tail.close()))

    async def __aiter__(self) -> AsyncIterator[Record]:
        try:
            while (batch := await self._next(_ALL)) is not None:
                for record in batch.records:
                    yield record
        finally:
            if not self._managed:
                await self.close()

    async def batches(self, max: int = 1_000) -> AsyncIterator[RecordBatch]:
        """The same, up to ``max`` records of one shard at a time."""
        if max < 1:
            raise InvalidArgument("a batch has at least 1 record")
        try:
            while (batch := await self._next(max)) is not None:
                yield batch
        finally:
            if not self._managed:
                await self.close()

    async def _next(self, count: int) -> RecordBatch | None:
        """The next batch; None: there is no more, or this was closed."""
        while not self._pieces:
            if self._closed:
                return None
            tail = await self._open()
            if not self._chunks:
                try:
                    self._chunks.extend(await tail.next())
                except BraidError:
                    if not self._closed:
                        raise
                if not self._chunks:
                    return None
            self._now = self._chunks.popleft()
            self._pieces.extend(chunk_pieces(self._now[1]))
            tail.more(sum(map(len, self._now[1].blocks)))
        assert self._now is not None
        shard, chunk = self._now
        return RecordBatch(shard, self._take(count), chunk.behind_ms)

    def _take(self, left: int) -> list[Piece]:
        taken: list[Piece] = []
        pieces = self._pieces
        while pieces and left > 0:
            piece = pieces.popleft()
            if piece.count > left:
                pieces.appendleft(Piece(piece.block, piece.skip + left, piece.count - left))
                piece = Piece(piece.block, piece.skip, left)
            left -= piece.count
            taken.append(piece)
        return taken

    async def _open(self) -> ShardTail:
        if self._tail is None:
            opening = asyncio.ensure_future(self._begin())
            try:
                self._tail = await finish(opening)
            except asyncio.CancelledError:
                if not opening.cancelled() and opening.exception() is None:
                    await finish(asyncio.ensure_future(opening.result().close()))
                raise
        return self._tail

    async def _begin(self) -> ShardTail:
        verbs, stream, start = self._verbs, self._stream, self._start
        if self._shard is not None:
            shards = [self._shard]
        else:
            shards = [each.index for each in (await verbs.stream_info(stream)).shards]
        found = [verbs.find_number(stream, shard, start) for shard in shards]
        starts = dict(zip(shards, await asyncio.gather(*found), strict=True))
        return await verbs.tail_shards(stream, starts, _AHEAD_BYTES, self._follow, self._until_end)

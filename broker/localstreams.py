"""``StreamVerbs`` on a core in this process: the half of ``LocalVerbs`` that is about streams."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

from ..storage.log import Durability
from .access import Principal
from .core import Core
from .errors import BraidError, Unavailable
from .stream_settings import StreamSettings
from .streamreading import Chunk
from .streams import Appending, Position
from .streamverbs import ShardTail, Start, StreamInfo
from .tail import Tail

__all__ = ["LocalStreams", "tell"]

_T = TypeVar("_T")


class _LocalTail:
    """Shards that are read on and on in this process. See ``ShardTail``."""

    def __init__(self, verbs: "LocalStreams") -> None:
        self._verbs = verbs
        self._chunks: list[tuple[int, Chunk]] = []
        self._error: BraidError | None = None
        self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self.tail: Tail

    def put(self, shard: int, chunk: Chunk, last: bool) -> None:
        """Records came."""
        self._chunks.append((shard, chunk))
        self._over = last
        self._wake()

    def end(self, error: BraidError) -> None:
        """Nothing more will come."""
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[tuple[int, Chunk]]:
        """Wait for the next chunks."""
        while not self._chunks and not self._over:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunks, self._chunks = self._chunks, []
        return chunks

    def more(self, size: int) -> None:
        """Allow ``size`` more bytes."""
        if self._error is None:
            self.tail.grant(size)

    async def close(self) -> None:
        """Stop."""
        self._verbs.end_tail(self, Unavailable("this tail was closed"))


class LocalStreams:
    """``StreamVerbs`` for one principal."""

    def __init__(self, core: Core, who: Principal, now_ms: Callable[[], int]) -> None:
        self._core = core
        self._who = who
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._answers: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._tails: set[_LocalTail] = set()

    def _check_open(self) -> Core:
        raise NotImplementedError

    async def kept(self, level: Durability) -> None:
        """Wait until all asked for so far is kept at ``level``."""
        raise NotImplementedError

    async def declare_stream(
        self, name: str, settings: StreamSettings, shards: int = 1
    ) -> StreamInfo:
        core = self._check_open()
        info = core.declare_stream(self._who, name, settings, shards, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def update_stream(self, name: str, changes: dict[str, Any]) -> StreamInfo:
        info = self._check_open().update_stream(self._who, name, changes, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def delete_stream(self, name: str) -> None:
        self._check_open().delete_stream(self._who, name)
        await self.kept(Durability.SYNC)

    async def stream_info(self, name: str) -> StreamInfo:
        info = self._check_open().stream_info(self._who, name)
        # Nothing is shown of shards whose making a crash could take back.
        await self.kept(Durability.SYNC)
        return info

    async def list_streams(
        self, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[StreamInfo]:
        return self._check_open().list_streams(self._who, prefix, after, limit)

    async def append(self, stream: str, batch: Appending) -> list[Position | BraidError]:
        core = self._check_open()
        level, results = core.append(self._who, stream, batch, self._now_ms())
        await self.kept(level)
        return results

    async def find_number(self, stream: str, shard: int, start: Start) -> int:
        waiter: asyncio.Future[int] = self._expect()
        self._check_open().find_number(self._who, stream, shard, start, tell, waiter)
        return await waiter

    async def read_shard(
        self,
        stream: str,
        shard: int,
        number: int,
        records_max: int = 1_000,
        bytes_max: int = 1024 * 1024,
        wait_ms: int = 0,
    ) -> Chunk:
        core = self._check_open()
        waiter: asyncio.Future[Chunk] = self._expect()
        read = core.read_shard(
            self._who,
            stream,
            shard,
            number,
            records_max,
            bytes_max,
            wait_ms,
            tell,
            waiter,
            self._now_ms(),
        )
        try:
            return await waiter
        except asyncio.CancelledError:
            core.streams.cancel(read)
            raise

    async def tail_shards(
        self,
        stream: str,
        starts: dict[int, int],
        credit: int,
        follow: bool = True,
        until_end: bool = False,
    ) -> ShardTail:
        core = self._check_open()
        local = _LocalTail(self)
        local.tail = core.tail_shards(
            self._who, stream, starts, credit, follow, until_end, self, local
        )
        self._tails.add(local)
        return local

    def tail_chunk(self, tail: Tail, shard: int, chunk: Chunk, last: bool) -> bool:
        """The core read something for a tail."""
        assert isinstance(tail.tag, _LocalTail)
        if last:
            self._tails.discard(tail.tag)
        tail.tag.put(shard, chunk, last)
        return True

    def tail_ended(self, tail: Tail, error: BraidError) -> None:
        """The core ended a tail."""
        assert isinstance(tail.tag, _LocalTail)
        self.end_tail(tail.tag, error)

    def end_tail(self, local: _LocalTail, error: BraidError) -> None:
        """End a tail."""
        self._tails.discard(local)
        local.tail.close()
        local.end(error)

    async def split_shard(self, stream: str, shard: int, hash_key: str = "") -> StreamInfo:
        core = self._check_open()
        info = core.split_shard(self._who, stream, shard, hash_key, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def merge_shards(self, stream: str, shard: int, other: int) -> StreamInfo:
        core = self._check_open()
        info = core.merge_shards(self._who, stream, shard, other, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    async def rescale_stream(self, stream: str, shards: int) -> StreamInfo:
        info = self._check_open().rescale_stream(self._who, stream, shards, self._now_ms())
        await self.kept(Durability.SYNC)
        return info

    def _expect(self) -> "asyncio.Future[_T]":
        """A future that ends when the broker does."""
        waiter: asyncio.Future[_T] = self._loop.create_future()
        self._answers.add(waiter)
        return waiter

    def end_answers(self, error: BraidError) -> None:
        """Nothing more will come."""
        for waiter in list(self._answers):
            if not waiter.done():
                waiter.set_exception(error)
        for local in list(self._tails):
            self.end_tail(local, error)


def tell(waiter: object, result: Any) -> None:
    """Answer whoever waits; nobody may, any more."""
    assert isinstance(waiter, asyncio.Future)
    if waiter.done():
        return
    if isinstance(result, BraidError):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)

"""``StreamVerbs`` on a core in this process: the half of ``LocalVerbs`` that is about streams."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ..storage.log import Durability
from .access import Principal
from .core import Core
from .errors import BraidError
from .stream_settings import StreamSettings
from .streamreading import Chunk
from .streams import Appending, Position
from .streamverbs import Start, StreamInfo

__all__ = ["LocalStreams", "tell"]

_T = TypeVar("_T")


class LocalStreams:
    """``StreamVerbs`` for one principal."""

    def __init__(self, core: Core, who: Principal, now_ms: Callable[[], int]) -> None:
        self._core = core
        self._who = who
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._answers: set[asyncio.Future[Any]] = set()

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
        return self._check_open().stream_info(self._who, name)

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
        waiter.add_done_callback(self._answers.discard)
        return waiter

    def end_answers(self, error: BraidError) -> None:
        """Nothing more will come."""
        for waiter in list(self._answers):
            if not waiter.done():
                waiter.set_exception(error)


def tell(waiter: object, result: Any) -> None:
    """Answer whoever waits; nobody may, any more."""
    assert isinstance(waiter, asyncio.Future)
    if waiter.done():
        return
    if isinstance(result, BraidError):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)

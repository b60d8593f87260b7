"""Streams and groups over the native protocol, in a client that shares no code with ours.

Written from PROTOCOL.md and the picture of a block, as ``wire.py`` was.
"""

import asyncio
import struct
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple
from zlib import crc32

from .wire import CANCEL, CREDIT, Gone, Wire

__all__ = [
    "APPEND",
    "BIND",
    "CHECKPOINT",
    "DECLARE_STREAM",
    "DELETE_STREAM",
    "FIND_NUMBER",
    "GROUP_INFO",
    "MERGE_SHARDS",
    "MORE",
    "PUBLISH",
    "READ",
    "RELEASE",
    "RESCALE_STREAM",
    "SPLIT_SHARD",
    "STREAM_INFO",
    "Chunk",
    "Damaged",
    "Record",
    "StreamWire",
    "chunk_of",
]

PUBLISH = 25
DECLARE_STREAM, DELETE_STREAM, STREAM_INFO, APPEND, FIND_NUMBER, READ = 33, 35, 36, 38, 39, 40
TAIL, SPLIT_SHARD, MERGE_SHARDS, RESCALE_STREAM, JOIN_GROUP, MORE, CHECKPOINT = range(41, 48)
BIND, RELEASE, GROUP_INFO = 48, 52, 54
ERROR, CHUNK, GROUP_EVENT = 67, 86, 88

_BLOCK_HEAD = struct.Struct("<IIBBHIQIQ")
_STREAM, _HEADERS, _TIMES, _KEYLESS = 8, 1, 2, 4


class Damaged(Exception):
    """What the broker sent as a block is none, or not what its CRC says."""


class Record(NamedTuple):
    """One record of a stream."""

    number: int
    time_ms: int
    key: bytes
    headers: bytes
    body: bytes


class Chunk(NamedTuple):
    """What was read: all of its records, and where to go on."""

    records: list[Record]
    next: int
    ended: bool
    children: list[int]


def chunk_of(sent: list[Any]) -> Chunk:
    """The chunk that the broker sent. Raises Damaged."""
    blocks, skip, count, following, _, ended, children = sent
    records: list[Record] = []
    for block in blocks:
        records += _records_of(block)
    records = records[skip : skip + count]
    if len(records) != count or (records and records[-1].number + 1 != following):
        raise Damaged(f"a chunk of {count} records up to {following} has {len(records)}")
    return Chunk(records, following, ended, children)


def _records_of(block: bytes) -> list[Record]:
    if len(block) < _BLOCK_HEAD.size:
        raise Damaged("a block ends in its head")
    length, crc, kind, flags, _, _, first, count, time_ms = _BLOCK_HEAD.unpack_from(block)
    if length != len(block) or kind != _STREAM or crc32(block[8:]) != crc:
        raise Damaged(f"a block of {len(block)} bytes is not what its CRC says")
    at = _BLOCK_HEAD.size

    def column(is_there: bool) -> list[int]:
        nonlocal at
        if not is_there:
            return [0] * count
        numbers = array("I", block[at : at + 4 * count])
        at += 4 * count
        return numbers.tolist()

    ends = [column(not flags & _KEYLESS), column(bool(flags & _HEADERS)), column(True)]
    times = column(bool(flags & _TIMES))
    values = []
    for each in ends:
        starts = [0, *each[:-1]]
        values.append([block[at + a : at + b] for a, b in zip(starts, each, strict=True)])
        at += each[-1]
    keys, headers, bodies = values
    return [
        Record(first + n, time_ms + times[n], keys[n], headers[n], bodies[n]) for n in range(count)
    ]


class StreamWire(Wire):
    """A :class:`Wire` that knows of tails and members: each hears what comes under its number."""

    def __init__(self) -> None:
        super().__init__()
        self._hearing: dict[int, Callable[[list[Any]], None]] = {}

    @classmethod
    async def open(cls, port: int) -> "StreamWire":
        """Connect and greet. Raises Gone."""
        wire = await super().open(port)
        assert isinstance(wire, StreamWire)
        return wire

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        hearing, self._hearing = self._hearing, {}
        for hear in hearing.values():
            hear([])

    def _on_frame(self, frame: list[Any]) -> None:
        operation, request = frame[0], frame[1]
        if request in self._hearing:
            if operation in (CHUNK, GROUP_EVENT):  # the first ones perhaps before the answer
                self._hearing[request](frame[2:])
                return
            if operation == ERROR and request not in self._answers:
                self.reason = f"{frame[2]}: {frame[3]}"
                self._hearing.pop(request)([])
                return
        super()._on_frame(frame)

    async def _begin(self, hear: Callable[[list[Any]], None], operation: int, *fields: Any) -> int:
        request = self._request()
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.gone:
            raise Gone(self.reason)
        self._answers[request] = answer
        self._hearing[request] = hear
        self.post(operation, request, *fields)
        try:
            await answer
        except BaseException:
            self._hearing.pop(request, None)
            raise
        return request

    async def tail(
        self,
        hear: Callable[[list[Any]], None],
        stream: str,
        starts: dict[int, int],
        credit: int,
        until_end: bool = False,
    ) -> int:
        """Have shards read on and on; ``hear`` gets [last, shard, chunk], or [] at the end."""
        return await self._begin(hear, TAIL, stream, [*starts.items()], credit, True, until_end)

    def credit(self, tail: int, size: int) -> None:
        """Allow a tail more bytes."""
        self.post(CREDIT, tail, size)

    async def join(self, hear: Callable[[list[Any]], None], stream: str, group: str) -> int:
        """Become a member; ``hear`` gets [[kind, shard, epoch, number, chunk]], or []."""
        return await self._begin(hear, JOIN_GROUP, stream, group, ["earliest"], 200, 65_536)

    async def leave(self, request: int) -> None:
        """End a tail or a membership."""
        await self.call(CANCEL, request)
        self._hearing.pop(request, None)

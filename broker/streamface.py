"""Streams for people: declare, append, read, reshard; the same in process and over the wire.

Built on nothing but ``StreamVerbs`` and ``GroupVerbs``; what is read is in ``recordreader.py``,
groups are in ``groupface.py``. The rules are those of ``face.py``.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from itertools import starmap
from operator import attrgetter
from typing import Literal, Protocol, TypedDict, Unpack, overload

import msgspec

from .errors import BraidError, InvalidArgument
from .groupface import ConsumerGroup, GroupMember, GroupStart, group_start
from .groupverbs import GroupInfo, GroupVerbs
from .limits import Limits
from .message import HeaderMap, pack_headers
from .paging import paged
from .recordreader import Position, ReadStart, RecordBatch, RecordReader
from .stream_settings import stream_settings_from
from .streams import Appending
from .streams import Position as Place
from .streamverbs import StreamInfo, StreamVerbs
from .values import DurabilityName, Seconds, setting_values

__all__ = ["NewRecord", "Stream", "StreamChanges", "StreamFace", "StreamOptions"]

_CHUNK_RECORDS = 5_000  # append_many appends so many at a time
_CHUNK_BYTES = 2 * 1024 * 1024


class _Verbs(StreamVerbs, GroupVerbs, Protocol):
    """What can be asked about streams and their groups."""


class StreamChanges(TypedDict, total=False):
    """What can be set on a stream and changed later. 0 means "none" for times and maxima."""

    retention: Seconds  # no record can be read for longer; 24 hours
    retention_bytes: int  # of the whole stream: the oldest records make way
    record_bytes_max: int  # of a record: key, headers and body; 1 MiB
    shard_bytes_in_per_second: int  # throttle beyond that, each shard by itself
    shard_records_in_per_second: int
    shard_bytes_out_per_second: int
    tags: dict[str, str]


class StreamOptions(StreamChanges, total=False):
    """What can be set on a stream when it is declared."""

    # What an acknowledgement means: "sync" (the default) survives a power cut, "os" the end of
    # the process, "memory" neither.
    durability: DurabilityName


class NewRecord(msgspec.Struct, kw_only=True):
    """A record for :meth:`Stream.append_many` that is more than a body. See ``append``."""

    body: bytes
    key: str = ""
    headers: HeaderMap = {}
    hash_key: int | None = None


class Stream:
    """A stream by its name. Making one asks nobody; a missing stream shows when it is used."""

    __slots__ = ("broker", "name")

    def __init__(self, broker: "StreamFace", name: str) -> None:
        self.broker = broker
        self.name = name

    def __repr__(self) -> str:
        return f"<Stream {self.name}>"

    # --- appending ---

    async def append(
        self,
        body: bytes,
        *,
        key: str = "",
        headers: HeaderMap | None = None,
        hash_key: int | None = None,
    ) -> Position:
        """Append one record; returns when it is as durable as the stream promises.

        Args:
            key: the partition key: records with the same key stay in order. "": any shard will do.
            headers: text names, text or bytes values.
            hash_key: where it goes, 0 to 2**128 - 1, instead of the MD5 of the key.

        Raises:
            NotFound, TooLarge, InvalidArgument, PermissionDenied: it was not taken.
            Throttled, StorageFull, Overloaded: not taken; trying again later can succeed.
            Disconnected: it may or may not have been taken.
        """
        record = NewRecord(body=body, key=key, headers=headers or {}, hash_key=hash_key)
        (result,) = await self.broker.verbs.append(self.name, self._columns([record], b""))
        if isinstance(result, BraidError):
            raise result
        return Position(*result)

    @overload
    async def append_many(
        self, records: Iterable[bytes | NewRecord], *, key: str = ""
    ) -> list[Position]: ...

    @overload
    async def append_many(
        self, records: Iterable[bytes | NewRecord], *, key: str = "", return_errors: Literal[True]
    ) -> list[Position | BraidError]: ...

    async def append_many(
        self,
        records: Iterable[bytes | NewRecord],
        *,
        key: str = "",
        return_errors: bool = False,
    ) -> list[Position] | list[Position | BraidError]:
        """Append records, in few commits; where each is, in order.

        ``key`` is the partition key of those that are bodies only. If some are refused, the others
        are appended all the same, and the first refusal is raised, or with ``return_errors``
        stands in its place in the list. Raises as :meth:`append` does.
        """
        given = list(records)
        common = _utf8(key)
        results: list[Position | BraidError] = []
        for part in self._parts(given):
            results += _positions(
                await self.broker.verbs.append(self.name, self._columns(part, common))
            )
        if not return_errors and set(map(type, results)) != {Position}:
            refused = [result for result in results if isinstance(result, BraidError)]
            if refused:
                refused[0].add_note(f"{len(refused)} of {len(results)} records were refused")
                raise refused[0]
        return results

    def _parts(self, given: list[bytes | NewRecord]) -> list[list[bytes | NewRecord]]:
        """As many records as go together, in order."""
        most = min(_CHUNK_RECORDS, self.broker.limits.batch_messages_max)
        if len(given) <= most and set(map(type, given)) == {bytes}:
            if sum(map(len, given)) <= _CHUNK_BYTES:  # type: ignore[arg-type]
                return [given]
        parts: list[list[bytes | NewRecord]] = []
        size = 0
        for record in given:
            body = record.body if isinstance(record, NewRecord) else record
            if not isinstance(body, bytes):
                raise InvalidArgument(f"a body is bytes, not {type(body).__name__}")
            size += len(body)
            if not parts or len(parts[-1]) >= most or size > _CHUNK_BYTES:
                parts.append([])
                size = len(body)
            parts[-1].append(record)
        return parts

    def _columns(self, records: Sequence[bytes | NewRecord], common: bytes) -> Appending:
        if set(map(type, records)) == {bytes}:
            return Appending(records, [common] * len(records))  # type: ignore[arg-type]
        limits = self.broker.limits
        bodies, keys, headers, hash_keys = [], [], [], []
        for record in records:
            if not isinstance(record, NewRecord):
                record = NewRecord(body=record, key=common.decode())
            if not isinstance(record.body, bytes):
                raise InvalidArgument(f"a body is bytes, not {type(record.body).__name__}")
            if record.hash_key is not None and record.hash_key < 0:
                raise InvalidArgument("a hash key is between 0 and 2**128 - 1")
            bodies.append(record.body)
            keys.append(_utf8(record.key))
            headers.append(pack_headers(record.headers, limits))
            hash_keys.append(-1 if record.hash_key is None else record.hash_key)
        return Appending(
            bodies,
            keys,
            headers if any(headers) else None,
            hash_keys if max(hash_keys) >= 0 else None,
        )

    # --- reading ---

    def read(
        self,
        shard: int | None = None,
        start: ReadStart = "earliest",
        *,
        follow: bool = True,
        until_end: bool = False,
    ) -> RecordReader:
        """The records, as they come: ``async for record in stream.read(): ...``

        Args:
            shard: its index; None: all shards, each in order.
            start: earliest, latest, a datetime (the first record that came then or later), or the
                position or the number of the first record.
            follow: where a shard was split or merged, its children are read when it is at its end.
            until_end: stop at the end of what is there, instead of waiting for more.

        What is raised comes while it is read: NotFound, InvalidArgument, PermissionDenied, ...
        """
        verbs = self.broker.verbs
        return RecordReader(verbs, self.name, shard, start, follow, until_end)

    def batches(
        self,
        shard: int | None = None,
        start: ReadStart = "earliest",
        *,
        max: int = 1_000,
        follow: bool = True,
        until_end: bool = False,
    ) -> AsyncIterator[RecordBatch]:
        """The same, up to ``max`` records of one shard at a time."""
        reader = self.read(shard, start, follow=follow, until_end=until_end)
        return reader.batches(max)

    # --- groups ---

    def join(self, group: str, start: GroupStart = "earliest") -> GroupMember:
        """A member of a consumer group: ``async with stream.join("analytics") as member: ...``

        ``start`` is where a group begins that is not there yet.
        """
        return GroupMember(self.broker.verbs, self.name, group, group_start(start))

    def group(self, name: str) -> ConsumerGroup:
        """The group of that name. Asks nobody: a missing group shows when it is used."""
        return ConsumerGroup(self.broker.verbs, self.name, name)

    def groups(self, prefix: str = "") -> AsyncIterator[GroupInfo]:
        """The groups of this stream that you may see, by name."""
        return paged(partial(self.broker.verbs.list_groups, self.name, prefix), attrgetter("name"))

    # --- managing ---

    async def info(self) -> StreamInfo:
        """The stream as it is now, with its shards. Raises NotFound."""
        return await self.broker.verbs.stream_info(self.name)

    async def update(self, **changes: Unpack[StreamChanges]) -> StreamInfo:
        """Change the settings that are given; 0 takes a limit away. See StreamChanges."""
        return await self.broker.verbs.update_stream(self.name, setting_values(changes))

    async def delete(self) -> None:
        """Delete it with its records, groups and bindings. Raises NotFound."""
        await self.broker.verbs.delete_stream(self.name)

    async def split(self, shard: int, hash_key: int | None = None) -> StreamInfo:
        """Split a shard in two, the second from ``hash_key`` on; None: in the middle.

        Raises NotFound, Conflict (it is closed), InvalidArgument, LimitExceeded.
        """
        at = "" if hash_key is None else str(hash_key)
        return await self.broker.verbs.split_shard(self.name, shard, at)

    async def merge(self, shard: int, other: int) -> StreamInfo:
        """Merge two adjacent shards. Raises NotFound, Conflict, InvalidArgument."""
        return await self.broker.verbs.merge_shards(self.name, shard, other)

    async def rescale(self, shards: int) -> StreamInfo:
        """Have so many even shards from now on. Raises InvalidArgument, LimitExceeded."""
        return await self.broker.verbs.rescale_stream(self.name, shards)


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"a partition key is text: {error}") from None


def _positions(results: list[Place | BraidError]) -> list[Position | BraidError]:
    if set(map(type, results)) == {tuple}:
        return list(starmap(Position, results))  # type: ignore[arg-type]
    return [each if isinstance(each, BraidError) else Position(*each) for each in results]


class StreamFace:
    """What a broker can be asked about streams."""

    @property
    def verbs(self) -> _Verbs:
        """The verbs, for whoever this is."""
        raise NotImplementedError

    @property
    def limits(self) -> Limits:
        """The broker's limits, as far as they are known."""
        raise NotImplementedError

    def stream(self, name: str) -> Stream:
        """The stream of that name. Asks nobody: a missing stream shows when it is used."""
        return Stream(self, name)

    async def declare_stream(
        self, name: str, *, shards: int = 1, **settings: Unpack[StreamOptions]
    ) -> Stream:
        """Make the stream, or find it with these very settings: those of ``StreamOptions``.

        ``shards`` counts only when it is made. Raises Conflict when it exists with other settings,
        InvalidArgument, PermissionDenied, LimitExceeded.
        """
        plain = stream_settings_from(setting_values(settings))
        await self.verbs.declare_stream(name, plain, shards)
        return Stream(self, name)

    def streams(self, prefix: str = "") -> AsyncIterator[StreamInfo]:
        """The streams that you may see, by name, without their shards."""
        return paged(partial(self.verbs.list_streams, prefix), attrgetter("name"))

"""What clients can ask about streams: the gate before ``streams.py``.

The rules are those of ``core.py``, of which this is a part.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ..storage.log import Durability
from .access import Principal
from .errors import BraidError, Conflict, InvalidArgument, LimitExceeded
from .settings import check_name
from .shard import Shard
from .stream import Stream
from .stream_settings import StreamSettings
from .streamreading import ChunkAnswer, ShardRead
from .streams import Appending, Position
from .streamstart import find_number
from .streamverbs import ShardInfo, Start, StreamInfo
from .tail import Tail, TailSink
from .topiccore import PAGE_MAX, TopicCore

__all__ = ["NumberAnswer", "StreamCore"]

NumberAnswer = Callable[[object, int | BraidError], None]


class StreamCore(TopicCore):
    """Streams, for a principal."""

    def declare_stream(
        self, who: Principal, name: str, settings: StreamSettings, shards: int, now_ms: int
    ) -> StreamInfo:
        """Make the stream, or find it with these very settings, whatever its shards are."""
        who.check("stream:Declare", name)
        check_name(name, "stream")
        settings.check()
        stream = self.stream_store.by_name.get(name)
        if stream is None:
            stream = self.streams.declare(name, settings, shards, now_ms)
        elif stream.settings != settings:
            raise Conflict(f"stream {name} exists with other settings")
        return self._stream_info(stream)

    def update_stream(
        self, who: Principal, name: str, changes: dict[str, Any], now_ms: int
    ) -> StreamInfo:
        """Change settings."""
        who.check("stream:Declare", name)
        stream = self.streams.get(name)
        self.streams.update(stream, stream.settings.changed(changes))
        return self._stream_info(stream)

    def delete_stream(self, who: Principal, name: str) -> None:
        """Delete the stream and its records. Conflict while queues show it."""
        who.check("stream:Delete", name)
        stream = self.streams.get(name)
        views = [queue.name for queue in self.queues.values() if queue.settings.stream == name]
        if views:
            raise Conflict(f"stream {name} is shown by queue {', '.join(views[:5])}")
        self.streams.delete(stream)

    def stream_info(self, who: Principal, name: str) -> StreamInfo:
        """The stream as it is now, with its shards."""
        who.check("stream:Describe", name)
        return self._stream_info(self.streams.get(name))

    def list_streams(self, who: Principal, prefix: str, after: str, limit: int) -> list[StreamInfo]:
        """Those streams that the principal may see, by name, a page at a time."""
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidArgument(f"a page has 1 to {PAGE_MAX} entries")
        by_name = self.stream_store.by_name
        shown: list[StreamInfo] = []
        for name in sorted(name for name in by_name if name > after and name.startswith(prefix)):
            if len(shown) == limit:
                break
            if who.allows("stream:Describe", name):
                shown.append(self._stream_info(by_name[name], with_shards=False))
        return shown

    def _stream_info(self, stream: Stream, with_shards: bool = True) -> StreamInfo:
        shards = stream.shards.values()
        return StreamInfo(
            name=stream.name,
            settings=stream.settings,
            created_ms=stream.created_ms,
            open_shards=len(stream.open),
            records=sum(shard.next - shard.first for shard in shards),
            bytes=stream.stored_bytes,
            groups=len(self.group_store.of(stream.id)),
            shards=[_shard_info(shard) for shard in shards] if with_shards else [],
        )

    # Records ----------------------------------------------------------------------------------

    def append(
        self, who: Principal, name: str, batch: Appending, now_ms: int
    ) -> tuple[Durability, list[Position | BraidError]]:
        """Take records; each result stands once :meth:`when_kept` calls back for the level."""
        return self.streams.append(self.admit_records(who, name, batch), batch, now_ms)

    def admit_records(self, who: Principal, name: str, batch: Appending) -> Stream:
        """The stream, if the principal may append such a batch to it now."""
        who.check("stream:Append", name)
        stream = self.streams.get(name)
        self.admit(stream.settings.durability is Durability.MEMORY)
        count = len(batch.bodies)
        if not 1 <= count <= self.limits.batch_messages_max:
            raise LimitExceeded(f"a batch has 1 to {self.limits.batch_messages_max} records")
        for column in (batch.keys, batch.headers, batch.hash_keys):
            if column is not None and len(column) != count:
                raise InvalidArgument("the columns of a batch have one length")
        return stream

    def read_shard(
        self,
        who: Principal,
        name: str,
        index: int,
        number: int,
        records_max: int,
        bytes_max: int,
        wait_ms: int,
        answer: ChunkAnswer,
        argument: object,
        now_ms: int,
    ) -> ShardRead:
        """Read from ``number`` on; ``answer(argument, chunk)`` is called once, later."""
        who.check("stream:Read", name)
        limits = self.limits
        if not 1 <= records_max <= limits.receive_messages_max:
            raise InvalidArgument(f"a read takes 1 to {limits.receive_messages_max} records")
        if not 1 <= bytes_max <= limits.receive_bytes_max:
            raise InvalidArgument(f"a read takes 1 to {limits.receive_bytes_max} bytes")
        if not 0 <= wait_ms <= limits.receive_wait_ms_max:
            raise InvalidArgument(f"a read waits 0 to {limits.receive_wait_ms_max} ms")
        stream = self.streams.get(name)
        shard = stream.shard(index)
        read = ShardRead(
            self.streams,
            stream,
            shard,
            number,
            records_max,
            bytes_max,
            now_ms + wait_ms,
            answer,
            argument,
        )
        self.streams.begin(read)
        return read

    def find_number(
        self,
        who: Principal,
        name: str,
        index: int,
        start: Start,
        answer: NumberAnswer,
        argument: object,
    ) -> None:
        """Find the number to begin with; ``answer(argument, number)`` is called once."""
        who.check("stream:Read", name)
        shard = self.streams.get(name).shard(index)
        find_number(shard, start, partial(answer, argument))

    def tail_shards(
        self,
        who: Principal,
        name: str,
        starts: dict[int, int],
        credit: int,
        follow: bool,
        until_end: bool,
        sink: TailSink,
        tag: object,
    ) -> Tail:
        """Read shards on and on; ``sink`` is told from a later turn on. See :class:`Tail`."""
        who.check("stream:Read", name)
        stream = self.streams.get(name)
        return Tail(self, who, stream, starts, credit, follow, until_end, sink, tag)

    # Resharding -------------------------------------------------------------------------------

    def split_shard(
        self, who: Principal, name: str, index: int, hash_key: str, now_ms: int
    ) -> StreamInfo:
        """Split a shard in two, at a hash key (decimal text) or in the middle."""
        who.check("stream:Reshard", name)
        stream = self.streams.get(name)
        if hash_key and not (hash_key.isascii() and hash_key.isdigit() and len(hash_key) < 40):
            raise InvalidArgument("a hash key is a decimal number of at most 39 digits")
        self.streams.split(stream, index, int(hash_key) if hash_key else None, now_ms)
        return self._stream_info(stream)

    def merge_shards(
        self, who: Principal, name: str, index: int, other: int, now_ms: int
    ) -> StreamInfo:
        """Merge two adjacent shards."""
        who.check("stream:Reshard", name)
        stream = self.streams.get(name)
        self.streams.merge(stream, index, other, now_ms)
        return self._stream_info(stream)

    def rescale_stream(self, who: Principal, name: str, shards: int, now_ms: int) -> StreamInfo:
        """Have so many even shards from now on."""
        who.check("stream:Reshard", name)
        stream = self.streams.get(name)
        self.streams.rescale(stream, shards, now_ms)
        return self._stream_info(stream)


def _shard_info(shard: Shard) -> ShardInfo:
    definition = shard.definition
    return ShardInfo(
        index=shard.index,
        first_hash=definition.first_hash,
        last_hash=definition.last_hash,
        parents=definition.parents,
        closed=shard.closed,
        first=shard.first,
        next=shard.next,
        bytes=shard.stored_bytes,
        oldest_ms=shard.oldest_ms(),
        newest_ms=shard.last_ms,
        created_ms=definition.created_ms,
        files=len(shard.cold),
    )

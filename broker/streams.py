"""Streams: what goes in, what is read, what is too old, and how shards are split and merged.

Decide, then apply: records are appended to the log and applied by the methods of ``stream.py`` and
``shard.py``, which recovery uses too (``streamstore.py``). Rules:

- Records of one batch that go to one shard are one block, or several of ``_BLOCK_BYTES_MAX``, in
  the order they were given. Readers see them when they are as durable as the stream promises.
- A batch is never refused as a whole because of single records: each has its own answer.
- Reads that find nothing wait in ``streamwaiting.py``; what is too old goes by
  ``streamretention.py``.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..storage.block import encode_block, encode_record
from ..storage.cold import ColdFile
from ..storage.log import Durability, Job
from ..storage.record import encode_definition
from .errors import BraidError, InvalidArgument, LimitExceeded, NotFound, Throttled, TooLarge
from .limits import PARTITION_KEY_BYTES_MAX
from .rates import Bucket
from .shard import HASH_KEY_END, Shard, ShardDefinition
from .stream import Stream, StreamDefinition, merged, rescaled, split, tile
from .stream_settings import StreamSettings
from .streamreading import ShardRead
from .streamretention import StreamRetention
from .streamwaiting import StreamWaiting

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Appending", "Placed", "Position", "StreamWatcher", "Streams"]

_BLOCK_BYTES_MAX = 128 * 1024  # of records, then another block begins; one record may be more
_NO_RATE = 2**62
_RATES = ("records", "in", "out")

Position = tuple[int, int]  # the shard's index, the record's number


class Appending(msgspec.Struct, gc=False):
    """Records on their way in, in columns of one length.

    Attributes:
        bodies: one for each record. keys: partition keys in UTF-8; b"": any shard will do.
        headers: packed header maps (b"": none); None when no record has any.
        hash_keys: where a record goes instead of where its key says, -1: there; None: all there.
    """

    bodies: Sequence[bytes]
    keys: Sequence[bytes]
    headers: Sequence[bytes] | None = None
    hash_keys: Sequence[int] | None = None


class Placed(msgspec.Struct, gc=False):
    """Records that were let in and have their places: the indexes of those of each shard.

    ``results`` has the errors of the others.
    """

    stream: Stream
    batch: Appending
    groups: dict[Shard, Sequence[int]]
    results: list[Position | BraidError]


class StreamWatcher(Protocol):
    """What wants to hear how a stream changes. Called in the middle of that: take a note."""

    def resharded(self, stream: Stream) -> None:
        """It has other shards."""

    def ended(self, stream: Stream) -> None:
        """It was deleted."""


class Streams:
    """The streams of a broker. See the module's rules.

    Attributes:
        id, alarm_ms: for the engine's alarms, as a queue has them.
        watchers: by the entity of the stream.
        appended, read, throttled: records, since the broker started.
    """

    id = -2  # -1 is that of announcing.py

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._log = engine.log
        self._store = engine.stream_store
        self.alarm_ms = 0
        self.watchers: dict[int, dict[StreamWatcher, None]] = {}
        self.appended = self.read = self.throttled = 0
        self._waiting = StreamWaiting(engine, self._set_alarm)
        self._retention = StreamRetention(engine, self._drop)
        self._rates: dict[tuple[int, str], Bucket] = {}  # by the entity of the shard

    @property
    def now_ms(self) -> int:
        """The time of the broker's turn."""
        return self._engine.now_ms

    def start(self, now_ms: int) -> None:
        """Everything is recovered."""
        if self._store.by_name:
            self._retention.begin(now_ms)
            self._set_alarm()

    def fail(self, error: BraidError) -> None:
        """The broker has failed: nobody waits for ever."""
        for stream in self._store.by_id.values():
            self._waiting.fail(stream, error)

    # Streams ----------------------------------------------------------------------------------

    def get(self, name: str) -> Stream:
        """The stream of that name. Raises NotFound, BrokerFailed."""
        if self._engine.failed is not None:
            raise self._engine.failed
        stream = self._store.by_name.get(name)
        if stream is None:
            raise NotFound(f"there is no stream {name!r}")
        return stream

    def declare(self, name: str, settings: StreamSettings, shards: int, now_ms: int) -> Stream:
        """Make a stream. Raises LimitExceeded, StorageFull, Overloaded, BrokerFailed."""
        engine = self._engine
        engine.admit()
        if len(self._store.by_name) >= engine.limits.streams_max:
            raise LimitExceeded(f"there are {engine.limits.streams_max} streams, as may be")
        self._check_shards(shards, shards)
        id = engine.take_id()
        definitions = [
            ShardDefinition(
                id=engine.take_id(),
                index=index,
                first_hash=str(first),
                last_hash=str(last),
                parents=[],
                start=1,
                created_ms=now_ms,
            )
            for index, (first, last) in enumerate(tile(shards))
        ]
        definition = StreamDefinition(
            name=name, settings=settings, created_ms=now_ms, next_index=shards, shards=definitions
        )
        self._write(id, definition)
        stream = self._store.define(id, definition)
        self._retention.begin(now_ms)
        self._set_alarm()
        return stream

    def _check_shards(self, open_count: int, new_count: int) -> None:
        limits = self._engine.limits
        if not 1 <= open_count <= limits.shards_per_stream_max:
            raise InvalidArgument(f"a stream has 1 to {limits.shards_per_stream_max} open shards")
        if len(self._store.shards) + new_count > limits.shards_max:
            raise LimitExceeded(f"there are at most {limits.shards_max} shards in all")

    def _write(self, id: int, definition: StreamDefinition) -> int:
        return self._log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))

    def update(self, stream: Stream, settings: StreamSettings) -> None:
        """Change its settings."""
        definition = msgspec.structs.replace(stream.definition(), settings=settings)
        self._write(stream.id, definition)
        self._store.define(stream.id, definition)
        self._engine.bindings.target_changed(stream.id)
        for shard in stream.shards.values():
            shard.sweep_ms = 0

    def delete(self, stream: Stream) -> None:
        """Delete it with all that is in it."""
        self._log.append((encode_definition(stream.id, b""),))
        self._store.undefine(stream.id)
        self._engine.bindings.target_gone(stream.id)
        self._waiting.fail(stream, NotFound(f"stream {stream.name} was deleted"))
        for watcher in list(self.watchers.pop(stream.id, ())):
            watcher.ended(stream)

    # Resharding -------------------------------------------------------------------------------

    def split(self, stream: Stream, index: int, hash_key: int | None, now_ms: int) -> None:
        """Split a shard. Raises NotFound, Conflict, InvalidArgument, LimitExceeded."""
        self._check_shards(len(stream.open) + 1, 2)
        self._reshard(stream, split(stream, index, hash_key, self._take_ids(2), now_ms))

    def merge(self, stream: Stream, index: int, other: int, now_ms: int) -> None:
        """Merge two shards. Raises NotFound, Conflict, InvalidArgument, LimitExceeded."""
        self._check_shards(1, 1)
        self._reshard(stream, merged(stream, index, other, self._take_ids(1), now_ms))

    def rescale(self, stream: Stream, count: int, now_ms: int) -> None:
        """Have ``count`` even shards instead of those that are open now."""
        self._check_shards(count, count)
        ranges = [(shard.first_hash, shard.last_hash) for shard in stream.open]
        if ranges != tile(count):
            self._reshard(stream, rescaled(stream, self._take_ids(count), now_ms))

    def _take_ids(self, count: int) -> list[int]:
        self._engine.admit()
        return [self._engine.take_id() for _ in range(count)]

    def _reshard(self, stream: Stream, definition: StreamDefinition) -> None:
        were_open = stream.open
        lsn = self._write(stream.id, definition)
        self._store.define(stream.id, definition)
        for shard in were_open:
            if shard.closed:
                shard.closed_lsn = lsn
        for index in list(stream.waiting):
            if index not in stream.shards or stream.shards[index].closed:
                self._waiting.wake(stream, index)
        for watcher in list(self.watchers.get(stream.id, ())):
            watcher.resharded(stream)

    def _drop(self, stream: Stream, indexes: set[int]) -> None:
        """Leave out shards of which nothing is left."""
        definition = stream.definition()
        definition.shards = [each for each in definition.shards if each.index not in indexes]
        self._reshard(stream, definition)

    # Appending --------------------------------------------------------------------------------

    def append(
        self, stream: Stream, batch: Appending, now_ms: int
    ) -> tuple[Durability, list[Position | BraidError]]:
        """Take records: (what to wait for, where each one is or why it was not taken)."""
        if len(batch.bodies) == 1:
            return stream.settings.durability, [self._append_one(stream, batch, now_ms)]
        return self.put(self.place(stream, batch, now_ms), now_ms)

    def _append_one(self, stream: Stream, batch: Appending, now_ms: int) -> Position | BraidError:
        """Take the record of a batch of one. Most producers send such, so it has its own way."""
        body, key = batch.bodies[0], batch.keys[0]
        headers = batch.headers[0] if batch.headers is not None else b""
        hash_key = batch.hash_keys[0] if batch.hash_keys is not None else -1
        error = _flaw(stream, body, key, headers, hash_key)
        if error is not None:
            return error
        if hash_key >= 0:
            shard = stream.place_hash(hash_key)
        elif len(stream.open) == 1:
            shard = stream.open[0]
        else:
            shard = stream.place(key) if key else stream.place_any()
        settings = stream.settings
        if settings.shard_bytes_in_per_second or settings.shard_records_in_per_second:
            if not self.let_in(stream, shard, len(body) + len(key), now_ms):
                return _throttled(stream, shard)
        number = shard.next
        time_ms = max(now_ms, shard.last_ms)
        block = encode_record(shard.id, number, time_ms, key, headers, body)
        lsn = shard.log.append((block,), 1)
        shard.put(number, 1, lsn, len(block), time_ms)
        self.taken(stream, shard, 1)
        return shard.index, number

    def place(self, stream: Stream, batch: Appending, now_ms: int) -> Placed:
        """Find out where records go and why some do not; :meth:`put` or :meth:`give_back` them."""
        placed = Placed(stream, batch, {}, [(0, 0)] * len(batch.bodies))
        placed.groups = self._place(stream, batch, placed.results)
        settings = stream.settings
        if settings.shard_bytes_in_per_second or settings.shard_records_in_per_second:
            for shard, indexes in placed.groups.items():
                placed.groups[shard] = self._throttle(
                    stream, shard, batch, indexes, placed.results, now_ms
                )
        return placed

    def put(self, placed: Placed, now_ms: int) -> tuple[Durability, list[Position | BraidError]]:
        """Append records that were placed in this very turn. See :meth:`append`."""
        stream, batch, results = placed.stream, placed.batch, placed.results
        for shard, indexes in placed.groups.items():
            if len(indexes) == len(results):
                self._append_to(shard, batch, indexes, results, now_ms)
            elif indexes:
                self._append_to(shard, _chosen(batch, indexes), indexes, results, now_ms)
            if stream.waiting:
                self._waiting.came(stream, shard)
        return stream.settings.durability, results

    def give_back(self, placed: Placed) -> None:
        """Records that were placed will not be put: the rates of their shards were not used."""
        batch = placed.batch
        for shard, indexes in placed.groups.items():
            records = self._rates.get((shard.id, "records"))
            room = self._rates.get((shard.id, "in"))
            if records is not None and room is not None:
                records.left += len(indexes)
                room.left += sum(len(batch.bodies[i]) + len(batch.keys[i]) for i in indexes)

    def _place(
        self, stream: Stream, batch: Appending, results: list[Position | BraidError]
    ) -> dict[Shard, Sequence[int]]:
        """Which shard gets which records. What cannot be taken has its error in ``results``."""
        keys = batch.keys
        hash_keys = batch.hash_keys
        errors = self._check(stream, batch)
        groups: dict[Shard, list[int]] = {}
        if not errors and hash_keys is None:
            if not any(keys):
                return {stream.place_any(): range(len(keys))}
            if len(stream.open) == 1:
                return {stream.open[0]: range(len(keys))}
        any_shard: Shard | None = None
        place = stream.place
        for index, key in enumerate(keys):
            if index in errors:
                results[index] = errors[index]
                continue
            if hash_keys is not None and hash_keys[index] >= 0:
                shard = stream.place_hash(hash_keys[index])
            elif key:
                shard = place(key)
            else:
                shard = any_shard = any_shard or stream.place_any()
            group = groups.get(shard)
            if group is None:
                groups[shard] = [index]
            else:
                group.append(index)
        return groups  # type: ignore[return-value]

    def _check(self, stream: Stream, batch: Appending) -> dict[int, BraidError]:
        """What is wrong with single records, by index."""
        bytes_max = stream.settings.record_bytes_max
        errors: dict[int, BraidError] = {}
        headers = batch.headers
        largest = max(map(len, batch.bodies)) + max(map(len, batch.keys))
        if headers is not None:
            largest += max(map(len, headers))
        fits = largest <= bytes_max and max(map(len, batch.keys)) <= PARTITION_KEY_BYTES_MAX
        try:
            b"\n".join(batch.keys).decode()
        except UnicodeDecodeError:
            fits = False
        if fits and batch.hash_keys is None:
            return errors
        hash_keys = batch.hash_keys
        for index, (body, key) in enumerate(zip(batch.bodies, batch.keys, strict=True)):
            error = _flaw(
                stream,
                body,
                key,
                headers[index] if headers is not None else b"",
                hash_keys[index] if hash_keys is not None else -1,
            )
            if error is not None:
                errors[index] = error
        return errors

    def _throttle(
        self,
        stream: Stream,
        shard: Shard,
        batch: Appending,
        indexes: Sequence[int],
        results: list[Position | BraidError],
        now_ms: int,
    ) -> Sequence[int]:
        """Those of the records that the shard's rates let through."""
        settings = stream.settings
        records_rate = settings.shard_records_in_per_second or _NO_RATE
        bytes_rate = settings.shard_bytes_in_per_second or _NO_RATE
        records = self._bucket(shard, "records", records_rate, now_ms)
        room = self._bucket(shard, "in", bytes_rate, now_ms)
        taken = []
        for index in indexes:
            size = len(batch.bodies[index]) + len(batch.keys[index])
            if records.left >= 1 and room.left >= min(size, bytes_rate):
                records.left -= 1
                room.left -= size
                taken.append(index)
            else:
                self.throttled += 1
                results[index] = _throttled(stream, shard)
        return taken

    def _bucket(self, shard: Shard, what: str, rate: int, now_ms: int) -> Bucket:
        bucket = self._rates.get((shard.id, what))
        if bucket is None:
            bucket = self._rates[shard.id, what] = Bucket(rate, now_ms)
        bucket.fill(rate, now_ms)
        return bucket

    def _append_to(
        self,
        shard: Shard,
        batch: Appending,
        indexes: Sequence[int],
        results: list[Position | BraidError],
        now_ms: int,
    ) -> None:
        """Append records of one shard: those of ``batch``, whose answers go to ``indexes``."""
        bodies, keys, headers = batch.bodies, batch.keys, batch.headers
        time_ms = max(now_ms, shard.last_ms)
        index = shard.index
        for at, end in _cuts(batch):
            number = shard.next
            block = encode_block(
                shard.id,
                number,
                time_ms,
                keys[at:end],
                headers[at:end] if headers is not None else None,
                bodies[at:end],
            )
            lsn = shard.log.append((block,), 1)
            shard.put(number, end - at, lsn, len(block), time_ms)
            for each in indexes[at:end]:
                results[each] = (index, number)
                number += 1
        self.appended += len(bodies)

    def let_in(self, stream: Stream, shard: Shard, size: int, now_ms: int) -> bool:
        """Whether the shard's rates let a record through that comes by a topic; it counts then."""
        settings = stream.settings
        bytes_rate = settings.shard_bytes_in_per_second or _NO_RATE
        records_rate = settings.shard_records_in_per_second or _NO_RATE
        records = self._bucket(shard, "records", records_rate, now_ms)
        room = self._bucket(shard, "in", bytes_rate, now_ms)
        if records.left < 1 or room.left < min(size, bytes_rate):
            self.throttled += 1
            return False
        records.left -= 1
        room.left -= size
        return True

    def taken(self, stream: Stream, shard: Shard, count: int) -> None:
        """Records came into a shard by a topic."""
        self.appended += count
        if stream.waiting:
            self._waiting.came(stream, shard)

    # Reading ----------------------------------------------------------------------------------

    def begin(self, read: ShardRead) -> None:
        """Begin a read: it is answered from a later turn.

        Raises InvalidArgument (a number that is not there yet), Throttled.
        """
        shard = read.shard
        if not 0 <= read.number <= shard.next:
            raise InvalidArgument(f"shard {shard.index} goes from {shard.first} to {shard.next}")
        rate = read.stream.settings.shard_bytes_out_per_second
        if rate and self._bucket(shard, "out", rate, self._engine.now_ms).left <= 0:
            self.throttled += 1
            raise Throttled(f"shard {shard.index} of stream {read.stream.name} is busy")
        self._engine.later(read.step)

    def count_out(self, stream: Stream, shard: Shard, count: int, size: int) -> None:
        """Records were read."""
        self.read += count
        if stream.settings.shard_bytes_out_per_second:
            bucket = self._rates.get((shard.id, "out"))
            if bucket is not None:
                bucket.left -= size

    def wait(self, read: ShardRead) -> None:
        """Let a read wait at the end of its shard."""
        self._waiting.wait(read)

    def again(self, read: ShardRead) -> None:
        """Let a read go on in the next turn."""
        self._engine.later(read.step)

    def progressed(self) -> None:
        """More of the log is kept."""
        self._waiting.progressed()

    def cancel(self, read: ShardRead) -> None:
        """Nobody wants the answer any more."""
        read.cancel()
        self._waiting.forget(read)

    # Time -------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        times = self._waiting.due_ms(), self._retention.due_ms
        due_ms = min(filter(None, times), default=0)
        if due_ms and (not self.alarm_ms or due_ms < self.alarm_ms):
            self.alarm_ms = due_ms
            self._engine.alarm(self, due_ms)

    def tick(self, now_ms: int) -> None:
        """End the reads that waited long enough; let go of what is too old."""
        self.alarm_ms = 0
        self._waiting.tick(now_ms)
        self._retention.tick(now_ms)
        self._set_alarm()

    def trim(self, shard: Shard, first: int) -> None:
        """Let go of the records below ``first``."""
        self._retention.trim(shard, first)

    def gone(self, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]) -> None:
        """Release what nobody needs any more of a shard."""
        self._retention.gone(shard, lsns, files)
        if shard.id not in self._store.shards:
            for what in _RATES:
                self._rates.pop((shard.id, what), None)

    def jobs(self) -> Iterator[Iterator[Job]]:
        """What is to be done about files: see :meth:`StreamRetention.jobs`."""
        return self._retention.jobs()


def _flaw(
    stream: Stream, body: bytes, key: bytes, headers: bytes, hash_key: int
) -> BraidError | None:
    """What is wrong with a record."""
    size = len(body) + len(key) + len(headers)
    bytes_max = stream.settings.record_bytes_max
    if size > bytes_max:
        return TooLarge(f"a record has {size} bytes; the limit is {bytes_max}")
    if key and (len(key) > PARTITION_KEY_BYTES_MAX or not _is_utf8(key)):
        return InvalidArgument(
            f"a partition key has at most {PARTITION_KEY_BYTES_MAX} bytes of UTF-8"
        )
    if hash_key >= HASH_KEY_END:
        return InvalidArgument("a hash key is between 0 and 2**128 - 1")
    return None


def _throttled(stream: Stream, shard: Shard) -> Throttled:
    return Throttled(f"shard {shard.index} of stream {stream.name} is busy")


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _chosen(batch: Appending, indexes: Sequence[int]) -> Appending:
    """Some of the records of a batch."""
    bodies, keys, headers = batch.bodies, batch.keys, batch.headers
    return Appending(
        [bodies[index] for index in indexes],
        [keys[index] for index in indexes],
        None if headers is None else [headers[index] for index in indexes],
    )


def _cuts(batch: Appending) -> Sequence[tuple[int, int]]:
    """Where blocks begin and end, so that none has much more than ``_BLOCK_BYTES_MAX``."""
    columns = [column for column in (batch.bodies, batch.keys, batch.headers) if column is not None]
    if sum(sum(map(len, column)) for column in columns) <= _BLOCK_BYTES_MAX:
        return ((0, len(batch.bodies)),)
    cuts = []
    begin = size = 0
    for index, values in enumerate(zip(*columns, strict=True)):
        more = sum(map(len, values))
        if size and size + more > _BLOCK_BYTES_MAX:
            cuts.append((begin, index))
            begin, size = index, 0
        size += more
    cuts.append((begin, len(batch.bodies)))
    return cuts

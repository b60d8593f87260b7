"""Streams: what goes in, what is read, what is too old, and how shards are split and merged.

Decide, then apply: records are appended to the log and applied by the methods of ``stream.py`` and
``shard.py``, which recovery uses too (``streamstore.py``). Rules:

- Records of one batch that go to one shard are one block, or several of ``_BLOCK_BYTES_MAX``, in
  the order they were given. Readers see them when they are as durable as the stream promises.
- A batch is never refused as a whole because of single records: each has its own answer.
- Records end by age or because of ``retention_bytes``; a file goes when all of it may go, and only
  after the log says durably that its records are gone.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..storage.block import encode_block
from ..storage.cold import ColdFile
from ..storage.errors import StorageError
from ..storage.log import Durability, Job
from ..storage.record import encode_definition, encode_purge
from .errors import BraidError, InvalidArgument, LimitExceeded, NotFound, Throttled, TooLarge
from .limits import PARTITION_KEY_BYTES_MAX
from .rates import Bucket
from .rehoming import rehome, rehoming_due
from .shard import Shard, ShardDefinition
from .stream import Stream, StreamDefinition, merged, rescaled, split, tile
from .stream_settings import StreamSettings
from .streamreading import ShardRead

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Appending", "Position", "StreamWatcher", "Streams"]

_BLOCK_BYTES_MAX = 128 * 1024  # of bodies, then another block begins; one record may be more
_SWEEP_MS = 1_000  # between two looks at what is too old
_TRIM_BLOCKS = 1_000  # that make way for retention_bytes in one go
_NOBODY = 2**62

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
        self._waiting = 0
        self._deadlines: list[tuple[int, int, ShardRead]] = []
        self._turn = 0
        self._sweep_ms = 0
        self._unsettled: dict[Shard, Stream] = {}  # with reads that wait for what is not kept yet
        self._rates: dict[tuple[int, str], Bucket] = {}
        self._doomed: list[ColdFile] = []  # durably of no use

    @property
    def now_ms(self) -> int:
        """The time of the broker's turn."""
        return self._engine.now_ms

    def start(self, now_ms: int) -> None:
        """Everything is recovered."""
        if self._store.by_name:
            self._sweep_soon(now_ms)

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
        self._check_shards(shards)
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
        self._sweep_soon(now_ms)
        return stream

    def _check_shards(self, count: int) -> None:
        limits = self._engine.limits
        if not 1 <= count <= limits.shards_per_stream_max:
            raise InvalidArgument(f"a stream has 1 to {limits.shards_per_stream_max} open shards")
        if len(self._store.shards) + count > limits.shards_max:
            raise LimitExceeded(f"there are at most {limits.shards_max} shards in all")

    def _write(self, id: int, definition: StreamDefinition) -> None:
        self._log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))

    def update(self, stream: Stream, settings: StreamSettings, now_ms: int) -> None:
        """Change its settings."""
        definition = msgspec.structs.replace(stream.definition(), settings=settings)
        self._write(stream.id, definition)
        self._store.define(stream.id, definition)
        self._engine.bindings.target_changed(stream.id)
        self._sweep_soon(now_ms)

    def delete(self, stream: Stream) -> None:
        """Delete it with all that is in it."""
        self._log.append((encode_definition(stream.id, b""),))
        self._store.undefine(stream.id)
        self._engine.bindings.target_gone(stream.id)
        waiting, stream.waiting = stream.waiting, {}
        for reads in waiting.values():
            for read in reads:
                self._waiting -= 1
                read.fail(NotFound(f"stream {stream.name} was deleted"))
        for watcher in list(self.watchers.pop(stream.id, ())):
            watcher.ended(stream)

    # Resharding -------------------------------------------------------------------------------

    def split(self, stream: Stream, index: int, hash_key: int | None, now_ms: int) -> None:
        """Split a shard. Raises NotFound, Conflict, InvalidArgument, LimitExceeded."""
        self._check_shards(len(stream.open) + 1)
        self._reshard(stream, split(stream, index, hash_key, self._take_ids(2), now_ms))

    def merge(self, stream: Stream, index: int, other: int, now_ms: int) -> None:
        """Merge two adjacent shards. Raises NotFound, Conflict, InvalidArgument."""
        self._reshard(stream, merged(stream, index, other, self._take_ids(1), now_ms))

    def rescale(self, stream: Stream, count: int, now_ms: int) -> None:
        """Have ``count`` even shards instead of those that are open now."""
        self._check_shards(count)
        ranges = [(shard.first_hash, shard.last_hash) for shard in stream.open]
        if ranges != tile(count):
            self._reshard(stream, rescaled(stream, self._take_ids(count), now_ms))

    def _take_ids(self, count: int) -> list[int]:
        self._engine.admit()
        return [self._engine.take_id() for _ in range(count)]

    def _reshard(self, stream: Stream, definition: StreamDefinition) -> None:
        self._write(stream.id, definition)
        self._store.define(stream.id, definition)
        for index in list(stream.waiting):
            if stream.shard(index).closed:
                self._wake(stream, index)
        for watcher in list(self.watchers.get(stream.id, ())):
            watcher.resharded(stream)

    # Appending --------------------------------------------------------------------------------

    def append(
        self, stream: Stream, batch: Appending, now_ms: int
    ) -> tuple[Durability, list[Position | BraidError]]:
        """Take records: (what to wait for, where each one is or why it was not taken)."""
        bodies = batch.bodies
        results: list[Position | BraidError] = [(0, 0)] * len(bodies)
        groups = self._place(stream, batch, results)
        settings = stream.settings
        throttles = settings.shard_bytes_in_per_second or settings.shard_records_in_per_second
        for shard, indexes in groups.items():
            if throttles:
                indexes = self._throttle(stream, shard, batch, indexes, results, now_ms)
            if len(indexes) == len(bodies):
                self._append_to(shard, batch, indexes, results, now_ms)
            elif indexes:
                self._append_to(shard, _chosen(batch, indexes), indexes, results, now_ms)
            if stream.waiting and shard.index in stream.waiting:
                self._changed(stream, shard)
        return settings.durability, results

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
        for index, (body, key) in enumerate(zip(batch.bodies, batch.keys, strict=True)):
            size = len(body) + len(key) + (len(headers[index]) if headers is not None else 0)
            if size > bytes_max:
                errors[index] = TooLarge(f"a record has {size} bytes; the limit is {bytes_max}")
            elif len(key) > PARTITION_KEY_BYTES_MAX or not _is_utf8(key):
                errors[index] = InvalidArgument(
                    f"a partition key has at most {PARTITION_KEY_BYTES_MAX} bytes of UTF-8"
                )
            elif batch.hash_keys is not None and batch.hash_keys[index] >= 1 << 128:
                errors[index] = InvalidArgument("a hash key is between 0 and 2**128 - 1")
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
        records_rate = settings.shard_records_in_per_second or _NOBODY
        bytes_rate = settings.shard_bytes_in_per_second or _NOBODY
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
                results[index] = Throttled(f"shard {shard.index} of stream {stream.name} is busy")
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
        for at, end in _cuts(bodies):
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
        bytes_rate = settings.shard_bytes_in_per_second or _NOBODY
        records_rate = settings.shard_records_in_per_second or _NOBODY
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
        if stream.waiting and shard.index in stream.waiting:
            self._changed(stream, shard)

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
        if self._waiting >= self._engine.limits.stream_reads_waiting_max:
            read.fail(LimitExceeded("as many reads wait for records as may"))
            return
        stream = read.stream
        self._waiting += 1
        stream.waiting.setdefault(read.shard.index, []).append(read)
        self._turn += 1
        heappush(self._deadlines, (read.deadline_ms, self._turn, read))
        if len(self._deadlines) > 2 * self._waiting + 64:
            self._deadlines = sorted(each for each in self._deadlines if not each[2].closed)
        self._set_alarm()
        if read.shard.durability is not Durability.MEMORY:  # where nothing has yet to be kept
            self._changed(stream, read.shard)

    def _changed(self, stream: Stream, shard: Shard) -> None:
        """Somebody waits for the records of a shard, of which some may not be kept yet."""
        if shard.durability is Durability.MEMORY:
            self._wake(stream, shard.index)
        elif shard.lsns and shard.lsns[-1] >= shard.frontier():
            self._unsettled[shard] = stream

    def progressed(self) -> None:
        """More of the log is kept."""
        for shard, stream in list(self._unsettled.items()):
            readable = shard.readable()
            if readable == shard.next:
                del self._unsettled[shard]
            reads = stream.waiting.get(shard.index)
            if reads and any(readable > read.number for read in reads):
                self._wake(stream, shard.index)

    def _wake(self, stream: Stream, index: int) -> None:
        """Let those go on that wait at the end of a shard, in the next turn."""
        reads = stream.waiting.pop(index, None)
        if reads:
            self._waiting -= len(reads)
            for read in reads:
                self._engine.later(read.step)

    def cancel(self, read: ShardRead) -> None:
        """Nobody wants the answer any more."""
        read.cancel()
        reads = read.stream.waiting.get(read.shard.index)
        if reads is not None and read in reads:
            reads.remove(read)
            self._waiting -= 1
            if not reads:
                del read.stream.waiting[read.shard.index]

    # Time -------------------------------------------------------------------------------------

    def _sweep_soon(self, now_ms: int) -> None:
        if not self._sweep_ms:
            self._sweep_ms = now_ms + _SWEEP_MS
        self._set_alarm()

    def _set_alarm(self) -> None:
        due_ms = self._sweep_ms or _NOBODY
        if self._deadlines:
            due_ms = min(due_ms, self._deadlines[0][0])
        if due_ms != _NOBODY and (not self.alarm_ms or due_ms < self.alarm_ms):
            self.alarm_ms = due_ms
            self._engine.alarm(self, due_ms)

    def tick(self, now_ms: int) -> None:
        """End the reads that waited long enough; let go of what is too old."""
        self.alarm_ms = 0
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, _, read = heappop(self._deadlines)
            if not read.closed and read.deadline_ms <= now_ms:
                reads = read.stream.waiting.get(read.shard.index, [])
                if read in reads:
                    reads.remove(read)
                    self._waiting -= 1
                    read.step()
        if 0 < self._sweep_ms <= now_ms:
            self._sweep_ms = 0
            for stream in list(self._store.by_name.values()):
                self._sweep(stream, now_ms)
            if self._store.by_name:
                self._sweep_soon(now_ms)
        self._set_alarm()

    # Retention --------------------------------------------------------------------------------

    def _sweep(self, stream: Stream, now_ms: int) -> None:
        settings = stream.settings
        if settings.retention_ms:
            for shard in stream.shards.values():
                self._sweep_shard(shard, now_ms - settings.retention_ms)
        if settings.retention_bytes:
            excess = sum(shard.bytes for shard in stream.shards.values())
            excess -= settings.retention_bytes
            while excess > 0:
                oldest = min(
                    (shard for shard in stream.shards.values() if shard.first < shard.next),
                    key=Shard.oldest_ms,
                )
                before = oldest.bytes
                self.trim(oldest, _bound(oldest, excess))
                excess -= before - oldest.bytes
        gone = [
            shard.index
            for shard in stream.shards.values()
            if shard.closed and shard.first >= shard.next and not stream.waiting.get(shard.index)
        ]
        if gone:
            definition = stream.definition()
            definition.shards = [each for each in definition.shards if each.index not in gone]
            self._reshard(stream, definition)

    def _sweep_shard(self, shard: Shard, cutoff_ms: int) -> None:
        if not 0 < shard.oldest_ms() < cutoff_ms:
            return
        found = shard.number_at(cutoff_ms)
        if isinstance(found, ColdFile):
            if found.first > shard.first:
                self.trim(shard, found.first)
            assert shard.log.cold is not None
            shard.log.cold.seek(found, cutoff_ms, self._on_cutoff, shard)
        else:
            self.trim(shard, found)

    def _on_cutoff(self, shard: object, number: int | None, error: StorageError | None) -> None:
        assert isinstance(shard, Shard)
        if number is not None and shard.id in self._store.shards:
            self.trim(shard, number)

    def trim(self, shard: Shard, first: int) -> None:
        """Let go of the records below ``first``."""
        if first > shard.first:
            if shard.log is self._log:
                self._log.append((encode_purge(shard.id, [first]),))
            self._store.trim(shard.id, first)

    def gone(self, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]) -> None:
        """Release what nobody needs any more; its files when the log says so durably."""
        release = shard.log.release
        for lsn in lsns:
            release(lsn)
        if self._rates and shard.id not in self._store.shards:
            self._rates = {key: each for key, each in self._rates.items() if key[0] != shard.id}
        if files:
            self._engine.when_kept(Durability.SYNC, self._on_doomed, list(files))

    def _on_doomed(self, files: object, error: BraidError | None) -> None:
        if error is None:
            assert isinstance(files, list)
            self._doomed.extend(files)

    def jobs(self) -> Iterator[Iterator[Job]]:
        """What is to be done about files, to be run as checkpoints are: see ``Log``."""
        cold = self._log.cold
        if cold is None:
            return
        if self._doomed:
            files, self._doomed = self._doomed, []
            yield iter([cold.unlink(files)])
        for shard in rehoming_due(self._store, self._log.sealed_lsn):
            yield rehome(self._store, shard)


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


def _cuts(bodies: Sequence[bytes]) -> Sequence[tuple[int, int]]:
    """Where blocks begin and end, so that none has much more than ``_BLOCK_BYTES_MAX``."""
    if sum(map(len, bodies)) <= _BLOCK_BYTES_MAX:
        return ((0, len(bodies)),)
    cuts = []
    begin = size = 0
    for index, body in enumerate(bodies):
        if size and size + len(body) > _BLOCK_BYTES_MAX:
            cuts.append((begin, index))
            begin, size = index, 0
        size += len(body)
    cuts.append((begin, len(bodies)))
    return cuts


def _bound(shard: Shard, excess: int) -> int:
    """Where a shard may begin when its oldest file, or some blocks, make way."""
    if shard.cold:
        return shard.cold[0].end
    size = 0
    for index in range(min(len(shard.firsts), _TRIM_BLOCKS)):
        size += shard.sizes[index]
        if size >= excess:
            break
    return shard.block_end(index)

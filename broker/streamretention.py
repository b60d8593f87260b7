"""Letting go of what is too old, or too much, in streams: blocks, and the files that hold the rest.

Rules:

- Hot blocks go to the second. A file is searched for what is too old in it only when a hundredth of
  the retention time has passed since the last search; when all of it is too old, it goes at once.
- A file is removed only after the log says durably that its records are gone.
- A closed shard goes with its last record, but not before its parents have gone: so whoever reads
  a parent finds the way to its children.
- A step on the loop deals with a bounded number of shards, blocks and records to release.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from ..storage.cold import ColdFile
from ..storage.errors import DiskFull, StorageError
from ..storage.log import Durability, Job, Log
from ..storage.record import encode_purge
from .errors import BraidError
from .rehoming import rehome, rehoming_due
from .shard import Shard
from .stream import Stream

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["StreamRetention"]

_SWEEP_MS = 1_000  # between two looks at what is too old
_SWEEP_SHARDS = 1_000  # that are looked at in one go, or those of one stream
_SEARCH_PART = 100  # of the retention time, between two searches of a shard's files
_TRIM_BLOCKS = 1_000  # that make way for retention_bytes in one go,
_TRIM_MS = 1_000  # ... up to so much younger than the oldest of other shards,
_TRIMS = 100  # ... and how often in one sweep, besides twice for each shard
_RELEASES = 4_096  # in one go


class StreamRetention:
    """What streams let go. See the module's rules.

    Attributes:
        due_ms: when :meth:`tick` has something to do; 0: never.
    """

    def __init__(self, engine: "Engine", drop: Callable[[Stream, set[int]], None]) -> None:
        """``drop(stream, indexes)`` takes shards of which nothing is left out of their stream."""
        self._engine = engine
        self._log = engine.log
        self._store = engine.stream_store
        self._drop = drop
        self.due_ms = 0
        self._to_sweep: Iterator[Stream] = iter(())
        self._trash: list[tuple[Log, Sequence[int]]] = []
        self._doomed: list[ColdFile] = []  # durably of no use
        self._rehomed_lsn = -1  # what was sealed when blocks were moved last
        self._full = False

    # What is too old --------------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """There are streams."""
        if not self.due_ms:
            self.due_ms = now_ms + _SWEEP_MS

    def tick(self, now_ms: int) -> None:
        """Look at some of the streams."""
        if not 0 < self.due_ms <= now_ms:
            return
        shards = 0
        for stream in self._to_sweep:
            if not stream.deleted:
                shards += len(stream.shards)
                self._sweep(stream, now_ms)
            if shards >= _SWEEP_SHARDS:
                self.due_ms = now_ms + 1
                return
        self._to_sweep = iter(list(self._store.by_id.values()))
        self.due_ms = now_ms + _SWEEP_MS if self._store.by_id else 0

    def _sweep(self, stream: Stream, now_ms: int) -> None:
        settings = stream.settings
        if settings.retention_ms:
            for shard in stream.shards.values():
                self._sweep_shard(shard, now_ms, settings.retention_ms)
        if settings.retention_bytes:
            self._trim_excess(stream, stream.stored_bytes - settings.retention_bytes)
        gone: set[int] = set()
        for shard in stream.shards.values():  # parents stand before their children
            if not shard.closed or stream.waiting.get(shard.index):
                continue
            if shard.present(shard.first) >= shard.next:
                if all(parent.index in gone for parent in stream.parents(shard)):
                    gone.add(shard.index)
        if gone:
            self._drop(stream, gone)

    def _sweep_shard(self, shard: Shard, now_ms: int, retention_ms: int) -> None:
        cutoff_ms = now_ms - retention_ms
        if not 0 < shard.oldest_ms() < cutoff_ms:
            return
        found = shard.number_at(cutoff_ms)
        if not isinstance(found, ColdFile):
            self.trim(shard, found)
            return
        self.trim(shard, found.first)
        if now_ms >= shard.sweep_ms:
            shard.sweep_ms = now_ms + retention_ms // _SEARCH_PART
            assert shard.log.cold is not None
            shard.log.cold.seek(found, cutoff_ms, self._on_cutoff, shard)

    def _on_cutoff(self, shard: object, number: int | None, error: StorageError | None) -> None:
        assert isinstance(shard, Shard)
        if number is not None and shard.id in self._store.shards:
            self.trim(shard, number)

    def _trim_excess(self, stream: Stream, excess: int) -> None:
        """Let go of so many bytes, the oldest first, about a second of a shard at a time."""
        oldest = [
            (shard.oldest_ms(), shard.index)
            for shard in stream.shards.values()
            if shard.stored_bytes
        ]
        heapify(oldest)
        for _ in range(_TRIMS + 2 * len(oldest)):
            if excess <= 0 or not oldest:
                return
            shard = stream.shards[heappop(oldest)[1]]
            until_ms = oldest[0][0] + _TRIM_MS if oldest else shard.last_ms
            before = shard.stored_bytes
            self.trim(shard, _bound(shard, excess, until_ms))
            freed = before - shard.stored_bytes
            excess -= freed
            if freed and shard.stored_bytes:
                heappush(oldest, (shard.oldest_ms(), shard.index))

    def trim(self, shard: Shard, first: int) -> None:
        """Let go of the records below ``first``, as far as they are kept: others are still new."""
        first = min(first, shard.readable())
        if first > shard.first:
            if shard.log is self._log:
                self._log.append((encode_purge(shard.id, [first]),))
            self._store.trim(shard.id, first)

    # What nobody needs any more ---------------------------------------------------------------

    def gone(self, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]) -> None:
        """Release records, a few in a turn; have files removed once the log says so durably."""
        if lsns:
            self._trash.append((shard.log, lsns))
            if len(self._trash) == 1:
                self._engine.later(self._release_some)
        if files:
            self._engine.when_kept(Durability.SYNC, self._on_doomed, list(files))

    def _release_some(self) -> None:
        left = _RELEASES
        while self._trash and left and self._engine.failed is None:
            log, lsns = self._trash.pop()
            for lsn in islice(lsns, left):
                log.release(lsn)
            if len(lsns) > left:
                self._trash.append((log, lsns[left:]))
            left = max(left - len(lsns), 0)
        if self._trash:
            self._engine.later(self._release_some)

    def _on_doomed(self, files: object, error: BraidError | None) -> None:
        if error is None:
            assert isinstance(files, list)
            self._doomed.extend(files)

    # Files ------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[Iterator[Job]]:
        """What is to be done about files, to be run one after the other, as checkpoints are.

        One that raises StorageError does not keep the others from being run.
        """
        cold = self._log.cold
        if cold is None:
            return
        if self._doomed:
            files, self._doomed = self._doomed, []
            yield iter([cold.unlink(files)])
        sealed_lsn = self._log.sealed_lsn
        if sealed_lsn == self._rehomed_lsn:
            return
        self._full = False
        limits = self._engine.limits
        for stream, shard in rehoming_due(
            self._store, sealed_lsn, limits.shard_hot_bytes_max, limits.shard_hot_lag_bytes_max
        ):
            yield self._rehome(stream, shard)
            if self._full:
                return  # the next time
        self._rehomed_lsn = sealed_lsn

    def _rehome(self, stream: Stream, shard: Shard) -> Iterator[Job]:
        try:
            self._log.admit()  # what room is left is for acknowledgements
            yield from rehome(self._store, stream, shard)
        except DiskFull:
            self._full = True
            raise


def _bound(shard: Shard, excess: int, until_ms: int) -> int:
    """Where a shard may begin when its oldest file, or blocks up to ``until_ms``, make way."""
    if shard.cold:
        return shard.cold[0].end
    size = count = 0
    while count < min(len(shard.sizes), _TRIM_BLOCKS) and size < excess:
        if count and shard.times[count] > until_ms:
            break
        size += shard.sizes[count]
        count += 1
    return shard.block_end(count - 1)

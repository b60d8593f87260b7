"""The streams there are, by name and by number, and how the log brings them back.

The apply side of ``streams.py``, as ``registry.py`` is of the rest; which calls it for the records
and sections that are about streams. A checkpoint holds a stream as::

    STREAM_SECTION   MessagePack: its entity and its definition, with some of its shards; one for
                     the next shards, and so on; then the sections of the shards

and one that lives in memory without its shards.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from ..storage.block import decode_block_head
from ..storage.cold import ColdFile
from ..storage.log import Durability, Log
from .shard import BLOCKS, SHARD, STREAM_SECTION, Shard, ShardState
from .stream import Places, Stream, StreamDefinition

__all__ = ["StreamStore"]

_SHARDS_PER_SECTION = 1_000


class _StreamSection(msgspec.Struct):
    id: int
    definition: StreamDefinition


class StreamStore:
    """Streams and their shards.

    Attributes:
        by_name, by_id: the streams. shards: their shards, by entity.
        replaying: recovery is not over, so nothing is released.
    """

    def __init__(
        self,
        log: Log,
        memory: Log,
        gone: Callable[[Shard, Sequence[int], Sequence[ColdFile]], None],
    ) -> None:
        """``gone`` is told what nobody needs any more: a shard's LSNs, and its cold files."""
        self._log = log
        self._memory = memory
        self._gone = gone
        self.by_name: dict[str, Stream] = {}
        self.by_id: dict[int, Stream] = {}
        self.shards: dict[int, Shard] = {}
        self.replaying = True
        self._places = Places()

    # Apply ------------------------------------------------------------------------------------

    def define(self, id: int, definition: StreamDefinition) -> Stream:
        """Apply: the stream is there, with these settings and shards."""
        stream = self.by_id.get(id)
        if stream is None:
            memory = definition.settings.durability is Durability.MEMORY
            stream = Stream(id, definition, self._memory if memory else self._log, self._places)
            self.by_id[id] = stream
        # Also of one that is known: replay may meet one of this name that was deleted before.
        self.by_name[stream.name] = stream
        for shard in stream.apply(definition):
            self._remove(shard)
        for shard in stream.shards.values():
            self.shards[shard.id] = shard
        return stream

    def undefine(self, id: int) -> Stream | None:
        """Apply: the stream is gone, with its records."""
        stream = self.by_id.pop(id, None)
        if stream is None:
            return None
        stream.deleted = True
        if self.by_name.get(stream.name) is stream:
            del self.by_name[stream.name]
        for shard in stream.shards.values():
            self._remove(shard)
        return stream

    def _remove(self, shard: Shard) -> None:
        self.shards.pop(shard.id, None)
        if not self.replaying:
            self._gone(shard, shard.lsns, shard.cold)

    def put(self, lsn: int, buffer: bytes, at: int) -> None:
        """Apply a STREAM record."""
        block = decode_block_head(buffer, at)
        shard = self.shards.get(block.shard)
        if shard is not None:
            shard.put(block.first, block.count, lsn, block.length, block.time_ms)

    def trim(self, id: int, first: int) -> None:
        """Apply: the records of a shard below ``first`` are gone."""
        shard = self.shards.get(id)
        if shard is not None:
            lsns, files = shard.trim(first)
            if not self.replaying:
                self._gone(shard, lsns, files)

    def rehome(self, file: ColdFile, replaces: Collection[int]) -> None:
        """Apply: records of a shard stand in a cold file from now on."""
        shard = self.shards.get(file.shard)
        if shard is not None:
            lsns, files = shard.rehome(file, replaces)
            if not self.replaying:
                self._gone(shard, lsns, files)

    # Checkpoint and recovery ------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """Every stream as sections: see ``storage.log.Replay.snapshot``."""
        for stream in list(self.by_id.values()):
            if stream.deleted:
                continue
            definition = stream.definition()
            # Of one in memory, the records are gone with the process. Shards that are made from
            # here on come back by replay.
            shards = list(stream.shards.values()) if stream.log is self._log else []
            for at in range(0, len(definition.shards), _SHARDS_PER_SECTION):
                some = definition.shards[at : at + _SHARDS_PER_SECTION]
                part = msgspec.structs.replace(definition, shards=some)
                yield STREAM_SECTION, msgspec.msgpack.encode(_StreamSection(stream.id, part))
            for shard in shards:
                for each in shard.sections():
                    if shard.id not in self.shards:
                        break  # it was deleted meanwhile
                    yield each

    def load(self, kind: int, content: bytes) -> None:
        """Take back one section."""
        if kind == STREAM_SECTION:
            section = msgspec.msgpack.decode(content, type=_StreamSection)
            known = self.by_id.get(section.id)
            if known is not None:
                before = [shard.definition for shard in known.shards.values()]
                section.definition.shards[:0] = before
            self.define(section.id, section.definition)
        elif kind == SHARD:
            state = msgspec.msgpack.decode(content, type=ShardState)
            self.shards[state.id].load(state)
        else:
            assert kind == BLOCKS
            self.shards[int.from_bytes(content[:4], "little")].load_blocks(content)

    def finish(self) -> None:
        """Everything was loaded and applied: count what is needed, and forget other files."""
        self.replaying = False
        files: list[ColdFile] = []
        for shard in self.shards.values():
            if shard.log is self._log:
                self._log.adopt_many(shard.lsns)
                files.extend(shard.cold)
        if self._log.cold is not None:
            for file in self._log.cold.sweep(files):
                self.shards[file.shard].lose(file)

"""The groups there are, by number and by stream, and how the log brings them back.

The apply side of ``groups.py``. A group goes with its stream. Its cursors are as durable as the
records they stand for: those in a stream that lives in memory are gone with it. Where a loss was
accepted, records may be gone behind which a cursor stands; their numbers are not given again.
"""

from collections.abc import Iterator

import msgspec

from ..storage.log import Log
from ..storage.streams import CursorRecord
from .group import Cursor, Group, GroupDefinition
from .streamstore import StreamStore

__all__ = ["GROUP", "GroupStore"]

GROUP = 9  # section kind; the others stand in state.py, retained.py, shard.py and bindings.py


class _GroupSection(msgspec.Struct):
    id: int
    definition: GroupDefinition
    cursors: dict[int, Cursor]  # by the entity of the shard


class GroupStore:
    """Groups and their cursors.

    Attributes:
        by_id: the groups. epoch_max: the highest that any cursor was set with.
    """

    def __init__(self, log: Log, streams: StreamStore) -> None:
        self._log = log
        self._streams = streams
        self.by_id: dict[int, Group] = {}
        self.epoch_max = 0
        self._by_stream: dict[int, dict[str, Group]] = {}

    def of(self, stream: int) -> dict[str, Group]:
        """The groups of a stream, by name."""
        return self._by_stream.get(stream, {})

    # Apply ------------------------------------------------------------------------------------

    def define(self, id: int, definition: GroupDefinition) -> Group | None:
        """Apply: the group is there. None when its stream is not, and will not be."""
        group = self.by_id.get(id)
        if group is not None:
            return group
        stream = self._streams.by_id.get(definition.stream)
        if stream is None:
            return None
        group = self.by_id[id] = Group(id, definition, stream)
        self._by_stream.setdefault(stream.id, {})[group.name] = group
        return group

    def undefine(self, id: int) -> None:
        """Apply: the group is gone, or the stream with all of its groups."""
        for each in self._by_stream.pop(id, {}).values():
            del self.by_id[each.id]
        group = self.by_id.pop(id, None)
        if group is not None:
            names = self._by_stream[group.stream.id]
            if names.get(group.name) is group:
                del names[group.name]
            if not names:
                del self._by_stream[group.stream.id]

    def set_cursor(self, record: CursorRecord) -> None:
        """Apply: the group goes on there."""
        self.epoch_max = max(self.epoch_max, record.epoch)
        group = self.by_id.get(record.group)
        if group is not None:
            group.cursors[record.shard] = Cursor(record.number, record.epoch, record.time_ms)

    # Checkpoint and recovery ------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """Every group as a section, as it is at one moment."""
        for group in list(self.by_id.values()):
            if group.id in self.by_id:
                kept = group.stream.log is self._log
                section = _GroupSection(group.id, group.definition(), group.cursors if kept else {})
                yield GROUP, msgspec.msgpack.encode(section)

    def load(self, content: bytes) -> None:
        """Take back a section. A stream that is not there is told of later, and the group then."""
        section = msgspec.msgpack.decode(content, type=_GroupSection)
        group = self.define(section.id, section.definition)
        for cursor in section.cursors.values():
            self.epoch_max = max(self.epoch_max, cursor.epoch)
        if group is not None:
            group.cursors = section.cursors

    def finish(self) -> None:
        """Everything was loaded and applied."""
        for group in self.by_id.values():
            group.forget_gone()
            for shard in group.stream.shards.values():
                cursor = group.cursors.get(shard.id)
                if cursor is not None:
                    shard.reach(cursor.number)

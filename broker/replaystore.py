"""What is known of replays, and how the log brings it back: the apply side of ``replays.py``.

A replay is an entity: a DEFINITION of the kind ``replay`` says all there is to say, how far it is
among it; an empty one ends it. Messages are appended in one frame with the definition that counts
them, so a replay goes on where its target has all that came before, and nothing of what follows.

A checkpoint holds replays as sections::

    REPLAYS   MessagePack: list of definitions, with their entities
"""

from collections.abc import Iterator

import msgspec

from .bindingverbs import Target
from .replayverbs import ReplayPolicy, ReplayState

__all__ = ["REPLAYS", "ReplayDefinition", "ReplayStore"]

REPLAYS = 17  # section kind; the others stand in state.py, retained.py, shard.py and bindings.py
_SECTION_REPLAYS = 64


class ReplayDefinition(msgspec.Struct, kw_only=True, frozen=True):
    """The content of a DEFINITION record; with ``id`` in sections.

    All of the archive's shards below ``shard`` were read, and of that one what is below
    ``number``; 0: where to begin in it was not looked for.
    """

    kind: str = "replay"
    binding: int  # its entity
    archive: int  # the stream's
    filter: str
    target: Target
    policy: ReplayPolicy  # with the end that was meant
    user: str
    created_ms: int
    state: ReplayState = "running"
    error: str = ""
    shard: int = 0
    number: int = 0
    examined: int = 0
    replayed: int = 0
    refused: int = 0
    id: int = 0


class ReplayStore:
    """All replays.

    Attributes:
        by_id: by entity, in the order in which they began.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, ReplayDefinition] = {}

    def define(self, id: int, definition: ReplayDefinition) -> None:
        """Apply: the replay is there, and so far."""
        self.by_id[id] = definition

    def undefine(self, id: int) -> None:
        """Apply: nobody speaks of it any more."""
        self.by_id.pop(id, None)

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """All definitions, a few in each section."""
        ids = list(self.by_id)
        for begin in range(0, len(ids), _SECTION_REPLAYS):
            some = [id for id in ids[begin : begin + _SECTION_REPLAYS] if id in self.by_id]
            found = [msgspec.structs.replace(self.by_id[id], id=id) for id in some]
            yield REPLAYS, msgspec.msgpack.encode(found)

    def load(self, content: bytes) -> None:
        """Take back a section."""
        for definition in msgspec.msgpack.decode(content, type=list[ReplayDefinition]):
            self.define(definition.id, definition)

"""What the log says of a view: its settings, its stream, and its lanes.

Pure: which lanes a view begins with, and which it has when its stream was resharded. Every
definition names all lanes. The code of a lane that is gone is used again only by a shard whose
numbers are all behind those that were in it, so no sequence ever names two records.
"""

from collections.abc import Collection

import msgspec

from ..storage.cold import ColdFile
from .settings import QueueSettings
from .shard import Shard
from .stream import Stream
from .viewlane import CODES_MAX

__all__ = ["ViewDefinition", "ViewShard", "first_definition", "reshaped"]


class ViewShard(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A lane: its code, the shard's entity, and the number where it begins."""

    code: int
    shard: int
    start: int


class ViewDefinition(msgspec.Struct, kw_only=True):
    """The content of a view's DEFINITION record and of its QUEUE section.

    Attributes:
        stream: its entity. shards: all lanes. spent: the codes of lanes that are gone, each with
            the number from which on it may be used again. next_code: was never used.
        lanes: in a checkpoint: ``next`` of each lane, by code.
    """

    kind: str = "view"
    name: str
    settings: QueueSettings
    created_ms: int
    stream: int
    shards: list[ViewShard]
    spent: dict[int, int] = {}
    next_code: int
    id: int = 0
    lanes: dict[int, int] = {}


def first_definition(
    name: str, settings: QueueSettings, stream: Stream, now_ms: int
) -> ViewDefinition:
    """A view that begins now.

    One that begins at a time begins earlier in a shard whose file has yet to be searched.
    """
    settings = msgspec.structs.replace(settings, durability=stream.settings.durability)
    shards = [
        ViewShard(code, shard.id, _start(shard, settings, now_ms))
        for code, shard in enumerate(sorted(stream.shards.values(), key=_index)[:CODES_MAX])
    ]
    return ViewDefinition(
        name=name,
        settings=settings,
        created_ms=now_ms,
        stream=stream.id,
        shards=shards,
        next_code=len(shards),
    )


def _start(shard: Shard, settings: QueueSettings, now_ms: int) -> int:
    if settings.start == "latest":
        return shard.next
    if settings.start == "earliest":
        return shard.first
    found = shard.number_at(min(settings.start_ms, now_ms))
    return max(found.first, shard.first) if isinstance(found, ColdFile) else found


def reshaped(
    definition: ViewDefinition, stream: Stream, gone: Collection[Shard]
) -> ViewDefinition | None:
    """The view with a lane for each shard of its stream, without those of shards that are gone.

    None when that is what it is. There are at most ``CODES_MAX`` lanes: shards beyond wait until
    older ones are gone.
    """
    ends = {shard.id: shard.next for shard in gone}
    shards = [each for each in definition.shards if each.shard not in ends]
    spent = dict(definition.spent)
    spent.update((each.code, ends[each.shard]) for each in definition.shards if each.shard in ends)
    known = {each.shard for each in shards}
    next_code = definition.next_code
    for shard in sorted(stream.shards.values(), key=_index):
        if shard.id in known:
            continue
        start = shard.definition.start
        code = next((code for code, end in spent.items() if end <= start), next_code)
        if code == CODES_MAX:
            break
        spent.pop(code, None)
        next_code = max(next_code, code + 1)
        shards.append(ViewShard(code, shard.id, start))
    if shards == definition.shards:
        return None
    return msgspec.structs.replace(definition, shards=shards, spent=spent, next_code=next_code)


def _index(shard: Shard) -> int:
    return shard.index

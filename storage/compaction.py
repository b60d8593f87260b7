"""Compaction: copy what is still needed out of a mostly dead segment, so that it can go.

The copy is an ordinary record with the flag MOVED, appended like any other; the broker points its
places at it, which releases the old one. When the copy is durable, and nothing needs the segment
any more, the next checkpoint unlinks it. A crash at any moment leaves one copy that counts.

Rules:

- Only sealed, durable segments, and each once: what the broker does not name is left alone.
- Small steps: at most ``_STEP_RECORDS`` or ``_STEP_BYTES`` at a time, then the owner goes on.
- A reference may die between being named and being moved. The broker notices when it applies the
  copy: what no longer holds the old LSN does not take the new one, and releases it.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from typing import Protocol

from .checkpoint import Task
from .log import Extent, Job, Reference, Replay
from .record import (
    LINK,
    MESSAGE,
    decode_link,
    decode_message,
    encode_moved_link,
    encode_moved_message,
    record_type,
)
from .segment import Segment

__all__ = ["compact_segment", "worth_compacting"]

_STEP_RECORDS = 64
_STEP_BYTES = 256 * 1024


class _Target(Protocol):
    """The part of a log that compaction uses."""

    def append(self, parts: Sequence[bytes], references: int = 0) -> int: ...

    def get(self, lsn: int) -> Extent | None: ...

    def reading(self, lsn: int) -> Callable[[], Extent]: ...


def worth_compacting(
    segments: Sequence[Segment], durable_lsn: int, tried: Collection[int]
) -> Segment | None:
    """The segment with the smallest part alive, when that is under half; never the active one."""
    best: Segment | None = None
    for segment in segments[:-1]:
        if segment.live <= 0 or segment.live * 2 >= segment.total:
            continue
        if segment.end > durable_lsn or segment.base in tried:
            continue
        if best is None or segment.live * best.total < best.live * segment.total:
            best = segment
    return best


def compact_segment(log: _Target, replay: Replay, segment: Segment) -> Generator[Job, None, int]:
    """Move what ``replay`` still needs of ``segment``; return how many bytes that was."""
    wanted: dict[int, list[Reference]] = {}
    for references in replay.references(segment.base, segment.end):
        for reference in references:
            assert segment.base < reference.lsn < segment.end
            wanted.setdefault(reference.lsn, []).append(reference)
        yield None
    moved = step_records = step_bytes = 0
    extent: Extent | None = None
    for lsn in sorted(wanted):
        if extent is None or not extent.start <= lsn < extent.end:
            extent = log.get(lsn)
        if extent is None:
            task = Task(log.reading(lsn))
            yield task
            extent = task.result()
        size = _move(log, replay, extent, lsn, wanted[lsn])
        moved += size
        step_records += 1
        step_bytes += size
        if step_records >= _STEP_RECORDS or step_bytes >= _STEP_BYTES:
            step_records = step_bytes = 0
            yield None
    return moved


def _move(
    log: _Target, replay: Replay, extent: Extent, lsn: int, references: list[Reference]
) -> int:
    at = lsn - extent.start
    kind = record_type(extent.buffer, at)
    parts: tuple[bytes, ...]
    if kind == MESSAGE:
        targets = [(reference.entity, reference.seq) for reference in references]
        parts = encode_moved_message(decode_message(extent.buffer, at, lsn), targets)
        count = len(targets)
    else:
        assert kind == LINK, f"lsn {lsn}: a record of type {kind} has no references"
        parts = (encode_moved_link(decode_link(extent.buffer, at, lsn)),)
        count = len(references)
    buffer = b"".join(parts)
    new_lsn = log.append((buffer,), references=count)
    replay.apply(new_lsn, kind, buffer, 0)
    return len(buffer)

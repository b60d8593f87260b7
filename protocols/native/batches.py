"""How the client puts batches into frames, and reads the answers. Pure functions.

One request per frame, and a frame has a limit: a batch may take several, and a message that fits
into none is answered here, without asking the broker.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ...broker.errors import BraidError, TooLarge, error_from_code
from ...broker.limits import Limits
from ...broker.message import PRIORITY_DEFAULT, Outgoing, Receipt, Sent
from ...broker.publishing import Posted
from .operations import PublishedReply, SentReply, SettledReply, Welcome

__all__ = [
    "ENVELOPE_BYTES",
    "RECEIPTS_PER_FRAME",
    "limits_told",
    "message_fields",
    "note_published",
    "note_sent",
    "posted_fields",
    "settled",
    "split_messages",
    "split_posted",
    "split_receipts",
]

ENVELOPE_BYTES = 1024  # what a SEND takes beside its messages, at most
RECEIPTS_PER_FRAME = 10_000
_FIELDS_BYTES = 64  # what a message takes beside its texts and bytes, at most


def limits_told(welcome: Welcome) -> Limits:
    """The broker's limits, as far as its WELCOME told them."""
    told = {f"{name}_max": value for name, value in welcome.limits.items()}
    known = {name: told[name] for name in Limits.__struct_fields__ if name in told}
    return msgspec.structs.replace(Limits(), **known)


def message_fields(m: Outgoing) -> tuple[object, ...]:
    """A message as it goes into a SEND, without what has its usual value anyway."""
    if m.delay_ms < 0 and not m.ttl_ms and m.priority == PRIORITY_DEFAULT and not m.group:
        if not m.dedup_id:
            return (m.body, m.attributes) if m.attributes else (m.body,)
    return m.body, m.attributes, m.delay_ms, m.ttl_ms, m.priority, m.group, m.dedup_id


def split_messages(
    messages: Sequence[Outgoing], limits: Limits
) -> tuple[list[Sequence[int]], list[Sent | BraidError | None]]:
    """Which messages go into which frame, and the results so far: errors of the misfits."""
    results: list[Sent | BraidError | None] = [None] * len(messages)
    texts = [4 * (len(message.group) + len(message.dedup_id)) for message in messages]
    return _split(messages, texts, results, limits, 0), results


def split_posted(
    topic: str, messages: Sequence[Posted], limits: Limits
) -> tuple[list[Sequence[int]], list[int | BraidError | None]]:
    """The same for messages to a topic."""
    results: list[int | BraidError | None] = [None] * len(messages)
    texts = [0] * len(messages)
    return _split(messages, texts, results, limits, 4 * len(topic)), results


def _split(
    messages: Sequence[Outgoing | Posted],
    texts: list[int],
    results: list[Any],
    limits: Limits,
    head_bytes: int,
) -> list[Sequence[int]]:
    room = limits.frame_bytes_max - ENVELOPE_BYTES - head_bytes
    batches: list[Sequence[int]] = []
    batch: list[int] = []
    size = 0
    for index, message in enumerate(messages):
        length = len(message.body) + len(message.attributes) + _FIELDS_BYTES + texts[index]
        if len(message.body) > limits.body_bytes_max or length > room:
            results[index] = TooLarge(f"a body has at most {limits.body_bytes_max} bytes")
            continue
        size += length
        if not batch or size > room or len(batch) >= limits.batch_messages_max:
            batch = []
            batches.append(batch)
            size = length
        batch.append(index)
    return batches


def posted_fields(m: Posted) -> tuple[object, ...]:
    """A message as it goes into a PUBLISH, without what has its usual value anyway."""
    if m.retain or m.ttl_ms:
        return m.body, m.attributes, m.retain, m.ttl_ms
    return (m.body, m.attributes) if m.attributes else (m.body,)


def note_published(
    results: list[int | BraidError | None], batch: Sequence[int], reply: PublishedReply
) -> None:
    """Put a reply's results where they belong."""
    for index, count in zip(batch, reply.results, strict=True):
        results[index] = count
    for error in reply.errors:
        results[batch[error.index]] = error_from_code(error.code, error.text)


def note_sent(
    results: list[Sent | BraidError | None], batch: Sequence[int], reply: SentReply
) -> None:
    """Put a reply's results where they belong."""
    for index, sent in zip(batch, reply.results, strict=True):
        results[index] = sent
    for error in reply.errors:
        results[batch[error.index]] = error_from_code(error.code, error.text)


def split_receipts(receipts: Sequence[Receipt]) -> list[Sequence[Receipt]]:
    """Receipts by frame."""
    return [
        receipts[at : at + RECEIPTS_PER_FRAME] for at in range(0, len(receipts), RECEIPTS_PER_FRAME)
    ]


def settled(count: int, reply: SettledReply) -> list[BraidError | None]:
    """One result for each of ``count`` receipts."""
    results: list[BraidError | None] = [None] * count
    for error in reply.errors:
        results[error.index] = error_from_code(error.code, error.text)
    return results

"""A run of messages for one queue that differ in nothing but their bodies: taken in one go.

What each of them would be asked is asked once, and their records are encoded together and appended
as one buffer (``storage/runs.py``). Only what cannot be refused, or make others go, is taken so.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ..storage.log import RUN_BYTES_MAX
from ..storage.runs import encode_message_run
from .errors import BraidError
from .intake import check_for_standard
from .message import Outgoing, Sent
from .state import lane_code

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["RUN_MESSAGES_MIN", "Taken", "send_alike", "send_run"]

RUN_MESSAGES_MIN: Final = 5  # fewer are quicker one by one
_RECORD_BYTES_MAX: Final = 64  # of a record: what it has besides headers and body, at most


class Taken(msgspec.Struct, gc=False):
    """Messages that were taken: sequences rise by one, ids (see ``Sent``) by ``step``."""

    seq: int
    id: int
    step: int
    count: int


def send_run(queue: "Queue", like: Outgoing, bodies: Sequence[bytes], now_ms: int) -> list[Taken]:
    """Take a message that is like ``like`` for each body; nothing: they go one by one.

    They do when they are of several sizes or too large, when messages are delayed, and where the
    queue has a limit, groups or deduplication.
    """
    settings = queue.settings
    body_bytes = len(bodies[0])
    delay_ms = like.delay_ms if like.delay_ms >= 0 else settings.delay_ms
    if (
        not queue.takes_runs
        or len(bodies) < RUN_MESSAGES_MIN
        or delay_ms
        or settings.messages_max
        or settings.bytes_max
        or len(set(map(len, bodies))) > 1
    ):
        return []
    if len(like.body) != body_bytes:
        like = msgspec.structs.replace(like, body=bodies[0])
    try:
        attributes = check_for_standard(like, queue.host.limits, queue.affinity is not None)
    except BraidError:
        return []  # whoever takes them one by one says so of each
    size = body_bytes + len(attributes)
    fits = RUN_BYTES_MAX // (size + _RECORD_BYTES_MAX)
    if fits < RUN_MESSAGES_MIN:
        return []
    ttl_ms = like.ttl_ms or settings.ttl_ms
    expire_ms = now_ms + ttl_ms if ttl_ms else 0
    lane = queue.lane(lane_code(like.priority))
    taken: list[Taken] = []
    for at in range(0, len(bodies), fits):
        part = bodies[at : at + fits]
        seq = lane.base | lane.next
        records, step = encode_message_run([(queue.id, seq)], now_ms, attributes, part, expire_ms)
        lsn = queue.log.append_run(records, len(part), 1)
        queue.put_run(seq, lsn, step, len(part), size, expire_ms)
        taken.append(Taken(seq, lsn, step, len(part)))
    queue.counters.sent += len(bodies)
    queue.took(len(bodies), now_ms)
    return taken


def send_alike(
    queue: "Queue", messages: Sequence[Outgoing], now_ms: int
) -> list[Sent | BraidError]:
    """What ``Queue.send`` returns for messages that are a run; nothing: they go one by one."""
    if len(messages) < RUN_MESSAGES_MIN or not queue.takes_runs:
        return []
    first = messages[0]
    attributes, size = first.attributes, len(first.body)
    for m in messages:
        if m.attributes != attributes or len(m.body) != size:
            return []  # as most of those that are no run
    if len({(m.delay_ms, m.ttl_ms, m.priority, m.group, m.dedup_id) for m in messages}) > 1:
        return []
    return [
        Sent(part.id + n * part.step, part.seq + n)
        for part in send_run(queue, first, [m.body for m in messages], now_ms)
        for n in range(part.count)
    ]

"""Letters: one message on its way into many queues, as few records and one frame.

Queues that take a message alike (the same headers and body, due and expiring at the same times, in
the same group) are targets of one record, so its body is stored once for all of them. Where they
differ, there is a letter for each kind. All letters of a message go into the log together: all of
its queues have it after a crash, or none.
"""

from collections.abc import Sequence

from ..storage.log import Log
from ..storage.record import encode_message, encode_plain_message
from .errors import TooLarge
from .fifo import FifoQueue
from .queue import Queue
from .shard import Shard

__all__ = ["RECORD_BYTES", "TARGETS_MAX", "TARGET_BYTES", "Letter", "post", "post_in_turn"]

TARGETS_MAX = 32_768  # queues in one record, which has room for twice as many

RECORD_BYTES = 96  # of one, at most, besides targets, headers and body
TARGET_BYTES = 12

Target = tuple[int, int]  # entity, sequence


class Letter:
    """What some queues get alike.

    Attributes:
        queues, shards: who they are, all of one log.
        more: targets that only the record knows, of which ``references`` will be released one day.
        lsn: where the record with these stands, once it was posted.
    """

    __slots__ = (
        "attributes",
        "body",
        "dedup",
        "due_ms",
        "expire_ms",
        "group",
        "lsn",
        "more",
        "queues",
        "references",
        "shards",
    )

    def __init__(
        self,
        attributes: bytes,
        body: bytes,
        due_ms: int = 0,
        expire_ms: int = 0,
        group: int = 0,
        dedup: bytes = b"",
    ) -> None:
        self.attributes = attributes
        self.body = body
        self.due_ms = due_ms
        self.expire_ms = expire_ms
        self.group = group
        self.dedup = dedup
        self.queues: list[Queue] = []
        self.shards: list[Shard] = []
        self.more: list[Target] = []
        self.references = 0
        self.lsn = 0

    @property
    def size(self) -> int:
        """About what its records take in the log."""
        records = 1 + len(self.queues) // TARGETS_MAX
        return records * self.content + TARGET_BYTES * len(self.queues)

    @property
    def content(self) -> int:
        """The same of one record, without its targets."""
        return RECORD_BYTES + len(self.attributes) + len(self.body)

    def encode(self, targets: Sequence[Target], now_ms: int) -> tuple[bytes, bytes]:
        """A record for some of its targets."""
        if len(targets) == 1 and not (self.due_ms or self.expire_ms or self.group or self.dedup):
            entity, seq = targets[0]
            return encode_plain_message(entity, seq, now_ms, self.attributes, self.body)
        return encode_message(
            targets,
            now_ms,
            self.attributes,
            self.body,
            self.due_ms,
            self.expire_ms,
            self.group,
            self.dedup,
        )


class _Sheet:
    """One record of a letter: for all of its queues, or for as many as a record has room for."""

    __slots__ = ("letter", "queues", "record", "references", "shards", "targets")

    def __init__(
        self, letter: Letter, queues: Sequence[Queue], is_first: bool, now_ms: int, ahead: int = 0
    ) -> None:
        """``ahead``: how many letters go to the same target before this one."""
        self.letter = letter
        self.queues = queues
        self.shards = letter.shards if is_first else ()
        self.targets = [(queue.id, queue.lane(0).next + ahead) for queue in queues]
        self.targets += [(shard.id, shard.next + ahead) for shard in self.shards]
        self.references = len(self.targets)
        if is_first:
            self.references += letter.references
            self.targets += letter.more
        self.record = letter.encode(self.targets, now_ms)

    def apply(self, lsn: int, now_ms: int) -> None:
        """Put the message, whose record stands at ``lsn``, where it belongs."""
        letter = self.letter
        letter.lsn = letter.lsn or lsn
        due_ms, expire_ms = letter.due_ms, letter.expire_ms
        group, dedup = letter.group, letter.dedup
        size = len(letter.attributes) + len(letter.body)
        for queue, (_, seq) in zip(self.queues, self.targets, strict=False):
            queue.put(seq, lsn, size, due_ms, expire_ms, group)
            queue.counters.sent += 1
            if dedup and isinstance(queue, FifoQueue):
                queue.remember(dedup, now_ms, lsn, seq)
        length = sum(map(len, self.record))
        for shard in self.shards:
            shard.put(shard.next, 1, lsn, length, now_ms)


def post(log: Log, letters: Sequence[Letter], now_ms: int, bytes_max: int) -> None:
    """Append letters, all or none, and apply them. No queue and no shard is in two of them.

    Raises:
        TooLarge: several letters would take more than ``bytes_max``. Nothing happened.
    """
    if len(letters) > 1 and (size := sum(letter.size for letter in letters)) > bytes_max:
        raise TooLarge(
            f"{size} bytes to write for one message, at most {bytes_max}: its targets differ in"
            " delays, times to live, groups or envelopes"
        )
    sheets = [
        _Sheet(letter, letter.queues[at : at + TARGETS_MAX], not at, now_ms)
        for letter in letters
        for at in range(0, max(len(letter.queues), 1), TARGETS_MAX)
    ]
    if len(sheets) == 1:
        lsns = [log.append(sheets[0].record, sheets[0].references)]
    else:
        records = [b"".join(sheet.record) for sheet in sheets]
        lsns = log.append_together(records, [sheet.references for sheet in sheets])
    for sheet, lsn in zip(sheets, lsns, strict=True):
        sheet.apply(lsn, now_ms)


def post_in_turn(log: Log, letters: Sequence[Letter], more: Sequence[bytes], now_ms: int) -> None:
    """Append letters of one target each, in this order, and ``more`` records: all or none."""
    ahead: dict[Queue | Shard, int] = {}
    sheets: list[_Sheet] = []
    for letter in letters:
        target: Queue | Shard = letter.queues[0] if letter.queues else letter.shards[0]
        before = ahead.get(target, 0)
        ahead[target] = before + 1
        sheets.append(_Sheet(letter, letter.queues, True, now_ms, before))
    records = [*(b"".join(sheet.record) for sheet in sheets), *more]
    lsns = log.append_together(records, [1] * len(sheets) + [0] * len(more))
    for sheet, lsn in zip(sheets, lsns, strict=False):
        sheet.apply(lsn, now_ms)

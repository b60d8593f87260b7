"""Retained messages: the last message of each topic that was published to be kept.

Each topic that has one gets a number, which is its sequence under one fixed entity in the log. The
bodies stay in the log; here are only the position, the size and the end of each, in arrays, and
the topics in a tree. Records are absolute ("this number is this topic's message, at this place"),
so the last one wins when they are replayed, whatever a checkpoint already held.

A checkpoint holds them as sections::

    RETAINED   MessagePack: list of [number, topic, lsn, size, expire_ms]
"""

from array import array
from collections.abc import Callable, Iterator

import msgspec

from ..storage.errors import StorageError
from ..storage.log import Durability, Log, Reference
from ..storage.record import MESSAGE, MessageContent
from .errors import LimitExceeded
from .index import LSN_MASK
from .limits import Limits
from .reader import Reader
from .topictree import TopicTree
from .wheel import Wheel

__all__ = ["RETAINED", "RETAINED_ENTITY", "RetainedSearch", "RetainedStore", "end_ms"]

RETAINED = 6  # section kind; the others stand in state.py
RETAINED_ENTITY = 0xFFFF_FFFF  # on disk
_SECTION_TOPICS = 256
_SEARCH_TOPICS = 64  # looked at in one go
_SEARCH_BYTES = 8 * 1024 * 1024  # found in one go
_EXPIRIES = 1_000  # handled in one go
_DEADLINES_STALE = 1_024  # tolerated in the wheel

_Row = tuple[int, str, int, int, int]
_END = ("", -1)  # of a search


def end_ms(time_ms: int, expire_ms: int, lifetime_ms: int) -> int:
    """When a message of ``time_ms`` is retained no longer: by its own end, or by the limit."""
    if not lifetime_ms:
        return expire_ms
    return min(expire_ms or time_ms + lifetime_ms, time_ms + lifetime_ms)


class RetainedStore:
    """The retained messages, by topic. Bodies are read back from the log.

    Attributes:
        bytes: of bodies and headers in all. expiring: when they end, by number.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.tree = TopicTree()
        self.bytes = 0
        self.expiring = Wheel()
        # By number; a number whose LSN is 0 is free.
        self._topics: list[str] = []
        self._lsns = array("Q")
        self._sizes = array("Q")
        self._expire_ms = array("Q")
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.tree)

    # Apply ------------------------------------------------------------------------------------

    def put(self, number: int, topic: str, lsn: int, size: int, expire_ms: int) -> int:
        """The number stands for ``topic``, whose message is at ``lsn``. The LSN it had, or 0."""
        while len(self._lsns) <= number:
            if len(self._lsns) < number:  # only while replaying
                self._free.append(len(self._lsns))
            self._topics.append("")
            for column in (self._lsns, self._sizes, self._expire_ms):
                column.append(0)
        old = self._lsns[number]
        if self._free and self._free[-1] == number:
            self._free.pop()
        if old and self._topics[number] != topic:  # only while replaying
            self.tree.remove(self._topics[number])
        self.bytes += size - self._sizes[number]
        self._topics[number] = topic
        self._lsns[number] = lsn
        self._sizes[number] = size
        self._expire_ms[number] = expire_ms
        other = self.tree.set(topic, number)
        if other is not None and other != number:  # only while replaying
            self._vacate(other)
        if expire_ms:
            self.expiring.add(expire_ms, number)
            if len(self.expiring) > 2 * len(self.tree) + _DEADLINES_STALE:
                self._renew_deadlines()
        return old

    def _renew_deadlines(self) -> None:
        """Forget the deadlines of messages that were replaced."""
        self.expiring = Wheel()
        for number, expire_ms in enumerate(self._expire_ms):
            if expire_ms:
                self.expiring.add(expire_ms, number)

    def remove(self, number: int) -> int:
        """The number is free. The LSN it had, or 0."""
        if number >= len(self._lsns) or not self._lsns[number]:
            return 0
        lsn = self._lsns[number]
        if self.tree.get(self._topics[number]) == number:
            self.tree.remove(self._topics[number])
        self._vacate(number)
        return lsn

    def _vacate(self, number: int) -> None:
        self.bytes -= self._sizes[number]
        self._topics[number] = ""
        self._lsns[number] = self._sizes[number] = self._expire_ms[number] = 0
        self._free.append(number)

    def move(self, number: int, old_lsn: int, new_lsn: int) -> bool:
        """The record at ``old_lsn`` was copied; False if it is not needed here."""
        if number >= len(self._lsns) or self._lsns[number] != old_lsn:
            return False
        self._lsns[number] = new_lsn
        return True

    # Decide -----------------------------------------------------------------------------------

    def number_for(self, topic: str, size: int, limits: Limits) -> int:
        """The number that a message of ``size`` bytes for ``topic`` gets.

        Raises:
            LimitExceeded: there are too many, or they are too large in all.
        """
        number = self.tree.get(topic)
        if size > limits.retained_message_bytes_max:
            raise LimitExceeded(
                f"a retained message has at most {limits.retained_message_bytes_max} bytes"
            )
        before = 0 if number is None else self._sizes[number]
        if self.bytes - before + size > limits.retained_bytes_max:
            raise LimitExceeded(f"{self.bytes} bytes of messages are retained")
        if number is not None:
            return number
        if len(self.tree) >= limits.retained_messages_max:
            raise LimitExceeded(f"{len(self.tree)} messages are retained, as many as may")
        while self._free and self._lsns[self._free[-1]]:
            self._free.pop()  # taken while replaying
        return self._free[-1] if self._free else len(self._lsns)  # it is taken by :meth:`put`

    def due(self, now_ms: int) -> list[int]:
        """Numbers whose messages have outlived their time; some at a time."""
        return [
            number
            for due_ms, number in self.expiring.due(now_ms, _EXPIRIES)
            if number < len(self._lsns) and self._expire_ms[number] == due_ms
        ]

    def lsn(self, number: int) -> int:
        """Where a number's message stands; 0 when it has none."""
        return self._lsns[number] if number < len(self._lsns) else 0

    def size(self, number: int) -> int:
        """Of a number's message: body and headers, in bytes."""
        return self._sizes[number]

    def expire_ms(self, number: int) -> int:
        """When a number's message ends, unix ms; 0: never."""
        return self._expire_ms[number]

    # Checkpoint and recovery ------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """All of it, as sections."""
        for first in range(0, len(self._lsns), _SECTION_TOPICS):
            rows: list[_Row] = [
                (
                    number,
                    self._topics[number],
                    self._lsns[number],
                    self._sizes[number],
                    self._expire_ms[number],
                )
                for number in range(first, min(first + _SECTION_TOPICS, len(self._lsns)))
                if self._lsns[number]
            ]
            if rows:
                yield RETAINED, msgspec.msgpack.encode(rows)

    def load(self, content: bytes) -> None:
        """Take back a section."""
        for row in msgspec.msgpack.decode(content, type=list[_Row]):
            self.put(*row)

    def finish_replay(self) -> "array[int]":
        """Everything is applied: every LSN that is still needed."""
        self._free = [number for number, lsn in enumerate(self._lsns) if not lsn]
        return array("Q", [lsn for lsn in self._lsns if lsn])

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        """Which records with first <= lsn < end are needed."""
        first = max(first, 1)
        for start in range(0, len(self._lsns), 1024):
            yield [
                Reference(lsn, MESSAGE, RETAINED_ENTITY, start + at)
                for at, lsn in enumerate(self._lsns[start : start + 1024])
                if first <= lsn < end
            ]


Found = tuple[str, int, MessageContent]  # topic, LSN, message


class RetainedSearch:
    """The retained messages whose topics match a filter, a few at a time.

    The owner calls :meth:`take` when it can use more. Messages that are not in memory are read;
    ``more`` is called when it is worth asking again.
    """

    __slots__ = (
        "_allowed",
        "_more",
        "_now",
        "_now_lsn",
        "_reader",
        "_steps",
        "_store",
        "_waiting",
        "done",
    )

    def __init__(
        self,
        store: RetainedStore,
        filter: str,
        allowed: Callable[[str], bool],
        more: Callable[[], None],
    ) -> None:
        self._store = store
        self._steps = store.tree.steps(filter)
        self._allowed = allowed
        self._more = more
        self._reader = Reader(store.log, self._loaded)
        self._now: tuple[str, int] | None = None  # the one that is being read
        self._now_lsn = 0  # ... and from where
        self._waiting = False  # ... or is not kept yet
        self.done = False

    @property
    def loading(self) -> bool:
        """Whether a message is being read; ``more`` will be called."""
        return self._waiting or self._reader.loading

    def take(self, most: int, now_ms: int, bytes_max: int = _SEARCH_BYTES) -> list[Found]:
        """Up to ``most`` messages of about ``bytes_max``; one may be more.

        Fewer, even none, while ``done`` is false: ask again later.
        """
        found: list[Found] = []
        size = 0
        store = self._store
        for _ in range(_SEARCH_TOPICS):
            if len(found) >= most or size >= bytes_max or self.loading or self.done:
                break
            match, was_found_before = self._now, self._now is not None
            self._now = None
            if match is None:
                match = next(self._steps, _END)
            if match is None:
                break  # it has looked at much and found nothing
            if match is _END:
                self.done = True
                break
            topic, number = match
            lsn = store.lsn(number)
            if was_found_before and store.tree.get(topic) != number:
                continue
            if not lsn or not self._allowed(topic):
                continue
            if lsn >= store.log.durable_lsn:  # what may still vanish is shown to nobody
                self._now = match
                self._waiting = True
                store.log.wait(Durability.SYNC, self._kept, None)
                break
            message = self._reader.read(lsn & LSN_MASK)
            if message is None:
                self._now, self._now_lsn = match, lsn
                break
            message.expire_ms = store.expire_ms(number)
            if not 0 < message.expire_ms <= now_ms:
                found.append((topic, lsn, message))
                size += len(message.body)
        self._reader.rest()
        return found

    def _kept(self, argument: object, error: StorageError | None) -> None:
        self._waiting = False
        self.done = error is not None  # the log has failed: nothing will be kept any more
        self._more()

    def _loaded(self, error: StorageError | None) -> None:
        if error is not None and self._now is not None:
            # Somewhere else by now? Compaction may have moved it and removed what was read.
            if self._store.lsn(self._now[1]) == self._now_lsn:
                self._now = None  # it cannot be read; the others can
        self._more()

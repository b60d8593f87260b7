"""What a queue is: its messages, and every way they change.

``put``, ``put_linked``, ``remove``, ``note_receives``, ``hold``, ``move`` and ``purge`` are the
*apply* side of the broker: a live queue calls them right after it appended the record that says
so, recovery calls them when it reads that record. Each is an absolute statement, so a record that
is replayed over a checkpoint that already contains it changes nothing.

A checkpoint holds a queue as sections::

    QUEUE   MessagePack: id, name, settings, created_ms, lanes {code: next number}
    PAGE    u32 queue, u8 lane, u8 parts, u16 slots, u64 page; then the parts' arrays
    COUNTS  u32 queue, u32 0; then (u64 sequence, u64 receives) of the leased messages
    WHEEL   u32 queue, u32 which (0 delayed, 1 expiring), u64 bucket; then the bucket
    DEDUP   u32 queue, u32 0; then the window's entries
"""

from array import array
from collections.abc import Iterator
from struct import Struct
from typing import Any

import msgspec

from ..storage.log import Durability, Log, Reference
from ..storage.record import LINK, MESSAGE
from .dedup import DedupWindow
from .index import FLAGS, HELD, LEASED, LSN_MASK, PAGE_BITS, Lane, Page
from .lease import LeaseTable
from .limits import PRIORITY_MAX
from .message import PRIORITY_DEFAULT
from .settings import QueueSettings
from .wheel import Wheel

__all__ = [
    "COUNTS",
    "DEDUP",
    "LANE_SHIFT",
    "NUMBER_MASK",
    "PAGE",
    "QUEUE",
    "WHEEL",
    "QueueState",
    "lane_code",
    "lane_priority",
]

# Section kinds. Numbers are on disk.
QUEUE, PAGE, COUNTS, WHEEL, DEDUP = 1, 2, 3, 4, 5

LANE_SHIFT = 48
NUMBER_MASK = (1 << LANE_SHIFT) - 1
_DEADLINES_STALE = 1_024  # tolerated in a wheel
_COPIES_MAX = 10_000  # known of a queue at one time
_PAGE = Struct("<IBBHQ")
_SECTION = Struct("<IIQ")
_PAIR = Struct("<QQ")
_GROUPS, _COUNTS, _LINKS = 1, 2, 4  # which parts a page has besides its slots


def lane_code(priority: int) -> int:
    """The lane of a priority; the default priority has lane 0, so its sequences count from 1."""
    return (priority - PRIORITY_DEFAULT) % (PRIORITY_MAX + 1)


def lane_priority(seq: int) -> int:
    """The priority that a sequence number belongs to."""
    return ((seq >> LANE_SHIFT) + PRIORITY_DEFAULT) % (PRIORITY_MAX + 1)


class QueueState:
    """The messages of one queue. Knows no consumer and no clock.

    Attributes:
        copies: where compaction has put copies that may not be as durable yet as their originals,
            which are there as long as that is so.
    """

    fifo = False
    is_told = True  # of all that is put into it; False: it has to look, as a view does
    kind = "queue"  # or "session", "share": see registry.py

    def __init__(
        self, id: int, name: str, settings: QueueSettings, log: Log, created_ms: int
    ) -> None:
        self.id = id
        self.name = name
        self.settings = settings
        self.log = log
        self.created_ms = created_ms
        self.logged = settings.durability is not Durability.MEMORY
        self.lanes: list[Lane] = []  # highest priority first
        self.by_code: dict[int, Lane] = {}
        self.delayed = Wheel()
        self.expiring = Wheel()
        self.held = 0  # messages with the flag HELD
        self.bytes = 0
        self.leases = LeaseTable()
        self.copies: set[int] = set()
        self.dedup: DedupWindow | None = None
        self._replay_holds: dict[int, int] | None = None  # while replaying: seq -> due, 0: none

    def configure(self, settings: QueueSettings) -> None:
        """Apply: it has these settings now."""
        self.settings = settings

    @property
    def live(self) -> int:
        """How many messages there are, whatever their state."""
        return sum(lane.live for lane in self.lanes)

    def lane(self, code: int) -> Lane:
        """The lane of a priority's code, made when it is first used."""
        lane = self.by_code.get(code)
        if lane is None:
            lane = self._add_lane(code, 1)
        return lane

    def _add_lane(self, code: int, next_number: int) -> Lane:
        lane = self.by_code[code] = Lane(code << LANE_SHIFT, self.fifo, next_number)
        self.lanes.append(lane)
        self.lanes.sort(key=lambda each: -lane_priority(each.base))
        return lane

    def locate(self, seq: int) -> tuple[Lane | None, int]:
        """The lane and number of a sequence; the lane is None when there is none such."""
        return self.by_code.get(seq >> LANE_SHIFT), seq & NUMBER_MASK

    def priority(self, seq: int) -> int:
        """The priority of a message."""
        return lane_priority(seq)

    def unread(self) -> int:
        """How many messages there are besides the ``live`` ones: a view's, in its stream."""
        return 0

    def sequences(self, after: int) -> Iterator[int]:
        """All sequences behind ``after`` that there are, in order; the queue may change meanwhile.

        Some may be gone when :meth:`shown` is asked for their slots.
        """
        for lane in sorted(self.lanes, key=lambda each: each.base):
            if after < lane.base + lane.next:
                for number in lane.live_numbers(max(after + 1 - lane.base, 0)):
                    yield lane.base | number

    def shown(self, seq: int) -> int:
        """The slot of a sequence, for somebody who looks on; 0 when the message is gone."""
        return self.slot(seq)

    def slot(self, seq: int) -> int:
        """The slot of a sequence, 0 when the message is gone."""
        lane = self.by_code.get(seq >> LANE_SHIFT)
        return lane.slot(seq & NUMBER_MASK) if lane is not None else 0

    # Apply ------------------------------------------------------------------------------------

    def put(self, seq: int, lsn: int, size: int, due_ms: int, expire_ms: int, group: int) -> None:
        """A message stands at ``lsn``. Nothing happens if it was put before."""
        lane = self.lane(seq >> LANE_SHIFT)
        number = seq & NUMBER_MASK
        if number < lane.next:
            return
        assert number == lane.next, "sequence numbers have no gaps"
        lane.append(lsn | HELD if due_ms else lsn, size, group)
        self.bytes += size
        if due_ms:
            self.held += 1
            self.delayed.add(due_ms, seq)
        if expire_ms:
            self.expiring.add(expire_ms, seq)

    def put_run(self, seq: int, lsn: int, step: int, count: int, size: int, expire_ms: int) -> None:
        """``count`` messages of one size stand ``step`` apart from ``lsn`` on; never put before."""
        lane = self.lane(seq >> LANE_SHIFT)
        assert seq & NUMBER_MASK == lane.next, "sequence numbers have no gaps"
        lane.append_run(lsn, step, count, size)
        self.bytes += count * size
        if expire_ms:
            for each in range(seq, seq + count):
                self.expiring.add(expire_ms, each)

    def put_linked(self, seq: int, lsn: int, size: int, group: int, link: int) -> None:
        """A message that stands at ``lsn`` came by the link at ``link``."""
        lane = self.lane(seq >> LANE_SHIFT)
        if seq & NUMBER_MASK < lane.next:
            return
        number = lane.append(lsn, size, group)
        self.bytes += size
        lane.set_link(number, link)

    def remove(self, seq: int, size: int = -1) -> tuple[int, int, int]:
        """A message is gone: (its slot, its link, its size), all 0 if it was gone before."""
        lane, number = self.locate(seq)
        if lane is None:
            return 0, 0, 0
        slot, link, size = lane.remove(number, size)
        self.bytes -= size
        if slot & HELD:
            self.held -= 1
        return slot, link, size

    def settle(self, seq: int, reason: int) -> None:
        """A message is gone, and why."""
        self.remove(seq)

    def note_receives(self, seq: int, count: int) -> None:
        """A message has been received ``count`` times."""
        lane, number = self.locate(seq)
        if lane is not None and lane.slot(number):
            lane.set_receives(number, count)
            if self._replay_holds is not None:
                self._replay_holds[seq] = 0

    def hold(self, seq: int, due_ms: int) -> None:
        """A message is not to be delivered before ``due_ms``."""
        lane, number = self.locate(seq)
        slot = lane.slot(number) if lane is not None else 0
        if lane is None or not slot:
            return
        if self._replay_holds is not None:
            self._replay_holds[seq] = due_ms
            return
        if not slot & HELD:
            self.held += 1
        lane.set_slot(number, slot | HELD)
        self.delayed.add(due_ms, seq)

    def move(self, seq: int, old_lsn: int, new_lsn: int) -> bool:
        """The record at ``old_lsn`` was copied to ``new_lsn``; False if it is not needed here."""
        lane, number = self.locate(seq)
        slot = lane.slot(number) if lane is not None else 0
        if lane is None or not slot:
            return False
        if slot & LSN_MASK == old_lsn:
            lane.set_slot(number, slot & FLAGS | new_lsn)
        elif lane.link(number) == old_lsn:
            lane.set_link(number, new_lsn)
        else:
            return False
        if self._replay_holds is None:
            if len(self.copies) >= _COPIES_MAX:
                self.copies.clear()  # they are delivered when they are kept
            self.copies.add(new_lsn)
        return True

    def is_copy(self, slot: int, link: int, frontier: int) -> bool:
        """Whether what a message has at or behind ``frontier`` are copies: it may be delivered."""
        copies = self.copies
        return (slot < frontier or slot in copies) and (link < frontier or link in copies)

    def purge(self, bounds: list[int]) -> list[Page]:
        """Everything below the bounds is gone. Returns the pages, to be released at leisure."""
        gone: list[Page] = []
        for bound in bounds:
            lane = self.by_code.get(bound >> LANE_SHIFT)
            if lane is not None:
                pages = lane.drop_below(bound & NUMBER_MASK)
                self.bytes -= sum(page.bytes for page in pages)
                gone.extend(pages)
        self.held = sum(
            1 for lane in self.lanes for page in lane.pages.values() for s in page.slots if s & HELD
        )
        if not self.live:
            self.delayed, self.expiring = Wheel(), Wheel()
        return gone

    def trim_wheels(self, added: int) -> None:
        """Drop deadlines of messages that are gone when most are; ``added`` messages came now.

        Messages that live for days are usually gone in seconds.
        """
        for wheel in (self.delayed, self.expiring):
            if len(wheel) > 2 * self.live + _DEADLINES_STALE:
                wheel.trim(self.slot, 4 * added + 16)

    # Recovery ---------------------------------------------------------------------------------

    def begin_replay(self) -> None:
        """Records will be applied that may already be part of what was loaded."""
        self._replay_holds = {}

    def finish_replay(self) -> None:
        """Everything is loaded and applied: settle which messages are held."""
        holds = self._replay_holds or {}
        self._replay_holds = None
        if holds:
            self.delayed = self.delayed.without(set(holds))
        self.held = 0
        for lane in self.lanes:
            for page in lane.pages.values():
                if max(page.slots) >= LEASED:
                    page.slots = array("Q", [slot & LSN_MASK for slot in page.slots])
        for _, seq in list(self.delayed.numbers()):
            lane, number = self.locate(seq)  # type: ignore[assignment]
            slot = lane.slot(number) if lane is not None else 0
            if lane is not None and slot and not slot & HELD:
                lane.set_slot(number, slot | HELD)
                self.held += 1
        for seq, due_ms in holds.items():
            if due_ms:
                self.hold(seq, due_ms)
        for lane in self.lanes:
            lane.cursor = lane.first_live(0)

    def lsns(self) -> Iterator["array[int]"]:
        """Every position that is still needed, once for each reference, page by page."""
        for lane in self.lanes:
            for page in lane.pages.values():
                yield array("Q", [slot & LSN_MASK for slot in page.slots if slot])
                if page.links is not None:
                    yield array(
                        "Q", [k for k, s in zip(page.links, page.slots, strict=False) if k and s]
                    )

    # Checkpoint -------------------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """The queue as sections. Pages that are full now may be yielded in a newer state."""
        sections = [(QUEUE, self._definition())]
        if not self.logged:
            yield from sections
            return
        full: list[tuple[Lane, int]] = []
        for lane in self.lanes:
            last = lane.next >> PAGE_BITS
            for index in lane.pages:
                if index == last:
                    sections.append((PAGE, self._page(lane, index)))
                else:
                    full.append((lane, index))
        leased = [
            _PAIR.pack(seq, lease.receives) for seq, lease in list(self.leases.by_seq.items())
        ]
        counts = _SECTION.pack(self.id, 0, 0) + b"".join(leased)
        wheels = (self.delayed.sections(), self.expiring.sections())
        for which, wheel in enumerate(wheels):
            for key, bucket in wheel:
                sections.append((WHEEL, _SECTION.pack(self.id, which, key) + bucket))
        yield from sections
        for content in self.dedup.sections() if self.dedup is not None else ():
            yield DEDUP, _SECTION.pack(self.id, 0, 0) + content
        for lane, index in full:
            if index in lane.pages:
                yield PAGE, self._page(lane, index)
        yield COUNTS, counts  # behind all pages: it is loaded into them

    def _definition(self) -> bytes:
        lanes = {code: lane.next for code, lane in self.by_code.items()} if self.logged else {}
        return msgspec.msgpack.encode(self.definition() | {"id": self.id, "lanes": lanes})

    def definition(self) -> dict[str, Any]:
        """What a DEFINITION record says of it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "settings": self.settings,
            "created_ms": self.created_ms,
        }

    def _page(self, lane: Lane, index: int) -> bytes:
        page = lane.pages[index]
        parts = 0
        content = [page.slots.tobytes()]
        if page.groups is not None:
            parts |= _GROUPS
            content.append(page.groups.tobytes())
        if page.counts is not None:
            parts |= _COUNTS
            content.append(page.counts.tobytes())
        if page.links is not None:
            parts |= _LINKS
            content.append(page.links.tobytes())
        head = _PAGE.pack(self.id, lane.base >> LANE_SHIFT, parts, len(page.slots), index)
        return b"".join((head, page.bytes.to_bytes(8, "little"), *content))

    def load_lanes(self, lanes: dict[int, int]) -> None:
        """Take back the lanes of a QUEUE section."""
        for code, next_number in lanes.items():
            self._add_lane(code, next_number)

    def load_page(self, content: bytes) -> None:
        """Take back a PAGE section."""
        _, code, parts, count, index = _PAGE.unpack_from(content)
        at = _PAGE.size
        lane = self.lane(code)
        page = Page(self.fifo)
        page.bytes = int.from_bytes(content[at : at + 8], "little")
        at += 8
        page.slots.frombytes(content[at : at + 8 * count])
        at += 8 * count
        if parts & _GROUPS:
            page.groups = array("Q", content[at : at + 8 * count])
            at += 8 * count
        if parts & _COUNTS:
            page.counts = array("H", content[at : at + 2048])
            at += 2048
        if parts & _LINKS:
            page.links = array("Q", content[at : at + 8192])
        page.live = count - page.slots.count(0)
        lane.live += page.live
        self.bytes += page.bytes
        if page.live or count < 1 << PAGE_BITS:
            lane.pages[index] = page

    def load_section(self, kind: int, content: bytes) -> None:
        """Take back a COUNTS, WHEEL or DEDUP section."""
        _, which, key = _SECTION.unpack_from(content)
        rest = content[_SECTION.size :]
        if kind == COUNTS:
            for seq, receives in _PAIR.iter_unpack(rest):
                lane, number = self.locate(seq)
                if lane is not None and lane.slot(number):
                    lane.set_receives(number, receives)
        elif kind == WHEEL:
            (self.expiring if which else self.delayed).load(key, rest)
        elif kind == DEDUP and self.dedup is not None:
            self.dedup.load(rest)

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        """Who needs a record with first <= lsn < end, some pages at a time."""
        first = max(first, 1)  # slots and links of 0 point nowhere
        for lane in self.lanes:
            for index in list(lane.pages):
                page = lane.pages.get(index)
                if page is None:
                    continue
                base = lane.base | index << PAGE_BITS
                found = [
                    Reference(slot & LSN_MASK, MESSAGE, self.id, base + at)
                    for at, slot in enumerate(page.slots)
                    if first <= slot & LSN_MASK < end
                ]
                if page.links is not None:
                    found += [
                        Reference(link, LINK, self.id, base + at)
                        for at, link in enumerate(page.links)
                        if first <= link < end and page.slots[at]
                    ]
                yield found

"""Where a queue's messages stand in the log: 8 bytes for each.

A lane is a run of sequence numbers; a queue has one lane for each priority in use. A lane's pages
hold one slot per sequence number: the message's LSN with two flags in its top bits, or 0 once it
is gone. Pages are appended at the end, and dropped as soon as nothing is left in them.

    slot   bit 63  HELD    not to be delivered yet (its time stands in the queue's wheel)
           bit 62  LEASED  somebody has it (the lease stands in the queue's dict)

A full page costs 8 bytes a message, 16 with groups (FIFO), and 2 or 8 more only where some of its
messages were received before or are dead letters.
"""

from array import array
from collections.abc import Iterator
from heapq import heappop

__all__ = [
    "FLAGS",
    "HELD",
    "LEASED",
    "LSN_MASK",
    "PAGE_BITS",
    "PAGE_MASK",
    "PAGE_SLOTS",
    "Lane",
    "Page",
]

HELD = 1 << 63
LEASED = 1 << 62
FLAGS = HELD | LEASED
LSN_MASK = LEASED - 1

PAGE_BITS = 10
PAGE_SLOTS = 1 << PAGE_BITS
PAGE_MASK = PAGE_SLOTS - 1
_ZERO_COUNTS = array("H", bytes(2 * PAGE_SLOTS))
_ZERO_LINKS = array("Q", bytes(8 * PAGE_SLOTS))


class Page:
    """1,024 consecutive sequence numbers of a lane, the last page perhaps fewer."""

    __slots__ = ("bytes", "counts", "groups", "links", "live", "slots")

    def __init__(self, grouped: bool) -> None:
        self.slots = array("Q")
        self.groups: array[int] | None = array("Q") if grouped else None
        self.counts: array[int] | None = None  # receives so far, saturating
        self.links: array[int] | None = None  # LSN of the link a dead letter came by
        self.live = 0
        self.bytes = 0  # of the live messages; exact when the last one goes


class Lane:
    """The slots of one priority of one queue. Sequence numbers are ``base + n``, n from 1."""

    __slots__ = ("base", "cursor", "first", "grouped", "live", "next", "pages", "returned")

    def __init__(self, base: int, grouped: bool, next_number: int = 1) -> None:
        self.base = base
        self.grouped = grouped
        self.next = next_number  # the number of the next message
        self.first = 0  # no message below it is there
        self.cursor = next_number  # no message below it is ready, but those given back
        self.returned: list[int] = []  # heap: numbers below the cursor that are ready again
        self.pages: dict[int, Page] = {}  # page number -> page; dead ones are dropped
        self.live = 0

    def append(self, slot: int, size: int, group: int = 0) -> int:
        """Put a message at the end; its number."""
        number = self.next
        self.next = number + 1
        at = number & PAGE_MASK
        page = self.pages.get(number >> PAGE_BITS)
        if page is None:
            page = self._new_page(number >> PAGE_BITS, at)
        page.slots.append(slot)
        if page.groups is not None:
            page.groups.append(group)
        page.live += 1
        page.bytes += size
        self.live += 1
        return number

    def append_run(self, first_slot: int, step: int, count: int, size: int) -> int:
        """Put messages of one size at the end, whose slots rise by ``step``; the first number."""
        assert not self.grouped
        first = number = self.next
        slot = first_slot
        self.next += count
        self.live += count
        while count:
            at = number & PAGE_MASK
            page = self.pages.get(number >> PAGE_BITS)
            if page is None:
                page = self._new_page(number >> PAGE_BITS, at)
            fits = min(count, PAGE_SLOTS - at)
            page.slots.extend(range(slot, slot + fits * step, step))
            page.live += fits
            page.bytes += fits * size
            number += fits
            slot += fits * step
            count -= fits
        return first

    def _new_page(self, index: int, skipped: int) -> Page:
        page = self.pages[index] = Page(self.grouped)
        if skipped:
            page.slots.frombytes(bytes(8 * skipped))
            if page.groups is not None:
                page.groups.frombytes(bytes(8 * skipped))
        return page

    def slot(self, number: int) -> int:
        """The slot of a number: 0 when the message is gone or was never there."""
        page = self.pages.get(number >> PAGE_BITS)
        if page is None:
            return 0
        at = number & PAGE_MASK
        return page.slots[at] if at < len(page.slots) else 0

    def set_slot(self, number: int, slot: int) -> None:
        """Change the slot of a live message (its flags, or where it stands)."""
        self.pages[number >> PAGE_BITS].slots[number & PAGE_MASK] = slot

    def remove(self, number: int, size: int = -1) -> tuple[int, int, int]:
        """Take a message out: (its slot, its link's LSN or 0, its bytes). All 0 if it was gone.

        ``size`` -1 means that its size is not known: the page's mean stands in for it.
        """
        index = number >> PAGE_BITS
        page = self.pages.get(index)
        at = number & PAGE_MASK
        if page is None or at >= len(page.slots):
            return 0, 0, 0
        slot = page.slots[at]
        if not slot:
            return 0, 0, 0
        page.slots[at] = 0
        link = page.links[at] if page.links is not None else 0
        if page.live == 1:
            size = page.bytes
        elif size < 0:
            size = page.bytes // page.live
        size = min(size, page.bytes)
        page.bytes -= size
        page.live -= 1
        self.live -= 1
        if not page.live and len(page.slots) == PAGE_SLOTS:
            del self.pages[index]
        return slot, link, size

    def group(self, number: int) -> int:
        """The group hash of a message that is there."""
        groups = self.pages[number >> PAGE_BITS].groups
        assert groups is not None
        return groups[number & PAGE_MASK]

    def receives(self, number: int) -> int:
        """How many times a message was received so far."""
        page = self.pages.get(number >> PAGE_BITS)
        if page is None or page.counts is None:
            return 0
        return page.counts[number & PAGE_MASK]

    def set_receives(self, number: int, count: int) -> None:
        """Note how many times a message was received; nothing if it is gone."""
        page = self.pages.get(number >> PAGE_BITS)
        if page is None:
            return
        if page.counts is None:
            page.counts = array("H", _ZERO_COUNTS)
        page.counts[number & PAGE_MASK] = min(count, 65_535)

    def link(self, number: int) -> int:
        """The LSN of the link that brought the message here, or 0."""
        page = self.pages.get(number >> PAGE_BITS)
        if page is None or page.links is None:
            return 0
        return page.links[number & PAGE_MASK]

    def set_link(self, number: int, lsn: int) -> None:
        """Remember the link that brought a message here."""
        page = self.pages[number >> PAGE_BITS]
        if page.links is None:
            page.links = array("Q", _ZERO_LINKS)
        page.links[number & PAGE_MASK] = lsn

    def first_live(self, number: int) -> int:
        """The first live number from ``number`` on, or ``next`` when there is none."""
        if number > self.first:
            return self._first_live(number)
        self.first = self._first_live(self.first)
        return self.first

    def _first_live(self, number: int) -> int:
        while number < self.next:
            index = number >> PAGE_BITS
            page = self.pages.get(index)
            if page is None or not page.live:
                number = self._skip(index)
                continue
            slots = page.slots
            for at in range(number & PAGE_MASK, len(slots)):
                if slots[at]:
                    return index << PAGE_BITS | at
            number = (index + 1) << PAGE_BITS
        return self.next

    def _skip(self, index: int) -> int:
        """The first number of the next page that is there after page ``index``."""
        last = self.next >> PAGE_BITS
        gap = last - index
        if gap > 64 and len(self.pages) < gap:
            later = [page for page in self.pages if page > index]
            return min(min(later) << PAGE_BITS, self.next) if later else self.next
        index += 1
        while index <= last and index not in self.pages:
            index += 1
        return min(index << PAGE_BITS, self.next)

    def first_ready(self, number: int) -> int:
        """The first number from ``number`` on that is not gone, held or leased; or ``next``."""
        end = self.next
        while number < end:
            index = number >> PAGE_BITS
            page = self.pages.get(index)
            if page is None or not page.live:
                number = self._skip(index)
                continue
            slots = page.slots
            for at in range(number & PAGE_MASK, len(slots)):
                if 0 < slots[at] < LEASED:
                    return index << PAGE_BITS | at
            number = (index + 1) << PAGE_BITS
        return end

    def first_returned(self) -> int:
        """The first ready number below the cursor, or -1."""
        returned = self.returned
        while returned:
            if 0 < self.slot(returned[0]) < LEASED:
                return returned[0]
            heappop(returned)
        return -1

    def live_numbers(self, first: int = 0) -> Iterator[int]:
        """Every live number from ``first`` on, in order. The lane may change meanwhile."""
        number = self.first_live(first)
        while number < self.next:
            yield number
            number = self.first_live(number + 1)

    def drop_below(self, bound: int) -> list[Page]:
        """Take out every message below ``bound``; the pages they stood in."""
        gone = []
        for index in [index for index in self.pages if index << PAGE_BITS < bound]:
            page = self.pages[index]
            end = min(bound - (index << PAGE_BITS), len(page.slots))
            if end == len(page.slots):
                dropped = page
                if end == PAGE_SLOTS:
                    del self.pages[index]
                else:
                    self.pages[index] = self._emptied(page)
            else:
                dropped = self._split(page, end)
            self.live -= dropped.live
            gone.append(dropped)
        self.cursor = max(self.cursor, min(bound, self.next))
        return gone

    def _emptied(self, page: Page) -> Page:
        """A page for the numbers that are still to come after those of ``page``."""
        empty = Page(self.grouped)
        empty.slots.frombytes(bytes(8 * len(page.slots)))
        if empty.groups is not None:
            empty.groups.frombytes(bytes(8 * len(page.slots)))
        return empty

    def _split(self, page: Page, end: int) -> Page:
        """Move the first ``end`` slots of a page to one of their own."""
        dropped = Page(self.grouped)
        dropped.slots = page.slots[:end]
        dropped.links = page.links
        dropped.live = end - dropped.slots.count(0)
        dropped.bytes = page.bytes * dropped.live // page.live if page.live else 0
        page.slots[:end] = array("Q", bytes(8 * end))
        page.live -= dropped.live
        page.bytes -= dropped.bytes
        return dropped

"""A lane of a view: one shard, and those of its records that the view looks at.

A number in the lane is the number of the record. Records are *admitted* in the shard's order, when
somebody can take them, so a lane is a small window on a shard of any length::

    gone or in pages ......... | next: not admitted yet ......... | what the shard will get
                                                    the shard's next

A slot holds no position in the log, for the record may move there or to a file at any time, but
says which record it is: ``code << 47 | number``. So nothing in the log is kept because of a view.

A checkpoint has for each lane its ``next``, and its pages in this form::

    VIEW_PAGE   u32 view, u16 code, u16 parts, u64 page, u64 bytes, 128 bytes: a bit for each
                record that is not gone; then with parts = 1 its 1,024 receive counts (u16)
"""

from array import array
from struct import Struct
from typing import TYPE_CHECKING

from .index import PAGE_BITS, PAGE_SLOTS, Lane, Page
from .shard import Shard
from .state import LANE_SHIFT

if TYPE_CHECKING:
    from .streamreading import ShardRead

__all__ = [
    "CODES_MAX",
    "VIEW_PAGE",
    "ViewLane",
    "record_id",
    "record_slot",
    "section_code",
    "slot_record",
]

VIEW_PAGE = 11  # section kind; the others stand in state.py, retained.py, shard.py, groupstore.py

CODES_MAX = 1 << 15  # lanes of a view at once, so that sequences stay below 2**63
_NUMBER_BITS = 47
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_PAGE = Struct("<IHHQQ")
_BITMAP_BYTES = PAGE_SLOTS // 8
_COUNTS = 1

_ID = 1 << 63  # no message of a queue has such an id: theirs are positions in the log
_ID_MASK = _ID - 1
_ID_STEP = 0x4F1B_BCDC_BFA5_3E0B  # 2**63 divided by the golden ratio, odd


def record_id(shard: int, number: int) -> int:
    """The id of a record as a message: the same in every view, for ever.

    Multiples of the golden ratio lie far apart on a circle, so two records have different ids as
    long as the shards' entities, times the numbers of their records, are less than 2**61.
    """
    return _ID | (shard * _ID_STEP + number & _ID_MASK)


def record_slot(code: int, number: int) -> int:
    """The slot of a record that is in a lane."""
    return code << _NUMBER_BITS | number


def slot_record(slot: int) -> tuple[int, int]:
    """The code of the lane, and the number of the record."""
    return slot >> _NUMBER_BITS, slot & _NUMBER_MASK


class ViewLane(Lane):
    """A lane of a view. See the module.

    Attributes:
        start: its first number.
        parents, children: lanes of the shards that come before this one, and after it.
        opened: its turn has come, once. busy: something in it may be ready.
        stalled: it goes on when the view has room.
        tip: waits for records behind ``next``. seeking: where it begins is being looked up.
    """

    __slots__ = (
        "busy",
        "children",
        "code",
        "opened",
        "parents",
        "seeking",
        "shard",
        "stalled",
        "start",
        "tip",
    )

    def __init__(self, code: int, shard: Shard, start: int) -> None:
        super().__init__(code << LANE_SHIFT, False, start)
        self.code = code
        self.shard = shard
        self.start = start
        self.parents: list[ViewLane] = []
        self.children: list[ViewLane] = []
        self.opened = self.busy = self.stalled = self.seeking = False
        self.tip: ShardRead | None = None

    @property
    def admitted(self) -> bool:
        """Whether all is admitted that the shard has, kept or not."""
        return self.next >= self.shard.next

    @property
    def unread(self) -> int:
        """How many records it has to admit yet."""
        shard = self.shard
        return max(shard.next - max(self.next, shard.first), 0)

    def skip_to(self, number: int) -> int:
        """Let ``number`` be the next one to be admitted; how many are left out for good."""
        skipped = number - self.next
        if skipped <= 0:
            return 0
        index = self.next >> PAGE_BITS
        page = self.pages.get(index)
        if page is not None and number >> PAGE_BITS == index:
            page.slots.frombytes(bytes(8 * skipped))
        elif page is not None and page.live:
            page.slots.frombytes(bytes(8 * (PAGE_SLOTS - len(page.slots))))
        else:
            self.pages.pop(index, None)
        self.next = number
        return skipped

    def skip_missing(self) -> int:
        """Leave out what was trimmed, or lost with a file; how many that are."""
        shard = self.shard
        return self.skip_to(min(shard.present(self.next), shard.next))

    def admit(self, most: int) -> int:
        """Admit up to ``most`` records that can be read; about how many bytes they have, 0: none.

        Call :meth:`skip_missing` before.
        """
        shard = self.shard
        number = self.next
        end = min(shard.readable(), shard.run_end(number))
        if number < shard.cold_end:
            file = shard.cold_file(number)
            mean = file.bytes // file.records
        elif number < end:
            block = shard.block_of(number)
            mean = shard.sizes[block] // (shard.block_end(block) - shard.firsts[block])
        count = min(end - number, most)
        if count <= 0:
            return 0
        mean = max(mean, 1)
        self.append_run(record_slot(self.code, number), 1, count, mean)
        return count * mean

    def fill_to(self, number: int) -> int:
        """While replaying: all below ``number`` was admitted. About how many bytes that were."""
        count = number - self.next
        if count <= 0:
            return 0
        self.append_run(record_slot(self.code, self.next), 1, count, 1)
        return count

    # Checkpoint -------------------------------------------------------------------------------

    def page_section(self, view: int, index: int) -> bytes:
        """One of its pages, as it is now."""
        page = self.pages[index]
        bits = "".join(["1" if slot else "0" for slot in reversed(page.slots)])
        counts = b"" if page.counts is None else page.counts.tobytes()
        head = _PAGE.pack(view, self.code, _COUNTS if counts else 0, index, page.bytes)
        return head + int(bits, 2).to_bytes(_BITMAP_BYTES, "little") + counts

    def load_page(self, content: bytes) -> int:
        """Take back a page, as far as it is below ``next``, which is known; its bytes."""
        index: int
        size: int
        _, _, parts, index, size = _PAGE.unpack_from(content)
        at = _PAGE.size
        bits = int.from_bytes(content[at : at + _BITMAP_BYTES], "little")
        first = index << PAGE_BITS
        count = min(PAGE_SLOTS, self.next - first)
        slot = record_slot(self.code, first)
        page = Page(False)
        page.slots = array("Q", [slot + n if bits >> n & 1 else 0 for n in range(count)])
        page.live = count - page.slots.count(0)
        page.bytes = size
        if parts & _COUNTS:
            page.counts = array("H", content[at + _BITMAP_BYTES :])
        if not page.live:
            return 0
        self.pages[index] = page
        self.live += page.live
        return size


def section_code(content: bytes) -> int:
    """The code of the lane that a page belongs to."""
    code: int = _PAGE.unpack_from(content)[1]
    return code

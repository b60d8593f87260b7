"""The wills that are in the log, and how it brings them back: the apply side of ``wills.py``.

A will is written down when its client connects: a DEFINITION of the kind ``will``. It has a number
under one fixed entity, and goes in one of two ways:

- the record of the message that it becomes has the number among its targets, so that after a crash
  it was published, or it still is to be: never both, never neither;
- an ACK takes it back.

A checkpoint holds wills as sections::

    WILLS   MessagePack: list of definitions
"""

from collections.abc import Iterator

import msgspec

__all__ = ["WILLS", "WILL_ENTITY", "WillDefinition", "WillMessage", "WillStore"]

WILLS = 18  # section kind; the others stand in state.py, retained.py, shard.py and *store.py
WILL_ENTITY = 0  # on disk; entities that have a number of their own count from 1
_SECTION_WILLS = 16  # of up to 64 KiB each, as large as a CONNECT may be


class WillMessage(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What is to be published for a client that goes without a farewell.

    Attributes:
        attributes: the packed header map, with the topic in it.
        lifetime_ms: how long it is good for once it was published; 0: for ever.
        delay_ms: how long the client has to come back before.
    """

    topic: str
    body: bytes
    attributes: bytes
    qos: int
    retain: bool = False
    lifetime_ms: int = 0
    delay_ms: int = 0

    @property
    def size(self) -> int:
        """About what it takes, in bytes."""
        return len(self.topic) + len(self.body) + len(self.attributes)


class WillDefinition(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A client's will: the content of a DEFINITION record, and of sections.

    Attributes:
        number: its own while it is in the log; 0: it is in memory only.
        session, user: the client identifier, and whose session it is.
        due_ms: when to publish it, unix ms; 0: the client is, or was, connected.
    """

    kind: str = "will"
    number: int
    session: str
    user: str
    due_ms: int = 0
    message: WillMessage


class WillStore:
    """All wills that are in the log.

    Attributes:
        by_number: in the order in which they came. bytes: about what they take.
    """

    def __init__(self) -> None:
        self.by_number: dict[int, WillDefinition] = {}
        self.bytes = 0
        self._last = 0

    def next_number(self) -> int:
        """A number for a new will. One that is free again may come again."""
        return self._last + 1

    def define(self, will: WillDefinition) -> None:
        """Apply: the will is there, and due when it says."""
        self.remove(will.number)
        self.by_number[will.number] = will
        self.bytes += will.message.size
        self._last = max(self._last, will.number)

    def remove(self, number: int) -> bool:
        """Apply: the will was published, or taken back; False: it was gone before."""
        will = self.by_number.pop(number, None)
        if will is None:
            return False
        self.bytes -= will.message.size
        return True

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """All definitions, a few in each section."""
        numbers = list(self.by_number)
        for begin in range(0, len(numbers), _SECTION_WILLS):
            some = numbers[begin : begin + _SECTION_WILLS]
            found = [self.by_number[number] for number in some if number in self.by_number]
            yield WILLS, msgspec.msgpack.encode(found)

    def load(self, content: bytes) -> None:
        """Take back a section."""
        for will in msgspec.msgpack.decode(content, type=list[WillDefinition]):
            self.define(will)

"""Nothing lost, nothing twice, nothing changed: checked in every run, at any speed.

Every body begins with a stamp::

    0            4                        12                       20          24
    +------------+------------------------+------------------------+-----------+------- - -
    | producer   | sequence               | time, ns               | crc32     | payload
    +------------+------------------------+------------------------+-----------+------- - -

All numbers are big endian. The crc covers the payload, then the 20 bytes before it: so the payload,
which is the same in all messages of a producer, is summed once, and stamping stays cheap. The time
is the monotonic clock when the message was sent, or was meant to be: it is one clock for all
processes of a machine.

An ``Account`` knows what a producer sent and which of it was confirmed; the ``Ledger`` knows what
came out. :func:`settle` compares the two. What was sent but neither confirmed nor refused (the run
ended, the connection broke) may come out or not: that is what a client has to expect.
"""

from collections.abc import Iterable
from struct import Struct as Layout
from typing import Final, Literal
from zlib import crc32

import msgspec

__all__ = [
    "HEAD_BYTES",
    "STAMP",
    "STAMP_BYTES",
    "Account",
    "Expectation",
    "Integrity",
    "Ledger",
    "Stamper",
    "settle",
]

_HEAD: Final = Layout(">IQQ")
STAMP: Final = Layout(">IQQI")
STAMP_BYTES: Final = STAMP.size
HEAD_BYTES: Final = _HEAD.size
_SEQUENCE_MAX: Final = 1 << 32

Expectation = Literal["at-most-once", "at-least-once", "exactly-once", "fifo"]

# What each expectation forbids; ``bench queue`` says in-order where scenarios say fifo.
_FORBIDDEN: Final = {
    "at-most-once": ("corrupt", "duplicate"),
    "at-least-once": ("corrupt", "lost"),
    "exactly-once": ("corrupt", "lost", "duplicate"),
    "in-order": ("corrupt", "lost", "duplicate", "reordered"),
    "fifo": ("corrupt", "lost", "duplicate", "reordered"),
}


class Integrity(msgspec.Struct):
    """What became of the messages of a run."""

    sent: int = 0
    confirmed: int = 0
    received: int = 0  # deliveries, each counted
    lost: int = 0  # confirmed, never received
    duplicate: int = 0  # received once more
    reordered: int = 0  # received after a later one of the same producer
    corrupt: int = 0  # bytes that were not sent, or that nobody sent

    def broken(self, expect: str) -> list[str]:
        """What breaks an expectation, with how often."""
        counts = {name: getattr(self, name) for name in _FORBIDDEN[expect]}
        return [f"{count:,} {name}" for name, count in counts.items() if count]

    def add(self, other: "Integrity") -> None:
        """Count what another run counted, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Stamper:
    """Writes the stamps of one producer, whose messages all have this payload."""

    __slots__ = ("_payload_crc", "producer")

    def __init__(self, producer: int, payload: bytes) -> None:
        self.producer = producer
        self._payload_crc = crc32(payload)

    def stamp(self, sequence: int, time_ns: int) -> bytes:
        """The first ``STAMP_BYTES`` of a body."""
        head = _HEAD.pack(self.producer, sequence, time_ns)
        return head + crc32(head, self._payload_crc).to_bytes(4, "big")


class Account:
    """What one producer sent: sequences 0 to ``sent``, but for those that are ``unsure``."""

    __slots__ = ("confirmed", "producer", "sent", "unsure")

    def __init__(self, producer: int) -> None:
        self.producer = producer
        self.sent = 0
        self.confirmed = 0
        self.unsure: set[int] = set()  # refused, or never answered


class Ledger:
    """What came out."""

    __slots__ = ("_last", "_seen", "corrupt", "duplicate", "received", "reordered")

    def __init__(self) -> None:
        self._seen: dict[int, bytearray] = {}
        self._last: dict[int, int] = {}
        self.received = 0
        self.duplicate = 0
        self.reordered = 0
        self.corrupt = 0

    @property
    def distinct(self) -> int:
        """How many different messages came out."""
        return self.received - self.duplicate - self.corrupt

    def take(self, body: bytes) -> int:
        """Count a delivery; the time in its stamp, or -1 when it is corrupt."""
        self.received += 1
        if len(body) < STAMP_BYTES:
            self.corrupt += 1
            return -1
        producer, sequence, time_ns, crc = STAMP.unpack_from(body)
        if crc32(body[:HEAD_BYTES], crc32(body[STAMP_BYTES:])) != crc or sequence > _SEQUENCE_MAX:
            self.corrupt += 1
            return -1
        seen = self._seen.get(producer)
        if seen is None:
            seen = self._seen[producer] = bytearray(1024)
            self._last[producer] = -1
        if sequence >= len(seen):
            seen.extend(bytes(sequence + 1))
        if seen[sequence]:
            self.duplicate += 1
            return int(time_ns)
        seen[sequence] = 1
        if sequence > self._last[producer]:
            self._last[producer] = sequence
        else:
            self.reordered += 1
        return int(time_ns)

    def has(self, producer: int, sequence: int) -> bool:
        """Whether that message came out."""
        seen = self._seen.get(producer, b"")
        return sequence < len(seen) and bool(seen[sequence])

    def strangers(self, accounts: dict[int, Account]) -> int:
        """How many came out that nobody sent."""
        count = 0
        for producer, seen in self._seen.items():
            sent = accounts[producer].sent if producer in accounts else 0
            count += sum(seen[sent:])
        return count


def settle(accounts: Iterable[Account], ledger: Ledger) -> Integrity:
    """Compare what was sent with what came out."""
    by_producer = {account.producer: account for account in accounts}
    lost = 0
    for account in by_producer.values():
        lost += sum(
            1
            for sequence in range(account.sent)
            if not ledger.has(account.producer, sequence) and sequence not in account.unsure
        )
    return Integrity(
        sent=sum(account.sent for account in by_producer.values()),
        confirmed=sum(account.confirmed for account in by_producer.values()),
        received=ledger.received,
        lost=lost,
        duplicate=ledger.duplicate,
        reordered=ledger.reordered,
        corrupt=ledger.corrupt + ledger.strangers(by_producer),
    )

"""What must be true of a topic that is bound to queues and a stream, whatever breaks.

An acknowledged publication is in all of its targets that match, once; one that nobody knows of is
in all of them or in none. A FIFO queue gets one message of each deduplication id, the first, and
has those of a group in the order they were published. What came out of a queue does not come back.

This is told when all targets were looked at after a start, with nothing new coming.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .audit import FAIL, INFO, INVOKE, OK

if TYPE_CHECKING:
    from .stream_audit import StreamJournal
    from .stream_wire import Record

__all__ = [
    "BINDINGS",
    "FAN_FIFO",
    "FAN_QUEUES",
    "FAN_QUEUE_SETTINGS",
    "FAN_STREAM",
    "FAN_TOPIC",
    "FanoutBook",
    "Publication",
]

FAN_TOPIC, FAN_STREAM, FAN_FIFO = "audit/fan", "fan", "fan.fifo"
FAN_QUEUES = [f"fan-{number:02}" for number in range(20)]
KINDS = ("a", "b", "c")
SMALL_BYTES = 60
ACKED_MAX = 200_000  # acknowledgements that are remembered

# How each queue is bound. Every second one of those with a condition gets its own record.
_CONDITIONS: list[dict[str, Any]] = [
    {},
    {"where": "kind = 'a'"},
    {"policy": json.dumps({"kind": ["a", "b"]})},
    {"policy": json.dumps({"size": [{"numeric": ["<", SMALL_BYTES]}]}), "scope": "body"},
]
BINDINGS: dict[str, dict[str, Any]] = {
    name: _CONDITIONS[number % len(_CONDITIONS)] for number, name in enumerate(FAN_QUEUES)
}
FAN_QUEUE_SETTINGS: dict[str, dict[str, Any]] = {
    name: {"ttl_ms": 3_600_000} if number % 8 > 3 else {} for number, name in enumerate(FAN_QUEUES)
} | {FAN_FIFO: {"fifo": True}}


@dataclass(slots=True)
class Publication:
    """One message that was published to the topic."""

    number: int
    kind: str
    size: int
    group: str
    dedup: str
    outcome: str = INVOKE
    found: dict[str, int] = field(default_factory=dict)  # where, and as which message
    sequence: int = 0  # in the FIFO queue
    place: tuple[int, int] | None = None  # in the stream

    @property
    def body(self) -> bytes:
        """JSON, for the conditions; it proves itself."""
        pad = (f"{self.number * 2654435761 % 2**32:08x}" * (self.size // 8 + 1))[: self.size]
        text = f"{self.number}|{self.kind}|{pad}"
        proof = crc32(text.encode())
        return json.dumps({"proof": f"{text}|{proof:08x}", "size": self.size}).encode()

    def takes(self, queue: str) -> bool:
        """Whether a queue that is no FIFO queue is to get it."""
        condition = BINDINGS[queue]
        if "where" in condition:
            return self.kind == "a"
        if "scope" in condition:
            return self.size < SMALL_BYTES
        return "policy" not in condition or self.kind in ("a", "b")


class FanoutBook:
    """What is known of the topic's messages. Part of :class:`StreamJournal`."""

    def __init__(self, journal: "StreamJournal") -> None:
        self._journal = journal
        self.open: dict[int, Publication] = {}  # that nothing was settled about
        self._acked: dict[tuple[str, int], bool] = {}  # (queue, number): confirmed, or not known
        self._deduped: dict[str, int] = {}  # which publication of an id is in the FIFO queue
        self._sequences: dict[str, int] = {}  # the highest settled of each group

    # Publishing -------------------------------------------------------------------------------

    def invoke(self, publication: Publication) -> None:
        """The bytes of a publication go out now."""
        self.open[publication.number] = publication
        self._journal.counts["attempts"] += 1

    def ok(self, publication: Publication) -> None:
        """The broker says that all have it."""
        publication.outcome = OK
        self._journal.counts["acked"] += 1
        self._journal.counts["published"] += 1

    def fail(self, publication: Publication) -> None:
        """Refused: it must never be seen."""
        publication.outcome = FAIL
        self._journal.counts["fail"] += 1

    def unknown(self, publication: Publication) -> None:
        """The connection went before the answer came."""
        publication.outcome = INFO
        self._journal.counts["info"] += 1

    # What came --------------------------------------------------------------------------------

    def _publication(self, body: bytes, where: str) -> Publication | None:
        try:
            number = int(json.loads(body)["proof"].partition("|")[0])
        except (ValueError, KeyError, TypeError):
            self._journal.find("corrupt", f"{where}: {body[:60]!r}")
            return None
        publication = self.open.get(number)
        if publication is None or publication.outcome == FAIL:
            self._journal.find("phantom", f"{where}: publication {number}")
            return None
        if publication.body != body:
            self._journal.find("corrupt", f"{where}: {body[:60]!r}")
        return publication

    def in_stream(self, shard: int, record: "Record", where: str) -> None:
        """A record of the bound stream was read for the first time."""
        publication = self._publication(record.body, where)
        if publication is None:
            return
        if publication.place is not None:
            self._journal.find("duplicates", f"{where}: also at {publication.place}")
        if record.key != publication.group.encode():
            self._journal.find("corrupt", f"{where}: its key is {record.key!r}")
        publication.place = (shard, record.number)

    def in_queue(self, queue: str, message: list[Any]) -> int:
        """A queue delivered a message; which publication it is, 0: none that we know."""
        sequence, _, _, id, _, _, body = message
        self._journal.counts["fan deliveries"] += 1
        try:
            settled = int(json.loads(body)["proof"].partition("|")[0])
        except (ValueError, KeyError, TypeError):
            settled = 0
        if settled not in self.open and (queue, settled) in self._acked:
            self._again(queue, settled)
            return settled
        publication = self._publication(body, queue)
        if publication is None:
            return 0
        number = publication.number
        if publication.found.setdefault(queue, id) != id:
            text = f"{queue}: publication {number} is messages {publication.found[queue]} and {id}"
            self._journal.find("duplicates", text)
        if (queue, number) in self._acked:
            self._again(queue, number)
        if queue == FAN_FIFO:
            publication.sequence = sequence
        elif not publication.takes(queue):
            self._journal.find(
                "misplaced", f"{queue}: {publication.kind}, {publication.size} bytes"
            )
        return number

    def _again(self, queue: str, number: int) -> None:
        if self._acked[queue, number]:
            self._journal.find("resurrected", f"{queue}: publication {number}")

    def ack_invoke(self, queue: str, numbers: list[int]) -> None:
        """Acknowledgements go out now."""
        for number in numbers:
            self._acked.setdefault((queue, number), False)

    def ack_ok(self, queue: str, numbers: list[int]) -> None:
        """They were confirmed."""
        for number in numbers:
            self._acked[queue, number] = True

    # The verdict ------------------------------------------------------------------------------

    def settled(self) -> None:
        """All targets were emptied, or read to the end, after a start."""
        for publication in sorted(self.open.values(), key=_number):
            if publication.outcome == FAIL:
                continue
            expected = {queue for queue in FAN_QUEUES if publication.takes(queue)}
            if publication.place is not None:
                expected |= {FAN_STREAM, *self._fifo(publication)}
            elif publication.outcome == OK:
                expected.add(FAN_STREAM)
            found = set(publication.found)
            if publication.place is not None:
                found.add(FAN_STREAM)
            if publication.outcome == INFO and found:
                self._journal.counts["recovered"] += 1
            if found == expected or (not found and publication.outcome != OK):
                continue
            kind = "lost" if publication.outcome == OK else "torn"
            text = f"publication {publication.number} ({publication.outcome})"
            missing, more = sorted(expected - found), sorted(found - expected)
            self._journal.find(kind, f"{text}: missing in {missing}, also in {more}")
        self.open.clear()
        for key in [*self._acked][:-ACKED_MAX]:
            del self._acked[key]

    def _fifo(self, publication: Publication) -> list[str]:
        """Whether it belongs into the FIFO queue, and whether it came in order."""
        if self._deduped.setdefault(publication.dedup, publication.number) != publication.number:
            return []
        if publication.sequence:
            before = self._sequences.get(publication.group, 0)
            if publication.sequence <= before:
                text = f"{FAN_FIFO}, {publication.group}: {publication.number} stands before others"
                self._journal.find("misordered", text)
            self._sequences[publication.group] = max(before, publication.sequence)
        return [FAN_FIFO]


def _number(publication: Publication) -> int:
    return publication.number

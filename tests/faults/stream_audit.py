"""What must be true of streams, whatever breaks: the journal of what is appended and read.

Every record that was read is kept here with all its bytes, until its stream is deleted or the
broker lets go of it; so whatever is read again is compared with what was there before, however the
broker keeps it by now. What is promised:

- An acknowledged record is in its stream once, at the shard and number that were answered.
- A record that was read is there after any crash: nothing is shown that is not kept.
- Numbers of a shard have no gaps and are never used again; times do not fall; the records of a key
  are in the order they were sent, also where shards were split and merged.
- Open shards tile the hash keys; what is known of a shard's range, parents and end does not change.

A stream with durability ``os`` may lose the end of each shard when power is cut, and shards that
were just made and that nobody has read; nothing else.
What groups and fan-out promise besides stands in ``group_audit.py`` and ``fanout_audit.py``.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .audit import FAIL, INFO, INVOKE, OK
from .fanout_audit import FAN_STREAM, FanoutBook
from .group_audit import GroupBook
from .journal import Journal, parse_body
from .stream_wire import Record

__all__ = ["STREAMS", "Entry", "ShardBook", "StreamBook", "StreamJournal"]

_HASH_KEY_END = 1 << 128
_OS = 1  # durability

# Settings of each stream, and with how many shards it begins.
STREAMS: dict[str, tuple[dict[str, Any], int]] = {
    "clicks": ({"retention_ms": 0}, 3),
    "relaxed": ({"retention_ms": 0, "durability": _OS}, 2),
    "trimmed": ({"retention_ms": 0, "retention_bytes": 100_000}, 2),
    FAN_STREAM: ({"retention_ms": 0}, 2),
}


@dataclass(slots=True)
class Entry:
    """One record that a producer wants to be taken; nothing is sent a second time."""

    stream: str
    producer: str
    number: int
    key: bytes = b""
    headers: bytes = b""
    placed: bool = True  # its key says in which shard it is
    outcome: str = INVOKE
    place: tuple[int, int] | None = None  # as it was answered, or seen

    @property
    def name(self) -> str:
        return f"{self.producer}|{self.number}"


@dataclass(slots=True)
class ShardBook:
    """What is known of a shard."""

    index: int
    first_hash: int = -1  # not known yet
    last_hash: int = -1
    parents: tuple[int, ...] = ()
    first: int = 0  # all before is gone for good
    end: int = 0  # of a closed one
    verified: int = 0  # all before was compared after a start
    records: dict[int, Record] = field(default_factory=dict)  # that were read, by number
    promised: dict[int, Entry] = field(default_factory=dict)  # acknowledged, and not read yet


class StreamBook:
    """What is known of a stream."""

    def __init__(self, name: str, created_ms: int) -> None:
        settings, _ = STREAMS[name]
        self.name = name
        self.created_ms = created_ms
        self.trims = bool(settings.get("retention_bytes"))
        self.relaxed = settings.get("durability") == _OS
        self.deleting = self.deleted = False  # that was asked for, and confirmed
        self.shards: dict[int, ShardBook] = {}
        self.places: dict[int, tuple[int, int]] = {}  # of entries, by their number
        self.order: dict[tuple[str, bytes], list[int]] = {}  # the entries of each key, as sent
        self.checked_run = 0  # when all was compared with what is there

    def shard(self, index: int) -> ShardBook:
        return self.shards.setdefault(index, ShardBook(index))

    @property
    def records(self) -> int:
        return sum(len(shard.records) for shard in self.shards.values())


class StreamJournal(Journal):
    """What happened to streams, and the counters of what must not."""

    BROKEN = (
        "lost vanished phantom corrupt duplicates moved changed reused gap misordered misplaced"
        " trimmed forgotten resurrected stuck repeated skipped fenced stolen torn"
    ).split()

    def __init__(self) -> None:
        super().__init__()
        self.books: dict[str, StreamBook] = {}
        self.entries: dict[int, Entry] = {}  # that nothing was settled about
        self.groups: dict[tuple[str, str], GroupBook] = {}
        self.fan = FanoutBook(self)

    # Streams ----------------------------------------------------------------------------------

    def declared(self, name: str, created_ms: int) -> StreamBook:
        """The broker says that it is there since then."""
        book = self.books.get(name)
        if book is not None and book.created_ms == created_ms:
            if book.deleted:
                self.find("resurrected", f"stream {name} was deleted")
            book.deleting = False
            return book
        if book is not None and not book.deleting:
            self.find("lost", f"stream {name} is another one than before")
        self._forget(name)
        book = self.books[name] = StreamBook(name, created_ms)
        return book

    def deleted(self, name: str) -> None:
        """The broker says that it is gone."""
        self.books[name].deleted = True
        self.counts["chapters"] += 1

    def _forget(self, name: str) -> None:
        for number in [n for n, entry in self.entries.items() if entry.stream == name]:
            del self.entries[number]
        for key in [key for key in self.groups if key[0] == name]:
            del self.groups[key]

    def told(self, name: str, shards: Sequence[dict[str, Any]]) -> None:
        """What the broker says the shards are, when all that it says is kept."""
        book = self.books[name]
        indexes = {told["index"] for told in shards}
        lenient = self.may_have_lost(book)
        for index, shard in list(book.shards.items()):
            if index not in indexes:
                if lenient and not shard.records:  # its making was at the end that was lost
                    self.counts["lost (os, power cut)"] += len(shard.promised)
                elif not book.trims and (shard.records or shard.promised):  # else it ended empty
                    self.find("forgotten", f"{name}: shard {index}")
                self.counts["let go"] += len(shard.records)
                del book.shards[index]
        for told in shards:
            self._told_shard(book, told)
        tiles = sorted(
            (int(told["first_hash"]), int(told["last_hash"]))
            for told in shards
            if not told["closed"]
        )
        bounds = [-1, *(bound for tile in tiles for bound in tile), _HASH_KEY_END]
        if any(bounds[n] + 1 != bounds[n + 1] for n in range(0, len(bounds), 2)):
            self.find("misplaced", f"{name}: the open shards are {tiles}")

    def _told_shard(self, book: StreamBook, told: dict[str, Any]) -> None:
        index = told["index"]
        name = f"{book.name}, shard {index}"
        range_ = (int(told["first_hash"]), int(told["last_hash"]))
        parents = tuple(told["parents"])
        shard = book.shard(index)
        if shard.first_hash >= 0 and (shard.first_hash, shard.last_hash, shard.parents) != (
            *range_,
            parents,
        ):
            self.find("changed", f"{name}: {range_} {parents}")
        shard.first_hash, shard.last_hash = range_
        shard.parents = parents
        if shard.end and shard.end != (told["next"] if told["closed"] else 0):
            self.find("changed", f"{name}: ended at {shard.end}, now {told['next']}")
        if told["closed"]:
            shard.end = told["next"]
            for number in [each for each in (*shard.records, *shard.promised) if each >= shard.end]:
                self.find("misplaced", f"{name}: {number} stands behind its end, {shard.end}")
        self._let_go(book, shard, told["first"])

    def _let_go(self, book: StreamBook, shard: ShardBook, first: int) -> None:
        """The broker has let go of what is before ``first``, for good."""
        where = f"{book.name}, shard {shard.index}"
        if first < shard.first:
            self.find("resurrected", f"{where}: {first} is older than {shard.first}")
        if shard.first < first:
            gone = [each for each in (*shard.records, *shard.promised) if each < first]
            if not book.trims and (shard.first or gone):
                self.find("trimmed", f"{where}: up to {first}")
            for number in gone:
                shard.records.pop(number, None)
                shard.promised.pop(number, None)
            self.counts["let go"] += len(gone)
            shard.first = first

    # Appending --------------------------------------------------------------------------------

    def invoke(self, entry: Entry) -> None:
        """The bytes of an append go out now."""
        self.entries[entry.number] = entry
        self.counts["attempts"] += 1
        if entry.placed:
            order = self.books[entry.stream].order
            order.setdefault((entry.producer, entry.key), []).append(entry.number)

    def ok(self, entry: Entry, index: int, number: int) -> None:
        """The broker says that it has it, and where."""
        entry.outcome = OK
        self.counts["acked"] += 1
        book = self.books[entry.stream]
        shard = book.shard(index)
        where = f"{book.name}, shard {index}, {number}: {entry.name}"
        if entry.place is not None and entry.place != (index, number):
            self.find("moved", f"{where} was seen at {entry.place}")
            return
        other = shard.promised.get(number)
        record = shard.records.get(number)
        if other is not None or (record is not None and entry.place is None):
            self.find("reused", where)
            return
        entry.place = book.places[entry.number] = (index, number)
        if record is None:
            shard.promised[number] = entry

    def fail(self, entry: Entry) -> None:
        """Refused: it must never be seen."""
        entry.outcome = FAIL
        self.counts["fail"] += 1

    def unknown(self, entry: Entry) -> None:
        """The connection went before the answer came."""
        entry.outcome = INFO
        self.counts["info"] += 1

    # Reading ----------------------------------------------------------------------------------

    def read(self, name: str, index: int, number: int, records: Sequence[Record]) -> None:
        """Records came of a read that began at ``number``."""
        book = self.books[name]
        shard = book.shard(index)
        self.counts["read"] += len(records)
        where = f"{name}, shard {index}"
        if records and records[0].number < number:
            self.find("gap", f"{where}: {records[0].number} came for {number}")
        elif records and records[0].number > number and not book.trims:
            self.find("trimmed", f"{where}: {records[0].number} came for {number}")
        before = shard.records.get(records[0].number - 1) if records else None
        for record in records:
            known = shard.records.get(record.number)
            if known is not None:
                self.counts["compared"] += 1
                if known != record:
                    text = f"{where}: {record.number} was {known!r:.300}, is {record!r:.300}"
                    self.find("changed", text)
            elif record.number < shard.first:
                self.find("resurrected", f"{where}: {record.number} is before {shard.first}")
            else:
                self._new(book, shard, record, where)
            if before is not None:
                if record.number != before.number + 1:
                    self.find("gap", f"{where}: {record.number} behind {before.number}")
                if record.time_ms < before.time_ms:
                    self.find("misordered", f"{where}: the time falls at {record.number}")
            before = record

    def ended(self, name: str, index: int, end: int) -> None:
        """A reader was told that the shard is closed, and ends there: so it stays."""
        shard = self.books[name].shard(index)
        if shard.end not in (0, end):
            self.find("changed", f"{name}, shard {index}: ended at {shard.end}, now {end}")
        shard.end = end

    def _new(self, book: StreamBook, shard: ShardBook, record: Record, where: str) -> None:
        """A record that was never read before."""
        shard.records[record.number] = record
        promised = shard.promised.pop(record.number, None)
        where = f"{where}, {record.number}"
        if book.name == FAN_STREAM:
            self.fan.in_stream(shard.index, record, where)
            return
        parsed = parse_body(record.body)
        if parsed is None:
            self.find("corrupt", f"{where}: {record.body[:60]!r}")
            return
        entry = self.entries.get(parsed[1])
        if entry is None or entry.outcome == FAIL or entry.stream != book.name:
            known = book.places.get(parsed[1])
            kind = "phantom" if known is None else "duplicates"
            self.find(kind, f"{where}: {parsed}, which is at {known}")
            return
        if promised is not None and promised is not entry:
            self.find("reused", f"{where}: {entry.name} is where {promised.name} was put")
        if entry.place not in (None, (shard.index, record.number)):
            self.find("duplicates", f"{where}: {entry.name} is at {entry.place} too")
        if (record.key, record.headers) != (entry.key, entry.headers):
            self.find("corrupt", f"{where}: {entry.name} has {record.key!r}, {record.headers!r}")
        entry.place = book.places[entry.number] = (shard.index, record.number)
        if entry.placed and shard.first_hash >= 0:
            hash_key = int.from_bytes(hashlib.md5(record.key, usedforsecurity=False).digest())
            if not shard.first_hash <= hash_key <= shard.last_hash:
                self.find("misplaced", f"{where}: {record.key!r}")

    # After a start ----------------------------------------------------------------------------

    def may_have_lost(self, book: StreamBook) -> bool:
        """Whether the end of it may be gone."""
        return book.relaxed and any(run >= book.checked_run for run in self.power_cut_runs)

    def ends_at(self, name: str, index: int, following: int) -> None:
        """After a start, before anything new comes, that is where the shard ends."""
        book = self.books[name]
        shard = book.shard(index)
        lenient = self.may_have_lost(book)
        for number in [number for number in shard.records if number >= following]:
            del shard.records[number]
            self._is_gone("vanished", f"{name}, shard {index}: {number} of {following}", lenient)
        for number, entry in [each for each in shard.promised.items() if each[0] >= following]:
            del shard.promised[number]
            self._is_gone("lost", f"{name}, shard {index}, {number}: {entry.name}", lenient)
        shard.verified = min(shard.verified, following)

    def _is_gone(self, kind: str, text: str, lenient: bool) -> None:
        if lenient:
            self.counts[f"{kind} (os, power cut)"] += 1
        else:
            self.find(kind, text)

    def settled(self, name: str) -> None:
        """All of it up to its end was read after a start: what was unknown is decided now."""
        book = self.books[name]
        for shard in book.shards.values():
            for number, entry in shard.promised.items():
                self.find("lost", f"{name}, shard {shard.index}, {number}: {entry.name}")
            shard.promised.clear()
        for number, entry in list(self.entries.items()):
            if entry.stream == name:
                if entry.outcome == INFO and entry.place is not None:
                    self.counts["recovered"] += 1
                del self.entries[number]
        self._check_order(book)
        book.checked_run = self.run

    def _check_order(self, book: StreamBook) -> None:
        for (producer, key), numbers in book.order.items():
            places = [book.places[number] for number in numbers if number in book.places]
            for before, after in pairwise(places):
                if after[1] <= before[1]:
                    text = f"{book.name}: {producer} {key!r}: {after} was sent behind {before}"
                    self.find("misordered", text)
            kept = [number for number in numbers if number in book.places][-1:]
            book.order[producer, key] = kept
        still = {number for numbers in book.order.values() for number in numbers}
        recent = {n: place for n, place in book.places.items() if n in still}
        book.places = recent

    # Groups -----------------------------------------------------------------------------------

    def group(self, stream: str, name: str) -> GroupBook:
        """What is known of a group."""
        key = (stream, name)
        if key not in self.groups:
            self.groups[key] = GroupBook(self, stream, name)
        return self.groups[key]

    def figures(self) -> str:
        """The line of figures."""
        told = ["attempts", "acked", "info", "fail", "recovered", "read", "compared", "let go"]
        told += ["resharded", "checkpoints", "given", "takeovers", "refused", "published"]
        told += ["fan deliveries", "files", "chapters"]
        told += [kind for kind in self.counts if "(" in kind]
        return ", ".join([*(f"{kind} {self.counts[kind]}" for kind in told), super().figures()])

"""Who appends to streams, reads and reshards them while the broker breaks.

Every actor has a connection of its own and keeps the journal; when the connection goes it notes
what it does not know, and ends. See ``load.py``.
"""

import asyncio
import itertools
import random
from functools import partial
from typing import Any

import msgpack

from .journal import body_of
from .load import UNKNOWN_CODES
from .stream_audit import Entry, ShardBook, StreamBook, StreamJournal
from .stream_wire import (
    APPEND,
    FIND_NUMBER,
    MERGE_SHARDS,
    READ,
    RESCALE_STREAM,
    SPLIT_SHARD,
    Chunk,
    Damaged,
    StreamWire,
    chunk_of,
)
from .waiting import until
from .wire import Gone, Refusal

__all__ = ["Tail", "append", "read_all", "reread", "rereadable", "reshard", "take_chunk"]

BATCH_RECORDS_MAX = 30
WINDOW = 3  # batches of a producer in flight
KEYS = 7
TAIL_CREDIT = 200_000  # bytes
OPEN_SHARDS_MAX = 6
SHARDS_MAX = 40  # of a stream until it is deleted, closed ones too
READ_WAIT_MS = 5_000  # for what stands there already: a hang, not a measure
_numbers = itertools.count(1)  # of records, in the whole process


def take_chunk(
    journal: StreamJournal, stream: str, index: int, number: int, sent: list[object]
) -> Chunk:
    """Note what came for a read that began at ``number``; 0: at the oldest record."""
    try:
        chunk = chunk_of(sent)
    except Damaged as damage:
        journal.find("corrupt", f"{stream}, shard {index}: {damage}")
        return Chunk([], number, False, [])
    if chunk.records:
        journal.read(stream, index, number or chunk.records[0].number, chunk.records)
    if chunk.ended and (chunk.records or not journal.books[stream].trims):
        journal.ended(stream, index, chunk.next)  # one that was let go ends wherever one was
    return chunk


# --- producers ---


async def append(port: int, journal: StreamJournal, rng: random.Random, stream: str) -> None:
    """Append batches, several in flight, until the broker is gone. Raises Gone."""
    wire = await StreamWire.open(port)
    producer = f"to-{stream}-{next(_numbers)}"
    pending: set[asyncio.Task[None]] = set()
    try:
        while not wire.gone:
            batch = [
                _entry(rng, stream, producer) for _ in range(rng.randint(1, BATCH_RECORDS_MAX))
            ]
            pending.add(asyncio.ensure_future(_append(wire, journal, rng, stream, batch)))
            if len(pending) >= WINDOW:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(rng.random() * 0.04)
    finally:
        wire.abort()
        await asyncio.gather(*pending, return_exceptions=True)


def _entry(rng: random.Random, stream: str, producer: str) -> Entry:
    number = next(_numbers)
    key = f"{producer}-{rng.randrange(KEYS)}".encode() if rng.random() < 0.9 else b""
    headers = msgpack.packb({"number": str(number)}) if number % 5 == 0 else b""
    return Entry(stream, producer, number, key, headers)


async def _append(
    wire: StreamWire, journal: StreamJournal, rng: random.Random, stream: str, batch: list[Entry]
) -> None:
    bodies = []
    hash_keys = []
    if rng.random() < 0.1:  # where these say, so the keys say nothing
        hash_keys = [str(rng.getrandbits(128)) for _ in batch]
    for entry in batch:
        size = entry.number % 13 * 20 + (30_000 if entry.number % 397 == 0 else 8)
        bodies.append(body_of(entry.producer, entry.number, size))
        entry.placed = bool(entry.key) and not hash_keys
        journal.invoke(entry)
    keys = [entry.key for entry in batch]
    headers = [entry.headers for entry in batch]
    columns = [keys, headers if any(headers) else [], hash_keys]
    try:
        _, _, shards, numbers, *errors = await wire.ask(APPEND, stream, bodies, *columns)
    except Refusal as refusal:
        for entry in batch:
            (journal.unknown if refusal.code in UNKNOWN_CODES else journal.fail)(entry)
        journal.counts[f"refused {refusal.code}"] += 1
        await asyncio.sleep(0.02)
        return
    except (Gone, asyncio.CancelledError):
        for entry in batch:
            journal.unknown(entry)
        return
    refused = {index: code for index, code, _ in (errors[0] if errors else [])}
    for index, entry in enumerate(batch):
        if index in refused:
            journal.fail(entry)
        else:
            journal.ok(entry, shards[index], numbers[index])


# --- readers ---


class Tail:
    """Reads all shards of a stream on and on, and children behind their parents."""

    def __init__(self, journal: StreamJournal, rng: random.Random, stream: str) -> None:
        self._journal = journal
        self._rng = rng
        self._stream = stream
        self._numbers: dict[int, int] = {}  # to go on with, of each shard that has not ended
        self._ended: set[int] = set()
        self._owed = 0  # bytes to allow again
        self._over = False
        self._count = 0  # of records

    async def run(self, port: int) -> None:
        """Read from here and there until the broker is gone. Raises Gone."""
        wire = await StreamWire.open(port)
        try:
            while True:
                self._numbers = self._starts()
                if not self._numbers:
                    await asyncio.sleep(0.05)
                    continue
                self._ended.clear()
                self._over = False
                try:
                    tail = await wire.tail(self._on_chunk, self._stream, self._numbers, TAIL_CREDIT)
                except Refusal as refusal:
                    _is_let_go(self._journal.books[self._stream], refusal)
                    continue
                for _ in range(self._rng.randint(5, 40)):
                    if self._over:
                        break
                    wire.credit(tail, self._owed)
                    self._owed = 0
                    await asyncio.sleep(0.02)
                await wire.leave(tail)
                self._owed = 0
        finally:
            wire.abort()

    async def through(self, wire: StreamWire, guard_seconds: float) -> None:
        """Read all of a stream that nobody else uses, once. Raises Gone."""
        book = self._journal.books[self._stream]
        self._numbers = {
            shard.index: 0
            for shard in book.shards.values()
            if not any(parent in book.shards for parent in shard.parents)
        }
        tail = await wire.tail(self._on_chunk, self._stream, self._numbers, TAIL_CREDIT, True)
        heard = -1
        while heard < self._count and not self._over:
            heard = self._count
            wire.credit(tail, self._owed)  # of all that was heard of, before more is waited for
            self._owed = 0
            await until(partial(self._heard_more, heard), guard_seconds)
        if wire.gone:
            raise Gone(wire.reason)
        if self._count != book.records:
            text = f"a tail of {self._stream} had {self._count} of {book.records} records,"
            text += (
                f" and was {'over' if self._over else 'waiting'} at {self._numbers} {wire.reason}"
            )
            self._journal.find("skipped" if self._count < book.records else "repeated", text)

    def _heard_more(self, count: int) -> bool:
        return self._over or self._count > count

    def _starts(self) -> dict[int, int]:
        """Of all shards without parents, or of the open ones."""
        book = self._journal.books[self._stream]
        shards = [shard for shard in book.shards.values() if shard.first_hash >= 0]
        old = self._rng.random() < 0.3
        wanted = [
            shard
            for shard in shards
            if (not any(each in book.shards for each in shard.parents) if old else not shard.end)
        ]
        return {shard.index: _somewhere(self._rng, shard, old) for shard in wanted}

    def _on_chunk(self, told: list[object]) -> None:
        if not told:
            self._over = True
            return
        last, index, sent = told
        assert isinstance(index, int) and isinstance(sent, list)
        self._owed += sum(map(len, sent[0]))
        number = self._numbers.get(index)
        journal = self._journal
        where = f"a tail of {self._stream}, shard {index}"
        if number is None:
            journal.find("misordered", f"{where}: nobody asked for it, or not yet")
            return
        chunk = take_chunk(journal, self._stream, index, number, sent)
        self._count += len(chunk.records)
        self._numbers[index] = chunk.next
        if chunk.ended:
            del self._numbers[index]
            self._ended.add(index)
            for child in chunk.children:
                if child not in self._ended:
                    self._numbers.setdefault(child, 0)
        self._over = bool(last)


def _somewhere(rng: random.Random, shard: ShardBook, old: bool = True) -> int:
    """A number that was there, more often one of the last."""
    count = len(shard.records)
    back = rng.randint(0, count if old else min(count, 300))
    return max(shard.first + count - back, shard.first)


async def reread(port: int, journal: StreamJournal, rng: random.Random) -> None:
    """Read ranges again and again, in pieces of all sizes. Raises Gone."""
    wire = await StreamWire.open(port)
    try:
        while True:
            book = journal.books[rng.choice([*journal.books])]
            shards = rereadable(book)
            if shards:
                shard = rng.choice(shards)
                act = _find_time if rng.random() < 0.2 else _read_some
                try:
                    await act(wire, journal, rng, book, shard)
                except Refusal as refusal:
                    _is_let_go(book, refusal)
            await asyncio.sleep(rng.random() * 0.02)
    finally:
        wire.abort()


def rereadable(book: StreamBook) -> list[ShardBook]:
    """Shards that records came from and that the broker told of.

    A tail follows children that it was not told of yet, and does not know where they begin.
    """
    return [shard for shard in book.shards.values() if shard.records and shard.first_hash >= 0]


def _is_let_go(book: StreamBook, refusal: Refusal) -> None:
    """A shard that is not there any more may be refused; else raise it again."""
    if not book.trims or refusal.code not in ("not-found", "invalid-argument"):
        raise refusal


async def _read_some(
    wire: StreamWire,
    journal: StreamJournal,
    rng: random.Random,
    book: StreamBook,
    shard: ShardBook,
) -> None:
    number = _somewhere(rng, shard)
    limits = rng.randint(1, 500), rng.choice([1, 5_000, 200_000])
    answer = await wire.call(READ, book.name, shard.index, number, *limits)
    take_chunk(journal, book.name, shard.index, number, answer[4])


async def _find_time(
    wire: StreamWire,
    journal: StreamJournal,
    rng: random.Random,
    book: StreamBook,
    shard: ShardBook,
) -> None:
    record = shard.records.get(_somewhere(rng, shard))
    if record is None:
        return
    start = ["time", 0, record.time_ms]
    found = (await wire.call(FIND_NUMBER, book.name, shard.index, start))[2]
    before, there = shard.records.get(found - 1), shard.records.get(found)
    is_first = before is None or before.time_ms < record.time_ms
    is_late = there is None or there.time_ms >= record.time_ms
    if not book.trims and (found > record.number or not is_first or not is_late):
        text = f"{book.name}, shard {shard.index}: {found} is the first at {record.time_ms}"
        journal.find("misplaced", f"{text}, {record.number} is of that time")


async def read_all(
    wire: StreamWire,
    journal: StreamJournal,
    rng: random.Random,
    stream: str,
    starts: dict[int, int],
) -> None:
    """Read shards to their ends, each from a number on. Raises Gone."""
    for index, end in starts.items():
        shard = journal.books[stream].shard(index)
        number = min(max(shard.first, shard.verified), end)
        while number < end:
            limits = rng.randint(50, 2_000), rng.choice([1_000, 50_000, 1_000_000])
            answer = await wire.call(READ, stream, index, number, *limits, READ_WAIT_MS)
            chunk = take_chunk(journal, stream, index, number, answer[4])
            if chunk.next <= number:
                journal.find("stuck", f"{stream}, shard {index}: nothing came for {number}")
                break
            number = chunk.next
        shard.verified = end


# --- resharding ---


async def reshard(port: int, journal: StreamJournal, rng: random.Random, stream: str) -> None:
    """Split, merge and rescale a stream now and then. Raises Gone."""
    wire = await StreamWire.open(port)
    try:
        while True:
            await asyncio.sleep(rng.random() * 0.6)
            book = journal.books[stream]
            if len(book.shards) > SHARDS_MAX:
                continue
            request = _next_shards(rng, book)
            try:
                answer = await wire.call(request[0], stream, *request[1:])
            except Refusal as refusal:
                if refusal.code in UNKNOWN_CODES:
                    raise
                journal.counts[f"refused {refusal.code}"] += 1
            else:
                journal.counts["resharded"] += 1
                journal.told(stream, answer[2][0]["shards"])
    finally:
        wire.abort()


def _next_shards(rng: random.Random, book: StreamBook) -> list[Any]:
    shards = [shard for shard in book.shards.values() if not shard.end and shard.first_hash >= 0]
    shards.sort(key=lambda shard: shard.first_hash)
    if rng.random() < 0.2 or not shards:
        return [RESCALE_STREAM, rng.randint(1, 4)]
    if len(shards) >= OPEN_SHARDS_MAX or (len(shards) > 1 and rng.random() < 0.4):
        at = rng.randrange(len(shards) - 1)
        return [MERGE_SHARDS, shards[at].index, shards[at + 1].index]
    shard = rng.choice(shards)
    hash_key = rng.randint(shard.first_hash, shard.last_hash)  # now and then it cannot be
    return [SPLIT_SHARD, shard.index, rng.choice(["", str(hash_key)])]

"""What the storage tests share: a broker small enough to be obviously right, and a driver for it.

``Ledger`` is the state: which (entity, sequence) points at which record. ``Driver`` owns a log on a
``SimDisk`` with step-wise workers, appends messages and acknowledgements, and remembers after which
operation an acknowledgement came. ``check`` compares what a recovery finds with that memory.
"""

import random
from array import array
from collections.abc import Iterator

import msgspec

from braidmq.storage import Durability, Extent, FileLog, Log, Reference, StorageError
from braidmq.storage.frame import FrameHeader, decode_frame_header
from braidmq.storage.record import (
    ACK,
    LINK,
    MESSAGE,
    decode_ack,
    decode_link,
    decode_message,
    encode_ack,
    encode_link,
    encode_message,
    record_is_intact,
)
from tests.simdisk import SimDisk, StepScheduler, StepWorker, run_steps

DIRECTORY = "/data"
SHARD = "/data/shard-00"

Key = tuple[int, int]


def body_of(key: Key, size: int = 40) -> bytes:
    """A body that tells whose it is."""
    text = f"body of {key[0]}/{key[1]} ".encode()
    return (text * (size // len(text) + 1))[: max(size, len(text))]


class Ledger:
    """The state a broker would hold, and its side of the contract."""

    def __init__(self, page: int = 4) -> None:
        self.slots: dict[Key, int] = {}
        self.log: Log | None = None
        self.page = page
        self.applied: list[tuple[int, int]] = []  # (lsn, kind) during recovery
        self.finished = False

    def load(self, kind: int, content: bytes) -> None:
        assert kind == 1 and not self.finished
        for entity, seq, lsn in msgspec.msgpack.decode(content, type=list[tuple[int, int, int]]):
            self.slots[entity, seq] = lsn

    def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        if not self.finished:
            assert record_is_intact(buffer, at)
            self.applied.append((lsn, kind))
        if kind == MESSAGE:
            message = decode_message(buffer, at, lsn)
            for key in message.targets:
                if not message.replaces:
                    self.slots[key] = lsn
                else:
                    self._move(key, message.replaces, lsn)
        elif kind == ACK:
            record = decode_ack(buffer, at)
            for seq in record.sequences:
                self._drop((record.entity, seq))
        elif kind == LINK:
            link = decode_link(buffer, at, lsn)
            target = (link.target, link.target_seq)
            if link.replaces:
                self._move(target, link.replaces, lsn)
            else:
                self._drop((link.source, link.source_seq))
                self.slots[target] = lsn

    def _move(self, key: Key, old: int, new: int) -> None:
        if self.slots.get(key) == old:
            self.slots[key] = new
            self._release(old)
        else:
            self._release(new)

    def _drop(self, key: Key) -> None:
        lsn = self.slots.pop(key, 0)
        if lsn:
            self._release(lsn)

    def _release(self, lsn: int) -> None:
        if self.finished:
            assert self.log is not None
            self.log.release(lsn)

    def finish(self) -> None:
        assert not self.finished and self.log is not None
        self.finished = True
        self.log.adopt_many(array("Q", self.slots.values()))

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        keys = sorted(self.slots)
        for first in range(0, len(keys), self.page):
            rows = [
                (*key, self.slots[key])
                for key in keys[first : first + self.page]
                if key in self.slots
            ]
            yield 1, msgspec.msgpack.encode(rows)

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        keys = sorted(self.slots)
        for start in range(0, len(keys), self.page):
            found = []
            for key in keys[start : start + self.page]:
                lsn = self.slots.get(key, -1)
                if first <= lsn < end:
                    found.append(Reference(lsn, MESSAGE, *key))
            yield found


class Driver:
    """A log on a simulated disk, and everything that was done with it."""

    def __init__(
        self, disk: SimDisk, history: "list[frozenset[Key]] | None" = None, **options
    ) -> None:
        self.disk = disk
        self.ledger = Ledger()
        self.scheduler = StepScheduler()
        self.workers: list[StepWorker] = []
        options = {"segment_bytes": 2048, "ballast_bytes": 0, "disk_free_bytes_min": 0} | options
        self.log = FileLog(DIRECTORY, disk=disk, writer=self._worker, **options)
        self.ledger.log = self.log
        # history[n]: the keys after n operations; acknowledged: so many operations are durable.
        self.history = [frozenset()] if history is None else history
        self.acknowledged = len(self.history) - 1
        self.acknowledged_os = self.acknowledged
        self.errors: list[StorageError] = []
        self.next_seq = 1 + max((seq for state in self.history for _, seq in state), default=0)

    def _worker(self, name: str) -> StepWorker:
        worker = StepWorker(name)
        self.workers.append(worker)
        return worker

    def open(self):
        report = self.log.open(self.ledger)
        self.log.start(self.scheduler)
        return report

    def publish(self, size: int = 40, entity: int = 1, copies: int = 1) -> Key:
        seq = self.next_seq
        self.next_seq += 1
        targets = [(entity + number, seq) for number in range(copies)]
        parts = encode_message(targets, 7, b"", body_of((entity, seq), size))
        lsn = self.log.append(parts, references=copies)
        self.ledger.apply(lsn, MESSAGE, b"".join(parts), 0)
        self._note()
        return targets[0]

    def acknowledge(self, *keys: Key) -> None:
        record = encode_ack(keys[0][0], 1, [seq for _, seq in keys])
        lsn = self.log.append((record,))
        self.ledger.apply(lsn, ACK, record, 0)
        self._note()

    def link(self, key: Key, entity: int) -> Key:
        """Move a message to another entity, as to a dead-letter queue."""
        target = (entity, key[1])
        record = encode_link(*key, *target, self.ledger.slots[key], 7, 0, b"why")
        lsn = self.log.append((record,), references=1)
        self.ledger.apply(lsn, LINK, record, 0)
        self._note()
        return target

    def _note(self) -> None:
        self.history.append(frozenset(self.ledger.slots))

    def wait(self, level: Durability = Durability.SYNC) -> None:
        self.log.wait(level, self._done, (level, len(self.history) - 1))

    def _done(self, argument: object, error: StorageError | None) -> None:
        assert isinstance(argument, tuple)
        level, operations = argument
        if error is not None:
            self.errors.append(error)
        elif level == Durability.SYNC:
            assert operations >= self.acknowledged
            self.acknowledged = operations
            self.acknowledged_os = max(self.acknowledged_os, operations)
        else:
            self.acknowledged_os = max(self.acknowledged_os, operations)

    def settle(self) -> None:
        """Let everything happen that can."""
        while self.scheduler.step() or any(worker.step() for worker in self.workers):
            pass

    def commit(self, level: Durability = Durability.SYNC) -> None:
        self.wait(level)
        self.settle()

    def run(self, jobs) -> None:
        run_steps(jobs, self.settle)

    def body(self, key: Key) -> bytes:
        """Read a message by whatever way it takes."""
        got: list[tuple[Extent | None, StorageError | None]] = []
        lsn = self.ledger.slots[key]
        extent = self.log.get(lsn)
        if extent is None:
            self.log.fetch(lsn, lambda _, extent, error: got.append((extent, error)), None)
            assert not got
            self.settle()
            extent, error = got[0]
            if error is not None:
                raise error
        assert extent is not None and extent.start <= lsn < extent.end
        at = lsn - extent.start
        assert record_is_intact(extent.buffer, at)
        return decode_message(extent.buffer, at, lsn).body


def segments_of(disk: SimDisk) -> list[str]:
    return [name for name in disk.names() if "/wal-" in name]


def last_segment(disk: SimDisk) -> str:
    return max(segments_of(disk))


def frames_of(disk: SimDisk, path: str) -> list[FrameHeader]:
    """The headers of all frames in a segment."""
    data = bytes(disk.content(path))
    found = []
    at = 0
    while data[at:].strip(b"\0"):
        header = decode_frame_header(data, at)
        assert header is not None
        found.append(header)
        at += header.length
    return found


def written(disk: SimDisk, path: str) -> bytes:
    """What stands in a segment, without the zeros that were written ahead."""
    return bytes(disk.content(path))[: sum(header.length for header in frames_of(disk, path))]


def check(driver: Driver, at_least: int | None = None) -> None:
    """What was recovered is the state after some operation, no earlier than the last promised."""
    least = driver.acknowledged if at_least is None else at_least
    state = frozenset(driver.ledger.slots)
    assert state in driver.history[least:], (
        f"{sorted(state)} is none of the states after operation {least}: "
        f"{[sorted(each) for each in driver.history[least:]]}"
    )


def check_bodies(driver: Driver) -> None:
    """Every message that is there can be read, and is the right one."""
    for key, lsn in driver.ledger.slots.items():
        if driver.ledger.log is not None and key[0] < 5:
            body = driver.body(key)
            assert body[: len(body_of(key))].startswith(b"body of "), (key, lsn)
            assert f"/{key[1]} ".encode() in body


def reopened(driver: Driver, disk: SimDisk, **options) -> Driver:
    """Another driver over ``disk`` that knows what the first one knew."""
    other = Driver(disk, list(driver.history), **options)
    other.acknowledged = driver.acknowledged
    other.acknowledged_os = driver.acknowledged_os
    return other


def settled_prefix(driver: Driver) -> None:
    """Make the recovered state the beginning of a new history."""
    driver.history = [frozenset(driver.ledger.slots)]
    driver.acknowledged = driver.acknowledged_os = 0


def rngs(count: int, salt: int = 0) -> Iterator[random.Random]:
    for seed in range(count):
        yield random.Random(seed * 1_000_003 + salt)

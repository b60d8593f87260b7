"""The store of cold files: answers in a later turn, order of reading and removing, what is swept.

``test_crashes_lose_and_repeat_nothing`` plays what the broker does, on a log whose power fails.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest

from braidmq.storage import (
    ColdCorrupt,
    ColdStore,
    Corrupt,
    Durability,
    FileLog,
    LogClosed,
    Reference,
    StorageError,
)
from braidmq.storage.block import Block, decode_block, encode_block
from braidmq.storage.cold import ColdFile, FileColdStore
from braidmq.storage.coldreader import cold_path
from braidmq.storage.record import COLD as COLD_RECORD
from braidmq.storage.record import STREAM
from braidmq.storage.streams import ColdRecord, decode_cold, encode_cold
from braidmq.storage.tools import verify
from tests.simdisk import PowerCut, SimDisk, StepScheduler, StepWorker, run_steps
from tests.unit.storage.cold_support import SHARD, Row, make_blocks, rows

COLD = "/data/shard-00/cold"


class Bench:
    def __init__(self, disk: SimDisk | None = None, **options: Any) -> None:
        self.disk = disk or SimDisk()
        self.worker = StepWorker("reader")
        self.scheduler = StepScheduler()
        self.store = FileColdStore(self.disk, COLD, **options)
        self.store.start(self.worker, self.scheduler.soon, self.scheduler.soon_from_thread)
        self.got: list[tuple[object, Any, StorageError | None]] = []

    def callback(self, argument: object, result: Any, error: StorageError | None) -> None:
        self.got.append((argument, result, error))

    def settle(self) -> None:
        while self.scheduler.step() or self.worker.step():
            pass

    def write(self, generation: int = 1, first: int = 1) -> ColdFile:
        return self.store.write(SHARD, generation, make_blocks(first, 5))


def test_it_satisfies_the_contract():
    store: ColdStore = Bench().store
    log = FileLog("/data", disk=SimDisk())
    assert isinstance(log.cold, type(store))


def test_answers_come_in_a_later_turn():
    bench = Bench()
    file = bench.write()
    bench.store.read(file, 4, 1 << 30, 1 << 20, bench.callback, "read")
    bench.store.seek(file, 1100, bench.callback, "seek")
    bench.store.seek(file, 10**6, bench.callback, "seek behind the end")
    assert bench.got == []
    bench.settle()
    (argument, blocks, error), *found = bench.got
    assert (argument, error) == ("read", None)
    assert rows(blocks)[-12:] == rows(make_blocks(1, 5))[3:]
    assert found == [("seek", 4, None), ("seek behind the end", file.end, None)]


def test_what_goes_wrong_is_told_to_who_asked_and_stops_nobody(monkeypatch):
    bench = Bench()
    file = bench.write()
    missing = msgspec.structs.replace(file, generation=9)
    bench.store.read(missing, 4, 1 << 30, 1, bench.callback, "missing")
    bench.store.seek(missing, 4, bench.callback, "missing")
    bench.settle()
    assert [type(error) for _, _, error in bench.got] == [ColdCorrupt, ColdCorrupt]

    def fail(*arguments: object) -> list[Block]:
        raise MemoryError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(bench.store._reader, "read", fail)
        bench.store.read(file, 4, 1 << 30, 1, bench.callback, "too much")
        bench.settle()
    assert "no memory" in str(bench.got[2][2])
    bench.store.read(file, 4, 1 << 30, 1, bench.callback, "fine")
    bench.settle()
    assert bench.got[3][2] is None


def test_a_callback_that_fails_harms_nobody_else():
    bench = Bench()
    file = bench.write()

    def bad(argument: object, result: object, error: object) -> None:
        raise ZeroDivisionError

    bench.store.read(file, 1, 1 << 30, 1, bad, None)
    bench.store.read(file, 1, 1 << 30, 1, bench.callback, "after")
    with pytest.raises(ZeroDivisionError):
        bench.settle()
    bench.settle()
    assert [argument for argument, _, _ in bench.got] == ["after"]


def test_a_write_that_fails_leaves_nothing():
    bench = Bench()
    blocks = make_blocks(1, 3)
    for bad in ([], blocks[::-1]):
        with pytest.raises(ValueError):
            bench.store.write(SHARD, 1, bad)
    assert bench.disk.names() == []
    assert rows(bench.store.blocks(bench.store.write(SHARD, 1, blocks))) == rows(blocks)


def test_files_grow_by_writing_them_again_behind_the_old_blocks():
    bench = Bench()
    one = bench.write(1)
    more = make_blocks(one.end, 4)
    two = bench.store.write(SHARD, 2, [*bench.store.blocks(one), *more])
    assert (two.first, two.end) == (one.first, more[-1].end)
    assert rows(bench.store.blocks(two)) == rows(make_blocks(1, 5)) + rows(more)
    assert bench.disk._handles == {}


def test_a_file_is_removed_after_the_reads_that_were_begun_before():
    bench = Bench()
    file = bench.write()
    bench.store.read(file, 1, 1 << 30, 1, bench.callback, "before")
    job = bench.store.unlink([file])
    bench.store.read(file, 2, 1 << 30, 1, bench.callback, "before too")
    assert job is not None
    job()
    bench.settle()
    assert [error for _, _, error in bench.got] == [None, None]
    assert bench.disk.names() == []
    assert bench.disk._handles == {}  # its room is free
    bench.store.read(file, 1, 1 << 30, 1, bench.callback, "late")
    bench.settle()
    assert isinstance(bench.got[2][2], Corrupt)


def test_a_file_that_cannot_be_removed_is_left_to_the_next_sweep():
    bench = Bench()
    files = [bench.write(1), bench.write(2)]
    bench.disk.fail_at[bench.disk.calls] = 5
    for job in (bench.store.unlink(files), bench.store.unlink(files)):
        assert job is not None
        job()
        if bench.disk.faults["unlink EIO"] == 1 and bench.disk.names():
            assert bench.disk.names() == [cold_path(COLD, files[0])]
    assert bench.disk.names() == []


def test_a_sweep_keeps_what_is_known_and_what_it_does_not_know_itself():
    bench = Bench()
    files = [bench.write(generation) for generation in (1, 2, 3)]
    other = encode_block(8, 1, 1000, [b"k"], None, [b"body"])
    bench.store.write(8, 1, [decode_block(other)])
    for name in ("00000007/00000004.tmp", "00000007/notes.txt", "notes.txt"):
        bench.disk.close(bench.disk.create(f"{COLD}/{name}"))
    assert bench.store.sweep([files[1]]) == []
    assert bench.disk.names() == [
        cold_path(COLD, files[1]),
        f"{COLD}/00000007/notes.txt",
        f"{COLD}/notes.txt",
    ]
    assert bench.disk.listdir(COLD) == ["00000007", "notes.txt"]
    assert rows(bench.store.blocks(files[1])) == rows(make_blocks(1, 5))
    Bench().store.sweep([])  # where there is no directory


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_file_that_is_lost_is_refused_unless_a_loss_is_accepted(damage):
    bench = Bench()
    files = [bench.write(1), bench.write(2, 100)]
    path = cold_path(COLD, files[0])
    if damage == "missing":
        bench.disk.remove(path)
    else:
        bench.disk.replace(path, bytes(bench.disk.content(path))[:-1])
    names = bench.disk.names()
    with pytest.raises(ColdCorrupt, match="missing") as caught:
        bench.store.sweep(files)
    assert caught.value.path == path
    assert bench.disk.names() == names
    assert Bench(bench.disk, accept_loss=True).store.sweep(files) == [files[0]]
    assert bench.disk.names() == [cold_path(COLD, files[1])]


def test_after_close_every_read_is_refused():
    bench = Bench()
    file = bench.write()
    bench.store.read(file, 1, 1 << 30, 1, bench.callback, "before")
    bench.settle()
    bench.store.close()
    assert bench.disk._handles == {}
    bench.store.read(file, 1, 1 << 30, 1, bench.callback, "after")
    bench.store.seek(file, 1, bench.callback, "after")
    assert len(bench.got) == 1
    bench.settle()
    assert [type(error) for _, _, error in bench.got[1:]] == [LogClosed, LogClosed]


def test_reads_go_through_a_log_and_end_with_it():
    disk, workers, scheduler = SimDisk(), [], StepScheduler()

    def worker(name: str) -> StepWorker:
        workers.append(StepWorker(name))
        return workers[-1]

    log = FileLog("/data", disk=disk, writer=worker)

    class Nothing:
        def finish(self) -> None:
            log.cold.sweep([])

    log.open(Nothing())  # type: ignore[arg-type]
    log.start(scheduler)
    file = log.cold.write(SHARD, 1, make_blocks(1, 3))
    got: list[Any] = []
    log.cold.read(file, 1, 1 << 30, 1, lambda *answer: got.append(answer), None)
    while scheduler.step() or any(each.step() for each in workers):
        pass
    assert rows(got[0][1]) == rows(make_blocks(1, 3))
    log.close()
    log.cold.read(file, 1, 1 << 30, 1, lambda *answer: got.append(answer), None)
    scheduler.step()
    assert isinstance(got[1][2], LogClosed)


class Turns:
    """An event loop of real threads' calls."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.soon = self.soon_from_thread = self.calls.put

    def later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        self.soon(callback)

    def now_ms(self) -> int:
        return 1_000_000


def test_real_files_and_threads_do_the_same(tmp_path: Path):
    log = FileLog(str(tmp_path / "data"), ballast_bytes=0)
    shard = Shards()
    shard.log = log
    log.open(shard)
    turns = Turns()
    log.start(turns)
    blocks = make_blocks(1, 100, records=50, body_bytes=100)
    file = log.cold.write(SHARD, 1, blocks)
    got: list[Any] = []
    number = 1
    while number < file.end:
        log.cold.read(file, number, 1 << 30, 100_000, lambda *answer: got.append(answer[1:]), None)
        while not got:
            turns.calls.get(timeout=60)()
        found, error = got.pop()
        assert error is None
        assert rows(found) == rows(blocks)[found[0].first - 1 : found[-1].end - 1]
        number = found[-1].end
    path = tmp_path / "data/shard-00/cold/00000007/0000000000000001-00000001.seg"
    assert path.stat().st_size == file.bytes
    assert path.stat().st_mode & 0o777 == 0o600
    job = log.cold.unlink([file])
    assert job is not None
    job()
    assert not path.exists()
    log.close()


# What the broker does with it, on a log whose power fails ----------------------------------------


class Shards:
    """A broker with one shard: its hot blocks by number, its cold files; as small as can be."""

    def __init__(self) -> None:
        self.log: FileLog
        self.hot: dict[int, tuple[int, int]] = {}  # first number -> (LSN, the number behind)
        self.cold: list[ColdFile] = []
        self.generation = 0
        self.finished = False

    def load(self, kind: int, content: bytes) -> None:
        state = msgspec.msgpack.decode(content, type=tuple[int, list[ColdFile], list[list[int]]])
        self.generation, self.cold = state[0], state[1]
        self.hot = {first: (lsn, end) for first, lsn, end in state[2]}

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        hot = [[first, lsn, end] for first, (lsn, end) in self.hot.items()]
        yield 1, msgspec.msgpack.encode((self.generation, self.cold, hot))

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        return iter(())

    def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        if kind == STREAM:
            block = decode_block(buffer, at)
            if block.first >= self.end:
                self.hot[block.first] = (lsn, block.end)
        elif kind == COLD_RECORD:
            self._rehome(decode_cold(buffer, at))

    def _rehome(self, record: ColdRecord) -> None:
        if record.file.generation <= self.generation:
            return
        self.generation = record.file.generation
        self.cold = [each for each in self.cold if each.generation not in record.replaces]
        self.cold.append(record.file)
        for first in [first for first in self.hot if first < record.file.end]:
            lsn, _ = self.hot.pop(first)
            if self.finished:
                self.log.release(lsn)

    def finish(self) -> None:
        self.finished = True
        for lsn, _ in self.hot.values():
            self.log.adopt(lsn)
        assert self.log.cold.sweep(self.cold) == []

    @property
    def end(self) -> int:
        if self.hot:
            return max(end for _, end in self.hot.values())
        return self.cold[-1].end if self.cold else 1


class World:
    """A log on a disk, its shard, and what was acknowledged."""

    def __init__(self, disk: SimDisk, promised: int = 1) -> None:
        self.disk = disk
        self.promised = promised  # all below is durable
        self.scheduler = StepScheduler()
        self.workers: list[StepWorker] = []
        self.shard = Shards()
        self.log = self.shard.log = FileLog(
            "/data",
            disk=disk,
            writer=self._worker,
            segment_bytes=4096,
            ballast_bytes=0,
            disk_free_bytes_min=0,
        )
        self.log.open(self.shard)
        self.log.start(self.scheduler)

    def _worker(self, name: str) -> StepWorker:
        self.workers.append(StepWorker(name))
        return self.workers[-1]

    def settle(self) -> None:
        while self.scheduler.step() or any(worker.step() for worker in self.workers):
            pass

    def append(self, count: int) -> None:
        for block in make_blocks(self.shard.end, count, records=2, body_bytes=300):
            content = block.bytes
            lsn = self.log.append((content,), references=1)
            self.shard.apply(lsn, STREAM, content, 0)
        self.log.wait(Durability.SYNC, self._kept, self.shard.end)
        self.settle()

    def _kept(self, end: object, error: StorageError | None) -> None:
        assert isinstance(end, int)
        if error is None:
            self.promised = end

    def rehome(self, merge: bool) -> None:
        """As the broker does it: write, append COLD, remove what it replaced when that is kept."""
        sealed = [each for each in self.shard.hot.items() if each[1][0] < self.log.sealed_lsn]
        if not sealed:
            return
        replaced = self.shard.cold[-1:] if merge else []
        blocks = [block for file in replaced for block in self.log.cold.blocks(file)]
        blocks += [self.hot_block(lsn) for _, (lsn, _) in sorted(sealed)]
        file = self.log.cold.write(SHARD, self.shard.generation + 1, blocks)
        record = encode_cold(file, [each.generation for each in replaced])
        self.shard.apply(self.log.append((record,)), COLD_RECORD, record, 0)
        kept: list[object] = []
        self.log.wait(Durability.SYNC, lambda *answer: kept.append(answer), None)
        self.settle()
        assert kept
        job = self.log.cold.unlink(replaced)
        assert job is not None
        job()

    def hot_block(self, lsn: int) -> Block:
        extents: list[Any] = [self.log.get(lsn)]
        if extents[0] is None:
            self.log.fetch(lsn, lambda _, extent, error: extents.append(extent), None)
            self.settle()
        return decode_block(extents[-1].buffer, lsn - extents[-1].start)

    def everything(self) -> list[Row]:
        blocks = [block for file in self.shard.cold for block in self.log.cold.blocks(file)]
        blocks += [self.hot_block(lsn) for _, (lsn, _) in sorted(self.shard.hot.items())]
        return rows(blocks)

    def live(self, rng: random.Random) -> None:
        for _ in range(6):
            self.append(rng.randrange(1, 8))
            what = rng.randrange(4)
            if what < 2:
                self.rehome(merge=bool(what))
            elif what == 2:
                run_steps(self.log.checkpoint(), self.settle)


def bodies(found: list[Row]) -> list[tuple[int, bytes, bytes]]:
    return [(number, key, body) for number, _, key, body in found]


def expected(end: int) -> list[tuple[int, bytes, bytes]]:
    return bodies(rows(make_blocks(1, end // 2, records=2, body_bytes=300)))[: end - 1]


@pytest.mark.parametrize("seed", range(40))
def test_crashes_lose_and_repeat_nothing(seed: int):
    probe = World(SimDisk())
    probe.live(random.Random(seed))
    assert bodies(probe.everything()) == expected(probe.shard.end)
    rng = random.Random(seed * 7919)
    for _ in range(12):
        disk = SimDisk()
        disk.crash_at = rng.randrange(probe.disk.calls)
        world = None
        try:
            world = World(disk)
            world.live(random.Random(seed))
        except PowerCut:
            pass
        promised = 1 if world is None else world.promised
        for _ in range(2):
            disk = disk.after_kill() if rng.random() < 0.3 else disk.after_power_cut(rng)
            world = World(disk, promised)
            found = world.everything()
            assert world.shard.end >= promised
            assert bodies(found) == expected(world.shard.end)
            known = {cold_path(COLD, file) for file in world.shard.cold}
            assert {name for name in disk.names() if name.startswith(COLD)} == known
            world.live(rng)
            promised = world.promised
        assert list(verify("/data", disk))[-1].problems == []

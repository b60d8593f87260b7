"""The writer: which calls of the disk a batch becomes, in which order, and what ends everything."""

import errno
import random
import threading
from functools import partial

from braidmq.storage import Durability
from braidmq.storage.commit import Batch, Commit
from braidmq.storage.frame import decode_frame_header, frame_is_intact
from braidmq.storage.reserve import Reserve
from braidmq.storage.segment import segment_name
from braidmq.storage.writer import (
    DURABLE,
    FAILED,
    ROOM_BYTES_MAX,
    WRITTEN,
    LogWriter,
    ThreadWorker,
)
from tests.simdisk import PowerCut, SimDisk


class Bench:
    """A writer with a commit in front of it."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.commit = Commit(0, lambda delay_ms: None, payload_bytes_max=100)
        reserve = Reserve(disk, "/d", 1000, 0)
        reserve.restore()
        self.writer = LogWriter(disk, "/d", reserve, epoch=3)
        self.writer.begin(disk.create("/d/" + segment_name(0, 3)), 0, 77)
        disk.fsync_dir("/d")
        self.reports: list[int] = []

    def run(self, sizes: list[int], bases: list[int], *levels: Durability) -> Batch:
        for size in sizes:
            self.commit.append((bytes(size),))
        for level in levels:
            self.commit.wait(level, lambda argument, error: None, None)
        batch = self.commit.seal(55)
        assert batch is not None
        for frame, base in zip(batch.frames, bases, strict=True):
            frame.segment_base = base
        first = self.disk.calls
        self.writer.commit(batch, self.report)
        self.calls = [call.split()[0] for call in self.disk.trace[first:]]
        return batch

    def report(self, batch: Batch, stage: int) -> None:
        self.reports.append(stage)

    def content(self, base: int) -> bytes:
        return bytes(self.disk.content("/d/" + segment_name(base, 3)))

    def done(self, batch: Batch) -> None:
        self.commit.written(batch)
        if batch.sync:
            self.commit.durable(batch)
        self.commit.complete(batch)


def test_a_batch_of_many_frames_is_one_write():
    bench = Bench(SimDisk())
    bench.run([90, 90, 90], [0, 0, 0], Durability.SYNC)
    assert bench.calls == ["pwrite", "fdatasync"]
    assert bench.reports == [DURABLE]


def test_each_level_is_reported_when_it_is_reached():
    bench = Bench(SimDisk())
    bench.done(bench.run([90], [0], Durability.OS))
    assert bench.reports == [WRITTEN]
    bench.done(bench.run([90], [0], Durability.OS, Durability.SYNC))
    assert bench.reports == [WRITTEN, WRITTEN, DURABLE]
    assert bench.calls == ["pwrite", "fdatasync"]
    bench.run([], [], Durability.SYNC)  # nothing new, nothing unsynced
    assert bench.calls == []


def test_frames_form_a_chain_and_say_what_is_durable():
    bench = Bench(SimDisk())
    bench.done(bench.run([90, 50], [0, 0], Durability.SYNC))
    durable = bench.commit.durable_lsn
    bench.run([40], [0], Durability.SYNC)
    data = bench.content(0)
    at, prev_crc, said = 0, 77, []
    while data[at:].strip(b"\0"):
        header = decode_frame_header(data, at)
        assert header is not None and frame_is_intact(header, data, at)
        assert (header.lsn, header.prev_crc, header.epoch, header.time_ms) == (at, prev_crc, 3, 55)
        prev_crc = header.crc
        said.append(header.durable_lsn)
        at += header.length
    assert said == [0, 0, durable]


def test_a_new_segment_waits_until_the_one_before_is_durable():
    bench = Bench(SimDisk())
    base = 64 + 96
    bench.run([90, 90], [0, base], Durability.SYNC)
    assert bench.calls == ["pwrite", "fdatasync", "create", "fsync_dir", "pwrite", "fdatasync"]
    assert len(bench.content(0)) == base
    assert len(bench.content(base)) == 160 + 160  # the frame, and room for the next
    assert bench.reports == [DURABLE]


def test_even_a_batch_that_nobody_syncs_syncs_the_segment_it_leaves():
    bench = Bench(SimDisk())
    bench.run([90, 90], [0, 160])
    assert bench.calls == ["pwrite", "fdatasync", "create", "fsync_dir", "pwrite"]
    assert bench.reports == [WRITTEN]


def test_without_room_the_reserve_makes_way_and_the_same_bytes_are_written():
    disk = SimDisk(capacity=1100)
    bench = Bench(disk)
    batch = bench.run([90], [0])
    assert disk.faults["pwrite full"] == 1
    assert bench.calls == ["pwrite", "unlink", "pwrite"]
    assert batch.disk_full and batch.error is None
    assert bench.reports == [WRITTEN]
    assert len(bench.content(0)) == 160


def test_without_room_for_a_new_segment_it_makes_way_too():
    disk = SimDisk()
    bench = Bench(disk)
    disk.fail_at[disk.calls + 2] = errno.ENOSPC
    batch = bench.run([90, 90], [0, 160], Durability.SYNC)
    assert disk.faults["create ENOSPC"] == 1
    assert batch.disk_full and bench.reports == [DURABLE]


def test_what_fails_is_final_and_later_batches_touch_nothing():
    both = (Durability.OS, Durability.SYNC)
    for call, number, levels in (
        (0, errno.EIO, both[1:]),
        (1, errno.EIO, both[1:]),
        (0, errno.EIO, both),
        (1, errno.EIO, both),
        (1, errno.ENOSPC, both),
    ):
        disk = SimDisk()
        bench = Bench(disk)
        disk.fail_at[disk.calls + call] = number
        batch = bench.run([90], [0], *levels)
        assert bench.reports == [WRITTEN] * (call * len(levels[1:])) + [FAILED]
        assert len(bench.calls) == call + 1
        assert "injected" in str(batch.error)
        later = Batch(0)
        first = disk.calls
        bench.writer.commit(later, bench.report)
        assert bench.reports[-2:] == [FAILED, FAILED]
        assert disk.calls == first


def test_what_is_synced_is_written_in_the_same_call_if_nothing_else_has_to_be(monkeypatch):
    bench = Bench(SimDisk())
    at_once: list[int] = []
    whole = bench.disk.pwrite_durable

    def pwrite_durable(handle, offset, buffers):
        at_once.append(offset)
        whole(handle, offset, buffers)

    monkeypatch.setattr(bench.disk, "pwrite_durable", pwrite_durable)
    bench.done(bench.run([90], [0], Durability.SYNC))
    bench.done(bench.run([90], [0]))
    bench.done(bench.run([90], [0], Durability.SYNC))  # what is before it is not synced yet
    bench.done(bench.run([90], [0], Durability.SYNC))
    bench.done(bench.run([90], [0], Durability.OS, Durability.SYNC))  # somebody waits in between
    assert at_once == [0, 3 * 160]
    assert bench.reports == [DURABLE, WRITTEN, DURABLE, DURABLE, WRITTEN, DURABLE]
    file = bench.disk.after_power_cut(random.Random(1)).content("/d/" + segment_name(0, 3))
    assert file == bench.disk.content("/d/" + segment_name(0, 3))


def test_what_is_written_and_synced_at_once_is_so_again_when_there_was_no_room():
    disk = SimDisk()
    bench = Bench(disk)
    # The writes fitted, what it takes to sync them not: first with room for the next, then without.
    disk.fail_at |= {disk.calls + 1: errno.ENOSPC, disk.calls + 3: errno.ENOSPC}
    batch = bench.run([90], [0], Durability.SYNC)
    assert bench.calls == ["pwrite", "fdatasync"] * 2 + ["unlink", "pwrite", "fdatasync"]
    assert batch.disk_full and bench.reports == [DURABLE]
    file = disk.after_power_cut(random.Random(1)).content("/d/" + segment_name(0, 3))
    assert file[:160] == bench.content(0)[:160]


class Wide(Bench):
    """A writer whose batches are one frame of any size; ``put`` says by how much the file grew."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(disk)
        self.commit = Commit(0, lambda delay_ms: None)
        self.base = 0

    def put(self, size: int, *levels: Durability, base: int = 0) -> int:
        """Write a batch of ``size`` bytes, header and all, to the segment at ``base``."""
        before = len(self.content(base)) if base == self.base else 0
        self.base = base
        self.done(self.run([size - 64], [base], *(levels or (Durability.SYNC,))))
        return len(self.content(base)) - before


def test_a_small_batch_brings_room_for_as_much_as_there_is():
    bench = Wide(SimDisk())
    grown = [bench.put(800) for _ in range(12)]
    assert grown == [1600, 0, 3200, 0, 0, 0, 6400, 0, 0, 0, 0, 0]
    assert bench.content(0)[9600:] == bytes(1600)
    while len(bench.content(0)) - bench.commit.durable_lsn < ROOM_BYTES_MAX:
        bench.put(16_000)
    grown = [bench.put(16_000) for _ in range(40)]
    assert max(grown) <= ROOM_BYTES_MAX + 16_000 and grown.count(0) > 30


def test_what_needs_no_room_brings_none():
    bench = Wide(SimDisk())
    assert bench.put(16 * 1024 + 8) == 16 * 1024 + 8  # too large
    assert bench.put(800, Durability.OS) == 800  # not synced
    assert bench.put(800) == 800 + 17_992 and bench.calls == ["pwrite", "fdatasync"]
    assert bench.put(800, Durability.OS) == 0
    assert bench.put(800) == 0  # what is synced later than written finds room as well


def test_a_new_segment_has_room_of_its_own():
    bench = Wide(SimDisk())
    bench.put(8000)
    assert bench.put(800, base=8000) == 1600
    assert len(bench.content(0)) == 16_000


def test_a_batch_that_goes_on_in_a_new_segment_leaves_no_room_behind():
    bench = Bench(SimDisk())
    bench.run([90, 90], [0, 160], Durability.SYNC)
    assert (len(bench.content(0)), len(bench.content(160))) == (160, 320)


def test_room_that_does_not_fit_is_done_without_until_the_next_segment():
    disk = SimDisk()
    bench = Wide(disk)
    disk.capacity = 1000 + 1000
    batch = bench.run([936], [0], Durability.SYNC)  # the ballast and this
    bench.done(batch)
    assert bench.calls == ["pwrite", "pwrite", "fdatasync"]
    assert bench.reports == [DURABLE] and not batch.disk_full
    assert disk.content("/d/ballast") == b""  # it is there
    disk.capacity = None
    bench.put(800)
    assert bench.calls == ["pwrite", "fdatasync"]
    assert len(bench.content(0)) == 1800
    assert bench.put(800, base=1800) == 1600


def test_room_that_cannot_be_written_is_the_end_as_any_failure():
    for call in (0, 1):
        disk = SimDisk()
        bench = Wide(disk)
        disk.fail_at[disk.calls + call] = errno.EIO
        bench.run([90], [0], Durability.SYNC)
        assert bench.reports == [FAILED] and len(bench.calls) == call + 1


def test_no_power_cut_leaves_less_in_the_room_than_was_synced():
    for seed in range(200):
        rng = random.Random(seed)
        bench = Wide(SimDisk())
        for _ in range(rng.randrange(1, 20)):
            bench.put(rng.randrange(10, 200) * 8, rng.choice([Durability.SYNC, Durability.OS]))
        durable = bench.commit.durable_lsn
        bench.disk.crash_at = bench.disk.calls + rng.randrange(2)
        try:
            bench.put(rng.randrange(10, 200) * 8)
        except PowerCut:
            pass
        found = bench.disk.after_power_cut(rng).content("/d/" + segment_name(0, 3))
        assert found[:durable] == bench.content(0)[:durable]


def test_a_thread_runs_tasks_in_order_and_ends_when_told():
    worker = ThreadWorker("test")
    seen: list[int] = []
    names: set[str] = set()
    for number in range(100):
        worker.submit(partial(seen.append, number))
    worker.submit(lambda: names.add(threading.current_thread().name))
    worker.wait_idle()
    assert seen == list(range(100))
    assert names == {"test"}
    worker.submit(lambda: seen.append(100))
    worker.stop()
    assert seen[-1] == 100
    assert "test" not in {thread.name for thread in threading.enumerate()}
    worker.wait_idle()  # does not hang

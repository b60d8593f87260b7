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
from braidmq.storage.writer import DURABLE, FAILED, WRITTEN, LogWriter, ThreadWorker
from tests.simdisk import SimDisk


class Bench:
    """A writer with a commit in front of it."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.commit = Commit(0, lambda delay_ms: None, payload_bytes_max=100)
        reserve = Reserve(disk, "/d", 1000, 0)
        reserve.restore()
        self.writer = LogWriter(disk, "/d", reserve, epoch=3)
        self.writer.begin(disk.create("/d/" + segment_name(0, 3)), 0, 77)
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
    data = bytes(bench.disk.content("/d/" + segment_name(0, 3)))
    at, prev_crc, said = 0, 77, []
    while at < len(data):
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
    assert len(bench.disk.content("/d/" + segment_name(0, 3))) == base
    assert len(bench.disk.content("/d/" + segment_name(base, 3))) == 160
    assert bench.reports == [DURABLE]


def test_even_a_batch_that_nobody_syncs_syncs_the_segment_it_leaves():
    bench = Bench(SimDisk())
    bench.run([90, 90], [0, 160])
    assert bench.calls == ["pwrite", "fdatasync", "create", "fsync_dir", "pwrite"]
    assert bench.reports == [WRITTEN]


def test_without_room_the_reserve_makes_way_and_the_same_bytes_are_written():
    disk = SimDisk(capacity=1100)
    bench = Bench(disk)
    batch = bench.run([90], [0], Durability.SYNC)
    assert disk.faults["pwrite full"] == 1
    assert bench.calls == ["pwrite", "unlink", "pwrite", "fdatasync"]
    assert batch.disk_full and batch.error is None
    assert bench.reports == [DURABLE]
    assert len(disk.content("/d/" + segment_name(0, 3))) == 160


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
    disk.fail_at[disk.calls + 1] = errno.ENOSPC  # the write fitted, what it takes to sync it not
    batch = bench.run([90], [0], Durability.SYNC)
    assert bench.calls == ["pwrite", "fdatasync", "unlink", "pwrite", "fdatasync"]
    assert batch.disk_full and bench.reports == [DURABLE]
    file = disk.after_power_cut(random.Random(1)).content("/d/" + segment_name(0, 3))
    assert file == disk.content("/d/" + segment_name(0, 3)) and len(file) == 160


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

"""The contract of the log, held to every log there is.

To hold another log to it, add how to make it to ``LOGS``.
"""

from array import array
from collections.abc import Callable, Iterator

import pytest

from braidmq.storage import (
    Corrupt,
    Durability,
    Extent,
    FileLog,
    Log,
    LogClosed,
    MemoryLog,
    Reference,
    StorageError,
)
from braidmq.storage.log import RECORD_BYTES_MAX, RUN_BYTES_MAX
from braidmq.storage.record import decode_message, encode_message, record_is_intact
from braidmq.storage.runs import encode_message_run
from tests.simdisk import SimDisk, StepScheduler, StepWorker, run_steps


class Nothing:
    """A broker without state."""

    def __init__(self) -> None:
        self.finished = 0

    def load(self, kind: int, content: bytes) -> None:
        raise AssertionError

    def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        raise AssertionError

    def finish(self) -> None:
        self.finished += 1

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        return iter(())

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        return iter(())


class Bench:
    def __init__(self, make: Callable[["Bench"], Log]) -> None:
        self.scheduler = StepScheduler()
        self.workers: list[StepWorker] = []
        self.log = make(self)
        self.calls: list[tuple[object, type[StorageError] | None]] = []

    def worker(self, name: str) -> StepWorker:
        self.workers.append(StepWorker(name))
        return self.workers[-1]

    def settle(self) -> None:
        while self.scheduler.step() or any(worker.step() for worker in self.workers):
            pass

    def called(self, argument: object, error: StorageError | None) -> None:
        self.calls.append((argument, None if error is None else type(error)))

    def fetched(self, argument: object, extent: Extent | None, error: StorageError | None) -> None:
        assert (extent is None) is (error is not None)
        self.calls.append((argument, None if error is None else type(error)))
        self.extent = extent

    def publish(self, body: bytes = b"body", references: int = 1) -> int:
        return self.log.append(encode_message([(1, 1)], 5, b"", body), references)


LOGS: dict[str, Callable[[Bench], Log]] = {
    "files": lambda bench: FileLog("/data", disk=SimDisk(), writer=bench.worker),
    "small files": lambda bench: FileLog(
        "/data", disk=SimDisk(), writer=bench.worker, segment_bytes=4096
    ),
    "memory": lambda bench: MemoryLog(),
    "memory beside files": lambda bench: MemoryLog(first_lsn=1 << 60),
}


@pytest.fixture(params=LOGS)
def bench(request: pytest.FixtureRequest) -> Bench:
    bench = Bench(LOGS[request.param])
    replay = Nothing()
    report = bench.log.open(replay)
    assert replay.finished == 1
    assert (report.records, report.accepted_loss) == (0, None)
    bench.log.start(bench.scheduler)
    return bench


def test_a_log_that_lasts_has_a_number_of_its_own(bench: Bench):
    assert (bench.log.instance == 0) is isinstance(bench.log, MemoryLog)
    assert 0 <= bench.log.instance < 1 << 63


def test_a_log_with_files_has_room_for_old_blocks(bench: Bench):
    assert (bench.log.cold is None) is isinstance(bench.log, MemoryLog)


def test_lsns_rise_and_0_is_none(bench: Bench):
    expected = bench.log.next_lsn
    assert expected > 0
    lsns = []
    for size in (0, 1, 1000, 600_000, 7):
        assert bench.log.next_lsn >= expected
        lsns.append(bench.publish(bytes(size)))
        assert lsns[-1] >= expected
        expected = lsns[-1] + size
        if size == 1000:
            bench.settle()
    assert lsns == sorted(set(lsns))
    assert lsns[0] > 0


def test_appending_changes_nothing_by_itself(bench: Bench):
    log = bench.log
    progress: list[tuple[int, int]] = []
    log.on_progress = lambda: progress.append((log.written_lsn, log.durable_lsn))
    before = (log.written_lsn, log.durable_lsn)
    lsn = bench.publish()
    assert (log.written_lsn, log.durable_lsn) == before
    assert log.pending_bytes > 0
    assert progress == []
    log.wait(Durability.SYNC, bench.called, "durable")
    assert bench.calls == []
    bench.settle()
    assert bench.calls == [("durable", None)]
    assert log.durable_lsn > lsn and log.written_lsn >= log.durable_lsn
    assert log.pending_bytes == 0
    assert progress and progress[-1] == (log.written_lsn, log.durable_lsn)


@pytest.mark.parametrize("level", list(Durability))
def test_waiters_of_a_level_are_called_once_in_order(bench: Bench, level: Durability):
    for number in range(20):
        bench.publish()
        bench.log.wait(level, bench.called, number)
        if number % 6 == 0:
            bench.scheduler.step()
    bench.settle()
    assert bench.calls == [(number, None) for number in range(20)]
    bench.log.wait(level, bench.called, "again")
    assert len(bench.calls) == 20  # never from within the call
    bench.settle()
    assert bench.calls[20:] == [("again", None)]


def test_a_failing_callback_harms_nobody_else(bench: Bench):
    def bad(argument: object, error: StorageError | None) -> None:
        raise ZeroDivisionError

    bench.publish()
    bench.log.wait(Durability.OS, bad, 0)
    bench.log.wait(Durability.OS, bench.called, 1)
    with pytest.raises(ZeroDivisionError):
        bench.settle()
    bench.settle()
    assert bench.calls == [(1, None)]


def test_a_hook_that_fails_stops_nothing(bench: Bench):
    def bad() -> None:
        raise ZeroDivisionError

    log = bench.log
    log.on_progress = bad
    for number in range(3):
        bench.publish()
        log.wait(Durability.SYNC, bench.called, number)
    for _ in range(20):
        try:
            bench.settle()
        except ZeroDivisionError:
            continue
        break
    assert bench.calls == [(number, None) for number in range(3)]
    assert log.pending_bytes == 0


def test_a_record_can_be_got_and_fetched_while_it_is_needed(bench: Bench):
    lsns = {bench.publish(bytes(size)): size for size in (0, 10, 700_000, 5)}
    for _ in range(2):
        for lsn, size in lsns.items():
            extent = bench.log.get(lsn)
            assert extent is not None and extent.start <= lsn < extent.end
            assert record_is_intact(extent.buffer, lsn - extent.start)
            bench.log.fetch(lsn, bench.fetched, size)
            assert bench.calls == []
            bench.settle()
            assert bench.calls == [(size, None)]
            assert bench.extent is not None
            assert record_is_intact(bench.extent.buffer, lsn - bench.extent.start)
            bench.calls.clear()
        bench.log.wait(Durability.SYNC, bench.called, None)
        bench.settle()
        bench.calls.clear()


def test_a_job_reads_a_record_by_itself(bench: Bench):
    lsns = [bench.publish(bytes(size)) for size in (10, 700_000, 5)]
    bench.log.wait(Durability.SYNC, bench.called, None)
    bench.settle()
    for lsn in lsns:
        extent = bench.log.reading(lsn)()
        assert extent.start <= lsn < extent.end
        assert record_is_intact(extent.buffer, lsn - extent.start)
    with pytest.raises(Corrupt):
        bench.log.reading(bench.log.next_lsn + 1_000_000)()


def test_what_never_was_is_none_and_an_error(bench: Bench):
    bench.publish()
    bench.settle()
    lsn = bench.log.next_lsn + 1_000_000
    assert bench.log.get(lsn) is None
    bench.log.fetch(lsn, bench.fetched, "fetch")
    assert bench.calls == []
    bench.settle()
    assert [argument for argument, error in bench.calls if error is not None] == ["fetch"]


def test_a_run_is_so_many_records_each_on_its_own(bench: Bench):
    log = bench.log
    bench.publish(b"before")
    records, size = encode_message_run([(1, 1)], 5, b"", [b"one", b"two", b"six"])
    first = log.append_run(records, 3, 1)
    lsns = [first, first + size, first + 2 * size]
    after = bench.publish(b"after")
    assert after >= lsns[-1] + size
    for settled in (False, True):
        if settled:
            log.wait(Durability.SYNC, bench.called, "kept")
            bench.settle()
        for lsn, body in zip(lsns, (b"one", b"two", b"six"), strict=True):
            extent = log.get(lsn)
            assert extent is not None
            message = decode_message(extent.buffer, lsn - extent.start, lsn)
            assert message.body == body
    for lsn in lsns:
        log.release(lsn)


def test_a_run_that_is_too_long_is_refused(bench: Bench):
    with pytest.raises(ValueError, match="the limit is"):
        bench.log.append_run(bytes(RUN_BYTES_MAX + 1), 1, 1)


def test_records_appended_together_are_records_each_on_its_own(bench: Bench):
    log = bench.log
    bench.publish(b"before")
    bodies = [b"one", b"", bytes(600_000), b"four"]
    records = [b"".join(encode_message([(1, 1)], 5, b"", body)) for body in bodies]
    lsns = log.append_together(records, [1, 2, 1, 1])
    assert lsns == sorted(lsns)
    after = bench.publish(b"after")
    assert after >= lsns[-1] + len(records[-1])
    log.release(lsns[1])
    for settled in (False, True):
        if settled:
            log.wait(Durability.SYNC, bench.called, "kept")
            bench.settle()
        for lsn, body in zip(lsns, bodies, strict=True):
            extent = log.get(lsn)
            assert extent is not None
            assert decode_message(extent.buffer, lsn - extent.start, lsn).body == body
    for lsn in [*lsns, after]:
        log.release(lsn)


def test_records_appended_in_one_frame_are_records_each_on_its_own(bench: Bench):
    log = bench.log
    bench.publish(b"before")
    bodies = [b"one", b"", bytes(600_000), b"four", bytes(600_000)]
    with log.in_one_frame(2_000_000):
        lsns = [log.append(encode_message([(1, 1)], 5, b"", body), 1) for body in bodies]
    after = bench.publish(b"after")
    assert lsns == sorted(lsns)
    assert after >= lsns[-1] + 600_000
    for settled in (False, True):
        if settled:
            log.wait(Durability.SYNC, bench.called, "kept")
            bench.settle()
        for lsn, body in zip(lsns, bodies, strict=True):
            extent = log.get(lsn)
            assert extent is not None
            assert decode_message(extent.buffer, lsn - extent.start, lsn).body == body
    with pytest.raises(ValueError, match="the limit is"), log.in_one_frame(RECORD_BYTES_MAX + 1):
        raise AssertionError("it did not begin")
    for lsn in [*lsns, after]:
        log.release(lsn)


def test_released_together_is_released_each_on_its_own(bench: Bench):
    log = bench.log
    lsns = [bench.publish(b"%d" % number) for number in range(6)]
    before = log.statistics().bytes_live_estimate
    log.release_many([])
    log.release_many(lsns[:2])  # they are in the open batch
    log.wait(Durability.SYNC, bench.called, "kept")
    bench.settle()
    lsns.append(bench.publish(b"later"))
    log.release_many(lsns[2:4])  # ... in a segment
    log.release_many([lsns[6], lsns[4]])  # ... some here, some there
    assert log.statistics().bytes_live_estimate < before or not before
    one = log.get(lsns[5])
    assert one is not None
    log.release_many([lsns[5]])
    log.wait(Durability.SYNC, bench.called, "kept")
    bench.settle()
    assert log.statistics().bytes_live_estimate == 0


def test_nothing_together_is_nothing(bench: Bench):
    lsn = bench.log.next_lsn
    assert bench.log.append_together([], []) == []
    assert bench.log.next_lsn == lsn


def test_too_much_together_is_refused(bench: Bench):
    lsn = bench.log.next_lsn
    half = bytes(RECORD_BYTES_MAX // 2)
    with pytest.raises(ValueError, match="the limit is"):
        bench.log.append_together([half, half, b"x"], [1, 1, 1])
    assert bench.log.next_lsn == lsn


def test_what_is_sealed_is_durable(bench: Bench):
    for _ in range(10):
        bench.publish(bytes(1000))
        bench.log.wait(Durability.SYNC, bench.called, None)
        while bench.scheduler.step() or any(worker.step() for worker in bench.workers):
            assert bench.log.sealed_lsn <= bench.log.durable_lsn
    assert (bench.log.sealed_lsn > 0) is (bench.log.statistics().segments > 1)


def test_references_are_adopted_and_released(bench: Bench):
    one, three = bench.publish(), bench.publish(references=3)
    bench.log.adopt(one)
    bench.settle()
    bench.log.adopt(three)
    bench.log.adopt_many(array("Q", [one, three, three]))
    for _ in range(2):
        bench.log.release(one)
    for _ in range(5):
        bench.log.release(three)
    for lsn in (one, three):  # one is left of each
        assert bench.log.get(lsn) is not None
    bench.log.release(one)
    bench.log.release(three)
    assert bench.log.statistics().bytes_live_estimate == 0


def test_maintenance_runs_to_its_end(bench: Bench):
    for _ in range(10):
        bench.publish()
    bench.settle()
    assert not bench.log.checkpoint_due()
    assert not bench.log.compaction_due()
    for jobs in (bench.log.housekeep(), bench.log.checkpoint(), bench.log.compact()):
        run_steps(jobs, bench.settle)
    bench.log.admit()
    statistics = bench.log.statistics()
    assert statistics.records == 10
    assert statistics.commits >= 1
    assert statistics.bytes_appended > 0


def test_close_answers_who_waits_and_then_everything_is_closed(bench: Bench):
    bench.publish()
    bench.log.wait(Durability.SYNC, bench.called, "waited")
    bench.settle()
    bench.log.wait(Durability.SYNC, bench.called, "again")
    bench.log.wait(Durability.OS, bench.called, "again")
    bench.log.close()
    bench.log.close()
    bench.settle()
    assert bench.calls == [("waited", None), ("again", None), ("again", None)]
    for call in (bench.log.admit, bench.publish):
        with pytest.raises(LogClosed):
            call()
    bench.log.wait(Durability.SYNC, bench.called, "late")
    bench.log.fetch(64, bench.fetched, "fetch")
    bench.settle()
    assert bench.calls[3:] == [("late", LogClosed), ("fetch", LogClosed)]


def test_the_logs_satisfy_the_protocol():
    logs: list[Log] = [MemoryLog(), FileLog("/data", disk=SimDisk())]
    assert len(logs) == 2


def test_the_numbers_on_disk_stay():
    assert [(level.name, level.value) for level in Durability] == [
        ("MEMORY", 0),
        ("OS", 1),
        ("SYNC", 2),
    ]

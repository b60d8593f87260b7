"""The reader: one read for neighbours, answers in a later turn, errors to who asked."""

from typing import Any, cast

from braidmq.storage import Corrupt, Log, StorageError
from braidmq.storage.frame import encode_frame
from braidmq.storage.reader import Reader
from braidmq.storage.record import encode_message
from braidmq.storage.segment import EXTENT_BYTES, Segment
from tests.simdisk import SimDisk, StepScheduler, StepWorker


class Bench:
    """A reader over one segment; as the log it stands for, it sends every fetch to the reader."""

    def __init__(self, sizes: list[int]) -> None:
        self.disk = SimDisk()
        self.segment = Segment(0, 1, 0)
        records = [b"".join(encode_message([(1, 1)], 5, b"", bytes(size))) for size in sizes]
        self.lsns = [64 + sum(map(len, records[:index])) for index in range(len(records))]
        frame = encode_frame(b"".join(records), len(records), 0, 0, 1, 5, 0)
        self.disk.pwrite(self.disk.create(f"/d/{self.segment.name}"), 0, [frame])
        self.segment.end = len(frame)
        self.worker = StepWorker("reader")
        self.scheduler = StepScheduler()
        self.got: list[tuple[object, bool, type[StorageError] | None]] = []
        self.reader = Reader(cast(Log, self), self.disk, "/d", 1 << 20)
        self.reader.start(self.worker, self.scheduler.soon, self.scheduler.soon_from_thread)

    def fetch(self, lsn: int, callback: Any, argument: object) -> None:
        self.reader.read(self.segment, lsn, self.segment.end, callback, argument)

    def ask(self, lsn: int) -> None:
        def callback(argument: object, extent: object, error: StorageError | None) -> None:
            self.got.append((argument, extent is not None, type(error) if error else None))

        self.fetch(lsn, callback, lsn)

    def settle(self) -> None:
        while self.scheduler.step() or self.worker.step():
            pass


def test_an_answer_comes_in_a_later_turn_and_is_kept():
    bench = Bench([10, 20, 30])
    bench.ask(bench.lsns[1])
    assert bench.got == []
    assert bench.reader.find(bench.lsns[1]) is None
    bench.settle()
    assert bench.got == [(bench.lsns[1], True, None)]
    assert bench.reader.find(bench.lsns[2]) is not None
    assert bench.reader.find(bench.lsns[0]) is None


def test_neighbours_share_a_read_and_others_do_not():
    bench = Bench([1000] * 1000)
    for index in (0, 1, 5, 2, 900):
        bench.ask(bench.lsns[index])
    bench.settle()
    assert bench.disk.reads == 2
    assert len(bench.got) == 5 and all(found for _, found, _ in bench.got)


def test_a_neighbour_that_the_read_did_not_cover_is_read_after_all():
    bench = Bench([10, EXTENT_BYTES - 100, 10])
    for lsn in bench.lsns:
        bench.ask(lsn)
    assert bench.lsns[1] < bench.lsns[0] + EXTENT_BYTES
    bench.settle()
    assert [lsn for lsn, found, _ in bench.got if found] == bench.lsns


def test_damage_is_told_to_who_asked_for_it_and_not_to_the_neighbours():
    bench = Bench([10, 20, 30])
    bench.disk.damage(f"/d/{bench.segment.name}", bench.lsns[0] + 20)
    for lsn in bench.lsns:
        bench.ask(lsn)
    bench.settle()
    assert sorted(bench.got) == [
        (bench.lsns[0], False, Corrupt),
        (bench.lsns[1], True, None),
        (bench.lsns[2], True, None),
    ]


def test_whatever_goes_wrong_in_the_thread_is_an_answer():
    bench = Bench([10])

    def read(*arguments: object) -> bytes:
        raise MemoryError

    bench.reader._files.read = read  # type: ignore[assignment,method-assign]
    bench.ask(bench.lsns[0])
    bench.settle()
    assert bench.got == [(bench.lsns[0], False, StorageError)]
    bench.reader.close()

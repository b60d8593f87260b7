"""MemoryLog: a record goes when nobody needs it. The rest is held by test_log.py."""

import pytest

from braidmq.storage import Durability, LogClosed, MemoryLog
from braidmq.storage.record import encode_ack, encode_message
from tests.simdisk import StepScheduler
from tests.unit.storage.test_log import Nothing


def opened(first_lsn: int = 1) -> tuple[MemoryLog, StepScheduler]:
    log = MemoryLog(first_lsn)
    log.open(Nothing())
    scheduler = StepScheduler()
    log.start(scheduler)
    return log, scheduler


def settle(scheduler: StepScheduler) -> None:
    while scheduler.step():
        pass


def test_positions_begin_where_they_are_told_to():
    log, _ = opened(1 << 60)
    assert log.append((encode_ack(1, 0, [1]),)) == 1 << 60
    with pytest.raises(AssertionError):
        MemoryLog(0)


def test_a_record_goes_with_its_last_reference():
    log, scheduler = opened()
    lsns = [log.append(encode_message([(1, 1)], 5, b"", bytes(1000)), n) for n in (1, 2, 3)]
    log.adopt(lsns[0])
    assert log.statistics().bytes_in_segments > 3000
    for lsn, count in zip(lsns, (2, 2, 3), strict=True):
        for _ in range(count):
            assert log.get(lsn) is not None
            log.release(lsn)
        assert log.get(lsn) is None
    log.release(lsns[0])  # once more changes nothing
    log.adopt(lsns[0])
    assert log.get(lsns[0]) is None
    assert log.statistics().bytes_in_segments == 0
    settle(scheduler)


def test_a_record_nobody_refers_to_is_not_kept():
    log, _ = opened()
    lsn = log.append((encode_ack(1, 0, [1]),))
    assert log.get(lsn) is None
    assert log.next_lsn > lsn


def test_what_is_appended_in_one_turn_is_one_commit():
    log, scheduler = opened()
    for _ in range(10):
        log.append((encode_ack(1, 0, [1]),))
        log.wait(Durability.SYNC, lambda argument, error: None, None)
    settle(scheduler)
    assert log.statistics().commits == 1


def test_what_is_appended_before_start_is_committed_then():
    log = MemoryLog()
    log.open(Nothing())
    called: list[object] = []
    log.append((encode_ack(1, 0, [1]),))
    log.wait(Durability.OS, lambda argument, error: called.append(argument), "early")
    scheduler = StepScheduler()
    log.start(scheduler)
    settle(scheduler)
    assert called == ["early"]


def test_after_close_nothing_is_held():
    log, scheduler = opened()
    lsn = log.append(encode_message([(1, 1)], 5, b"", b"x"), 1)
    log.close()
    settle(scheduler)
    assert log.get(lsn) is None
    with pytest.raises(LogClosed):
        log.append((encode_ack(1, 0, [1]),))

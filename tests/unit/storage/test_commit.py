"""The open batch: positions, the cut of frames, frontiers that only rise, waiters in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import Durability, LogFailed
from braidmq.storage.commit import LINGER_MS, Batch, Commit
from braidmq.storage.frame import FRAME_BYTES
from braidmq.storage.log import RECORD_BYTES_MAX
from braidmq.storage.record import encode_message


def nothing(argument: object, error: object) -> None:
    raise AssertionError("the commit itself calls nobody")


def written(commit: Commit, batch: Batch) -> list[object]:
    waiters = commit.written(batch)
    if batch.sync:
        waiters += commit.durable(batch)
    commit.complete(batch)
    return [argument for _, _, argument in waiters]


@given(st.lists(st.integers(10, 400), min_size=1, max_size=40))
def test_every_record_stands_where_its_lsn_says(sizes):
    commit = Commit(1000, lambda delay_ms: None, payload_bytes_max=512)
    lsns = [commit.append((bytes([n % 251]) * size,)) for n, size in enumerate(sizes)]
    batch = commit.seal(5)
    assert batch is not None
    assert lsns == sorted(lsns)
    log = bytearray(batch.end)
    position = batch.base
    for frame in batch.frames:
        assert frame.lsn == position
        assert frame.payload_length <= 512
        assert frame.end % 8 == 0 and frame.end - frame.lsn < FRAME_BYTES + 512 + 8
        extent = frame.extent()
        assert extent.start == frame.lsn + FRAME_BYTES
        log[extent.start : extent.end] = extent.buffer
        position = frame.end
    assert batch.end == position == commit.base == commit.frame_lsn
    for number, (lsn, size) in enumerate(zip(lsns, sizes, strict=True)):
        assert log[lsn : lsn + size] == bytes([number % 251]) * size
    assert sum(frame.count for frame in batch.frames) == len(sizes) == commit.records


def test_a_record_over_the_limit_of_a_frame_has_one_of_its_own():
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=100)
    for size in (20, 500, 20, 30):
        commit.append((bytes(size),))
    batch = commit.seal(5)
    assert batch is not None
    assert [frame.payload_length for frame in batch.frames] == [20, 500, 50]


class Huge(bytes):
    def __len__(self) -> int:
        return RECORD_BYTES_MAX + 1


def test_a_record_over_the_limit_of_records_is_refused_and_changes_nothing():
    commit = Commit(0, lambda delay_ms: None)
    lsn = commit.next_lsn
    with pytest.raises(ValueError, match="the limit is"):
        commit.append((Huge(),))
    assert commit.next_lsn == lsn
    assert commit.empty


@given(st.lists(st.lists(st.integers(10, 400), min_size=1, max_size=9), min_size=1, max_size=20))
def test_records_appended_together_share_a_frame_whatever_their_size(groups):
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=512)
    placed: list[tuple[list[int], list[bytes]]] = []
    for sizes in groups:
        records = [bytes([len(placed) + n]) * size for n, size in enumerate(sizes)]
        lsns = commit.append_together(records, [1] * len(records))
        assert commit.next_lsn == lsns[-1] + len(records[-1])
        placed.append((lsns, records))
    batch = commit.seal(5)
    assert batch is not None
    frames = {frame.lsn: frame.extent() for frame in batch.frames}
    for lsns, records in placed:
        holding = [extent for extent in frames.values() if extent.start <= lsns[0] < extent.end]
        for lsn, record in zip(lsns, records, strict=True):
            at = lsn - holding[0].start
            assert holding[0].buffer[at : at + len(record)] == record
    count = sum(map(len, groups))
    assert sum(frame.count for frame in batch.frames) == commit.records == count
    assert sum(frame.references for frame in batch.frames) == count


def test_too_much_together_is_refused_and_changes_nothing():
    commit = Commit(0, lambda delay_ms: None)
    lsn = commit.next_lsn
    with pytest.raises(ValueError, match="the limit is"):
        commit.append_together([b"x" * 10, Huge()], [0, 0])
    assert commit.next_lsn == lsn
    assert commit.empty


@given(
    st.lists(st.integers(10, 300), max_size=5),
    st.lists(st.tuples(st.sampled_from(["one", "together", "run"]), st.integers(10, 300))),
    st.integers(0, 2_000),
)
def test_what_is_appended_in_one_frame_stands_in_one(before, within, announced):
    """However much it is, and whatever was announced."""
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=512)
    for size in before:
        commit.append((b"b" * size,), 1)
    lsns: list[int] = []
    with commit.in_one_frame(announced):
        for how, size in within:
            if how == "one":
                lsns.append(commit.append((b"w" * size,), 1))
            elif how == "together":
                lsns += commit.append_together([b"w" * size, b"w" * size], [1, 1])
            else:
                first = commit.append_run(b"w" * (2 * size), 2, 1)
                lsns += [first, first + size]
    for size in before:
        commit.append((b"a" * size,), 1)
    batch = commit.seal(5)
    frames = batch.frames if batch is not None else []
    holding = {frame.lsn for lsn in lsns for frame in frames if frame.lsn < lsn < frame.end}
    assert len(holding) == min(1, len(lsns))
    for frame in frames:  # and everything else is cut as ever
        if frame.lsn not in holding:
            assert frame.payload_length <= 512
    assert sum(frame.count for frame in frames) == len(lsns) + 2 * len(before)


def test_a_frame_is_begun_only_for_what_does_not_fit_in_the_open_one():
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=512)
    commit.append((b"b" * 400,))
    with commit.in_one_frame(100):
        commit.append((b"w" * 100,))
    with commit.in_one_frame(100):
        commit.append((b"w" * 100,))
    batch = commit.seal(5)
    assert batch is not None
    assert [frame.payload_length for frame in batch.frames] == [500, 100]


def test_what_fails_within_one_frame_leaves_the_next_ones_as_they_were():
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=512)
    with pytest.raises(ZeroDivisionError), commit.in_one_frame(10):
        commit.append((b"x" * 500,))
        raise ZeroDivisionError
    commit.append((b"x" * 500,))
    batch = commit.seal(5)
    assert batch is not None
    assert [frame.payload_length for frame in batch.frames] == [500, 500]


def test_too_much_in_one_frame_is_refused_and_changes_nothing():
    commit = Commit(0, lambda delay_ms: None)
    with pytest.raises(ValueError, match="the limit is"), commit.in_one_frame(RECORD_BYTES_MAX + 1):
        raise AssertionError("it did not begin")
    assert commit.empty


def test_it_wakes_once_and_not_while_a_batch_is_in_flight():
    wakes: list[int] = []
    commit = Commit(0, wakes.append)
    commit.append((b"x" * 10,))
    commit.append((b"x" * 10,))
    assert len(wakes) == 1
    batch = commit.seal(5)
    assert batch is not None
    commit.append((b"x" * 10,))
    commit.wait(Durability.SYNC, nothing, "later")
    assert len(wakes) == 1
    commit.written(batch)
    assert commit.complete(batch)  # more is waiting: the caller goes on
    batch = commit.seal(6)
    assert batch is not None
    assert written(commit, batch) == ["later"]
    assert commit.idle
    assert commit.seal(7) is None
    commit.append((b"x" * 10,))
    assert len(wakes) == 2


def test_what_may_linger_is_no_reason_for_a_batch_until_its_time_has_come():
    wakes: list[int] = []
    commit = Commit(0, wakes.append)
    commit.append((b"x" * 10,), linger=True)
    commit.append((b"x" * 10,), linger=True)
    assert wakes == [LINGER_MS] and not commit.idle and not commit.settled
    batch = commit.seal(5)  # its time has come
    assert batch is not None and written(commit, batch) == []
    assert commit.idle
    commit.append((b"x" * 10,), linger=True)
    commit.append((b"x" * 10,))
    assert wakes == [LINGER_MS, LINGER_MS, 0]
    batch = commit.seal(5)
    assert batch is not None and batch.frames[0].count == 2
    commit.append((b"x" * 10,), linger=True)  # behind a batch in flight
    commit.written(batch)
    assert not commit.complete(batch)
    assert wakes == [LINGER_MS, LINGER_MS, 0, LINGER_MS]
    batch = commit.seal(5)
    assert batch is not None and written(commit, batch) == []
    for ask in (
        lambda: commit.wait(Durability.SYNC, nothing, "soon"),
        lambda: commit.wait(Durability.OS, nothing, "soon"),
        commit.request_sync,
        lambda: commit.append_together([b"x"], [1]),
        lambda: commit.append_run(b"xx", 2, 1),
    ):
        commit.append((b"x" * 10,), linger=True)
        ask()
        assert wakes[-2:] == [LINGER_MS, 0]
        batch = commit.seal(6)
        assert batch is not None
        commit.append((b"x" * 10,), linger=True)
        ask()  # meanwhile
        commit.written(batch)
        assert commit.complete(batch)
        batch = commit.seal(7)
        assert batch is not None
        written(commit, batch)
    commit.append((b"x" * 10,), linger=True)
    commit.fail(LogFailed("disk"))
    before = len(wakes)
    for _ in range(2):
        with pytest.raises(LogFailed):
            commit.append((b"x" * 10,), linger=True)
    assert commit.empty and len(wakes) == before


def test_waiters_of_both_levels_are_told_apart():
    commit = Commit(0, lambda delay_ms: None)
    commit.append((b"x" * 10,))
    for number in range(6):
        level = Durability.SYNC if number % 2 else Durability.OS
        commit.wait(level, nothing, number)
        commit.append((b"x" * 10,))
    batch = commit.seal(5)
    assert batch is not None and batch.sync
    assert [argument for _, _, argument in commit.written(batch)] == [0, 2, 4]
    assert commit.written_lsn == batch.end and commit.durable_lsn == 0
    assert [argument for _, _, argument in commit.durable(batch)] == [1, 3, 5]
    assert commit.durable_lsn == batch.end
    assert not commit.complete(batch)


def test_only_one_batch_is_in_flight_and_only_that_one_completes():
    commit = Commit(0, lambda delay_ms: None)
    commit.append((b"x" * 10,))
    batch = commit.seal(5)
    assert batch is not None
    with pytest.raises(AssertionError):
        commit.seal(5)
    with pytest.raises(AssertionError):
        commit.written(Batch(0))
    with pytest.raises(AssertionError):
        commit.complete(batch)  # it was never written


def test_failing_returns_everybody_in_order_and_refuses_what_comes():
    commit = Commit(0, lambda delay_ms: None)
    for number in range(4):
        commit.append((b"x" * 10,))
        commit.wait(Durability.SYNC if number % 2 else Durability.OS, nothing, number)
        if number == 1:
            commit.seal(5)
    error = LogFailed("disk")
    assert [argument for _, _, argument in commit.fail(error)] == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(LogFailed):
            commit.append((b"x" * 10,))
    with pytest.raises(LogFailed):
        commit.append((bytes(600_000),))
    with pytest.raises(LogFailed):
        commit.request_sync()
    assert commit.empty
    assert commit.fail(error) == []


def test_references_of_open_records_are_counted_in_their_frame():
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=100)
    lsns = [commit.append((bytes(60),), references=2) for _ in range(3)]
    for lsn in lsns:
        commit.count(lsn, -1)
    commit.count(lsns[1], 5)
    with pytest.raises(AssertionError):
        commit.count(-1, 1)
    batch = commit.seal(5)
    assert batch is not None
    assert [frame.references for frame in batch.frames] == [2, 2, 2]
    assert [frame.live for frame in batch.frames] == [1, 6, 1]


def test_an_open_record_is_found_alone_and_a_cut_one_with_its_frame():
    commit = Commit(0, lambda delay_ms: None, payload_bytes_max=300)
    records = [encode_message([(1, n)], 5, b"", b"x" * (n % 90)) for n in range(30)]
    lsns = [commit.append(parts) for parts in records]
    for lsn, parts in zip(lsns, records, strict=True):
        extent = commit.find(lsn)
        assert extent is not None
        at = lsn - extent.start
        assert extent.buffer[at:].startswith(b"".join(parts))
    assert commit.find(lsns[-1] + 1) is None


def test_an_empty_frame_can_be_cut_only_when_nothing_is_open():
    commit = Commit(0, lambda delay_ms: None)
    commit.cut_empty()
    commit.request_sync()
    batch = commit.seal(5)
    assert batch is not None
    assert (batch.frames[0].count, batch.end) == (0, FRAME_BYTES)
    commit.append((b"x" * 10,))
    with pytest.raises(AssertionError):
        commit.cut_empty()

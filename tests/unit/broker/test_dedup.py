"""The deduplication window: exactly as long as it says, and the same after a checkpoint."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.dedup import DedupWindow, dedup_hash, group_hash
from braidmq.broker.state import DEDUP
from tests.broker_disk import DiskBroker
from tests.broker_harness import sent

NOW = 1_700_000_000_000


def test_id_is_known_for_the_window_and_no_longer():
    window = DedupWindow(300_000)
    window.add(b"x" * 16, NOW, 7, 1)
    assert window.find(b"x" * 16, NOW) == (7, 1)
    assert window.find(b"x" * 16, NOW + 299_999) == (7, 1)
    assert window.find(b"x" * 16, NOW + 300_000) is None
    assert len(window) == 0


def test_adding_again_changes_nothing_but_after_the_window():
    window = DedupWindow(1_000)
    window.add(b"x" * 16, NOW, 7, 1)
    window.add(b"x" * 16, NOW, 8, 2)
    assert window.find(b"x" * 16, NOW) == (7, 1)
    window.add(b"x" * 16, NOW + 2_000, 9, 3)  # as in replay, where nothing is pruned
    assert window.find(b"x" * 16, NOW + 2_500) == (9, 3)
    assert window.find(b"x" * 16, NOW + 3_000) is None


def test_hashes_keep_ids_bodies_and_scopes_apart():
    hashes = {
        dedup_hash("", "a", b"body"),
        dedup_hash("", "b", b"body"),
        dedup_hash("g", "a", b"body"),
        dedup_hash("", "", b"a"),
        dedup_hash("", "", b"b"),
        dedup_hash("g", "", b"a"),
    }
    assert len(hashes) == 6 and all(len(each) == 16 for each in hashes)
    assert dedup_hash("", "a", b"body") == dedup_hash("", "a", b"other body")


def test_group_hash_is_stable_and_never_none():
    """The numbers are on disk: a change of the hash would tear groups apart at an update."""
    assert (group_hash(""), group_hash("a")) == (13020603013274838756, 3405396810240292928)
    assert dedup_hash("", "a", b"").hex() == "756b87e819719eb3c6bbb1f2cfa51d13"


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 9)), max_size=80),
    st.integers(0, 80),
)
def test_window_is_a_dict_with_a_clock(steps, checkpoint_at):
    window = DedupWindow(1_000)
    model: dict[bytes, tuple[int, int]] = {}  # -> when, id
    now = NOW
    for number, (later, key) in enumerate(steps):
        if number == checkpoint_at:
            again = DedupWindow(1_000)
            for content in window.sections():
                again.load(content)
            window = again
        now += later
        hashed = bytes([key]) * 16
        expected = model.get(hashed)
        if expected is not None and expected[0] + 1_000 > now:
            assert window.find(hashed, now) == (expected[1], number_of(expected[1]))
        else:
            assert window.find(hashed, now) is None
            window.add(hashed, now, number + 1, number_of(number + 1))
            model[hashed] = (now, number + 1)


def number_of(id: int) -> int:
    return id * 2


def test_window_is_no_longer_when_the_clock_went_back():
    window = DedupWindow(1_000)
    window.add(b"a" * 16, NOW + 3_600_000, 7, 1)
    window.add(b"b" * 16, NOW - 500, 8, 2)
    window.begin(NOW)
    window.add(b"c" * 16, NOW + 100, 9, 3)
    assert window.find(b"a" * 16, NOW + 400) == (7, 1)
    assert window.find(b"b" * 16, NOW + 499) == (8, 2)
    assert window.find(b"b" * 16, NOW + 500) is None
    assert window.find(b"a" * 16, NOW + 1_000) is None
    assert window.find(b"c" * 16, NOW + 1_099) == (9, 3)
    assert window.find(b"c" * 16, NOW + 1_100) is None


@pytest.mark.parametrize("checkpoint", [False, True])
def test_restart_with_an_earlier_clock_forgets_ids_in_time(checkpoint):
    broker = DiskBroker()
    broker.declare(fifo=True)
    broker.send(b"a", group="g", dedup_id="1")
    if checkpoint:
        broker.checkpoint()
    broker.clock.ms -= 3_600_000
    broker = broker.restarted()
    broker.send(b"b", group="g", dedup_id="2")
    assert [each.duplicate for each in sent(broker.send(b"a", group="g", dedup_id="1"))] == [True]
    broker.advance(300_000)
    for id in ("1", "2"):
        (again,) = sent(broker.send(b"c", group="g", dedup_id=id))
        assert not again.duplicate


def test_checkpoint_takes_the_window_a_slice_at_a_time(monkeypatch):
    broker = DiskBroker()
    broker.declare(fifo=True)
    window = broker.core.queues["q"].dedup
    assert window is not None
    for number in range(5_000):
        window.add(number.to_bytes(16, "little"), broker.clock.ms, number, number)
    slices: list[int] = []
    sections = window.sections

    def counted() -> Iterator[bytes]:
        for content in sections():
            slices.append(len(content))
            yield content

    monkeypatch.setattr(DedupWindow, "sections", lambda window: counted())
    seen = 0
    for kind, _ in broker.core.snapshot():
        seen += kind == DEDUP
        assert len(slices) == seen
    assert seen == 5

"""Deadlines: never early, in order of time, and the same after a checkpoint."""

from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.wheel import Wheel

NOW = 1_700_000_000_000
ENTRIES = st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 2**56 - 1)), max_size=60)


def test_nothing_is_due_early_and_all_in_order_of_time():
    wheel = Wheel()
    wheel.add(NOW + 300, 3)
    wheel.add(NOW + 100, 1)
    wheel.add(NOW + 100, 2)
    assert wheel.due(NOW + 99, 10) == []
    assert wheel.due(NOW + 299, 10) == [(NOW + 100, 1), (NOW + 100, 2)]
    assert wheel.due(NOW + 300, 10) == [(NOW + 300, 3)]
    assert len(wheel) == 0 and wheel.next_due() is None


def test_no_more_is_taken_than_was_asked_for():
    wheel = Wheel()
    for number in range(10):
        wheel.add(NOW, number)
    assert [number for _, number in wheel.due(NOW, 4)] == [0, 1, 2, 3]
    next_due = wheel.next_due()
    assert next_due is not None and next_due <= NOW
    assert len(wheel.due(NOW, 100)) == 6


def test_entry_may_be_added_to_a_time_that_has_begun():
    wheel = Wheel()
    wheel.add(NOW + 10, 1)
    assert wheel.due(NOW, 10) == []
    wheel.add(NOW + 5, 2)
    assert wheel.due(NOW + 10, 10) == [(NOW + 5, 2), (NOW + 10, 1)]


def test_numbers_can_be_left_out():
    wheel = Wheel()
    for number in range(5):
        wheel.add(NOW + number, number)
    assert wheel.without({1, 3}).due(NOW + 10, 10) == [(NOW, 0), (NOW + 2, 2), (NOW + 4, 4)]


@given(ENTRIES, st.lists(st.integers(0, 3_500), max_size=8))
def test_wheel_is_a_sorted_list(entries, moments):
    wheel = Wheel()
    model = []
    for after, number in entries:
        wheel.add(NOW + after, number)
        model.append((NOW + after, number))
    for moment in sorted(moments):
        next_due = wheel.next_due()
        assert (next_due is None) == (not model)
        assert next_due is None or next_due <= min(model)[0]
        due = sorted(entry for entry in model if entry[0] <= NOW + moment)
        assert wheel.due(NOW + moment, 1_000) == due
        model = [entry for entry in model if entry[0] > NOW + moment]
    assert sorted(wheel.numbers()) == sorted(model) and len(wheel) == len(model)


@given(ENTRIES, st.integers(0, 3_000))
def test_sections_bring_everything_back(entries, moment):
    wheel = Wheel()
    for after, number in entries:
        wheel.add(NOW + after, number)
    wheel.due(NOW + moment, 3)  # some are taken, some buckets have begun
    again = Wheel()
    for key, content in wheel.sections():
        again.load(key, content)
    assert len(again) == len(wheel)
    assert again.due(NOW + 4_000, 1_000) == wheel.due(NOW + 4_000, 1_000)


def test_trim_drops_what_is_not_wanted_and_nothing_else():
    wheel = Wheel()
    for number in range(1, 2_001):
        wheel.add(NOW + 300 * number, number)
    looked_at = 0
    while len(wheel) > 20:
        wheel.trim(lambda number: number % 100 == 0, 50)
        looked_at += 1
        assert looked_at < 100
    assert len(wheel._buckets) == 20 and len(wheel._keys) < 200
    wheel.add(NOW + 300, 1)  # into a bucket that is gone
    assert wheel.next_due() is not None
    due = wheel.due(NOW + 10**9, 10_000)
    assert [number for _, number in due] == [1, *range(100, 2_001, 100)]
    assert len(wheel) == 0 and wheel.next_due() is None


def test_trim_does_not_disturb_a_checkpoint():
    wheel = Wheel()
    for number in range(1, 11):
        wheel.add(NOW + 1_000 * number, number)
    sections = wheel.sections()
    first = next(sections)
    wheel.trim(lambda number: 0, 100)
    kept = Wheel()
    for key, content in (first, *sections):
        kept.load(key, content)
    assert len(kept) == 10 and len(wheel) == 0

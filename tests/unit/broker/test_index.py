"""Lanes of slots against a dict that is obviously right."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.index import HELD, LEASED, LSN_MASK, PAGE_SLOTS, Lane


def filled(count: int, grouped: bool = False, next_number: int = 1) -> Lane:
    lane = Lane(0, grouped, next_number)
    for number in range(next_number, next_number + count):
        lane.append(1_000 + number, 10, number % 3 + 1)
    return lane


def test_numbers_count_from_one_without_gaps():
    lane = filled(3)
    assert lane.append(9, 1) == 4 and lane.next == 5
    assert [lane.slot(number) for number in range(6)] == [0, 1001, 1002, 1003, 9, 0]


def test_lane_may_begin_in_the_middle_of_a_page():
    lane = filled(2 * PAGE_SLOTS, grouped=True, next_number=1_500)
    assert lane.slot(1_499) == 0 and lane.slot(1_500) == 2_500
    assert lane.group(1_501) == 1_501 % 3 + 1
    assert lane.first_live(0) == 1_500 and lane.live == 2 * PAGE_SLOTS


def test_removed_message_gives_back_its_slot_link_and_size_once():
    lane = filled(3)
    lane.set_link(2, 77)
    assert lane.remove(2, 10) == (1002, 77, 10)
    assert lane.remove(2, 10) == (0, 0, 0)
    assert lane.remove(5) == lane.remove(5_000) == (0, 0, 0)
    assert lane.slot(2) == 0 and lane.live == 2


def test_page_that_is_empty_is_dropped_and_its_bytes_are_exact():
    lane = Lane(0, False)
    for number in range(1, PAGE_SLOTS + 10):
        lane.append(number, number)
    for number in range(1, PAGE_SLOTS):
        lane.remove(number)  # sizes not known: the mean stands in
    assert list(lane.pages) == [1]
    assert lane.pages[1].bytes == sum(range(PAGE_SLOTS, PAGE_SLOTS + 10))


def test_counts_saturate_and_are_kept_apart_from_slots():
    lane = filled(2)
    assert lane.receives(1) == 0
    lane.set_receives(1, 3)
    lane.set_receives(2, 1_000_000)
    lane.set_receives(9_999, 1)  # not there: nothing
    assert (lane.receives(1), lane.receives(2), lane.receives(9_999)) == (3, 65_535, 0)


def test_held_and_leased_messages_are_live_and_not_ready():
    lane = filled(4)
    lane.set_slot(1, lane.slot(1) | HELD)
    lane.set_slot(2, lane.slot(2) | LEASED)
    assert lane.first_ready(0) == 3 and lane.first_live(0) == 1
    assert lane.slot(1) & LSN_MASK == 1001
    assert lane.first_ready(5) == lane.first_live(5) == lane.next


def test_search_skips_a_gap_of_any_size():
    lane = filled(PAGE_SLOTS * 200)
    for number in range(2, PAGE_SLOTS * 200):
        lane.remove(number, 10)
    assert lane.first_live(2) == lane.first_ready(2) == PAGE_SLOTS * 200
    assert list(lane.live_numbers()) == [1, PAGE_SLOTS * 200]


def test_search_over_nothing_ends_at_next():
    lane = Lane(0, False, next_number=1_000_000)
    assert lane.first_live(0) == lane.first_ready(0) == 1_000_000


def test_drop_below_takes_out_whole_pages_and_parts():
    lane = filled(3_000, grouped=True)
    gone = lane.drop_below(2_500)
    assert sum(page.live for page in gone) == 2_499
    assert next(lane.live_numbers()) == 2_500 and lane.live == 501
    assert lane.cursor == 2_500
    gone = lane.drop_below(lane.next)
    assert sum(page.live for page in gone) == 501 and lane.live == 0
    assert lane.append(7, 1, 5) == 3_001
    assert lane.slot(3_001) == 7 and lane.group(3_001) == 5


def test_drop_below_shares_the_bytes_between_the_parts():
    lane = filled(100)
    (page,) = lane.drop_below(51)
    assert page.bytes == 500 and lane.pages[0].bytes == 500


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_lane_is_a_dict(seed, grouped):
    rng = random.Random(seed)
    start = rng.choice([1, 5, PAGE_SLOTS, 10 * PAGE_SLOTS - 3])
    lane = Lane(0, grouped, start)
    model: dict[int, int] = {}
    for step in range(300):
        for _ in range(rng.choice([1, 1, 1, 40])):
            model[lane.append(step + 1, 5, 1)] = step + 1
        for _ in range(rng.choice([0, 1, 40])):
            if model:
                number = rng.choice(list(model)) if rng.random() < 0.3 else min(model)
                assert lane.remove(number)[0] == model.pop(number)
        if rng.random() < 0.02:
            bound = rng.randrange(start, lane.next + 1)
            dropped = lane.drop_below(bound)
            gone = [number for number in model if number < bound]
            assert sum(page.live for page in dropped) == len(gone)
            for number in gone:
                del model[number]
    assert lane.live == len(model)
    assert list(lane.live_numbers()) == sorted(model)
    ready = [number for number in model if number >= lane.next - 10]
    assert lane.first_ready(max(lane.next - 10, 0)) == min(ready, default=lane.next)
    assert sum(page.bytes for page in lane.pages.values()) == 5 * lane.live


def test_a_run_is_what_appending_one_by_one_is():
    for count, before in [(1, 0), (5, 0), (1_023, 1), (2_100, 700)]:
        one, run = Lane(0, False), Lane(0, False)
        for lane in (one, run):
            for number in range(before):
                lane.append(1 + number, 10)
        first = one.next
        for number in range(count):
            one.append(10_000 + 50 * number, 42)
        assert run.append_run(10_000, 50, count, 42) == first
        assert (run.next, run.live) == (one.next, one.live)
        assert {n: (p.slots, p.live, p.bytes) for n, p in run.pages.items()} == {
            n: (p.slots, p.live, p.bytes) for n, p in one.pages.items()
        }

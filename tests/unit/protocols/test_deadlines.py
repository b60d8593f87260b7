"""Deadlines: never early, at most a grain late, and gone when they are no longer wanted."""

import random

from braidmq.protocols.deadlines import GRAIN_MS, Deadlines


def test_nothing_is_early_and_nothing_is_late():
    deadlines: Deadlines[int] = Deadlines()
    chance = random.Random(1)
    wanted = {number: chance.randrange(1, 10_000) for number in range(500)}
    for number, at_ms in wanted.items():
        deadlines.add(number, at_ms)
    taken = {number: now_ms for now_ms in range(0, 10_200) for number in deadlines.due(now_ms)}
    assert set(taken) == set(wanted) and not len(deadlines)
    assert all(0 <= taken[number] - wanted[number] < GRAIN_MS for number in wanted)


def test_next_is_when_something_is_due():
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.next_ms() is None and deadlines.due(10**15) == []
    deadlines.add("late", 1_000)
    deadlines.add("soon", 100)
    at_ms = deadlines.next_ms()
    assert at_ms is not None and 100 <= at_ms < 100 + GRAIN_MS
    assert deadlines.due(at_ms - 1) == [] and deadlines.due(at_ms) == ["soon"]
    assert deadlines.due(10_000) == ["late"]


def test_what_is_discarded_is_not_due_and_not_kept():
    deadlines: Deadlines[str] = Deadlines()
    bucket = deadlines.add("a", 100)
    assert deadlines.add("b", 100) == bucket
    deadlines.discard("a", bucket)
    deadlines.discard("a", bucket)
    deadlines.discard("a", -1)
    assert len(deadlines) == 1
    deadlines.discard("b", bucket)
    assert deadlines.next_ms() is None and not deadlines._buckets


def test_the_order_of_buckets_does_not_grow_with_those_that_went():
    deadlines: Deadlines[int] = Deadlines()
    deadlines.add(0, 0)
    for at_ms in range(0, 1_000_000, 10):
        bucket = deadlines.add(1, 10_000_000 + at_ms % 700)
        assert deadlines.next_ms() == 0
        deadlines.discard(1, bucket)
    assert len(deadlines._order) < 70


def test_a_time_that_is_long_past_is_due_at_once():
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", -5)
    assert deadlines.due(0) == ["a"]

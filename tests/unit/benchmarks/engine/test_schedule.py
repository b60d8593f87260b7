"""Schedules: what processes make of one rate, together, in virtual time."""

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.schedule import poisson, uniform
from braidmq.benchmarks.engine.task import Step


def test_message_of_a_producer_is_due_at_its_turn() -> None:
    arrivals = list(uniform([Step(0.01, 1000)], 1, 0, 2, 2))
    assert arrivals == [(number * 1_000_000, number % 2) for number in range(10)]


def test_batch_is_due_at_once() -> None:
    arrivals = list(uniform([Step(1, 1000)], 100, 0, 1, 1))
    assert [due // 1_000_000 for due, _ in arrivals] == list(range(0, 1000, 100))


def test_ramp_goes_on_where_the_step_before_ended() -> None:
    steps = [Step(1, 10), Step(1, 0), Step(1, 20)]
    due = [when for when, _ in uniform(steps, 1, 0, 1, 1)]
    assert len(due) == 30
    assert due[9] == 900_000_000
    assert due[10] == 2_000_000_000
    assert {after - before for before, after in pairwise(due[10:])} == {50_000_000}


@pytest.mark.parametrize("steps", [[], [Step(1, 0)]])
def test_nothing_is_due_without_a_rate(steps: list[Step]) -> None:
    assert list(uniform(steps, 1, 0, 1, 1)) == []
    assert list(poisson(steps, 1, 0, 1, 1, 1)) == []


_RATES = st.just(0.0) | st.floats(0.01, 500)
_STEPS = st.lists(st.builds(Step, st.floats(0, 2), _RATES), max_size=4)


@given(_STEPS, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 3))
def test_processes_share_one_schedule(steps: list[Step], shares: list[int], batch: int) -> None:
    everybody = sum(shares)
    alone = list(uniform(steps, batch, 0, everybody, everybody))
    together = []
    place = 0
    for clients in shares:
        mine = list(uniform(steps, batch, place, clients, everybody))
        together += [(due, place + client) for due, client in mine]
        place += clients
    assert sorted(together) == sorted(alone)
    assert [due for due, _ in alone] == sorted(due for due, _ in alone)
    assert len(alone) == pytest.approx(
        sum(step.seconds * step.per_second for step in steps) / batch, abs=1
    )
    assert all(due < sum(step.seconds for step in steps) * 1e9 + 1 for due, _ in alone)


def test_random_arrivals_keep_the_rate() -> None:
    arrivals = list(poisson([Step(1, 2000), Step(1, 6000)], 1, 0, 4, 4, 7))
    due = [when for when, _ in arrivals]
    assert due == sorted(due)
    first = [when for when in due if when < 1e9]
    assert len(first) == pytest.approx(2000, rel=0.15)
    assert len(due) - len(first) == pytest.approx(6000, rel=0.1)
    gaps = [after - before for before, after in pairwise(first)]
    # The gaps of a Poisson process are spread as far as they are long on average.
    assert mean((gap - mean(gaps)) ** 2 for gap in gaps) ** 0.5 == pytest.approx(
        mean(gaps), rel=0.2
    )
    assert {client for _, client in arrivals} == {0, 1, 2, 3}


def test_random_arrivals_are_repeatable_and_differ_between_processes() -> None:
    steps = [Step(1, 1000)]
    assert list(poisson(steps, 1, 0, 1, 2, 7)) == list(poisson(steps, 1, 0, 1, 2, 7))
    assert list(poisson(steps, 1, 0, 1, 2, 7)) != list(poisson(steps, 1, 1, 1, 2, 7))
    assert len(list(poisson(steps, 1, 0, 1, 2, 7))) == pytest.approx(500, rel=0.2)

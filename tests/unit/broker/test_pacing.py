"""The breaker opens, probes and closes; the rate limit lets through what it says and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.pacing import CircuitBreaker, RateLimit

T = 1_700_000_000_000


def opened(open_ms: int = 100, open_ms_max: int = 1_000) -> CircuitBreaker:
    breaker = CircuitBreaker(3, open_ms, open_ms_max)
    assert [breaker.failed(T) for _ in range(3)] == [False, False, True]
    return breaker


def test_a_closed_breaker_lets_everything_through():
    breaker = CircuitBreaker(3, 100, 1_000)
    assert (breaker.state(T), breaker.allows(T), breaker.due_ms()) == ("closed", None, 0)


def test_failures_in_a_row_open_it():
    breaker = opened()
    assert (breaker.state(T + 99), breaker.allows(T + 99)) == ("open", 0)
    assert breaker.due_ms() == T + 100


def test_a_success_in_between_keeps_it_closed():
    breaker = CircuitBreaker(3, 100, 1_000)
    for _ in range(5):
        assert not breaker.failed(T) and not breaker.failed(T)
        breaker.succeeded()
    assert breaker.state(T) == "closed"


def test_half_open_lets_one_call_through():
    breaker = opened()
    assert (breaker.state(T + 100), breaker.allows(T + 100)) == ("half-open", 1)
    breaker.begin(T + 100)
    assert breaker.allows(T + 100) == 0
    breaker.succeeded()
    assert (breaker.state(T + 100), breaker.allows(T + 100)) == ("closed", None)


def test_a_probe_that_was_not_made_leaves_room_for_another():
    breaker = opened()
    breaker.begin(T + 100)
    breaker.abandon()
    assert breaker.allows(T + 100) == 1


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_maximum():
    breaker, now = opened(), T + 100
    waits = []
    for _ in range(6):
        breaker.begin(now)
        assert breaker.failed(now)
        waits.append(breaker.due_ms() - now)
        now = breaker.due_ms()
    assert waits == [200, 400, 800, 1_000, 1_000, 1_000]


def test_after_a_success_it_begins_with_the_first_time_again():
    breaker = opened()
    breaker.begin(T + 100)
    breaker.failed(T + 100)
    breaker.begin(T + 300)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(T + 300)
    assert breaker.due_ms() == T + 400


def test_a_call_from_before_does_not_count_against_an_open_breaker():
    breaker = opened()
    assert not breaker.failed(T + 50)
    assert breaker.due_ms() == T + 100


def test_zero_failures_means_never():
    breaker = CircuitBreaker(0, 100, 1_000)
    assert not any(breaker.failed(T) for _ in range(1_000))
    assert breaker.allows(T) is None


def test_open_times_stay_bounded_for_ever():
    breaker, now = opened(1, 50), T + 1
    for _ in range(10_000):
        breaker.begin(now)
        breaker.failed(now)
        assert breaker.due_ms() - now <= 50
        now = breaker.due_ms()


def test_a_rate_limit_lets_a_second_s_worth_through_at_once():
    limit = RateLimit(5)
    assert limit.allows(T) == 5
    for _ in range(5):
        limit.begin(T)
    assert (limit.allows(T), limit.due_ms(T)) == (0, T + 200)
    assert (limit.allows(T + 199), limit.allows(T + 200)) == (0, 1)
    assert limit.allows(T + 3_600_000) == 5


def test_no_limit():
    limit = RateLimit(0)
    limit.begin(T)
    assert (limit.allows(T), limit.due_ms(T)) == (None, T)


def test_a_call_beyond_the_limit_is_a_bug():
    limit = RateLimit(1)
    limit.begin(T)
    with pytest.raises(AssertionError):
        limit.begin(T)


@given(st.integers(1, 1_000), st.lists(st.integers(0, 700), max_size=60))
def test_never_more_than_the_rate_and_a_burst(rate, pauses):
    limit, now, begun = RateLimit(rate), T, 0
    for pause in pauses:
        now += pause
        due = limit.due_ms(now)
        if due > now:
            assert limit.allows(due - 1) == 0
            now = due
        assert (limit.allows(now) or 0) >= 1
        limit.begin(now)
        begun += 1
        assert begun <= rate + (now - T) * rate / 1_000

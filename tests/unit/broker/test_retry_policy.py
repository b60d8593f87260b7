"""Each phase of a retry policy, each backoff function, and every limit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.retry_policy import (
    DELAY_TARGET_MS_MAX,
    RETRIES_MAX,
    TOTAL_DELAY_MS_MAX,
    RetryPolicy,
)


def delays(policy: RetryPolicy) -> list[int]:
    """All delays in their order; what comes behind them has to be None."""
    policy.check()
    found = [policy.delay_ms(attempt) for attempt in range(1, policy.retries + 1)]
    assert policy.delay_ms(policy.retries + 1) is None
    assert policy.delay_ms(policy.retries + 1_000) is None
    return [delay for delay in found if delay is not None]


def test_the_default_is_that_of_sns():
    assert delays(RetryPolicy()) == [20_000, 20_000, 20_000]


def test_the_phases_follow_one_another():
    policy = RetryPolicy(
        min_delay_ms=1_000,
        max_delay_ms=4_000,
        retries=11,
        no_delay_retries=3,
        min_delay_retries=2,
        max_delay_retries=2,
    )
    backoff = [1_000, 2_000, 3_000, 4_000]
    assert delays(policy) == [0, 0, 0, 1_000, 1_000, *backoff, 4_000, 4_000]


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        ("linear", [1_000, 5_000, 9_000, 13_000, 17_000]),
        ("arithmetic", [1_000, 2_600, 5_800, 10_600, 17_000]),  # 1, 3, 6 and 10 tenths of the way
        ("geometric", [1_000, 2_031, 4_123, 8_372, 17_000]),
        ("exponential", [1_000, 2_000, 4_000, 8_000, 16_000]),
    ],
)
def test_the_backoff_functions(backoff, expected):
    policy = RetryPolicy(min_delay_ms=1_000, max_delay_ms=17_000, retries=5, backoff=backoff)
    assert delays(policy) == expected


def test_exponential_stays_at_the_maximum():
    policy = RetryPolicy(min_delay_ms=1_000, max_delay_ms=5_000, retries=6, backoff="exponential")
    assert delays(policy) == [1_000, 2_000, 4_000, 5_000, 5_000, 5_000]


@pytest.mark.parametrize("backoff", ["linear", "arithmetic", "geometric", "exponential"])
def test_a_backoff_of_one_retry_waits_the_minimum(backoff):
    policy = RetryPolicy(min_delay_ms=1_000, max_delay_ms=9_000, retries=1, backoff=backoff)
    assert delays(policy) == [1_000]


def test_no_retries_gives_up_at_once():
    assert delays(RetryPolicy(retries=0)) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"min_delay_ms": 999}, "min_delay_ms"),
        ({"min_delay_ms": 21_000}, "min_delay_ms"),
        ({"max_delay_ms": DELAY_TARGET_MS_MAX + 1}, "max_delay_ms"),
        ({"retries": -1}, "retries"),
        ({"retries": RETRIES_MAX + 1}, "retries"),
        ({"no_delay_retries": -1}, "no_delay_retries"),
        ({"no_delay_retries": 4}, "together at most retries"),
        ({"min_delay_retries": 2, "max_delay_retries": 2}, "together at most retries"),
        ({"max_delay_ms": 3_600_000, "max_delay_retries": 2}, f"at most {TOTAL_DELAY_MS_MAX}"),
    ],
)
def test_what_is_out_of_range_is_refused(changes, named):
    with pytest.raises(InvalidArgument, match=named):
        RetryPolicy(**changes).check()


def test_the_limits_themselves_are_allowed():
    RetryPolicy(min_delay_ms=1_000, max_delay_ms=DELAY_TARGET_MS_MAX, retries=1).check()
    RetryPolicy(min_delay_ms=36_000, max_delay_ms=36_000, retries=RETRIES_MAX).check()


@given(
    st.builds(
        RetryPolicy,
        min_delay_ms=st.integers(1_000, 10_000),
        max_delay_ms=st.integers(10_000, 36_000),
        retries=st.integers(0, RETRIES_MAX),
        no_delay_retries=st.integers(0, 10),
        min_delay_retries=st.integers(0, 10),
        max_delay_retries=st.integers(0, 10),
        backoff=st.sampled_from(["linear", "arithmetic", "geometric", "exponential"]),
    )
)
def test_delays_never_shrink_and_stay_between_the_targets(policy):
    try:
        found = delays(policy)
    except InvalidArgument:
        return
    assert all(before <= after for before, after in pairwise(found))
    assert all(d == 0 or policy.min_delay_ms <= d <= policy.max_delay_ms for d in found)
    assert sum(1 for d in found if d == 0) == policy.no_delay_retries

"""The highest rate that is carried is found, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.rates import RATE_MAX, Objective
from braidmq.benchmarks.engine.saturation import FIRST_RATE, Search, why_not_carried
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.results.result import Generator
from tests.unit.benchmarks.engine.run_support import a_run


def found(limit):
    search = Search()
    while rate := search.next_rate():
        search.note(rate, rate <= limit)
        assert search.tried < 60
    return search


@given(st.floats(5, RATE_MAX))
def test_the_search_comes_near_whatever_is_carried(limit):
    search = found(limit)
    assert search.carried <= limit
    assert search.carried >= limit / 1.1 or search.carried == RATE_MAX


def test_a_broker_that_carries_everything_or_nothing_ends_the_search():
    assert found(float("inf")).carried == RATE_MAX
    assert found(0).carried == 0


def test_it_begins_modestly():
    assert Search().next_rate() == FIRST_RATE


def run_of(response_ms=1.0, confirmed=1000, latencies_ms=None, **changes):
    latency = {}
    for metric, found_ms in {"response": response_ms, **(latencies_ms or {})}.items():
        histogram = Histogram()
        histogram.record(int(found_ms * 1e6), 100)
        latency[metric] = histogram.dump()
    return a_run(confirmed=confirmed, latency=latency, **changes)


LATE = Generator(role="producers", clients=1, cpu_seconds=0.1, lag_p99_ms=2.0)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of(), ""),
        (run_of(response_ms=11), "response p99 was 11.0 ms, more than 10 ms"),
        (run_of(latencies_ms={"delivery": 9}), ""),
        (run_of(latencies_ms={"delivery": 11}), "delivery p99 was 11.0 ms, more than 10 ms"),
        (run_of(latencies_ms={"reply": 11}), "reply p99 was 11.0 ms, more than 10 ms"),
        (run_of(latencies_ms={"delay": 11}), "delay p99 was 11.0 ms, more than 10 ms"),
        (run_of(latencies_ms={"lag": 11}), ""),
        (run_of(confirmed=900), "only 900 of 1,000"),
        (run_of(problems=["1 lost of 5"]), "1 lost of 5"),
        (run_of(generators=[LATE]), "the load was 2.00 ms late"),
        (run_of(invalid=["others were busy"]), ""),
    ],
)
def test_why_a_rate_is_too_high(run, words):
    why = why_not_carried(run, 1000, Objective(0.99, 10))
    assert why.startswith(words) and bool(why) == bool(words)


def test_any_objective_is_named_as_it_was_given():
    assert "response p99.9 was" in why_not_carried(run_of(5), 1000, Objective(0.999, 1))

"""What the tables of peers have in common; the rest is tested with each of them."""

from braidmq.benchmarks.peer_report import (
    PeerFigures,
    PeerRow,
    common_figures,
    ratio,
    sync_milliseconds,
)
from braidmq.benchmarks.stomp_plan import StompPlan, StompSide
from braidmq.benchmarks.stomp_scenarios import StompOutcome
from braidmq.benchmarks.summary import Spread


def outcome(messages, **changes):
    side = StompSide(
        confirmed=messages, received=messages, seconds=2.0, server_cpu=1.0, memory_bytes=messages
    )
    return StompOutcome(system="some", side=side, **changes)


def figures(outcomes):
    return PeerFigures(**common_figures("some", outcomes), ours=None)


def test_figures_are_medians_and_texts_are_kept():
    found = figures([outcome(200), outcome(400, problems=["1 lost"]), outcome(100, invalid=["x"])])
    assert found.per_second == Spread(100.0, 50.0, 200.0)
    assert (found.broker_cpu, found.broker_us, found.memory_bytes) == (0.5, 5_000.0, 400)
    assert (found.problems, found.invalid) == (["1 lost"], ["x"])
    assert PeerRow("row", StompPlan(), [found]).failed
    assert not PeerRow("row", StompPlan(), [figures([outcome(1)])]).failed


def test_a_run_that_found_nothing_divides_by_nothing():
    empty = StompOutcome(system="some", problems=["it did not start"])
    found = figures([empty])
    assert (found.per_second.max, found.broker_cpu, found.broker_us) == (0.0, 0.0, 0.0)
    assert ratio([outcome(1)], [[empty]]) is None


def test_a_ratio_is_to_the_quickest_peer_of_the_same_valid_round():
    ours = [outcome(600), outcome(900)]
    one, two = [outcome(100), outcome(300)], [outcome(200), outcome(1, invalid=["robbed"])]
    assert ratio(ours, [one, two]) == Spread(3.0, 3.0, 3.0)
    assert ratio(ours, [one]) == Spread(4.5, 3.0, 6.0)
    assert ratio(ours, []) is None and ratio([], [one]) is None


def test_a_sync_takes_time_and_leaves_nothing(tmp_path):
    assert sync_milliseconds(str(tmp_path)) > 0
    assert list(tmp_path.iterdir()) == []

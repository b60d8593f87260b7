"""Plans: their queues, what is wrong with them, and what a rate counts."""

from braidmq.benchmarks.stomp_plan import StompPlan, StompSide, problems_of


def test_each_pair_has_a_queue_or_all_share_one():
    assert StompPlan(pairs=2).queues == ["bench-0", "bench-1"]
    assert StompPlan(pairs=2, shared=True).queues == ["bench", "bench"]


def test_what_is_wrong_is_named():
    assert problems_of(StompPlan()) == []
    wrong = problems_of(StompPlan(window=0, seconds=0, pairs=501))
    assert [each.split()[0] for each in wrong] == ["pairs", "window", "seconds"]


def test_the_rate_is_that_of_the_slower_end():
    assert StompSide(confirmed=300, received=200, seconds=2.0).per_second == 100.0
    assert StompSide().per_second == 0.0

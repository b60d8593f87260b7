"""What a plan may say, and what a side makes of its counts."""

from braidmq.benchmarks.stream_plan import StreamPlan, StreamSide, problems_of


def test_a_plan_out_of_range_names_what_is_wrong():
    assert problems_of(StreamPlan()) == []
    wrong = problems_of(StreamPlan(size=3, batch=0, seconds=0))
    assert [each.split(" is ")[0] for each in wrong] == ["size", "batch", "seconds"]


def test_records_a_second():
    assert StreamSide(records=10, seconds=2.0).per_second == 5
    assert StreamSide(records=10).per_second == 0

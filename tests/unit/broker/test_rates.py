"""A bucket lets a second's worth through at once, and then as much as time brings."""

from braidmq.broker.rates import Bucket


def test_a_bucket_fills_with_time_up_to_a_seconds_worth():
    bucket = Bucket(10, 0)
    bucket.left -= 10
    assert bucket.fill(10, 500) == 5
    assert bucket.fill(10, 500) == 5
    assert bucket.fill(10, 60_000) == 10


def test_what_was_taken_too_much_is_paid_back_first():
    bucket = Bucket(10, 0)
    bucket.left -= 30
    assert bucket.fill(10, 1_000) == -10
    assert bucket.fill(10, 2_500) == 5


def test_a_lower_rate_holds_at_once():
    bucket = Bucket(100, 0)
    assert bucket.fill(10, 0) == 10

"""A client that pulls waits only when it has nothing to acknowledge, and asks in vain but once."""

from braidmq.benchmarks.drivers.pulling import Pulling


def test_half_is_dealt_with_while_the_other_half_is_fetched():
    pulling = Pulling(10, acknowledges=True)
    assert pulling.round_max == 5
    assert pulling.waits and pulling.ask(5)
    assert not pulling.ask(5), "one round at a time"
    pulling.came(5)
    assert not pulling.waits
    assert pulling.ended() and pulling.ask(5)
    pulling.came(5)
    assert pulling.ended() and not pulling.ask(5), "there is no room"
    pulling.unacknowledged -= 4
    assert not pulling.ask(5)
    pulling.unacknowledged -= 1
    assert pulling.ask(5)


def test_after_a_round_that_brought_little_it_acknowledges_first():
    pulling = Pulling(10, acknowledges=True)
    pulling.ask(5)
    pulling.came(2)
    assert not pulling.ended()
    pulling.unacknowledged -= 1
    assert pulling.ask(5) and not pulling.waits
    pulling.unacknowledged -= 1
    assert pulling.ended(), "nothing came, and it has nothing: it may wait"


def test_who_does_not_acknowledge_always_waits():
    pulling = Pulling(10, acknowledges=False)
    assert pulling.round_max == 10
    for _ in range(3):
        assert pulling.ask(10)
        pulling.came(3)
        assert pulling.waits and pulling.ended()


def test_one_at_a_time():
    pulling = Pulling(1, acknowledges=True)
    assert pulling.round_max == 1 and pulling.ask(1)
    pulling.came(1)
    assert pulling.ended() and not pulling.ask(1)
    pulling.unacknowledged -= 1
    assert pulling.ask(1) and pulling.waits

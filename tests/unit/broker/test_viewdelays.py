"""What a view holds back: as a wheel does it, for any sequence."""

from random import Random

from braidmq.broker.viewdelays import Delays

WIDE = (1 << 63) - 1


def test_entries_come_due_in_the_order_of_their_times():
    delays = Delays()
    for due_ms, number in ((30, 1), (10, WIDE), (20, 3)):
        delays.add(due_ms, number)
    assert len(delays) == 3 and delays.next_due() == 10
    assert delays.due(9, 10) == []
    assert delays.due(25, 1) == [(10, WIDE)]
    assert delays.due(25, 10) == [(20, 3)]
    assert delays.next_due() == 30
    assert delays.due(30, 10) == [(30, 1)]
    assert delays.next_due() is None and len(delays) == 0


def test_what_is_not_wanted_is_dropped():
    delays = Delays()
    for number in range(100):
        delays.add(1_000 - number, number)
    delays.trim(lambda number: number % 2, 0)
    assert len(delays) == 50
    assert delays.due(2_000, 100) == [(1_000 - n, n) for n in range(99, 0, -2)]


def test_it_comes_back_from_its_sections():
    rng = Random(1)
    delays, loaded = Delays(), Delays()
    assert list(delays.sections()) == []
    for _ in range(500):
        delays.add(rng.randrange(10**13), rng.randrange(WIDE))
    for key, content in delays.sections():
        loaded.load(key, content)
    assert sorted(loaded.numbers()) == sorted(delays.numbers())
    assert loaded.due(10**13, 1_000) == delays.due(10**13, 1_000)


def test_a_copy_without_some():
    delays = Delays()
    delays.add(1, 5)
    delays.add(2, 6)
    kept = delays.without({5})
    assert list(kept.numbers()) == [(2, 6)] and len(delays) == 2
    assert kept.next_due() == 2

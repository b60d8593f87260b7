"""A publisher waits for slow subscribers: until all have caught up, a while at most, once."""

from braidmq.broker.laggards import SLOW_WAIT_MS, Laggard, Pause

NOW = 1_700_000_000_000


class Slow:
    """A subscriber that is slow."""

    def __init__(self) -> None:
        self.lagging = False
        self.publishers: set[Pause] = set()

    def catch_up(self) -> None:
        self.lagging = False
        publishers, self.publishers = self.publishers, set()
        for publisher in publishers:
            publisher.go_on(self)


def pause() -> tuple[Pause, list[str]]:
    woken: list[str] = []
    return Pause(lambda: woken.append("over")), woken


def test_it_waits_until_the_last_has_caught_up():
    publisher, woken = pause()
    one, two = Slow(), Slow()
    slow: set[Laggard] = {one, two}
    assert publisher.begin(slow, None, NOW) and publisher.until_ms == NOW + SLOW_WAIT_MS
    assert not slow  # the next publisher looks anew
    one.catch_up()
    assert publisher.until_ms and not woken
    two.catch_up()
    assert publisher.until_ms == 0 and woken == ["over"]
    one.catch_up()
    assert woken == ["over"] and not (one.lagging or two.lagging)


def test_it_waits_no_longer_than_it_may_and_not_for_itself():
    publisher, woken = pause()
    one, two, own = Slow(), Slow(), Slow()
    assert not publisher.begin({own}, own, NOW)
    publisher.begin({one, two, own}, own, NOW)
    two.catch_up()
    publisher.tick(NOW + SLOW_WAIT_MS - 1)
    assert publisher.until_ms and not one.lagging
    publisher.tick(NOW + SLOW_WAIT_MS)
    assert publisher.until_ms == 0 and one.lagging and not two.lagging and not own.lagging
    one.catch_up()  # too late: nobody waits
    assert not woken and not one.publishers


def test_several_publishers_wait_for_one():
    pauses = [pause() for _ in range(3)]
    one = Slow()
    for publisher, _ in pauses:
        publisher.begin({one}, None, NOW)
    one.catch_up()
    assert [woken for _, woken in pauses] == [["over"]] * 3

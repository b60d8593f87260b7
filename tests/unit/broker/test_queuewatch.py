"""Who watches for queues is told of each that matches, of those that are there too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import InvalidArgument, LimitExceeded
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stream_settings import StreamSettings
from tests.broker_harness import Harness


class Watcher:
    def __init__(self):
        self.told = []

    def queue_declared(self, queue):
        self.told.append(queue.name)


def names(queues):
    return [queue.name for queue in queues]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("#", ["PRICE", "PRICE.GOLD", "PRICE.STOCK.A", "PRICE/TIN", "other"]),
        ("PRICE/#", ["PRICE", "PRICE.GOLD", "PRICE.STOCK.A", "PRICE/TIN"]),
        ("PRICE/+", ["PRICE.GOLD", "PRICE/TIN"]),
        ("+/+/A", ["PRICE.STOCK.A"]),
        ("other", ["other"]),
        ("none/+", []),
    ],
)
def test_those_there_and_those_that_come_are_the_same(filter, found):
    broker = Harness()
    early, late = Watcher(), Watcher()
    assert broker.core.queue_watch.watch(filter, early) == []
    for name in ("other", "PRICE/TIN", "PRICE.STOCK.A", "PRICE", "PRICE.GOLD"):
        broker.declare(name)
    assert sorted(early.told) == found
    assert names(broker.core.queue_watch.watch(filter, late)) == found
    assert late.told == []


def test_a_dead_letter_queue_and_a_view_are_told_of_and_the_brokers_own_are_not():
    broker, watcher = Harness(), Watcher()
    broker.core.queue_watch.watch("#", watcher)
    broker.declare("a", dead_letter="DLQ")
    assert watcher.told == ["DLQ", "a"]
    broker.core.declare_stream(SYSTEM, "s", StreamSettings(), 1, 0)
    broker.core.declare_queue(SYSTEM, "v", QueueSettings(stream="s"), 0)
    assert watcher.told == ["DLQ", "a", "v"]
    broker.declare("a", dead_letter="DLQ")  # it is there
    assert watcher.told == ["DLQ", "a", "v"]
    assert all(
        not name.startswith("$") for name in names(broker.core.queue_watch.watch("#", watcher))
    )


def test_who_stops_to_watch_is_told_nothing_more():
    broker, one, other = Harness(), Watcher(), Watcher()
    watch = broker.core.queue_watch
    watch.watch("+", one)
    watch.watch("+", other)
    watch.unwatch("+", one)
    watch.unwatch("+", one)
    watch.unwatch("a/b", one)
    broker.declare("a")
    assert (one.told, other.told) == ([], ["a"])


@pytest.mark.parametrize("filter", ["", "a/#/#", "a+", "a\x00", "a/" * 128])
def test_what_is_no_filter_is_refused(filter):
    with pytest.raises(InvalidArgument):
        Harness().core.queue_watch.watch(filter, Watcher())


def test_the_shapes_of_filters_are_bounded():
    broker = Harness(limits=Limits(filter_shapes_max=2))
    watch, watcher = broker.core.queue_watch, Watcher()
    watch.watch("+/a", watcher)
    watch.watch("+/b", watcher)
    with pytest.raises(LimitExceeded):
        watch.watch("a/+", watcher)
    watch.unwatch("+/a", watcher)
    watch.unwatch("+/b", watcher)
    watch.watch("a/+", watcher)


WORD = st.sampled_from(["a", "b", "cd"])
FILTERS = st.lists(WORD | st.just("+"), min_size=1, max_size=3).map("/".join)


@given(st.lists(FILTERS | FILTERS.map("{}/#".format), max_size=4), st.lists(WORD, max_size=3))
def test_a_name_is_matched_alike_before_and_after(filters, words):
    name = ".".join(words) or "cd"
    broker, late = Harness(), Harness()
    late.declare(name)
    for filter in filters:
        early = Watcher()
        broker.core.queue_watch.watch(filter, early)
        broker.declare(name)
        assert early.told == names(late.core.queue_watch.watch(filter, Watcher()))
        broker.delete(name)

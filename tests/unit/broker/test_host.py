"""What a queue needs around it: the core has all of it; counters begin at nought."""

import inspect

from braidmq.broker.core import Core
from braidmq.broker.host import ACKED, DROPPED, EXPIRED, Counters, Host


def test_core_is_a_host():
    for name, method in inspect.getmembers(Host, inspect.isfunction):
        if not name.startswith("_"):
            mine = inspect.signature(getattr(Core, name))
            assert list(mine.parameters) == list(inspect.signature(method).parameters), name


def test_counters_begin_at_nought():
    counters = Counters()
    assert [getattr(counters, name) for name in Counters.__slots__] == [0] * 9


def test_reasons_are_numbers_on_disk():
    assert (ACKED, EXPIRED, DROPPED) == (0, 1, 2)

"""The load process: what it is told, and what becomes of its failures."""

import pytest

from braidmq.benchmarks.stomp_load import StompLoadFailed, start
from braidmq.benchmarks.stomp_plan import StompPlan
from tests.stomp_stub import StompStub


def test_a_process_carries_a_plan_out():
    with StompStub() as broker:
        side = start(StompPlan(port=broker.port, seconds=0.2, warmup=0.05, window=10))
    assert side.per_second > 0 and side.lost == side.unconfirmed == side.corrupt == 0
    assert side.load_cpu > 0


def test_nobody_there_is_told():
    with pytest.raises(StompLoadFailed, match="refused"):
        start(StompPlan(port=1))
    with StompStub("refuses") as broker, pytest.raises(StompLoadFailed, match="no room"):
        start(StompPlan(port=broker.port))

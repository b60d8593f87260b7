"""The load process: a plan in, a run out, and its own words when it fails."""

import pytest

from braidmq.benchmarks.load import LoadFailed, start
from braidmq.benchmarks.meter import Plan


def test_a_plan_is_carried_out_in_another_process():
    run = start(Plan(target="core", durability="memory", messages=20, seconds=20))
    assert run.integrity.confirmed == run.integrity.received == 20


def test_a_failure_says_what_happened():
    with pytest.raises(LoadFailed, match="window is between"):
        start(Plan(target="core", durability="memory", window=0))

"""A broker that serves is known by its URLs."""

import pytest

from braidmq.benchmarks.systems.system import Running


def test_a_running_broker_is_a_fact():
    running = Running(
        name="x", version="1", urls={"mqtt": "mqtt://127.0.0.1:1"}, pid=1, settings={}
    )
    with pytest.raises(AttributeError):
        running.pid = 2  # type: ignore[misc]

"""A very small backlog takes the same way as a large one."""

import pytest

from braidmq.benchmarks.backlog import BacklogFailed, backlog, backlog_text, fill_plan
from braidmq.benchmarks.meter import plan_problems


@pytest.mark.parametrize("size", [24, 1024, 1_000_000])
@pytest.mark.parametrize("messages", [1, 1000, 10_000_000])
def test_every_fill_is_a_plan_that_can_run(messages, size):
    plan = fill_plan(messages, size, "sync")
    assert plan_problems(plan) == ["the load needs a URL like braid://127.0.0.1:7450"]


def test_messages_are_counted_after_restarts(tmp_path):
    told: list[str] = []
    found = backlog(str(tmp_path), 400, 100, "sync", told.append)
    assert found.messages == 400
    assert found.disk_bytes > 400 * 100
    assert found.start_seconds > 0 < found.start_killed_seconds
    assert "400 messages" in backlog_text(found)
    assert told[-1] == ""


def test_there_must_be_room(tmp_path):
    with pytest.raises(BacklogFailed, match="MiB free"):
        backlog(str(tmp_path), 10**9, 10**9, "sync", print)

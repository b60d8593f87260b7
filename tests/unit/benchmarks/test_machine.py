"""The machine as the load tools use it."""

import os
import resource

from braidmq.benchmarks.machine import busy_seconds, cores, more_files, pin, pinned, usable_cores


def test_broker_and_load_have_the_first_two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 2, 9})
    assert usable_cores() == [2, 5, 9]
    assert cores() == (2, 5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert cores() == (-1, -1)


def test_a_core_that_worked_was_busy():
    assert busy_seconds(usable_cores()[0]) > 0 == busy_seconds(10_000)


def test_a_core_is_kept_only_meanwhile():
    before = os.sched_getaffinity(0)
    core = max(before)
    with pinned(core) as done:
        assert done and os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_system_that_refuses_a_core(monkeypatch):
    def refuse(pid, cores):
        raise OSError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not pin(0)
    with pinned(0) as done:
        assert not done
    assert not pin(-1)


def test_as_many_files_as_the_system_allows():
    assert more_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

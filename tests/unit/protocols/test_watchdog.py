"""The watch over the event loop, and what systemd is told."""

import asyncio
import logging
import os
import socket
import threading
import time

import pytest

from braidmq.protocols import watchdog as module
from braidmq.protocols.watchdog import LoopWatch, Systemd, stacks

SECONDS = 30


# --- systemd ---


def test_without_systemd_nothing_happens():
    systemd = Systemd({})
    systemd.notify(READY=1)
    assert systemd.watchdog_seconds == 0


def test_a_manager_that_is_gone_is_no_failure(tmp_path):
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify(READY=1)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_is_told(tmp_path, abstract):
    name = f"@braidmq-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(SECONDS)
        Systemd({"NOTIFY_SOCKET": name}).notify(READY=1, STATUS="on its way")
        assert manager.recv(100) == b"READY=1\nSTATUS=on its way"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_for_this_process(environment, seconds):
    assert Systemd(environment).watchdog_seconds == seconds


# --- the watch over the loop ---


def block_until(done: threading.Event) -> None:
    """Stand still, as a bug would."""
    assert done.wait(SECONDS)


class Reported(logging.Handler):
    """Says when a certain message was logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.records: list[logging.LogRecord] = []
        self.seen = threading.Event()
        module.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if self.text in record.getMessage():
            self.seen.set()


@pytest.fixture
def reported():
    handlers: list[Reported] = []

    def listen(text: str) -> Reported:
        handlers.append(Reported(text))
        return handlers[-1]

    yield listen
    for handler in handlers:
        module.logger.removeHandler(handler)


async def test_a_blocked_loop_is_reported_with_its_stack(reported):
    handler = reported("degraded")
    watch = LoopWatch(Systemd({}), lambda: None, 0.01, 0.1, 1e9)
    try:
        await asyncio.sleep(0.2)
        block_until(handler.seen)
        assert watch.degraded and watch.lag_seconds_max > 0.1
        goes_on = reported("goes on")
        assert await asyncio.to_thread(goes_on.seen.wait, SECONDS)
        assert not watch.degraded
    finally:
        watch.close()
    # A machine that stood still before that may have been reported as well.
    blocked = [r for r in handler.records if r.getMessage() == "the event loop is blocked"]
    assert any("block_until" in line for record in blocked for line in record.stack_lines)


async def test_a_loop_blocked_for_too_long_is_the_end(reported):
    ended = threading.Event()
    handler = reported("giving up")
    watch = LoopWatch(Systemd({}), ended.set, 0.01, 0.02, 0.03)
    try:
        block_until(ended)
    finally:
        watch.close()
    [last] = [r for r in handler.records if "giving up" in r.getMessage()]
    assert any("thread MainThread" in line for line in last.stack_lines)


async def test_a_log_that_is_blocked_too_does_not_keep_it_alive(reported, monkeypatch):
    monkeypatch.setattr(module, "_WORDS_SECONDS", 0.01)
    ended = threading.Event()
    handler = reported("never")
    monkeypatch.setattr(handler, "emit", lambda record: block_until(ended))
    watch = LoopWatch(Systemd({}), ended.set, 0.01, 0.02, 0.03)
    try:
        block_until(ended)
    finally:
        watch.close()


async def test_a_loop_that_runs_is_left_alone(reported):
    handler = reported("x")
    ended: list[int] = []
    watch = LoopWatch(Systemd({}), lambda: ended.append(1), 1e9, 1e9, 1e9)
    await asyncio.sleep(0.3)
    watch.close()
    assert not handler.records and not ended


async def test_a_process_that_was_stopped_is_not_blocked(monkeypatch):
    """After a SIGSTOP, or the sleep of a laptop, both threads come late, and nobody is to blame."""
    ended: list[int] = []
    real, jump = time.monotonic, [0.0]

    class Clock:
        monotonic = staticmethod(lambda: real() + jump[0])

    monkeypatch.setattr(module, "time", Clock)
    watch = LoopWatch(Systemd({}), lambda: ended.append(1), 30, 60, 90)
    await asyncio.sleep(0.25)
    jump[0] = 3_600.0
    await asyncio.sleep(0.25)
    watch.close()
    assert not ended


async def test_stacks_name_threads_and_tasks():
    async def wait_here() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(wait_here(), name="the-task")
    await asyncio.sleep(0)
    text = "\n".join(stacks([task]))
    assert "thread MainThread" in text and "test_stacks_name_threads_and_tasks" in text
    assert "task the-task" in text and "in wait_here" in text
    task.cancel()

"""Is the daemon alive, and who is told: systemd, and the log when the event loop stands still.

The watch runs in a thread, because a loop that is blocked cannot say so. It needs nothing of the
loop but its beat, and nothing of the daemon but what to do at the end.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

__all__ = ["LoopWatch", "Systemd", "stacks"]

LAG_WARN_SECONDS = 0.25
LAG_DEGRADED_SECONDS = 2.0
LAG_FATAL_SECONDS = 30.0
BEAT_SECONDS = 0.1

_WORDS_SECONDS = 2.0
_STACK_DEPTH = 40

logger = logging.getLogger(__name__)


class Systemd:
    """Tells systemd how we are (``sd_notify``); without systemd it does nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            usec = environment.get("WATCHDOG_USEC", "")
            self.watchdog_seconds = int(usec) / 1e6 if usec.isascii() and usec.isdigit() else 0.0

    def notify(self, **fields: object) -> None:
        """Send ``READY=1`` and the like. A manager that does not listen is no reason to fail."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto(text.encode(), address)


class LoopWatch:
    """Watches the event loop from a thread: how long it does not come round.

    Late by a quarter of a second: a warning with the stack of what it does. By two seconds:
    degraded. By thirty: all stacks, and the end, because clients wait for answers that never come.
    """

    def __init__(
        self,
        systemd: Systemd,
        fatal: Callable[[], None],
        warn_seconds: float = LAG_WARN_SECONDS,
        degraded_seconds: float = LAG_DEGRADED_SECONDS,
        fatal_seconds: float = LAG_FATAL_SECONDS,
    ) -> None:
        self.lag_seconds_max = 0.0
        self.degraded = False
        self._systemd = systemd
        self._fatal = fatal
        self._steps = (warn_seconds, degraded_seconds, fatal_seconds)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._pinged_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        now = self._beat_at = time.monotonic()
        every = self._systemd.watchdog_seconds / 2
        if every and now - self._pinged_at >= every:
            self._pinged_at = now
            self._systemd.notify(WATCHDOG=1)
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        step, seen = 0, self._beat_at
        forgiven_at = woke_at = time.monotonic()
        while not self._stop.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - woke_at > 1.0 + BEAT_SECONDS:
                # This thread did not run either: the process was stopped, not the loop blocked.
                forgiven_at = now
            beat_at = self._beat_at
            lag = now - max(beat_at, forgiven_at) - BEAT_SECONDS
            if beat_at != seen:
                if step:
                    self._recovered(beat_at - seen)
                step, seen = 0, beat_at
            self.lag_seconds_max = max(self.lag_seconds_max, lag)
            while step < len(self._steps) and lag > self._steps[step]:
                self._late(step, lag)
                step += 1
            woke_at = time.monotonic()

    def _late(self, step: int, lag: float) -> None:
        fields = {"lag_seconds": round(lag, 2)}
        if step == 0:
            frame = sys._current_frames().get(self._loop_thread)
            extra = {"fields": fields, "stack_lines": _frame_lines(frame)}
            _say(logging.WARNING, "the event loop is blocked", extra)
        elif step == 1:
            self.degraded = True
            self._systemd.notify(STATUS="degraded: the event loop is blocked")
            _say(logging.ERROR, "degraded: the event loop is blocked", {"fields": fields})
        else:
            extra = {"fields": fields, "stack_lines": list(stacks(()))}
            _say(logging.CRITICAL, "the event loop was blocked for too long: giving up", extra)
            self._fatal()

    def _recovered(self, seconds: float) -> None:
        if self.degraded:
            self._systemd.notify(STATUS="ready")
        self.degraded = False
        fields = {"blocked_seconds": round(seconds, 2)}
        _say(logging.WARNING, "the event loop goes on", {"fields": fields})


def _say(level: int, text: str, extra: dict[str, Any]) -> None:
    """Log it, but do not wait for ever: what blocks the loop may be the log itself."""
    words = threading.Thread(target=logger.log, args=(level, text), kwargs={"extra": extra})
    words.daemon = True
    words.start()
    words.join(_WORDS_SECONDS)


def _frame_lines(frame: FrameType | None) -> list[str]:
    if frame is None:
        return []
    return [
        line
        for entry in traceback.format_stack(frame, _STACK_DEPTH)
        for line in entry.rstrip().splitlines()
    ]


def stacks(tasks: Sequence["asyncio.Task[Any]"]) -> Iterator[str]:
    """What every thread and every task does, line by line."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, '?')} ({ident})"
        yield from _frame_lines(frame)
    for task in tasks:
        yield f"task {task.get_name()} {task.get_coro()!r}"
        for frame in task.get_stack(limit=_STACK_DEPTH):
            code = frame.f_code
            yield f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'

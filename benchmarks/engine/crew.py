"""The load processes of a run: started, spoken with, and gone when the run is over.

Rules:

1. Nothing here waits without an end: whoever waits says until when.
2. A process that ends before it has reported, or says something that is not understood, is
   ``failed``, with its last words. Whoever serves the crew decides what that means.
3. The processes end with the ``with`` block, by their pids; and by themselves when their input
   ends, so also when this process is killed.
"""

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from .task import Order, Progress, Report, Task, decode_line, encode_line

__all__ = ["Crew", "LoadFailed", "Worker"]

_WORKER: Final = (sys.executable, "-m", "braidmq.benchmarks.engine.worker")
_END_SECONDS: Final = 5.0
_READ_BYTES: Final = 1 << 20
_LINE_BYTES_MAX: Final = 1 << 30
_LAST_LINES: Final = 5
_TURN_SECONDS: Final = 0.05


class LoadFailed(Exception):
    """The load could not be made; why."""


class Worker:
    """A load process.

    Attributes:
        task: what it was told.
        is_ready: whether it said so.
        progress: what it said last.
        report: what it found, when it is done.
        failed: why it cannot go on; "" as long as it can.
    """

    def __init__(self, task: Task, command: Sequence[str]) -> None:
        self.task = task
        self.is_ready = False
        self.progress: Progress | None = None
        self.report: Report | None = None
        self.failed = ""
        self._heard = bytearray()
        self._words = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.tell(task)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to come."""
        return self.report is not None or bool(self.failed)

    def tell(self, message: Any) -> None:
        """Send it a line; one that is gone is noticed when its output ends."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(encode_line(message))
            self._process.stdin.flush()

    def listen(self) -> list[Progress]:
        """Take what it said since the last time; the progress in it."""
        said: list[Progress] = []
        data = self.output.read(_READ_BYTES)
        if data is None:
            return said
        self._heard += data
        if b"\n" in data:  # a report of hours is long: it is looked through once
            *lines, self._heard = self._heard.split(b"\n")
            try:
                for line in lines:
                    self._take(bytes(line), said)
            except ValueError as error:
                self.failed = f"a load process said something else than it should: {error}"
        if len(self._heard) > _LINE_BYTES_MAX:
            self.failed = "a load process does not come to the end of its line"
        if not data and not self.is_over:
            self._process.wait(_END_SECONDS)
            self.failed = (
                f"a load process ({self.task.role}) ended with status"
                f" {self._process.returncode}: {self._last_words()}"
            )
        return said

    def _take(self, line: bytes, said: list[Progress]) -> None:
        message = decode_line(line)
        if message.ready is not None:
            self.is_ready = True
        if message.failed:
            self.failed = message.failed
        if message.progress is not None:
            self.progress = message.progress
            said.append(message.progress)
        if message.report is not None:
            self.report = message.report

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").splitlines()
        return " / ".join(lines[-_LAST_LINES:]) or "it said nothing"

    def end(self) -> None:
        """Have it end; it is killed if it does not by itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0 if self.failed else _END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.output.close()
        self._words.close()


class Crew:
    """``with Crew() as crew: ...``: all load processes of a run.

    Attributes:
        workers: in the order in which they were started.
    """

    def __init__(self, command: Sequence[str] = _WORKER) -> None:
        self.workers: list[Worker] = []
        self._command = command
        self._selector = selectors.DefaultSelector()

    def start(self, tasks: Sequence[Task]) -> list[Worker]:
        """Start a process for each task; they are not ready yet."""
        started = []
        for task in tasks:
            worker = Worker(task, self._command)
            self.workers.append(worker)
            started.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
        return started

    def serve(
        self,
        until: Callable[[], bool],
        seconds: float,
        heard: Callable[[Worker, Progress], None] = lambda worker, progress: None,
    ) -> bool:
        """Listen until something is so, for ``seconds`` at most; whether it is so.

        ``until`` is asked after each line, and again and again while there is none.
        """
        deadline = time.monotonic() + seconds
        while not until():
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            if not self._selector.get_map():
                time.sleep(min(rest, _TURN_SECONDS))
                continue
            for key, _ in self._selector.select(min(rest, _TURN_SECONDS)):
                worker: Worker = key.data
                for progress in worker.listen():
                    heard(worker, progress)
                if worker.is_over:
                    self._selector.unregister(worker.output)
        return True

    def wait_ready(self, workers: Sequence[Worker], seconds: float) -> None:
        """Until all are ready. Raises LoadFailed."""
        done = self.serve(lambda: all(each.is_ready or each.failed for each in workers), seconds)
        self.check()
        if not done:
            raise LoadFailed(f"the load was not ready after {seconds:g} s")

    def check(self) -> None:
        """Raises LoadFailed when a process failed."""
        for worker in self.workers:
            if worker.failed:
                raise LoadFailed(worker.failed)

    def tell(self, workers: Sequence[Worker], order: Order) -> None:
        """The same line to several."""
        for worker in workers:
            worker.tell(order)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.end()
        self._selector.close()

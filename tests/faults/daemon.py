"""The real daemon as a process of its own: started, killed, stopped, asked why it ended."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["SMALL", "START_SECONDS_MAX", "Daemon", "NotStarted"]

START_SECONDS_MAX = 60.0  # a hang, not a measure: a loaded machine may take its time
# Small segments and reserve: every run then crosses segment ends, and small disks suffice.
SMALL = {
    "BRAIDMQ_STORAGE__SEGMENT_BYTES": "256KiB",
    "BRAIDMQ_LIMITS__RESERVE_BYTES": "1MiB",
    "BRAIDMQ_LIMITS__DISK_FREE_BYTES_MIN": "1MiB",
    "BRAIDMQ_LIMITS__CACHE_BYTES_MAX": "1MiB",
}
_MAIN = "from braidmq.protocols.cli import main; main()"


class NotStarted(Exception):
    """The daemon ended before it was ready; ``status`` and ``log`` say why."""

    def __init__(self, status: int, log: str) -> None:
        super().__init__(f"the daemon ended with status {status}: {log[-2000:]}")
        self.status = status
        self.log = log


class Daemon:
    """``async with Daemon(data, scratch) as daemon``: killed at the end if it still runs.

    Args:
        data: the data directory.
        scratch: where the ready file and the log go; never on the disk that is broken.
        prefix: a command to run it under, such as strace.
        environment: laid over ours and over ``SMALL``.
        flags: more flags for ``braidmq serve``. With ``--config``, that says where it listens.
    """

    def __init__(
        self,
        data: Path,
        scratch: Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.port = 0  # of the first listener, which speaks braid
        self.ports: list[int] = []  # of all, in the order of the flags
        self.pid = 0  # of the broker itself, not of what it runs under
        self.started_seconds = 0.0
        self._ready = scratch / "ready.json"
        self._log = scratch / "daemon.log"
        self._command = [
            *(*prefix, sys.executable, "-c", _MAIN, "serve"),
            *("--data", str(data)),
            *(() if "--config" in flags else ("--listen", "braid://127.0.0.1:0")),
            *("--ready-file", str(self._ready), "--json", *flags),
        ]
        ours = {k: v for k, v in os.environ.items() if not k.startswith("BRAIDMQ_")}
        self._environment = ours | SMALL | dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Daemon":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()

    async def spawn(self) -> None:
        """Start the process, and do not wait until it is ready."""
        with suppress(FileNotFoundError):
            self._ready.unlink()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, stderr=log
            )

    async def start(self) -> None:
        """Return when it is ready. Raises NotStarted."""
        began = time.monotonic()
        await self.spawn()
        assert self._process is not None
        while not self._ready.exists():
            if self._process.returncode is not None:
                raise NotStarted(self._process.returncode, self.log)
            if time.monotonic() - began > START_SECONDS_MAX:
                await self.kill()
                raise NotStarted(-1, f"not ready in time: {self.log}")
            await asyncio.sleep(0.01)
        told = json.loads(self._ready.read_text())
        self.started_seconds = time.monotonic() - began
        self.pid = told["pid"]
        self.ports = [int(url.rpartition(":")[2]) for url in told["urls"]]
        self.port = self.ports[0]

    @property
    def log(self) -> str:
        """What it logged so far."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def logged(self, message: str) -> dict[str, Any]:
        """The last entry of its log that begins with ``message``."""
        for line in reversed(self.log.splitlines()):
            with suppress(ValueError):
                entry: dict[str, Any] = json.loads(line)
                if entry["message"].startswith(message):
                    return entry
        raise LookupError(f"nothing was logged that begins with {message!r}: {self.log}")

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.returncode is None

    def signal(self, number: int) -> None:
        """Send the broker a signal."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid or self._pid(), number)

    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def wait(self, seconds: float = START_SECONDS_MAX) -> int:
        """Wait until it has ended by itself; return its status, negative for a signal."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def freeze(self) -> None:
        """SIGSTOP, and wait until no thread of it runs any more. Only a kill ends it then."""
        self.signal(signal.SIGSTOP)
        while not all(map(_rests, Path("/proc").glob(f"{self.pid}/task/*"))):
            time.sleep(0.001)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is None:
            return
        self.signal(signal.SIGKILL)
        if self.pid and self.pid != self._process.pid:
            with suppress(TimeoutError):  # what it ran under ends with it
                await self.wait(5.0)
        if self.running:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


def _rests(task: Path) -> bool:
    """Whether a thread is stopped, or waits in the kernel for a disk and will stop after that."""
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0] in "TtDZX"
    except FileNotFoundError:
        return True

"""A broker of our own to measure: ``braidmq serve`` on a free loopback port, ended by its pid.

Its CPU seconds and its memory are read from /proc, where there is one; elsewhere they are 0.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

__all__ = ["ServerFailed", "ServerProcess", "cpu_seconds", "memory_bytes"]

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0
_PR_SET_PDEATHSIG = 1


class ServerFailed(Exception):
    """It did not start, or did not end; its last words."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 when nobody knows."""
    if not pid:
        return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when nobody knows."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the tool is gone, however it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ServerProcess:
    """``with ServerProcess(directory) as server: connect(server.url)``.

    ``directory`` gets the data, the log of the daemon and its ready file; it may hold data already.
    """

    def __init__(self, directory: str, options: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.url = ""
        self.start_seconds = 0.0  # from starting the process until it serves
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and wait until it serves."""
        ready = Path(self.directory, "ready.json")
        ready.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-c", "from braidmq.protocols.cli import main; main()"),
            *("serve", "--data", os.path.join(self.directory, "data")),
            *("--listen", "braid://127.0.0.1:0", "--ready-file", str(ready), *self._options),
        ]
        begun = time.monotonic()
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        while not ready.exists():
            if self._process.poll() is not None:
                raise ServerFailed(f"the broker did not start: {self._last_words()}")
            if time.monotonic() - begun > _START_SECONDS:
                self.kill()
                raise ServerFailed("the broker was not ready in time")
            time.sleep(0.005)
        self.start_seconds = time.monotonic() - begun
        self.url = json.loads(ready.read_text())["urls"][0]

    def stop(self) -> None:
        """Let it end in its own way."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ServerFailed("the broker did not end in time") from None
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _last_words(self) -> str:
        lines = Path(self.directory, "server.log").read_text(errors="replace").splitlines()
        return " / ".join(lines[-5:])

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

"""Brokers in processes of their own, ours and its peers: started, waited for, ended by their pids.

Rules:

1. What is started ends with the ``with`` block, by its pid: in its own way, or killed when the
   block raised. It also ends when this process does, however that happens (Linux).
2. A peer is started on a free loopback port, from a configuration that is written for the run.
3. CPU seconds and memory are read from /proc, where there is one; elsewhere they are 0.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = [
    "BrokerProcess",
    "PeerProcess",
    "ServerFailed",
    "cpu_seconds",
    "find_program",
    "free_port",
    "memory_bytes",
    "program_version",
]

_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not in every PATH
_ATTEMPTS: Final = 3  # somebody may take the port between finding and using it
_STOP_SECONDS: Final = 120.0
_PR_SET_PDEATHSIG: Final = 1


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


def find_program(name: str) -> str:
    """Where a program is, "" when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    return shutil.which(name, path=path) or ""


def program_version(program: str, option: str) -> str:
    """The first ``1.2`` or ``1.2.3`` that a program says of itself; "" when it says none."""
    if not program:
        return ""
    done = subprocess.run([program, option], capture_output=True, text=True, timeout=20)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout or done.stderr)
    return found[0] if found else ""


def _end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the tool is gone, however it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class BrokerProcess:
    """A broker in a process of its own, with a directory for its data and its log.

    Attributes:
        name: what messages and the log's file call it.
    """

    name = "broker"

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and wait until it serves. Raises ServerFailed."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let it end in its own way. Raises ServerFailed when it does not, and has it killed."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ServerFailed(f"{self.name} did not end in time") from None
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _spawn(self, command: Sequence[str]) -> None:
        # Where this is set, a broker in Python would be compiled anew at each start.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def _is_over(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is None or self._process.poll() is not None

    @property
    def _log(self) -> str:
        return os.path.join(self.directory, f"{self.name}.log")

    def _last_words(self) -> str:
        lines = Path(self._log).read_text(errors="replace").splitlines()
        return " / ".join(lines[-5:])

    def __enter__(self) -> Self:
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


class PeerProcess(BrokerProcess):
    """``with SomePeer(directory) as broker: connect(broker.host, broker.port)``.

    Attributes:
        start_seconds_max: how long each attempt may take until it accepts connections.
        listeners: how many ports it listens on.
        ports: these; the first is ``port``.
    """

    host = "127.0.0.1"
    start_seconds_max = 20.0
    listeners = 1

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.ports: list[int] = []

    @property
    def port(self) -> int:
        """Where it listens; 0 while it was never started."""
        return self.ports[0] if self.ports else 0

    def why_not(self) -> str:
        """Why it cannot be started here, and what would install it; "" when it can."""
        return ""

    def _prepare(self, port: int) -> None:
        """Have ready what it needs to start on a port, files or other processes.

        Raises ServerFailed.
        """

    def _command(self, port: int) -> Sequence[str]:
        """How to start it on a port, when all is prepared."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it accepts. Raises ServerFailed."""
        if reason := self.why_not():
            raise ServerFailed(reason)
        for _ in range(_ATTEMPTS):
            self.ports = [free_port() for _ in range(self.listeners)]
            if self._begin():
                return
            self.kill()
        raise ServerFailed(f"{self.name} did not start: {self._last_words()}")

    def restart(self) -> int:
        """Kill it as a crash would, and start it on its data and its ports; its new pid.

        Raises ServerFailed.
        """
        self.kill()
        if not self._begin():
            self.kill()
            raise ServerFailed(f"{self.name} did not start again: {self._last_words()}")
        return self.pid

    def _begin(self) -> bool:
        """Start it on its ports; whether it accepts in time."""
        self._prepare(self.port)
        self._spawn(self._command(self.port))
        return self._accepts()

    def _accepts(self) -> bool:
        begun = time.monotonic()
        closed = list(self.ports)
        while time.monotonic() - begun < self.start_seconds_max and not self._is_over():
            if _listens(self.host, closed[-1]):
                closed.pop()
                if not closed:
                    return True
            else:
                time.sleep(0.01)
        return False


def _listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), 1) as sock:
            # Who is given the very port that it asks for, by chance, is connected with itself.
            return bool(sock.getsockname() != sock.getpeername())
    except OSError:
        return False


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

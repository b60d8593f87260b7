"""Eclipse Mosquitto as the peer: started on a free loopback port with what the test needs.

Its defaults are made for small machines: 20 messages in flight and 1,000 queued for a client, the
rest is dropped. A comparison has to lift that, or mosquitto would be quick by throwing away.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from .server import ServerFailed, _end_with_parent

__all__ = ["MosquittoProcess", "configuration", "find", "version"]

_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not in every PATH
_ATTEMPTS: Final = 3  # somebody may take the port between finding and using it
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 20.0


def find() -> str:
    """The program, "" when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    return shutil.which("mosquitto", path=path) or ""


def version() -> str:
    """Its version, "" when it is not installed."""
    if not (program := find()):
        return ""
    done = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=20)
    first = (done.stdout or done.stderr).partition("\n")[0]
    return first.rpartition(" ")[2]


def configuration(port: int, directory: str = "") -> str:
    """Its configuration file; ``directory``: where it saves sessions, "": nowhere."""
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "max_inflight_messages 0",  # no limit; 20 would make every window wait
        "max_queued_messages 0",  # no limit; 1,000 and then it drops
        "max_queued_bytes 0",  # no limit, which is the default
        "set_tcp_nodelay true",  # ours has it, too
        "sys_interval 0",  # no $SYS messages
        "connection_messages false",  # no log lines for each connection
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")  # it would become another user, who may not exist
    if directory:
        lines += ["persistence true", f"persistence_location {directory}/", "autosave_interval 1"]
    else:
        lines.append("persistence false")
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class MosquittoProcess:
    """``with MosquittoProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "mosquitto"
    host = "127.0.0.1"

    def __init__(self, directory: str, saving: bool = False) -> None:
        self.directory = directory
        self.port = 0
        self._saving = saving
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and wait until it accepts. Raises ServerFailed."""
        program = find()
        if not program:
            raise ServerFailed(
                "mosquitto is not installed: install it (apt install mosquitto) or use --peer none"
            )
        for attempt in range(_ATTEMPTS):
            self.port = _free_port()
            self._spawn(program)
            if self._accepts():
                return
            self.kill()
            if attempt + 1 == _ATTEMPTS:
                raise ServerFailed(f"mosquitto did not start: {self._last_words()}")

    def _spawn(self, program: str) -> None:
        file = Path(self.directory, "mosquitto.conf")
        file.write_text(configuration(self.port, self.directory if self._saving else ""))
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def _accepts(self) -> bool:
        assert self._process is not None
        begun = time.monotonic()
        while time.monotonic() - begun < _START_SECONDS and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        return False

    def stop(self) -> None:
        """Let it end in its own way."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _log(self) -> str:
        return os.path.join(self.directory, "mosquitto.log")

    def _last_words(self) -> str:
        lines = Path(self._log).read_text(errors="replace").splitlines()
        return " / ".join(lines[-5:])

    def __enter__(self) -> "MosquittoProcess":
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

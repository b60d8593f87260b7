"""Eclipse Mosquitto as the peer, configured as the test needs it.

Its defaults are made for small machines: 20 messages in flight and 1,000 queued for a client, the
rest is dropped. A comparison has to lift that, or mosquitto would be quick by throwing away.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .peer import PeerProcess, ServerFailed, find_program

__all__ = ["MosquittoProcess", "configuration", "find", "version"]

_FILE: Final = "mosquitto.conf"


def find() -> str:
    """The program, "" when it is not installed."""
    return find_program("mosquitto")


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


class MosquittoProcess(PeerProcess):
    """``with MosquittoProcess(directory) as broker: connect(broker.host, broker.port)``."""

    name = "mosquitto"

    def __init__(self, directory: str, saving: bool = False) -> None:
        super().__init__(directory)
        self._saving = saving

    def _prepare(self, port: int) -> None:
        if not find():
            raise ServerFailed(
                "mosquitto is not installed: install it (apt install mosquitto) or use --peer none"
            )
        words = configuration(port, self.directory if self._saving else "")
        Path(self.directory, _FILE).write_text(words)

    def _command(self, port: int) -> Sequence[str]:
        return find(), "-c", os.path.join(self.directory, _FILE)

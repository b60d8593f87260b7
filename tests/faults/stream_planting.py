"""Daemons that are not quite ours: code that Python runs before them, by ``sitecustomize``."""

import os
from pathlib import Path

__all__ = ["FILES_ALL_THE_TIME", "SLOW_DISK", "SYNCED_APART", "planted"]

# Between taking something and keeping it there is always time to be killed in, also when the disk
# is so quick that it would hardly ever happen.
SLOW_DISK = (
    "import time\n"
    "from braidmq.storage.writer import LogWriter\n"
    "commit = LogWriter.commit\n"
    "def late(self, *what):\n"
    "    time.sleep(0.02)\n"
    "    commit(self, *what)\n"
    "LogWriter.commit = late\n"
)
# Records move to files, and make way, all the time, not once in a second.
FILES_ALL_THE_TIME = (
    "from braidmq.broker import runtime, streamretention\n"
    "runtime._HOUSEKEEPING_SECONDS = 0.1\n"
    "streamretention._SWEEP_MS = 100\n"
)

# Writes and syncs with two calls what otherwise takes one: for tests that are about fdatasync.
SYNCED_APART = "from braidmq.storage.disk import RealDisk\nRealDisk._dsync = 0\n"


def planted(scratch: Path, code: str) -> dict[str, str]:
    """An environment in which Python runs ``code`` first."""
    (scratch / "sitecustomize.py").write_text(code)
    path = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    return {"PYTHONPATH": os.pathsep.join([str(scratch), *path])}

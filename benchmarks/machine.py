"""What the load tools ask of the machine: cores to stay on, how busy they are, enough open files.

Where the system has no such thing (affinity and /proc are Linux's), nothing is done, and that is
said.
"""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["busy_seconds", "cores", "more_files", "pin", "pinned", "usable_cores"]


def usable_cores() -> list[int]:
    """The cores that this process may use, lowest first; none when nobody knows."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores() -> tuple[int, int]:
    """The core of the broker and that of the load; -1 when there is nothing to choose."""
    usable = usable_cores()
    return (usable[0], usable[1]) if len(usable) > 1 else (-1, -1)


def pin(core: int) -> bool:
    """Keep this process on one core; whether the system allows it."""
    if core < 0 or not hasattr(os, "sched_setaffinity"):
        return False
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return False
    return True


@contextlib.contextmanager
def pinned(core: int) -> Iterator[bool]:
    """What is started inside runs on one core; this process does so only meanwhile."""
    before = usable_cores()
    done = pin(core)
    try:
        yield done
    finally:
        if done:
            os.sched_setaffinity(0, before)


def busy_seconds(core: int) -> float:
    """How long a core ran processes, or was taken by the host; 0 when nobody knows."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    for name, *ticks in map(str.split, lines):
        if name == f"cpu{core}":
            user, nice, system, _, _, _, _, steal = map(int, ticks[:8])
            return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def more_files() -> int:
    """Allow as many open files as the system lets us, here and in children; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

"""What a broker uses: CPU, memory, context switches, files, bytes written; with all its children.

Everything is read from /proc, where there is one. Elsewhere, and of a process that is gone or that
belongs to somebody else, what cannot be read is 0.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression
from typing import Final

import msgspec

from ..peer import cpu_seconds, memory_bytes
from ..results.result import ServerUse

__all__ = ["ServerSample", "between", "growth_per_hour", "risen", "sample"]

_FAMILY_MAX: Final = 1_000  # processes; a broker with more is counted without the others
_GROWTH_SECONDS_MIN: Final = 60.0
_SWITCHES: Final = {"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"}


class ServerSample(msgspec.Struct, frozen=True, kw_only=True):
    """A moment; all but memory and files count up since the processes began."""

    at_seconds: float  # of the monotonic clock
    cpu_seconds: float = 0.0
    memory_bytes: int = 0  # resident
    context_switches: int = 0
    files: int = 0
    disk_bytes: int = 0


def sample(pid: int, at_seconds: float) -> ServerSample:
    """How a process and its children stand; zeros for pid 0."""
    cpu = 0.0
    memory = switches = files = written = 0
    for each in _family(pid) if pid else []:
        folder = Path("/proc", str(each))
        cpu += cpu_seconds(each)
        memory += memory_bytes(each)
        for thread in _entries(folder / "task"):
            switches += _sum_of(folder / "task" / thread / "status", _SWITCHES)
        files += len(_entries(folder / "fd"))
        written += _sum_of(folder / "io", {"write_bytes:"})
    return ServerSample(
        at_seconds=at_seconds,
        cpu_seconds=cpu,
        memory_bytes=memory,
        context_switches=switches,
        files=files,
        disk_bytes=written,
    )


def between(samples: Sequence[ServerSample]) -> ServerUse:
    """What was used from the first of these moments to the last; a new process begins from 0."""
    use = ServerUse()
    if not samples:
        return use
    use.memory_begin_bytes = samples[0].memory_bytes
    use.memory_end_bytes = samples[-1].memory_bytes
    use.memory_max_bytes = max(each.memory_bytes for each in samples)
    use.files = samples[-1].files
    for before, now in pairwise(samples):
        use.cpu_seconds += risen(before.cpu_seconds, now.cpu_seconds)
        use.context_switches += int(risen(before.context_switches, now.context_switches))
        use.disk_bytes += int(risen(before.disk_bytes, now.disk_bytes))
    return use


def risen(before: float, now: float) -> float:
    """By how much a count has risen; one that is less than before is a new process's."""
    return now - before if now >= before else now


def growth_per_hour(samples: Sequence[ServerSample]) -> dict[str, float]:
    """How memory and files rise or fall, as figures; none of less than a minute."""
    if not samples or samples[-1].at_seconds - samples[0].at_seconds < _GROWTH_SECONDS_MIN:
        return {}
    hours = [each.at_seconds / 3600 for each in samples]
    memory = [float(each.memory_bytes) for each in samples]
    files = [float(each.files) for each in samples]
    return {
        "memory_growth_bytes_per_hour": linear_regression(hours, memory).slope,
        "files_growth_per_hour": linear_regression(hours, files).slope,
    }


def _family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for each in found:  # grows
        for thread in _entries(Path("/proc", str(each), "task")):
            children = _text(Path("/proc", str(each), "task", thread, "children")).split()
            found += map(int, children)
        if len(found) > _FAMILY_MAX:
            return found[:_FAMILY_MAX]
    return found


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _sum_of(path: Path, names: set[str]) -> int:
    """All numbers in lines that begin with one of these names."""
    lines = (line.split() for line in _text(path).splitlines())
    return sum(int(words[1]) for words in lines if len(words) > 1 and words[0] in names)

"""A daemon seen from outside, again and again: what may not grow, and by how much it may differ.

Between the first and the last third of a run, memory, file descriptors, threads and files stay
where they are, up to the slack that is named here; what is on disk is bounded.
"""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SAMPLE_SECONDS", "SECONDS", "Sample", "check_growth", "line", "sample"]

SECONDS = int(os.environ.get("BRAIDMQ_SOAK_SECONDS", "0")) or 8
SAMPLE_SECONDS = min(1.0, SECONDS / 24)
# What may differ between the thirds without being growth: caches that fill up, allocators.
RSS_MIB_SLACK = 24
DESCRIPTORS_SLACK = 8
THREADS_SLACK = 4
FILES_SLACK = 40  # segments of 256 KiB between two checkpoints
DISK_BYTES_MAX = 160 * 1024 * 1024  # twice what is appended before a checkpoint is due


@dataclass
class Sample:
    """The daemon, seen from outside."""

    rss_kib: int
    descriptors: int
    threads: int
    files: int
    disk_bytes: int
    messages: int


def sample(pid: int, data: Path, messages: int) -> Sample:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    sizes = []
    for path in data.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue  # reclaimed meanwhile
    return Sample(
        int(status["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status["Threads"]),
        len(sizes),
        sum(sizes),
        messages,
    )


def growth(samples: list[Sample], what: str) -> float:
    """The median of the last third less the median of the first."""
    third = max(1, len(samples) // 3)
    values = [getattr(each, what) for each in samples]
    return float(statistics.median(values[-third:]) - statistics.median(values[:third]))


def line(samples: list[Sample]) -> str:
    """The figures."""
    last = samples[-1]
    return (
        f"{SECONDS} s, {len(samples)} samples,"
        f" RSS {last.rss_kib / 1024:.0f} MiB ({growth(samples, 'rss_kib') / 1024:+.1f}),"
        f" descriptors {last.descriptors} ({growth(samples, 'descriptors'):+.0f}),"
        f" files {last.files} ({growth(samples, 'files'):+.0f}),"
        f" disk at most {max(each.disk_bytes for each in samples) / 1e6:.1f} MB"
    )


def check_growth(samples: list[Sample]) -> None:
    """Fail when something grew."""
    assert growth(samples, "rss_kib") / 1024 < RSS_MIB_SLACK
    assert growth(samples, "descriptors") <= DESCRIPTORS_SLACK
    assert growth(samples, "threads") <= THREADS_SLACK
    assert max(each.disk_bytes for each in samples) < DISK_BYTES_MAX
    if SECONDS > 300:  # several checkpoints, so that each third saw the same
        assert growth(samples, "files") <= FILES_SLACK

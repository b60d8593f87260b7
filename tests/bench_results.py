"""Results of load tests that nobody ran: as many systems, repeats and doubts as a test wants."""

import random
from typing import Any

from braidmq.benchmarks.environment import Environment
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results.result import (
    Generator,
    Result,
    Run,
    Second,
    ServerUse,
    SystemInfo,
)

__all__ = ["a_result", "a_run", "histogram"]


def histogram(*milliseconds: float) -> list[int]:
    """A dumped histogram of these."""
    counted = Histogram()
    for each in milliseconds:
        counted.record(int(each * 1e6))
    return counted.dump()


def a_run(
    system: str = "braidmq",
    scheme: str = "mqtt",
    *,
    repeat: int = 0,
    per_second: int = 1_000,
    scenario: str = "e2e",
    milliseconds: float = 1.0,
    seconds: int = 4,
    **changes: Any,
) -> Run:
    """One run of a system that does so many messages a second, about so quickly."""
    chance = random.Random(f"{system}{scheme}{repeat}{scenario}{per_second}")
    latencies = [milliseconds * chance.lognormvariate(0, 0.5) for _ in range(500)]
    count = per_second * seconds
    series = [
        Second(
            second=second,
            published=per_second,
            confirmed=per_second,
            received=int(per_second * chance.uniform(0.95, 1.05)),
            p50_ms=milliseconds * chance.uniform(0.9, 1.1),
            p99_ms=3 * milliseconds * chance.uniform(0.9, 1.2),
            max_ms=8 * milliseconds * chance.uniform(0.8, 2.0),
            server_cpu=0.5,
            server_bytes=64 << 20,
        )
        for second in range(-1, seconds)
    ]
    fields = {
        "scenario": scenario,
        "system": system,
        "scheme": scheme,
        "repeat": repeat,
        "knobs": {"rate": "max", "size": "200"},
        "loop": "saturation",
        "seconds": float(seconds),
        "published": count,
        "confirmed": count,
        "received": count,
        "bytes_in": 200 * count,
        "bytes_out": 200 * count,
        "integrity": Integrity(sent=count, confirmed=count, received=count),
        "latency": {"delivery": histogram(*latencies), "lag": histogram(0.05, 0.06)},
        "series": series,
        "server": ServerUse(cpu_seconds=seconds / 2, memory_max_bytes=64 << 20),
        "generators": [Generator(role="producer", clients=1, cpu_seconds=1.5, lag_p99_ms=0.06)],
    }
    return Run(**{**fields, **changes})


def a_result(*runs: Run, **changes: Any) -> Result:
    """The file of these runs."""
    fields = {
        "environment": Environment(
            cpu="a processor",
            cores=2,
            kernel="Linux 6",
            python="CPython 3.11.7",
            versions={"braidmq": "0.1.0", "uvloop": "0.22"},
            commit="0123456789ab",
            filesystem="ext4",
            load_average=0.1,
        ),
        "command": ["bench", "peers", "--quick"],
        "seed": 1,
        "begun": "2026-01-01T00:00:00Z",
        "systems": [
            SystemInfo(name=name, version="1.2", settings={"durability": "synced"})
            for name in dict.fromkeys(run.system for run in runs)
        ],
        "runs": list(runs),
    }
    return Result(**{**fields, **changes})

"""A result is read as it was written, or refused with the reason."""

from pathlib import Path

import pytest

from braidmq.benchmarks.environment import describe
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.results.result import (
    FORMAT,
    METRICS,
    Result,
    Run,
    Second,
    SystemInfo,
    read_result,
    write_result,
)
from tests.bench_results import a_run, histogram


def some_result() -> Result:
    counted = Histogram()
    counted.record(1_500_000, 3)
    run = Run(
        scenario="queue-work",
        system="braidmq",
        scheme="braid",
        repeat=0,
        knobs={"rate": 1000, "size": "uniform:100-2000"},
        loop="open",
        seconds=2.0,
        published=2000,
        confirmed=2000,
        received=1999,
        latency={"delivery": counted.dump()},
        series=[Second(second=0, published=1000), Second(second=1, published=1000)],
        problems=["1 lost"],
    )
    return Result(
        environment=describe("."),
        command=["run", "queue-work"],
        seed=1,
        begun="2026-01-01T00:00:00Z",
        systems=[SystemInfo(name="braidmq", version="0", settings={"durability": "sync"})],
        runs=[run],
        missing={"rabbitmq": "not installed"},
    )


def test_round_trip(tmp_path: Path):
    path = tmp_path / "result.json"
    write_result(some_result(), path)
    found = read_result(path)
    assert found == some_result()
    assert Histogram.load(found.runs[0].latency["delivery"]).quantile(0.5) == 1_500_000
    assert set(found.runs[0].latency) <= set(METRICS)


def test_something_else(tmp_path: Path):
    path = tmp_path / "other.json"
    path.write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"other\.json is not a result of braidmq bench"):
        read_result(path)


def test_a_later_format(tmp_path: Path):
    path = tmp_path / "later.json"
    result = some_result()
    result.format = FORMAT + 1
    write_result(result, path)
    with pytest.raises(ValueError, match=f"has format {FORMAT + 1}, this version reads {FORMAT}"):
        read_result(path)


def test_what_counts_first():
    run = a_run(latency={"delivery": histogram(1), "lag": [], "reply": Histogram().dump()})
    assert run.is_sound
    assert [name for name in METRICS if run.has_latency(name)] == ["delivery"]
    assert not a_run(invalid=["late"]).is_sound and not a_run(problems=["lost"]).is_sound

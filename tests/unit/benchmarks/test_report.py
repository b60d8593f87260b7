"""What is printed, and the JSON, whose shape other programs rely on."""

import msgspec

from braidmq.benchmarks.baseline import Baseline, GroupCommitFigures
from braidmq.benchmarks.environment import Environment
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.meter import Phase, Plan, Run
from braidmq.benchmarks.report import (
    FORMAT,
    Figures,
    Report,
    Target,
    add_floor,
    figures,
    text,
)

RAW = GroupCommitFigures(100, 1, 1000, 50_000.0, 1.0, 2.0, 5.0)
BASELINE = Baseline(4000.0, 0.25, 0.5, RAW, RAW, RAW)
MACHINE = Environment("cpu", 2, "Linux", "CPython 3.11.0", {"braidmq": "0.1.0"}, "", "ext4", 0.5)

# A field may be added. One that goes away, or means something else, needs a higher FORMAT.
REPORT_FIELDS = {"arguments", "baseline", "environment", "format", "scenarios"}
FIGURES_FIELDS = {
    *("name", "plan", "rounds", "in_per_second", "out_per_second", "confirm_ms", "ack_ms"),
    *("delivery_ms", "lag_ms", "server_cpu_in_us", "server_cpu_out_us", "load_cpu_in_us"),
    *("load_cpu_out_us", "server_memory_bytes", "integrity", "refused", "left_over", "broken"),
    *("problems", "invalid", "raw_ratio", "targets", "commit_messages", "commit_sync_ms"),
    *("floor_per_second", "floor_p50_ms", "floor_ratio"),
}


def run(rate, lost=0, latency_ns=1_000_000):
    histogram = Histogram()
    histogram.record(latency_ns)
    phase = Phase(rate, 1.0, histogram.dump(), server_cpu=rate * 1e-5, load_cpu=rate * 2e-6)
    integrity = Integrity(sent=rate, confirmed=rate, received=rate - lost, lost=lost)
    return Run(
        produce=phase,
        consume=phase,
        integrity=integrity,
        problems=["p"],
        invalid=["i"],
        commits=5,
        committed=rate,
        sync_seconds=0.01,
    )


def report(*scenarios):
    return Report(MACHINE, BASELINE, list(scenarios), {"rounds": 3})


def test_rounds_become_medians_and_extremes():
    found = figures("name", Plan(), [run(10), run(40), run(20)], "at-least-once", 99)
    rate = found.in_per_second
    assert (rate.median, rate.min, rate.max) == (20, 10, 40)
    assert found.integrity.sent == 70
    assert abs(found.server_cpu_in_us - 10) < 1e-6
    assert abs(found.load_cpu_out_us - 2) < 1e-6
    assert (found.confirm_ms.count, found.confirm_ms.max) == (3, 1.0)
    assert (found.problems, found.invalid, found.broken) == (["p"], ["i"], [])
    assert found.delivery_ms.count == 0
    assert abs(found.commit_messages - 70 / 15) < 1e-9
    assert abs(found.commit_sync_ms - 2) < 1e-9


def test_a_lost_message_fails_the_report():
    good = figures("good", Plan(), [run(10)], "at-least-once")
    bad = figures("bad", Plan(), [run(10, lost=2)], "at-least-once")
    assert not report(good).failed
    assert report(good, bad).failed
    assert "BROKEN: bad: 2 lost" in text(report(good, bad))


def test_what_is_left_in_the_queue_fails_the_report_unless_it_was_a_fill():
    left = run(10)
    left.left_over = 3
    found = figures("left", Plan(), [left], "at-least-once")
    assert found.broken == ["3 left over in the queue"]
    assert not figures("fill", Plan(shape="fill"), [left], "at-least-once").broken


def test_the_table_is_aligned_and_names_targets():
    each = figures("native, 100 clients", Plan(), [run(35_000)], "at-least-once")
    each.raw_ratio = 0.7
    each.targets = [Target("in, to the raw group commit", 0.7, ">= 0.5", True)]
    lines = text(report(each)).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("scenario"))
    assert len(lines[head]) == len(lines[head + 1])
    assert "35,000" in lines[head + 1]
    assert any(line.endswith("yes") and "0.70" in line for line in lines)
    assert any("fdatasync" in line and "4,000/s" in line for line in lines)


def test_the_floor_is_compared_round_by_round():
    runs = [run(10), run(40), run(20)]
    each = figures("name", Plan(), runs, "at-least-once")
    add_floor(each, runs, [])
    assert each.floor_ratio is None
    add_floor(each, runs, [run(20), run(50), run(80)])
    assert each.floor_ratio == 0.5
    assert each.floor_p50_ms == 1.0
    assert each.floor_per_second is not None and each.floor_per_second.median == 50
    assert "server that only commits, name: 50/s, p50 1.00 ms" in text(report(each))


def test_the_json_keeps_its_shape():
    each = figures("name", Plan(), [run(10)], "at-least-once")
    encoded = msgspec.json.encode(report(each))
    plain = msgspec.json.decode(encoded)
    assert FORMAT == 1
    assert set(plain) >= REPORT_FIELDS
    assert set(plain["scenarios"][0]) >= FIGURES_FIELDS
    assert set(plain["scenarios"][0]["confirm_ms"]) >= {"count", "p50", "p99", "p999", "max"}
    assert msgspec.json.decode(encoded, type=Report) == report(each)


def test_no_runs_are_no_figures():
    found = figures("none", Plan(), [], "at-least-once")
    assert isinstance(found, Figures)
    assert found.in_per_second.median == 0
    assert "none" in text(Report(MACHINE, None, [found], {}))

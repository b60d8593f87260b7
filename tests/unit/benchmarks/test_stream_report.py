"""What is printed and written: ratios of rounds, what was left out, what was wrong."""

import msgspec

from braidmq.benchmarks import peer_report
from braidmq.benchmarks import stream_report as module
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.stream_plan import IN_PROCESS, OURS, StreamPlan, StreamSide
from braidmq.benchmarks.stream_report import FORMAT, stream_report, stream_row, text
from braidmq.benchmarks.stream_scenarios import StreamOutcome, StreamScenario


def outcome(system, records, **changes):
    latency = Histogram()
    latency.record(1_000_000, 10)
    side = StreamSide(
        records=records, seconds=1.0, server_cpu=0.5, load_cpu=0.1, latency=latency.dump()
    )
    return StreamOutcome(system=system, side=side, **changes)


def test_ratios_are_of_the_same_round_and_of_valid_ones():
    scenario = StreamScenario("x", StreamPlan())
    row = stream_row(
        scenario,
        {
            OURS: [outcome(OURS, 200), outcome(OURS, 900)],
            IN_PROCESS: [outcome(IN_PROCESS, 400), outcome(IN_PROCESS, 400)],
            "redis": [outcome("redis", 100), outcome("redis", 100, invalid=["robbed"])],
        },
    )
    ours, _, redis = row.figures
    assert ours.ours is None and ours.per_second.median == 550
    assert redis.ours is not None and redis.ours.median == 2.0
    assert redis.in_process is not None and redis.in_process.median == 4.0
    assert redis.megabytes_per_second == 0.01
    assert redis.broker_us == 5_000
    assert not row.failed


def test_a_tail_has_no_ratio_of_rates():
    scenario = StreamScenario("tail", StreamPlan(shape="tail"))
    row = stream_row(scenario, {OURS: [outcome(OURS, 9)], "redis": [outcome("redis", 9)]})
    assert row.figures[1].ours is None


def test_the_report_says_what_was_left_out_and_what_was_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_report, "_SYNC_SECONDS", 0.01)
    monkeypatch.setattr(
        module, "missing", lambda plan: "is not there" if plan.system == "jetstream" else ""
    )
    scenario = StreamScenario("some append", StreamPlan())
    report = stream_report([scenario], [], str(tmp_path), {"seed": 1})
    assert list(report.systems) == [OURS, IN_PROCESS, "redis"]
    found = {
        OURS: [outcome(OURS, 200)],
        "redis": [outcome("redis", 100, problems=["1 lost"], invalid=["late"])],
    }
    report.rows.append(stream_row(scenario, found))
    assert report.failed
    words = text(report)
    for expected in (
        "left out: jetstream: is not there",
        "some append",
        "2.00 (2.00-2.00)",
        "PROBLEM: some append, redis: 1 lost",
        "invalid: some append, redis: late",
    ):
        assert expected in words
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert decoded["format"] == FORMAT == 1
    assert set(decoded["rows"][0]["figures"][0]) == set(module.StreamFigures.__struct_fields__)

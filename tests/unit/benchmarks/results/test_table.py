"""The table says who was how good, and what is to be said against it."""

from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results.table import summary_table
from tests.bench_results import a_result, a_run


def test_a_line_for_each_scenario_and_system():
    text = summary_table(
        {
            "file": a_result(
                a_run(per_second=4_000, repeat=0),
                a_run(per_second=5_000, repeat=1),
                a_run("mosquitto", per_second=2_000, repeat=0),
                a_run("mosquitto", per_second=2_000, repeat=1),
                missing={"amqtt": "not installed"},
            )
        }
    )
    lines = text.splitlines()
    assert lines[0].startswith("a processor, 2 cores, Linux 6")
    assert "braidmq 1.2, mosquitto 1.2; commit 0123456789ab; seed 1" in lines[1]
    assert lines[2] == "left out: amqtt: not installed"
    [ours] = [line for line in lines if line.startswith("e2e (saturation)  braidmq")]
    assert "4,500  4.0-5.0k" in ours and "best: 2.25 (2.00-2.50)" in ours
    assert "delivery" in ours and ours.endswith(" 64             0 0 0 0")
    [peer] = [line for line in lines if line.strip().startswith("mosquitto")]
    assert "2.25 (2.00-2.50)" in peer and "best" not in peer
    assert "latency: delivery: from when a message was due until a consumer had it" in lines


def test_doubts_are_marked_and_said():
    run = a_run(integrity=Integrity(lost=3), problems=["3 lost"], invalid=["the load was late"])
    lines = summary_table({"file": a_result(run)}).splitlines()
    assert any("braidmq !" in line and line.endswith("3 0 0 0") for line in lines)
    assert lines[-2:] == [
        "PROBLEM: e2e, braidmq: 3 lost",
        "invalid: e2e, braidmq: the load was late",
    ]


def test_what_was_not_measured_is_a_dash():
    run = a_run(published=0, confirmed=0, received=0, latency={}, figures={"connection_bytes": 3e3})
    lines = summary_table({"file": a_result(run)}).splitlines()
    [line] = [line for line in lines if line.startswith("e2e (saturation)")]
    assert line.split()[2:11] == ["braidmq", *["-"] * 7, "-"]
    assert "latency: not measured" in lines
    assert lines[-1].split() == ["e2e", "braidmq", "connection_bytes", "3,000", "3,000-3,000"]


def test_nothing():
    assert summary_table({"file": a_result()}).splitlines()[-1] == "no runs"

"""The commands: what they take, what they write, how they end."""

import contextlib
import json

import pytest
from click.testing import CliRunner

from braidmq.benchmarks import (
    __main__,
    load,
    mqtt_scenarios,
    queue_scenarios,
    stomp_scenarios,
    stream_scenarios,
)
from braidmq.benchmarks.cli import bench
from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.meter import Run

TINY = ["--messages", "40", "--producers", "2", "--rounds", "1", "--seconds", "20"]


def run(*arguments):
    return CliRunner().invoke(bench, [str(each) for each in arguments])


def test_a_run_in_process_is_printed_and_written(tmp_path):
    file = tmp_path / "out.json"
    options = ["--target", "core", "--durability", "memory", "--baseline-seconds", "0.02"]
    done = run("queue", *TINY, *options, "--dir", tmp_path, "--json", file)
    assert done.exit_code == 0, done.output
    assert "fdatasync" in done.output
    report = json.loads(file.read_text())
    assert report["scenarios"][0]["integrity"]["received"] == 40
    assert report["scenarios"][0]["plan"]["target"] == "core"


def test_a_native_run_to_stdout(tmp_path):
    done = run("queue", *TINY, "--baseline-seconds", 0, "--dir", tmp_path, "--json", "-")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["baseline"] is None
    assert report["scenarios"][0]["broken"] == []


def test_a_lost_message_is_exit_status_one(monkeypatch):
    monkeypatch.setattr(load, "start", lambda plan: Run(integrity=Integrity(sent=2, lost=1)))
    done = run("queue", *TINY, "--target", "core", "--baseline-seconds", 0)
    assert done.exit_code == 1
    assert "BROKEN: bench: 1 lost" in done.output


def test_duplicates_break_only_what_excludes_them(monkeypatch):
    monkeypatch.setattr(load, "start", lambda plan: Run(integrity=Integrity(duplicate=1)))
    arguments = ["queue", *TINY, "--target", "core", "--baseline-seconds", "0", "--expect"]
    assert run(*arguments, "at-least-once").exit_code == 0
    assert run(*arguments, "exactly-once").exit_code == 1


def test_a_failed_load_is_exit_status_one(monkeypatch):
    def fail(plan):
        raise load.LoadFailed("no broker there")

    monkeypatch.setattr(load, "start", fail)
    done = run("queue", *TINY, "--target", "core", "--baseline-seconds", 0)
    assert done.exit_code == 1
    assert "no broker there" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["queue", "--window", "0"],
        ["queue", "--target", "core", "--rate", "5"],
        ["backlog", "--durability", "memory"],
        ["queue", "--durability", "none"],
        ["mqtt", "--alone", "--peer", "none"],
        ["mqtt", "--seconds", "0"],
        ["stream", "--seconds", "0"],
        ["stomp", "--size", "1"],
    ],
)
def test_wrong_usage_is_exit_status_two(arguments):
    assert run(*arguments).exit_code == 2


def test_the_table_names_its_scenarios_and_runs_some(monkeypatch):
    monkeypatch.setattr(load, "start", lambda plan: Run())
    done = run("table", "--list", "--only", "core")
    assert done.output.splitlines() == [
        each.name for each in queue_scenarios.TABLE if each.name.startswith("core")
    ]
    options = ["--only", "core, 100", "--rounds", "1", "--baseline-seconds", "0"]
    assert "core, 100" in run("table", *options).output


def test_the_baseline_alone(tmp_path):
    done = run("baseline", "--dir", tmp_path, "--seconds", "0.02")
    assert done.exit_code == 0
    assert "raw group commit" in done.output


def test_a_small_backlog(tmp_path):
    done = run("backlog", "--dir", tmp_path, "--messages", 200, "--size", 100)
    assert done.exit_code == 0, done.output
    assert "200 messages" in done.output
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_it_is_the_table():
    assert __main__._arguments([]) == ["peers", "--quick"]
    assert __main__._arguments(["--only", "x"]) == ["peers", "--quick", "--only", "x"]
    assert __main__._arguments(["queue"]) == ["queue"]
    assert __main__._arguments(["--help"]) == ["--help"]


def test_mqtt_against_the_relay_is_printed_and_written(tmp_path):
    file = tmp_path / "out.json"
    options = ["--alone", "--peer", "relay", "--seconds", "0.2", "--warmup", "0", "--repeats", "1"]
    done = run("mqtt", *options, "--only", "qos0 mixed", "--dir", tmp_path, "--json", file)
    assert done.exit_code == 0, done.output
    assert "qos0 mixed" in done.output
    report = json.loads(file.read_text())
    assert [each["broker"] for each in report["rows"][0]["figures"]] == ["relay"]


def test_mqtt_scenarios_are_named():
    done = run("mqtt", "--list", "--only", "fan-out")
    assert done.output.splitlines() == ["qos0 fan-out 50", "qos1 fan-out 50"]


def test_mqtt_with_a_lost_message_is_exit_status_one(monkeypatch):
    def lose(plan, broker, directory):
        return mqtt_scenarios.Outcome(broker=broker, problems=["1 lost of 2"])

    monkeypatch.setattr(mqtt_scenarios, "run_once", lose)
    done = run("mqtt", "--only", "qos0 mixed", "--repeats", "1")
    assert done.exit_code == 1
    assert "1 lost of 2" in done.output


def test_mqtt_without_a_peer_that_is_installed(monkeypatch):
    monkeypatch.setattr("braidmq.benchmarks.systems.mosquitto._find", lambda: "")
    done = run("mqtt", "--alone", "--only", "qos0 mixed")
    assert done.exit_code == 1
    assert "mosquitto is not installed" in done.output


def test_streams_in_process_are_printed_and_written(tmp_path):
    file = tmp_path / "out.json"
    options = ["--system", "in process", "--seconds", "0.1", "--warmup", "0", "--repeats", "1"]
    done = run("stream", *options, "--only", "100 B x 500, 10", "--dir", tmp_path, "--json", file)
    assert done.exit_code == 0, done.output
    report = json.loads(file.read_text())
    assert [each["system"] for each in report["rows"][0]["figures"]] == ["in process"]
    assert report["rows"][0]["figures"][0]["per_second"]["median"] > 0


def test_streams_and_fan_out_name_their_scenarios():
    assert run("stream", "--list", "--only", "tail").output.splitlines() == ["tail 1,000/s"]
    assert "10,000 queues" in run("fanout", "--list").output.splitlines()


def test_a_lost_record_is_exit_status_one(monkeypatch):
    def lose(plan, directory):
        return stream_scenarios.StreamOutcome(system=plan.system, problems=["1 lost"])

    monkeypatch.setattr(stream_scenarios, "run_once", lose)
    options = ["--only", "10,000", "--repeats", "1", "--system", "in process"]
    done = run("fanout", *options)
    assert done.exit_code == 1
    assert "PROBLEM: 10,000 queues, in process: 1 lost" in done.output


def test_stomp_names_its_scenarios():
    done = run("stomp", "--list", "--only", "window 1,000")
    assert done.output.splitlines() == ["1 pair, window 1,000", "50 pairs, window 1,000"]


def test_stomp_is_printed_and_written_and_a_lost_message_is_exit_status_one(monkeypatch, tmp_path):
    @contextlib.contextmanager
    def nowhere(systems, directory, core):
        yield dict.fromkeys(systems)

    def lose(plan, system, where):
        return stomp_scenarios.StompOutcome(system=system, problems=["1 lost of 2"])

    monkeypatch.setattr(stomp_scenarios, "started", nowhere)
    monkeypatch.setattr(stomp_scenarios, "run_once", lose)
    file = tmp_path / "out.json"
    options = ["--system", "braidmq", "--only", "latency", "--repeats", "1", "--json", file]
    done = run("stomp", *options, "--dir", tmp_path)
    assert done.exit_code == 1
    assert "PROBLEM: latency 500/s, braidmq: 1 lost of 2" in done.output
    report = json.loads(file.read_text())
    assert [each["system"] for each in report["rows"][0]["figures"]] == ["braidmq"]

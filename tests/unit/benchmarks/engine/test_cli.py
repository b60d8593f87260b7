"""The commands: what they take, what they write, how they end."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from braidmq.benchmarks.cli import bench
from braidmq.benchmarks.engine import measuring
from braidmq.benchmarks.engine.knobs import HELP
from braidmq.benchmarks.engine.scenario import NAMES
from braidmq.benchmarks.results.result import read_result
from tests.unit.benchmarks.engine.run_support import a_run


def call(*arguments: str) -> Any:
    return CliRunner().invoke(bench, arguments)


@pytest.fixture
def carried(monkeypatch):
    """Runs that are not carried out; the scenarios, in the order in which they came."""
    seen = []

    def carry(scenario, target, hear):
        seen.append(scenario)
        knobs = {"size": scenario.knobs.size}
        problems = ["1 lost of 5"] if scenario.name == "sub" else []
        return [a_run(scenario=scenario.name, knobs=knobs, confirmed=5, problems=problems)]

    monkeypatch.setattr(measuring, "carry_out", carry)
    return seen


def test_scenarios_are_listed_and_printed_to_be_changed(tmp_path):
    assert [line.split()[0] for line in call("scenarios").output.splitlines()] == list(NAMES)
    shown = call("scenarios", "e2e")
    assert shown.exit_code == 0
    assert 'shape = "flow"' in shown.output
    assert "did you mean e2e" in call("scenarios", "e3e").output


def test_knobs_are_listed():
    lines = call("knobs").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(HELP)


def test_a_run_is_shown_and_written(carried, tmp_path):
    file = tmp_path / "result.json"
    done = call("run", "e2e", "--url", "braid://127.0.0.1:1", "--json", str(file))
    assert done.exit_code == 0
    assert "e2e (open)" in done.output
    assert read_result(file).runs[0].scenario == "e2e"


def test_a_result_may_be_all_that_is_printed(carried):
    done = call("run", "e2e", "--url", "braid://127.0.0.1:1", "--json", "-")
    assert json.loads(done.stdout)["runs"][0]["confirmed"] == 5


def test_a_folder_gets_everything_that_is_asked_for(carried, tmp_path):
    out = tmp_path / "made" / "here"
    arguments = ("--url", "braid://127.0.0.1:1", "--out", str(out), "--hgrm", "--html", "--quiet")
    done = call("run", "e2e", *arguments)
    assert (done.exit_code, done.output) == (0, "")
    assert {path.name for path in out.iterdir()} >= {"result.json", "report.html"}


def test_a_broken_promise_is_an_exit_status_and_said_even_when_quiet(carried):
    done = call("run", "sub", "--url", "braid://127.0.0.1:1", "--quiet")
    assert done.exit_code == 1
    assert "sub, braidmq: 1 lost of 5" in done.output


def test_settings_and_repeats_change_the_scenario(carried):
    arguments = ("--set", "size=1k", "--set", "seed=7", "--repeats", "2")
    done = call("run", "e2e", "fanin", *arguments, "--url", "braid://127.0.0.1:1", "--quiet")
    assert done.exit_code == 0
    assert [(each.name, each.knobs.size, each.knobs.seed) for each in carried] == [
        *[("e2e", "1k", 7)] * 2,
        *[("fanin", "1k", 7)] * 2,
    ]


def test_a_sweep_is_a_run_for_each_value(carried):
    done = call("sweep", "e2e", "--over", "size=100,1k,10k", "--url", "braid://127.0.0.1:1")
    assert done.exit_code == 0
    assert [each.knobs.size for each in carried] == ["100", "1k", "10k"]


def test_peers_are_everybody_and_nothing_is_started_to_list_them():
    listed = call("peers", "--list", "--only", "fan").output.splitlines()
    assert "fanout: braidmq/braid" in listed
    assert "fanin: braidmq/mqtt" in listed
    assert not any(line.startswith("e2e") for line in listed)
    assert not any(line.startswith("soak") for line in call("peers", "--list").output.splitlines())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("e2e", {"seconds": 1, "warmup_seconds": 0.3, "repeats": 2, "rate": "1000"}),
        ("backlog", {"backlog": 10_000, "wildcards": 0}),
        ("wildcards", {"wildcards": 2_000, "patience_seconds": 4}),
        ("slow-consumer", {"stop_seconds": 1}),
        ("idle", {"connections": 1_000, "repeats": 1}),
        ("restart", {"seconds": 3, "kill_after_seconds": 0.5, "repeats": 1}),
    ],
)
def test_a_quick_look_is_a_smaller_run_of_the_same(carried, name, expected):
    done = call("peers", "--quick", "--only", name, "--system", "braidmq/braid", "--quiet")
    assert done.exit_code == 0
    knobs = carried[0].knobs
    assert {key: getattr(knobs, key) for key in expected} == expected
    assert len(carried) == knobs.repeats


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nothing"), "there is no scenario nothing"),
        (("run", "e2e", "--set", "rat=5"), "did you mean rate"),
        (("run", "e2e", "--set", "rate"), "is not knob=value"),
        (("run", "e2e", "--system", "kafka"), "there is no system kafka"),
        (("run", "e2e", "--url", "gopher://x"), "no driver speaks gopher"),
        (("run", "stream-tail", "--url", "mqtt://x"), "nothing is left to measure: mqtt://x: has"),
        (("run", "e2e", "--url", "mqtt://x", "--system", "braidmq"), "one of them"),
        (("run", "e2e", "--html"), "need --out"),
        (("run",), "Missing argument"),
        (("peers", "--only", "nothing"), "no scenario has 'nothing' in its name"),
        (("sweep", "e2e", "--over", "size=100,many"), "'many' is not a number"),
    ],
)
def test_wrong_usage_is_told_and_starts_nothing(arguments, words):
    done = call(*arguments)
    assert done.exit_code == 2
    assert words in done.output.replace("\n", " ")


def test_a_folder_that_cannot_be_made_is_an_error(carried, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    arguments = ("--url", "braid://127.0.0.1:1", "--out", str(file / "below"))
    done = call("run", "e2e", *arguments)
    assert done.exit_code == 1
    assert "Error:" in done.output


def test_a_run_of_our_own_daemon_from_beginning_to_end(tmp_path):
    settings = ("--set", "seconds=0.2", "--set", "warmup_seconds=0.1", "--set", "rate=200")
    done = call("run", "e2e", *settings, "--dir", str(tmp_path), "--no-pin")
    assert done.exit_code == 0, done.output
    assert "e2e (open)" in done.output
    assert list(tmp_path.iterdir()) == []

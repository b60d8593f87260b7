"""The commands on files of results, and how they end."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from braidmq.benchmarks.results.cli import (
    COMMANDS,
    compare,
    hgrm,
    report,
    show,
    write_histograms,
)
from braidmq.benchmarks.results.result import write_result
from tests.bench_results import a_result, a_run


def invoke(command, *arguments):
    return CliRunner().invoke(command, [str(each) for each in arguments])


@pytest.fixture
def files(tmp_path: Path):
    """Two results; the second one half as quick."""
    paths = tmp_path / "one.json", tmp_path / "two.json"
    for path, per_second in zip(paths, (2_000, 1_000), strict=True):
        write_result(a_result(a_run(per_second=per_second)), path)
    return paths


def test_show(files):
    done = invoke(show, *files)
    assert done.exit_code == 0
    assert "braidmq (one)" in done.output and "braidmq (two)" in done.output
    assert "(one)" not in invoke(show, files[0]).output


def test_files_of_one_name(files, tmp_path):
    other = tmp_path / "other" / "one.json"
    other.parent.mkdir()
    write_result(a_result(a_run()), other)
    assert f"braidmq ({other})" in invoke(show, files[0], other).output


def test_what_is_no_result(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    done = invoke(show, path)
    assert done.exit_code == 1 and "is not a result of braidmq bench" in done.output
    assert invoke(show, tmp_path / "none.json").exit_code == 2
    assert invoke(show).exit_code == 2


def test_histograms_that_are_none(tmp_path):
    path = tmp_path / "x.json"
    write_result(a_result(a_run(latency={"delivery": [1, 2, -3, 4]})), path)
    for command in (
        [show, path],
        [compare, path, path],
        [hgrm, path, "-o", tmp_path],
        [report, path, "-o", tmp_path / "x.html"],
    ):
        done = invoke(*command)
        assert done.exit_code == 1 and "not a dumped histogram" in done.output


def test_compare(files):
    done = invoke(compare, *files)
    assert done.exit_code == 0 and "-50.0 %" in done.output
    done = invoke(compare, *files, "--fail-if", "rate<-60%")
    assert done.exit_code == 0
    done = invoke(compare, *files, "--fail-if", "rate<-5%", "--fail-if", "lost>0")
    assert done.exit_code == 1 and "FAILED rate<-5%" in done.output
    assert invoke(compare, *files, "--fail-if", "speed<5").exit_code == 2


def test_what_cannot_be_compared(files, tmp_path):
    other = tmp_path / "other.json"
    write_result(a_result(a_run(knobs={"size": "9", "rate": "max"})), other)
    done = invoke(compare, files[0], other)
    assert done.exit_code == 2 and "size: 200 and 9" in done.output
    assert invoke(compare, files[0], other, "--despite-knobs").exit_code == 0
    write_result(a_result(a_run(latency={})), other)
    done = invoke(compare, files[0], other, "--fail-if", "p99>10%")
    assert done.exit_code == 2 and "not in both files: p99" in done.output
    write_result(a_result(a_run(scenario="pub")), other)
    done = invoke(compare, files[0], other, "--fail-if", "rate<-5%")
    assert done.exit_code == 2 and "nothing in common" in done.output


def test_hgrm(files, tmp_path):
    output = tmp_path / "new" / "folder"
    done = invoke(hgrm, files[0], "-o", output)
    assert done.exit_code == 0
    names = [Path(line).name for line in done.output.split()]
    assert names == [
        "e2e-braidmq-delivery.hgrm",
        "e2e-braidmq-delivery.hlog",
        "e2e-braidmq-lag.hgrm",
        "e2e-braidmq-lag.hlog",
    ]
    text = (output / names[0]).read_text()
    assert text.split()[0] == "Value" and "Total count    =          500]" in text
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert invoke(hgrm, files[0], "-o", blocked).exit_code == 2
    assert invoke(hgrm, files[0], "-o", blocked / "x").exit_code == 1


def test_files_whose_names_had_to_be_cut_are_kept_apart(tmp_path):
    results = {"x" * 130 + end: a_result(a_run(), a_run("redis")) for end in "ab"}
    paths = write_histograms(results, tmp_path)
    assert len(paths) == len(set(paths)) == len(list(tmp_path.iterdir())) == 16


def test_names_of_files_are_tame(tmp_path):
    runs = [a_run(scenario="../../<x> ü", latency={"delivery": []}), a_run("redis", latency={})]
    paths = write_histograms({"file": a_result(*runs)}, tmp_path)
    assert [path.name for path in paths] == ["x-braidmq-delivery.hgrm", "x-braidmq-delivery.hlog"]
    assert paths[0].parent == tmp_path


def test_the_commands_are_registered():
    assert {command.name for command in COMMANDS} == {"show", "compare", "hgrm", "report"}


def test_report(files, tmp_path):
    output = tmp_path / "page.html"
    done = invoke(report, *files, "-o", output)
    assert done.exit_code == 0 and done.output.strip() == str(output)
    assert "braidmq (two)" in output.read_text()
    assert invoke(report, files[0], "-o", tmp_path / "none" / "page.html").exit_code == 1

"""``bench show``, ``compare``, ``report`` and ``hgrm``: what can be done with files of results.

Exit status: 0; 1 when a ``--fail-if`` holds, or a file cannot be read or written; 2 for wrong usage
and for runs that cannot be compared.
"""

import re
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # every call of the command imports this module
    from .result import Result

__all__ = ["COMMANDS", "compare", "hgrm", "report", "show", "write_histograms"]

T = TypeVar("T")
_FILE = click.Path(exists=True, dir_okay=False)
_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)


def _tried(action: Callable[..., T], *arguments: Any) -> T:
    """Do it, or say in a line why it cannot be done."""
    try:
        return action(*arguments)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _read_all(files: Sequence[str]) -> dict[str, "Result"]:
    """Results by the shortest names that tell their files apart."""
    from .result import read_result

    stems = {Path(file).stem for file in files}
    are_stems_enough = len(stems) == len(set(files))
    return {
        Path(file).stem if are_stems_enough else file: _tried(read_result, file) for file in files
    }


@click.command("show")
@_FILES
def show(files: tuple[str, ...]) -> None:
    """Print the summary of results: a line for each scenario and system."""
    from .table import summary_table

    click.echo(_tried(summary_table, _read_all(files)))


@click.command("compare")
@click.argument("first", type=_FILE)
@click.argument("second", type=_FILE)
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 1 when it holds: rate<-5%, p99>10%, lost>0. A percentage is a change.",
)
@click.option("--despite-knobs", is_flag=True, help="Compare runs whose knobs differ.")
def compare(first: str, second: str, conditions: tuple[str, ...], despite_knobs: bool) -> None:
    """Compare two results, with a test of significance.

    Figures: rate, in, out (messages a second), p50, p99, p999, max (ms), cpu (of the broker, us for
    a message), memory (MiB), lost, duplicate.
    """
    from .compare import (
        KnobsDiffer,
        comparison,
        comparison_text,
        failed_gates,
        idle_gates,
        parse_gate,
    )
    from .result import read_result

    try:
        gates = [parse_gate(text) for text in conditions]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fail-if") from error
    results = [_tried(read_result, file) for file in (first, second)]
    try:
        found = comparison(results[0], results[1], despite_knobs)
    except KnobsDiffer as error:
        words = f"the knobs differ (--despite-knobs compares nevertheless):\n{error}"
        raise click.UsageError(words) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(comparison_text(found))
    if not found.changes:
        raise click.UsageError("the files have nothing in common")
    if idle := idle_gates(found, gates):
        raise click.UsageError(f"not in both files: {', '.join(gate.figure for gate in idle)}")
    failed = failed_gates(found, gates)
    for line in failed:
        click.echo(line)
    if failed:
        click.get_current_context().exit(1)


@click.command("report")
@_FILES
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="The page.",
)
def report(files: tuple[str, ...], output: str) -> None:
    """Write one HTML page with charts, which needs nothing else to be looked at."""
    from .report import write_report

    _tried(write_report, _read_all(files), output)
    click.echo(output)


@click.command("hgrm")
@_FILES
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where to; made when it is not there.",
)
def hgrm(files: tuple[str, ...], output: str) -> None:
    """Write histograms for HdrHistogram's tools: .hgrm (percentiles) and .hlog (each repeat)."""
    for path in _tried(write_histograms, _read_all(files), Path(output)):
        click.echo(str(path))


def write_histograms(results: dict[str, "Result"], directory: Path) -> list[Path]:
    """Write both forms for every scenario, system and metric; the files. Raises OSError."""
    from ..histogram import Histogram
    from .cases import cases
    from .hdr import log_text, percentile_text

    directory.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for case in cases(results):
        for each in case.figures:
            for metric in dict.fromkeys(name for run in each.runs for name in run.latency):
                intervals = [
                    (run.seconds, Histogram.of_dumps([run.latency.get(metric, [])]))
                    for run in each.runs
                ]
                merged = Histogram.merged(histogram for _, histogram in intervals)
                title = f"{case.title} {each.label} {metric}"
                path = _free(directory / _file_name(title), written)
                for suffix, text in (
                    (".hgrm", percentile_text(merged)),
                    (".hlog", log_text(intervals, title)),
                ):
                    written.append(path.with_name(path.name + suffix))
                    written[-1].write_text(text, encoding="ascii", errors="replace")
    return written


def _free(path: Path, written: list[Path]) -> Path:
    """The path, or with a number behind it when there is such a file already: names are cut."""
    taken = {each.with_suffix("") for each in written}
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(each for each in chain([path], numbered) if each not in taken)


def _file_name(text: str) -> str:
    """Letters, figures, points and dashes, and not too many."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:120] or "result"


COMMANDS = (compare, hgrm, report, show)

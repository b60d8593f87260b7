"""The summary of a result as text: a line for each scenario and system, and the doubts below.

Rule: whatever makes a figure worth less than it looks is said, below the table and by its name.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ..summary import Spread, aligned, doubts, machine_line, times
from .cases import RATIO_NOTE, Case, Figures, cases
from .result import METRICS, Result

__all__ = ["summary_table"]

_HEAD: Final = (
    *("scenario", "system", "in/s", "min-max", "out/s", "min-max", "x braidmq"),
    *("latency", "p50 ms", "p99", "p99.9", "max", "cpu us", "RSS MiB", "lost dup order bad"),
)
_NOTES: Final = (
    *RATIO_NOTE,
    "latency: {}",
    "cpu us: of the broker for a message; RSS: the most it had.",
    "lost dup order bad: messages lost, received twice, out of order, changed, of all repeats.",
    "!: more is said below.",
)


def summary_table(results: Mapping[str, Result]) -> str:
    """What results (by the names of their files) say, for people."""
    found = cases(results)
    lines = []
    for result in results.values():
        systems = dict.fromkeys(f"{each.name} {each.version}".strip() for each in result.systems)
        lines += [
            machine_line(result.environment),
            f"{result.begun}; {', '.join(systems)};"
            f" commit {result.environment.commit or 'unknown'}; seed {result.seed}",
            *(f"left out: {name}: {why}" for name, why in result.missing.items()),
        ]
    lines += ["", *_body(found), *_figure_lines(found)]
    for case in found:
        for each in case.figures:
            lines += doubts(f"{case.title}, {each.label}", each.problems, each.invalid)
    return "\n".join(lines)


def _body(found: Sequence[Case]) -> list[str]:
    if not found:
        return ["no runs"]
    rows: list[Sequence[str]] = [_HEAD]
    for case in found:
        for at, each in enumerate(case.figures):
            rows.append(_cells("" if at else f"{case.title} ({case.loop})", each))
    used = dict.fromkeys(each.metric for case in found for each in case.figures if each.metric)
    metrics = "; ".join(f"{name}: {METRICS[name]}" for name in used) or "not measured"
    return [*aligned(rows, 2), "", *(note.format(metrics) for note in _NOTES)]


def _cells(name: str, each: Figures) -> tuple[str, ...]:
    latency = [each.metric, *(f"{value:.3f}" for value in each.quantiles.values())]
    found = each.integrity
    return (
        name,
        each.label + (" !" if each.mark else ""),
        *_rate(each.rate_in),
        *_rate(each.rate_out),
        _ratio(each),
        *(latency if each.quantiles else ["-"] * 5),
        f"{each.server_us.median:.1f}" if each.server_us.median else "-",
        f"{each.memory.median / 2**20:,.0f}" if each.memory.median else "-",
        f"{found.lost} {found.duplicate} {found.reordered} {found.corrupt}",
    )


def _rate(rate: Spread) -> tuple[str, str]:
    """A rate and how far its repeats were apart."""
    if not rate.max:
        return "-", ""
    return f"{rate.median:,.0f}", f"{rate.min / 1000:,.1f}-{rate.max / 1000:,.1f}k"


def _ratio(each: Figures) -> str:
    """Ours to a peer; ours itself to the best of them."""
    words = times(each.ratio)
    return f"best: {words}" if words and each.is_ours else words


def _figure_lines(found: Sequence[Case]) -> list[str]:
    """What a scenario measures besides."""
    rows = [
        (case.title, each.label, name, f"{value.median:,.4g}", f"{value.min:,.4g}-{value.max:,.4g}")
        for case in found
        for each in case.figures
        for name, value in each.figures.items()
    ]
    head = ("scenario", "system", "figure", "median", "min-max")
    return ["", *aligned([head, *rows], 3)] if rows else []

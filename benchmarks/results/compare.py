"""Two results beside each other: what changed, and whether chance may have changed it.

Rules:

1. Only the same is compared: scenario, system, protocol and all knobs that both files know. What
   has no counterpart is named. Where nothing has the same knobs, it is refused unless asked for.
2. A difference is shown when p < 0.05; otherwise the words are "no difference shown", which is
   not "no difference". With too few repeats nothing can be shown, and that is said instead.
3. Of sound repeats, if there are any; every doubt about any of them is said. But what was lost, or
   came twice, is of all repeats, and the worst counts: else it would be left out for being wrong.
4. A gate (``--fail-if``) judges these figures as they are: whoever gates on two repeats gates on
   noise, and the line that failed says how sure it is.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any, Final, Literal

import msgspec

from ..summary import aligned, valid_or_all
from .cases import NOT_VARIED, main_metric, memory, quantile_ms, rate, rate_in, rate_out, server_us
from .result import Result, Run
from .significance import mann_whitney, ratio_interval, smallest_p

__all__ = [
    "SHOWN_BELOW",
    "Change",
    "Comparison",
    "Gate",
    "KnobsDiffer",
    "comparison",
    "comparison_text",
    "failed_gates",
    "idle_gates",
    "parse_gate",
]

SHOWN_BELOW: Final = 0.05  # p

# What can be compared: the figure of a run, and its unit. Latencies are of the metric given.
_FIGURES: Final[dict[str, tuple[Callable[[Run, str], float], str]]] = {
    "rate": (lambda run, metric: rate(run), "/s"),
    "in": (lambda run, metric: rate_in(run), "/s"),
    "out": (lambda run, metric: rate_out(run), "/s"),
    "p50": (lambda run, metric: quantile_ms(run, metric, 0.5), "ms"),
    "p99": (lambda run, metric: quantile_ms(run, metric, 0.99), "ms"),
    "p999": (lambda run, metric: quantile_ms(run, metric, 0.999), "ms"),
    "max": (lambda run, metric: quantile_ms(run, metric, 1.0), "ms"),
    "cpu": (lambda run, metric: server_us(run), "us"),
    "memory": (lambda run, metric: memory(run) / 2**20, "MiB"),
    "lost": (lambda run, metric: float(run.integrity.lost), ""),
    "duplicate": (lambda run, metric: float(run.integrity.duplicate), ""),
}
_LATENCIES: Final = ("p50", "p99", "p999", "max")
_BREACHES: Final = ("lost", "duplicate")
_IN_TABLE: Final = ("rate", "p50", "p99", "p999", "cpu", "memory", *_BREACHES)


class KnobsDiffer(ValueError):
    """Runs of one name did different things."""


class Change(msgspec.Struct, kw_only=True, dict=True):
    """One figure of a scenario on a system, in both."""

    where: str
    figure: str
    before: list[float]  # one for each repeat
    after: list[float]

    @property
    def judged(self) -> tuple[float, float]:
        """Before and after: the median of the repeats, or the worst of them."""
        if self.figure in _BREACHES:
            return max(self.before), max(self.after)
        return median(self.before), median(self.after)

    @cached_property
    def p(self) -> float:
        """How likely chance would set them as far apart."""
        return mann_whitney(self.before, self.after)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Where the ratio of the medians lies, with 95 % confidence."""
        return ratio_interval(self.before, self.after)

    @property
    def percent(self) -> float:
        """How much more it is afterwards."""
        before, after = self.judged
        if before:
            return 100 * (after - before) / before
        return float("inf") if after else 0.0

    @property
    def p_min(self) -> float:
        """What p would be if they were as far apart as so few repeats can be."""
        return smallest_p(len(self.before), len(self.after))

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.p_min >= SHOWN_BELOW:
            return f"too few repeats to show a difference (p is {self.p_min:.2g} at least)"
        if self.p >= SHOWN_BELOW:
            return "no difference shown"
        return "more" if self.percent > 0 else "less" if self.percent < 0 else "differs"


class Comparison(msgspec.Struct, kw_only=True):
    """All that two results have in common."""

    changes: list[Change] = []
    environments: list[str] = []  # what differs between the machines and the systems
    knobs: list[str] = []  # what differs between runs that were compared nevertheless
    unmatched: list[str] = []
    doubts: list[str] = []


class Gate(msgspec.Struct, frozen=True):
    """When a comparison fails: ``rate<-5%`` (the change) or ``p99>20`` (the second's figure)."""

    figure: str
    sign: Literal["<", ">"]
    limit: float
    is_percent: bool

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.limit:g}{'%' if self.is_percent else ''}"

    def holds(self, change: Change) -> bool:
        """Whether it fails by this."""
        value = change.percent if self.is_percent else change.judged[1]
        return value < self.limit if self.sign == "<" else value > self.limit


_Key = tuple[str, str, str]
_ByKnobs = dict[bytes, list[Run]]


def comparison(before: Result, after: Result, despite_knobs: bool = False) -> Comparison:
    """Compare what both have. Raises KnobsDiffer, unless told to go on."""
    first, second = _by_key(before), _by_key(after)
    systems = {each.name for each in before.systems} & {each.name for each in after.systems}
    found = Comparison(
        environments=_differences(_surroundings(before, systems), _surroundings(after, systems))
    )
    for key in {**first, **second}:
        _match(found, ", ".join(key), first.get(key, []), second.get(key, []))
    if found.knobs and not despite_knobs:
        raise KnobsDiffer("\n".join(found.knobs))
    return found


def _by_key(result: Result) -> dict[_Key, list[Run]]:
    found: dict[_Key, list[Run]] = {}
    for run in result.runs:
        found.setdefault((run.scenario, run.system, run.scheme), []).append(run)
    return found


def _surroundings(result: Result, systems: Collection[str]) -> dict[str, Any]:
    """Where a result is from, without how busy it was, which always differs."""
    found: dict[str, Any] = msgspec.structs.asdict(result.environment)
    found.pop("load_average")
    found |= {f"version of {name}": text for name, text in found.pop("versions").items()}
    for system in result.systems:
        if system.name not in systems:
            continue
        found[system.name] = system.version
        found |= {f"{system.name}: {name}": text for name, text in system.settings.items()}
    return found


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {one.get(name, 'nothing')} and {other.get(name, 'nothing')}"
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def _match(found: Comparison, where: str, before: Sequence[Run], after: Sequence[Run]) -> None:
    """Compare the runs of one scenario and system that have the same knobs."""
    if not before or not after:
        found.unmatched.append(f"{where}: only in the {'first' if before else 'second'}")
        return
    names = set.intersection(*({*run.knobs} for run in (*before, *after))) - NOT_VARIED
    first, second = _by_knobs(before, names), _by_knobs(after, names)
    shared = [knobs for knobs in first if knobs in second]
    if not shared:
        old, new = next(iter(first.values())), next(iter(second.values()))
        one, other = ({name: runs[0].knobs[name] for name in names} for runs in (old, new))
        found.knobs.append(f"{where}: {'; '.join(sorted(_differences(one, other)))}")
        _compare(found, where, old, new)
        return
    varied = [name for name in before[0].knobs if _is_varied(name, names, before, after)]
    for knobs in {**first, **second}:
        old, new = first.get(knobs, []), second.get(knobs, [])
        own = (old or new)[0].knobs
        named = " ".join([where, *(f"{name}={own[name]}" for name in varied)])
        if old and new:
            _compare(found, named, old, new)
        else:
            found.unmatched.append(f"{named}: only in the {'first' if old else 'second'}")


def _by_knobs(runs: Sequence[Run], names: Collection[str]) -> _ByKnobs:
    found: _ByKnobs = {}
    for run in runs:
        knobs = msgspec.json.encode([run.knobs[name] for name in sorted(names)])
        found.setdefault(knobs, []).append(run)
    return found


def _is_varied(name: str, names: Collection[str], *groups: Sequence[Run]) -> bool:
    return name in names and any(
        run.knobs[name] != runs[0].knobs[name] for runs in groups for run in runs
    )


def _compare(found: Comparison, where: str, before: Sequence[Run], after: Sequence[Run]) -> None:
    for which, runs in (("first", before), ("second", after)):
        found.doubts += [
            f"{where}, repeat {run.repeat + 1} of the {which}: {words}"
            for run in runs
            for words in (*run.problems, *run.invalid)
        ]
    metric = main_metric([*before, *after])
    for figure in _FIGURES:
        one, other = (_values(figure, runs, metric) for runs in (before, after))
        if one and other:
            found.changes.append(Change(where=where, figure=figure, before=one, after=other))
        elif one or other:
            found.doubts.append(f"{where}: {figure} only in the {'first' if one else 'second'}")


def _values(figure: str, runs: Sequence[Run], metric: str) -> list[float]:
    """A figure of each run that measured it, and counts."""
    value, _ = _FIGURES[figure]
    return valid_or_all(
        [
            (run.is_sound or figure in _BREACHES, value(run, metric))
            for run in runs
            if run.has_latency(metric) or figure not in _LATENCIES
        ]
    )


_GATE: Final = re.compile(r"\s*([a-z0-9]+)\s*([<>])\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*(%?)\s*")


def parse_gate(text: str) -> Gate:
    """Read ``rate<-5%``, ``p99>10%`` or ``lost>0``. Raises ValueError."""
    parts = _GATE.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is not like rate<-5% or p99>20")
    figure, sign, limit, percent = parts.groups()
    if figure not in _FIGURES:
        raise ValueError(f"{figure} is not one of {', '.join(_FIGURES)}")
    return Gate(figure, "<" if sign == "<" else ">", float(limit), bool(percent))


def idle_gates(found: Comparison, gates: Sequence[Gate]) -> list[Gate]:
    """Those of a figure that was compared nowhere: they would hold nothing up."""
    compared = {each.figure for each in found.changes}
    return [gate for gate in gates if gate.figure not in compared]


def failed_gates(found: Comparison, gates: Sequence[Gate]) -> list[str]:
    """A line for each gate and change that it fails by."""
    return [
        f"FAILED {gate}: {each.where}: {_number(each.judged[0])} -> {_number(each.judged[1])}"
        f" ({each.percent:+.1f} %; {each.verdict})"
        for gate in gates
        for each in found.changes
        if each.figure == gate.figure and gate.holds(each)
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def comparison_text(found: Comparison) -> str:
    """For people: what differs around the runs, the table, and how far to trust it."""
    head = ("where", "figure", "first", "second", "change", "95 % of the ratio", "p", "verdict")
    shown = [
        each for each in found.changes if each.figure in _IN_TABLE and any(each.before + each.after)
    ]
    rows = [
        (
            *(each.where, f"{each.figure} {_FIGURES[each.figure][1]}".strip()),
            *(_number(value) for value in each.judged),
            f"{each.percent:+.1f} %",
            "{:.2f}-{:.2f}".format(*each.interval) if each.interval else "-",
            f"{each.p:.3f}",
            each.verdict,
        )
        for each in shown
    ]
    tested = sum(each.p_min < SHOWN_BELOW for each in shown)
    notes = [
        "first, second: medians of the repeats; of lost and duplicate the worst repeat.",
        f"p: Mann-Whitney's U, two-sided; a difference is shown below {SHOWN_BELOW:g}.",
        "The interval is a bootstrap's; it is too narrow where repeats are few.",
    ]
    if tested:
        notes.append(
            f"Of {tested} figures that do not differ, {SHOWN_BELOW * tested:.1f} would seem to by"
            " chance."
        )
    return "\n".join(
        [
            *(f"differs: {words}" for words in found.environments),
            *(f"KNOBS DIFFER: {words}" for words in found.knobs),
            *(["", *_table(head, rows), "", *notes] if rows else ["nothing in common"]),
            *(f"not compared: {words}" for words in found.unmatched),
            *(f"doubt: {words}" for words in found.doubts),
        ]
    ).strip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned, with the words of the verdict on the left of their column."""
    width = max(len(row[-1]) for row in (head, *rows))
    return aligned([[*row[:-1], row[-1].ljust(width)] for row in (head, *rows)], 2)

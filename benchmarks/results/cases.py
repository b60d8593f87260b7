"""Runs boiled down to what is shown: a ``Case`` is a scenario with its knobs, on some systems.

Rules:

1. A ratio is between two runs of one repeat, one of them ours, and above 1 when ours is better:
   rates, where the rate is given (open loop) median latencies, or before both the figure that the
   scenario is about. Of sound repeats, if there are any, else of all; figures are of all repeats.
2. Rivals speak the same protocol. Where ours speaks one that no peer does, and a peer one that ours
   does not, these two are rivals as well: each by the protocol that was made for it. A peer that
   never kept its promise is a rival only where there is no other.
3. A message counts once for the broker's CPU: as a delivery where there are any, else as confirmed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..histogram import Histogram
from ..integrity import Integrity
from ..summary import Latency, Spread, latency, of_valid, spread, unique, valid_or_all
from .result import MAIN_METRICS, Result, Run

__all__ = [
    "BROKEN",
    "INVALID",
    "NOT_VARIED",
    "OURS",
    "RATIO_NOTE",
    "Case",
    "Figures",
    "Measure",
    "cases",
    "main_metric",
    "memory",
    "quantile_ms",
    "rate",
    "rate_in",
    "rate_out",
    "server_us",
]

OURS: Final = "braidmq"
BROKEN: Final = "✖"
INVALID: Final = "⚠"
NOT_VARIED: Final = {"seed", "repeats"}  # knobs that do not make it another case

RATIO_NOTE: Final = (
    "x braidmq: how many times as good as this peer ours was, ours itself as the best of them,",
    "  repeat by repeat: median (min-max). Of rates, in open loops of p50, or of the figure that",
    "  the scenario is about. Above 1 is for ours.",
)

# What a scenario is about where it is neither its rate nor its latency: figures of its own.
_FIGURES_THAT_COUNT: Final = (
    "highest_rate_per_second",
    "recovery_seconds",
    "memory_per_connection_bytes",
)


def _per_second(count: int, run: Run) -> float:
    return count / run.seconds if run.seconds > 0 else 0.0


def rate_in(run: Run) -> float:
    """Messages a second that the broker confirmed; where nobody confirms, that were written."""
    return _per_second(run.confirmed or run.published, run)


def rate_out(run: Run) -> float:
    """Messages a second that consumers got."""
    return _per_second(run.received, run)


def rate(run: Run) -> float:
    """The rate that counts: what came out, else what went in."""
    return rate_out(run) or rate_in(run)


def server_us(run: Run) -> float:
    """Microseconds of the broker's CPU for a message; 0 without messages."""
    messages = run.received or run.confirmed or run.published
    return 1e6 * run.server.cpu_seconds / messages if messages else 0.0


def memory(run: Run) -> float:
    """The most bytes that were resident."""
    return float(run.server.memory_max_bytes or run.server.memory_end_bytes)


def quantile_ms(run: Run, metric: str, share: float) -> float:
    """A quantile of a latency; 0 where it was not measured."""
    dump = run.latency.get(metric)
    return Histogram.load(dump).quantile(share) / 1e6 if dump else 0.0


def main_metric(runs: Iterable[Run]) -> str:
    """The latency these runs are about, one that all those that went well have; "" without any."""
    measured = valid_or_all(
        [
            (not run.problems, names)
            for run in runs
            if (names := {name for name in MAIN_METRICS if run.has_latency(name)})
        ]
    )
    common = set.intersection(*measured) if measured else set()
    some = common or set().union(*measured)
    return next((name for name in MAIN_METRICS if name in some), "")


class Measure(msgspec.Struct, frozen=True):
    """What systems are compared by."""

    name: str
    is_high_good: bool
    of: Callable[[Run], float]


class Figures(msgspec.Struct, kw_only=True):
    """One scenario on one system."""

    label: str  # the system, and whatever else tells it from the others
    system: str
    scheme: str
    file: str
    runs: list[Run]
    rate_in: Spread
    rate_out: Spread
    rate: Spread
    metric: str  # of METRICS; "": no latency was measured
    latency: Latency
    server_us: Spread
    memory: Spread
    integrity: Integrity
    figures: dict[str, Spread]  # what else the scenario measures
    ratio: Spread | None = None  # ours: to the best rival; of a rival: ours to it
    ratio_mark: str = ""  # what tells that it is worth less than it looks
    problems: list[str]
    invalid: list[str]

    @property
    def is_ours(self) -> bool:
        """Whether it is a BraidMQ."""
        return self.system == OURS

    @property
    def is_honest(self) -> bool:
        """Whether it kept its promises, at least in one repeat."""
        return any(not run.problems for run in self.runs)

    @property
    def mark(self) -> str:
        """What tells that the figures are worth less than they look; "": nothing does."""
        return BROKEN if self.problems else INVALID if self.invalid else ""

    @property
    def quantiles(self) -> dict[str, float]:
        """Milliseconds by their names; empty where no latency was measured."""
        found = self.latency
        values = {"p50": found.p50, "p99": found.p99, "p99.9": found.p999, "max": found.max}
        return values if found.count else {}


class Case(msgspec.Struct, kw_only=True):
    """One scenario with its knobs."""

    scenario: str
    varied: dict[str, Any]  # the knobs that set it apart from others of the scenario
    metric: str  # the latency it is about; "": none was measured
    measure: Measure
    figures: list[Figures]

    @property
    def title(self) -> str:
        """The scenario, and what sets it apart."""
        return " ".join(
            [self.scenario, *(f"{name}={value}" for name, value in self.varied.items())]
        )

    @property
    def loop(self) -> str:
        """Of its runs."""
        return self.figures[0].runs[0].loop


class _Source(msgspec.Struct):
    """A run, and the file it is from."""

    file: str
    run: Run

    @property
    def key(self) -> tuple[str, str, str]:
        return self.run.system, self.run.scheme, self.file


def cases(results: Mapping[str, Result]) -> list[Case]:
    """All that results (by the names of their files) hold, in the order in which it was run."""
    by_scenario: dict[str, list[_Source]] = {}
    for file, result in results.items():
        for run in result.runs:
            by_scenario.setdefault(run.scenario, []).append(_Source(file, run))
    found = []
    for scenario, sources in by_scenario.items():
        names = _varied([source.run for source in sources])
        by_value: dict[bytes, list[_Source]] = {}
        for source in sources:
            values = [source.run.knobs.get(name) for name in names]
            by_value.setdefault(msgspec.json.encode(values), []).append(source)
        for some in by_value.values():
            varied = {name: some[0].run.knobs.get(name) for name in names}
            found.append(_case(scenario, varied, some))
    return found


def _varied(runs: Sequence[Run]) -> list[str]:
    """The knobs that differ between runs of one system, in the order of the knobs."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    names: dict[str, None] = {}
    for run in runs:
        knobs = first.setdefault((run.system, run.scheme), run.knobs)
        for name in {**knobs, **run.knobs}:
            if name not in NOT_VARIED and knobs.get(name) != run.knobs.get(name):
                names[name] = None
    return list(names)


def _case(scenario: str, varied: dict[str, Any], sources: Sequence[_Source]) -> Case:
    runs = [source.run for source in sources]
    metric = main_metric(runs)
    by_system: dict[tuple[str, str, str], list[Run]] = {}
    for source in sources:
        by_system.setdefault(source.key, []).append(source.run)
    shared = _schemes(runs, is_ours=True) & _schemes(runs, is_ours=False)

    def contest(scheme: str) -> str:
        return scheme if scheme in shared else ""

    keys = sorted(by_system, key=lambda key: (contest(key[1]), key[0] != OURS))
    figures = [_figures(key, _label(key, keys), by_system[key], metric) for key in keys]
    measure = _measure(runs, metric)
    for each in figures:
        rivals = [
            other
            for other in figures
            if other.is_ours != each.is_ours
            and other.file == each.file
            and contest(other.scheme) == contest(each.scheme)
        ]
        if each.is_ours:
            _compare(measure, each, each, [other for other in rivals if other.is_honest] or rivals)
        elif rivals:
            _compare(measure, each, rivals[0], [each])
    return Case(scenario=scenario, varied=varied, metric=metric, measure=measure, figures=figures)


def _schemes(runs: Sequence[Run], is_ours: bool) -> set[str]:
    return {run.scheme for run in runs if (run.system == OURS) == is_ours}


def _label(key: tuple[str, str, str], keys: Sequence[tuple[str, str, str]]) -> str:
    """The system; with its protocol, and its file, where there is another one without."""
    system, scheme, file = key
    same = [other for other in keys if other[0] == system]
    parts = [system]
    if len({other[1] for other in same}) > 1:
        parts.append(scheme)
    if len({other[2] for other in same}) > 1:
        parts.append(f"({file})")
    return " ".join(parts)


def _measure(runs: Sequence[Run], metric: str) -> Measure:
    """What runs of one scenario are compared by."""

    def middle(run: Run) -> float:
        return quantile_ms(run, metric, 0.5)

    own = [name for name in _FIGURES_THAT_COUNT if all(name in run.figures for run in runs)]
    if not own and metric and all(run.loop == "open" for run in runs):
        return Measure(f"{metric} p50", False, middle)
    if not own and any(rate(run) for run in runs):
        return Measure("rate", True, rate)
    if name := next(iter(own or runs[0].figures), ""):
        return Measure(name, name.endswith("per_second"), lambda run: run.figures.get(name, 0.0))
    return Measure(f"{metric} p50", False, middle) if metric else Measure("rate", True, rate)


def _compare(measure: Measure, told: Figures, ours: Figures, rivals: Sequence[Figures]) -> None:
    """Tell how many times as good ours is as the best rival of the same repeat."""
    rounds = []
    for run in ours.runs:
        others = [other for rival in rivals for other in rival.runs if other.repeat == run.repeat]
        values = [value for other in others if (value := measure.of(other)) > 0]
        mine = measure.of(run)
        if not values or mine <= 0:
            continue
        share = mine / max(values) if measure.is_high_good else min(values) / mine
        rounds.append((all(each.is_sound for each in (run, *others)), share))
    told.ratio = of_valid(rounds)
    if rounds and not any(is_sound for is_sound, _ in rounds):
        told.ratio_mark = INVALID if ours.is_honest else BROKEN


def _figures(key: tuple[str, str, str], label: str, runs: list[Run], metric: str) -> Figures:
    integrity = Integrity()
    for run in runs:
        integrity.add(run.integrity)
    own = metric if any(run.has_latency(metric) for run in runs) else main_metric(runs)
    names = dict.fromkeys(name for run in runs for name in run.figures)
    return Figures(
        label=label,
        system=key[0],
        scheme=key[1],
        file=key[2],
        runs=runs,
        rate_in=spread([rate_in(run) for run in runs]),
        rate_out=spread([rate_out(run) for run in runs]),
        rate=spread([rate(run) for run in runs]),
        metric=own,
        latency=latency([run.latency.get(own, []) for run in runs]),
        server_us=spread([server_us(run) for run in runs]),
        memory=spread([memory(run) for run in runs]),
        integrity=integrity,
        figures={
            name: spread([run.figures[name] for run in runs if name in run.figures])
            for name in names
        },
        problems=unique([text for run in runs for text in run.problems]),
        invalid=unique([text for run in runs for text in run.invalid]),
    )

"""What ``braidmq bench stream`` and ``bench fanout`` print, and write as JSON.

A ratio says how many times as quick ours is as a peer, round by round. The JSON is for programs:
``FORMAT`` goes up when a field changes its meaning or goes away.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from .baseline import disk_sync
from .environment import Environment, describe
from .histogram import Histogram
from .mqtt_scenarios import cores
from .report import Latency, Spread
from .stream_brokers import SYSTEMS, missing, version_of
from .stream_plan import IN_PROCESS, OURS, StreamPlan
from .stream_scenarios import StreamOutcome, StreamScenario

__all__ = [
    "FORMAT",
    "StreamFigures",
    "StreamReport",
    "StreamRow",
    "stream_report",
    "stream_row",
    "text",
]

FORMAT: Final = 1
_SYNC_SECONDS: Final = 0.5


class StreamFigures(msgspec.Struct):
    """One scenario on one system."""

    system: str
    per_second: Spread  # records
    megabytes_per_second: float  # of bodies, 10**6 bytes, the median
    latency_ms: Latency  # append: request to answer; tail: due to read
    lag_ms: Latency  # tail: how late the load was
    broker_cpu: float  # of a core, the median
    load_cpu: float
    broker_us: float  # CPU of the broker for a record
    memory_bytes: int
    ours: Spread | None  # a peer: how many times as quick braidmq was in the same round
    in_process: Spread | None  # ... and ours in process
    problems: list[str]
    invalid: list[str]  # why a figure says more about the load than about the broker


class StreamRow(msgspec.Struct):
    """One scenario."""

    name: str
    plan: StreamPlan
    figures: list[StreamFigures]

    @property
    def failed(self) -> bool:
        """Whether a record was lost or changed, or a run could not be carried out."""
        return any(each.problems for each in self.figures)


class StreamReport(msgspec.Struct):
    """Everything of one call."""

    environment: Environment
    systems: dict[str, str]  # names and versions
    missing: list[str]  # peers that were left out, and why
    sync_p50_ms: float  # one fdatasync of 4 KiB appended
    cores: tuple[int, int]  # of the broker and of the load; -1: not kept on any
    rows: list[StreamRow]
    arguments: dict[str, str | int | float]
    format: int = FORMAT

    def add(
        self,
        scenarios: Sequence[StreamScenario],
        found: Mapping[str, Mapping[str, Sequence[StreamOutcome]]],
    ) -> None:
        """Boil the rounds of scenarios down."""
        self.rows += [stream_row(each, found[each.name]) for each in scenarios]

    @property
    def failed(self) -> bool:
        """Whether any row did."""
        return any(row.failed for row in self.rows)


def stream_report(
    scenarios: Sequence[StreamScenario],
    systems: Sequence[str],
    directory: str,
    arguments: dict[str, str | int | float],
) -> StreamReport:
    """A report without rows: the machine, and which of the systems (none: all) there are."""
    plans = [each.plan for each in scenarios]
    able: dict[str, str] = {}
    reasons: dict[str, None] = {}
    for system in systems or SYSTEMS:
        found = [missing(msgspec.structs.replace(plan, system=system)) for plan in plans]
        reasons |= dict.fromkeys(f"{system}: {reason}" for reason in found if reason)
        if not all(found):
            able[system] = version_of(system)
    return StreamReport(
        environment=describe(directory),
        systems=able,
        missing=list(reasons),
        sync_p50_ms=_sync_ms(directory),
        cores=cores(),
        rows=[],
        arguments=arguments,
    )


def _sync_ms(directory: str) -> float:
    """One fdatasync of 4 KiB appended, in the middle."""
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
        return disk_sync(os.path.join(own, "sync"), _SYNC_SECONDS).quantile(0.5) / 1e6


def stream_row(
    scenario: StreamScenario, outcomes: Mapping[str, Sequence[StreamOutcome]]
) -> StreamRow:
    """Boil the rounds of a scenario down."""
    figures = [_figures(scenario.plan, system, outcomes) for system in outcomes]
    return StreamRow(scenario.name, scenario.plan, figures)


def _figures(
    plan: StreamPlan, system: str, outcomes: Mapping[str, Sequence[StreamOutcome]]
) -> StreamFigures:
    some = outcomes[system]
    sides = [each.side for each in some]
    rates = [side.per_second for side in sides]
    rate = median(rates)
    broker = median(side.server_cpu / side.seconds if side.seconds else 0.0 for side in sides)
    is_peer = system not in (OURS, IN_PROCESS)
    return StreamFigures(
        system=system,
        per_second=_spread(rates),
        megabytes_per_second=rate * plan.size / 1e6,
        latency_ms=_latency([side.latency for side in sides]),
        lag_ms=_latency([side.lag for side in sides]),
        broker_cpu=broker,
        load_cpu=median(side.load_cpu / side.seconds if side.seconds else 0.0 for side in sides),
        broker_us=1e6 * broker / rate if rate else 0.0,
        memory_bytes=max(side.memory_bytes for side in sides),
        ours=_ratio(plan, outcomes.get(OURS, ()), some) if is_peer else None,
        in_process=_ratio(plan, outcomes.get(IN_PROCESS, ()), some) if is_peer else None,
        problems=_unique([text for each in some for text in each.problems]),
        invalid=_unique([text for each in some for text in each.invalid]),
    )


def _ratio(
    plan: StreamPlan, ours: Sequence[StreamOutcome], peer: Sequence[StreamOutcome]
) -> Spread | None:
    """Rates of the same rounds; of the valid ones, if there are any. A tail has no rate."""
    if plan.shape == "tail":
        return None
    rounds = [pair for pair in zip(ours, peer, strict=False) if pair[1].side.records]
    valid = [pair for pair in rounds if not pair[0].invalid and not pair[1].invalid]
    ratios = [a.side.per_second / b.side.per_second for a, b in valid or rounds]
    return _spread(ratios) if ratios else None


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _latency(dumps: Sequence[list[int]]) -> Latency:
    every = Histogram.merged(Histogram.load(dump) for dump in dumps if dump)
    p50, p99, p999 = (every.quantile(share) / 1e6 for share in (0.5, 0.99, 0.999))
    return Latency(len(every), p50, p99, p999, every.largest / 1e6 if len(every) else 0.0)


def _unique(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))[:10]


def _times(ratio: Spread | None) -> str:
    return f"{ratio.median:.2f} ({ratio.min:.2f}-{ratio.max:.2f})" if ratio else ""


_HEAD: Final = (
    *("scenario", "system", "records/s", "min-max", "MB/s", "p50 ms", "p99"),
    *("x braidmq", "x in process", "broker us", "broker cpu", "load cpu", "RSS MiB"),
)


def _cells(name: str, each: StreamFigures) -> tuple[str, ...]:
    rate, ms = each.per_second, each.latency_ms
    return (
        name,
        each.system + (" !" if each.problems or each.invalid else ""),
        f"{rate.median:,.0f}",
        f"{rate.min / 1000:,.1f}-{rate.max / 1000:,.1f}k",
        f"{each.megabytes_per_second:,.1f}",
        f"{ms.p50:.2f}" if ms.count else "-",
        f"{ms.p99:.2f}" if ms.count else "-",
        _times(each.ours),
        _times(each.in_process),
        f"{each.broker_us:.2f}",
        f"{each.broker_cpu:.0%}",
        f"{each.load_cpu:.0%}" if each.system != IN_PROCESS else "-",
        f"{each.memory_bytes / 2**20:,.0f}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]


def text(report: StreamReport) -> str:
    """The report for people."""
    machine = report.environment
    versions = ", ".join(f"{name} {version}".strip() for name, version in report.systems.items())
    kept = (
        "broker on core {}, load on core {}".format(*report.cores)
        if report.cores[0] >= 0
        else "broker and load run wherever the kernel likes"
    )
    cells = [
        _cells("" if at else row.name, each)
        for row in report.rows
        for at, each in enumerate(row.figures)
    ]
    lines = [
        f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, {machine.python},"
        f" {machine.filesystem or 'unknown filesystem'}, load {machine.load_average}",
        f"{versions}; commit {machine.commit or 'unknown'}; {kept}",
        f"disk: fdatasync of 4 KiB appended: p50 {report.sync_p50_ms:.2f} ms",
        *(f"left out: {words}" for words in report.missing),
        "",
        *_aligned([_HEAD, *cells]),
        "",
        "x braidmq, x in process: how many times as quick as this peer, in the same rounds.",
        "p50, p99: request to answer; tail: from when a record was due until it was read.",
        "cpu: of a core; broker us: CPU for a record. in process: of load and broker together.",
        "!: more is said below.",
    ]
    for row in report.rows:
        for each in row.figures:
            where = f"{row.name}, {each.system}"
            lines += [f"PROBLEM: {where}: {words}" for words in each.problems]
            lines += [f"invalid: {where}: {words}" for words in each.invalid]
    return "\n".join(lines)

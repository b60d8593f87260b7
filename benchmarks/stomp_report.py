"""What ``braidmq bench stomp`` prints, and writes as JSON.

Ratios say how many times as quick ours is, round by round: as each peer, and as the better of the
two. The JSON is for programs: ``FORMAT`` goes up when a field changes its meaning or goes away.
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
from .stomp_activemq import HEAP_MIB
from .stomp_brokers import SYSTEMS, missing, version_of
from .stomp_plan import OURS, StompPlan
from .stomp_scenarios import StompOutcome, StompScenario

__all__ = [
    "FORMAT",
    "StompFigures",
    "StompReport",
    "StompRow",
    "stomp_report",
    "stomp_row",
    "text",
]

FORMAT: Final = 1
_SYNC_SECONDS: Final = 0.5


class StompFigures(msgspec.Struct):
    """One scenario on one system."""

    system: str
    per_second: Spread  # messages confirmed and received
    receipt_ms: Latency  # SEND to RECEIPT; paced: from when it was due
    delivery_ms: Latency  # paced: due to read
    lag_ms: Latency  # paced: how late the load was
    broker_cpu: float  # of a core, the median; more than 1 on several cores
    load_cpu: float
    broker_us: float  # CPU of the broker for a message
    load_us: float
    memory_bytes: int
    ours: Spread | None  # of a peer: how many times as quick braidmq was in the same round;
    # of braidmq: how many times as quick as the better peer
    problems: list[str]
    invalid: list[str]  # why a figure says more about the machine than about the broker


class StompRow(msgspec.Struct):
    """One scenario."""

    name: str
    plan: StompPlan
    figures: list[StompFigures]

    @property
    def failed(self) -> bool:
        """Whether a message was lost or changed, or a run could not be carried out."""
        return any(each.problems for each in self.figures)


class StompReport(msgspec.Struct):
    """Everything of one call."""

    environment: Environment
    systems: dict[str, str]  # names and versions
    missing: list[str]  # systems that were left out, and why
    sync_p50_ms: float  # one fdatasync of 4 KiB appended
    cores: tuple[int, int]  # of the broker and of the load; -1: not kept on any
    rows: list[StompRow]
    arguments: dict[str, str | int | float]
    format: int = FORMAT

    def add(
        self,
        scenarios: Sequence[StompScenario],
        found: Mapping[str, Mapping[str, Sequence[StompOutcome]]],
    ) -> None:
        """Boil the rounds of scenarios down."""
        self.rows += [stomp_row(each, found[each.name]) for each in scenarios]

    @property
    def failed(self) -> bool:
        """Whether any row did."""
        return any(row.failed for row in self.rows)


def stomp_report(
    systems: Sequence[str],
    apart: bool,
    directory: str,
    arguments: dict[str, str | int | float],
) -> StompReport:
    """A report without rows: the machine, and which of the systems (none: all) there are."""
    wanted = {name: missing(name) for name in SYSTEMS if name in (systems or SYSTEMS)}
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
        sync = disk_sync(os.path.join(own, "sync"), _SYNC_SECONDS).quantile(0.5) / 1e6
    return StompReport(
        environment=describe(directory),
        systems={name: version_of(name) for name, reason in wanted.items() if not reason},
        missing=[f"{name}: {reason}" for name, reason in wanted.items() if reason],
        sync_p50_ms=sync,
        cores=cores() if apart else (-1, -1),
        rows=[],
        arguments=arguments,
    )


def stomp_row(scenario: StompScenario, outcomes: Mapping[str, Sequence[StompOutcome]]) -> StompRow:
    """Boil the rounds of a scenario down."""
    figures = [_figures(scenario.plan, system, outcomes) for system in outcomes]
    return StompRow(scenario.name, scenario.plan, figures)


def _figures(
    plan: StompPlan, system: str, outcomes: Mapping[str, Sequence[StompOutcome]]
) -> StompFigures:
    some = outcomes[system]
    sides = [each.side for each in some]
    rates = [side.per_second for side in sides]
    broker = median(side.server_cpu / side.seconds if side.seconds else 0.0 for side in sides)
    load = median(side.load_cpu / side.seconds if side.seconds else 0.0 for side in sides)
    rate = median(rates)
    others = [each for name, each in outcomes.items() if (name == OURS) != (system == OURS)]
    ours, peers = (some, others) if system == OURS else (outcomes.get(OURS, ()), [some])
    return StompFigures(
        system=system,
        per_second=_spread(rates),
        receipt_ms=_latency([side.receipt for side in sides]),
        delivery_ms=_latency([side.delivery for side in sides]),
        lag_ms=_latency([side.lag for side in sides]),
        broker_cpu=broker,
        load_cpu=load,
        broker_us=1e6 * broker / rate if rate else 0.0,
        load_us=1e6 * load / rate if rate else 0.0,
        memory_bytes=max(side.memory_bytes for side in sides),
        ours=_ratio(plan, ours, peers),
        problems=_unique([words for each in some for words in each.problems]),
        invalid=_unique([words for each in some for words in each.invalid]),
    )


def _ratio(
    plan: StompPlan, ours: Sequence[StompOutcome], peers: Sequence[Sequence[StompOutcome]]
) -> Spread | None:
    """Ours to the best peer of the same round; of valid rounds, if any. A schedule has no rate."""
    if plan.shape == "paced" or not ours or not peers:
        return None
    rounds = []
    for mine, *theirs in zip(ours, *peers, strict=False):
        best = max(each.side.per_second for each in theirs)
        is_valid = not any(each.invalid for each in (mine, *theirs))
        if best:
            rounds.append((is_valid, mine.side.per_second / best))
    valid = [ratio for is_valid, ratio in rounds if is_valid]
    ratios = valid or [ratio for _, ratio in rounds]
    return _spread(ratios) if ratios else None


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _latency(dumps: Sequence[list[int]]) -> Latency:
    every = Histogram.merged(Histogram.load(dump) for dump in dumps if dump)
    p50, p99, p999 = (every.quantile(share) / 1e6 for share in (0.5, 0.99, 0.999))
    return Latency(len(every), p50, p99, p999, every.largest / 1e6 if len(every) else 0.0)


def _unique(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))[:10]


_HEAD: Final = (
    *("scenario", "system", "msg/s", "min-max", "x braidmq", "receipt p50 ms", "p99"),
    *("read p50 ms", "p99", "broker us", "load us", "broker cpu", "load cpu", "RSS MiB"),
)


def _cells(name: str, each: StompFigures) -> tuple[str, ...]:
    rate, ratio = each.per_second, each.ours
    times = f"{ratio.median:.2f} ({ratio.min:.2f}-{ratio.max:.2f})" if ratio else ""
    return (
        name,
        each.system + (" !" if each.problems or each.invalid else ""),
        f"{rate.median:,.0f}",
        f"{rate.min / 1000:,.1f}-{rate.max / 1000:,.1f}k",
        f"best: {times}" if times and each.system == OURS else times,
        *_milliseconds(each.receipt_ms),
        *_milliseconds(each.delivery_ms),
        f"{each.broker_us:.1f}",
        f"{each.load_us:.1f}",
        f"{each.broker_cpu:.0%}",
        f"{each.load_cpu:.0%}",
        f"{each.memory_bytes / 2**20:,.0f}",
    )


def _milliseconds(latency: Latency) -> tuple[str, str]:
    if not latency.count:
        return "-", "-"
    return f"{latency.p50:.2f}", f"{latency.p99:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]


def text(report: StompReport) -> str:
    """The report for people."""
    machine = report.environment
    versions = ", ".join(f"{name} {version}".strip() for name, version in report.systems.items())
    kept = (
        "broker on core {}, load on core {}".format(*report.cores)
        if report.cores[0] >= 0
        else "brokers and load may use all cores"
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
        f"disk: fdatasync of 4 KiB appended: p50 {report.sync_p50_ms:.2f} ms;"
        f" memory of each peer: {HEAP_MIB} MiB",
        *(f"left out: {words}" for words in report.missing),
        "",
        *_aligned([_HEAD, *cells]),
        "",
        "msg/s: confirmed by a receipt, and received and acknowledged: the slower of the two.",
        "x braidmq: how many times as quick as this peer, in the same rounds; best: as the better.",
        "receipt: from SEND, at latency from when it was due; read: from when it was due.",
        "cpu: of a core; us: CPU for a message. !: more is said below.",
    ]
    for row in report.rows:
        for each in row.figures:
            where = f"{row.name}, {each.system}"
            lines += [f"PROBLEM: {where}: {words}" for words in each.problems]
            lines += [f"invalid: {where}: {words}" for words in each.invalid]
    return "\n".join(lines)

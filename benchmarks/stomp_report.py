"""What ``braidmq bench stomp`` prints, and writes as JSON.

Ratios say how many times as quick ours is, round by round: as each peer, and as the better of the
two. The JSON is for programs: ``FORMAT`` goes up when a field changes its meaning or goes away.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from .environment import describe
from .machine import cores
from .peer_report import (
    PeerFigures,
    PeerReport,
    PeerRow,
    common_figures,
    ratio,
    report_text,
    sync_milliseconds,
)
from .stomp_brokers import SYSTEMS, missing, version_of
from .stomp_plan import OURS, StompPlan
from .stomp_scenarios import StompOutcome, StompScenario
from .summary import Latency, latency, times
from .systems.activemq import HEAP_MIB

__all__ = ["FORMAT", "StompFigures", "StompReport", "StompRow", "stomp_report", "stomp_row", "text"]

FORMAT: Final = 1


class StompFigures(PeerFigures, kw_only=True):
    """One scenario on one system; ``ours`` of braidmq: how many times as quick as the best peer."""

    receipt_ms: Latency  # SEND to RECEIPT; paced: from when it was due
    delivery_ms: Latency  # paced: due to read
    load_us: float


StompRow = PeerRow[StompPlan, StompFigures]
StompReport = PeerReport[StompRow]


def stomp_report(
    systems: Sequence[str],
    apart: bool,
    directory: str,
    arguments: dict[str, str | int | float],
) -> StompReport:
    """A report without rows: the machine, and which of the systems (none: all) there are."""
    wanted = {name: missing(name) for name in SYSTEMS if name in (systems or SYSTEMS)}
    return StompReport(
        environment=describe(directory),
        systems={name: version_of(name) for name, reason in wanted.items() if not reason},
        missing=[f"{name}: {reason}" for name, reason in wanted.items() if reason],
        sync_p50_ms=sync_milliseconds(directory),
        cores=cores() if apart else (-1, -1),
        rows=[],
        arguments=arguments,
        format=FORMAT,
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
    common = common_figures(system, some)
    load, rate = common["load_cpu"], common["per_second"].median
    others = [each for name, each in outcomes.items() if (name == OURS) != (system == OURS)]
    ours, peers = (some, others) if system == OURS else (outcomes.get(OURS, ()), [some])
    return StompFigures(
        **common,
        receipt_ms=latency([side.receipt for side in sides]),
        delivery_ms=latency([side.delivery for side in sides]),
        load_us=1e6 * load / rate if rate else 0.0,
        ours=None if plan.shape == "paced" else ratio(ours, peers),  # a schedule has no rate
    )


_HEAD: Final = (
    *("scenario", "system", "msg/s", "min-max", "x braidmq", "receipt p50 ms", "p99"),
    *("read p50 ms", "p99", "broker us", "load us", "broker cpu", "load cpu", "RSS MiB"),
)


def _cells(name: str, each: StompFigures) -> tuple[str, ...]:
    rate, ratios = each.per_second, times(each.ours)
    return (
        name,
        each.system + (" !" if each.problems or each.invalid else ""),
        f"{rate.median:,.0f}",
        f"{rate.min / 1000:,.1f}-{rate.max / 1000:,.1f}k",
        f"best: {ratios}" if ratios and each.system == OURS else ratios,
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


_NOTES: Final = (
    "msg/s: confirmed by a receipt, and received and acknowledged: the slower of the two.",
    "x braidmq: how many times as quick as this peer, in the same rounds; best: as the better.",
    "receipt: from SEND, at latency from when it was due; read: from when it was due.",
    "cpu: of a core; us: CPU for a message.",
)


def text(report: StompReport) -> str:
    """The report for people."""
    rows = [
        _cells("" if at else row.name, each)
        for row in report.rows
        for at, each in enumerate(row.figures)
    ]
    memory = f"; memory of each peer: {HEAP_MIB} MiB"
    unpinned = "brokers and load may use all cores"
    return report_text(report, [_HEAD, *rows], _NOTES, unpinned, memory)

"""What ``braidmq bench stream`` and ``bench fanout`` print, and write as JSON.

A ratio says how many times as quick ours is as a peer, round by round. The JSON is for programs:
``FORMAT`` goes up when a field changes its meaning or goes away.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

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
from .stream_brokers import SYSTEMS, missing, version_of
from .stream_plan import IN_PROCESS, OURS, StreamPlan
from .stream_scenarios import StreamOutcome, StreamScenario
from .summary import Latency, Spread, latency, times

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


class StreamFigures(PeerFigures, kw_only=True):
    """One scenario on one system."""

    megabytes_per_second: float  # of bodies, 10**6 bytes, the median
    latency_ms: Latency  # append: request to answer; tail: due to read
    in_process: Spread | None  # of a peer: how many times as quick ours in process was


StreamRow = PeerRow[StreamPlan, StreamFigures]
StreamReport = PeerReport[StreamRow]


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
        sync_p50_ms=sync_milliseconds(directory),
        cores=cores(),
        rows=[],
        arguments=arguments,
        format=FORMAT,
    )


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
    common = common_figures(system, some)
    is_compared = system not in (OURS, IN_PROCESS) and plan.shape != "tail"  # which has no rate
    return StreamFigures(
        **common,
        megabytes_per_second=common["per_second"].median * plan.size / 1e6,
        latency_ms=latency([each.side.latency for each in some]),
        ours=ratio(outcomes.get(OURS, ()), [some]) if is_compared else None,
        in_process=ratio(outcomes.get(IN_PROCESS, ()), [some]) if is_compared else None,
    )


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
        times(each.ours),
        times(each.in_process),
        f"{each.broker_us:.2f}",
        f"{each.broker_cpu:.0%}",
        f"{each.load_cpu:.0%}" if each.system != IN_PROCESS else "-",
        f"{each.memory_bytes / 2**20:,.0f}",
    )


_NOTES: Final = (
    "x braidmq, x in process: how many times as quick as this peer, in the same rounds.",
    "p50, p99: request to answer; tail: from when a record was due until it was read.",
    "cpu: of a core; broker us: CPU for a record. in process: of load and broker together.",
)


def text(report: StreamReport) -> str:
    """The report for people."""
    rows = [
        _cells("" if at else row.name, each)
        for row in report.rows
        for at, each in enumerate(row.figures)
    ]
    unpinned = "broker and load run wherever the kernel likes"
    return report_text(report, [_HEAD, *rows], _NOTES, unpinned)

"""What `braidmq bench mqtt` prints, and writes as JSON: two brokers beside each other, with ratios.

The JSON is for programs: ``FORMAT`` goes up when a field changes its meaning or goes away.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from .environment import Environment
from .mqtt_plan import Plan
from .mqtt_scenarios import Outcome, Scenario
from .summary import (
    Latency,
    Spread,
    aligned,
    doubts,
    latency,
    machine_line,
    of_valid,
    spread,
    unique,
)

__all__ = ["FORMAT", "Figures", "MqttReport", "Row", "row", "text"]

FORMAT: Final = 1


class Figures(msgspec.Struct):
    """One scenario on one broker."""

    broker: str
    per_second: Spread
    broker_cpu: float  # of a core, the median
    load_cpu: float  # of a core, both load processes together
    broker_us: float  # CPU of the broker for a message
    latency_ms: Latency  # paced: due to received; one by one: the round trip
    lag_ms: Latency  # paced: how late the publisher was
    memory_bytes: int  # resident at the end; idle: for each connection
    pinned: bool  # broker and load were kept on a core each
    problems: list[str]
    invalid: list[str]  # why a figure says more about the load than about the broker


class Row(msgspec.Struct):
    """One scenario."""

    name: str
    plan: Plan
    repeats: int
    figures: list[Figures]  # ours first, then the peer; or one of them
    # The first to the second, round by round: of the valid rounds, if there are any.
    ratio: Spread | None = None

    @property
    def failed(self) -> bool:
        """Whether a message was lost, or a run could not be carried out."""
        return any(each.problems for each in self.figures)


class MqttReport(msgspec.Struct):
    """Everything of one call."""

    environment: Environment
    brokers: dict[str, str]  # names and versions
    cores: tuple[int, int]  # of the broker and of the load; -1: not kept on any
    rows: list[Row]
    arguments: dict[str, str | int | float]
    format: int = FORMAT

    @property
    def failed(self) -> bool:
        """Whether any row did."""
        return any(row.failed for row in self.rows)


def row(scenario: Scenario, outcomes: Mapping[str, Sequence[Outcome]]) -> Row:
    """Boil the rounds of a scenario down."""
    found = [_figures(broker, some) for broker, some in outcomes.items()]
    repeats = max((len(some) for some in outcomes.values()), default=0)
    result = Row(scenario.name, scenario.plan, repeats, found)
    if len(found) == 2:
        first, second = outcomes.values()
        rounds = list(zip(first, second, strict=True))
        result.ratio = of_valid(
            [
                (
                    not ours.invalid and not peer.invalid,
                    _measure(scenario.plan, ours) / _measure(scenario.plan, peer),
                )
                for ours, peer in rounds
                if _measure(scenario.plan, peer) > 0
            ]
        )
    return result


def _measure(plan: Plan, outcome: Outcome) -> float:
    """What is compared: a rate, a median latency, or the memory of a connection."""
    if plan.shape == "paced":
        return latency([outcome.subscriber.latency]).p50
    return float(outcome.memory_bytes) if plan.shape == "idle" else outcome.per_second


def _figures(broker: str, outcomes: Sequence[Outcome]) -> Figures:
    def middle(name: str) -> float:
        return median(float(getattr(each, name)) for each in outcomes)

    rate, busy = middle("per_second"), middle("broker_cpu")
    return Figures(
        broker=broker,
        per_second=spread([each.per_second for each in outcomes]),
        broker_cpu=busy,
        load_cpu=middle("load_cpu"),
        broker_us=1e6 * busy / rate if rate else 0.0,
        latency_ms=latency(
            [each.subscriber.latency or each.publisher.latency for each in outcomes]
        ),
        lag_ms=latency([each.publisher.lag for each in outcomes]),
        memory_bytes=int(middle("memory_bytes")),
        pinned=all(each.pinned for each in outcomes),
        problems=unique([text for each in outcomes for text in each.problems]),
        invalid=unique([text for each in outcomes for text in each.invalid]),
    )


def _ratio(row: Row, at: int) -> tuple[str, str]:
    if row.ratio is None or at:
        return "", ""
    return f"{row.ratio.median:.2f}", f"{row.ratio.min:.2f}-{row.ratio.max:.2f}"


def _rate_lines(rows: Sequence[Row]) -> list[str]:
    head = ("scenario", "broker", "msg/s", "min-max", "ratio", "min-max")
    lines: list[Sequence[str]] = [(*head, "broker us", "broker cpu", "load cpu", "RSS MiB")]
    for row in rows:
        for at, each in enumerate(row.figures):
            rate = each.per_second
            mark = " !" if each.problems or each.invalid else ""
            lines.append(
                (
                    "" if at else row.name,
                    each.broker + mark,
                    f"{rate.median:,.0f}",
                    f"{rate.min / 1000:,.1f}-{rate.max / 1000:,.1f}k",
                    *_ratio(row, at),
                    f"{each.broker_us:.2f}",
                    f"{each.broker_cpu:.0%}",
                    f"{each.load_cpu:.0%}",
                    f"{each.memory_bytes / 2**20:,.0f}",
                )
            )
    return [*aligned(lines, 2), ""] if rows else []


def _latency_lines(rows: Sequence[Row]) -> list[str]:
    head = ("latency", "broker", "p50 ms", "p99", "p99.9", "max", "late p99", "ratio p50")
    lines: list[Sequence[str]] = [(*head, "min-max")]
    for row in rows:
        for at, each in enumerate(row.figures):
            ms = each.latency_ms
            mark = " !" if each.problems or each.invalid else ""
            lines.append(
                (
                    "" if at else row.name,
                    each.broker + mark,
                    *(f"{value:.3f}" for value in (ms.p50, ms.p99, ms.p999, ms.max)),
                    f"{each.lag_ms.p99:.3f}" if each.lag_ms.count else "-",
                    *(_ratio(row, at) if row.plan.shape == "paced" else ("", "")),
                )
            )
    return [*aligned(lines, 2), ""] if rows else []


def _idle_lines(rows: Sequence[Row]) -> list[str]:
    head = ("idle", "broker", "bytes each", "ratio", "min-max", "connects/s", "cpu when idle")
    lines: list[Sequence[str]] = [head]
    for row in rows:
        for at, each in enumerate(row.figures):
            lines.append(
                (
                    "" if at else f"{row.plan.connections:,} connections",
                    each.broker + (" !" if each.problems or each.invalid else ""),
                    f"{each.memory_bytes:,}",
                    *_ratio(row, at),
                    f"{each.per_second.median:,.0f}",
                    f"{each.broker_cpu:.1%}",
                )
            )
    return [*aligned(lines, 2), ""] if rows else []


def text(report: MqttReport) -> str:
    """The report for people."""
    machine = report.environment
    versions = ", ".join(f"{name} {version}".strip() for name, version in report.brokers.items())
    kept = (
        "broker on core {}, both load processes on core {}".format(*report.cores)
        if report.cores[0] >= 0
        else "broker and load run wherever the kernel likes"
    )
    rates = [each for each in report.rows if each.plan.shape == "stream"]
    timed = [each for each in report.rows if each.plan.shape == "paced" or each.plan.window == 1]
    lines = [
        machine_line(machine),
        f"{versions}; commit {machine.commit or 'unknown'}; {kept}",
        "",
        *_rate_lines(rates),
        *_latency_lines(timed),
        *_idle_lines([each for each in report.rows if each.plan.shape == "idle"]),
        "msg/s: delivered to all subscribers; one by one, offline and filters: acknowledged.",
        "ratio: the first broker to the second, of the same round; valid rounds, if there are any.",
        "cpu: of a core; load: publisher and subscribers together. broker us: CPU for a message.",
        "!: more is said below.",
    ]
    for row in report.rows:
        for each in row.figures:
            lines += doubts(f"{row.name}, {each.broker}", each.problems, each.invalid)
    return "\n".join(lines)

"""What is printed, and what is written as JSON.

The JSON is for programs, so its shape is a contract: ``FORMAT`` goes up when a field changes its
meaning or goes away, and tests/unit/benchmarks/test_report.py keeps a list of the fields.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from .baseline import Baseline
from .environment import Environment
from .integrity import Integrity
from .meter import Phase, Plan, Run
from .summary import Latency, Spread, aligned, latency, machine_line, spread, unique

__all__ = [
    "FORMAT",
    "Figures",
    "Report",
    "Target",
    "add_floor",
    "figures",
    "text",
]

FORMAT: Final = 1


class Target(msgspec.Struct):
    """What we want to reach, and where we are. Nothing fails because of it."""

    text: str
    value: float
    wanted: str
    met: bool


class Figures(msgspec.Struct):
    """One scenario."""

    name: str
    plan: Plan
    rounds: int
    in_per_second: Spread  # messages confirmed
    out_per_second: Spread  # messages received and settled
    confirm_ms: Latency  # send to answer
    ack_ms: Latency  # acknowledgement to answer
    delivery_ms: Latency  # together: send (open loop: intended) to delivery
    lag_ms: Latency  # open loop: how late the generator was
    server_cpu_in_us: float  # for each message; in process: of generator and broker
    server_cpu_out_us: float
    load_cpu_in_us: float
    load_cpu_out_us: float
    server_memory_bytes: int  # at the end; 0: unknown
    commit_messages: float  # in one synced commit while producing; 0: none was synced
    commit_sync_ms: float  # one fdatasync of those, on average
    integrity: Integrity
    refused: int
    left_over: int
    broken: list[str]  # what breaks the expectation
    problems: list[str]
    invalid: list[str]
    raw_ratio: float | None = None  # in_per_second to the raw baseline of the same round
    floor_per_second: Spread | None = None  # the same load, a server that only commits
    floor_p50_ms: float | None = None
    floor_ratio: float | None = None  # in_per_second to that of the same round
    targets: list[Target] = []


class Report(msgspec.Struct):
    """Everything of one call of the tool."""

    environment: Environment
    baseline: Baseline | None
    scenarios: list[Figures]
    arguments: dict[str, str | int | float | bool]
    format: int = FORMAT

    @property
    def failed(self) -> bool:
        """Whether an expectation on messages was broken, or a run could not be carried out."""
        return any(each.broken for each in self.scenarios)


def add_floor(each: Figures, runs: Sequence[Run], floors: Sequence[Run]) -> None:
    """Compare with a server that only commits, round by round."""
    if not floors:
        return
    each.floor_per_second = spread([run.produce.per_second for run in floors])
    each.floor_p50_ms = latency([run.produce.latency for run in floors]).p50
    pairs = zip(runs, floors, strict=True)
    each.floor_ratio = median(
        run.produce.per_second / floor.produce.per_second
        for run, floor in pairs
        if floor.produce.messages
    )


def _each(phases: Sequence[Phase], what: str) -> float:
    """Microseconds for each message."""
    messages = sum(phase.messages for phase in phases)
    return 1e6 * sum(getattr(phase, what) for phase in phases) / messages if messages else 0.0


def figures(
    name: str, plan: Plan, runs: Sequence[Run], expect: str, memory_bytes: int = 0
) -> Figures:
    """Boil the rounds of a scenario down."""
    into, out = [run.produce for run in runs], [run.consume for run in runs]
    integrity = Integrity()
    for run in runs:
        integrity.add(run.integrity)
    commits = sum(run.commits for run in runs)
    left_over = sum(run.left_over for run in runs)
    broken = integrity.broken(expect)
    if left_over and plan.shape != "fill":
        broken.append(f"{left_over} left over in the queue")
    return Figures(
        name=name,
        plan=plan,
        rounds=len(runs),
        in_per_second=spread([phase.per_second for phase in into]),
        out_per_second=spread([phase.per_second for phase in out]),
        confirm_ms=latency([phase.latency for phase in into]),
        ack_ms=latency([phase.latency for phase in out]),
        delivery_ms=latency([run.delivery for run in runs]),
        lag_ms=latency([run.lag for run in runs]),
        server_cpu_in_us=_each(into, "server_cpu"),
        server_cpu_out_us=_each(out, "server_cpu"),
        load_cpu_in_us=_each(into, "load_cpu"),
        load_cpu_out_us=_each(out, "load_cpu"),
        server_memory_bytes=memory_bytes,
        commit_messages=sum(run.committed for run in runs) / commits if commits else 0.0,
        commit_sync_ms=1e3 * sum(run.sync_seconds for run in runs) / commits if commits else 0.0,
        integrity=integrity,
        refused=sum(run.refused for run in runs),
        left_over=left_over,
        broken=broken,
        problems=unique([text for run in runs for text in run.problems]),
        invalid=unique([text for run in runs for text in run.invalid]),
    )


_HEAD: Final = (
    *("scenario", "in/s", "min-max", "x raw", "x net", "out/s", "min-max"),
    *("p50 ms", "p99", "p99.9", "max", "us in", "us out", "batch", "lost", "dup", "bad"),
)


def _thousands(spread: Spread) -> tuple[str, str]:
    if not spread.max:
        return "-", "-"
    return f"{spread.median:,.0f}", f"{spread.min / 1000:,.1f}-{spread.max / 1000:,.1f}k"


def _row(each: Figures) -> tuple[str, ...]:
    shown = each.delivery_ms if each.delivery_ms.count else each.confirm_ms
    integrity = each.integrity
    return (
        each.name + (" !" if each.broken or each.problems or each.invalid else ""),
        *_thousands(each.in_per_second),
        *("-" if x is None else f"{x:.2f}" for x in (each.raw_ratio, each.floor_ratio)),
        *_thousands(each.out_per_second),
        *(f"{value:.2f}" for value in (shown.p50, shown.p99, shown.p999, shown.max)),
        f"{each.server_cpu_in_us:.1f}",
        f"{each.server_cpu_out_us:.1f}",
        f"{each.commit_messages:,.0f}" if each.plan.durability == "sync" else "-",
        str(integrity.lost),
        str(integrity.duplicate),
        str(integrity.corrupt),
    )


def _baseline_lines(baseline: Baseline) -> list[str]:
    lines = [
        f"disk: fdatasync of 4 KiB appended: p50 {baseline.sync_p50_ms:.2f} ms,"
        f" p99 {baseline.sync_p99_ms:.2f} ms, {baseline.sync_per_second:,.0f}/s",
    ]
    for each in (baseline.one, baseline.hundred, baseline.windows):
        clients = "1 client" if each.clients == 1 else f"{each.clients} clients"
        window = f", windows of {each.window}" if each.window > 1 else ""
        lines.append(
            f"raw group commit, {clients}{window}: {each.per_second:,.0f}/s,"
            f" p50 {each.p50_ms:.2f} ms, p99 {each.p99_ms:.2f} ms, {each.cpu_us:.1f} us of CPU each"
        )
    return lines


def text(report: Report) -> str:
    """The report for people."""
    machine = report.environment
    lines = [
        machine_line(machine),
        "braidmq " + machine.versions.get("braidmq", "") + " " + machine.commit,
        "",
    ]
    if report.baseline is not None:
        lines += [*_baseline_lines(report.baseline), ""]
    floors = [
        f"server that only commits, {each.name.partition(', ')[2] or each.name}:"
        f" {each.floor_per_second.median:,.0f}/s, p50 {each.floor_p50_ms or 0:.2f} ms"
        for each in report.scenarios
        if each.floor_per_second is not None
    ]
    if floors:
        lines += [*floors, ""]
    if report.scenarios:
        lines += [*aligned([_HEAD, *map(_row, report.scenarios)], 1), ""]
    lines += [
        "in: sent until confirmed; out: received until the acknowledgement is confirmed; medians.",
        "ms: send to confirmation; in e2e rows from when it was due to its delivery.",
        "us: CPU of the broker for a message; in face and core rows of the load too.",
        "x raw: to the raw group commit of as many clients; x net: to the commit-only server.",
        "batch: messages in one synced commit. bad: corrupt. !: more is said below.",
    ]
    targets = [(each.name, target) for each in report.scenarios for target in each.targets]
    if targets:
        rows = [("target", "wanted", "is", "")]
        rows += [
            (f"{name}: {t.text}", t.wanted, f"{t.value:.2f}", "yes" if t.met else "not yet")
            for name, t in targets
        ]
        lines += ["", *aligned(rows, 1)]
    for each in report.scenarios:
        for kind, texts in (
            ("BROKEN", each.broken),
            ("problem", each.problems),
            ("invalid", each.invalid),
        ):
            lines += [f"{kind}: {each.name}: {words}" for words in texts]
    return "\n".join(lines)

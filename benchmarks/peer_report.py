"""A table of systems beside each other: what the reports of STOMP and of streams have in common.

A ratio says how many times as quick ours is, round by round; of the valid rounds, if there are any.
"""

import os
import tempfile
from collections.abc import Sequence
from statistics import median
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from .baseline import disk_sync
from .environment import Environment
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

__all__ = [
    "Outcome",
    "PeerFigures",
    "PeerReport",
    "PeerRow",
    "Side",
    "common_figures",
    "ratio",
    "report_text",
    "sync_milliseconds",
]

_SYNC_SECONDS: Final = 0.5


class Side(Protocol):
    """What a load process found."""

    @property
    def seconds(self) -> float:
        """How long it measured."""

    @property
    def server_cpu(self) -> float:
        """Seconds of the broker within them."""

    @property
    def load_cpu(self) -> float:
        """Seconds of the load process within them."""

    @property
    def memory_bytes(self) -> int:
        """Of the broker at the end."""

    @property
    def lag(self) -> list[int]:
        """How late the load was for its schedule: a dumped histogram, ns."""

    @property
    def per_second(self) -> float:
        """The rate that is compared."""


class Outcome(Protocol):
    """One scenario, one system, one round."""

    @property
    def side(self) -> Side:
        """What was found."""

    @property
    def problems(self) -> list[str]:
        """What was lost or changed, or why there is nothing."""

    @property
    def invalid(self) -> list[str]:
        """Why the figure says more about the machine or the load than about the broker."""


class PeerFigures(msgspec.Struct, kw_only=True):
    """One scenario on one system."""

    system: str
    per_second: Spread
    lag_ms: Latency  # on a schedule: how late the load was
    broker_cpu: float  # of a core, the median; more than 1 on several cores
    load_cpu: float
    broker_us: float  # CPU of the broker for a message or record
    memory_bytes: int
    ours: Spread | None  # of a peer: how many times as quick braidmq was in the same round
    problems: list[str]
    invalid: list[str]


PlanT = TypeVar("PlanT", bound=msgspec.Struct)
FiguresT = TypeVar("FiguresT", bound=PeerFigures)
RowT = TypeVar("RowT", bound="PeerRow[Any, Any]")


class PeerRow(msgspec.Struct, Generic[PlanT, FiguresT]):
    """One scenario."""

    name: str
    plan: PlanT
    figures: list[FiguresT]

    @property
    def failed(self) -> bool:
        """Whether anything was lost or changed, or a run could not be carried out."""
        return any(each.problems for each in self.figures)


class PeerReport(msgspec.Struct, Generic[RowT]):
    """Everything of one call; ``format`` goes up when a field changes its meaning or goes away."""

    environment: Environment
    systems: dict[str, str]  # names and versions
    missing: list[str]  # systems that were left out, and why
    sync_p50_ms: float  # one fdatasync of 4 KiB appended
    cores: tuple[int, int]  # of the broker and of the load; -1: not kept on any
    rows: list[RowT]
    arguments: dict[str, str | int | float]
    format: int

    @property
    def failed(self) -> bool:
        """Whether any row did."""
        return any(row.failed for row in self.rows)


def sync_milliseconds(directory: str) -> float:
    """One fdatasync of 4 KiB appended, in the middle."""
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory) as own:
        return disk_sync(os.path.join(own, "sync"), _SYNC_SECONDS).quantile(0.5) / 1e6


def common_figures(system: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The fields of ``PeerFigures`` but for ``ours``, boiled down from the rounds of a system."""
    sides = [each.side for each in outcomes]
    rates = [side.per_second for side in sides]
    rate = median(rates)
    broker = median(side.server_cpu / side.seconds if side.seconds else 0.0 for side in sides)
    return {
        "system": system,
        "per_second": spread(rates),
        "lag_ms": latency([side.lag for side in sides]),
        "broker_cpu": broker,
        "load_cpu": median(side.load_cpu / side.seconds if side.seconds else 0.0 for side in sides),
        "broker_us": 1e6 * broker / rate if rate else 0.0,
        "memory_bytes": max(side.memory_bytes for side in sides),
        "problems": unique([text for each in outcomes for text in each.problems]),
        "invalid": unique([text for each in outcomes for text in each.invalid]),
    }


def ratio(ours: Sequence[Outcome], peers: Sequence[Sequence[Outcome]]) -> Spread | None:
    """Ours to the quickest of the peers, round by round; None without either."""
    if not ours or not peers:
        return None
    rounds = []
    for mine, *theirs in zip(ours, *peers, strict=False):
        best = max(each.side.per_second for each in theirs)
        is_valid = not any(each.invalid for each in (mine, *theirs))
        if best:
            rounds.append((is_valid, mine.side.per_second / best))
    return of_valid(rounds)


def report_text(
    report: PeerReport[Any],
    table: Sequence[Sequence[str]],
    notes: Sequence[str],
    unpinned: str,
    disk: str = "",
) -> str:
    """A report for people: the machine, the table, notes on its columns, and what went wrong.

    ``unpinned`` says where processes ran that were not kept on a core, ``disk`` more about a run.
    """
    versions = ", ".join(f"{name} {version}".strip() for name, version in report.systems.items())
    kept = (
        "broker on core {}, load on core {}".format(*report.cores)
        if report.cores[0] >= 0
        else unpinned
    )
    lines = [
        machine_line(report.environment),
        f"{versions}; commit {report.environment.commit or 'unknown'}; {kept}",
        f"disk: fdatasync of 4 KiB appended: p50 {report.sync_p50_ms:.2f} ms{disk}",
        *(f"left out: {words}" for words in report.missing),
        "",
        *aligned(table, 2),
        "",
        *notes,
        "!: more is said below.",
    ]
    for row in report.rows:
        for each in row.figures:
            lines += doubts(f"{row.name}, {each.system}", each.problems, each.invalid)
    return "\n".join(lines)

"""Whether a run is to be believed, and whether the broker kept its promise.

Invalid is what says more about the load, or about the machine, than about the broker: the reasons
are written into the result, and the figures stay. A problem is a promise that was broken, or
something that went wrong; then the exit status is 1.
"""

from typing import Final

import msgspec

from ..results.result import Run
from .task import Report

__all__ = ["Cores", "judge", "why_late"]

_LATE_MS: Final = 1.0  # p99 of how late the load may be for its own schedule
_BUSY: Final = 0.9  # of a core
_ROBBED: Final = 0.05  # of the broker's core, taken by others
_WAITING: Final = 0.8  # of a core: with less on both sides of a closed loop, neither is the limit
_TICKS_SECONDS_MIN: Final = 0.5  # cores are counted in hundredths of a second
_PROBLEMS_MAX: Final = 20


class Cores(msgspec.Struct, kw_only=True):
    """Who was kept where, and how busy the broker's core was."""

    is_pinned: bool = False
    load_cores: int = 0  # that all load processes share; 0: nobody knows
    broker_core_seconds: float = 0.0  # that it ran anybody
    is_known: bool = False  # whether the broker's CPU could be read


def judge(run: Run, reports: list[Report], expect: str, cores: Cores) -> None:
    """Write down what is wrong with a run."""
    for report in reports:
        run.problems += report.problems
        if report.refused:
            run.problems.append(f"{report.refused:,} messages were refused")
    found = run.integrity
    run.problems += [f"{words}, {found.sent:,} were sent" for words in found.broken(expect)]
    run.problems = list(dict.fromkeys(run.problems))[:_PROBLEMS_MAX]
    run.invalid += _doubts(run, cores)


def why_late(run: Run) -> str:
    """That the load was late for its own schedule; "" when it was not, or had none."""
    late = max((each.lag_p99_ms for each in run.generators), default=0.0)
    is_late = run.loop != "closed" and late > _LATE_MS
    return f"the load was {late:.2f} ms late for its schedule (p99)" if is_late else ""


def _doubts(run: Run, cores: Cores) -> list[str]:
    """Why the figures may not be the broker's."""
    doubts = [words] if (words := why_late(run)) else []
    if run.seconds <= 0 or not cores.is_known:
        return doubts
    server = run.server.cpu_seconds / run.seconds
    loads = [each.cpu_seconds / run.seconds for each in run.generators]
    load = max(loads, default=0.0)  # a process is one thread ...
    if cores.load_cores:  # ... and may share its core
        load = max(load, sum(loads) / cores.load_cores)
    if load > _BUSY and load > server:
        doubts.append(f"the load used {load:.0%} of a core, the broker {server:.0%}")
    others = cores.broker_core_seconds / run.seconds - server
    if cores.is_pinned and others > _ROBBED and run.seconds >= _TICKS_SECONDS_MIN:
        doubts.append(f"others used {others:.0%} of the core of the broker")
    is_idle = max(load, server + max(0.0, others)) < _WAITING
    if run.loop == "closed" and is_idle and not _waits_for_disk(run):
        doubts.append("nobody was busy: a larger window, or more clients, would get more")
    return doubts


def _waits_for_disk(run: Run) -> bool:
    """Whether the broker had to put something on disk, which takes time, but not of a core.

    That time is its own, and a window that lets it wait for the disk measures it as well.
    """
    return bool(run.knobs.get("durable")) and run.server.disk_bytes > 0

"""The STOMP table: what is run, round by round, against each system in turn.

A round runs a scenario against every system, in an order that changes with every round, so that a
machine that becomes slower favours nobody; a ratio compares figures of one round. Brokers and load
may use all cores, as anywhere else, unless each gets a core of its own (``apart``). The brokers
that are not measured are idle, and what they or anybody else use is counted.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from .histogram import Histogram
from .machine import cores
from .mqtt_scenarios import BUSY, LATE_MS
from .stomp_brokers import Running, started
from .stomp_load import StompLoadFailed, start
from .stomp_plan import StompPlan, StompSide

__all__ = ["TABLE", "StompOutcome", "StompScenario", "run_once", "run_rounds"]

_ROBBED: Final = 0.1  # of a core: then the rate is not what the broker can do


class StompScenario(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    plan: StompPlan


class StompOutcome(msgspec.Struct, kw_only=True):
    """One scenario, one system, one round."""

    system: str
    side: StompSide = msgspec.field(default_factory=StompSide)
    problems: list[str] = []
    invalid: list[str] = []  # why the figure says more about the machine than about the broker


def _scenario(name: str, **changes: Any) -> StompScenario:
    return StompScenario(name, StompPlan(**changes))


TABLE: Final = (
    *(
        _scenario(f"{words}, window {window:,}", pairs=pairs, window=window)
        for pairs, words in ((1, "1 pair"), (50, "50 pairs"))
        for window in (1, 100, 1_000)
    ),
    _scenario("50 pairs, one queue, window 100", pairs=50, shared=True),
    _scenario("latency 500/s", shape="paced"),
)
# What a broker carries before anything is measured, for compilers that learn.
_HEATING: Final = (StompPlan(), StompPlan(pairs=50, window=10))


def run_rounds(
    scenarios: Sequence[StompScenario],
    systems: Sequence[str],
    repeats: int,
    heat: float,
    apart: bool,
    directory: str,
    progress: Callable[[str], None],
) -> dict[str, dict[str, list[StompOutcome]]]:
    """All scenarios, ``repeats`` times: outcomes by scenario and system. Raises ServerFailed.

    ``heat``: seconds of load for each system before the first measurement.
    """
    broker_core, load_core = cores() if apart else (-1, -1)
    found: dict[str, dict[str, list[StompOutcome]]] = {
        each.name: {system: [] for system in systems} for each in scenarios
    }
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory or None) as own:
        progress(f"starting {', '.join(systems)}")
        with started(systems, own, broker_core) as running:
            _heat(running, heat, progress)
            for at, scenario in enumerate(scenarios):
                for number in range(repeats):
                    queue = f"bench-{at}-{number}"
                    plan = msgspec.structs.replace(scenario.plan, queue=queue, core=load_core)
                    for system in systems if number % 2 == 0 else reversed(systems):
                        progress(f"{scenario.name}: {system}, {number + 1} of {repeats}")
                        outcome = run_once(plan, system, running[system])
                        found[scenario.name][system].append(outcome)
    progress("")
    return found


def _heat(running: Mapping[str, Running], seconds: float, progress: Callable[[str], None]) -> None:
    """Put load on each; what goes wrong does so again when it is measured."""
    for system, where in running.items():
        for at, plan in enumerate(_HEATING if seconds else ()):
            progress(f"warming up {system}")
            share = seconds / len(_HEATING)
            plan = msgspec.structs.replace(plan, queue=f"heat-{at}", seconds=share, warmup=0.0)
            run_once(plan, system, where)


def run_once(plan: StompPlan, system: str, where: Running) -> StompOutcome:
    """One run against a broker that runs."""
    outcome = StompOutcome(system=system)
    plan = msgspec.structs.replace(
        plan, system=system, host=where.host, port=where.port, server_pid=where.pid
    )
    try:
        outcome.side = start(plan)
    except StompLoadFailed as error:
        outcome.problems.append(str(error))
    _judge(plan, outcome)
    return outcome


def _judge(plan: StompPlan, outcome: StompOutcome) -> None:
    """Say what went wrong, and what makes the figure worthless."""
    side = outcome.side
    for name in ("unconfirmed", "lost", "duplicate", "corrupt"):
        if count := getattr(side, name):
            outcome.problems.append(f"{count} {name} of {side.sent}")
    if not side.seconds:
        return
    broker, load = side.server_cpu / side.seconds, side.load_cpu / side.seconds
    others = side.busy / side.seconds - broker - load
    if others > _ROBBED:
        outcome.invalid.append(f"others used {others:.0%} of a core")
    if plan.shape == "stream" and load > BUSY > broker:
        outcome.invalid.append(f"the load used {load:.0%} of a core, the broker {broker:.0%}")
    if side.lag and (late := Histogram.load(side.lag).quantile(0.99) / 1e6) > LATE_MS:
        outcome.invalid.append(f"the load was {late:.2f} ms late for its schedule (p99)")

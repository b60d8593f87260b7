"""The tables of streams and of fan-out: what is run, round by round, against each system in turn.

A round runs a scenario against every system, in an order that changes with every round, so that a
machine that becomes slower favours nobody; a ratio compares two figures of one round. A broker has
the first core that this process may use, the load process the second; in process, both are on the
first.
"""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from .histogram import Histogram
from .machine import cores
from .mqtt_scenarios import BUSY, LATE_MS
from .stream_brokers import Running, missing, started
from .stream_load import StreamLoadFailed, start
from .stream_plan import IN_PROCESS, StreamPlan, StreamSide

__all__ = ["FANOUT", "STREAMS", "StreamOutcome", "StreamScenario", "run_once", "run_rounds"]

_ROBBED: Final = 0.05  # of the broker's core: then the rate is not what the broker can do


class StreamScenario(msgspec.Struct, frozen=True):
    """A row of a table."""

    name: str
    plan: StreamPlan


class StreamOutcome(msgspec.Struct, kw_only=True):
    """One scenario, one system, one round."""

    system: str
    side: StreamSide = msgspec.field(default_factory=StreamSide)
    problems: list[str] = []
    invalid: list[str] = []  # why the figure says more about the load than about the broker


def _scenario(name: str, **changes: Any) -> StreamScenario:
    return StreamScenario(name, StreamPlan(**changes))


# What is replayed is appended before, in any way: how durable it is makes no difference then.
_REPLAY: Final[dict[str, Any]] = {"shape": "replay", "durability": "os"}
_LARGE: Final[dict[str, Any]] = {"size": 1024, "records": 200_000}

STREAMS: Final = (
    _scenario("append 100 B x 500"),
    _scenario("append 100 B x 500, 10 producers", producers=10),
    _scenario("append 1 KiB x 500", size=1024),
    _scenario("append 1 KiB x 500, 10 producers", size=1024, producers=10),
    _scenario("append 100 B one by one, 100 producers", batch=1, producers=100),
    _scenario("replay 100 B", **_REPLAY),
    _scenario("replay 100 B, old", **_REPLAY, restarted=True),
    _scenario("replay 1 KiB", **_REPLAY, **_LARGE),
    _scenario("replay 1 KiB, old", **_REPLAY, **_LARGE, restarted=True),
    _scenario("tail 1,000/s", shape="tail"),
    _scenario("group of 4", shape="group", durability="os", shards=4),
)
FANOUT: Final = (
    _scenario("1 queue", shape="fanout", producers=10),
    _scenario("100 queues", shape="fanout", producers=10, targets=100),
    _scenario("10,000 queues", shape="fanout", targets=10_000),
)


def run_rounds(
    scenarios: Sequence[StreamScenario],
    systems: Sequence[str],
    repeats: int,
    directory: str,
    progress: Callable[[str], None],
) -> dict[str, dict[str, list[StreamOutcome]]]:
    """All scenarios, ``repeats`` times: outcomes by scenario and system. Raises ServerFailed.

    A system that cannot carry a scenario out is left out of it.
    """
    found: dict[str, dict[str, list[StreamOutcome]]] = {}
    for scenario in scenarios:
        able = [each for each in systems if not missing(_for(scenario.plan, each))]
        found[scenario.name] = {system: [] for system in able}
        for number in range(repeats):
            for system in able if number % 2 == 0 else reversed(able):
                progress(f"{scenario.name}: {system}, {number + 1} of {repeats}")
                outcome = run_once(_for(scenario.plan, system), directory)
                found[scenario.name][system].append(outcome)
    progress("")
    return found


def _for(plan: StreamPlan, system: str) -> StreamPlan:
    return msgspec.structs.replace(plan, system=system)


def run_once(plan: StreamPlan, directory: str = "") -> StreamOutcome:
    """One run against a broker of its own. Raises ServerFailed."""
    broker_core, load_core = cores()
    outcome = StreamOutcome(system=plan.system)
    core = broker_core if plan.system == IN_PROCESS else load_core
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory or None) as own:
        plan = msgspec.structs.replace(plan, directory=own, core=core, broker_core=broker_core)
        with started(plan, own, broker_core) as running:
            try:
                outcome.side = _measure(plan, running)
            except StreamLoadFailed as error:
                outcome.problems.append(str(error))
    _judge(plan, outcome)
    return outcome


def _measure(plan: StreamPlan, running: Running | None) -> StreamSide:
    if running is None:
        return start(plan)
    if plan.shape in ("replay", "group"):
        start(_at(plan, running), "preload")
        if plan.restarted:
            running.restart()
    return start(_at(plan, running))


def _at(plan: StreamPlan, running: Running) -> StreamPlan:
    return msgspec.structs.replace(
        plan, host=running.host, port=running.port, server_pid=running.pid
    )


def _judge(plan: StreamPlan, outcome: StreamOutcome) -> None:
    """Say what went wrong, and what makes the figure worthless."""
    side = outcome.side
    outcome.problems += side.problems
    for name in ("lost", "corrupt"):
        if count := getattr(side, name):
            outcome.problems.append(f"{count} {name}")
    if not side.seconds:
        return
    broker, load = side.server_cpu / side.seconds, side.load_cpu / side.seconds
    others = max(0.0, side.core_busy / side.seconds - broker)
    if plan.shape != "tail" and others > _ROBBED:
        outcome.invalid.append(f"others used {others:.0%} of the core of the broker")
    if plan.system != IN_PROCESS and load > BUSY > broker + others:
        outcome.invalid.append(f"the load used {load:.0%} of its core, the broker {broker:.0%}")
    if side.lag and (late := Histogram.load(side.lag).quantile(0.99) / 1e6) > LATE_MS:
        outcome.invalid.append(f"the load was {late:.2f} ms late for its schedule (p99)")

"""The table of scenarios, and how a scenario is run: round by round, each beside the baseline.

A machine is never equally quick for minutes, so the baseline is measured in every round, and a
ratio compares figures of the same round. Each native run gets a broker of its own, on an empty
directory, unless it is told to use one that runs.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import msgspec

from . import baseline, load
from .baseline import Baseline, GroupCommitFigures
from .floor import FloorProcess
from .meter import Plan, Run
from .peer import memory_bytes
from .report import Figures, Target, add_floor, figures
from .server import ServerProcess

__all__ = ["TABLE", "Scenario", "Settings", "run_rounds"]

_RAW_WANTED: Final = 0.5
_OVER_SYNC_MS_WANTED: Final = 0.5


class Scenario(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    plan: Plan
    raw: str = ""  # the part of the baseline it is compared with: one, hundred, windows
    wanted: bool = False  # has targets


class Settings(msgspec.Struct, kw_only=True):
    """What holds for all scenarios of a call."""

    directory: str = ""  # where data goes, "": the system's temporary directory
    url: str = ""  # a broker that runs already
    rounds: int = 3
    baseline_seconds: float = 0.7  # for each of its four parts, 0: none
    expect: str = "at-least-once"


def _plan(
    target: str, producers: int, batch: int, window: int, consumers: int, mode: str = "push"
) -> Plan:
    return Plan(
        target=target,
        producers=producers,
        batch=batch,
        window=window,
        consumers=consumers,
        mode=mode,
    )


def _with(plan: Plan, **changes: Any) -> Plan:
    return msgspec.structs.replace(plan, **changes)


# What `bench table` prints: target, producers, batch, window, consumers.
_ONE_EACH = _plan("native", 100, 1, 1, 10)
_WINDOWS = _plan("native", 50, 1, 20, 10)
_BATCHES = _plan("native", 50, 20, 1, 10)
_SINGLE = _plan("native", 1, 1, 1, 1)
_LARGE = _with(_plan("native", 8, 100, 2, 8), durability="memory")
_STEADY = _with(_plan("native", 10, 1, 100, 4), rate=5000, shape="together", credit=100)
_CORE_LARGE = _with(_plan("core", 8, 100, 1, 8), durability="memory")

TABLE: Final = (
    Scenario("native, 100 clients", _ONE_EACH, "hundred", True),
    Scenario("native, 50 x window 20", _WINDOWS, "windows", True),
    Scenario("native, 50 x batch 20", _BATCHES, "windows", True),
    Scenario("native, one by one", _SINGLE, "one", True),
    Scenario("native, 50 x batch 20, os", _with(_BATCHES, durability="os")),
    Scenario("native, batch 100, memory", _LARGE),
    Scenario("native, e2e at 5,000/s", _STEADY),
    Scenario("face, 100 tasks", _plan("face", 100, 1, 1, 4, "pull"), "hundred", True),
    Scenario("face, 50 x batch 20", _plan("face", 50, 20, 1, 4, "pull"), "windows", True),
    Scenario("face, one by one", _plan("face", 1, 1, 1, 1, "pull"), "one", True),
    Scenario("core, 100 clients", _plan("core", 100, 1, 1, 10), "hundred"),
    Scenario("core, 50 x window 20", _plan("core", 50, 1, 20, 10), "windows"),
    Scenario("core, batch 100, memory", _CORE_LARGE),
)


def run_rounds(
    scenarios: Sequence[Scenario], settings: Settings, progress: Callable[[str], None]
) -> tuple[Baseline | None, list[Figures]]:
    """Run them all, ``rounds`` times. Raises LoadFailed, ServerFailed."""
    baselines: list[Baseline] = []
    runs: dict[str, list[Run]] = {scenario.name: [] for scenario in scenarios}
    floors: dict[str, list[Run]] = {scenario.name: [] for scenario in scenarios}
    memory: dict[str, int] = {}
    for number in range(settings.rounds):
        step = f"round {number + 1} of {settings.rounds}: "
        if settings.baseline_seconds:
            progress(step + "baseline")
            baselines.append(_baseline(scenarios, settings))
        for scenario in scenarios:
            progress(step + scenario.name)
            if scenario.plan.target == "native" and scenario.raw and settings.baseline_seconds:
                floors[scenario.name].append(_floor(scenario, settings))
            run, rss = _run_once(scenario, settings)
            runs[scenario.name].append(run)
            memory[scenario.name] = max(rss, memory.get(scenario.name, 0))
    progress("")
    found = []
    for scenario in scenarios:
        name = scenario.name
        each = figures(name, scenario.plan, runs[name], settings.expect, memory[name])
        _compare(each, scenario, runs[name], baselines)
        add_floor(each, runs[name], floors[name])
        found.append(each)
    return _middle(baselines), found


def _baseline(scenarios: Sequence[Scenario], settings: Settings) -> Baseline:
    size = scenarios[0].plan.size if scenarios else Plan().size
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=settings.directory or None) as d:
        return baseline.start(d, settings.baseline_seconds, size)


def _floor(scenario: Scenario, settings: Settings) -> Run:
    """The same producers on a server that only commits."""
    plan = scenario.plan
    with tempfile.TemporaryDirectory(
        prefix="braidmq-bench-", dir=settings.directory or None
    ) as directory:
        with FloorProcess(os.path.join(directory, "floor"), plan.batch) as floor:
            changes = {"url": floor.url, "server_pid": floor.pid, "shape": "fill"}
            return load.start(_with(plan, **changes))


def _run_once(scenario: Scenario, settings: Settings) -> tuple[Run, int]:
    """One run, and the memory of the broker at its end."""
    plan = scenario.plan
    if plan.target == "native" and settings.url:
        return load.start(_with(plan, url=settings.url, queue=f"bench-{os.getpid()}")), 0
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=settings.directory or None)
        )
        if plan.target != "native":
            in_memory = plan.durability == "memory"
            path = "" if in_memory else os.path.join(directory, "data")
            return load.start(_with(plan, directory=path)), 0
        server = stack.enter_context(ServerProcess(directory))
        run = load.start(_with(plan, url=server.url, server_pid=server.pid))
        return run, memory_bytes(server.pid)


def _compare(
    each: Figures, scenario: Scenario, runs: Sequence[Run], baselines: Sequence[Baseline]
) -> None:
    """Add ratios and targets."""
    if not baselines or not scenario.raw:
        return
    raws: list[GroupCommitFigures] = [getattr(each, scenario.raw) for each in baselines]
    each.raw_ratio = median(
        run.produce.per_second / raw.per_second for run, raw in zip(runs, raws, strict=True)
    )
    if not scenario.wanted:
        return
    if scenario.raw == "one":
        over = each.confirm_ms.p50 - median(b.sync_p50_ms for b in baselines)
        text, wanted = "p50 over one fdatasync, ms", f"<= {_OVER_SYNC_MS_WANTED}"
        each.targets.append(Target(text, over, wanted, over <= _OVER_SYNC_MS_WANTED))
        return
    ratio = each.raw_ratio
    text, wanted = "in, to the raw group commit", f">= {_RAW_WANTED}"
    each.targets.append(Target(text, ratio, wanted, ratio >= _RAW_WANTED))
    rates = [(run.consume.per_second, run.produce.per_second) for run in runs]
    ratio = median(out / into for out, into in rates if into) if rates else 0.0
    each.targets.append(Target("out (with ack) to in", ratio, ">= 1", ratio >= 1))


def _middle(baselines: Sequence[Baseline]) -> Baseline | None:
    """The medians of what was measured in each round."""
    if not baselines:
        return None

    def middle(values: Sequence[msgspec.Struct]) -> dict[str, Any]:
        rows = [msgspec.structs.asdict(value) for value in values]
        return {
            name: type(value)(median(row[name] for row in rows))
            for name, value in rows[0].items()
            if isinstance(value, int | float)
        }

    whole = middle(baselines)
    for name in ("one", "hundred", "windows"):
        whole[name] = GroupCommitFigures(**middle([getattr(each, name) for each in baselines]))
    return Baseline(**whole)

"""Scenarios on systems: in which order they are run, and what is kept of it.

Rules:

1. All systems run a scenario before anybody runs it again, in an order that changes with each
   repeat: a machine that becomes slower favours nobody.
2. A run that could not be carried out is in the result, as a run with a problem.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from ..environment import describe
from ..machine import more_files
from ..peer import ServerFailed
from ..results.result import Result, Run, Second
from .brokers import Brokers
from .choosing import Choice
from .coordinator import Target, carry_out
from .crew import LoadFailed
from .knobs import measured_seconds
from .rates import parse_objective
from .saturation import Search, why_not_carried
from .scenario import Scenario, is_search, with_settings

__all__ = ["Settings", "Watcher", "measure"]

_TRIAL_SECONDS: Final = 2.0
_TRIALS: Final = 2  # a machine has hiccups: a rate is too high when it fails twice
_LAST_TRIALS: Final = 4  # whole runs at the rate that was found, each a tenth slower
_SLOWER: Final = 0.9


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all runs of a call."""

    directory: str = ""  # where data goes; "": the system's temporary directory
    are_pinned: bool = True
    are_kept: bool = False  # brokers: one of a kind for all runs
    server_pid: int = 0  # of the broker behind a URL
    tls_ca: str = ""  # of that broker, too
    command: tuple[str, ...] = ()


class Watcher(Protocol):
    """Who is told what happens."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """A run begins."""

    def second(self, second: Second) -> None:
        """A second of it is over."""

    def end(self) -> None:
        """It is over."""


def measure(
    runs: Sequence[tuple[Scenario, Sequence[Choice]]],
    settings: Settings,
    missing: dict[str, str],
    watcher: Watcher,
    keep: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Run everything; ``keep`` gets what is known after each run, so that nothing is lost."""
    more_files()
    result = Result(
        environment=describe(settings.directory or tempfile.gettempdir()),
        command=list(settings.command),
        seed=runs[0][0].knobs.seed if runs else 0,
        begun=datetime.now(UTC).isoformat(timespec="seconds"),
        systems=[],
        runs=[],
        missing=missing,
    )
    with Brokers(
        settings.directory,
        settings.are_pinned,
        settings.are_kept,
        settings.server_pid,
        settings.tls_ca,
    ) as brokers:
        result.systems = brokers.infos
        for scenario, some in runs:
            for repeat in range(scenario.knobs.repeats):
                for choice in _turned(some, repeat):
                    title = _title(scenario, choice, repeat)
                    watcher.begin(title, measured_seconds(scenario.knobs))
                    found = _attempt(scenario, choice, brokers, watcher)
                    watcher.end()
                    for run in found:
                        run.repeat = repeat
                    result.runs += found
                    keep(result)
    return result


def _title(scenario: Scenario, choice: Choice, repeat: int) -> str:
    title = f"{scenario.name}: {choice.system} {choice.scheme}"
    repeats = scenario.knobs.repeats
    return f"{title}, {repeat + 1} of {repeats}" if repeats > 1 else title


def _turned(some: Sequence[Choice], repeat: int) -> list[Choice]:
    """The order of a repeat: each begins once, and every other time it is the reverse."""
    if not some:
        return []
    start = (repeat // 2) % len(some)
    order = [*some[start:], *some[:start]]
    return order if repeat % 2 == 0 else order[::-1]


def _attempt(scenario: Scenario, choice: Choice, brokers: Brokers, watcher: Watcher) -> list[Run]:
    """Run it; a run with a problem when it cannot be carried out."""
    begun = time.monotonic()
    heat, usual = brokers.heat_seconds(scenario, choice.system), scenario.knobs.warmup_seconds
    hot = with_settings(scenario, {"warmup_seconds": heat}) if heat > usual else scenario
    try:
        with brokers.target(scenario, choice) as target:
            if is_search(scenario):
                runs = [_search(hot, target, watcher)]
            else:
                runs = carry_out(hot, target, watcher.second)
        for run in runs if hot is not scenario else ():
            run.knobs["warmup_seconds"] = usual  # what a system needs makes it no other case
        return runs
    except (LoadFailed, ServerFailed) as error:
        run = Run(
            scenario=scenario.name,
            system=choice.system,
            scheme=choice.scheme,
            repeat=0,
            knobs=msgspec.to_builtins(scenario.knobs),
            loop="open",
            seconds=0.0,
            problems=[f"{error} (after {time.monotonic() - begun:.1f} s)"],
        )
        return [run]


def _search(scenario: Scenario, target: Target, watcher: Watcher) -> Run:
    """The highest rate that is carried, as a whole run at that rate. Raises LoadFailed."""
    objective = parse_objective(scenario.knobs.slo)
    search = Search()
    trial_seconds = min(scenario.knobs.seconds, _TRIAL_SECONDS)
    while rate := search.next_rate():
        for _ in range(_TRIALS):
            run = _at(scenario, target, rate, trial_seconds, watcher)
            why = why_not_carried(run, rate, objective)
            if not why:
                break
        search.note(rate, not why)
    rate = search.carried or search.failed
    for _ in range(_LAST_TRIALS):
        run = _at(scenario, target, rate, scenario.knobs.seconds, watcher)
        why = why_not_carried(run, rate, objective)
        if not why:
            break
        rate *= _SLOWER
    run.loop = "saturation"
    run.knobs = msgspec.to_builtins(scenario.knobs)
    run.figures["highest_rate_per_second"] = 0.0 if why else rate
    run.figures["rates_tried"] = float(search.tried)
    if why:
        run.invalid.append(f"no rate was carried: {why}")
    return run


def _at(scenario: Scenario, target: Target, rate: float, seconds: float, watcher: Watcher) -> Run:
    """A run at a rate, with names of its own."""
    target.place = msgspec.structs.replace(target.place, token=secrets.token_hex(4))
    changed = with_settings(scenario, {"rate": f"{rate:.0f}", "seconds": seconds})
    [run] = carry_out(changed, target, watcher.second)
    return run

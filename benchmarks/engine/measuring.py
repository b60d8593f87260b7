"""Scenarios on systems: which can do what, in which order they are run, and what is kept of it.

Rules:

1. Each run gets a broker of its own, on an empty directory, unless a URL says which one to use.
2. All systems run a scenario before anybody runs it again, in an order that changes with each
   repeat: a machine that becomes slower favours nobody.
3. A run that could not be carried out is in the result, as a run with a problem.
4. With two cores or more the broker has the first one, the load the others, where that is wanted.
"""

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from ..drivers.registry import DRIVERS, driver_for
from ..environment import describe
from ..mqtt_load import more_files, pinned
from ..peer import ServerFailed
from ..results.result import Result, Run, Second, SystemInfo
from ..systems.registry import HEAT_SECONDS, LACKS, SYSTEMS
from .coordinator import Target, carry_out
from .crew import LoadFailed
from .planning import Place
from .rates import parse_objective
from .saturation import Search, why_not_carried
from .scenario import Scenario, is_search, with_settings, without

__all__ = ["OURS", "Choice", "Settings", "Watcher", "choices", "measure"]

OURS: Final = "braidmq"
_TRIAL_SECONDS: Final = 2.0
_TRIALS: Final = 2  # a machine has hiccups: a rate is too high when it fails twice
_LAST_TRIALS: Final = 4  # whole runs at the rate that was found, each a tenth slower
_SLOWER: Final = 0.9


class Choice(msgspec.Struct, frozen=True):
    """A system, and the protocol it is spoken with by; or a URL."""

    system: str
    scheme: str
    url: str = ""  # of a broker that runs already


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all runs of a call."""

    directory: str = ""  # where data goes; "": the system's temporary directory
    pin: bool = True
    server_pid: int = 0  # of the broker behind a URL
    command: tuple[str, ...] = ()


class Watcher(Protocol):
    """Who is told what happens."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """A run begins."""

    def second(self, second: Second) -> None:
        """A second of it is over."""

    def end(self) -> None:
        """It is over."""


def choices(
    scenario: Scenario, systems: Sequence[str] = (), url: str = "", is_every_protocol: bool = False
) -> tuple[list[Choice], dict[str, str]]:
    """What a scenario can be run on, and what is missing: not installed, or asked for in vain.

    Args:
        systems: names, with a protocol (``braidmq/mqtt``) or without; none: all of them.
        url: of a broker that runs; then nothing is started.
        is_every_protocol: without a protocol it is every one that can do it, else the first that
            the scenario names.

    Raises:
        ValueError: a system or a protocol that nobody knows.
    """
    if url:
        driver = driver_for(url)
        if lacking := without(scenario, driver):
            return [], {url: _lacks_words(lacking)}
        parts = urlsplit(url)
        return [Choice(f"{parts.hostname}:{parts.port}", parts.scheme, url)], {}
    found: list[Choice] = []
    missing: dict[str, str] = {}
    for text in systems or SYSTEMS:
        name, _, wanted = text.partition("/")
        if name not in SYSTEMS:
            raise ValueError(f"there is no system {name}; there are {', '.join(SYSTEMS)}")
        if why := SYSTEMS[name].why_not():
            missing[name] = why
            continue
        able, lacking = _schemes(scenario, name, wanted)
        if systems and not able:
            missing[text] = _lacks_words(lacking)
        found += [Choice(name, scheme) for scheme in (able if is_every_protocol else able[:1])]
    return found, missing


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
    for scenario, some in runs:
        for repeat in range(scenario.knobs.repeats):
            for choice in _turned(some, repeat):
                title = f"{scenario.name}: {choice.system} {choice.scheme}"
                if scenario.knobs.repeats > 1:
                    title += f", {repeat + 1} of {scenario.knobs.repeats}"
                watcher.begin(title, scenario.knobs.seconds)
                hot = _heated(scenario, choice)
                result.runs += _attempt(hot, choice, repeat, settings, result, watcher)
                watcher.end()
                keep(result)
    return result


def _heated(scenario: Scenario, choice: Choice) -> Scenario:
    """With as long a warm-up as the system needs."""
    heat = HEAT_SECONDS.get(choice.system, 0.0)
    if heat <= scenario.knobs.warmup_seconds:
        return scenario
    return with_settings(scenario, {"warmup_seconds": heat})


def _lacks_words(lacking: set[str]) -> str:
    return f"has no {', '.join(sorted(lacking))}" if lacking else "speaks none of the protocols"


def _schemes(scenario: Scenario, name: str, wanted: str) -> tuple[list[str], set[str]]:
    """The protocols by which a system can do it; else what it lacks by the last one looked at."""
    able: list[str] = []
    lacking: set[str] = set()
    known = {scheme: driver for driver in DRIVERS for scheme in driver.schemes}
    if wanted and wanted not in SYSTEMS[name].schemes:
        raise ValueError(f"{name} serves {', '.join(sorted(SYSTEMS[name].schemes))}, not {wanted}")
    for scheme in (wanted,) if wanted else scenario.protocols:
        if scheme not in SYSTEMS[name].schemes or scheme not in known:
            continue
        lacks = without(scenario, known[scheme], LACKS.get((name, scheme), frozenset()))
        if lacks:
            lacking = lacks
        else:
            able.append(scheme)
    return able, lacking


def _turned(some: Sequence[Choice], repeat: int) -> list[Choice]:
    """The order of a repeat: each begins once, and every other time it is the reverse."""
    if not some:
        return []
    start = (repeat // 2) % len(some)
    order = [*some[start:], *some[:start]]
    return order if repeat % 2 == 0 else order[::-1]


def _attempt(
    scenario: Scenario,
    choice: Choice,
    repeat: int,
    settings: Settings,
    result: Result,
    watcher: Watcher,
) -> list[Run]:
    """Run it; a run with a problem when it cannot be carried out."""
    begun = time.monotonic()
    try:
        with _target(scenario, choice, settings, result) as target:
            if is_search(scenario):
                runs = [_search(scenario, target, watcher)]
            else:
                runs = carry_out(scenario, target, watcher.second)
    except (LoadFailed, ServerFailed) as error:
        runs = [
            Run(
                scenario=scenario.name,
                system=choice.system,
                scheme=choice.scheme,
                repeat=repeat,
                knobs=msgspec.to_builtins(scenario.knobs),
                loop="open",
                seconds=0.0,
                problems=[f"{error} (after {time.monotonic() - begun:.1f} s)"],
            )
        ]
    for run in runs:
        run.repeat = repeat
    return runs


def _cores(is_wanted: bool) -> tuple[int, tuple[int, ...]]:
    """The core of the broker, and those of the load; -1 and none where nobody is kept anywhere."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], tuple(usable[1:])) if is_wanted and len(usable) > 1 else (-1, ())


@contextlib.contextmanager
def _target(
    scenario: Scenario, choice: Choice, settings: Settings, result: Result
) -> Iterator[Target]:
    """The broker of a run, which ends with it. Raises ServerFailed."""
    core, load_cores = _cores(settings.pin and not choice.url)
    token = secrets.token_hex(4)
    with contextlib.ExitStack() as stack:
        if choice.url:
            place = Place(url=choice.url, token=token)
            _note(result, SystemInfo(name=choice.system, version="", settings={"url": choice.url}))
            yield Target(system=choice.system, place=place, pid=settings.server_pid)
            return
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=settings.directory or None)
        )
        with pinned(core) as is_pinned:  # what is started inside inherits the core
            running = SYSTEMS[choice.system].start(stack, directory, scenario.knobs.durable)
        if not is_pinned:
            core, load_cores = -1, ()
        cores = f"core {core}, the load on {load_cores}" if core >= 0 else "any core"
        info = SystemInfo(name=running.name, version=running.version, settings=running.settings)
        info.settings = {**info.settings, "runs on": cores}
        _note(result, info)
        urls = running.tls_urls if scenario.knobs.tls else running.urls
        if choice.scheme not in urls:
            raise ServerFailed(f"{choice.system} does not serve {choice.scheme}")
        place = Place(
            url=urls[choice.scheme],
            token=token,
            tls_ca=running.tls_ca if scenario.knobs.tls else "",
            cores=load_cores,
        )
        with pinned(load_cores[0] if core >= 0 else -1):  # nor do we disturb the broker
            yield Target(
                system=choice.system,
                place=place,
                pid=running.pid,
                core=core,
                restart=running.restart,
            )


def _note(result: Result, info: SystemInfo) -> None:
    """Keep what was measured; once for each way in which it was set."""
    if info not in result.systems:
        result.systems.append(info)


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

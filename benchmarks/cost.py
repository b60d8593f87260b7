"""What one message costs our broker: CPU, system calls by name, instructions by library.

Rules:

1. Each case is carried out with two counts of messages; what the larger one cost more, for each
   message that it had more, is the cost. So what connecting, declaring and warming up cost is not
   in it.
2. The three are taken on brokers of their own: CPU as it is, system calls under strace,
   instructions under callgrind. Under those two the broker is slower, and so has more to do at
   once: where many clients wait, a system call serves more messages.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from .counting import Instructions, SystemCalls, callgrind_prefix
from .engine.coordinator import Target, carry_out
from .engine.crew import LoadFailed
from .engine.planning import Place
from .engine.scenario import Scenario, read_scenario
from .environment import Environment, describe
from .peer import cpu_seconds
from .server import ServerProcess
from .summary import aligned, machine_line

__all__ = ["Case", "Cost", "CostReport", "cases", "cost_report", "cost_text", "measure"]

_SMALL: Final = 0.25  # of the messages of the larger run
_CPU_TIMES: Final = 20  # as many messages where CPU is measured: the kernel counts 10 ms
_PATIENCE_SECONDS: Final = 120  # under callgrind even a first message takes long
_SCHEMES: Final = ("braid", "mqtt", "stomp")
_NAMES_MAX: Final = 5  # of system calls and libraries in a row of the table
_LISTEN: Final = tuple(
    word for scheme in _SCHEMES[1:] for word in ("--listen", f"{scheme}://127.0.0.1:0")
)

Say = Callable[[str], None]


class Case(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    scheme: str
    scenario: Scenario


class Cost(msgspec.Struct):
    """For each message."""

    name: str
    scheme: str
    cpu_us: float = 0.0
    system_calls: dict[str, float] = {}
    instructions: float = 0.0
    objects: dict[str, float] = {}  # instructions by library or program; {}: not counted


class CostReport(msgspec.Struct):
    """What ``--json`` writes."""

    environment: Environment
    messages: int
    costs: list[Cost]
    format: int = 1


def cases() -> Iterator[Case]:
    """The rows, as far as their protocols can do them."""
    alone = {"producers": 1, "consumers": 1, "closed": 1, "ack_batch": 1}
    pairs = {"producers": 50, "consumers": 50, "destinations": 50}
    shapes: Sequence[tuple[str, str, Mapping[str, Any]]] = (
        ("queue, one by one", "e2e", alone),
        ("queue, 50 pairs, window of 20", "e2e", {**pairs, "closed": 20}),
        ("queue, 50 pairs, batches of 20", "e2e", {**pairs, "closed": 20, "batch": 20}),
        ("topic to 10 subscribers", "fanout", {"consumers": 10, "closed": 20, "durable": True}),
        ("stream, one by one", "stream-append", {"producers": 1, "closed": 1, "batch": 1}),
        ("stream, 100 producers", "stream-append", {"producers": 100, "closed": 1, "batch": 1}),
        ("stream, batches of 500", "stream-append", {"producers": 1, "closed": 500, "batch": 500}),
    )
    for name, base, knobs in shapes:
        scenario = read_scenario(
            base, {"rate": "max", "patience_seconds": _PATIENCE_SECONDS, **knobs}
        )
        for scheme in _SCHEMES:
            if scheme in scenario.protocols and (scheme == "braid" or knobs.get("batch", 1) == 1):
                yield Case(name, scheme, scenario)


def measure(
    chosen: Sequence[Case], messages: int, directory: str, say: Say, instructions: bool = True
) -> list[Cost]:
    """Measure cases. Raises LoadFailed, ServerFailed, CountingFailed, OSError."""
    costs = [Cost(case.name, case.scheme) for case in chosen]
    observers = [_system_calls, _cpu]
    if instructions:
        observers.append(_instructions)
    for observer in observers:
        own = os.path.join(directory, observer.__name__)
        os.mkdir(own)
        prefix = callgrind_prefix(own) if observer is _instructions else ()
        with ServerProcess(own, _LISTEN, prefix) as server:
            for case, cost in zip(chosen, costs, strict=True):
                say(f"{observer.__name__.strip('_').replace('_', ' ')}: {case.name}, {case.scheme}")
                observer(cost, partial(_more, case, messages, server), server)
    return costs


# What observes carries out a small and a large run of the case each time it calls ``more`` with
# how to look at one of them, and gets what the larger one had more, for each message.
Look = Callable[[Callable[[], None]], Mapping[str, float]]
More = Callable[..., dict[str, float]]


def _system_calls(cost: Cost, more: More, server: ServerProcess) -> None:
    def look(load: Callable[[], None]) -> Mapping[str, float]:
        with SystemCalls(server.pid, server.directory) as calls:
            load()
        return calls.counts

    cost.system_calls = more(look)


def _instructions(cost: Cost, more: More, server: ServerProcess) -> None:
    def look(load: Callable[[], None]) -> Mapping[str, float]:
        with Instructions(server.pid, server.directory) as executed:
            load()
        return executed.objects

    cost.objects = more(look)
    cost.instructions = sum(cost.objects.values())


def _cpu(cost: Cost, more: More, server: ServerProcess) -> None:
    def look(load: Callable[[], None]) -> Mapping[str, float]:
        before = cpu_seconds(server.pid)
        load()
        return {"us": (cpu_seconds(server.pid) - before) * 1e6}

    cost.cpu_us = more(look, _CPU_TIMES).get("us", 0.0)


def _more(
    case: Case, messages: int, server: ServerProcess, look: Look, times: int = 1
) -> dict[str, float]:
    """For each message that a large run has more than a small one (rule 1), the most first."""
    urls: list[str] = json.loads(Path(server.directory, "ready.json").read_text())["urls"]
    url = next(url for url in urls if url.startswith(f"{case.scheme}://"))

    def load(count: int, word: str) -> None:
        place = Place(url=url, token=f"{word}{secrets.token_hex(4)}")
        _load(case, count, Target(system="braidmq", place=place))

    large = messages * times
    small = max(1, round(large * _SMALL))
    load(small, "warm")
    less = look(lambda: load(small, "small"))
    rates = {
        name: (value - less.get(name, 0)) / (large - small)
        for name, value in look(lambda: load(large, "large")).items()
    }
    return {name: rates[name] for name in sorted(rates, key=rates.__getitem__, reverse=True)}


def _load(case: Case, messages: int, target: Target) -> None:
    """Raises LoadFailed, also when a message was lost."""
    knobs = msgspec.structs.replace(case.scenario.knobs, messages=messages)
    for run in carry_out(msgspec.structs.replace(case.scenario, knobs=knobs), target):
        if run.problems:
            raise LoadFailed(f"{case.name}, {case.scheme}: {'; '.join(run.problems)}")


def cost_report(costs: list[Cost], messages: int, directory: str) -> CostReport:
    """What was found, and where."""
    return CostReport(describe(directory), messages, costs)


def cost_text(report: CostReport) -> str:
    """The report as a table, for people."""
    rows = [("case", "protocol", "CPU us", "calls", "instructions")]
    below = []
    for cost in report.costs:
        calls = sum(cost.system_calls.values())
        instructions = f"{cost.instructions:,.0f}" if cost.objects else "-"
        rows.append((cost.name, cost.scheme, f"{cost.cpu_us:.1f}", f"{calls:.1f}", instructions))
        some = list(cost.system_calls.items())[:_NAMES_MAX]
        below.append(f"{cost.name}, {cost.scheme}:")
        below.append("  calls: " + ", ".join(f"{name} {count:.2f}" for name, count in some))
        shares = list(cost.objects.items())[:_NAMES_MAX]
        words = [f"{name} {part / cost.instructions:.0%}" for name, part in shares]
        if words:
            below.append("  instructions: " + ", ".join(words))
    return "\n".join([machine_line(report.environment), "", *aligned(rows, 2), "", *below])

"""Everything that a scenario can set, with what each setting means, its default and its limits.

Rules:

1. ``HELP`` has a line for each knob: the documentation and ``bench knobs`` are made from it.
2. What people write is checked here and nowhere else; problems are told in plain words, all at
   once, an unknown knob with the nearest known one.
3. Texts are kept as they were written (``1k:30s,5k:30s``), so that a result shows what was asked.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from ..drivers.driver import Kind
from ..integrity import Expectation
from .quantities import parse_count, parse_number
from .rates import MAX, parse_objective, parse_rate
from .sizes import SIZE_MAX, draw_keys, draw_sizes
from .task import Arrivals, Step

__all__ = [
    "HELP",
    "Knobs",
    "KnobsWrong",
    "knob_problems",
    "knobs_from",
    "measured_seconds",
    "parse_setting",
    "steps_of",
    "unknown_names",
]


class KnobsWrong(ValueError):
    """What is wrong with settings, for people."""


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario's settings; ``HELP`` says what they mean."""

    kind: Kind = "queue"
    producers: int = 1
    consumers: int = 1
    connections: int = 0
    processes: int = 1
    destinations: int = 1
    wildcards: int = 0
    matching: int = 1
    groups: int = 0
    partitions: int = 1
    rate: str = MAX
    arrivals: Arrivals = "uniform"
    closed: int = 0
    inflight: int = 1_000
    seconds: float = 5.0
    warmup_seconds: float = 1.0
    patience_seconds: float = 10.0
    messages: int = 0
    backlog: int = 0
    size: str = "200"
    batch: int = 1
    keys: int = 0
    key_distribution: str = "uniform"
    prefetch: int = 1_000
    ack_batch: int = 0
    work_ms: float = 0.0
    slow_consumers: int = 0
    stop_seconds: float = 1.0
    reject_percent: float = 0.0
    delay_ms: int = 0
    qos: int = 1
    retain: bool = False
    durable: bool = True
    tls: bool = False
    kill_after_seconds: float = 0.0
    expect: Expectation = "at-least-once"
    slo: str = "p99=10ms"
    seed: int = 1
    repeats: int = 1


HELP: Final[dict[str, str]] = {
    "kind": "what messages go through: " + ", ".join(get_args(Kind)),
    "producers": "connections that publish; in request-reply, that ask",
    "consumers": "connections that receive; in request-reply, that answer",
    "connections": "that are opened and held, where the scenario is about that",
    "processes": "load processes for each role; clients are spread over them",
    "destinations": "how many queues, topics or streams; clients are spread over them",
    "wildcards": "filters with wildcards that all consumers together subscribe to; 0: exact names",
    "matching": "of these, how many match each message; each belongs to another consumer",
    "groups": "groups of consumers, each of which gets everything; 0: by the kind's nature",
    "partitions": "of each stream",
    "rate": "messages a second of all producers: a number, a ramp 1k:30s,5k:30s, or max",
    "arrivals": "when messages are due: uniform, or poisson (at random, as independent senders)",
    "closed": "a closed loop: so many unconfirmed messages of each producer, always; 0: open loop",
    "inflight": "unconfirmed messages that each producer may have before it has to wait",
    "seconds": "that are measured; a ramp brings its own",
    "warmup_seconds": "before that, at the same rate, not measured",
    "patience_seconds": "without any progress, after which what is missing counts as lost",
    "messages": "end after so many, without a warm-up; 0: when the time is over",
    "backlog": "messages that wait before anything is measured",
    "size": "bytes of a body: 200, uniform:100-2k, zipf:1.2:100-100k, file:PATH (a size a line)",
    "batch": "messages in a request, where the protocol has batches",
    "keys": "message groups of a FIFO queue, or keys that choose partitions; 0: none",
    "key_distribution": "uniform, or zipf:1.1: few keys are frequent",
    "prefetch": "messages a consumer may hold unacknowledged, or asks for at once",
    "ack_batch": "most acknowledgements in a request; 0: all that one read brought",
    "work_ms": "how long a consumer works on each message before it acknowledges it",
    "slow_consumers": "of the consumers, which stop reading for a while; latencies are the others'",
    "stop_seconds": "for which those read nothing",
    "reject_percent": "messages that consumers reject, again and again: they become dead letters",
    "delay_ms": "how long the broker holds each message back",
    "qos": "of MQTT: 0, 1, 2",
    "retain": "a topic keeps its last message",
    "durable": "a confirmation means that the message is on disk",
    "tls": "encrypted connections",
    "kill_after_seconds": "into the measurement the broker is killed, and started again; 0: never",
    "expect": "what has to hold, else the exit status is 1: " + ", ".join(get_args(Expectation)),
    "slo": "of rate = max: what latencies may be for a rate to count as carried",
    "seed": "of sizes, keys, arrivals and bodies",
    "repeats": "how often everything is run, systems in turn",
}

_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "producers": (0, 10_000),
    "consumers": (0, 10_000),
    "connections": (0, 1_000_000),
    "processes": (1, 64),
    "destinations": (1, 1_000_000),
    "wildcards": (0, 10_000_000),
    "matching": (0, 10_000),
    "groups": (0, 1_000),
    "partitions": (1, 1_024),
    "closed": (0, 100_000),
    "inflight": (1, 1_000_000),
    "seconds": (0.05, 7 * 86_400),
    "warmup_seconds": (0, 3_600),
    "patience_seconds": (0.1, 3_600),
    "messages": (0, 1_000_000_000),
    "backlog": (0, 100_000_000),
    "batch": (1, 10_000),
    "keys": (0, 1_000_000),
    "prefetch": (1, 65_535),
    "ack_batch": (0, 10_000),
    "work_ms": (0, 600_000),
    "slow_consumers": (0, 10_000),
    "stop_seconds": (0, 86_400),
    "reject_percent": (0, 100),
    "delay_ms": (0, 86_400_000),
    "qos": (0, 2),
    "kill_after_seconds": (0, 86_400),
    "seed": (0, 2**63 - 1),
    "repeats": (1, 1_000),
}
_TYPES: Final[dict[str, Any]] = get_type_hints(Knobs)
_CHOICES: Final = {
    name: get_args(hint) for name, hint in _TYPES.items() if get_origin(hint) is Literal
}


def knobs_from(settings: Mapping[str, Any], base: Knobs | None = None) -> Knobs:
    """``base`` with these settings, as a TOML file or ``--set`` gives them. Raises KnobsWrong."""
    problems = unknown_names(settings, _TYPES, "knob")
    values: dict[str, Any] = {}
    for name in settings:
        if name in _TYPES:
            try:
                values[name] = _value(name, settings[name])
            except ValueError as error:
                problems.append(f"{name}: {error}")
    knobs = msgspec.structs.replace(base or Knobs(), **values)
    problems += knob_problems(knobs)
    if problems:
        raise KnobsWrong("; ".join(problems))
    return knobs


def parse_setting(text: str) -> tuple[str, str]:
    """``name=value``. Raises KnobsWrong."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise KnobsWrong(f"{text!r} is not knob=value")
    return name.strip().replace("-", "_"), value.strip()


def steps_of(knobs: Knobs) -> list[Step]:
    """What the rate says; none for ``max``."""
    return parse_rate(knobs.rate, knobs.seconds)


def measured_seconds(knobs: Knobs) -> float:
    """How long the measurement lasts: a ramp brings its own time."""
    return sum(step.seconds for step in steps_of(knobs)) or knobs.seconds


def unknown_names(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """A line for each name that nobody knows, with the one that was probably meant."""
    wrong = []
    for name in names:
        if name not in known:
            near = get_close_matches(name, list(known), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            wrong.append(f"there is no {what} {name}{hint}")
    return wrong


def knob_problems(knobs: Knobs) -> list[str]:
    """What is wrong with them, for people."""
    wrong = []
    for name, choices in _CHOICES.items():
        if getattr(knobs, name) not in choices:
            wrong.append(f"{name} is one of {', '.join(choices)}")
    for name, (least, most) in _LIMITS.items():
        if not least <= getattr(knobs, name) <= most:
            wrong.append(f"{name} is between {least:,} and {most:,}")
    sizes = [0]
    try:
        sizes = draw_sizes(knobs.size, knobs.seed)
    except (ValueError, OSError) as error:
        wrong.append(f"size: {error}")
    for name, parse in (
        ("rate", lambda: steps_of(knobs)),
        ("slo", lambda: parse_objective(knobs.slo)),
        ("key_distribution", lambda: draw_keys(1, knobs.key_distribution, knobs.seed, 1)),
    ):
        try:
            parse()
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    return wrong or _contradictions(knobs, max(sizes))


def _contradictions(knobs: Knobs, size_max: int) -> list[str]:
    """Settings that do not go together."""
    wrong = []
    if knobs.batch * size_max > SIZE_MAX:
        wrong.append(f"batch times size is at most {SIZE_MAX:,} bytes")
    if knobs.closed and knobs.rate != MAX:
        wrong.append("closed and rate: a loop is closed, or it keeps to a rate")
    if knobs.processes > 1 and 0 < knobs.messages < knobs.producers:
        wrong.append("messages of several processes are at least one for each producer")
    if knobs.kind == "fifo" and not knobs.keys:
        wrong.append("a fifo queue needs keys")
    if knobs.wildcards and knobs.kind != "topic":
        wrong.append("wildcards are for topics")
    if knobs.wildcards and not knobs.consumers <= knobs.wildcards:
        wrong.append("each consumer needs a filter: wildcards is at least consumers")
    if knobs.wildcards and knobs.matching > knobs.consumers:
        wrong.append("matching is at most consumers")
    if _copies(knobs) > 1 and knobs.consumers % knobs.destinations:
        wrong.append("consumers is a multiple of destinations, or at most as many")
    if knobs.retain and knobs.kind != "topic":
        wrong.append("only topics retain messages")
    if knobs.kill_after_seconds >= measured_seconds(knobs):
        wrong.append("kill_after_seconds is less than what is measured")
    if knobs.slow_consumers > knobs.consumers:
        wrong.append("slow_consumers are some of the consumers, not more")
    if knobs.reject_percent and knobs.kind not in ("queue", "fifo"):
        wrong.append("only what a queue holds can be rejected")
    if knobs.groups > max(1, knobs.consumers):
        wrong.append("each group needs a consumer")
    if knobs.groups and knobs.kind in ("queue", "fifo"):
        wrong.append("consumers of a queue always share; groups are for topics and streams")
    return wrong


def _copies(knobs: Knobs) -> int:
    """How often each message is delivered, where each destination has consumers of its own."""
    if knobs.kind in ("queue", "fifo") or knobs.groups or knobs.wildcards:
        return 1
    return -(-knobs.consumers // knobs.destinations)


def _value(name: str, given: Any) -> Any:
    """A setting in the type of its knob. Raises ValueError."""
    wanted = _TYPES[name]
    if wanted is bool:
        if isinstance(given, bool):
            return given
        if str(given).lower() in ("true", "yes", "on", "1"):
            return True
        if str(given).lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError(f"{given!r} is neither true nor false")
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"{given!r} is not what this knob takes")
    if wanted is str or name in _CHOICES:
        return f"{given:g}" if isinstance(given, float) else str(given)
    return parse_count(str(given)) if wanted is int else parse_number(str(given))

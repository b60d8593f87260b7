"""Scenarios: TOML files with a name, a shape and knobs; ours, and those that people write.

::

    name = "e2e"
    description = "What a message takes from when it is due until a consumer has it."
    shape = "flow"
    protocols = ["braid", "stomp"]      # that can do it, the one to take by default first

    [knobs]
    rate = 1000

A shape says what happens when: see ``SHAPES``. ``parts`` of a mixed scenario name others, which
load the broker at the same time. A scenario needs what its knobs need: a driver without it, or a
system that lacks it, is left out.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ..drivers.driver import Driver
from .knobs import Knobs, KnobsWrong, knobs_from, unknown_names
from .rates import MAX

__all__ = [
    "NAMES",
    "SHAPES",
    "Scenario",
    "ScenarioWrong",
    "is_search",
    "needs",
    "read_scenario",
    "scenario_path",
    "with_settings",
    "without",
]

SHAPES: Final = {
    "publish": "producers alone; what they sent is read and checked when the measurement is over",
    "flow": "producers and consumers at the same time",
    "drain": "a backlog is filled first, then consumers read it; producers, if any, go on",
    "reply": "requesters ask, others answer",
    "connect": "connections are opened at a rate, and closed when they are greeted",
    "idle": "connections that are open and do nothing",
    "mixed": "several scenarios at the same time",
}

# In the order in which they are shown and run.
NAMES: Final = (
    *("pub", "sub", "e2e", "queue-work", "fifo-groups", "fanout", "fanin"),
    *("stream-append", "stream-tail", "stream-replay", "backlog", "request-reply"),
    *("connection-storm", "idle", "retained", "wildcards", "delay", "dead-letters"),
    *("slow-consumer", "restart", "soak", "mixed"),
)
_FOLDER: Final = Path(__file__).parent.parent / "scenarios"
_KEYS: Final = {"name", "description", "shape", "protocols", "knobs", "parts"}
_SIDES: Final = {  # least producers, consumers and connections of a shape
    "publish": (1, 0, 0),
    "flow": (1, 1, 0),
    "drain": (0, 1, 0),
    "reply": (1, 1, 0),
    "connect": (0, 0, 0),
    "idle": (0, 0, 1),
    "mixed": (0, 0, 0),
}

_PARTS: Final = ("publish", "flow", "reply")  # which are measured for the same time


class ScenarioWrong(ValueError):
    """What is wrong with a scenario, for people."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is run."""

    name: str
    description: str
    shape: str
    protocols: tuple[str, ...]
    knobs: Knobs = msgspec.field(default_factory=Knobs)
    parts: tuple["Scenario", ...] = ()  # of a mixed one


def scenario_path(name: str) -> Path:
    """The file of a scenario: one of ours, or a path. Raises ScenarioWrong."""
    if name in NAMES:
        return _FOLDER / f"{name}.toml"
    if name.endswith(".toml"):
        return Path(name)
    raise ScenarioWrong("; ".join(unknown_names([name], NAMES, "scenario")))


def read_scenario(name: str, settings: Mapping[str, Any] | None = None) -> Scenario:
    """A scenario by its name or path, with some knobs set otherwise. Raises ScenarioWrong."""
    return _read(name, settings or {}, is_part=False)


def _read(name: str, settings: Mapping[str, Any], is_part: bool) -> Scenario:
    path = scenario_path(name)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ScenarioWrong(f"{path}: {error}") from error
    try:
        if is_part and content.get("parts"):
            raise ScenarioWrong("a part has no parts itself")
        return with_settings(_scenario(content), settings)
    except ValueError as error:
        raise ScenarioWrong(f"{path.name}: {error}") from error


def with_settings(scenario: Scenario, settings: Mapping[str, Any]) -> Scenario:
    """The same with some knobs set otherwise, in all parts. Raises ScenarioWrong."""
    try:
        changed = msgspec.structs.replace(
            scenario,
            knobs=knobs_from(settings, scenario.knobs),
            parts=tuple(with_settings(part, settings) for part in scenario.parts),
        )
    except KnobsWrong as error:
        raise ScenarioWrong(str(error)) from error
    if wrong := _problems(changed):
        raise ScenarioWrong("; ".join(wrong))
    return changed


def is_search(scenario: Scenario) -> bool:
    """Whether the highest rate is asked for that can be carried."""
    knobs = scenario.knobs
    is_rated = scenario.shape in ("publish", "flow", "reply")
    return is_rated and knobs.rate == MAX and not knobs.closed and not knobs.messages


def needs(scenario: Scenario) -> set[str]:
    """The kinds and features that a driver has to have."""
    if scenario.parts:
        return set[str]().union(*map(needs, scenario.parts))
    knobs = scenario.knobs
    if scenario.shape in ("connect", "idle"):
        return {"tls"} if knobs.tls else set()
    wanted = {
        knobs.kind: True,
        "keys": knobs.kind == "fifo",
        "delay": knobs.delay_ms > 0,
        "reject": knobs.reject_percent > 0,
        "dead_letters": knobs.reject_percent > 0,
        "retain": knobs.retain,
        "wildcards": knobs.wildcards > 0,
        "groups": knobs.groups > 0,
        "tls": knobs.tls,
        "qos2": knobs.qos == 2,
        "confirms": scenario.shape == "publish" or bool(knobs.closed),
    }
    return {name for name, is_wanted in wanted.items() if is_wanted}


def without(scenario: Scenario, driver: Driver, lacks: frozenset[str] = frozenset()) -> set[str]:
    """What a driver, or the system behind it, does not have of what the scenario needs."""
    has = (driver.kinds | driver.features) - lacks
    return needs(scenario) - has


def _scenario(content: Mapping[str, Any]) -> Scenario:
    """Raises KnobsWrong, ScenarioWrong."""
    if wrong := unknown_names(content, _KEYS, "setting"):
        raise ScenarioWrong("; ".join(wrong))
    texts = {key: content.get(key, "") for key in ("name", "description", "shape")}
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ScenarioWrong(f"it needs a {key}")
    if texts["shape"] not in SHAPES:
        raise ScenarioWrong(f"shape is one of {', '.join(SHAPES)}")
    for key in ("protocols", "parts"):
        names = content.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ScenarioWrong(f"{key} is a list of names")
    if not isinstance(content.get("knobs", {}), dict):
        raise ScenarioWrong("knobs is a table")
    return Scenario(
        **texts,
        protocols=tuple(content.get("protocols", [])),
        knobs=knobs_from(content.get("knobs", {})),
        parts=tuple(_read(part, {}, is_part=True) for part in content.get("parts", [])),
    )


def _problems(scenario: Scenario) -> list[str]:
    """What the shape asks of the knobs."""
    knobs, wrong = scenario.knobs, []
    names = ("producers", "consumers", "connections")
    for name, least in zip(names, _SIDES[scenario.shape], strict=True):
        if getattr(knobs, name) < least:
            wrong.append(f"a {scenario.shape} scenario needs {name}")
    if not scenario.protocols:
        wrong.append("it needs protocols")
    if scenario.shape == "drain" and not knobs.backlog:
        wrong.append("a drain scenario needs a backlog")
    if scenario.shape == "drain" and knobs.retain and knobs.backlog != knobs.destinations:
        wrong.append("of retained messages there is one for each topic: backlog is destinations")
    if scenario.shape in ("connect", "idle") and knobs.rate == MAX:
        wrong.append("connections are opened at a rate")
    if scenario.shape == "reply" and knobs.kind == "topic" and knobs.destinations < knobs.consumers:
        wrong.append("each of those who answer needs a topic: destinations is at least consumers")
    if scenario.shape == "drain" and knobs.producers and knobs.rate == MAX and not knobs.closed:
        wrong.append("producers that go on need a rate, or a closed loop")
    if is_search(scenario) and knobs.kill_after_seconds:
        wrong.append("a broker that is killed carries no rate: kill_after_seconds needs a rate")
    if (scenario.shape == "mixed") != bool(scenario.parts):
        wrong.append("a mixed scenario needs parts, and no other has any")
    if any(is_search(part) for part in scenario.parts):
        wrong.append("a part of a mixed scenario needs a rate, or a closed loop")
    if wrong_parts := [part.name for part in scenario.parts if part.shape not in _PARTS]:
        wrong.append(f"{', '.join(wrong_parts)}: parts are of shapes {', '.join(_PARTS)}")
    return wrong

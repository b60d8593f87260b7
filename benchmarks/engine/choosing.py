"""Which systems can do a scenario, by which protocols; and what is missing, with the reason."""

from collections.abc import Container, Sequence
from urllib.parse import urlsplit

import msgspec

from ..drivers.registry import driver_for, driver_of
from ..systems.registry import LACKS, SYSTEMS
from .scenario import Scenario, without

__all__ = ["Choice", "choices"]


class Choice(msgspec.Struct, frozen=True):
    """A system, and the protocol it is spoken with by; or a URL."""

    system: str
    scheme: str
    url: str = ""  # of a broker that runs already


def choices(
    scenario: Scenario,
    systems: Sequence[str] = (),
    url: str = "",
    every_protocol_of: Container[str] = (),
) -> tuple[list[Choice], dict[str, str]]:
    """What a scenario can be run on, and what is missing: not installed, or asked for in vain.

    Args:
        systems: names, with a protocol (``braidmq/mqtt``) or without; none: all of them.
        url: of a broker that runs; then nothing is started.
        every_protocol_of: systems that, named without a protocol, are spoken with by every one
            that can do it; others by the first that the scenario names.

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
        wanted_schemes = able if name in every_protocol_of else able[:1]
        found += [Choice(name, scheme) for scheme in wanted_schemes]
    return found, missing


def _lacks_words(lacking: set[str]) -> str:
    return f"has no {', '.join(sorted(lacking))}" if lacking else "speaks none of the protocols"


def _schemes(scenario: Scenario, name: str, wanted: str) -> tuple[list[str], set[str]]:
    """The protocols by which a system can do it; else what it lacks by the last one looked at."""
    able: list[str] = []
    lacking: set[str] = set()
    if wanted and wanted not in SYSTEMS[name].schemes:
        raise ValueError(f"{name} serves {', '.join(sorted(SYSTEMS[name].schemes))}, not {wanted}")
    for scheme in (wanted,) if wanted else scenario.protocols:
        if scheme not in SYSTEMS[name].schemes:
            continue
        lacks = without(scenario, driver_of(scheme), LACKS.get((name, scheme), frozenset()))
        if lacks:
            lacking = lacks
        else:
            able.append(scheme)
    return able, lacking

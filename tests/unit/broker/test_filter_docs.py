"""docs/filters.md tells the truth: its examples are read, and asked."""

import json
import re
from pathlib import Path

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.filter_policy import FilterPolicy, Scope
from braidmq.broker.filter_terms import OPERATORS
from braidmq.broker.selectors import Selector

TEXT = (Path(__file__).resolve().parents[3] / "docs/filters.md").read_text()
JSON_BLOCKS = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)


def table(first_cell: str) -> list[list[str]]:
    """The rows below the head that begins so, as cells."""
    lines = TEXT[TEXT.index(f"| {first_cell} |") :].splitlines()
    rows = [line.strip("|").split(" | ") for line in lines[2 : lines.index("")]]
    assert len(rows) > 5 and all(len(row) == 3 for row in rows)
    return rows


def values(cell: str) -> list[object]:
    """What stands in the cell as code and is JSON."""
    found = []
    for code in re.findall(r"`([^`]+)`", cell):
        try:
            found.append(json.loads(code))
        except ValueError:
            pass
    return found


TERMS = table("term")
SELECTORS = table("condition")


@pytest.mark.parametrize("row", TERMS, ids=str)
def test_terms_are_fulfilled_as_told(row: list[str]) -> None:
    terms, fulfilling, others = map(values, row)
    policy = FilterPolicy({"k": terms}, Scope.BODY)
    assert [value for value in fulfilling if not policy.matches_body({"k": value})] == []
    assert [value for value in others if policy.matches_body({"k": value})] == []


def test_every_operator_is_told() -> None:
    told = {
        name for row in TERMS for term in values(row[0]) if isinstance(term, dict) for name in term
    }
    assert told == OPERATORS


def headers(cell: str) -> list[dict[str, str]]:
    """The headers that the cell names: each alone, or together if several names do."""
    pairs = re.findall(r"`([a-z]+): ([^`]+)`", cell)
    if len({name for name, _ in pairs}) > 1:
        return [dict(pairs)]
    return [{name: value} for name, value in pairs]


@pytest.mark.parametrize("row", [row for row in SELECTORS if "`" in row[1]], ids=str)
def test_selectors_select_as_told(row: list[str]) -> None:
    selector = Selector.parse(re.findall(r"`([^`]+)`", row[0])[0])
    assert all(selector.matches(each) for each in headers(row[1]))
    assert not any(selector.matches(each) for each in headers(row[2]))
    if row[2].startswith("no "):
        assert not selector.matches({})


def test_the_policies_of_the_page_are_policies() -> None:
    assert len(JSON_BLOCKS) == 3
    for block in JSON_BLOCKS:
        FilterPolicy(block, Scope.BODY, strict=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Selector.parse("region = "),
        lambda: FilterPolicy('{"detail":{"total":[{"numeric":[">",3,"<",1]}]}}', Scope.BODY),
        lambda: FilterPolicy('{"detail": }'),
    ],
)
def test_errors_read_as_told(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert str(caught.value) in " ".join(TEXT.split())

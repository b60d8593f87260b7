"""Filter policies against an independent reading of the same rules: slow, naive, with `re`."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.filter_policy import (
    FilterPolicy,
    Scope,
    attribute_texts,
    decode_body,
)

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: object, other: object) -> bool:
    if is_number(one) and is_number(other):
        return f"{one:.5f}" == f"{other:.5f}"
    return type(one) is type(other) and one == other


def listed(operand: object) -> list[Any]:
    return operand if isinstance(operand, list) else [operand]


def numeric(operand: list[Any], value: float) -> bool:
    answers = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
    for operator, limit in zip(operand[::2], operand[1::2], strict=True):
        order = "=" if same(value, limit) else "<" if value < limit else ">"
        if order not in answers[operator]:
            return False
    return True


def within(network: str, text: str) -> bool:
    try:
        return ip_address(text) in ip_network(network, strict=False)
    except ValueError:
        return False


def holds(term: object, value: object) -> bool:
    """Whether one value fulfils one term; `exists` and `anything-but` are not asked here."""
    if not isinstance(term, dict):
        return same(term, value)
    [(operator, operand)] = term.items()
    if operator == "numeric":
        return is_number(value) and numeric(operand, value)  # type: ignore[arg-type]
    if not isinstance(value, str):
        return False
    if operator == "wildcard":
        parts = re.findall(r"\\.|[^\\]", operand, re.DOTALL)
        pattern = "".join(".*" if part == "*" else re.escape(part[-1]) for part in parts)
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    tests: dict[str, Callable[[], bool]] = {
        "prefix": lambda: value[: len(operand)] == operand,
        "suffix": lambda: value[max(0, len(value) - len(operand)) :] == operand,
        "equals-ignore-case": lambda: value.casefold() == operand.casefold(),
        "cidr": lambda: within(operand, value),
    }
    return tests[operator]()


def holds_of_any(term: object, values: list[list[object]]) -> bool:
    """Each value is the list of what it reads as."""
    if isinstance(term, dict) and "exists" in term:
        there = any(reading not in (None, "") for readings in values for reading in readings)
        return there is term["exists"]
    if not isinstance(term, dict) or "anything-but" not in term:
        return any(holds(term, reading) for readings in values for reading in readings)
    operand = term["anything-but"]
    if isinstance(operand, dict):
        [(operator, inner)] = operand.items()
        excluded: list[object] = [{operator: each} for each in listed(inner)]
    else:
        excluded = listed(operand)
    return any(
        readings != [None]
        and not any(holds(each, reading) for each in excluded for reading in readings)
        for readings in values
    )


def readings_of_header(value: str | bytes | None) -> list[list[object]]:
    if not isinstance(value, str):
        return []
    if value.startswith("["):
        try:
            return [[element] for element in json.loads(value)]
        except ValueError:
            pass
    readings: list[object] = [value]
    if NUMBER.fullmatch(value):
        readings.append(float(value))
    if value.lower() in ("true", "false"):
        readings.append(value.lower() == "true")
    return [readings]


def flat(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for element in value:
            yield from flat(element)
    else:
        yield value


def at(document: Mapping[str, Any], name: str) -> Iterator[object]:
    if name in document:
        yield from flat(document[name])
    for place, letter in enumerate(name):
        if letter == ".":
            for below in flat(document.get(name[:place])):
                if isinstance(below, dict):
                    yield from at(below, name[place + 1 :])


def texts_at(document: Any, path: tuple[str, ...]) -> list[object]:
    """The texts that an index finds at a path of a body."""
    found = [document]
    for name in path:
        objects = [each for each in flat(found) if isinstance(each, dict)]
        found = [each[name] for each in objects if name in each]
    return [each for each in flat(found) if isinstance(each, str)]


def fulfils(policy: Mapping[str, Any], source: Mapping[str, Any], scope: Scope) -> bool:
    for name, value in policy.items():
        if name == "$or":
            if not any(fulfils(branch, source, scope) for branch in value):
                return False
        elif isinstance(value, dict):
            found = [each for each in at(source, name) if isinstance(each, dict)] or [{}]
            if not any(fulfils(value, each, scope) for each in found):
                return False
        else:
            if scope is Scope.ATTRIBUTES:
                values = readings_of_header(source.get(name))
            else:
                values = [[each] for each in at(source, name) if not isinstance(each, dict)]
            if not any(holds_of_any(term, values) for term in value):
                return False
    return True


# --- what is drawn

TEXTS = st.sampled_from(
    ["", "a", "ab", "b", "AB", "ß", "5", "1e0", "true", "10.0.0.7", "::1", "a*"]
)
NUMBERS = st.sampled_from([0, 1, 5, -3, 1.5, 0.1, 100000.00001, 5.0])
SCALARS = TEXTS | NUMBERS | st.none() | st.booleans()
NAMES = st.sampled_from(["a", "b", "c", "a.b", "b.c"])
PATTERNS = st.sampled_from(["*", "a*", "*b", "a*b", "a\\*", "5"])


def one(operator: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({operator: operand})


RANGES = st.tuples(st.sampled_from([">", ">="]), st.just(0), st.sampled_from(["<", "<="]), NUMBERS)
NEGATED = st.one_of(
    SCALARS,
    st.lists(SCALARS, min_size=1, max_size=3),
    one("prefix", TEXTS | st.lists(TEXTS, min_size=1, max_size=2)),
    one("suffix", TEXTS),
    one("equals-ignore-case", TEXTS),
    one("wildcard", PATTERNS),
)
TERMS = st.one_of(
    SCALARS,
    one("prefix", TEXTS),
    one("suffix", TEXTS),
    one("equals-ignore-case", TEXTS),
    one("wildcard", PATTERNS),
    one("cidr", st.sampled_from(["10.0.0.0/24", "0.0.0.0/0", "::/64", "10.0.0.7/32"])),
    one("exists", st.booleans()),
    one("anything-but", NEGATED),
    one("numeric", st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS).map(list)),
    one("numeric", RANGES.filter(lambda range: range[1] < range[3]).map(list)),
)
ARRAYS = st.lists(TERMS, min_size=1, max_size=3)
CHOICES = st.lists(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=2), min_size=2, max_size=3)


def with_choice(keys: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return keys | st.tuples(keys, CHOICES).map(lambda both: {**both[0], "$or": both[1]})


FLAT = with_choice(st.dictionaries(NAMES, ARRAYS, max_size=3))
DEEP = with_choice(
    st.dictionaries(
        NAMES,
        st.recursive(
            ARRAYS,
            lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=2),
            max_leaves=3,
        ),
        max_size=3,
    )
)
ARRAY_TEXTS = st.lists(SCALARS, max_size=3).map(json.dumps)
HEADERS = st.dictionaries(
    NAMES, TEXTS | NUMBERS.map(str) | ARRAY_TEXTS | st.sampled_from(["[", b"a", b""])
)
VALUES = st.recursive(
    SCALARS | st.sampled_from([5.000001, 4.99999, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


@given(FLAT, HEADERS)
@settings(max_examples=400)
def test_attributes_fulfil_a_policy_as_the_rules_say(
    policy: dict[str, Any], headers: dict[str, str | bytes]
) -> None:
    compiled = FilterPolicy(policy)
    answer = compiled.matches(headers, b"")
    assert answer is fulfils(policy, headers, Scope.ATTRIBUTES)
    assert FilterPolicy(compiled.document).matches(headers, b"") is answer
    keys = compiled.index_keys()
    if answer and keys is not None:
        texts = {name: attribute_texts(value) for name, value in headers.items()}
        assert any(text in texts.get(name, ()) for (name,), text in keys)


@given(DEEP, DOCUMENTS)
@settings(max_examples=400)
def test_a_body_fulfils_a_policy_as_the_rules_say(
    policy: dict[str, Any], document: dict[str, Any]
) -> None:
    compiled = FilterPolicy(policy, Scope.BODY)
    decoded = decode_body(json.dumps(document).encode())
    assert decoded == document
    answer = compiled.matches_body(decoded)
    assert answer is fulfils(policy, document, Scope.BODY)
    assert FilterPolicy(compiled.document, Scope.BODY).matches_body(decoded) is answer
    keys = compiled.index_keys()
    if answer and keys is not None:
        assert any(text in texts_at(document, path) for path, text in keys)

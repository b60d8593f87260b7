"""Filter policies against the matcher of moto, which is what many test their SNS code with.

Where the two differ, the case stands in a table here with the reason. moto was written for tests
that pass; its matcher knows fewer operators, raises on values of an unexpected kind, and has its
own idea of arrays.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.sns.exceptions import SNSInvalidParameter
from moto.sns.models import SNSBackend
from moto.sns.utils import FilterPolicyMatcher

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.filter_policy import FilterPolicy, Scope

Attributes = dict[str, tuple[str, str]]  # data type and value, by name


def moto_on_attributes(policy: dict[str, Any], attributes: Attributes) -> bool | str:
    """Its answer, or the name of the error that it raises."""
    given = {name: {"Type": kind, "Value": value} for name, (kind, value) in attributes.items()}
    return _moto(FilterPolicyMatcher(policy, "MessageAttributes"), given, "")


def moto_on_body(policy: dict[str, Any], body: object) -> bool | str:
    return _moto(FilterPolicyMatcher(policy, "MessageBody"), {}, json.dumps(body))


def _moto(matcher: FilterPolicyMatcher, attributes: Any, message: str) -> bool | str:
    try:
        return matcher.matches(attributes, message)
    except (AttributeError, TypeError, ValueError) as error:
        return type(error).__name__


def ours_on_attributes(policy: dict[str, Any], attributes: Attributes) -> bool:
    types = {name: kind for name, (kind, _) in attributes.items()}
    headers = {name: value for name, (_, value) in attributes.items()}
    return FilterPolicy(policy).matches_attributes(headers, types)


def ours_on_body(policy: dict[str, Any], body: object) -> bool:
    return FilterPolicy(policy, Scope.BODY).matches({}, json.dumps(body).encode())


# --- where we agree: terms and values that moto knows how to put together

TEXTS = st.sampled_from(["", "a", "ab", "b", "ba", "é"])
NUMBERS = st.sampled_from([0, 1, -5, 1.5, 100, 99.99, 10**9])


def one(operator: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({operator: operand})


ORDERS = st.sampled_from(["=", "<", "<=", ">", ">="])
TEXT_TERMS = st.one_of(
    TEXTS,
    one("prefix", TEXTS),
    one("suffix", TEXTS),
    one("equals-ignore-case", TEXTS),
    one("anything-but", TEXTS | st.lists(TEXTS, min_size=1, max_size=2)),
    one("anything-but", one("prefix", TEXTS)),
)
NUMBER_TERMS = st.one_of(
    NUMBERS,
    one("numeric", st.tuples(ORDERS, NUMBERS).map(list)),
    one("numeric", st.tuples(st.just(">"), st.just(0), st.just("<="), st.just(100)).map(list)),
    one("anything-but", st.lists(NUMBERS, min_size=1, max_size=2)),
)


def arrays(terms: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    exists = st.booleans().map(lambda wanted: [{"exists": wanted}])
    return st.lists(terms, min_size=1, max_size=3) | exists


KEYS = {"t": arrays(TEXT_TERMS), "n": arrays(NUMBER_TERMS), "l": arrays(TEXTS)}
POLICIES = st.fixed_dictionaries({}, optional=KEYS)
BRANCHES = POLICIES.filter(bool)
CHOICES = st.lists(BRANCHES, min_size=2, max_size=2).map(lambda branches: {"$or": branches})
VALUES = {"t": TEXTS.filter(bool), "n": NUMBERS, "l": st.lists(TEXTS, min_size=1, max_size=2)}
MESSAGES = st.fixed_dictionaries({}, optional=VALUES)
KINDS = {"t": "String", "n": "Number", "l": "String.Array"}


def as_attributes(message: dict[str, Any]) -> Attributes:
    return {
        name: (KINDS[name], value if isinstance(value, str) else json.dumps(value))
        for name, value in message.items()
        if value != [""]  # which is no value for us
    }


@given(st.tuples(POLICIES, POLICIES | CHOICES).map(lambda both: {**both[0], **both[1]}), MESSAGES)
@settings(max_examples=300)
def test_we_agree_on_attributes(policy: dict[str, Any], message: dict[str, Any]) -> None:
    attributes = as_attributes(message)
    assert ours_on_attributes(policy, attributes) is moto_on_attributes(policy, attributes)


@given(POLICIES, POLICIES.filter(bool), MESSAGES, MESSAGES)
@settings(max_examples=300)
def test_we_agree_on_bodies(
    policy: dict[str, Any], below: dict[str, Any], message: dict[str, Any], inner: dict[str, Any]
) -> None:
    for each in (message, inner):
        if each.get("l") == [""]:
            del each["l"]
    policy, body = {**policy, "o": below}, {**message, "o": inner}
    assert ours_on_body(policy, body) is moto_on_body(policy, body)


# --- where we differ: why, policy, message, what moto answers or raises, what we answer

GUIDE = "the guide of SNS says otherwise"
ATTRIBUTES: list[tuple[str, dict[str, Any], Attributes, bool | str, bool]] = [
    (
        "gives up at the first term that a missing attribute cannot fulfil",
        {"a": ["x", {"exists": False}]},
        {"b": ("String", "x")},
        False,
        True,
    ),
    ("takes true for 1", {"a": [True]}, {"a": ("Number", "1")}, True, False),
    ("takes 1 for true", {"a": [True]}, {"a": ("String.Array", "[1]")}, True, False),
    ("knows no null", {"a": [None]}, {"a": ("String.Array", "[null]")}, False, True),
    (
        "folds only the message",
        {"a": [{"equals-ignore-case": "X"}]},
        {"a": ("String", "X")},
        False,
        True,
    ),
    (
        f"one element that is not listed is enough: {GUIDE}",
        {"a": [{"anything-but": ["x"]}]},
        {"a": ("String.Array", '["x", "y"]')},
        False,
        True,
    ),
    (
        "splits the text of an array into letters",
        {"a": [{"anything-but": ["x"]}]},
        {"a": ("String.Array", '["xy"]')},
        False,
        True,
    ),
    (
        "cannot exclude one number",
        {"a": [{"anything-but": 5}]},
        {"a": ("Number", "6")},
        "TypeError",
        True,
    ),
    (
        "knows anything-but with prefix only",
        {"a": [{"anything-but": {"suffix": "x"}}]},
        {"a": ("String", "y")},
        False,
        True,
    ),
    (
        "looks for prefixes in no array",
        {"a": [{"prefix": "x"}]},
        {"a": ("String.Array", '["xy"]')},
        False,
        True,
    ),
    (
        "compares no numbers of an array",
        {"a": [{"numeric": [">", 1]}]},
        {"a": ("String.Array", "[2]")},
        False,
        True,
    ),
    ("knows no cidr", {"a": [{"cidr": "10.0.0.0/8"}]}, {"a": ("String", "10.0.0.1")}, False, True),
    ("takes a number for a text", {"a": ["5"]}, {"a": ("Number", "5")}, True, False),
    ("reads a text as an array", {"a": ["x"]}, {"a": ("String", '["x"]')}, True, False),
    ("finds a text in a text", {"a": ["x"]}, {"a": ("String", '"axb"')}, True, False),
    (
        "cannot read x as a number",
        {"a": [5]},
        {"a": ("String.Array", '["x"]')},
        "ValueError",
        False,
    ),
    ("compares six decimals", {"a": [1.5]}, {"a": ("Number", "1.500001")}, False, True),
    ("binary exists", {"a": [{"exists": True}]}, {"a": ("Binary", "x")}, True, False),
    ("no value exists", {"a": [{"exists": True}]}, {"a": ("String.Array", "[]")}, True, False),
]

RECORDS = {"r": [{"a": "x", "b": "y"}, {"a": "z", "b": "w"}]}
BODIES: list[tuple[str, dict[str, Any], object, bool | str, bool]] = [
    (
        "$or works in attributes only",
        {"$or": [{"a": ["x"]}, {"b": ["y"]}]},
        {"a": "x"},
        "TypeError",
        True,
    ),
    ("what is missing has no exists", {"a": {"b": [{"exists": False}]}}, {"c": 1}, False, True),
    (f"null exists: {GUIDE}", {"a": [{"exists": True}]}, {"a": None}, True, False),
    (f"an object exists: {GUIDE}", {"a": [{"exists": True}]}, {"a": {"b": 1}}, True, False),
    ("cannot compare a text", {"a": [{"numeric": [">", 1]}]}, {"a": "x"}, "TypeError", False),
    (
        "looks for prefixes in no list",
        {"a": [{"prefix": "x"}]},
        {"a": ["x"]},
        "AttributeError",
        True,
    ),
    ("takes true for a number", {"a": [{"numeric": [">", 0]}]}, {"a": True}, True, False),
    ("takes true for 1", {"a": [1]}, {"a": True}, True, False),
    ("reads a text as an array", {"a": ["x"]}, {"a": '["x"]'}, True, False),
    (
        "all elements must be others",
        {"a": [{"anything-but": ["x"]}]},
        {"a": ["x", "y"]},
        False,
        True,
    ),
    ("lists in lists", {"a": ["x"]}, {"a": [["x"]]}, False, True),
    ("keys with dots", {"a.b": ["x"]}, {"a": {"b": "x"}}, False, True),
    ("a body is an object, not an array", {"a": ["x"]}, [{"a": "x"}], True, False),
    ("each key in another element", {"r": {"a": ["x"], "b": ["w"]}}, RECORDS, True, False),
]


@pytest.mark.parametrize(("why", "policy", "attributes", "moto", "ours"), ATTRIBUTES, ids=str)
def test_we_differ_on_attributes_for_a_reason(
    why: str, policy: dict[str, Any], attributes: Attributes, moto: bool | str, ours: bool
) -> None:
    """When one of these fails because moto was mended, it can go."""
    assert moto_on_attributes(policy, attributes) == moto != ours
    assert ours_on_attributes(policy, attributes) is ours


@pytest.mark.parametrize(("why", "policy", "body", "moto", "ours"), BODIES, ids=str)
def test_we_differ_on_bodies_for_a_reason(
    why: str, policy: dict[str, Any], body: object, moto: bool | str, ours: bool
) -> None:
    """When one of these fails because moto was mended, it can go."""
    assert moto_on_body(policy, body) == moto != ours
    assert ours_on_body(policy, body) is ours


# --- what is refused: policy, whether moto does, whether we do, strict as SNS

X = [f"x{number}" for number in range(151)]
REFUSALS: list[tuple[Scope, dict[str, Any], bool, bool]] = [
    (Scope.ATTRIBUTES, {"a": "x"}, True, True),
    (Scope.ATTRIBUTES, {"a": [["x"]]}, True, True),
    (Scope.ATTRIBUTES, {"a": {"b": ["x"]}}, True, True),
    (Scope.ATTRIBUTES, {"a": [{"regex": "x"}]}, True, True),
    (Scope.ATTRIBUTES, {"a": [{"exists": None}]}, True, True),
    (Scope.ATTRIBUTES, {"a": [{"numeric": ["=", "1"]}]}, True, True),
    (Scope.ATTRIBUTES, {"a": [{"numeric": [">", 3, "<", 1]}]}, True, True),
    (Scope.ATTRIBUTES, {"a": [{"numeric": [">=", 1, ">", 2]}]}, True, True),
    (Scope.ATTRIBUTES, {name: ["x"] for name in "abcdef"}, True, True),
    (Scope.ATTRIBUTES, {name: ["x"] for name in "abcde"}, False, False),
    (Scope.ATTRIBUTES, {"a": X}, True, True),
    (Scope.ATTRIBUTES, {"a": X[:150]}, False, False),
    (Scope.ATTRIBUTES, {"a": X[:51], "b": X[:3]}, True, True),
    (Scope.BODY, {"a": {"b": {"c": X[:4]}}, "d": {"e": X[:3]}, "f": X[:3]}, True, True),
    (Scope.BODY, {"a": {"b": {"c": X[:4]}}, "d": {"e": X[:3]}}, False, False),
    # moto counts $or as a level and multiplies its branches; SNS adds them up, and we do.
    (Scope.ATTRIBUTES, {"$or": [{"a": X[:10]}, {"b": X[:10]}]}, True, False),
    # moto does not look into these, SNS does.
    (Scope.ATTRIBUTES, {"a": [{"prefix": 5}]}, False, True),
    (Scope.ATTRIBUTES, {"a": [{"prefix": "x", "suffix": "y"}]}, False, True),
    (Scope.ATTRIBUTES, {"a": [{"anything-but": {"suffix": "x"}}]}, False, True),
    (Scope.ATTRIBUTES, {"a": [{"numeric": [">", 1, "<", 2, "<", 3]}]}, False, True),
    # moto fails to know it.
    (Scope.ATTRIBUTES, {"a": [{"cidr": "10.0.0.0/8"}]}, True, False),
]


@pytest.mark.parametrize(("scope", "policy", "moto", "ours"), REFUSALS, ids=str)
def test_policies_are_refused(scope: Scope, policy: Any, moto: bool, ours: bool) -> None:
    validate = SNSBackend("eu-west-1", "123456789012")._validate_filter_policy
    if moto:
        with pytest.raises(SNSInvalidParameter):
            validate(policy, scope.value)
    else:
        validate(policy, scope.value)
    if ours:
        with pytest.raises(InvalidArgument):
            FilterPolicy(policy, scope, strict=True)
    else:
        FilterPolicy(policy, scope, strict=True)

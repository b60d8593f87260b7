"""Conditions are found by what a message has: all that match, and few that do not."""

from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.binding_index import BindingIndex
from braidmq.broker.filter_policy import FilterPolicy, Scope
from braidmq.broker.selectors import Selector

NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["x", "y", '["x","z"]', "1"])
TERMS = st.lists(st.sampled_from(["x", "y", 1, {"prefix": "x"}]), min_size=1, max_size=2)
KEYS = st.dictionaries(NAMES, TERMS, min_size=1, max_size=2)
NESTED = st.dictionaries(NAMES, st.one_of(TERMS, KEYS), min_size=1, max_size=2)
HEADERS = st.dictionaries(NAMES, st.one_of(TEXTS, st.just(b"x")), max_size=3)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(0, 2), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def index_of(*conditions) -> BindingIndex:
    index: BindingIndex = BindingIndex()
    for condition in conditions:
        index.add(condition, condition.index_keys())
    return index


@given(st.lists(KEYS, max_size=5), HEADERS)
def test_all_policies_that_headers_fulfil_are_found(policies, headers):
    conditions = [FilterPolicy(policy) for policy in policies]
    found = index_of(*conditions).by_headers(headers)
    assert len(found) == len(set(map(id, found)))
    assert {c for c in conditions if c.matches_attributes(headers)} <= set(found)


@given(st.lists(NESTED, max_size=5), st.dictionaries(NAMES, VALUES, max_size=3))
def test_all_policies_that_a_body_fulfils_are_found(policies, document):
    conditions = [FilterPolicy(policy, Scope.BODY) for policy in policies]
    found = index_of(*conditions).by_body(document)
    assert len(found) == len(set(map(id, found)))
    assert {c for c in conditions if c.matches_body(document)} <= set(found)


def test_what_has_other_texts_is_not_found():
    red, blue = (Selector.parse(f"colour = '{c}' AND size > 5") for c in ("red", "blue"))
    either = Selector.parse("colour IN ('red', 'blue')")
    index = index_of(red, blue, either)
    assert set(index.by_headers({"colour": "red"})) == {red, either}
    assert set(index.by_headers({"colour": '["blue","red"]'})) == {red, blue, either}
    assert index.by_headers({"colour": b"red", "size": "7"}) == []
    assert index.by_headers({}) == []


def test_what_has_no_keys_is_always_found():
    any_size = Selector.parse("size > 5")
    index = index_of(any_size)
    assert index.by_headers({}) == index.by_headers({"a": "b"}) == [any_size]
    assert index.by_body({}) == [any_size]


def test_one_of_ten_thousand_is_found_alone():
    index: BindingIndex = BindingIndex()
    for number in range(10_000):
        index.add(number, frozenset([(("kind",), f"k{number}")]))
    assert index.by_headers({"other": "x", "kind": "k77"}) == [77]
    assert index.by_body({"other": "x", "kind": ["k77", "k"]}) == [77]


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=12), HEADERS)
def test_what_is_taken_out_leaves_nothing(steps, headers):
    index: BindingIndex = BindingIndex()
    there: list[FilterPolicy] = []
    for add, policy in steps:
        if add or not there:
            there.append(FilterPolicy(policy))
            index.add(there[-1], there[-1].index_keys())
        else:
            index.remove(there.pop(0))
    assert len(index) == len(there)
    assert set(index.by_headers(headers)) == set(index_of(*there).by_headers(headers))
    for each in there:
        index.remove(each)
    assert len(index) == 0 and not index._root.below and not index._always

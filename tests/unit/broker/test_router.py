"""Filters and their subscribers: what matches, what a match costs, and that nothing is left."""

from itertools import product
from sys import getsizeof

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.router import FilterTree, MatchCache
from tests.filters import FILTERS, TOPICS, matches_by_pattern

KEY = st.integers(0, 3)
CHANGES = st.lists(st.tuples(st.booleans(), FILTERS, KEY), max_size=40)


def is_new(tree: FilterTree) -> bool:
    """Whether nothing at all is left in a tree."""
    root = tree._root
    return (
        root.is_empty()
        and root.children is None
        and not tree._exact
        and not tree._shapes
        and len(tree) == 0
    )


def changed(changes) -> tuple[FilterTree[int, int], dict[tuple[str, int], int]]:
    """A tree and its model after some changes, each of which is compared."""
    tree: FilterTree[int, int] = FilterTree()
    model: dict[tuple[str, int], int] = {}
    for value, (adding, filter, key) in enumerate(changes):
        version = tree.version
        if adding:
            before = (len(tree._shapes), tree.new_shapes(filter))
            assert tree.add(filter, key, value) == model.get((filter, key))
            assert tree.shapes == sum(before)
            model[filter, key] = value
            assert tree.version > version
        else:
            was = model.pop((filter, key), None)
            assert tree.remove(filter, key) == was
            assert (tree.version > version) == (was is not None)
        assert len(tree) == len(model)
    return tree, model


@settings(max_examples=300)
@given(CHANGES, st.lists(TOPICS, min_size=1, max_size=8))
def test_tree_matches_what_the_standard_says(changes, topics):
    tree, model = changed(changes)
    for topic in topics:
        expected = [
            value for (filter, _), value in model.items() if matches_by_pattern(filter, topic)
        ]
        assert sorted(tree.match(topic)) == sorted(expected)


@given(CHANGES)
def test_tree_can_be_listed(changes):
    tree, model = changed(changes)
    listed = list(tree.filters())
    assert sorted(listed) == sorted({filter for filter, _ in model})
    for filter in [*listed, "none", "none/+", "+/none/#"]:
        expected = {key: value for (other, key), value in model.items() if other == filter}
        assert dict(tree.subscribers(filter)) == expected


@given(CHANGES)
def test_nothing_is_left_when_all_have_gone(changes):
    tree, model = changed(changes)
    for filter, key in model:
        tree.remove(filter, key)
    assert is_new(tree)


@given(CHANGES, CHANGES)
def test_listing_goes_on_while_the_tree_changes(first, second):
    tree, model = changed(first)
    there_all_the_while = {filter for filter, _ in model}
    listed = []
    names = tree.filters()
    for adding, filter, key in second:
        if adding:
            tree.add(filter, key, 0)
            model[filter, key] = 0
        else:
            tree.remove(filter, key)
            model.pop((filter, key), None)
        there_all_the_while &= {filter for filter, _ in model}
        listed += [name for name in [next(names, None)] if name is not None]
    listed += names
    assert there_all_the_while <= set(listed)
    assert all(listed.count(filter) == 1 for filter in there_all_the_while)


def test_filter_that_goes_before_it_is_listed():
    tree: FilterTree[int, int] = FilterTree()
    for filter in ("#", "a/+", "b/+"):
        tree.add(filter, 1, 1)
    names = tree.filters()
    assert next(names) == "#"
    tree.remove("a/+", 1)
    assert list(names) == ["b/+"]


def test_many_subscribers_of_one_filter():
    for filter in ("a/b", "a/+", "a/#", "#", "#/b", "#/b/#"):
        tree: FilterTree[int, int] = FilterTree()
        for key in range(10_000):
            assert tree.add(filter, key, -key) is None
        assert sorted(tree.match("a/b")) == list(range(-9_999, 1))
        assert tree.subscribers(filter)[77] == -77
        for key in range(9_999):
            assert tree.remove(filter, key) == -key
        assert tree.match("a/b") == [-9_999]
        assert tree.remove(filter, 0) is None
        assert tree.remove(filter, 9_999) == -9_999
        assert is_new(tree)


def test_churn_of_many_filters_leaves_nothing():
    tree: FilterTree[int, int] = FilterTree()
    filters = [
        pattern.format(number)
        for number in range(2_000)
        for pattern in ("{}/a", "{}/+/b", "+/{}/#", "{}/#", "x/+/y/{}", "#/{}/b", "#/{}/#/b")
    ]
    for _ in range(2):
        for filter in filters:
            tree.add(filter, 1, 1)
        assert len(tree) == len(filters)
        assert len(tree.match("7/7/b")) == 5
        for filter in filters:
            assert tree.remove(filter, 1) == 1
        assert is_new(tree)


def test_room_of_what_has_gone_is_given_back():
    tree: FilterTree[int, int] = FilterTree()
    for number in range(5_000):
        for filter in (f"a/{number}", f"{number}/#", "a/+", "b"):
            tree.add(filter, number, number)
    for number in range(4_990):
        for filter in (f"a/{number}", f"{number}/#", "a/+", "b"):
            tree.remove(filter, number)
    a = tree._root.children["a"] if tree._root.children else None
    assert a and a.plus
    for table in (tree._exact, tree._root.children, a.plus.here, tree._exact["b"]):
        assert table and 10 <= len(table) <= 11 and getsizeof(table) < 6_000


class Counted(dict):
    """The children of a node, counting the lookups."""

    looked_at = 0

    def __contains__(self, level):
        Counted.looked_at += 1
        return super().__contains__(level)


def count_lookups(tree: FilterTree) -> None:
    nodes = [tree._root]
    while nodes:
        node = nodes.pop()
        nodes += (node.children or {}).values()
        nodes += [wildcard for wildcard in (node.plus, node.many) if wildcard]
        node.children = Counted(node.children or {})
    Counted.looked_at = 0


def test_a_match_looks_at_no_more_nodes_than_there_are_shapes():
    tree: FilterTree[str, int] = FilterTree()
    depth = 9
    for levels in product("a+", repeat=depth):
        tree.add("/".join(levels) + "/#", "k", 1)
    assert tree.shapes == 2 ** (depth + 1) - 2
    count_lookups(tree)
    assert len(tree.match("/".join("a" * 30))) == 2**depth
    assert Counted.looked_at <= tree.shapes + 1  # the root


def test_a_match_does_not_cost_more_when_there_are_more_subscriptions():
    tree: FilterTree[int, int] = FilterTree()
    for number in range(5_000):
        tree.add(f"site/{number}/+/temp", number, number)
        tree.add(f"+/{number}/#", number, number)
        tree.add(f"site/{number}/a/temp", number, number)
    assert tree.shapes == 6
    count_lookups(tree)
    assert len(tree.match("site/17/a/temp")) == 3
    assert Counted.looked_at <= 6
    count_lookups(tree)
    assert tree.match("else/99999/a/temp") == []
    assert Counted.looked_at <= 3


def test_a_match_looks_at_those_with_many_levels_once_for_each_level():
    tree: FilterTree[int, int] = FilterTree()
    for number in range(5_000):
        tree.add(f"site/{number}/#/temp/+/{number}", number, number)
        tree.add(f"#/{number}/max", number, number)
        tree.add(f"{number}/#/a/#/{number}", number, number)
    assert tree.shapes == 2 + 4 + 3 + 4
    count_lookups(tree)
    assert tree.match("site/17/a/b/temp/c/17") == [17]
    assert Counted.looked_at <= 2 + 7 * tree.shapes
    count_lookups(tree)
    assert tree.match("17/x/a/y/17") == [17]
    assert Counted.looked_at <= 5 * tree.shapes


@settings(max_examples=300)
@given(CHANGES, TOPICS)
def test_a_match_looks_at_one_node_of_a_shape_at_each_level(changes, topic):
    tree, _ = changed(changes)
    count_lookups(tree)
    tree.match(topic)
    assert Counted.looked_at <= 1 + tree.shapes * (topic.count("/") + 1)


def test_levels_between_two_hashes_are_spelled_in_a_shape():
    tree: FilterTree[int, int] = FilterTree()
    for letter in "abc":
        tree.add(f"{letter}/#/{letter}", 1, 1)
    assert tree.shapes == 3
    for letter in "abc":
        assert tree.new_shapes(f"{letter}/#/{letter}/#/x") == 2
        tree.add(f"{letter}/#/{letter}/#/x", 1, 1)
    assert tree.shapes == 3 + 3 * 2
    assert tree.new_shapes("other/#/a/#/y") == 0


def test_many_hashes_take_no_more_than_their_share_of_time():
    tree: FilterTree[int, int] = FilterTree()
    tree.add("#/a/#/a/#/a/#/b", 1, 1)
    assert tree.shapes == 8
    for size in (30, 300, 3_000):
        count_lookups(tree)
        assert tree.match("/".join("a" * size)) == []
        assert Counted.looked_at <= 8 * size + 1
        assert tree.match("/".join("a" * size + "b")) == [1]
    assert tree.match("a/a/b") == []
    tree.add("#/a/#/a/#", 1, 2)
    assert tree.match("/".join("a" * 30)) == [2]


def test_shapes_are_known_before_they_are_added():
    tree: FilterTree[int, int] = FilterTree()
    new = {filter: tree.new_shapes(filter) for filter in ("a", "#", "+", "a/+", "+/#", "+/", "/#")}
    assert new == {"a": 0, "#": 0, "+": 1, "a/+": 2, "+/#": 1, "+/": 2, "/#": 1}
    assert tree.new_shapes("#/a") == 2 and tree.new_shapes("a/#/b/#") == 3
    tree.add("x/+/#", 1, 1)
    assert tree.shapes == 2
    assert tree.new_shapes("y/+") == 0  # another filter of a shape that is there
    assert tree.new_shapes("+/y") == 2
    tree.add("y/+", 1, 1)
    tree.remove("x/+/#", 1)
    assert tree.shapes == 2
    tree.remove("y/+", 1)
    assert tree.shapes == 0


def test_deep_names_need_no_recursion():
    tree: FilterTree[int, int] = FilterTree()
    depth = 5_000
    tree.add("+/" * depth + "#", 1, 1)
    tree.add("a/" * depth + "+", 1, 2)
    assert sorted(tree.match("a/" * depth + "b")) == [1, 2]
    assert sum(1 for _ in tree.filters()) == 2
    tree.remove("+/" * depth + "#", 1)
    tree.remove("a/" * depth + "+", 1)
    assert is_new(tree)


@pytest.mark.parametrize("filter", ["a/b", "a/+", "a/#", "#", "#/b", "a/#/b/#"])
def test_what_is_not_there_cannot_be_removed(filter):
    tree: FilterTree[int, int] = FilterTree()
    assert tree.remove(filter, 1) is None
    tree.add(filter, 1, 1)
    assert tree.remove(filter, 2) is None
    assert tree.remove("a/b/c/+", 1) is None
    assert len(tree) == 1 and tree.version == 1


def test_cache_forgets_with_every_change():
    cache: MatchCache[list[int]] = MatchCache(100, 100)
    assert cache.get("a", 1) is None
    cache.put("a", 1, [], 0)
    assert cache.get("a", 1) == []
    assert cache.get("b", 1) is None
    assert cache.get("a", 2) is None
    assert cache.get("a", 1) is None  # it went with the other version
    cache.put("a", 2, [2], 1)
    cache.put("b", 3, [3], 1)
    assert cache.get("a", 3) is None and cache.get("b", 3) == [3]


def test_cache_is_bounded():
    cache: MatchCache[int] = MatchCache(100, 100)
    for number in range(1_000):
        cache.put(str(number), 1, number, 1)
        assert cache.get(str(number), 1) == number
        assert len(cache) <= 100
    assert len(cache) == 100
    assert cache.get("900", 1) == 900 and cache.get("899", 1) is None


def test_cache_is_bounded_by_what_its_entries_hold():
    cache: MatchCache[str] = MatchCache(100, 50)
    for topic, targets in (("a", 20), ("b", 30), ("none", 0)):
        cache.put(topic, 1, topic, targets)
    assert len(cache) == 3
    cache.put("c", 1, "c", 1)
    assert len(cache) == 1 and cache.get("c", 1) == "c"
    cache.put("huge", 1, "huge", 1_000)  # one may be as large as it is
    assert len(cache) == 1 and cache.get("huge", 1) == "huge"
    cache.put("c", 1, "c", 1)
    assert len(cache) == 1
    cache.put("huge", 2, "huge", 49)  # another version begins at nought
    cache.put("c", 2, "c", 1)
    assert len(cache) == 2

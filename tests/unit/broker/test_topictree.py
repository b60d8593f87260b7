"""Topics with numbers: filters find them, however often the tree changes meanwhile."""

import gc
import tracemalloc
from itertools import islice, product
from sys import getsizeof

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.topic import matches
from braidmq.broker.topictree import (
    SHARED_CHARACTERS_MAX,
    SHARED_TEXTS_MAX,
    STEP_PLACES,
    TopicTree,
    _Branch,
)
from tests.filters import FILTERS, TOPICS

FEW_TOPICS = ["/".join(levels) for depth in (1, 2, 3) for levels in product("ab", repeat=depth)]
CHANGES = st.lists(st.tuples(st.booleans(), TOPICS), max_size=40)


def picture(branch: _Branch):
    """A branch as plain values, to compare."""
    children = {
        level: picture(place) if isinstance(place, _Branch) else place
        for level, place in branch.children.items()
    }
    return branch.number, branch.count, children


def branches(tree: TopicTree) -> list[_Branch]:
    found = [tree._root]
    for branch in found:
        found += [place for place in branch.children.values() if isinstance(place, _Branch)]
    return found[1:]


def apply(tree: TopicTree, model: dict[str, int], number: int, change: tuple[bool, str]) -> None:
    adding, topic = change
    if adding:
        assert tree.set(topic, number) == model.get(topic)
        model[topic] = number
    else:
        assert tree.remove(topic) == model.pop(topic, None)
    assert len(tree) == len(model)
    assert tree.get(topic) == model.get(topic)


def changed(changes) -> tuple[TopicTree, dict[str, int]]:
    tree = TopicTree()
    model: dict[str, int] = {}
    for number, change in enumerate(changes):
        apply(tree, model, number, change)
    return tree, model


@settings(max_examples=300)
@given(CHANGES, st.lists(FILTERS, min_size=1, max_size=8))
def test_search_finds_what_the_standard_says(changes, filters):
    tree, model = changed(changes)
    for filter in filters:
        expected = {topic: number for topic, number in model.items() if matches(filter, topic)}
        found = list(tree.search(filter))
        assert dict(found) == expected and len(found) == len(expected)


@settings(max_examples=300)
@given(CHANGES, st.lists(TOPICS, max_size=8))
def test_tree_follows_from_the_topics_alone(changes, others):
    tree, model = changed(changes)
    fresh = TopicTree()
    for topic in sorted(model):
        fresh.set(topic, model[topic])
    assert picture(tree._root) == picture(fresh._root)
    assert all(branch.count >= 2 for branch in branches(tree))
    for topic in {*others, *model}:
        assert tree.get(topic) == model.get(topic)
    for topic in model:
        tree.remove(topic)
    assert picture(tree._root) == (None, 0, {})


@settings(max_examples=300)
@given(
    st.sets(st.sampled_from(FEW_TOPICS), min_size=8),
    st.sampled_from(["#", "+/#", "a/#", "+/+/+", "a/+/b", "+/b/#", "+/+"]),
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.lists(st.tuples(st.booleans(), st.sampled_from(FEW_TOPICS)), max_size=12),
        ),
        max_size=6,
    ),
)
def test_search_goes_on_while_the_tree_changes(topics, filter, slices):
    tree, model = changed([(True, topic) for topic in sorted(topics)])
    there_all_the_while = set(model)
    found: list[str] = []
    search = tree.search(filter)
    number = 1_000
    for size, changes in slices:
        for topic, its_number in islice(search, size):
            assert model[topic] == its_number  # as it is at this moment
            found.append(topic)
        for change in changes:
            number += 1
            apply(tree, model, number, change)
            there_all_the_while &= set(model)
    for topic, its_number in search:
        assert model[topic] == its_number
        found.append(topic)
    assert all(matches(filter, topic) for topic in found)
    for topic in there_all_the_while:
        assert found.count(topic) == matches(filter, topic)


def test_search_stands_in_a_branch_that_becomes_a_leaf_and_grows_again():
    tree = TopicTree()
    for number in (1, 2, 3):
        tree.set(f"a/x/{number}", number)
    search = tree.search("#")
    assert next(search) == ("a/x/1", 1)
    tree.remove("a/x/1")
    tree.remove("a/x/2")
    assert branches(tree) == []
    tree.set("a/x/3", 30)
    assert list(search) == [("a/x/3", 30)]

    tree.set("a/x/2", 2)
    search = tree.search("a/#")
    assert next(search) == ("a/x/3", 30)
    tree.remove("a/x/3")
    tree.set("a/x/2", 20)
    tree.set("a/y", 4)
    assert list(search) == [("a/x/2", 20)]


def test_number_changes_at_a_pause():
    tree = TopicTree()
    count = 2 * STEP_PLACES
    for number in range(count):
        tree.set(f"a/x/{number}", number)
    steps = tree.steps("a/x/+")
    assert next(steps) == ("a/x/0", 0)
    for number in range(count - 1):
        tree.remove(f"a/x/{number}")
    assert next(steps) is None  # it stands in what is a leaf now
    tree.set(f"a/x/{count - 1}", 7)
    assert [found for found in steps if found is not None] == [(f"a/x/{count - 1}", 7)]


def test_branch_gives_back_the_room_of_what_has_gone():
    tree = TopicTree()
    for number in range(5_000):
        tree.set(f"a/{number}", number)
    for number in range(4_990):
        tree.remove(f"a/{number}")
    (branch,) = branches(tree)
    assert branch.count == 10 and getsizeof(branch.children) < 5_000


@given(CHANGES, st.one_of(st.just(""), TOPICS))
def test_children_are_counted(changes, prefix):
    tree, model = changed(changes)
    before = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    expected: dict[str, tuple[int | None, int]] = {}
    for topic in model:
        if topic.startswith(before):
            level, separator, _ = topic[len(before) :].partition("/")
            own, below = expected.get(level, (None, 0))
            expected[level] = (own, below + 1) if separator else (model[topic], below)
    found = list(tree.children(prefix))
    assert {level: (own, below) for level, own, below in found} == expected
    assert len(found) == len(expected)


def test_children_are_listed_while_the_tree_changes():
    tree = TopicTree()
    for number in range(10):
        tree.set(f"a/{number}", number)
    children = tree.children("a")
    assert next(children) == ("0", 0, 0)
    for number in range(10):
        if number != 5:
            tree.remove(f"a/{number}")
    tree.set("a/5/x", 50)
    assert list(children) == [("5", 5, 1)]
    assert list(tree.children("a/5")) == [("x", 50, 0)]
    assert list(tree.children("a/5/x")) == list(tree.children("b")) == []


def test_a_level_is_a_topic_and_has_topics_below():
    tree = TopicTree()
    assert tree.set("a", 1) is None and tree.set("a/b", 2) is None
    assert tree.set("a", 3) == 1
    assert sorted(tree.search("a/#")) == [("a", 3), ("a/b", 2)]
    assert list(tree.search("a")) == [("a", 3)] and list(tree.search("b")) == []
    assert tree.get("a/b/c") is None and tree.get("a/") is None
    assert tree.remove("a/b/c") is None and tree.remove("b") is None
    assert tree.remove("a") == 3
    assert tree.remove("a") is None
    assert list(tree.search("#")) == [("a/b", 2)]


def test_wildcards_at_the_start_do_not_see_dollar_topics():
    tree = TopicTree()
    for number, topic in enumerate(["$SYS", "$SYS/a", "a", "a/$b", "$"]):
        tree.set(topic, number)
    assert sorted(tree.search("#")) == [("a", 2), ("a/$b", 3)]
    assert sorted(tree.search("+")) == [("a", 2)]
    assert sorted(tree.search("+/#")) == [("a", 2), ("a/$b", 3)]
    assert sorted(tree.search("$SYS/#")) == [("$SYS", 0), ("$SYS/a", 1)]
    assert sorted(tree.search("$SYS/+")) == [("$SYS/a", 1)]
    assert list(tree.search("a/+")) == [("a/$b", 3)]


def test_number_zero_is_a_number():
    tree = TopicTree()
    for topic in ("a", "a/b", "c/d"):
        assert tree.set(topic, 0) is None and tree.get(topic) == 0
    assert sorted(tree.search("#")) == [("a", 0), ("a/b", 0), ("c/d", 0)]
    assert [tree.remove(topic) for topic in ("a", "a/b", "c/d")] == [0, 0, 0]


def test_search_that_finds_nothing_still_pauses():
    tree = TopicTree()
    for number in range(10_000):
        tree.set(f"{number % 10}/{number}/a", number)
    steps = list(tree.steps("+/+/none"))
    assert set(steps) == {None}
    assert len(steps) >= 10_000 // STEP_PLACES
    assert list(tree.search("+/+/none")) == []
    assert list(tree.steps("1/1/none")) == []


def test_what_does_not_fit_after_a_hash_is_paused_over():
    tree = TopicTree()
    for number in range(10 * STEP_PLACES):
        tree.set(f"a/{number % 10}/{number}", number)
        tree.set(f"b/{number}", number)
    assert list(tree.steps("a/#/none")) == [None] * 10
    assert list(tree.steps("b/#/7")) == [("b/7", 7), *[None] * 9]
    assert list(tree.search("a/#/7/#")).count(("a/7/7", 7)) == 1


def test_a_pause_may_be_a_change():
    tree = TopicTree()
    for number in range(1_000):
        tree.set(f"a/{number}/x/y", number)
        tree.set(f"a/{number}/x/z", number)
    steps = tree.steps("a/+/x/none")
    assert next(steps) is None
    for number in range(1_000):
        tree.remove(f"a/{number}/x/z")
    tree.set("a/999/x/none", 7)
    assert [found for found in steps if found is not None] == [("a/999/x/none", 7)]


@pytest.mark.parametrize("depth", [2_000])
def test_deep_topics_need_no_recursion(depth):
    tree = TopicTree()
    deep = "a/" * depth
    tree.set(deep + "b", 1)
    assert len(branches(tree)) == 0  # one topic, however deep, is one leaf
    tree.set(deep + "c", 2)
    assert sorted(tree.search("#")) == [(deep + "b", 1), (deep + "c", 2)]
    assert list(tree.search("+/" * depth + "b")) == [(deep + "b", 1)]
    assert list(tree.children(deep)) == [("b", 1, 0), ("c", 2, 0)]
    assert tree.remove(deep + "b") == 1
    assert len(branches(tree)) == 0
    assert list(tree.search("#")) == [(deep + "c", 2)]


def test_shared_texts_are_few_and_short():
    tree = TopicTree()
    tree.set("x" * (SHARED_CHARACTERS_MAX + 1), 0)
    assert not tree._shared
    tree.set("x" * SHARED_CHARACTERS_MAX, 0)
    assert len(tree._shared) == 1
    for number in range(2 * SHARED_TEXTS_MAX):
        tree.set(f"device/{number}", number)
        assert len(tree._shared) <= SHARED_TEXTS_MAX
    assert dict(tree.search("device/+")) == {
        f"device/{number}": number for number in range(2 * SHARED_TEXTS_MAX)
    }


def test_a_topic_costs_less_than_its_share_of_the_budget():
    count = 20_000
    numbers = list(range(1 << 31, (1 << 31) + count))
    gc.collect()
    tracemalloc.start()
    try:
        tree = TopicTree()
        for at, number in enumerate(numbers):
            tree.set(f"site/{at % 4}/device/{at // 4}/temp", number)
        each = tracemalloc.get_traced_memory()[0] / count
        for at in range(count):
            tree.remove(f"site/{at % 4}/device/{at // 4}/temp")
        tree._shared.clear()
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert each < 200
    assert left < 10 * count  # the interpreter keeps some tuples to use again

"""Patterns: what they match, and which filters they cover; held against the textbook."""

import re
import time
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.patterns import Filter, NamePattern, Part, Variable, Wild, wildcard_matcher
from tests.filters import FILTERS as ANY_FILTERS
from tests.filters import TOPICS as TOPIC
from tests.filters import matches_by_pattern

NOBODY: dict[Variable, Part | None] = {Variable.USER: None, Variable.CLIENT: None}


def matches(pattern: str, name: str) -> bool:
    matcher = NamePattern(pattern).filled(NOBODY)
    assert matcher is not None
    return matcher.matches(name)


def covers(pattern: str, text: str) -> bool:
    matcher = NamePattern(pattern).filled(NOBODY)
    assert matcher is not None
    return matcher.covers(Filter(text))


# --- matching


def reference_match(parts: list[Part], text: str) -> bool:
    """The textbook table: which prefixes of the text do the parts read so far match?"""
    flat: list[Part] = []
    for part in parts:
        flat.extend(part if isinstance(part, str) else [part])
    reached = {0}
    for part in flat:
        after = set()
        for at in reached:
            rest = text[at:]
            if part is Wild.RUN:
                after |= set(range(at, len(text) + 1))
            elif part is Wild.LEVEL:
                after |= set(range(at, at + len(rest.split("/")[0]) + 1))
            elif part is Wild.BELOW:
                after |= {at} | ({len(text)} if rest.startswith("/") else set())
            elif rest and (part is Wild.ONE or rest[0] == part):
                after.add(at + 1)
        reached = after
    return len(text) in reached


@given(
    st.lists(
        st.text("ab/\0", max_size=3) | st.sampled_from([Wild.ONE, Wild.RUN, Wild.LEVEL]), max_size=8
    ),
    st.sampled_from([[], [Wild.BELOW]]),
    st.text("ab/\0", max_size=12),
)
@settings(max_examples=500)
def test_a_matcher_agrees_with_the_textbook(parts: list[Part], last: list[Part], text: str) -> None:
    assert wildcard_matcher(parts + last)(text) is reference_match(parts + last, text)


@given(
    st.lists(st.sampled_from(["a", "ab", "", "\0", Wild.LEVEL]), min_size=1, max_size=4),
    st.sampled_from([[], [Wild.BELOW]]),
    st.lists(st.sampled_from(["a", "ab", "", "\0", "b"]), min_size=1, max_size=5).map("/".join),
)
@settings(max_examples=500)
def test_whole_levels_agree_with_the_textbook(
    levels: list[Part], last: list[Part], text: str
) -> None:
    parts = [part for level in levels for part in ("/", level)][1:] + last
    assert wildcard_matcher(parts)(text) is reference_match(parts, text)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("orders", ["orders"], ["", "order", "orders2", "ORDERS"]),
        ("*", ["", "a", "a/b/c", "$SYS/a"], []),
        ("?SYS*", ["$SYS/a", "xSYS"], ["SYS"]),
        ("orders*", ["orders", "orders.eu"], ["order", "xorders"]),
        ("*.fifo", [".fifo", "pay.fifo"], ["fifo", "pay.fifo2"]),
        ("a*b*c", ["abc", "a--b--c", "abcbc"], ["acb", "ac", "a-c", "abcd"]),
        ("*a*b", ["ab", "-a-b", "aabb"], ["b", "a", "ba", "abc"]),
        ("ab*ab", ["abab", "abxab"], ["ab", "aba"]),
        ("q?", ["q1", "q*", "q/"], ["q", "q12"]),
        ("?*?", ["ab", "abc"], ["", "a"]),
        ("[a-z].$", ["[a-z].$"], ["a", "b$"]),
        ("100%%", ["100%"], ["100%%"]),
        # [MQTT] 4.7.1.2 and 4.7.1.3, with their examples
        ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/score/x"], ["s"]),
        ("sport/#", ["sport", "sport/", "sport/a/b"], ["sports", "a/sport"]),
        ("#", ["", "a", "/a/b"], ["$SYS", "$SYS/a"]),
        ("#", ["ActiveMQ", "ActiveMQ/a", "ActiveMQ/Advisory"], ["ActiveMQ/Advisory/Queue"]),
        ("ActiveMQ/#", ["ActiveMQ/Advisory/Queue"], []),
        ("sport/+", ["sport/", "sport/a"], ["sport", "sport/a/b"]),
        ("+", ["", "a"], ["/", "a/", "$SYS"]),
        ("+/+", ["/finance", "a/b", "/"], ["a", "a/b/c", "$SYS/x"]),
        ("+/tennis/#", ["a/tennis", "/tennis/b/c"], ["tennis", "$SYS/tennis/b"]),
        ("/+", ["/finance", "/"], ["finance", "//"]),
        ("/#", ["/", "/a/b"], ["a"]),
        ("$SYS/#", ["$SYS", "$SYS/a"], ["a"]),
        ("a*/+/b?", ["a/x/b1", "a/y/x/b1", "ab//b/"], ["a/b1", "a/x/b"]),
        ("*/#", ["", "a", "a/b"], []),
    ],
)
def test_a_pattern_of_names(pattern: str, matching: list[str], other: list[str]) -> None:
    assert [name for name in matching + other if matches(pattern, name)] == matching


@pytest.mark.parametrize("pattern", ["a+", "+a/b", "a/b+c", "++", "a#", "##", "*#"])
def test_a_wildcard_of_mqtt_stands_for_whole_levels(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{pattern!r}: '+' stands for a whole level")):
        NamePattern(pattern)
    with pytest.raises(ValueError, match="whole levels"):
        Filter(pattern)


@pytest.mark.parametrize("pattern", ["#/a", "a/#/", "a/#/#"])
def test_hash_stands_only_at_the_end_of_a_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="'#' for the last ones"):
        NamePattern(pattern)


def test_hash_does_not_follow_itself_in_a_filter() -> None:
    with pytest.raises(ValueError, match="#/# for nothing else"):
        Filter("a/#/#")


@pytest.mark.parametrize("pattern", ["%", "a%", "%x", "%/u", "%U"])
def test_a_variable_that_is_unknown_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"stands for nothing; only %u .* %c .* and %% are known"):
        NamePattern(pattern)


def test_variables_are_filled_in_as_text() -> None:
    pattern = NamePattern("%u/%c/%%/#")
    filled = pattern.filled({Variable.USER: "a*", Variable.CLIENT: "+"})
    assert filled is not None
    assert filled.matches("a*/+/%/x") and filled.matches("a*/+/%")
    assert not filled.matches("ab/+/%/x") and not filled.matches("a*/b/%/x")
    assert pattern.filled({Variable.USER: "a", Variable.CLIENT: None}) is None
    everything = pattern.filled({Variable.USER: Wild.RUN, Variable.CLIENT: Wild.RUN})
    assert everything is not None and everything.matches("a/b/c/%/x")


@pytest.mark.parametrize(
    "parts",
    [
        [Wild.RUN, "a"] * 500 + ["b"],
        [Wild.RUN, "a", Wild.ONE] * 340 + ["b"],
        [Wild.LEVEL, "a"] * 500 + ["b"],
        [Wild.RUN] * 1000 + ["b"],
        [Wild.RUN, Wild.ONE] * 500 + ["b"],
        [Wild.RUN, "a", Wild.ONE] * 340 + ["b", Wild.BELOW],
    ],
)
def test_no_pattern_makes_a_match_slow(parts: list[Part]) -> None:
    text = "a" * 20_000
    matcher = wildcard_matcher(parts)
    began = time.process_time()
    assert not matcher(text)
    assert time.process_time() - began < 1


# --- filters


@pytest.mark.parametrize(
    ("pattern", "covered", "other"),
    [
        ("*", ["#", "+", "a/#", "$SYS/#", "a", "+/+"], []),
        ("#", ["#", "+", "a/#", "a", "+/a/#"], ["$SYS/#", "$SYS/a"]),
        ("#", ["ActiveMQ", "ActiveMQ/a/#", "+/Advisory/#"], ["ActiveMQ/#", "ActiveMQ/+/Queue"]),
        ("#", ["ActiveMQ/Advisor/+"], ["ActiveMQ/Advisory/#", "ActiveMQ/Advisory/Queue"]),
        ("ActiveMQ/#", ["ActiveMQ/#", "ActiveMQ/Advisory/#"], []),
        ("a/#", ["a/#", "a", "a/+", "a/b/#", "a/+/c"], ["#", "+", "+/b", "ab/#", "b"]),
        ("a/*", ["a/+", "a/b/#", "a/+/c"], ["a/#", "a"]),
        ("a*", ["a/#", "a/+", "ab"], ["#", "+"]),
        ("+", ["+", "a"], ["#", "+/+", "$a", "a/#"]),
        ("+/b", ["+/b", "a/b"], ["+/+", "a/+", "+/#"]),
        ("+/#", ["+", "+/+", "a/#"], ["#", "$a/b"]),  # "#" is a wrong no
        ("a/+/c", ["a/+/c", "a/b/c"], ["a/#", "a/+/+", "a/+"]),
        ("a/?", ["a/b", "a/?", "a/*"], ["a/+", "a/#", "a/bc"]),
        ("a/??", [], ["a/+", "a/#", "#"]),
        ("*?", ["a/b"], ["a/+", "#"]),  # "a/+" is a wrong no: see rule 5
        ("a", ["a"], ["+", "#", "a/#"]),
        ("$SYS/#", ["$SYS/#", "$SYS/+"], ["#", "+/#"]),
        ("/#", ["/#", "/+", "/"], ["#"]),
        ("a/#", ["a/#/b", "a/b/#/c", "a/#/b/#", "a/#/"], ["#/a", "#/a/#", "+/#/b"]),
        ("a/*/b", ["a/+/b"], ["a/#/b"]),  # a/b is not matched
        ("a/*b", ["a/#/b"], ["a/#/b/#"]),
        ("*/error", ["+/error"], ["+/#/error"]),  # a wrong no: rule 5
        ("#", ["#/error", "a/#/b"], ["$a/#/b", "ActiveMQ/#/Queue"]),
        ("+/b", ["+/b"], ["#/b"]),
    ],
)
def test_a_pattern_covers_filters(pattern: str, covered: list[str], other: list[str]) -> None:
    assert [text for text in covered + other if covers(pattern, text)] == covered


def test_there_is_no_empty_filter() -> None:
    with pytest.raises(ValueError, match="not empty"):
        Filter("")


def topic_matches(text: str, topic: str) -> bool:
    """[MQTT] 4.7, level by level."""
    if topic.startswith("$") and text[0] in "+#":
        return False
    wanted, levels = text.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


TOPICS = ["".join(each) for size in range(1, 6) for each in product("a/$", repeat=size)]


@cache
def topics_of(text: str) -> frozenset[str]:
    return frozenset(topic for topic in TOPICS if topic_matches(text, topic))


LEVEL = st.text("a$", max_size=2) | st.just("+")
LEVELS = st.lists(LEVEL, min_size=1, max_size=3)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]), LEVELS, st.sampled_from([[], ["#"]])
) | st.just("#")
PATTERN_LEVEL = st.text("a$*?", max_size=3) | st.just("+")
PATTERNS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(PATTERN_LEVEL, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
) | st.just("#")


@given(PATTERNS.filter(bool), ANY_FILTERS, TOPIC)
@settings(max_examples=1000)
def test_what_is_covered_is_matched_also_with_many_levels_within(
    pattern: str, text: str, topic: str
) -> None:
    if matches_by_pattern(text, topic) and covers(pattern, text):
        assert matches(pattern, topic)


@given(PATTERNS.filter(bool), FILTERS.filter(bool))
@settings(max_examples=500)
def test_what_is_covered_is_matched(pattern: str, text: str) -> None:
    if covers(pattern, text):
        assert all(matches(pattern, topic) for topic in topics_of(text))


@given(FILTERS.filter(bool), st.sampled_from(TOPICS))
@settings(max_examples=500)
def test_as_a_pattern_a_filter_matches_what_mqtt_says(text: str, topic: str) -> None:
    assert matches(text, topic) is topic_matches(text, topic)
    assert covers(text, text)
    assert covers("*", text)


def textbook_covers(pattern: list[str], levels: list[str]) -> bool:
    """Level by level: the usual rule of brokers for filters that are patterns, too."""
    match pattern, levels:
        case (["#"], _) | ([], []):
            return True
        case ([], _) | (_, []) | (_, ["#"]):
            return False
        case [first, *rest], [level, *others]:
            return first in ("+", level) and textbook_covers(rest, others)
    raise AssertionError


@given(FILTERS.filter(bool), FILTERS.filter(bool))
@settings(max_examples=1000)
def test_between_filters_it_is_the_usual_rule(pattern: str, text: str) -> None:
    hidden = pattern[0] in "+#" and text.startswith("$")
    expected = not hidden and textbook_covers(pattern.split("/"), text.split("/"))
    assert covers(pattern, text) is expected

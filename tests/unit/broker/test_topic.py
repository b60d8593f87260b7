"""Names of topics and filters, by MQTT 5.0 section 4.7 and the limits of the house."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.topic import (
    check_filter,
    check_topic,
    has_wildcards,
    is_reserved,
    matches,
    parse_shared,
)
from tests.filters import FILTERS, TOPICS, matches_by_pattern

BYTES_MAX = 65_535
LEVELS_MAX = 128
ANY_TEXT = st.text(st.characters(codec=None), max_size=12)
NAMES = st.text("ab$/+#", min_size=1, max_size=8)


def refusal(check, name, bytes_max=BYTES_MAX, levels_max=LEVELS_MAX) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check(name, bytes_max, levels_max)
    str(caught.value).encode()  # it can be sent
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "/",
        "//",
        " ",
        "site/17/temp",
        "$SYS/broker",
        "Łódź/温度/😀",
        "\ufeffa",
        "\xa0",
        "a b/",
        "$",
    ],
)
def test_topics_that_may_be_published_to(name):
    check_topic(name, BYTES_MAX, LEVELS_MAX)
    check_filter(name, BYTES_MAX, LEVELS_MAX)


@pytest.mark.parametrize(
    "name",
    [
        *("+", "#", "a/#", "+/+", "/+", "+/", "/#", "+/a/#", "$SYS/#"),
        *("#/b", "a/#/b", "#/", "#/+/#", "/#/a/#", "#//#"),
    ],
)
def test_filters_that_may_be_subscribed_to_but_not_published_to(name):
    check_filter(name, BYTES_MAX, LEVELS_MAX)
    assert "no wildcards" in refusal(check_topic, name)


@pytest.mark.parametrize("name", ["a#", "b#/b", "a/#b/b", "##", "a/##", "/a#", "+#", "#+"])
def test_hash_is_whole_levels(name):
    assert refusal(check_filter, name).startswith("# stands")


@pytest.mark.parametrize("name", ["#/#", "a/#/#", "#/#/a", "#/+/#/#/b"])
def test_hash_does_not_follow_itself(name):
    assert refusal(check_filter, name).startswith("#/# says no more than #")


@pytest.mark.parametrize("name", ["a+", "+a", "a/b+/c", "++", "+/a+", "a+/#"])
def test_plus_is_a_whole_level(name):
    assert refusal(check_filter, name).startswith("+ stands")


@pytest.mark.parametrize(
    "character",
    "\0\x01\x1f\t\n\x7f\x80\x9f\ud800\udbff\udc00\udfff\ufdd0\ufdef\ufffe\uffff"
    "\U0001fffe\U0010ffff",
)
def test_forbidden_characters_are_named(character):
    for check in (check_topic, check_filter):
        text = refusal(check, f"é/{character}/a")
        assert f"U+{ord(character):04X} at 2" in text
        refusal(check, character)


@pytest.mark.parametrize("character", " ~\xa0\xad\u2028\ud7ff\ue000\ufdcf\ufdf0\ufffd\U00010000")
def test_their_neighbours_are_allowed(character):
    check_topic(character, BYTES_MAX, LEVELS_MAX)


@pytest.mark.parametrize("check", [check_topic, check_filter])
def test_bytes_are_counted_as_utf8(check):
    assert "1 to 65535 bytes" in refusal(check, "")
    check("a" * 10, 10, LEVELS_MAX)
    assert "1 to 10 bytes" in refusal(check, "a" * 11, 10)
    check("é" * 5, 10, LEVELS_MAX)
    assert "1 to 10 bytes" in refusal(check, "é" * 5 + "a", 10)
    assert "1 to 10 bytes" in refusal(check, "\0" * 11, 10)
    assert "1 to 10 bytes" in refusal(check, "\ud800" * 11, 10)


@pytest.mark.parametrize("check", [check_topic, check_filter])
def test_levels_are_counted_and_never_descended(check):
    check("/" * (LEVELS_MAX - 1), BYTES_MAX, LEVELS_MAX)
    assert "at most 128 levels, this has 129" in refusal(check, "/" * LEVELS_MAX)
    assert "this has 65001" in refusal(check, "/" * 65_000)
    refusal(check_filter, "+/" * 32_000 + "#")


@given(ANY_TEXT)
def test_what_is_allowed_is_what_the_standard_and_the_house_allow(name):
    def is_forbidden(code):
        control = code < 0x20 or 0x7F <= code < 0xA0
        surrogate = 0xD800 <= code < 0xE000
        no_character = 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE
        return control or surrogate or no_character

    allowed = bool(name) and not any(is_forbidden(ord(c)) or c in "+#" for c in name)
    try:
        check_topic(name, BYTES_MAX, LEVELS_MAX)
    except InvalidArgument:
        assert not allowed
    else:
        assert allowed


@given(NAMES)
def test_wildcards_are_allowed_as_whole_levels_and_hash_once_in_a_row(name):
    levels = name.split("/")
    allowed = all(level in ("+", "#") or not set(level) & set("+#") for level in levels)
    allowed = allowed and ("#", "#") not in pairwise(levels)
    try:
        check_filter(name, BYTES_MAX, LEVELS_MAX)
    except InvalidArgument:
        assert not allowed
    else:
        assert allowed
        assert has_wildcards(name) == bool({"+", "#"} & set(levels))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", None),
        ("$share", None),
        ("$shared/g/a", None),
        ("/$share/g/a", None),
        ("$share/g/a", ("g", "a")),
        ("$share/g/#", ("g", "#")),
        ("$share/g//", ("g", "/")),
        ("$share/g/+/b", ("g", "+/b")),
        ("$share/g/a/#/b", ("g", "a/#/b")),
        ("$share/g/$stream/clicks", ("g", "$stream/clicks")),
        ("$share/$g/a/b/c", ("$g", "a/b/c")),
    ],
)
def test_shared_filters_are_taken_apart(name, expected):
    assert parse_shared(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "$share/",
        "$share//",
        "$share//a",
        "$share/g",
        "$share/g/",
        "$share/+/a",
        "$share/#",
        "$share/g#/a",
        "$share/g/a#",
        "$share/g/a/#/#",
        "$share/g/+a",
        "$share/g/$share/h/a",
    ],
)
def test_shared_filters_that_are_not(name):
    with pytest.raises(InvalidArgument):
        parse_shared(name)


@pytest.mark.parametrize(
    ("filter", "topic"),
    [
        # The examples of sections 4.7.1 and 4.7.2, and the corners between them.
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("sport/#", "sport/"),
        ("#", "/"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+/#", "a"),
        ("+", "a"),
        ("$SYS/#", "$SYS/broker/uptime"),
        ("$SYS/#", "$SYS"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("a/+/#", "a/$b"),
        # Also within a filter # is any number of levels.
        ("a/#/b", "a/b"),
        ("a/#/b", "a/b/a/b"),
        ("a/#/+", "a/b/c"),
        ("#/b", "b"),
        ("#/b", "/b"),
        ("#/", "a/"),
        ("#/a/#", "a"),
        ("a/#/b/c/#/d", "a/b/b/c/c/d"),
        ("$a/#/b", "$a/x/b"),
    ],
)
def test_filter_matches(filter, topic):
    assert matches(filter, topic)


@pytest.mark.parametrize(
    ("filter", "topic"),
    [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("+", "a/"),
        ("a", "A"),
        ("a", "a/"),
        ("a/", "a"),
        ("a/+/#", "a"),
        ("#", "$SYS/broker"),
        ("#", "$"),
        ("+", "$SYS"),
        ("+/#", "$SYS"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("é", "e\u0301"),
        ("a/#/b", "a"),
        ("a/#/b", "a/b/c"),
        ("a/#/a", "a"),
        ("a/#/b", "ab"),
        ("#/+", "$a"),
        ("#/b", "$a/b"),
    ],
)
def test_filter_does_not_match(filter, topic):
    assert not matches(filter, topic)


@pytest.mark.parametrize(
    ("topic", "reserved"),
    [
        ("$SYS/broker", True),
        ("$", True),
        ("ActiveMQ/Advisory/Connection", True),
        ("ActiveMQ/Advisory", False),
        ("ActiveMQ/x", False),
        ("a/$SYS", False),
    ],
)
def test_some_topics_are_the_brokers_own(topic, reserved):
    assert is_reserved(topic) is reserved


@settings(max_examples=1000)
@given(FILTERS, TOPICS)
def test_filter_matches_what_a_regular_expression_says(filter, topic):
    assert matches(filter, topic) is matches_by_pattern(filter, topic)


def test_deep_names_are_matched_without_recursion():
    assert matches("+/" * 30_000 + "#", "a/" * 32_000)
    assert not matches("+/" * 32_000, "a/" * 31_000)
    assert matches("#/+/" * 10_000 + "#/b", "a/" * 32_000 + "b")
    assert not matches("#/a/" * 10_000 + "b", "a/" * 32_000)

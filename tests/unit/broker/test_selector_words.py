"""The words of a selector, each with its kind, its value and its place."""

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.selector_words import fail, tokens


def test_words_have_a_kind_a_value_and_a_place():
    text = """xx a.$1='it''s' aNd "b""c" <> 0x1F or(2.5e1>=-7L)"""
    assert [tuple(token) for token in tokens(text, 3)] == [
        ("name", "a.$1", 3),
        ("=", "=", 7),
        ("text", "it's", 8),
        ("AND", "aNd", 16),
        ("name", 'b"c', 20),
        ("<>", "<>", 27),
        ("number", 31, 30),
        ("OR", "or", 35),
        ("(", "(", 37),
        ("number", 25.0, 38),
        (">=", ">=", 43),
        ("-", "-", 45),
        ("number", 7, 46),
        (")", ")", 48),
        ("end", "", 49),
    ]


def test_errors_show_words_as_they_were_meant():
    shown = [token.shown for token in tokens("a = 'x' AND 5", 0)]
    assert shown == ["name 'a'", "=", "text 'x'", "AND", "number 5", "the end"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 'x", "selector, character 3: expected a closing ', found the end"),
        ('""', "selector, character 1: expected a name between the quotes"),
        ("1.2.3", "selector, character 1: expected a number like 57"),
        ("a ; b", "selector, character 3: expected a name, a literal or an operator, found ';'"),
    ],
)
def test_what_is_no_word_is_refused_with_its_place(text, message):
    with pytest.raises(InvalidArgument) as caught:
        list(tokens(text, 0))
    assert str(caught.value).startswith(message)


def test_an_error_shows_a_little_of_what_was_found():
    with pytest.raises(InvalidArgument) as caught:
        fail(4, "less", "x" * 1_000)
    assert str(caught.value) == f"selector, character 5: expected less, found {'x' * 60}"

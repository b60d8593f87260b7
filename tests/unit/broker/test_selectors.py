"""Selectors: three-valued logic, texts that read as numbers, and no input that hurts."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.header_values import HEADER_NUMBER_CHARACTERS_MAX
from braidmq.broker.selectors import (
    SELECTOR_BYTES_MAX,
    SELECTOR_DEPTH_MAX,
    SELECTOR_TERMS_MAX,
    Selector,
)

HEADERS: dict[str, str | bytes] = {
    "region": "EU",
    "priority": "7",
    "weight": "-2.50",
    "tenant-id": "a",
    'odd "name"': "o'clock",
    "flag": "true",
    "off": "FALSE",
    "empty": "",
    "raw": b"EU",
    "same": "7.0",
    "percent": "100%_done",
    "group-id": "g1",
    "JMSXGroupID": "never looked at",
    "group-sequence": "2",
    "app.name_$1": "x",
    "größe": "12",
}

TRUE = [
    "region = 'EU'",
    "'EU' = region",
    "region <> 'US'",
    "priority = 7",
    "priority = 7.0",
    "7 <= priority",
    "8 > priority",
    "priority > -1 and priority < 1e1",
    "weight < 0",
    "weight = -2.5",
    "weight < -0x2",
    "priority = 7L and priority = 7f and priority = 7.D and priority < .8e+1d",
    "priority between 7 and 7",
    "priority not between 8 and 9",
    "priority NOT BETWEEN 1 AND 6",
    "10 between priority and 11",
    "priority between same - 1 and same + 1",
    "region IN ('US', 'EU')",
    "region NOT IN ('US')",
    "priority IN (1, 7.0)",
    "priority IN ('7')",
    "weight in (-2.5, 'x')",
    "region LIKE 'E%' AND region LIKE '_U' AND region LIKE '%' AND region LIKE 'EU'",
    "region NOT LIKE '_' AND region NOT LIKE 'e%' AND region NOT LIKE 'E%E'",
    "percent LIKE '100!%!_%' ESCAPE '!'",
    "percent LIKE '100a%_done' ESCAPE 'a'",
    "empty LIKE '' AND empty LIKE '%' AND empty NOT LIKE '_'",
    "raw NOT LIKE 'E%' AND raw NOT IN ('EU')",
    "missing IS NULL AND region IS NOT NULL AND empty IS NOT NULL AND raw IS NOT NULL",
    "flag",
    "flag = TRUE and off = false and flag <> FALSE",
    "NOT off",
    "TRUE",
    "NOT FALSE",
    "1 = 1.0 AND 'a' <> 'b' AND TRUE <> FALSE",
    "missing = 1 OR region = 'EU'",
    "NOT (missing = 1 AND region = 'US')",
    "priority = same AND priority <= same",
    "region <> percent",
    "\"tenant-id\" = 'a'",
    '"odd ""name""" = \'o\'\'clock\'',
    "JMSXGroupID = 'g1' AND JMSXGroupSeq = 2 AND app.name_$1 = 'x' AND größe = 12",
    "priority + 1 = 8 AND priority * 2 - 1 > 12 AND -priority = -7 AND +priority = 7",
    "priority / 2 = 3 AND -priority / 2 = -3 AND 7 / 2 = 3 AND priority / 2.0 = 3.5",
    "2 + 3 * 4 = 14 AND (2 + 3) * 4 = 20 AND 10 - 4 - 3 = 3 AND 8 / 4 / 2 = 1",
    "region='EU'and(priority>6)or missing",
    "NOT region = 'US' AND NOT priority = 8",
    "region = 'EU' OR region = 'EU' AND missing = 1",
    "priority < 9223372036854775808 AND priority > -9223372036854775808",
    "convert_string_expressions:priority > 5",
    "convert_string_expressions:",
    "",
    " \t\r\n\f",
]

NOT_TRUE = [
    "region = 'eu'",
    "region = 'EU '",
    "Region = 'EU'",
    "region = 7",  # unlike: false, and so is the opposite
    "region <> 7",
    "priority = '7.0'",
    "raw = 'EU'",
    "raw <> 'EU'",
    "raw = region",
    "raw = raw",
    "raw LIKE 'E%'",
    "raw IN ('EU')",
    "raw",
    "raw > 1",
    "region = TRUE",
    "region <> TRUE",
    "region",
    "NOT flag",
    "region > 1",
    "region > priority",
    "region NOT BETWEEN 1 AND 2",
    "missing = 1",  # unknown
    "NOT missing = 1",
    "missing <> 1",
    "missing IN ('a')",
    "missing NOT IN ('a')",
    "missing LIKE '%'",
    "missing NOT LIKE '%'",
    "missing BETWEEN 1 AND 2",
    "missing NOT BETWEEN 1 AND 2",
    "missing",
    "NOT missing",
    "missing = missing",
    "missing = region",
    "NOT missing = region",
    "NOT region = missing",
    "missing OR region = 'US'",
    "NOT (missing OR region = 'US')",
    "missing AND region = 'EU'",
    "missing IS NOT NULL",
    "region + 1 = 1",
    "NOT region + 1 = 1",
    "NOT -missing = 1",
    "priority / 0 = 0",
    "NOT priority / 0.0 = 0",
    "NOT priority * 1e308 * 1e308 > 0",
    "NOT priority / (priority - 7) = 0",
    "FALSE",
    "1 > 2",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_selector_selects(text: str) -> None:
    assert Selector.parse(text).matches(HEADERS)


@pytest.mark.parametrize("text", NOT_TRUE)
def test_a_selector_does_not_select(text: str) -> None:
    assert not Selector.parse(text).matches(HEADERS)


def test_integers_are_compared_exactly() -> None:
    selector = Selector.parse("n = 9007199254740993")
    assert selector.matches({"n": "9007199254740993"})
    assert not selector.matches({"n": "9007199254740992"})


def test_numbers_of_any_size_do_not_make_it_fail() -> None:
    huge = "9" * HEADER_NUMBER_CHARACTERS_MAX
    product = " * ".join(["n"] * (SELECTOR_TERMS_MAX - 1))
    assert Selector.parse(f"{product} > 0").matches({"n": huge})
    assert not Selector.parse(f"{product} * 0.5 > 0").matches({"n": huge})


def test_a_selector_names_the_headers_it_reads() -> None:
    selector = Selector.parse("a = 'x' AND \"b-c\" + d > 1 OR e.f IS NULL OR g IN ('h')")
    assert selector.names == {"a", "b-c", "d", "e.f", "g"}
    assert repr(Selector.parse("a > 1")) == "Selector('a > 1')"
    assert Selector.parse(" ").names == frozenset()


A, B, C = (("n",), "a"), (("n",), "b"), (("m",), "c")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("n = 'a'", {A}),
        ("'a' = n", {A}),
        ("n IN ('a', 'b')", {A, B}),
        ("(n IN ('a', 'b') AND size > 5) AND m = 'c'", {C}),
        ("n = 'a' AND n = 'b'", {A}),
        ("n = 'a' OR m = 'c' AND size > 5", {A, C}),
        ("n = 'a' OR size > 5", None),
        ("n IN ('a', 5)", None),
        ("n <> 'a'", None),
        ("NOT n = 'a'", None),
        ("n NOT IN ('a')", None),
        ("n LIKE 'a'", None),
        ("n = m", None),
        ("n = TRUE AND n = 5 AND n BETWEEN 1 AND 2 AND n IS NULL AND n", None),
        ("'a' = 'a' AND TRUE", None),
        ("", None),
    ],
)
def test_a_selector_names_texts_of_which_a_message_must_have_one(text: str, keys: Any) -> None:
    assert Selector.parse(text).index_keys() == keys


def test_headers_may_be_any_mapping() -> None:
    class Lazy(Mapping[str, str | bytes]):
        def __getitem__(self, name: str) -> str | bytes:
            return HEADERS[name]

        def __iter__(self) -> Any:
            return iter(HEADERS)

        def __len__(self) -> int:
            return len(HEADERS)

    assert Selector.parse("region = 'EU' AND missing IS NULL").matches(Lazy())


# --- what is refused, and how it is said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a =", "character 4: expected a name, a literal, NOT or (, found the end"),
        ("a = = 1", "character 5: expected a name, a literal, NOT or (, found ="),
        ("= 1", "character 1: expected a name, a literal, NOT or (, found ="),
        ("a AND OR b", "character 7: expected a name, a literal, NOT or (, found OR"),
        ("a = 1 b", "character 7: expected AND, OR or the end, found name 'b'"),
        ("a = 1 = 2", "character 7: expected AND, OR or the end, found ="),
        ("a = 1)", "character 6: expected AND, OR or the end, found )"),
        ("(a = 1", "character 7: expected an operator or ), found the end"),
        ("()", "character 2: expected a name, a literal, NOT or (, found )"),
        ("a = 'x", "character 5: expected a closing ', found the end"),
        ('"a = 1', 'character 1: expected a closing ", found the end'),
        ('"" = 1', "character 1: expected a name between the quotes"),
        ("a # b", "character 3: expected a name, a literal or an operator, found '#'"),
        ("a == 1", "character 4: expected a name"),
        ("a != 1", "character 3: expected a name, a literal or an operator, found '!'"),
        ("tenant-id = 'a'", "character 13: expected a value like the one"),
        ("a < 'x'", "character 5: expected a number: texts and booleans are compared with ="),
        ("'x' < a", "character 1: expected a number: texts and booleans are compared with ="),
        ("a >= TRUE", "character 6: expected a number: texts and booleans"),
        ("a BETWEEN 'x' AND 'y'", "character 11: expected a number: texts and booleans"),
        ("1 = 'a'", "character 5: expected a value like the one it is compared with"),
        ("TRUE = 'true'", "character 8: expected a value like the one it is compared with"),
        ("'a' = 1", "character 1: expected a number or the name of a header"),
        ("a + 'x' = 1", "character 5: expected a number or the name of a header"),
        ("-TRUE = 1", "character 2: expected a number or the name of a header"),
        ("a + (b = 1) > 1", "character 8: expected a number or the name of a header"),
        ("a = (b = 1)", "character 8: expected a value to compare, not a condition"),
        ("a = NOT b", "character 5: expected a value to compare, not a condition"),
        ("'x'", "character 1: expected a condition, not a value"),
        ("5", "character 1: expected a condition, not a value"),
        ("NOT 5", "character 5: expected a condition, not a value"),
        ("a = 1 AND b + 1", "character 11: expected a condition, not a value"),
        ("a LIKE 5", "character 8: expected a pattern in quotes, found number 5"),
        ("a LIKE b", "character 8: expected a pattern in quotes, found name 'b'"),
        ("a LIKE 'x' ESCAPE 'xy'", "character 19: expected one character after ESCAPE"),
        ("a LIKE 'x' ESCAPE ''", "character 19: expected one character after ESCAPE"),
        ("a LIKE 'x' ESCAPE b", "character 19: expected a text after ESCAPE, found name 'b'"),
        ("a LIKE 'x!' ESCAPE '!'", "character 8: expected a character after the escape"),
        ("'x' LIKE 'x'", "character 1: expected the name of a header before LIKE"),
        ("a IN", "character 5: expected ( and a list of literals, found the end"),
        ("a IN ()", "character 7: expected a name, a literal"),
        ("a IN (b)", "character 7: expected a text or a number"),
        ("a IN (TRUE)", "character 7: expected a text or a number"),
        ("a IN ('x' 'y')", "character 11: expected , or ), found text 'y'"),
        ("a IN ('x',)", "character 11: expected a name, a literal"),
        ("1 IN (1)", "character 1: expected the name of a header before IN"),
        ("a IS 5", "character 6: expected NULL or NOT NULL, found number 5"),
        ("a IS NOT TRUE", "character 10: expected NULL or NOT NULL, found TRUE"),
        ("1 IS NULL", "character 1: expected the name of a header before IS NULL"),
        ("a = NULL", "character 5: expected a name, a literal, NOT or (, found NULL"),
        ("a NOT = 1", "character 3: expected BETWEEN, IN or LIKE after NOT"),
        ("a BETWEEN 1 OR 2", "character 13: expected AND between the two limits, found OR"),
        ("007 = a", "character 1: expected a number like 57"),
        ("a = 0x", "character 5: expected a number like 57"),
        ("a = 1e", "character 5: expected a number like 57"),
        ("a = 1.2.3", "character 5: expected a number like 57"),
        ("a = 12abc", "character 5: expected a number like 57"),
        ("a = 9223372036854775809", "character 5: expected a number of at most 64 bits"),
        ("a = 1e999", "character 5: expected a number of at most 64 bits, found 1e999"),
        ("a = 1 / 0", "character 7: expected a result that is a number"),
        ("a = 1e308 * 1e308", "character 11: expected a result that is a number"),
        ("a = \udc80", "character 5: expected a character that UTF-8 can write"),
        ("a = 1\x00", "character 6: expected a name, a literal or an operator, found '\\x00'"),
        ("convert_string_expressions:a =", "character 31: expected a name"),
    ],
)
def test_a_wrong_selector_is_refused_with_place_and_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Selector.parse(text)
    assert str(caught.value).startswith(f"selector, {message}")


def test_the_length_of_a_selector_is_limited_in_bytes() -> None:
    fill = SELECTOR_BYTES_MAX - len("a = ''")
    assert Selector.parse(f"a = '{'x' * fill}'").matches({"a": "x" * fill})
    Selector.parse(f"a = '{'é' * (fill // 2)}'")
    for text in ("x" * (fill + 1), "é" * (fill // 2 + 1), "x" * 1_000_000, "\udc80" * 2_000):
        with pytest.raises(InvalidArgument, match="at most 1024 bytes"):
            Selector.parse(f"a = '{text}'")


@pytest.mark.parametrize(
    ("term", "joint"), [("a", " OR "), ("a=1", " AND "), ("TRUE", " AND "), ("a IS NULL", " OR ")]
)
def test_the_number_of_terms_is_limited(term: str, joint: str) -> None:
    Selector.parse(joint.join([term] * SELECTOR_TERMS_MAX)).matches(HEADERS)
    with pytest.raises(InvalidArgument, match="at most 50 comparisons, tests and calculations"):
        Selector.parse(joint.join([term] * (SELECTOR_TERMS_MAX + 1)))


def test_the_number_of_calculations_is_limited() -> None:
    assert Selector.parse("a" + "+1" * (SELECTOR_TERMS_MAX - 1) + ">1").matches({"a": "1"})
    with pytest.raises(InvalidArgument, match="at most 50"):
        Selector.parse("a" + "+1" * SELECTOR_TERMS_MAX + ">1")


@pytest.mark.parametrize(("opening", "closing"), [("(", ")"), ("NOT ", ""), ("NOT(", ")")])
def test_the_depth_is_limited(opening: str, closing: str) -> None:
    levels = SELECTOR_DEPTH_MAX // (2 if opening == "NOT(" else 1)
    Selector.parse(opening * levels + "a" + closing * levels)
    for more in (levels + 1, 10 * levels):
        with pytest.raises(InvalidArgument, match="at most 16 levels"):
            Selector.parse(opening * more + "a" + closing * more)


def test_what_stands_before_it_does_not_deepen_the_limit() -> None:
    before = "(a) AND NOT a AND -1 = a AND "
    Selector.parse(before + "(" * SELECTOR_DEPTH_MAX + "a" + ")" * SELECTOR_DEPTH_MAX)
    with pytest.raises(InvalidArgument, match="at most 16 levels"):
        Selector.parse(before + "(" * (SELECTOR_DEPTH_MAX + 1) + "a")


def test_the_depth_of_signs_is_limited() -> None:
    Selector.parse("-" * SELECTOR_DEPTH_MAX + "1 = 1")
    with pytest.raises(InvalidArgument, match="at most 16 levels"):
        Selector.parse("-" * (SELECTOR_DEPTH_MAX + 1) + "1 = 1")


@pytest.mark.parametrize(
    "pattern", ["%a" * 450 + "%b", "%a_" * 300 + "b", "%_" * 450 + "b", "(a+)+$", "[a-z]{9,99}%"]
)
def test_no_pattern_is_slow(pattern: str) -> None:
    selector = Selector.parse(f"h LIKE '{pattern}'")
    headers = {"h": "a" * 20_000}
    began = time.process_time()
    assert not selector.matches(headers)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text", ["'" * 1023, '"' * 1023, "''" * 511 + "'", "1" * 1024, "0x" + "f" * 1000, "1e" * 500]
)
def test_no_word_is_slow(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidArgument):
        Selector.parse(text)
    assert time.process_time() - began < 0.2


# --- properties

WORDS = st.sampled_from(
    "a b 'x' 'EU' '%' 1 2.5 0x1F TRUE FALSE NULL AND OR NOT BETWEEN IN LIKE ESCAPE IS = <> < > "
    '<= >= + - * / ( ) , "a-b" \' " . 1e9'.split()
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map(" ".join)))
@settings(max_examples=400)
def test_any_text_is_a_selector_or_an_invalid_argument(text: str) -> None:
    try:
        selector = Selector.parse(text)
    except InvalidArgument as error:
        assert str(error).startswith("selector")
        assert len(str(error)) < 200
        return
    assert selector.matches(HEADERS) in (True, False)


# An independent reading of the same conditions, as trees: ("and", x, y), ("cmp", "<", x, y), ...
# Logic is arithmetic over 0, 1/2 (unknown) and 1.

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
UNKNOWN = 0.5


def number_in(value: str | bytes | None) -> float | None:
    if isinstance(value, str) and len(value) <= 40 and NUMBER.fullmatch(value):
        return float(value)
    return None


def like(pattern: str, text: str) -> bool:
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def calculate(tree: tuple, headers: Mapping[str, str | bytes]) -> float | None:
    kind = tree[0]
    if kind == "number":
        return float(tree[1])
    if kind == "name":
        return number_in(headers.get(tree[1]))
    left, right = calculate(tree[2], headers), calculate(tree[3], headers)
    if left is None or right is None:
        return None
    return {"+": left + right, "-": left - right, "*": left * right}[tree[1]]


def folded(tree: tuple) -> tuple:
    """A calculation with literals only is a literal."""
    if tree[0] != "calc":
        return tree
    operator, left, right = tree[1], folded(tree[2]), folded(tree[3])
    if left[0] == right[0] == "number":
        return ("number", calculate(tree, {}))
    return ("calc", operator, left, right)


def compared(operator: str, left: Any, right: Any) -> float:
    answers = {
        "=": left == right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return float(answers[operator])


def compare(operator: str, left: tuple, right: tuple, headers: Mapping[str, str | bytes]) -> float:
    left, right = folded(left), folded(right)
    if any(side[0] == "name" and side[1] not in headers for side in (left, right)):
        return UNKNOWN
    if left[0] == right[0] == "name":
        values = [headers[left[1]], headers[right[1]]]
        numbers = [number_in(value) for value in values]
        if None not in numbers:
            return compared(operator, *numbers)
        if operator in ("=", "<>") and all(isinstance(value, str) for value in values):
            return compared(operator, *values)
        return 0.0
    literal, other = (left, right) if left[0] in ("text", "truth", "number") else (right, left)
    if other[0] == "name" and literal[0] in ("text", "truth", "number"):
        value = headers[other[1]]
        reading: Any = number_in(value)
        if literal[0] == "text":
            reading = value if isinstance(value, str) else None
        elif literal[0] == "truth":
            low = value.lower() if isinstance(value, str) else ""
            reading = low == "true" if low in ("true", "false") else None
        if reading is None:
            return 0.0
        sides = (reading, literal[1]) if literal is right else (literal[1], reading)
        return compared(operator, *sides)
    numbers = [calculate(left, headers), calculate(right, headers)]
    return UNKNOWN if None in numbers else compared(operator, *numbers)


def evaluate(tree: tuple, headers: Mapping[str, str | bytes]) -> float:
    kind, *rest = tree
    if kind == "and":
        return min(evaluate(side, headers) for side in rest)
    if kind == "or":
        return max(evaluate(side, headers) for side in rest)
    if kind == "not":
        return 1 - evaluate(rest[0], headers)
    if kind == "cmp":
        operator, left, right = rest
        return compare(operator, left, right, headers)
    if kind == "between":
        target, low, high = rest
        return min(compare(">=", target, low, headers), compare("<=", target, high, headers))
    if kind == "outside":
        target, low, high = rest
        return max(compare("<", target, low, headers), compare(">", target, high, headers))
    if kind == "null":
        return float(rest[0] not in headers)
    if rest[0] not in headers:
        return UNKNOWN
    value = headers[rest[0]]
    if kind == "in":
        numbers = [float(literal) for literal in rest[1] if not isinstance(literal, str)]
        return float(value in rest[1] or number_in(value) in numbers)
    if kind == "like":
        return float(isinstance(value, str) and like(rest[1], value))
    assert kind == "flag"
    return float(isinstance(value, str) and value.lower() == "true")


def spell(tree: tuple, keyword: Callable[[str], str]) -> str:
    """The tree as a selector, with all its parentheses."""
    kind, *rest = tree

    def name(text: str) -> str:
        return text if text.isidentifier() else '"' + text.replace('"', '""') + '"'

    def literal(value: str | float) -> str:
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)

    if kind in ("and", "or"):
        return f"({spell(rest[0], keyword)} {keyword(kind)} {spell(rest[1], keyword)})"
    if kind == "not":
        return f"{keyword('not')} ({spell(rest[0], keyword)})"
    if kind in ("cmp", "calc"):
        return f"({spell(rest[1], keyword)}{rest[0]}{spell(rest[2], keyword)})"
    if kind in ("between", "outside"):
        target, low, high = (spell(side, keyword) for side in rest)
        word = keyword("between" if kind == "between" else "not between")
        return f"({target} {word} {low} {keyword('and')} {high})"
    if kind == "null":
        return f"{name(rest[0])} {keyword('is null')}"
    if kind == "in":
        return f"{name(rest[0])} {keyword('in')} ({', '.join(literal(x) for x in rest[1])})"
    if kind == "like":
        return f"{name(rest[0])} {keyword('like')} {literal(rest[1])}"
    if kind in ("name", "flag"):
        return name(rest[0])
    if kind == "truth":
        return keyword(str(rest[0]))
    return literal(rest[0])


NAMES = st.sampled_from(["a", "b", "c-d", 'e"f'])
NAME = st.tuples(st.just("name"), NAMES)
SMALL = st.integers(-3, 12) | st.sampled_from([0.5, 2.0, 7.25])
LITERAL_NUMBER = st.tuples(st.just("number"), SMALL)
CALCULATION = st.recursive(
    NAME | LITERAL_NUMBER,
    lambda inner: st.tuples(st.just("calc"), st.sampled_from("+-*"), inner, inner),
    max_leaves=3,
)
TEXT = st.sampled_from(["", "x", "7", "it's", "EU", "true", "%", "a_b"])
LITERAL_OTHER = st.tuples(st.just("text"), TEXT) | st.tuples(st.just("truth"), st.booleans())
ORDER = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
EQUALITY = st.sampled_from(["=", "<>"])
CONDITION = st.recursive(
    st.one_of(
        st.tuples(st.just("cmp"), ORDER, CALCULATION, CALCULATION),
        st.tuples(st.just("cmp"), EQUALITY, NAME, LITERAL_OTHER),
        st.tuples(st.just("cmp"), EQUALITY, LITERAL_OTHER, NAME),
        st.tuples(st.sampled_from(["between", "outside"]), CALCULATION, CALCULATION, CALCULATION),
        st.tuples(st.just("in"), NAMES, st.lists(TEXT | SMALL, min_size=1, max_size=4)),
        st.tuples(st.just("like"), NAMES, st.text("x7_%E", max_size=4)),
        st.tuples(st.sampled_from(["null", "flag"]), NAMES),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=5,
)
HEADER_VALUES = TEXT | SMALL.map(str) | st.sampled_from(["x7x", "FALSE", " 7", "1e1", b"", b"x"])


@given(CONDITION, st.dictionaries(NAMES, HEADER_VALUES), st.sampled_from([str.upper, str.title]))
@settings(max_examples=300)
def test_a_selector_agrees_with_the_reference(
    tree: tuple, headers: dict[str, str | bytes], keyword: Callable[[str], str]
) -> None:
    selector = Selector.parse(spell(tree, keyword))
    value = selector._condition(headers)
    keys = selector.index_keys()
    assert not value or keys is None or any(headers.get(path[0]) == text for path, text in keys)
    assert {True: 1.0, False: 0.0, None: UNKNOWN}[value] == evaluate(tree, headers)
    assert selector.matches(headers) is (value is True)

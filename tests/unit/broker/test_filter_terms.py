"""Operators of filter policies: what fulfils them, what does not, and what is refused."""

from typing import Any

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.filter_terms import (
    FILTER_NUMBER_MAX,
    OPERATORS,
    SNS_NUMBER_MAX,
    compile_terms,
    fail,
    shown,
)

# Terms, the values of JSON that fulfil them, and those that do not.
TABLE: list[tuple[list[Any], list[Any], list[Any]]] = [
    (["a"], ["a"], ["A", "", "ab", None, True, 1]),
    (["a", "b"], ["a", "b"], ["c"]),
    ([""], [""], [None, " "]),
    ([5], [5, 5.0, 5.000001], ["5", 5.0001, True, None]),
    ([1], [1], [True, "1"]),
    ([0.1], [0.1, 0.1000001, 0.3 - 0.2], [0.2, 0]),
    ([-0.0], [0, -0.0], [1]),
    ([300, 1.5e2], [300, 150.0], [151]),
    ([True], [True], [1, "true", False]),
    ([False], [False], [0, "", None]),
    ([None], [None], ["", "null", False, 0]),
    (["a", 5, None, True], ["a", 5, None, True], ["b", 6, False]),
    ([{"prefix": "ab"}], ["ab", "abc"], ["a", "Ab", "cab", None, 5]),
    ([{"prefix": ""}], ["", "x"], [5, None]),
    ([{"suffix": "ab"}], ["ab", "cab"], ["b", "abc", None, 5]),
    ([{"prefix": "a"}, {"prefix": "b"}], ["ax", "b"], ["c", ""]),
    ([{"suffix": "a"}, {"suffix": "b"}], ["xa", "b"], ["c", ""]),
    ([{"equals-ignore-case": "a"}, {"equals-ignore-case": "B"}], ["A", "b"], ["c", ""]),
    ([{"cidr": "10.0.0.0/8"}, {"cidr": "::1/128"}], ["10.1.1.1", "::1"], ["11.1.1.1", "::2"]),
    ([{"prefix": "a"}, {"suffix": "z"}], ["ab", "yz"], ["bc"]),
    ([{"equals-ignore-case": "Straße"}], ["STRASSE", "straße"], ["strase", None, 5]),
    ([{"equals-ignore-case": "AbC"}], ["abc", "ABC"], ["ab", "abcd"]),
    ([{"anything-but": "a"}], ["b", "A", "", 5, True], ["a", None]),
    ([{"anything-but": ["a", 5]}], ["b", 6, True, "5"], ["a", 5, None]),
    ([{"anything-but": 100}], [101, 100.1, "100"], [100, 100.0]),
    ([{"anything-but": [100, 500]}], [101, 100.1], [100, 500]),
    ([{"anything-but": [True, None]}], [False, 1, "x"], [True, None]),
    ([{"anything-but": {"prefix": "ab"}}], ["a", "cab", 5], ["ab", "abc", None]),
    ([{"anything-but": {"prefix": ["a", "b"]}}], ["c"], ["a1", "b1"]),
    ([{"anything-but": {"suffix": "ab"}}], ["a", "abc"], ["ab", "cab"]),
    ([{"anything-but": {"equals-ignore-case": ["AB", "c"]}}], ["a"], ["ab", "Ab", "C"]),
    ([{"anything-but": {"wildcard": "a*z"}}], ["a"], ["az", "abz"]),
    ([{"anything-but": "a"}, {"anything-but": "b"}], ["a", "b"], [None]),
    ([{"numeric": ["=", 300]}], [300, 300.0, 300.000001], [301, "300", None, True]),
    ([{"numeric": ["=", 1]}], [1], [True]),
    ([{"numeric": ["<", 0]}], [-1, -0.00001], [0, 1, -0.000001]),
    ([{"numeric": ["<=", 0]}], [-1, 0], [0.00001]),
    ([{"numeric": [">", 0]}], [0.00001, 1], [0, -1]),
    ([{"numeric": [">=", 0]}], [0, 1], [-0.00001]),
    ([{"numeric": [">", 0, "<=", 5]}], [0.5, 5], [0, 5.1]),
    ([{"numeric": [">=", 0, "<", 5]}], [0, 4.9], [-1, 5]),
    ([{"numeric": ["<", 0]}, {"numeric": [">", 9]}, {"numeric": ["=", 5]}], [-1, 5, 10], [0, 9]),
    ([{"numeric": [">", 10**9 - 1]}], [10**30, 1e300], [5]),
    ([{"cidr": "10.0.0.0/24"}], ["10.0.0.0", "10.0.0.255"], ["10.0.1.0", "::a00:0", "10.0.0", ""]),
    ([{"cidr": "10.0.0.7/24"}], ["10.0.0.1"], ["10.0.1.7", 167772161, None]),
    ([{"cidr": "0.0.0.0/0"}], ["1.2.3.4"], ["::1", "1.2.3.4 ", "1.2.3.04", "１.2.3.4", "1" * 99]),
    ([{"cidr": "10.1.2.3/32"}], ["10.1.2.3"], ["10.1.2.4"]),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1", "2001:DB8:0::1"], ["2001:db9::1", "1.2.3.4"]),
    ([{"wildcard": "a*z"}], ["az", "a/b/z"], ["a", "bz", "azb", "A*z", 5, None]),
    ([{"wildcard": "a*"}, {"wildcard": "*z"}], ["ab", "yz"], ["bc"]),
    ([{"wildcard": "*"}], ["", "x"], [5, None]),
    ([{"wildcard": "a\\*\\\\*"}], ["a*\\", "a*\\x"], ["ab\\", "a\\*"]),
    ([{"wildcard": "a?b%[c]"}], ["a?b%[c]"], ["axb%c"]),
    ([{"exists": True}], ["x", 0, False], [None, ""]),
    ([{"exists": False}], [None, ""], ["x", 0, False]),
    ([{"exists": True}, {"exists": False}], ["x", None, ""], []),
    (["a", {"exists": False}], ["a", None, ""], ["b"]),
    ([{"anything-but": "a"}, {"exists": False}], ["b", None], ["a"]),
]


@pytest.mark.parametrize(("terms", "fulfilling", "others"), TABLE, ids=str)
def test_values_fulfil_terms_or_do_not(terms, fulfilling, others):
    by_values = compile_terms(terms, "k", False).by_values
    assert [value for value in fulfilling if not by_values((value,))] == []
    assert [value for value in others if by_values((value,))] == []


@pytest.mark.parametrize(("terms", "fulfilling", "others"), TABLE, ids=str)
def test_one_value_of_several_is_enough(terms, fulfilling, others):
    by_values = compile_terms(terms, "k", False).by_values
    if {"exists": False} not in terms:
        assert not by_values(())
        assert all(by_values((*others, value)) for value in fulfilling)
        assert not by_values(others)


@pytest.mark.parametrize("terms", [[{"exists": False}], ["a", {"exists": False}]])
def test_nothing_and_only_null_do_not_exist(terms):
    by_values = compile_terms(terms, "k", False).by_values
    assert by_values(()) and by_values((None,)) and by_values(("", None))
    assert not by_values((None, "b"))


# Terms, the texts of headers without a type that fulfil them, and those that do not.
TEXTS: list[tuple[list[Any], list[str], list[str]]] = [
    (["a"], ["a"], ["b", ""]),
    ([100], ["100", "1e2", "+100.0", "100.000001"], ["100x", " 100", "101", ""]),
    (["100"], ["100"], ["1e2"]),
    (["a", 5], ["a", "5", "5.0"], ["b"]),
    ([True], ["true", "TRUE"], ["false", "1", ""]),
    ([False, 3], ["False", "3"], ["true", "0"]),
    ([None], [], ["null", "", "None"]),
    ([None, True], ["true"], ["x", ""]),
    ([{"prefix": "1"}], ["1", "12"], ["21"]),
    ([{"suffix": "1"}], ["1", "21"], ["12"]),
    ([{"equals-ignore-case": "x"}], ["X"], ["y"]),
    ([{"anything-but": "5"}], ["6", "5.0", ""], ["5"]),
    ([{"anything-but": 5}], ["6", "x", ""], ["5", "5.0", "0.5e1"]),
    ([{"anything-but": [True, "x"]}], ["false", "1"], ["TRUE", "x"]),
    ([{"anything-but": {"prefix": "a"}}], ["b", ""], ["ab"]),
    ([{"numeric": [">", 0, "<=", 5]}], ["5", "0.5"], ["x", "", "6", "0"]),
    ([{"numeric": ["=", 0]}], ["0", "-0", "0.000001"], ["", "x"]),
    ([{"cidr": "10.0.0.0/8"}], ["10.1.2.3"], ["11.0.0.0", "x"]),
    ([{"wildcard": "a*"}], ["a"], ["b"]),
    ([{"exists": True}], ["x"], [""]),
    ([{"exists": False}], [""], ["x"]),
    (["x", {"exists": False}], ["", "x"], ["y"]),
]


@pytest.mark.parametrize(("terms", "fulfilling", "others"), TEXTS, ids=str)
def test_texts_fulfil_terms_or_do_not(terms, fulfilling, others):
    by_text = compile_terms(terms, "k", False).by_text
    assert [text for text in fulfilling if not by_text(text)] == []
    assert [text for text in others if by_text(text)] == []


@pytest.mark.parametrize("table", [TABLE, TEXTS])
def test_the_tables_know_every_operator(table):
    assert {key for row in table for term in row[0] if isinstance(term, dict) for key in term} == (
        OPERATORS
    )


# Terms, and what is said about them.
REFUSED = [
    ([["a"]], "k[0]: expected a text, a number, true, false or null"),
    (["a", {}], "k[1]: expected one operator in the object"),
    ([{"prefix": "a", "suffix": "b"}], "k[0]: expected one operator in the object"),
    ([{"regex": "a"}], "k[0].regex: is no operator; expected anything-but, cidr, "),
    ([{"a\nb" * 99: "a"}], "k[0].'a\\nba\\nb"),
    ([{"exists": "yes"}], "k[0].exists: expected true or false"),
    ([{"exists": None}], "k[0].exists: expected true or false"),
    ([{"prefix": 5}], "k[0].prefix: expected a text"),
    ([{"suffix": ["a"]}], "k[0].suffix: expected a text"),
    ([{"equals-ignore-case": None}], "k[0].equals-ignore-case: expected a text"),
    ([{"anything-but": []}], "k[0].anything-but: expected a list that is not empty"),
    ([{"anything-but": ["a", ["b"]]}], "k[0].anything-but[1]: expected a text, a number"),
    ([{"anything-but": ["a", {"prefix": "b"}]}], "k[0].anything-but[1]: expected a text"),
    ([{"anything-but": {}}], "k[0].anything-but: expected one operator in the object"),
    ([{"anything-but": {"exists": True}}], "k[0].anything-but.exists: cannot be negated"),
    ([{"anything-but": {"prefix": 5}}], "k[0].anything-but.prefix: expected a text"),
    ([{"numeric": []}], "k[0].numeric: expected a list such as"),
    ([{"numeric": 5}], "k[0].numeric: expected a list such as"),
    ([{"numeric": [">="]}], "k[0].numeric: expected a list such as"),
    ([{"numeric": [">", 1, "<"]}], "k[0].numeric: expected a list such as"),
    ([{"numeric": [">", 1, "<", 2, "<", 3]}], "k[0].numeric: expected a list such as"),
    ([{"numeric": [1, "<="]}], "k[0].numeric[0]: expected =, >, >=, <, <="),
    ([{"numeric": ["==", 1]}], "k[0].numeric[0]: expected =, >, >=, <, <="),
    ([{"numeric": [["="], 1]}], "k[0].numeric[0]: expected ="),
    ([{"numeric": ["=", "000"]}], "k[0].numeric[1]: expected a number"),
    ([{"numeric": ["=", True]}], "k[0].numeric[1]: expected a number"),
    ([{"numeric": ["<", 9, ">", 1]}], "k[0].numeric[0]: expected >, >="),
    ([{"numeric": ["=", 9, "<", 10]}], "k[0].numeric[0]: expected >, >="),
    ([{"numeric": [">=", 1, ">", 2]}], "k[0].numeric[2]: expected <, <="),
    ([{"numeric": [">", 1, "<", "30"]}], "k[0].numeric[3]: expected a number"),
    ([{"numeric": [">", 3, "<", 1]}], "k[0].numeric[3]: expected more than the lower limit"),
    ([{"numeric": [">=", 3, "<=", 3]}], "k[0].numeric[3]: expected more than the lower limit"),
    ([0.123456], "k[0]: expected a number with at most 5 decimals"),
    ([{"numeric": ["=", 1e-6]}], "k[0].numeric[1]: expected a number with at most 5 decimals"),
    ([{"cidr": 5}], "k[0].cidr: expected a text"),
    ([{"cidr": "10.0.0.0"}], "k[0].cidr: expected an address, a slash and a number of bits"),
    ([{"cidr": "10.0.0.0/255.0.0.0"}], "k[0].cidr: expected an address, a slash and a number"),
    ([{"cidr": "10.0.0.0/8/8"}], "k[0].cidr: expected an address, a slash and a number"),
    ([{"cidr": "fe80::1%eth0/64"}], "k[0].cidr: expected an address, a slash and a number"),
    ([{"cidr": "10.0.0.0/33"}], "k[0].cidr: '10.0.0.0/33' is no IPv4 or IPv6 network"),
    ([{"cidr": "10.0.0/8"}], "k[0].cidr: '10.0.0/8' is no IPv4 or IPv6 network"),
]

# Of what only our own policies know.
REFUSED_OWN = [
    ([{"anything-but": {"prefix": []}}], "k[0].anything-but.prefix: expected a list that is not"),
    ([{"anything-but": {"prefix": ["a", 5]}}], "k[0].anything-but.prefix[1]: expected a text"),
    ([{"wildcard": "a\\b"}], "k[0].wildcard: expected * or a backslash after a backslash"),
    ([{"wildcard": "a\\"}], "k[0].wildcard: expected * or a backslash after a backslash"),
    ([{"wildcard": "a**"}], "k[0].wildcard: expected no * beside another"),
]

REFUSED_STRICT = [
    ([{"wildcard": "a*"}], "k[0].wildcard: is no operator"),
    (
        [{"anything-but": {"suffix": "a"}}],
        "k[0].anything-but.suffix: cannot be negated; expected p",
    ),
    ([{"anything-but": {"wildcard": "a"}}], "k[0].anything-but.wildcard: cannot be negated"),
    ([{"anything-but": {"prefix": ["a"]}}], "k[0].anything-but.prefix: expected a text"),
    ([SNS_NUMBER_MAX + 1], "k[0]: expected a number from -1000000000 to 1000000000"),
    ([{"numeric": ["<", -SNS_NUMBER_MAX - 1]}], "k[0].numeric[1]: expected a number from"),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("terms", "message"), REFUSED, ids=str)
def test_wrong_terms_are_refused_with_their_path(terms, message, strict):
    with pytest.raises(InvalidArgument) as caught:
        compile_terms(terms, "k", strict)
    assert str(caught.value).startswith(f"filter policy, {message}")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("terms", "message"), REFUSED_OWN, ids=str)
def test_wrong_terms_that_only_we_have_are_refused_too(terms, message):
    test_wrong_terms_are_refused_with_their_path(terms, message, False)


@pytest.mark.parametrize(("terms", "message"), REFUSED_STRICT, ids=str)
def test_strict_terms_are_those_of_sns(terms, message):
    compile_terms(terms, "k", False)
    with pytest.raises(InvalidArgument) as caught:
        compile_terms(terms, "k", True)
    assert str(caught.value).startswith(f"filter policy, {message}")


@pytest.mark.parametrize(("limit", "strict"), [(SNS_NUMBER_MAX, True), (FILTER_NUMBER_MAX, False)])
def test_numbers_are_limited(limit, strict):
    compile_terms([limit, -limit], "k", strict)
    for number in (limit + 1, -limit - 1, float("inf"), float("nan"), 10**400):
        with pytest.raises(InvalidArgument, match=f"a number from -{limit} to {limit}"):
            compile_terms([{"anything-but": [number]}], "k", strict)


def test_an_error_has_a_path_and_names_are_shown_in_one_line():
    for path, message in (("a.b[0]", "filter policy, a.b[0]: x"), ("", "filter policy: x")):
        with pytest.raises(InvalidArgument) as caught:
            fail(path, "x")
        assert str(caught.value) == message
    assert [shown(name) for name in ("tenant-id", "$or", "größe", "a.b", "", "x" * 99, "\n")] == [
        *("tenant-id", "$or", "größe", "'a.b'", "''", f"'{'x' * 60}'", "'\\n'")
    ]


@pytest.mark.parametrize("pattern", ["*a" * 400 + "*b", "a*" * 400 + "b", "*ab" * 300])
def test_no_wildcard_is_slow(pattern):
    """One that were would not end before the time limit of the test."""
    by_text = compile_terms([{"wildcard": pattern}], "k", False).by_text
    assert not by_text("a" * 200_000 + "c")

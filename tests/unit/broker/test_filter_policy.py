"""Filter policies: scopes, nesting, $or, types, errors, limits, and the keys for an index."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.filter_policy import (
    FILTER_BODY_BYTES_MAX,
    FILTER_BYTES_MAX,
    FILTER_DEPTH_MAX,
    FILTER_KEYS_MAX,
    FILTER_MEMBERS_MAX,
    FILTER_OPERATORS_MAX,
    FILTER_TERMS_MAX,
    SNS_COMBINATIONS_MAX,
    SNS_KEYS_MAX,
    FilterPolicy,
    Scope,
    attribute_texts,
    decode_body,
)

ATTRIBUTES, BODY = Scope.ATTRIBUTES, Scope.BODY


def on_body(policy: Mapping[str, object], document: object, strict: bool = False) -> bool:
    return FilterPolicy(policy, BODY, strict=strict).matches({}, json.dumps(document).encode())


# --- attributes


def test_all_keys_must_be_fulfilled_by_one_of_their_terms() -> None:
    policy = FilterPolicy({"kind": ["a", "b"], "size": [{"numeric": [">", 5]}]})
    assert policy.matches_attributes({"kind": "b", "size": "6", "more": "x"})
    assert not policy.matches_attributes({"kind": "c", "size": "6"})
    assert not policy.matches_attributes({"kind": "b", "size": "5"})
    assert not policy.matches_attributes({"kind": "b"})
    assert not policy.matches_attributes({})


@pytest.mark.parametrize("term", ["x", {"anything-but": "y"}, {"prefix": ""}, {"exists": True}])
def test_bytes_are_as_good_as_missing(term: object) -> None:
    assert not FilterPolicy({"k": [term]}).matches_attributes({"k": b"x"})
    assert FilterPolicy({"k": [{"exists": False}]}).matches_attributes({"k": b"x"})


@pytest.mark.parametrize(
    ("header", "policy", "fulfilled"),
    [
        ('["a", "b"]', ["b"], True),
        ('["a", "b"]', ["c"], False),
        ('["a", "b"]', [{"anything-but": ["a"]}], True),
        ('["a"]', [{"anything-but": ["a"]}], False),
        ('["a", 5, true, null]', [5], True),
        ('["a", 5, true, null]', [True], True),
        ('["a", 5, true, null]', [None], True),
        ('["5"]', [5], False),  # in an array everything has a type
        ('[ "ab" ]', [{"prefix": "a"}], True),
        ("[1, 2]", [{"numeric": [">", 1]}], True),
        ("[]", [{"exists": True}], False),
        ("[]", [{"exists": False}], True),
        ("[a", ["[a"], True),  # these are texts
        ('["a", {}]', ['["a", {}]'], True),
        ('["a", ["b"]]', ["b"], False),
        ("[1e999]", [{"prefix": "[1e"}], True),
        (' ["a"]', ["a"], False),
    ],
)
def test_a_text_that_reads_as_an_array_is_its_elements(
    header: str, policy: list[object], fulfilled: bool
) -> None:
    assert FilterPolicy({"k": policy}).matches_attributes({"k": header}) is fulfilled


@pytest.mark.parametrize(
    ("data_type", "value", "policy", "fulfilled"),
    [
        ("String", "5", [5], False),
        ("String", "5", ["5"], True),
        ("String", "true", [True], False),
        ("String", '["a"]', ["a"], False),
        ("String", '["a"]', ['["a"]'], True),
        ("String.kind", "a", ["a"], True),
        ("Number", "5", [5], True),
        ("Number", "5.0", [{"numeric": ["=", 5]}], True),
        ("Number", "5", ["5"], False),
        ("Number", "5", [{"anything-but": ["5"]}], True),
        ("Number.int", "5", [5], True),
        ("Number", "x", [{"exists": True}], False),
        ("String.Array", '["a"]', ["a"], True),
        ("String.Array", "a", ["a"], False),
        ("String.Array", '["a"', [{"exists": True}], False),
        ("Number.Array", "[100, 50]", [{"anything-but": [100]}], True),
        ("Binary", "a", ["a"], False),
        ("Binary.png", "a", [{"exists": True}], False),
    ],
)
def test_a_known_type_goes_before_guessing(
    data_type: str, value: str, policy: list[object], fulfilled: bool
) -> None:
    compiled = FilterPolicy({"k": policy})
    assert compiled.matches_attributes({"k": value}, {"k": data_type}) is fulfilled
    assert compiled.matches({"k": value}, b"", {"k": data_type, "other": "Number"}) is fulfilled
    assert not compiled.matches_attributes({}, {"k": data_type})


def test_names_of_attributes_are_whole_names() -> None:
    policy = FilterPolicy({"a.b": ["x"], "$or": ["y"]})
    assert policy.matches_attributes({"a.b": "x", "$or": "y"})


def test_a_strict_policy_wants_an_attribute() -> None:
    terms = {"k": [{"exists": False}]}
    assert FilterPolicy(terms).matches_attributes({})
    assert not FilterPolicy(terms, strict=True).matches_attributes({})
    assert FilterPolicy(terms, strict=True).matches_attributes({"other": "x"})
    assert FilterPolicy({}, strict=True).matches_attributes({})


# --- bodies

RECORDS = {
    "Records": [
        {"name": "Created:Put", "s3": {"object": [[{"key": "auto-1"}]]}, "tags": ["x", ["y"]]},
        {"name": "Removed", "s3": {"object": {"key": "home-1"}}},
    ]
}


@pytest.mark.parametrize(
    ("policy", "document", "fulfilled"),
    [
        ({"a": {"b": ["x"]}}, {"a": {"b": "x"}}, True),
        ({"a": {"b": ["x"]}}, {"a": {"b": "y"}, "b": "x"}, False),
        ({"a": {"b": ["x"]}}, {"a": "x"}, False),
        ({"a": {"b": ["x"]}}, {}, False),
        ({"a": ["x"]}, {"a": ["y", ["x"]]}, True),
        ({"a": ["x"]}, {"a": [["y"], {"b": "x"}]}, False),
        ({"a": [5]}, {"a": "5"}, False),
        ({"a": [{"anything-but": ["x"]}]}, {"a": ["x", "y"]}, True),
        ({"a": [{"anything-but": ["x"]}]}, {"a": ["x", None]}, False),
        ({"a": [{"anything-but": ["x"]}]}, {}, False),
        ({"a": [{"exists": True}]}, {"a": {"b": 1}}, False),  # only ends exist
        ({"a": [{"exists": False}]}, {"a": {"b": 1}}, True),
        ({"a": [{"exists": True}]}, {"a": [0]}, True),
        ({"a": [{"exists": True}]}, {"a": []}, False),
        ({"a": {"b": [{"exists": False}]}}, {}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": 5}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": {"b": 1}}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 1}]}, True),
        ({"Records": {"name": [{"prefix": "Created:"}]}}, RECORDS, True),
        ({"Records": {"s3": {"object": {"key": [{"prefix": "auto-"}]}}}}, RECORDS, True),
        ({"Records": {"name": ["Removed"], "s3": {"object": {"key": ["home-1"]}}}}, RECORDS, True),
        # No single record is both.
        ({"Records": {"name": ["Removed"], "s3": {"object": {"key": ["auto-1"]}}}}, RECORDS, False),
        ({"Records.name": ["Removed"], "Records.s3.object.key": ["auto-1"]}, RECORDS, True),
        ({"Records": {"tags": ["y"]}}, RECORDS, True),
        ({"a.b.c": ["x"]}, {"a": {"b": {"c": "x"}}}, True),
        ({"a.b.c": ["x"]}, {"a.b.c": "x"}, True),
        ({"a.b.c": ["x"]}, {"a.b": {"c": "x"}}, True),
        ({"a.b.c": ["x"]}, {"a": {"b.c": "x"}}, True),
        ({"a.b.c": ["x"]}, {"a": [{"b": [{"c": "y"}]}, {"b": {"c": ["x"]}}]}, True),
        ({"a.b.c": ["x"]}, {"a": {"b": {"c": "y"}}, "c": "x"}, False),
        ({"a.b": {"c": ["x"]}}, {"a": {"b": {"c": "x"}}}, True),
        ({"a": {"b": ["x"]}}, {"a.b": "x"}, False),  # a dot in the body alone is a letter
        ({"a.": ["x"]}, {"a": {"": "x"}}, True),
    ],
)
def test_a_body_fulfils_a_policy_or_does_not(
    policy: Mapping[str, object], document: object, fulfilled: bool
) -> None:
    assert on_body(policy, document) is fulfilled


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"text", b'"text"', b"[]", b'[{"a": "x"}]', b"null", b"{", b"{} {}", b'{"a": \xff}'),
        *(b"\xef\xbb\xbf{}", b'{"a": 1e999}', b'{"a": NaN}', b'{"a": "\\ud800"}', b"\0"),
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"1" * 100_000 + b"e999}",
    ],
)
def test_what_is_no_json_object_fulfils_only_the_empty_policy(body: bytes) -> None:
    assert decode_body(body) is None
    assert not FilterPolicy({"a": [{"exists": False}]}, BODY).matches({}, body)
    assert FilterPolicy({}, BODY).matches({}, body)


def test_of_a_name_that_comes_twice_in_a_body_the_last_one_counts() -> None:
    assert decode_body(b'{"a": "x", "a": "y"}') == {"a": "y"}


def test_a_body_is_read_up_to_a_size() -> None:
    body = b'{"a": "x"}'.ljust(FILTER_BODY_BYTES_MAX)
    policy = FilterPolicy({"a": ["x"]}, BODY)
    assert policy.matches({}, body)
    assert not policy.matches({}, body + b" ")


def test_a_body_is_read_up_to_a_number_of_members() -> None:
    few = ["y"] * (FILTER_MEMBERS_MAX - 5)
    policy = {"a": {"b": ["x"]}}
    assert on_body(policy, {"a": [few, {"b": "x"}], "c": []})  # 2 + 2 + 1 members beside the few
    assert not on_body(policy, {"a": [few, {"b": "x"}], "c": [1]})
    assert not on_body(policy, {"a": [few, {"b": "x"}], "c": {"d": 1}})
    assert on_body(policy, {"a": {"b": ["x"]}, "c": "," * 2 * FILTER_MEMBERS_MAX})


def test_an_array_in_a_header_is_read_up_to_a_number_of_elements() -> None:
    most = ["y"] * (FILTER_MEMBERS_MAX - 1) + ["x"]
    policy = FilterPolicy({"a": ["x"]})
    assert policy.matches_attributes({"a": json.dumps(most)})
    assert not policy.matches_attributes({"a": json.dumps([*most, "x"])})


def test_lists_in_lists_may_be_as_deep_as_the_decoder_takes_them() -> None:
    assert on_body(
        {"a": ["x"], "b": [{"exists": False}]},
        json.loads('{"a":' + "[" * 500 + '"x"' + "]" * 500 + "}"),
    )


# --- $or

CHOICE = {
    "source": ["s"],
    "$or": [{"name": ["n"]}, {"kind": ["k"], "$or": [{"id": [1]}, {"room": [2]}]}],
}


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(
    ("message", "fulfilled"),
    [
        ({"source": "s", "name": "n"}, True),
        ({"source": "s", "kind": "k", "id": 1}, True),
        ({"source": "s", "kind": "k", "room": 2}, True),
        ({"source": "s", "kind": "k"}, False),
        ({"source": "s", "id": 1, "room": 2}, False),
        ({"name": "n"}, False),
    ],
)
def test_one_branch_of_or_is_enough(scope: Scope, message: dict[str, Any], fulfilled: bool) -> None:
    policy = FilterPolicy(CHOICE, scope, strict=True)
    headers = {name: str(value) for name, value in message.items()}
    assert policy.matches(headers, json.dumps(message).encode()) is fulfilled


def test_or_stands_in_objects_too() -> None:
    policy = {"d": {"scope": ["S"], "$or": [{"source": ["c"]}, {"type": ["t"]}]}}
    assert on_body(policy, {"d": {"scope": "S", "type": "t"}})
    assert not on_body(policy, {"d": {"scope": "S"}, "type": "t"})
    assert not on_body(policy, {"d": [{"scope": "S"}, {"type": "t"}]})


@pytest.mark.parametrize("terms", [["x"], ["x", "y"], [{"prefix": "x"}, {"prefix": "z"}]])
def test_or_may_be_an_ordinary_key(terms: list[object]) -> None:
    for scope in Scope:
        policy = FilterPolicy({"$or": terms}, scope)
        assert policy.matches({"$or": "x"}, b'{"$or": "x"}')
        assert not policy.matches({"$or": "w"}, b'{"$or": "w"}')


# --- what is refused

REFUSED: list[tuple[str | bytes, str]] = [
    ("", "filter policy, line 1, column 1: is no JSON: "),
    ('{"a": ["x"],\n "b": [}', "filter policy, line 2, column 8: is no JSON: "),
    ('{"a": [NaN]}', "filter policy: NaN is no JSON"),
    ("[]", "filter policy: expected a JSON object"),
    ('"a"', "filter policy: expected a JSON object"),
    ('{"a": ["x"], "a": ["y"]}', "filter policy, a: stands twice in one object"),
    ('{"a": [{"prefix": "x", "prefix": "y"}]}', "filter policy, prefix: stands twice in one"),
    ('{"a": "x"}', "filter policy, a: expected an array"),
    ('{"a": null}', "filter policy, a: expected an array"),
    ('{"a": []}', "filter policy, a: expected an array that is not empty"),
    ('{"a b": ["x", ["y"]]}', "filter policy, 'a b'[1]: expected a text, a number"),
    ('{"$or": []}', "filter policy, $or: expected an array that is not empty"),
    ('{"$or": [{"a": ["x"]}]}', "filter policy, $or[0].a: is no operator"),
    ('{"$or": [{"a": ["x"]}, {}]}', "filter policy, $or[0].a: is no operator"),
    ('{"$or": [{"a": ["x"]}, {"prefix": ["x"]}]}', "filter policy, $or[0].a: is no operator"),
    ('{"$or": [{"a": ["x"]}, {"b": 5}]}', "filter policy, $or[1].b: expected an array"),
    ('{"a": [0.1234567]}', "filter policy, a[0]: expected a number with at most 5 decimals"),
    ('{"a": [1e999]}', "filter policy, a[0]: expected a number from "),
    ('{"a": [' + "9" * 5_000 + "]}", "filter policy: a number has too many digits"),
    ('{"a": ["\\ud800"]}', "filter policy: expected texts that UTF-8 can write"),
    ('{"a": ["\ud800"]}', "filter policy: expected texts that UTF-8 can write"),
    (b'{"a": ["\xff"]}', "filter policy: is no UTF-8 from byte 9 on"),
    ('{"a":' * 100_000, "filter policy: expected at most "),
    ('{"a":' * 40_000, "filter policy: expected at most 16 objects within one another"),
    ('{"a":[' + "[" * 100_000, "filter policy: expected at most 16 objects within one another"),
]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_policy_is_refused_with_its_place(
    text: str | bytes, message: str, scope: Scope, strict: bool
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        FilterPolicy(text, scope, strict=strict)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [{"b": ["x"]}, {}, {"prefix": "x"}])
def test_attributes_hold_no_objects(value: object) -> None:
    with pytest.raises(InvalidArgument, match="a: expected an array: attributes hold no objects"):
        FilterPolicy({"a": value})


def test_objects_in_a_body_are_not_empty() -> None:
    with pytest.raises(InvalidArgument, match=r"a\.b: expected an object that is not empty"):
        FilterPolicy({"a": {"b": {}}}, BODY)
    with pytest.raises(InvalidArgument, match=r"a\.prefix: expected an array or an object"):
        FilterPolicy({"a": {"prefix": "x"}}, BODY)


@pytest.mark.parametrize(
    "document", [{"a": [float("inf")]}, {"a": [b"x"]}, {("a",): ["x"]}, {"a": {1, 2}}]
)
def test_a_mapping_that_json_cannot_write_is_refused(document: Any) -> None:
    with pytest.raises(InvalidArgument, match="filter policy: cannot be written as JSON"):
        FilterPolicy(document)


def test_a_mapping_that_contains_itself_is_refused() -> None:
    document: dict[str, Any] = {}
    document["a"] = document
    with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
        FilterPolicy(document, BODY)


def test_a_policy_can_be_written_and_read_again() -> None:
    text = ' { "é" : [ "\\u00e9", 1.50, {"numeric": [">=", 1e3]}, null ] } '
    policy = FilterPolicy(text, strict=True)
    assert policy.document == '{"é":["é",1.5,{"numeric":[">=",1000.0]},null]}'
    for again in (policy.document, policy.document.encode(), json.loads(text)):
        assert FilterPolicy(again).document == policy.document
    assert FilterPolicy(MappingProxyType({"a": ("x",)})).document == '{"a":["x"]}'
    assert policy.scope is ATTRIBUTES and policy.strict and not FilterPolicy("{}").strict
    assert repr(FilterPolicy('{"a":["x"]}', BODY)) == 'FilterPolicy(\'{"a":["x"]}\', Scope.BODY)'


# --- limits


def test_the_size_is_limited_in_bytes() -> None:
    fill = FILTER_BYTES_MAX - len('{"a":[""]}')
    FilterPolicy('{"a":["' + "x" * fill + '"]}', strict=True)
    for text in ("x" * (fill + 1), "é" * (fill // 2 + 1), "x" * 10_000_000):
        with pytest.raises(InvalidArgument, match="at most 262144 bytes"):
            FilterPolicy('{"a":["' + text + '"]}')


def nested(levels: int, inner: object) -> Any:
    return {"a": nested(levels - 1, inner)} if levels else inner


@pytest.mark.parametrize("form", ["objects", "dots", "dots in objects", "or"])
def test_the_depth_is_limited(form: str) -> None:
    def policy(depth: int) -> dict[str, Any]:
        match form:
            case "objects":
                found: dict[str, Any] = nested(depth, ["x"])
            case "dots":
                found = {".".join("a" * depth): ["x"]}
            case "dots in objects":
                found = {"a.a.a": nested(depth - 3, ["x"])}
            case _:
                found = {"a": ["x"]}
                for _ in range(depth - 1):
                    found = {"$or": [found, {"a": ["x"]}]}
        return found

    assert on_body(policy(FILTER_DEPTH_MAX), {"a": "x"} if form == "or" else nested(16, "x"))
    with pytest.raises(InvalidArgument, match=r"at most 16 (objects within|names in a path)"):
        FilterPolicy(policy(FILTER_DEPTH_MAX + 1), BODY)


def test_the_number_of_keys_is_limited() -> None:
    keys = {f"k{number}": ["x"] for number in range(FILTER_KEYS_MAX)}
    FilterPolicy(keys)
    for more in ({**keys, "more": ["x"]}, {"$or": [keys, {"more": ["x"]}]}):
        with pytest.raises(InvalidArgument, match="more: expected at most 100 keys with terms"):
            FilterPolicy(more)


def test_the_number_of_terms_is_limited() -> None:
    terms = ["x"] * (FILTER_TERMS_MAX - 1)
    FilterPolicy({"a": terms, "b": ["y"]})
    with pytest.raises(InvalidArgument, match="b: expected at most 1000 terms in all"):
        FilterPolicy({"a": terms, "b": ["y", "z"]})


def test_the_number_of_terms_with_operators_is_limited() -> None:
    terms = [{"prefix": "x"}] * (FILTER_OPERATORS_MAX - 1)
    FilterPolicy({"a": terms, "b": [{"exists": True}, "y", "z"]})
    with pytest.raises(InvalidArgument, match="b: expected at most 200 terms with operators"):
        FilterPolicy({"a": terms, "b": [{"exists": True}, {"prefix": "z"}]})


def test_strict_policies_have_five_keys() -> None:
    keys = {f"k{number}": ["x"] for number in range(SNS_KEYS_MAX)}
    FilterPolicy(keys, strict=True)
    FilterPolicy({"a": {name: ["x"] for name in "bcdefg"}}, BODY, strict=True)
    FilterPolicy({**keys, "more": ["x"]})
    with pytest.raises(InvalidArgument, match="filter policy: expected at most 5 keys"):
        FilterPolicy({**keys, "more": ["x"]}, strict=True)


def terms(count: int) -> list[str]:
    return [f"v{number}" for number in range(count)]


# The combinations that SNS counts; the sums are those of the guide, or seen in SNS.
COMPLEXITY: list[tuple[int, Scope, dict[str, Any]]] = [
    (6, ATTRIBUTES, {"a": terms(3), "b": terms(1), "c": terms(2)}),
    (150, ATTRIBUTES, {"a": terms(150)}),
    (151, ATTRIBUTES, {"a": terms(151)}),
    (150, ATTRIBUTES, {"a": terms(50), "b": terms(3)}),
    (153, ATTRIBUTES, {"a": terms(51), "b": terms(3)}),
    (1, ATTRIBUTES, {"a": [{"anything-but": terms(200)}]}),
    (72, BODY, {"a": {"b": {"c": terms(4)}}, "d": {"e": terms(3)}}),
    (216, BODY, {"a": {"b": {"c": terms(4)}}, "d": {"e": terms(3)}, "f": terms(3)}),
    (
        152,
        ATTRIBUTES,
        {
            "source": terms(4),
            "$or": [
                {"name": terms(6)},
                {"type": terms(4), "$or": [{"id": terms(4)}, {"room": terms(4)}]},
            ],
        },
    ),
    (
        150,
        ATTRIBUTES,
        {
            "source": terms(3),
            "$or": [
                {"name": terms(6)},
                {"type": terms(4), "$or": [{"id": terms(4)}, {"room": terms(7)}]},
            ],
        },
    ),
    (
        160,
        BODY,
        {
            "$or": [{"name": terms(3)}, {"space": terms(2)}],
            "detail": {"scope": terms(2), "$or": [{"source": terms(1)}, {"type": terms(3)}]},
        },
    ),
]


@pytest.mark.parametrize(("count", "scope", "policy"), COMPLEXITY, ids=str)
def test_strict_policies_have_so_many_combinations(
    count: int, scope: Scope, policy: dict[str, Any]
) -> None:
    FilterPolicy(policy, scope)
    if count <= SNS_COMBINATIONS_MAX:
        FilterPolicy(policy, scope, strict=True)
        return
    with pytest.raises(InvalidArgument, match=f"at most 150 combinations of terms, found {count}"):
        FilterPolicy(policy, scope, strict=True)


# --- the index


@pytest.mark.parametrize(
    ("scope", "policy", "keys"),
    [
        (ATTRIBUTES, {"a": ["x", "y"]}, {("a", "x"), ("a", "y")}),
        (ATTRIBUTES, {"a": ["x", "y"], "b": ["z"], "c": [1]}, {("b", "z")}),
        (ATTRIBUTES, {"a": ["x", {"prefix": "y"}]}, None),
        (ATTRIBUTES, {"a": ["x", None]}, None),
        (ATTRIBUTES, {"a": ["x", {"exists": False}]}, None),
        (ATTRIBUTES, {"a.b": ["x"]}, {("a.b", "x")}),
        (ATTRIBUTES, {"$or": [{"a": ["x"]}, {"b": ["y"], "c": [1]}]}, {("a", "x"), ("b", "y")}),
        (ATTRIBUTES, {"$or": [{"a": ["x"]}, {"b": [1]}], "c": ["z"]}, {("c", "z")}),
        (ATTRIBUTES, {"$or": [{"a": ["x"]}, {"b": [1]}]}, None),
        (ATTRIBUTES, {}, None),
        (BODY, {"a": {"b": ["x"]}, "c": ["y", "z"]}, {("a", "b", "x")}),
        (BODY, {"a.b": ["x"], "c": ["y", "z"]}, {("c", "y"), ("c", "z")}),
        (BODY, {"a.b": {"c": ["x"]}}, None),
    ],
)
def test_a_policy_names_texts_of_which_a_message_must_have_one(
    scope: Scope, policy: dict[str, Any], keys: set[tuple[str, ...]] | None
) -> None:
    found = FilterPolicy(policy, scope).index_keys()
    assert (None if found is None else {(*path, text) for path, text in found}) == keys


def test_a_header_is_looked_up_by_all_its_texts() -> None:
    assert set(attribute_texts("x")) == {"x"}
    assert set(attribute_texts('["x", 1, "y"]')) == {'["x", 1, "y"]', "x", "y"}
    assert set(attribute_texts("[x")) == {"[x"}
    assert not attribute_texts(b"x")

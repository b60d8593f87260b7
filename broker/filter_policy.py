"""Filter policies: the conditions of SNS on the attributes of a message or on its JSON body.

    {"kind": ["order", {"prefix": "pay"}], "total": [{"numeric": [">", 100]}]}

Each key must be fulfilled, by one of the terms in its array (``filter_terms.py``); ``$or`` is
fulfilled if one of the objects in its array is. A policy is checked in full when it is made;
asking it cannot fail. The rules:

1. In the scope ATTRIBUTES keys are names of headers. A header of bytes is as good as missing, as
   SNS ignores Binary attributes. A text that reads as a JSON array of texts, numbers, truth values
   and nulls is a list of these; any other text is read as its term needs it. A type that the
   caller knows (String, String.Array, Number, Binary) goes before all guessing.
2. In the scope BODY keys are names in a JSON object, and may hold objects of keys themselves. What
   is no JSON object fulfils only the empty policy.
3. Lists in a body stand for their elements, lists in lists too: at a key with terms for the texts,
   numbers, truth values and nulls among them, at a key with an object for the objects. Of these,
   one must fulfil the whole of the policy's object. Where there is none, an empty object stands.
4. A key with dots also stands for a path: ``a.b`` is found at ``a.b`` and at ``b`` within ``a``.
5. ``$or`` is an ordinary key unless its array has two objects or more and nothing else, none of
   them with the name of an operator.
6. A name that stands twice in an object is refused, because one of the two would not count.
7. Everything is bounded, as below. ``strict`` adds what SNS publishes as its limits, and takes no
   operator that SNS has not. And there, as in SNS, a message without any attribute fulfils only
   the empty policy.

Sources: the developer guide of SNS on subscription filter policies, and the observations of SNS
that are told in docs/filters.md.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgspec

from .filter_terms import OPERATORS, Scalar, Test, compile_terms, fail, shown
from .header_values import number_in
from .index_keys import IndexKeys, any_keys, fewest_keys, keys_of_texts
from .message import HeaderMap, is_text

__all__ = [
    "FILTER_BODY_BYTES_MAX",
    "FILTER_BYTES_MAX",
    "FILTER_DEPTH_MAX",
    "FILTER_KEYS_MAX",
    "FILTER_MEMBERS_MAX",
    "FILTER_OPERATORS_MAX",
    "FILTER_TERMS_MAX",
    "SNS_COMBINATIONS_MAX",
    "SNS_KEYS_MAX",
    "FilterPolicy",
    "Scope",
    "attribute_texts",
    "decode_body",
]

# Of every policy.
FILTER_BYTES_MAX = 256 * 1024  # of its JSON
FILTER_DEPTH_MAX = 16  # objects within one another; a dot in a key counts as one
FILTER_KEYS_MAX = 100  # that hold terms, in all its objects
FILTER_TERMS_MAX = 1_000  # in all its arrays
FILTER_OPERATORS_MAX = 200  # terms that are no exact values, in all its arrays
# Of a message that is asked about.
FILTER_BODY_BYTES_MAX = 1024 * 1024  # a larger body is not read: rule 2
FILTER_MEMBERS_MAX = 10_000  # of all objects and arrays of a body, or of an array in a header
# Of a strict policy, as SNS publishes them.
SNS_KEYS_MAX = 5  # of the outermost object, $or being one
SNS_COMBINATIONS_MAX = 150

Types: TypeAlias = Mapping[str, str]
Source: TypeAlias = Mapping[str, Any]  # headers, or the JSON object that a body is
Condition: TypeAlias = Callable[[Source, Types], bool]

_ARRAY = msgspec.json.Decoder(list[str | int | float | bool | None])
_BODY = msgspec.json.Decoder(dict[str, Any])
_NO_TYPES: Types = {}
_NOTHING: Source = {}
_EMPTY = "{}"


class Scope(Enum):
    """What a policy is about; the values are those of SNS's FilterPolicyScope."""

    ATTRIBUTES = "MessageAttributes"
    BODY = "MessageBody"


# --- the policy as a tree --------------------------------------------------------------------


class _Key(NamedTuple):
    """A key with an array of terms."""

    name: str
    test: Test
    terms: int
    texts: tuple[str, ...]  # if only these fulfil it; else none


class _Nested(NamedTuple):
    """A key with an object of keys."""

    name: str
    nodes: "tuple[_Node, ...]"


class _Either(NamedTuple):
    """$or, and what stands in its array."""

    branches: "tuple[tuple[_Node, ...], ...]"


_Node: TypeAlias = _Key | _Nested | _Either
_Nodes: TypeAlias = tuple[_Node, ...]


class _Reader:
    """Makes the tree, and counts what is limited."""

    def __init__(self, scope: Scope, strict: bool) -> None:
        self._scope = scope
        self._strict = strict
        self._keys = 0
        self._terms = 0
        self._operators = 0

    def nodes(self, policy: Mapping[str, object], path: str, depth: int) -> _Nodes:
        if depth > FILTER_DEPTH_MAX:
            fail(path, f"expected at most {FILTER_DEPTH_MAX} objects within one another")
        return tuple(
            self._node(name, value, f"{path}.{shown(name)}" if path else shown(name), depth)
            for name, value in policy.items()
        )

    def _node(self, name: str, value: object, path: str, depth: int) -> _Node:
        if isinstance(value, dict):
            if self._scope is Scope.ATTRIBUTES:
                fail(path, "expected an array: attributes hold no objects")
            if not value:
                fail(path, "expected an object that is not empty")
            return _Nested(name, self.nodes(value, path, depth + 1 + name.count(".")))
        if not isinstance(value, list):
            fail(path, "expected an array or an object" if self._in_body else "expected an array")
        if not value:
            fail(path, "expected an array that is not empty")
        if name == "$or" and _is_choice(value):
            return _Either(
                tuple(
                    self.nodes(branch, f"{path}[{number}]", depth + 1)
                    for number, branch in enumerate(value)
                )
            )
        return self._key(name, value, path, depth)

    def _key(self, name: str, terms: list[object], path: str, depth: int) -> _Key:
        self._keys += 1
        self._terms += len(terms)
        if self._keys > FILTER_KEYS_MAX:
            fail(path, f"expected at most {FILTER_KEYS_MAX} keys with terms")
        if self._terms > FILTER_TERMS_MAX:
            fail(path, f"expected at most {FILTER_TERMS_MAX} terms in all")
        self._operators += sum(isinstance(term, dict) for term in terms)
        if self._operators > FILTER_OPERATORS_MAX:
            fail(path, f"expected at most {FILTER_OPERATORS_MAX} terms with operators in all")
        if self._in_body and depth + name.count(".") > FILTER_DEPTH_MAX:
            fail(path, f"expected at most {FILTER_DEPTH_MAX} names in a path")
        texts = tuple(term for term in terms if isinstance(term, str))
        test = compile_terms(terms, path, self._strict)
        return _Key(name, test, len(terms), texts if len(texts) == len(terms) else ())

    @property
    def _in_body(self) -> bool:
        return self._scope is Scope.BODY


def _is_choice(value: list[object]) -> bool:
    """Rule 5."""
    return len(value) > 1 and all(
        isinstance(branch, dict) and branch and OPERATORS.isdisjoint(branch) for branch in value
    )


def _combinations(nodes: _Nodes, depth: int = 1) -> int:
    """The complexity as SNS counts it: an array counts its terms times its depth.

    Keys multiply, the branches of $or are added up and do not deepen what stands in them.
    """
    product = 1
    for node in nodes:
        if isinstance(node, _Key):
            product *= node.terms * depth
        elif isinstance(node, _Nested):
            product *= _combinations(node.nodes, depth + 1)
        else:
            product *= sum(_combinations(branch, depth) for branch in node.branches)
    return product


def _index_keys(nodes: _Nodes, path: tuple[str, ...], split_dots: bool) -> IndexKeys:
    choices: list[IndexKeys] = []
    for node in nodes:
        if isinstance(node, _Either):
            choices.append(
                any_keys(_index_keys(branch, path, split_dots) for branch in node.branches)
            )
        elif split_dots and "." in node.name:
            continue  # it may stand at several paths
        elif isinstance(node, _Nested):
            choices.append(_index_keys(node.nodes, (*path, node.name), split_dots))
        elif node.texts:
            choices.append(keys_of_texts((*path, node.name), node.texts))
    return fewest_keys(choices)


# --- reading a policy ------------------------------------------------------------------------


def _parsed(text: str) -> dict[str, object]:
    """Decoded by the standard library, because it lets us see a name that comes twice."""
    if len(text) > FILTER_BYTES_MAX or len(text.encode(errors="replace")) > FILTER_BYTES_MAX:
        fail("", f"expected at most {FILTER_BYTES_MAX} bytes")
    try:
        policy = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        fail(f"line {error.lineno}, column {error.colno}", f"is no JSON: {error.msg}")
    except ValueError:  # an integer with thousands of digits
        fail("", "a number has too many digits")
    except RecursionError:
        fail("", f"expected at most {FILTER_DEPTH_MAX} objects within one another")
    if not isinstance(policy, dict):
        fail("", "expected a JSON object")
    return policy


def _object(members: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in members:
        if name in found:
            fail(shown(name), "stands twice in one object")
        found[name] = value
    return found


def _no_constant(written: str) -> NoReturn:
    fail("", f"{written} is no JSON")


def _json_of(document: str | bytes | Mapping[str, object]) -> str:
    if isinstance(document, str):
        return document
    try:
        if isinstance(document, bytes):
            return document.decode()
        return json.dumps(dict(document), allow_nan=False)
    except UnicodeDecodeError as error:
        fail("", f"is no UTF-8 from byte {error.start + 1} on")
    except (TypeError, ValueError, RecursionError) as error:
        fail("", f"cannot be written as JSON: {error}")


# --- the meaning: closures over headers or a decoded body ------------------------------------


def _all_of(nodes: _Nodes, scope: Scope) -> Condition:
    conditions = [_condition(node, scope) for node in nodes]
    if len(conditions) == 1:
        return conditions[0]

    def fulfilled(source: Source, types: Types) -> bool:
        for condition in conditions:
            if not condition(source, types):
                return False
        return True

    return fulfilled


def _condition(node: _Node, scope: Scope) -> Condition:
    if isinstance(node, _Either):
        return _any_of([_all_of(branch, scope) for branch in node.branches])
    if isinstance(node, _Nested):
        return _below(node.name, _all_of(node.nodes, scope))
    return (_attribute if scope is Scope.ATTRIBUTES else _member)(node.name, node.test)


def _any_of(conditions: Sequence[Condition]) -> Condition:
    return lambda source, types: any(condition(source, types) for condition in conditions)


def _attribute(name: str, test: Test) -> Condition:
    by_values, by_text = test

    def fulfilled(headers: Source, types: Types) -> bool:
        value = headers.get(name)
        if type(value) is str and name not in types and value[:1] != "[":
            return by_text(value)
        reading = _reading(value, types.get(name, ""))
        return by_text(reading) if isinstance(reading, str) else by_values(reading)

    return fulfilled


def _reading(value: str | bytes | None, data_type: str) -> str | Sequence[Scalar]:
    """Rule 1: a text that is read as its term needs it, or values that are what they are."""
    if not isinstance(value, str) or data_type.startswith("Binary"):
        return ()
    if not data_type or data_type.endswith(".Array"):
        if value[:1] == "[":
            try:
                elements = _ARRAY.decode(value)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                elements = None
            if elements is not None and len(elements) <= FILTER_MEMBERS_MAX:
                return elements
        return () if data_type else value
    if data_type.startswith("Number"):
        number = number_in(value)
        return () if number is None else (number,)
    return (value,)


def _member(name: str, test: Test) -> Condition:
    by_values = test.by_values
    if "." in name:
        return lambda document, types: by_values(_scalars(_found(document, name)))

    def fulfilled(document: Source, types: Types) -> bool:
        value = document.get(name, _NOTHING)
        if type(value) is list or type(value) is dict:
            return by_values(_scalars([value]))
        return by_values((value,))

    return fulfilled


def _below(name: str, condition: Condition) -> Condition:
    def fulfilled(document: Source, types: Types) -> bool:
        found = _objects(_found(document, name)) or (_NOTHING,)
        return any(condition(each, types) for each in found)

    return fulfilled


def _found(document: Source, name: str) -> list[object]:
    """What stands at a key: rule 4. Each value of a body has one path, so each is seen once."""
    found = [document[name]] if name in document else []
    dot = name.find(".")
    while dot >= 0:
        if (head := name[:dot]) in document:
            for each in _objects([document[head]]):
                found.extend(_found(each, name[dot + 1 :]))
        dot = name.find(".", dot + 1)
    return found


def _elements(values: list[Any]) -> Iterator[Any]:
    """The values, and in the place of lists what stands in them: rule 3."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if type(value) is list:
            waiting.extend(value)
        else:
            yield value


def _scalars(values: list[object]) -> list[Any]:
    return [value for value in _elements(values) if type(value) is not dict]


def _objects(values: list[object]) -> list[Source]:
    return [value for value in _elements(values) if type(value) is dict]


# --- what is asked ---------------------------------------------------------------------------


def decode_body(body: bytes) -> Source | None:
    """The JSON object that a body is, for :meth:`FilterPolicy.matches_body`; None if it is none.

    Decoded once for each message, however many policies are asked. None also for a body above
    FILTER_BODY_BYTES_MAX or FILTER_MEMBERS_MAX, for numbers beyond a double, and for hundreds of
    nested arrays. Of a name that comes twice the last one counts.
    """
    if len(body) > FILTER_BODY_BYTES_MAX:
        return None
    try:
        document = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    # Each member has a comma before it or opens an object or array, so few of these are enough.
    members_at_most = body.count(b",") + body.count(b"[") + body.count(b"{")
    if members_at_most > FILTER_MEMBERS_MAX and _has_too_many_members(document):
        return None
    return document


def _has_too_many_members(document: Source) -> bool:
    waiting: list[Any] = [document]
    members = 0
    while waiting and members <= FILTER_MEMBERS_MAX:
        container = waiting.pop()
        members += len(container)
        if members <= FILTER_MEMBERS_MAX:
            below = container.values() if type(container) is dict else container
            waiting.extend(each for each in below if type(each) is dict or type(each) is list)
    return members > FILTER_MEMBERS_MAX


def attribute_texts(value: str | bytes) -> Collection[str]:
    """The texts by which a header is looked up in an index of :meth:`FilterPolicy.index_keys`."""
    reading = _reading(value, "")
    if isinstance(reading, str):
        return (reading,)
    texts = {element for element in reading if isinstance(element, str)}
    return texts | {value} if isinstance(value, str) else texts


class FilterPolicy:
    """A filter policy, checked and compiled.

    Args:
        document: the policy, as JSON or already decoded.
        scope: whether it is about the headers or the body of a message.
        strict: whether the limits of SNS hold, and what else rule 7 says.

    Raises:
        InvalidArgument: with the path to what is wrong, or its line and column.
    """

    __slots__ = ("_condition", "_keys", "document", "scope", "strict")

    def __init__(
        self,
        document: str | bytes | Mapping[str, object],
        scope: Scope = Scope.ATTRIBUTES,
        *,
        strict: bool = False,
    ) -> None:
        policy = _parsed(_json_of(document))
        if strict and len(policy) > SNS_KEYS_MAX:
            fail("", f"expected at most {SNS_KEYS_MAX} keys")
        nodes = _Reader(scope, strict).nodes(policy, "", 1)
        if strict and (size := _combinations(nodes)) > SNS_COMBINATIONS_MAX:
            fail("", f"expected at most {SNS_COMBINATIONS_MAX} combinations of terms, found {size}")
        self.document = json.dumps(policy, ensure_ascii=False, separators=(",", ":"))
        if not is_text(self.document):
            fail("", "expected texts that UTF-8 can write")
        self.scope = scope
        self.strict = strict
        self._keys = _index_keys(nodes, (), scope is Scope.BODY)
        self._condition = _all_of(nodes, scope)

    def __repr__(self) -> str:
        return f"FilterPolicy({self.document!r}, {self.scope})"

    def matches(self, headers: HeaderMap, body: bytes, types: Types = _NO_TYPES) -> bool:
        """Whether the message fulfils the policy, whatever its scope."""
        if self.scope is Scope.BODY:
            return self.matches_body(decode_body(body))
        return self.matches_attributes(headers, types)

    def matches_attributes(self, headers: HeaderMap, types: Types = _NO_TYPES) -> bool:
        """Whether these headers fulfil the policy, which must be about attributes.

        Args:
            headers: of the message.
            types: SNS's data types of those headers whose type is known, by name.
        """
        assert self.scope is Scope.ATTRIBUTES
        if self.strict and not headers:
            return self.document == _EMPTY
        return self._condition(headers, types)

    def matches_body(self, document: Source | None) -> bool:
        """Whether a body fulfils the policy, which must be about the body.

        Args:
            document: what :func:`decode_body` made of the body.
        """
        assert self.scope is Scope.BODY
        if document is None:
            return self.document == _EMPTY
        return self._condition(document, _NO_TYPES)

    def index_keys(self) -> IndexKeys:
        """Paths and texts of which a message must have one to fulfil it; see index_keys.py.

        What a header counts as is told by :func:`attribute_texts`.
        """
        return self._keys

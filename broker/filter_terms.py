"""The operators of filter policies: from one value of a policy's array to a test.

    "EU"   5   true   null   {"prefix": "a"}   {"numeric": [">", 0, "<=", 5]}   {"exists": false}

``filter_policy.py`` finds the arrays in a policy and the values in a message; this module says
which values fulfil which array. The rules:

1. An array is fulfilled if one of the message's values fulfils one of its terms. For
   ``anything-but`` too: ``["a", "b"]`` has a value that is not ``a``.
2. Values are compared with their like: the text ``5`` is not the number 5. Null is only equal to
   null; it is no value for ``exists``, nor is the empty text, and ``anything-but`` passes it over.
3. A header without a type is a text, and also the number or truth value that it reads as
   (``header_values.py``). One of these readings is enough for a term; for ``anything-but`` none
   may be listed.
4. Numbers are compared to FILTER_DECIMALS decimals. A policy that has more of them is refused.
5. Letter by letter, but for ``equals-ignore-case``, which compares as Unicode folds cases.
6. Every test takes time linear in the value, whatever the policy. Terms with the same operator
   are one test: exact values cost one look-up, however many they are, and a number or an address
   is read once. No `re`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from operator import eq, ge, gt, le, lt
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeGuard

from .errors import InvalidArgument
from .header_values import Number, number_in, truth_in
from .patterns import Part, Wild, wildcard_matcher

__all__ = [
    "FILTER_DECIMALS",
    "FILTER_NUMBER_MAX",
    "OPERATORS",
    "SNS_NUMBER_MAX",
    "Scalar",
    "Test",
    "compile_terms",
    "fail",
    "shown",
]

FILTER_DECIMALS = 5
SNS_NUMBER_MAX = 10**9
FILTER_NUMBER_MAX = 2**53  # up to here a double has every integer
_ADDRESS_CHARACTERS_MAX = 45  # of an IPv6 address that ends in an IPv4 one

Scalar: TypeAlias = str | int | float | bool | None
ValueTest: TypeAlias = Callable[[Any], bool]
TextTest: TypeAlias = Callable[[str], bool]
NumberTest: TypeAlias = Callable[[Number], bool]
# An operand, its path, and whether it must be as in SNS, to what its test is made of.
Read: TypeAlias = Callable[[object, str, bool], Any]


class Test(NamedTuple):
    """Whether an array of a policy is fulfilled: two ways to ask."""

    by_values: Callable[[Sequence[Scalar]], bool]  # by what was found in JSON, or has a type
    by_text: TextTest  # by a header without a type


class _Term(NamedTuple):
    """The same for one term and one value."""

    by_value: ValueTest
    by_text: TextTest


def fail(path: str, problem: str) -> NoReturn:
    """Refuse the policy: what is wrong at ``path``, the names and places down to it."""
    where = f", {path}" if path else ""
    raise InvalidArgument(f"filter policy{where}: {problem}")


def compile_terms(terms: Sequence[object], path: str, strict: bool) -> Test:
    """The test that an array of a policy stands for.

    Args:
        terms: its elements, decoded from JSON.
        path: where it stands in the policy, for errors.
        strict: whether only what SNS accepts is accepted.

    Raises:
        InvalidArgument: with the path to the element and what is wrong with it.
    """
    exact: list[Scalar] = []
    operands: dict[str, list[Any]] = {}
    presence: set[bool] = set()
    for number, term in enumerate(terms):
        at = f"{path}[{number}]"
        if not isinstance(term, dict):
            exact.append(_scalar(term, at, strict))
            continue
        operator, operand = _only_member(term, at)
        at = f"{at}.{shown(operator)}"
        if operator == "exists":
            if not isinstance(operand, bool):
                fail(at, "expected true or false")
            presence.add(operand)
        elif operator in _READ and (operator not in _OWN or not strict):
            operands.setdefault(operator, []).append(_READ[operator](operand, at, strict))
        else:
            known = sorted(OPERATORS - _OWN if strict else OPERATORS)
            fail(at, f"is no operator; expected {', '.join(known)}")
    compiled = [_equal(exact)] if exact else []
    compiled += [_JOIN[operator](read) for operator, read in operands.items()]
    return _with_presence(_any_of(compiled), presence)


# --- several terms, several values -----------------------------------------------------------


def _any_of(terms: Sequence[_Term]) -> _Term:
    if len(terms) == 1:
        return terms[0]
    by_value = tuple(term.by_value for term in terms)
    by_text = tuple(term.by_text for term in terms)

    def any_by_value(value: Scalar) -> bool:
        for test in by_value:
            if test(value):
                return True
        return False

    def any_by_text(text: str) -> bool:
        for test in by_text:
            if test(text):
                return True
        return False

    return _Term(any_by_value, any_by_text)


def _with_presence(term: _Term, presence: set[bool]) -> Test:
    by_value, by_text = term

    def by_values(values: Sequence[Scalar]) -> bool:
        for value in values:
            if by_value(value):
                return True
        return bool(presence) and (_is_there(values) in presence)

    if not presence:
        return Test(by_values, by_text)
    return Test(by_values, lambda text: by_text(text) or (text != "") in presence)


def _is_there(values: Sequence[Scalar]) -> bool:
    return any(value is not None and value != "" for value in values)


# --- exact values and anything-but -----------------------------------------------------------


def _equal(values: Iterable[Scalar]) -> _Term:
    """Sets of each kind, because to Python True is 1 and also 1.0."""
    texts = frozenset(value for value in values if isinstance(value, str))
    words = frozenset(value for value in values if value is None or isinstance(value, bool))
    numbers = frozenset(
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    )
    truths = words - {None}

    def by_value(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return value in texts
        if kind is int:
            return value in numbers
        if kind is float:
            return _rounded(value) in numbers
        return value in words

    def by_text(text: str) -> bool:
        return (
            text in texts
            or (bool(numbers) and _number_of_text(text) in numbers)
            or (bool(truths) and truth_in(text) in truths)
        )

    return _Term(by_value, by_text if numbers or truths else texts.__contains__)


def _read_anything_but(operand: object, at: str, strict: bool) -> _Term:
    if isinstance(operand, dict):
        operator, inner = _only_member(operand, at)
        at = f"{at}.{shown(operator)}"
        if operator not in _NEGATED or (strict and operator != "prefix"):
            known = ["prefix"] if strict else sorted(_NEGATED)
            fail(at, f"cannot be negated; expected {', '.join(known)}")
        read = _READ[operator]
        if strict or not isinstance(inner, list):
            return _nothing_of(_JOIN[operator]([read(inner, at, strict)]))
        return _nothing_of(_JOIN[operator](_each(inner, read, at, strict)))
    listed = operand if isinstance(operand, list) else [operand]
    return _nothing_of(_equal(_each(listed, _scalar, at, strict)))


def _each(values: list[object], read: Read, at: str, strict: bool) -> list[Any]:
    if not values:
        fail(at, "expected a list that is not empty")
    return [read(value, f"{at}[{number}]", strict) for number, value in enumerate(values)]


def _nothing_of(term: _Term) -> _Term:
    by_value, by_text = term
    return _Term(
        lambda value: value is not None and not by_value(value),
        lambda text: not by_text(text),
    )


# --- texts: what an operator reads, and one test for all that was read ------------------------


def _of_texts(test: TextTest) -> _Term:
    return _Term(lambda value: type(value) is str and test(value), test)


def _begins(prefixes: list[str]) -> _Term:
    several = tuple(prefixes)
    return _of_texts(lambda text: text.startswith(several))


def _ends(suffixes: list[str]) -> _Term:
    several = tuple(suffixes)
    return _of_texts(lambda text: text.endswith(several))


def _read_folded(operand: object, at: str, strict: bool) -> str:
    return _text(operand, at, strict).casefold()


def _is_folded(texts: list[str]) -> _Term:
    folded = frozenset(texts)
    return _of_texts(lambda text: text.casefold() in folded)


def _read_wildcard(operand: object, at: str, strict: bool) -> TextTest:
    """As in EventBridge: * is any run of characters, after a backslash it is itself."""
    parts: list[Part] = []
    characters = iter(_text(operand, at, strict))
    for character in characters:
        if character == "\\":
            character = next(characters, "")
            if character not in ("*", "\\"):
                fail(at, "expected * or a backslash after a backslash")
            parts.append(character)
        elif character != "*":
            parts.append(character)
        elif parts and parts[-1] is Wild.RUN:
            fail(at, "expected no * beside another")
        else:
            parts.append(Wild.RUN)
    return wildcard_matcher(parts)


def _is_like(tests: list[TextTest]) -> _Term:
    return _of_texts(tests[0] if len(tests) == 1 else lambda text: any(t(text) for t in tests))


class _Network(NamedTuple):
    version: int
    rest_bits: int  # of an address, after those of the network
    base: int  # the bits of the network


def _read_cidr(operand: object, at: str, strict: bool) -> _Network:
    written = _text(operand, at, strict)
    address, slash, bits = written.partition("/")
    if not slash or not (bits.isascii() and bits.isdigit()) or "%" in address:
        fail(at, "expected an address, a slash and a number of bits, such as 10.0.0.0/24")
    try:
        network = ip_network(written, strict=False)
    except ValueError:
        fail(at, f"{written[:60]!r} is no IPv4 or IPv6 network")
    rest_bits = network.max_prefixlen - network.prefixlen
    return _Network(network.version, rest_bits, int(network.network_address) >> rest_bits)


def _is_within(networks: list[_Network]) -> _Term:
    def within(text: str) -> bool:
        if len(text) > _ADDRESS_CHARACTERS_MAX:
            return False
        try:
            address = ip_address(text)
        except ValueError:
            return False
        number = int(address)
        for version, rest_bits, base in networks:
            if address.version == version and number >> rest_bits == base:
                return True
        return False

    return _of_texts(within)


# --- numbers ---------------------------------------------------------------------------------

_LOWER: dict[object, Callable[[Number, Number], bool]] = {">": gt, ">=": ge}
_UPPER: dict[object, Callable[[Number, Number], bool]] = {"<": lt, "<=": le}


def _read_numeric(operand: object, at: str, strict: bool) -> NumberTest:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        fail(at, 'expected a list such as [">", 0] or [">=", 0, "<", 10]')
    comparisons = []
    for place in range(0, len(operand), 2):
        operator = operand[place]
        allowed = {"=": eq, **_LOWER, **_UPPER}
        if len(operand) == 4:
            allowed = _UPPER if place else _LOWER
        if not isinstance(operator, str) or operator not in allowed:
            fail(f"{at}[{place}]", f"expected {', '.join(map(str, allowed))}")
        limit = operand[place + 1]
        if not _is_number(limit):
            fail(f"{at}[{place + 1}]", "expected a number")
        comparisons.append((allowed[operator], _bounded(limit, f"{at}[{place + 1}]", strict)))
    compare, limit = comparisons[0]
    if len(comparisons) == 1:
        return lambda number: compare(number, limit)
    compare_top, top = comparisons[1]
    if not limit < top:
        fail(f"{at}[3]", "expected more than the lower limit")
    return lambda number: compare(number, limit) and compare_top(number, top)


def _is_numeric(tests: list[NumberTest]) -> _Term:
    test = tests[0] if len(tests) == 1 else lambda number: any(each(number) for each in tests)

    def by_value(value: Any) -> bool:
        kind = type(value)
        return (kind is int or kind is float) and test(_rounded(value))

    def by_text(text: str) -> bool:
        number = _number_of_text(text)
        return number is not None and test(number)

    return _Term(by_value, by_text)


def _number_of_text(text: str) -> Number | None:
    number = number_in(text)
    return None if number is None else _rounded(number)


def _rounded(number: Number) -> Number:
    return round(number, FILTER_DECIMALS) if type(number) is float else number


# --- what may be written ---------------------------------------------------------------------


def _only_member(value: dict[str, object], at: str) -> tuple[str, object]:
    if len(value) != 1:
        fail(at, "expected one operator in the object")
    return next(iter(value.items()))


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounded(number: Number, at: str, strict: bool) -> Number:
    limit = SNS_NUMBER_MAX if strict else FILTER_NUMBER_MAX
    if not abs(number) <= limit:  # also what is no number at all
        fail(at, f"expected a number from -{limit} to {limit}")
    if _rounded(number) != number:
        fail(at, f"expected a number with at most {FILTER_DECIMALS} decimals")
    return number


def _scalar(value: object, at: str, strict: bool) -> Scalar:
    if value is None or isinstance(value, str | bool):
        return value
    if not _is_number(value):
        fail(at, "expected a text, a number, true, false or null")
    return _bounded(value, at, strict)


def _text(value: object, at: str, strict: bool) -> str:
    if not isinstance(value, str):
        fail(at, "expected a text")
    return value


def shown(name: str) -> str:
    """A name as it stands in the path of an error: short, in one line, quoted if need be."""
    plain = name.replace("-", "").replace("$", "").isidentifier()
    return name if plain and len(name) <= 60 else ascii(name[:60])


_READ: Mapping[str, Read] = {
    "anything-but": _read_anything_but,
    "cidr": _read_cidr,
    "equals-ignore-case": _read_folded,
    "numeric": _read_numeric,
    "prefix": _text,
    "suffix": _text,
    "wildcard": _read_wildcard,
}
_JOIN: Mapping[str, Callable[[list[Any]], _Term]] = {
    "anything-but": _any_of,
    "cidr": _is_within,
    "equals-ignore-case": _is_folded,
    "numeric": _is_numeric,
    "prefix": _begins,
    "suffix": _ends,
    "wildcard": _is_like,
}
_OWN = frozenset(["wildcard"])  # not of SNS
_NEGATED = frozenset(["equals-ignore-case", "prefix", "suffix", "wildcard"])
OPERATORS = frozenset([*_READ, "exists"])

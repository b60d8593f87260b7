"""Message selectors: the SQL-92 conditions of JMS over the headers of a message.

    region = 'EU' AND (priority >= 5 OR "tenant-id" IN ('a', 'b')) AND trace IS NOT NULL

One parser for every place that takes a condition (STOMP ``selector``, ``where=``). A selector is
checked in full when it is made; evaluating one cannot fail and cannot be slow. The rules:

1. Logic has three values. A comparison with a header that is missing is *unknown*, so is the NOT
   of it, and a message is selected only when the whole is true.
2. Headers are text, so the other side decides: against a number, a header that reads as a number
   is compared as a number (as ActiveMQ does for STOMP), against TRUE or FALSE one that reads
   ``true`` or ``false``. Two headers are compared as numbers when both are, else as texts.
3. Unlike values do not compare: the comparison is false, ``=`` and ``<>`` alike. Bytes are unlike
   everything. ``NOT BETWEEN`` means below or above, hence false too; ``NOT IN`` and ``NOT LIKE``
   are the NOT of theirs, hence true. A calculation with what is no number is unknown, and so is
   a comparison with it.
4. Texts and booleans know only ``=`` and ``<>``; a literal used otherwise is refused at once.
5. Integers divide like Java's, towards zero; division by zero is unknown.
6. A number in a header is at most 40 characters of decimal digits, sign, point and exponent.
7. Keywords are in any case, names are not; a name with other characters is quoted: ``"tenant-id"``.
8. What JMS calls ``JMSCorrelationID``, ``JMSReplyTo``, ``JMSType``, ``JMSXGroupID`` and
   ``JMSXGroupSeq`` are the headers ``correlation-id``, ``reply-to``, ``type``, ``group-id`` and
   ``group-sequence``. ``JMSPriority``, ``JMSTimestamp``, ``JMSMessageID`` and ``JMSDeliveryMode``
   are read from the message: see :class:`MessageFields`. Headers of these names are never read.

A blank selector selects everything. No expression a client writes reaches `re`: ours cuts the
text into words (``selector_words.py``), ``LIKE`` has a matcher of its own (``patterns.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from operator import add, eq, ge, gt, le, lt, mul, ne, sub
from typing import NamedTuple, TypeAlias

from .errors import InvalidArgument
from .header_values import Number, number_in, truth_in
from .index_keys import IndexKeys, any_keys, fewest_keys, keys_of_texts
from .message import GROUP_ID, GROUP_SEQUENCE, PRIORITY_DEFAULT
from .patterns import Part, Wild, wildcard_matcher
from .selector_words import Token, fail, tokens

__all__ = [
    "SELECTOR_BYTES_MAX",
    "SELECTOR_DEPTH_MAX",
    "SELECTOR_TERMS_MAX",
    "MessageFields",
    "Selector",
]

SELECTOR_BYTES_MAX = 1_024
# A term is a comparison, a test or an arithmetic operation.
SELECTOR_TERMS_MAX = 50
# Parentheses, NOT and signs inside one another.
SELECTOR_DEPTH_MAX = 16

Value: TypeAlias = str | bytes
Headers: TypeAlias = Mapping[str, Value]
Condition: TypeAlias = Callable[[Headers], bool | None]
Numeric: TypeAlias = Callable[[Headers], Number | None]
Compare: TypeAlias = Callable[..., bool]

_PREFIX = "convert_string_expressions:"  # ActiveMQ's way to ask for rule 2
_COMPARE: dict[str, Compare] = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BLANK = " \t\n\r\f"

_JMS_HEADERS = {
    "JMSCorrelationID": "correlation-id",
    "JMSReplyTo": "reply-to",
    "JMSType": "type",
    "JMSXGroupID": GROUP_ID,
    "JMSXGroupSeq": GROUP_SEQUENCE,
}
_JMS_FIELDS = frozenset(["JMSDeliveryMode", "JMSMessageID", "JMSPriority", "JMSTimestamp"])


class MessageFields(NamedTuple):
    """What of a message is no header: for selectors that ask for it.

    Attributes:
        id: 32 hex digits; ``JMSMessageID`` is ``ID:`` and them, unknown if there are none.
        priority: ``JMSPriority``; a header ``priority``, which STOMP keeps, comes before it.
        time_ms: ``JMSTimestamp``, when the broker took it, unix ms; 0: unknown. A header
            ``timestamp`` comes before it.
    """

    id: str = ""
    priority: int = PRIORITY_DEFAULT
    time_ms: int = 0

    def laid_over(self, headers: Headers) -> dict[str, Value]:
        """The headers, with the names by which JMS knows the fields.

        ``JMSDeliveryMode`` is ``PERSISTENT`` or ``NON_PERSISTENT``, as the header ``persistent``
        says, which STOMP keeps.
        """
        found = {name: value for name, value in headers.items() if name not in _JMS_FIELDS}
        found["JMSPriority"] = headers.get("priority", str(self.priority))
        persistent = headers.get("persistent") == "true"
        found["JMSDeliveryMode"] = "PERSISTENT" if persistent else "NON_PERSISTENT"
        timestamp = headers.get("timestamp", str(self.time_ms) if self.time_ms else "")
        if timestamp:
            found["JMSTimestamp"] = timestamp
        if self.id:
            found["JMSMessageID"] = f"ID:{self.id}"
        return found


_NO_FIELDS = MessageFields()


# --- the parser: Pratt's, one binding power per infix word -----------------------------------


class _Name(NamedTuple):
    at: int
    name: str


class _Literal(NamedTuple):
    at: int
    value: str | bool | Number


class _Arithmetic(NamedTuple):
    at: int
    evaluate: Numeric


class _Condition(NamedTuple):
    at: int
    evaluate: Condition
    keys: IndexKeys = None


_Node: TypeAlias = _Name | _Literal | _Arithmetic | _Condition

_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN = range(1, 8)
_POWER = {
    "OR": _OR,
    "AND": _AND,
    **dict.fromkeys(_COMPARE, _COMPARISON),
    **dict.fromkeys(["BETWEEN", "IN", "IS", "LIKE", "NOT"], _COMPARISON),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/", _PRODUCT),
}


class _Parser:
    """Reads the tokens once, left to right; each method leaves behind what it has read."""

    def __init__(self, tokens: Iterator[Token]) -> None:
        self._tokens = tokens
        self._token = next(self._tokens)
        self._depth = 0
        self._terms = 0
        self.names: set[str] = set()

    def selector(self) -> _Condition:
        condition = self._condition(self._expression(0))
        if self._token.kind != "end":
            fail(self._token.at, "AND, OR or the end", self._token.shown)
        return condition

    def _next(self) -> Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _expect(self, kind: str, expected: str) -> Token:
        if self._token.kind != kind:
            fail(self._token.at, expected, self._token.shown)
        return self._next()

    def _expression(self, power: int) -> _Node:
        left = self._operand()
        while _POWER.get(self._token.kind, 0) > power:
            left = self._infix(left, self._next())
        return left

    def _deeper(self, power: int, at: int) -> _Node:
        if self._depth == SELECTOR_DEPTH_MAX:
            fail(at, f"at most {SELECTOR_DEPTH_MAX} levels of parentheses, NOT and signs")
        self._depth += 1
        node = self._expression(power)
        self._depth -= 1
        return node

    def _term(self, at: int) -> None:
        self._terms += 1
        if self._terms > SELECTOR_TERMS_MAX:
            fail(at, f"at most {SELECTOR_TERMS_MAX} comparisons, tests and calculations")

    def _operand(self) -> _Node:
        token = self._next()
        match token.kind:
            case "name":
                name = _JMS_HEADERS.get(str(token.value), str(token.value))
                self.names.add(name)
                return _Name(token.at, name)
            case "text" | "number":
                return _Literal(token.at, token.value)
            case "TRUE" | "FALSE":
                return _Literal(token.at, token.kind == "TRUE")
            case "(":
                node = self._deeper(0, token.at)
                self._expect(")", "an operator or )")
                return node
            case "NOT":
                negated = self._condition(self._deeper(_NOT, token.at))
                return _Condition(token.at, _not(negated.evaluate))
            case "-" | "+":
                zero = _Literal(token.at, 0)
                return self._calculation(token, zero, self._deeper(_SIGN, token.at))
            case _:
                fail(token.at, "a name, a literal, NOT or (", token.shown)

    def _infix(self, left: _Node, token: Token) -> _Node:
        kind, at = token.kind, token.at
        if kind in ("AND", "OR"):
            first = self._condition(left)
            second = self._condition(self._expression(_POWER[kind]))
            join, keys_of = (_and, fewest_keys) if kind == "AND" else (_or, any_keys)
            joined = join(first.evaluate, second.evaluate)
            return _Condition(at, joined, keys_of((first.keys, second.keys)))
        if isinstance(left, _Condition):
            fail(at, "AND, OR or the end", token.shown)
        self._term(at)
        if kind in _COMPARE:
            right = self._expression(_COMPARISON)
            return _Condition(at, _comparison(kind, left, right), _equality_keys(kind, left, right))
        if kind in ("+", "-", "*", "/"):
            return self._calculation(token, left, self._expression(_POWER[kind]))
        if kind == "IS":
            return _Condition(at, self._null_test(left))
        negated = kind == "NOT"
        if negated:
            kind = self._next().kind
        if kind == "BETWEEN":
            return _Condition(at, self._between(left, negated))
        keys: IndexKeys = None
        if kind == "IN":
            test, keys = self._in(left)
        elif kind == "LIKE":
            test = self._like(left)
        else:
            fail(at, "BETWEEN, IN or LIKE after NOT")
        return _Condition(at, _not(test)) if negated else _Condition(at, test, keys)

    def _condition(self, node: _Node) -> _Condition:
        if isinstance(node, _Condition):
            return node
        self._term(node.at)
        if isinstance(node, _Name):
            return _Condition(node.at, _compare_literal(node.name, truth_in, eq, True))
        if isinstance(node, _Literal) and isinstance(node.value, bool):
            return _Condition(node.at, _constant(node.value))
        fail(node.at, "a condition, not a value")

    def _calculation(self, token: Token, left: _Node, right: _Node) -> _Node:
        first, second = _numeric(left), _numeric(right)
        if not isinstance(left, _Literal) or not isinstance(right, _Literal):
            return _Arithmetic(left.at, _calculate(token.kind, first, second))
        value = _calculate(token.kind, first, second)({})
        if value is None:
            fail(token.at, "a result that is a number")
        return _Literal(left.at, value)

    def _null_test(self, left: _Node) -> Condition:
        present = self._token.kind == "NOT"
        if present:
            self._next()
        self._expect("NULL", "NULL or NOT NULL")
        return _presence(_name_of(left, "IS NULL"), present)

    def _between(self, left: _Node, negated: bool) -> Condition:
        low = self._expression(_COMPARISON)
        self._expect("AND", "AND between the two limits")
        high = self._expression(_COMPARISON)
        if negated:
            return _or(_comparison("<", left, low), _comparison(">", left, high))
        return _and(_comparison(">=", left, low), _comparison("<=", left, high))

    def _in(self, left: _Node) -> tuple[Condition, IndexKeys]:
        name = _name_of(left, "IN")
        self._expect("(", "( and a list of literals")
        literals: set[str | Number] = set()
        keys: IndexKeys = None
        while True:
            node = self._expression(_COMPARISON)
            if not isinstance(node, _Literal) or isinstance(node.value, bool):
                fail(node.at, "a text or a number")
            literals.add(node.value)
            if self._token.kind != ",":
                break
            self._next()
        self._expect(")", ", or )")
        texts = [literal for literal in literals if isinstance(literal, str)]
        if len(texts) == len(literals) and name not in _JMS_FIELDS:
            keys = keys_of_texts((name,), texts)
        return _membership(name, frozenset(literals)), keys

    def _like(self, left: _Node) -> Condition:
        name = _name_of(left, "LIKE")
        pattern = self._expect("text", "a pattern in quotes")
        escape = ""
        if self._token.kind == "ESCAPE":
            self._next()
            at, escape = self._token.at, str(self._expect("text", "a text after ESCAPE").value)
            if len(escape) != 1:
                fail(at, "one character after ESCAPE", repr(escape))
        return _likeness(name, _like_parts(pattern, escape))


def _name_of(node: _Node, operator: str) -> str:
    if not isinstance(node, _Name):
        fail(node.at, f"the name of a header before {operator}")
    return node.name


def _equality_keys(operator: str, left: _Node, right: _Node) -> IndexKeys:
    """A header that must be this text is found by it."""
    if isinstance(left, _Literal):
        left, right = right, left
    if operator == "=" and isinstance(left, _Name) and isinstance(right, _Literal):
        if isinstance(right.value, str) and left.name not in _JMS_FIELDS:
            return keys_of_texts((left.name,), (right.value,))
    return None


def _like_parts(pattern: Token, escape: str) -> list[Part]:
    """The pattern of a LIKE; its position is counted to the opening quote."""
    parts: list[Part] = []
    characters = iter(str(pattern.value))
    for character in characters:
        if character == escape:  # what follows stands for itself
            parts.append(next(characters, ""))
            if not parts[-1]:
                fail(pattern.at, "a character after the escape at the end of the pattern")
        elif character == "%":
            parts.append(Wild.RUN)
        else:
            parts.append(Wild.ONE if character == "_" else character)
    return parts


# --- the meaning: closures over one mapping of headers ---------------------------------------


def _constant(value: bool) -> Condition:
    return lambda headers: value


def _not(condition: Condition) -> Condition:
    def negation(headers: Headers) -> bool | None:
        value = condition(headers)
        return None if value is None else not value

    return negation


def _and(first: Condition, second: Condition) -> Condition:
    def conjunction(headers: Headers) -> bool | None:
        left = first(headers)
        if left is False:
            return False
        right = second(headers)
        return right if left or right is False else None

    return conjunction


def _or(first: Condition, second: Condition) -> Condition:
    def disjunction(headers: Headers) -> bool | None:
        left = first(headers)
        if left is True:
            return True
        right = second(headers)
        return right if left is False or right is True else None

    return disjunction


def _presence(name: str, present: bool) -> Condition:
    return lambda headers: (headers.get(name) is not None) is present


def _membership(name: str, literals: frozenset[str | Number]) -> Condition:
    numeric = not all(isinstance(literal, str) for literal in literals)

    def member(headers: Headers) -> bool | None:
        value = headers.get(name)
        if value is None:
            return None
        return value in literals or (numeric and number_in(value) in literals)

    return member


def _likeness(name: str, parts: list[Part]) -> Condition:
    matches = wildcard_matcher(parts)

    def like(headers: Headers) -> bool | None:
        value = headers.get(name)
        if value is None:
            return None
        return isinstance(value, str) and matches(value)

    return like


def _comparison(operator: str, left: _Node, right: _Node) -> Condition:
    """``left operator right``, in the form that fits the two sides."""
    for node in (left, right):
        if isinstance(node, _Condition):
            fail(node.at, "a value to compare, not a condition")
    if isinstance(left, _Literal) and not isinstance(right, _Literal):
        return _comparison(_MIRRORED[operator], right, left)
    compare = _COMPARE[operator]
    if isinstance(right, _Literal) and isinstance(right.value, str | bool):
        if operator not in ("=", "<>"):
            fail(right.at, "a number: texts and booleans are compared with = and <> only")
        if isinstance(left, _Literal) and type(left.value) is type(right.value):
            return _constant(compare(left.value, right.value))
        if not isinstance(left, _Name):
            fail(right.at, "a value like the one it is compared with")
        if isinstance(right.value, bool):
            return _compare_literal(left.name, truth_in, compare, right.value)
        return _compare_literal(left.name, _text_in, compare, right.value)
    if isinstance(left, _Name) and isinstance(right, _Literal):
        return _compare_literal(left.name, number_in, compare, right.value)
    if isinstance(left, _Name) and isinstance(right, _Name):
        return _compare_headers(left.name, compare, right.name)
    return _compare_numbers(_numeric(left), compare, _numeric(right))


def _text_in(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _compare_literal(
    name: str, read: Callable[[Value], object], compare: Compare, literal: object
) -> Condition:
    def comparison(headers: Headers) -> bool | None:
        value = headers.get(name)
        if value is None:
            return None
        reading = read(value)
        return reading is not None and compare(reading, literal)

    return comparison


def _compare_numbers(first: Numeric, compare: Compare, second: Numeric) -> Condition:
    def comparison(headers: Headers) -> bool | None:
        left, right = first(headers), second(headers)
        return None if left is None or right is None else compare(left, right)

    return comparison


def _compare_headers(first: str, compare: Compare, second: str) -> Condition:
    ordering = compare not in (eq, ne)

    def comparison(headers: Headers) -> bool | None:
        left, right = headers.get(first), headers.get(second)
        if left is None or right is None:
            return None
        left_number, right_number = number_in(left), number_in(right)
        if left_number is not None and right_number is not None:
            return compare(left_number, right_number)
        if ordering or not isinstance(left, str) or not isinstance(right, str):
            return False
        return compare(left, right)

    return comparison


def _numeric(node: _Node) -> Numeric:
    """A side of a calculation: None for a header that is missing or reads as no number."""
    if isinstance(node, _Arithmetic):
        return node.evaluate
    if isinstance(node, _Literal) and not isinstance(node.value, str | bool):
        number = node.value
        return lambda headers: number
    if not isinstance(node, _Name):
        fail(node.at, "a number or the name of a header")
    name = node.name

    def read(headers: Headers) -> Number | None:
        value = headers.get(name)
        return None if value is None else number_in(value)

    return read


def _divide(first: Number, second: Number) -> Number:
    if isinstance(first, int) and isinstance(second, int):
        quotient = abs(first) // abs(second)
        return quotient if (first < 0) is (second < 0) else -quotient
    return first / second


_CALCULATE: dict[str, Callable[..., Number]] = {"+": add, "-": sub, "*": mul, "/": _divide}


def _calculate(operator: str, first: Numeric, second: Numeric) -> Numeric:
    apply = _CALCULATE[operator]

    def calculation(headers: Headers) -> Number | None:
        left, right = first(headers), second(headers)
        if left is None or right is None:
            return None
        try:
            result = apply(left, right)
        except ArithmeticError:  # division by zero, or an integer too large for a float
            return None
        return result if isinstance(result, int) or isfinite(result) else None

    return calculation


class Selector:
    """A condition over headers, checked and compiled. Make it with :meth:`parse`.

    Attributes:
        text: as it was written. names: of the headers that it reads, and of the fields.
        asks_fields: it reads fields, so :meth:`matches` wants them.
    """

    __slots__ = ("_condition", "_keys", "asks_fields", "names", "text")

    def __init__(
        self, text: str, names: frozenset[str], condition: Condition, keys: IndexKeys = None
    ) -> None:
        self.text = text
        self.names = names
        self.asks_fields = not names.isdisjoint(_JMS_FIELDS)
        self._condition = condition
        self._keys = keys

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """The selector that ``text`` spells.

        Raises:
            InvalidArgument: with the character, counted from 1, and what was expected there.
        """
        try:
            size = len(text) if len(text) > SELECTOR_BYTES_MAX else len(text.encode())
        except UnicodeEncodeError as error:
            fail(error.start, "a character that UTF-8 can write")
        if size > SELECTOR_BYTES_MAX:
            raise InvalidArgument(f"selector: at most {SELECTOR_BYTES_MAX} bytes, found {size}")
        begin = len(_PREFIX) if text[: len(_PREFIX)].lower() == _PREFIX else 0
        if not text[begin:].strip(_BLANK):
            return cls(text, frozenset(), _constant(True))
        parser = _Parser(tokens(text, begin))
        condition = parser.selector()
        return cls(text, frozenset(parser.names), condition.evaluate, condition.keys)

    def matches(self, headers: Headers, fields: MessageFields = _NO_FIELDS) -> bool:
        """Whether the condition is true for a message; false and unknown are both no.

        Whoever has more of the message than its headers says so with ``fields``.
        """
        if self.asks_fields:
            headers = fields.laid_over(headers)
        return self._condition(headers) is True

    def index_keys(self) -> IndexKeys:
        """Headers and texts of which a message must have one to be selected; see index_keys.py."""
        return self._keys

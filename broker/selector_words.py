"""The words of a selector: names, literals, keywords and operators, with their places.

What a client writes is cut by a pattern of ours and never becomes one. Each word can be matched in
one way only, so that no text makes the cutting slow. ``selectors.py`` says what the words mean.
"""

import re
from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple, NoReturn

from .errors import InvalidArgument
from .header_values import Number

__all__ = ["Token", "fail", "tokens"]

_KEYWORDS = frozenset(
    ["AND", "BETWEEN", "ESCAPE", "FALSE", "IN", "IS", "LIKE", "NOT", "NULL", "OR", "TRUE"]
)
_INTEGER_MAX = 2**63

# No possessive groups: before 3.11.5 Python mistakes what they match (cpython gh-106052). None of
# these can match the same text in two ways, so backtracking costs no more than a second look.
_WORDS = re.compile(
    r"""
      (?P<blank>  [ \t\n\r\f]++ )
    | (?P<text>   ' (?: [^'] | '' )* ' (?! ' ) )
    | (?P<quoted> " (?: [^"] | "" )* " (?! " ) )
    | (?P<real>   (?: [0-9]++ \. [0-9]*+ | \. [0-9]++ | [0-9]++ (?= [eEfFdD] ) )
                  (?: [eE] [+-]? [0-9]++ )? [fFdD]?+ (?! [\w$.] ) )
    | (?P<whole>  (?: 0 [xX] [0-9a-fA-F]++ | 0 | [1-9] [0-9]*+ ) [lL]?+ (?! [\w$.] ) )
    | (?P<word>   (?: [^\W\d] | \$ ) [\w$.]*+ )
    | (?P<symbol> <> | <= | >= | [-+*/=<>(),] )
    | (?P<end>    \Z )
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """``kind`` is name, text, number, end, or the keyword or symbol itself."""

    kind: str
    value: str | Number
    at: int

    @property
    def shown(self) -> str:
        """The word as an error names it."""
        if self.kind in ("name", "text", "number"):
            return f"{self.kind} {self.value!r}"
        return str(self.value) or "the end"


def fail(at: int, expected: str, found: str = "") -> NoReturn:
    """Refuse the selector: what was expected at this character, counted from 0, and what stood."""
    found = f", found {found[:60]}" if found else ""
    raise InvalidArgument(f"selector, character {at + 1}: expected {expected}{found}")


def tokens(text: str, at: int) -> Iterator[Token]:
    """The words of ``text`` from the character ``at`` on, the last one of the kind ``end``.

    Raises:
        InvalidArgument: with the character, counted from 1, and what was expected there.
    """
    while True:
        word = _WORDS.match(text, at)
        if word is None:
            _fail_to_read(text, at)
        start, at, written = at, word.end(), word[0]
        match word.lastgroup:
            case "text":
                yield Token("text", written[1:-1].replace("''", "'"), start)
            case "quoted":
                if written == '""':
                    fail(start, "a name between the quotes")
                yield Token("name", written[1:-1].replace('""', '"'), start)
            case "real":
                real = float(written.rstrip("fFdD"))
                if not isfinite(real):
                    fail(start, "a number of at most 64 bits", written)
                yield Token("number", real, start)
            case "whole":
                whole = int(written.rstrip("lL"), 0)
                if whole > _INTEGER_MAX:
                    fail(start, "a number of at most 64 bits", written)
                yield Token("number", whole, start)
            case "word":
                upper = written.upper()
                yield Token(upper if upper in _KEYWORDS else "name", written, start)
            case "symbol":
                yield Token(written, written, start)
            case "end":
                yield Token("end", "", start)
                return


def _fail_to_read(text: str, at: int) -> NoReturn:
    character = text[at]
    if character in "'\"":
        fail(at, f"a closing {character}", "the end")
    if character in ".0123456789":
        fail(at, "a number like 57, 57L, 0x1F, 7.5 or 7E3", repr(text[at : at + 24]))
    fail(at, "a name, a literal or an operator", repr(character))

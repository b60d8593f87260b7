"""Patterns of names: text, wildcards, and what a connection fills in.

Rules name resources by these patterns, selectors use the same matchers for ``LIKE``. The rules:

1. ``*`` is any run of characters, also none, also across ``/``; ``?`` is one character, also ``/``.
2. As in MQTT, ``+`` is one level, also an empty one, and ``#`` at the end is all levels from there
   on, and the level above: ``a/#`` matches ``a``, ``a/`` and ``a/b/c``. A ``+`` that is not a whole
   level, or a ``#`` that is not the whole last one, is refused: in a deny it would match nothing.
3. As in MQTT, a pattern that begins with ``+`` or ``#`` matches no name that begins with ``$``, nor
   another topic of the broker's own. One that begins with ``*`` or ``?`` does: whoever writes ``*``
   means everything.
4. ``%u`` and ``%c`` are variables, ``%%`` is a percent sign. What is filled in is text and never
   becomes a wildcard. See ``access.py`` for whose text is let in.
5. A pattern covers a filter if each name that matches the filter certainly matches the pattern.
   A filter's wildcard is read as a symbol that stands for all it can match, and only a wildcard
   of the pattern that matches all of this takes it. A ``#/`` within a filter is read as any run of
   characters, which is more than it matches. So the answer may be a wrong no (``*?`` is not found
   to cover ``a/+``), but never a wrong yes.
6. Everything takes time linear in the name or filter; there is no backtracking, no `re`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from .topic import is_reserved, may_be_reserved

__all__ = [
    "Filter",
    "Matcher",
    "NameMatcher",
    "NamePattern",
    "Part",
    "Variable",
    "Wild",
    "wildcard_matcher",
]


class Wild(Enum):
    """A wildcard between the literal parts of a pattern."""

    ONE = "any one character"
    RUN = "any run of characters, also an empty one"
    LEVEL = "any run of characters without a slash, also an empty one"
    BELOW = "nothing, or a slash and any run of characters; only the last part can be this"


class Variable(Enum):
    """What stands in a pattern for something of the connection that is judged."""

    USER = "%u"
    CLIENT = "%c"


Part: TypeAlias = str | Wild
Matcher: TypeAlias = Callable[[str], bool]


def wildcard_matcher(parts: Sequence[Part]) -> Matcher:
    """A function that says whether a text matches the parts, in time linear in the text.

    Rules and ``LIKE`` in selectors are both made of these parts, so that a literal text can never
    be mistaken for a wildcard.
    """
    if Wild.LEVEL in parts and (whole := _level_matcher(parts)) is not None:
        return whole
    if Wild.BELOW in parts:
        upper, lower = map(wildcard_matcher, _alternatives(parts))
        return lambda text: upper(text) or lower(text)
    if Wild.ONE in parts or Wild.LEVEL in parts:
        return _automaton(parts)
    pieces = [""]
    for part in parts:
        if isinstance(part, str):
            pieces[-1] += part
        else:
            pieces.append("")
    if len(pieces) == 1:
        return pieces[0].__eq__
    return _run_matcher(pieces[0], [piece for piece in pieces[1:-1] if piece], pieces[-1])


def _alternatives(parts: Sequence[Part]) -> list[Sequence[Part]]:
    """The same without BELOW: with nothing in its place, or with a slash and a run."""
    if Wild.BELOW not in parts:
        return [parts]
    before = parts[:-1]
    assert parts[-1] is Wild.BELOW and Wild.BELOW not in before
    return [before, [*before, "/", Wild.RUN]]


def _run_matcher(prefix: str, middle: list[str], suffix: str) -> Matcher:
    """Only runs between the pieces: taking each piece as far left as possible is exact."""

    def matches(text: str) -> bool:
        at, end = len(prefix), len(text) - len(suffix)
        if at > end or not text.startswith(prefix) or not text.endswith(suffix):
            return False
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return matches


def _level_matcher(parts: Sequence[Part]) -> Matcher | None:
    """For the usual patterns of topics, which know whole levels only; None for all others."""
    gap = "\0"
    literals = [part for part in parts if isinstance(part, str)]
    if Wild.RUN in parts or Wild.ONE in parts or any(gap in literal for literal in literals):
        return None
    below = parts[-1] is Wild.BELOW
    text = "".join(
        part if isinstance(part, str) else gap for part in parts if part is not Wild.BELOW
    )
    levels = text.split("/")
    if any(gap in level and level != gap for level in levels):
        return None
    size = len(levels)
    wanted = [(number, level) for number, level in enumerate(levels) if level != gap]

    def matches(text: str) -> bool:
        found = text.split("/")
        if len(found) < size or (len(found) > size and not below):
            return False
        for number, level in wanted:
            if found[number] != level:
                return False
        return True

    return matches


def _automaton(parts: Sequence[Part]) -> Callable[[Iterable[Part]], bool]:
    """All ways to match at once: bit i of ``state`` says that i characters of the pattern are met.

    A run keeps its bit alive over any character, a level over any but a slash. One shift and two
    masks per character, so nothing that a pattern or a text contains can make it slow.

    What is read may also be the symbols of a filter (rule 5): LEVEL is taken by runs and levels,
    RUN by runs, and neither by a literal or by ONE.
    """
    bit, runs, levels, any_one = 1, 0, 0, 0
    takes: dict[Part, int] = {}
    for part in parts:
        if part is Wild.RUN:
            runs |= bit
        elif part is Wild.LEVEL:
            levels |= bit
        elif part is Wild.ONE:
            bit <<= 1
            any_one |= bit
        elif isinstance(part, str):
            for character in part:
                bit <<= 1
                takes[character] = takes.get(character, 0) | bit
    accept = bit
    takes = {character: mask | any_one for character, mask in takes.items()}
    takes[Wild.LEVEL] = takes[Wild.RUN] = 0
    loops = runs | levels
    stays: dict[Part, int] = {"/": runs, Wild.LEVEL: loops, Wild.RUN: runs}

    def matches(symbols: Iterable[Part]) -> bool:
        state = 1
        for symbol in symbols:
            state = (state << 1) & takes.get(symbol, any_one) | (state & stays.get(symbol, loops))
            if not state:
                return False
        return bool(state & accept)

    return matches


class Filter:
    """A topic filter as the symbols that a pattern has to cover.

    Raises:
        ValueError: the filter is empty, or has a wildcard where none may be.
    """

    __slots__ = ("forms", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        levels = text.split("/")
        ends_in_rest = levels[-1] == "#"
        if ends_in_rest:
            levels.pop()
        symbols: list[Part] = []
        for number, level in enumerate(levels):
            if number and levels[number - 1] != "#":
                symbols.append("/")
            if level == "+":
                symbols.append(Wild.LEVEL)
            elif level == "#":
                symbols.append(Wild.RUN)  # with the slash after it
            elif "+" in level or "#" in level:
                raise ValueError(f"{text!r}: + and # stand for whole levels")
            else:
                symbols.extend(level)
        if "#/#" in text:
            raise ValueError(f"{text!r}: # stands for any number of levels, #/# for nothing else")
        if not text:
            raise ValueError("a filter is not empty")
        # What has to be covered: `a/#` is `a` and everything below it. No name is empty.
        self.forms: list[list[Part]] = [symbols] if symbols else []
        if ends_in_rest:
            self.forms.append([*symbols, "/", Wild.RUN] if levels else [Wild.RUN])


class NameMatcher:
    """A pattern with its variables filled in."""

    __slots__ = ("_hides", "_parts", "matches")

    def __init__(self, parts: Sequence[Part], hides: bool) -> None:
        self._parts = parts
        self._hides = hides  # what is the broker's own: rule 3
        matches = wildcard_matcher(parts)
        self.matches: Matcher = (
            (lambda name: not is_reserved(name) and matches(name)) if hides else matches
        )

    def covers(self, wanted: Filter) -> bool:
        """Whether each name that matches the filter certainly matches this pattern."""
        if self._hides and may_be_reserved(wanted.text):
            return False
        automata = [_automaton(parts) for parts in _alternatives(self._parts)]
        return all(any(accepts(form) for accepts in automata) for form in wanted.forms)


class NamePattern:
    """A pattern as it is written in a rule.

    Raises:
        ValueError: see the rules of the module.
    """

    __slots__ = ("_hides", "_parts")

    def __init__(self, text: str) -> None:
        self._hides = text.startswith(("+", "#"))
        self._parts: list[Part | Variable] = []
        levels = text.split("/")
        for number, level in enumerate(levels):
            is_last = number == len(levels) - 1
            if level == "#" and is_last:
                self._parts.append(Wild.BELOW if number else Wild.RUN)
                break
            if number:
                self._parts.append("/")
            if level == "+":
                self._parts.append(Wild.LEVEL)
            elif "+" in level or "#" in level:
                raise ValueError(
                    f"name pattern {text!r}: '+' stands for a whole level, '#' for the last ones;"
                    " write '?' for any one character"
                )
            else:
                self._read(level, text)

    def _read(self, level: str, text: str) -> None:
        characters = iter(level)
        for character in characters:
            if character == "*":
                self._parts.append(Wild.RUN)
            elif character == "?":
                self._parts.append(Wild.ONE)
            elif character != "%":
                self._parts.append(character)
            else:
                name = "%" + next(characters, "")
                if name not in ("%u", "%c", "%%"):
                    raise ValueError(
                        f"name pattern {text!r}: '{name}' stands for nothing; only %u (the user's"
                        " name), %c (the client id) and %% are known"
                    )
                self._parts.append("%" if name == "%%" else Variable(name))

    def filled(self, values: Mapping[Variable, Part | None]) -> NameMatcher | None:
        """The pattern with these values for its variables; None if one that it has is None."""
        parts: list[Part] = []
        for part in self._parts:
            value = values[part] if isinstance(part, Variable) else part
            if value is None:
                return None
            parts.append(value)
        return NameMatcher(parts, self._hides)

"""What an index can find a condition by, without asking the condition.

A topic with ten thousand subscriptions must not ask each of them about each message. So a condition
names texts of which a message must have one to fulfil it: ``kind = 'a' AND size > 5`` is found
under ``kind`` and ``a``. The rules:

1. The keys of a condition are pairs of a path and a text. A message that has none of these texts
   at these paths certainly does not fulfil it; one that has may, and the condition is asked. None
   says that there are no such keys: the condition has to be asked each time.
2. The path of a header is its name. The path of a value in a JSON body is the names down to it;
   lists on the way stand for all their elements.
3. Only texts that are compared as they are make keys: numbers have many spellings, and what is
   left of a pattern, a range or a negation is no text.
4. Where all of several conditions must hold, the one with the fewest keys is enough, and there is
   no message without it. Where one of several must, the keys of all are needed.
"""

from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["IndexKey", "IndexKeys", "any_keys", "fewest_keys", "keys_of_texts"]

IndexKey: TypeAlias = tuple[tuple[str, ...], str]  # a path, and the text that stands there
IndexKeys: TypeAlias = frozenset[IndexKey] | None


def keys_of_texts(path: tuple[str, ...], texts: Iterable[str]) -> IndexKeys:
    """The keys of a condition that holds only if one of these texts stands at this path."""
    return frozenset((path, text) for text in texts)


def fewest_keys(choices: Iterable[IndexKeys]) -> IndexKeys:
    """The keys of conditions that all must hold: the fewest, of several the first."""
    return min((keys for keys in choices if keys is not None), key=len, default=None)


def any_keys(choices: Iterable[IndexKeys]) -> IndexKeys:
    """The keys of conditions of which one must hold: those of all, None if one has none."""
    together: set[IndexKey] = set()
    for keys in choices:
        if keys is None:
            return None
        together |= keys
    return frozenset(together)

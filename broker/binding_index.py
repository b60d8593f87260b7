"""Which of many conditions a message may fulfil: found by the texts it has, not one by one.

An item is entered with the keys of its condition (``index_keys.py``): paths, and texts of which one
must stand there. All paths are one tree, which is walked along with the message: its headers, or
its decoded JSON body. So a search costs the places where tree and message have the same names,
plus what is found, whatever the number of items. What is found may match; whoever searches asks
the condition itself. An item without keys is found every time.

Pure: no records, no queues, no clock.
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from .filter_policy import attribute_texts
from .index_keys import IndexKeys
from .message import HeaderMap

__all__ = ["BindingIndex"]

T = TypeVar("T")


class _Node(Generic[T]):
    """A place in a message: what is wanted there, and below it."""

    __slots__ = ("below", "texts")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.texts: dict[str, dict[T, None]] = {}


class BindingIndex(Generic[T]):
    """Items by the keys of their conditions. Of each item there is one entry at most."""

    __slots__ = ("_always", "_items", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._always: dict[T, None] = {}
        self._items: dict[T, IndexKeys] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, keys: IndexKeys) -> None:
        """Enter an item that is not there yet."""
        assert item not in self._items
        self._items[item] = keys
        if keys is None:
            self._always[item] = None
            return
        for path, text in keys:
            node = self._root
            for name in path:
                node = node.below.setdefault(name, _Node())
            node.texts.setdefault(text, {})[item] = None

    def remove(self, item: T) -> None:
        """Take an item out that is there."""
        keys = self._items.pop(item)
        if keys is None:
            del self._always[item]
            return
        for path, text in keys:
            nodes = [self._root]
            for name in path:
                nodes.append(nodes[-1].below[name])
            texts = nodes[-1].texts
            del texts[text][item]
            if not texts[text]:
                del texts[text]
            for name in reversed(path):
                if nodes[-1].below or nodes[-1].texts:
                    break
                nodes.pop()
                del nodes[-1].below[name]

    def by_headers(self, headers: HeaderMap) -> list[T]:
        """The items that a message with these headers may match, each once, in no order."""
        below = self._root.below
        found: dict[T, None] | None = None
        for name in headers if len(headers) <= len(below) else below:
            if name not in below or name not in headers:
                continue
            texts = below[name].texts
            for text in attribute_texts(headers[name]):
                hits = texts.get(text)
                if hits:
                    found = hits if found is None else found | hits
        return [*self._always, *(found or ())]

    def by_body(self, document: Mapping[str, Any]) -> list[T]:
        """The same for a message with this body."""
        found: dict[T, None] = {}
        waiting: list[tuple[_Node[T], Any]] = [(self._root, document)]
        while waiting:
            node, value = waiting.pop()
            if isinstance(value, str):
                found.update(node.texts.get(value) or {})
            elif isinstance(value, list):
                waiting.extend((node, each) for each in value)
            elif isinstance(value, dict):
                below = node.below
                for name in value if len(value) <= len(below) else below:
                    if name in below and name in value:
                        waiting.append((below[name], value[name]))
        return [*self._always, *found]

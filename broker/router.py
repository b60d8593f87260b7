"""Which subscriptions want a topic: found in the time of those that do, whatever their number.

A filter without wildcards is a key of one dict, so a publish finds it at once. One with wildcards
is a path in a trie of levels:

    children    the literal levels that come next     plus    the level +
    many        the level #, if the filter goes on after it
    here        subscribers of the filter that ends at this node
    rest        subscribers of that filter followed by /#, which matches this node's topic as well

What a match costs. It goes down one level at a time with the set of nodes that match so far; a
``many`` that was reached stays in the set, because it matches whatever comes. Of the nodes whose
path has its wildcards at the same places (the same *shape*), a topic matches at most one at each
depth: it gives the levels before the first ``#`` from its beginning on, and those after the last
backwards from where it stands. Those between two ``#`` may be anywhere, so there a shape spells
the levels. Nodes without ``#`` above them match at one depth only. So one match looks at no more
nodes than there are shapes, which is :attr:`FilterTree.shapes`, and those with a ``#`` once for
each level of the topic. Shapes are a few dozen in practice, with a million subscriptions.
Somebody who subscribes to every mixture of ``a`` and ``+`` makes 2**n of them; whoever accepts
subscriptions bounds that with :meth:`FilterTree.new_shapes`, before it is written down, because
what was written down must be added again after a restart.

Subscribers of one filter are a (key, value) pair while there is one, as there mostly is, and a
dict from two on.
"""

from collections.abc import Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from .tables import slimmed
from .topic import has_wildcards

__all__ = ["FilterTree", "MatchCache"]

K = TypeVar("K")
V = TypeVar("V")

Subscribers = tuple[K, V] | dict[K, V]  # one, or several


class _Node(Generic[K, V]):
    """One level of a filter with wildcards."""

    __slots__ = ("children", "here", "many", "plus", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[K, V]] | None = None
        self.plus: _Node[K, V] | None = None
        self.many: _Node[K, V] | None = None
        self.here: Subscribers[K, V] | None = None
        self.rest: Subscribers[K, V] | None = None

    def child(self, level: str) -> "_Node[K, V] | None":
        if level == "+":
            return self.plus
        if level == "#":
            return self.many
        return self.children.get(level) if self.children is not None else None

    def is_empty(self) -> bool:
        nothing_here = self.here is None and self.rest is None
        return nothing_here and not self.children and self.plus is None and self.many is None


def _node_levels(filter: str) -> list[str]:
    """The levels down to the node that holds a filter: all but a # at the end."""
    levels = filter.split("/")
    if levels[-1] == "#":
        levels.pop()
    return levels


def _shapes(levels: list[str]) -> Iterator[Hashable]:
    """The shape of the node at each of the levels, from the first one down.

    Places of ``+`` are a bit for each level, after a 1 that tells how many levels there are.
    """
    places = 1
    before = 0  # the places before the first #
    first = 0  # the level that comes after it
    spelled: tuple[str, ...] = ()  # from there to the last #
    for at, level in enumerate(levels):
        if level != "#":
            places = places << 1 | (level == "+")
        elif not before:
            before, first, places = places, at + 1, 1
        else:
            spelled, places = tuple(levels[first:at]), 1
        yield (before, spelled, places) if before else places


class FilterTree(Generic[K, V]):
    """Filters, each with subscribers by key, searched by topic. Filters and topics are valid."""

    __slots__ = ("_count", "_exact", "_manys", "_root", "_shapes", "version")

    def __init__(self) -> None:
        self._exact: dict[str, Subscribers[K, V]] = {}
        self._root: _Node[K, V] = _Node()
        self._shapes: dict[Hashable, int] = {}  # shape -> nodes that have it
        self._count = 0
        self._manys = 0  # nodes that are a many; with none a match need not ask each
        self.version = 0  # rises with every change

    def __len__(self) -> int:
        """How many subscriptions there are: (filter, key) pairs."""
        return self._count

    @property
    def shapes(self) -> int:
        """The most nodes that one match can have to look at, at each level of the topic."""
        return len(self._shapes)

    def new_shapes(self, filter: str) -> int:
        """By how much adding ``filter`` would raise :attr:`shapes`."""
        if not has_wildcards(filter):
            return 0
        return sum(shape not in self._shapes for shape in _shapes(_node_levels(filter)))

    def add(self, filter: str, key: K, value: V) -> V | None:
        """Subscribe ``key`` with ``value``, never None; what it had there before, or None."""
        self.version += 1
        if not has_wildcards(filter):
            at = self._exact.get(filter)
            self._exact[filter], before = _with(at, key, value)
        else:
            levels = _node_levels(filter)
            node = self._root
            for level, shape in zip(levels, _shapes(levels), strict=True):
                node = self._child(node, level, shape)
            if filter.endswith("#"):
                node.rest, before = _with(node.rest, key, value)
            else:
                node.here, before = _with(node.here, key, value)
        if before is None:
            self._count += 1
        return before

    def _child(self, node: _Node[K, V], level: str, shape: Hashable) -> _Node[K, V]:
        """The node one level down, which is made when it is missing."""
        child = node.child(level)
        if child is None:
            child = _Node()
            self._shapes[shape] = self._shapes.get(shape, 0) + 1
            if level == "+":
                node.plus = child
            elif level == "#":
                node.many = child
                self._manys += 1
            elif node.children is None:
                node.children = {level: child}
            else:
                node.children[level] = child
        return child

    def remove(self, filter: str, key: K) -> V | None:
        """Take a subscription out; the value it had, or None if there was none."""
        if has_wildcards(filter):
            before = self._remove_wildcard(filter, key)
        else:
            at = self._exact.get(filter)
            left, before = _without(at, key)
            if left is None:
                self._exact.pop(filter, None)
                self._exact = slimmed(self._exact)
            elif left is not at:
                self._exact[filter] = left
        if before is not None:
            self.version += 1
            self._count -= 1
        return before

    def _remove_wildcard(self, filter: str, key: K) -> V | None:
        levels = _node_levels(filter)
        path = self._path(levels)
        if not path:
            return None
        node = path[-1]
        before: V | None
        if filter.endswith("#"):
            node.rest, before = _without(node.rest, key)
        else:
            node.here, before = _without(node.here, key)
        if before is not None:
            self._prune(path, levels)
        return before

    def _path(self, levels: list[str]) -> list[_Node[K, V]]:
        """The nodes from the root to the one at the end of the levels; empty if there is none."""
        node = self._root
        path = [node]
        for level in levels:
            child = node.child(level)
            if child is None:
                return []
            node = child
            path.append(node)
        return path

    def _prune(self, path: list[_Node[K, V]], levels: list[str]) -> None:
        """Drop the nodes at the end of a path that hold nothing any more."""
        shapes = list(_shapes(levels))
        while len(path) > 1 and path[-1].is_empty():
            path.pop()
            parent = path[-1]
            level = levels[len(path) - 1]
            shape = shapes[len(path) - 1]
            if level == "+":
                parent.plus = None
            elif level == "#":
                parent.many = None
                self._manys -= 1
            else:
                assert parent.children is not None
                del parent.children[level]
                parent.children = slimmed(parent.children) or None
            self._shapes[shape] -= 1
            if not self._shapes[shape]:
                del self._shapes[shape]

    def match(self, topic: str) -> list[V]:
        """The value of every subscription whose filter matches, once for each, in no order."""
        found: list[V] = []
        entries = self._wildcard_entries(topic) if self._shapes or self._root.rest else []
        exact = self._exact.get(topic)
        if exact is not None:
            entries.append(exact)
        for entry in entries:
            if isinstance(entry, tuple):
                found.append(entry[1])
            else:
                found.extend(entry.values())
        return found

    def _wildcard_entries(self, topic: str) -> list[Subscribers[K, V]]:
        """The subscribers of each filter with wildcards that matches."""
        entries: list[Subscribers[K, V]] = []
        levels = topic.split("/")
        nodes = [self._root]
        # [MQTT-4.7.2-1]
        if topic.startswith("$"):
            first = levels.pop(0)
            children = self._root.children
            if children is None or first not in children:
                return entries
            nodes = [children[first]]
        has_many = self._manys > 0
        staying: dict[_Node[K, V], None] = {}  # each many that was reached
        for level in levels:
            deeper: list[_Node[K, V]] = []
            if has_many:
                reached = [n.many for n in nodes if n.many is not None and n.many not in staying]
                nodes += reached  # a # may stand for no level
                staying.update(dict.fromkeys(reached))
                deeper += staying
            for node in nodes:
                if node.rest is not None:
                    entries.append(node.rest)
                children = node.children
                if children is not None and level in children:
                    deeper.append(children[level])
                if node.plus is not None:
                    deeper.append(node.plus)
            if not deeper:
                return entries
            nodes = deeper
        for node in nodes:
            if node.here is not None:
                entries.append(node.here)
            if node.rest is not None:
                entries.append(node.rest)
        if staying:  # a rest below them may have been met at several levels
            return list({id(entry): entry for entry in entries}.values())
        return entries

    def subscribers(self, filter: str) -> Mapping[K, V]:
        """Who subscribed to exactly this filter. To be read before the next change."""
        entry: Subscribers[K, V] | None
        if not has_wildcards(filter):
            entry = self._exact.get(filter)
        elif path := self._path(_node_levels(filter)):
            entry = path[-1].rest if filter.endswith("#") else path[-1].here
        else:
            entry = None
        if entry is None:
            return {}
        return {entry[0]: entry[1]} if isinstance(entry, tuple) else MappingProxyType(entry)

    def filters(self) -> Iterator[str]:
        """Every filter that has subscribers, to be read in slices while the tree changes.

        One that is there all the while comes once; one that comes or goes meanwhile may come. It
        holds 8 bytes for each filter without wildcards, and for each child of the nodes above the
        place where it stands.
        """
        yield from list(self._exact)
        if self._root.rest is not None:
            yield "#"
        stack = [(self._root, _names(self._root), "")]
        while stack:
            node, names, prefix = stack[-1]
            level = next(names, None)
            if level is None:
                stack.pop()
                continue
            child = node.child(level)
            if child is None:
                continue
            path = prefix + level
            stack.append((child, _names(child), path + "/"))
            if child.here is not None:
                yield path
            if child.rest is not None:
                yield path + "/#"


def _names(node: _Node[K, V]) -> Iterator[str]:
    """The levels that come next, as they are now."""
    names = list(node.children or ())
    if node.plus is not None:
        names.append("+")
    if node.many is not None:
        names.append("#")
    return iter(names)


def _with(entry: Subscribers[K, V] | None, key: K, value: V) -> tuple[Subscribers[K, V], V | None]:
    """The entry with one subscriber more, or with another value; and the value it had."""
    if entry is None:
        return (key, value), None
    if isinstance(entry, tuple):
        if entry[0] == key:
            return (key, value), entry[1]
        return {entry[0]: entry[1], key: value}, None
    before = entry.get(key)
    entry[key] = value
    return entry, before


def _without(entry: Subscribers[K, V] | None, key: K) -> tuple[Subscribers[K, V] | None, V | None]:
    """The entry with one subscriber less, None when that was the last; and the value it had."""
    if entry is None:
        return None, None
    if isinstance(entry, tuple):
        return (None, entry[1]) if entry[0] == key else (entry, None)
    before = entry.pop(key, None)
    return (next(iter(entry.items())) if len(entry) == 1 else slimmed(entry)), before


class MatchCache(Generic[V]):
    """What was found for the topics of late, as long as nobody subscribes or unsubscribes.

    All entries are of one version: the first ``get`` or ``put`` of another drops them. Full, it
    drops them too: evicting the oldest costs about what matching again does, and noting what is
    used would cost every hit. It is full with ``entries_max`` topics, or when these have more than
    ``targets_max`` targets in all; one topic may have more, because it is found again in about the
    time that delivering to all of them takes.
    """

    __slots__ = ("_entries", "_entries_max", "_targets", "_targets_max", "_version")

    def __init__(self, entries_max: int, targets_max: int) -> None:
        self._entries: dict[str, V] = {}
        self._entries_max = entries_max
        self._targets = 0
        self._targets_max = targets_max
        self._version = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, topic: str, version: int) -> V | None:
        """What was put for ``topic`` at this version, or None."""
        if version != self._version:
            self._restart(version)
            return None
        return self._entries.get(topic)

    def put(self, topic: str, version: int, value: V, targets: int) -> None:
        """Keep what was found for a ``topic`` that was not there, at this version."""
        full = len(self._entries) >= self._entries_max
        if full or version != self._version or self._targets + targets > self._targets_max:
            self._restart(version)
        self._entries[topic] = value
        self._targets += targets

    def _restart(self, version: int) -> None:
        self._entries = {}
        self._targets = 0
        self._version = version

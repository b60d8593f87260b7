"""Topics with a number each, found by filters: where the retained messages are.

A million topics like ``site/17/device/4711/temp`` share their beginnings, and each has to cost as
little as it can. What stands for a level of the tree is one of three:

    int           a topic ends here and nothing is below: its number
    (str, int)    one topic is below: the rest of its name, and its number
    Branch        two topics or more are here and below

Which one follows from the topics alone, not from what came and went before: when all but one topic
of a branch have gone, it is one of the other two again. A branch counts its topics, so that a
listing with counts needs no walk.

Equal levels (``device``, ``temp``) share one text while they are often met. ``sys.intern`` would
do the same, but Python 3.12 never lets go of an interned text: a leak that strangers can feed.
"""

from collections.abc import Iterator

from .tables import slimmed
from .topic import has_wildcards, matches

__all__ = ["TopicTree"]

SHARED_TEXTS_MAX = 8192  # then all are forgotten, so that the topics of today are shared
SHARED_CHARACTERS_MAX = 32
STEP_PLACES = 256


class _Branch:
    """A level with two topics or more: those below it, and perhaps its own."""

    __slots__ = ("children", "count", "number")

    def __init__(self) -> None:
        self.children: dict[str, _Place] = {}
        self.count = 0  # topics here and below
        self.number: int | None = None  # of the topic that ends here


_Place = int | tuple[str, int] | _Branch


class _Frame:
    """Where a search stands in one branch."""

    __slots__ = ("children", "level", "names", "prefix")

    def __init__(
        self, level: str, children: dict[str, _Place], names: Iterator[str], prefix: str
    ) -> None:
        self.level = level  # the branch's own
        self.children = children
        self.names = names  # those still to be looked at
        self.prefix = prefix  # what comes before a name


class TopicTree:
    """Topics, each with a number, searched by filters. Topics and filters are valid ones."""

    __slots__ = ("_changes", "_root", "_shared")

    def __init__(self) -> None:
        self._root = _Branch()
        self._changes = 0  # rises with every change, for the searches that are under way
        self._shared: dict[str, str] = {}

    def __len__(self) -> int:
        """How many topics there are."""
        return self._root.count

    def get(self, topic: str) -> int | None:
        """The number of a topic, or None."""
        branch = self._root
        levels = topic.split("/")
        for at, level in enumerate(levels):
            place = branch.children.get(level)
            if place is None:
                return None
            if not isinstance(place, _Branch):
                rest, number = (None, place) if isinstance(place, int) else place
                return number if rest == _rest(levels, at) else None
            branch = place
        return branch.number

    def set(self, topic: str, number: int) -> int | None:
        """Give a topic its number; the one it had, or None when it is new."""
        self._changes += 1
        branch = self._root
        path = [branch]
        levels = topic.split("/")
        for at, level in enumerate(levels):
            place = branch.children.get(level)
            if place is None:
                rest = _rest(levels, at)
                leaf = number if rest is None else (self._share(rest), number)
                branch.children[self._share(level)] = leaf
                break
            if not isinstance(place, _Branch):
                rest, before = (None, place) if isinstance(place, int) else place
                if rest == _rest(levels, at):
                    branch.children[level] = number if rest is None else (rest, number)
                    return before
                place = branch.children[level] = self._branch_of(rest, before)
            branch = place
            path.append(branch)
        else:
            old = branch.number
            branch.number = number
            if old is not None:
                return old
        for branch in path:
            branch.count += 1
        return None

    def _branch_of(self, rest: str | None, number: int) -> _Branch:
        """A branch with one topic, to which another will be added."""
        branch = _Branch()
        branch.count = 1
        if rest is None:
            branch.number = number
        else:
            level, separator, rest = rest.partition("/")
            leaf = (self._share(rest), number) if separator else number
            branch.children[self._share(level)] = leaf
        return branch

    def _share(self, text: str) -> str:
        """A text that is equal, and perhaps the same as others have."""
        if len(text) > SHARED_CHARACTERS_MAX:
            return text
        if len(self._shared) >= SHARED_TEXTS_MAX and text not in self._shared:
            self._shared = {}
        return self._shared.setdefault(text, text)

    def remove(self, topic: str) -> int | None:
        """Take a topic out; the number it had, or None if it was not there."""
        branch = self._root
        path = [branch]
        levels = topic.split("/")
        before: int | None
        for at, level in enumerate(levels):
            place = branch.children.get(level)
            if place is None:
                return None
            if not isinstance(place, _Branch):
                rest, before = (None, place) if isinstance(place, int) else place
                if rest != _rest(levels, at):
                    return None
                del branch.children[level]
                break
            branch = place
            path.append(branch)
        else:
            before = branch.number
            branch.number = None
            if before is None:
                return None
        self._changes += 1
        for branch in path:
            branch.count -= 1
        self._fold(path, levels)
        return before

    def _fold(self, path: list[_Branch], levels: list[str]) -> None:
        """Put a leaf in the place of each branch, from the end of a path, that has one topic."""
        branch = path.pop()
        while path and branch.count == 1:
            parent = path.pop()
            parent.children[levels[len(path)]] = self._only_leaf(branch)
            branch = parent
        branch.children = slimmed(branch.children)

    def _only_leaf(self, branch: _Branch) -> int | tuple[str, int]:
        if branch.number is not None:
            return branch.number
        ((level, place),) = branch.children.items()
        if isinstance(place, int):
            return level, place
        assert isinstance(place, tuple), "a branch of one topic holds none"
        return self._share(f"{level}/{place[0]}"), place[1]

    def search(self, filter: str) -> Iterator[tuple[str, int]]:
        """Every topic that a filter matches, with its number, in no order.

        To be read a few at a time, however many there are, while the tree changes: a topic that is
        there all the while comes once, one that comes or goes meanwhile may come, and the number
        is the one it has at that moment. In between it holds 8 bytes for each child of the
        branches above the place where it stands.
        """
        return (found for found in self.steps(filter) if found is not None)

    def steps(self, filter: str) -> Iterator[tuple[str, int] | None]:
        """Like :meth:`search`, but None for every ``STEP_PLACES`` places with nothing found.

        A filter may match little and still have a million places to look at: ``+/+/+/none``.
        """
        if not has_wildcards(filter):
            number = self.get(filter)
            if number is not None:
                yield filter, number
            return
        sought = filter
        if "#" in filter[:-1]:
            sought = filter[: filter.index("#") + 1]  # of all below, those that match
        wanted = sought.split("/")
        all_below = wanted[-1] == "#"
        if all_below:
            wanted.pop()
        frames = [_frame(self._root, "", "", 0, wanted)]
        changes = self._changes
        looked = 0
        while frames:
            if changes != self._changes:
                changes = self._changes
                _resume(frames, self._root)
            depth = len(frames)
            frame = frames[-1]
            is_match = depth >= len(wanted) if all_below else depth == len(wanted)
            for level in frame.names:
                place = frame.children.get(level)
                path = frame.prefix + level
                found = None
                if isinstance(place, int):
                    if is_match:
                        found = path, place
                elif isinstance(place, tuple):
                    if _fits(place[0], wanted, depth, all_below):
                        found = f"{path}/{place[0]}", place[1]
                elif place is not None:
                    if all_below or depth < len(wanted):
                        frames.append(_frame(place, level, path + "/", depth, wanted))
                    if is_match and place.number is not None:
                        found = path, place.number
                if found is not None and sought is not filter and not matches(filter, found[0]):
                    found = None
                looked += 1
                if found is not None or looked == STEP_PLACES:
                    looked = 0
                    yield found
                if changes != self._changes or frame is not frames[-1]:
                    break
            else:
                frames.pop()

    def children(self, prefix: str) -> Iterator[tuple[str, int | None, int]]:
        """What comes next after ``prefix``: (level, number of the topic so far, topics below).

        ``""`` is the top of the tree, ``"a/b"`` and ``"a/b/"`` are the levels below ``a/b``, and
        ``"/"`` those below an empty first level. May be read while the tree changes, like
        :meth:`search`.
        """
        path = prefix.removesuffix("/").split("/") if prefix else []
        children = self._children_at(path)
        changes = self._changes
        for level in list(children):
            if changes != self._changes:
                changes = self._changes
                children = self._children_at(path)
            place = children.get(level)
            if isinstance(place, int):
                yield level, place, 0
            elif isinstance(place, tuple):
                yield level, None, 1
            elif place is not None:
                yield level, place.number, place.count - (place.number is not None)

    def _children_at(self, path: list[str]) -> dict[str, _Place]:
        children = self._root.children
        for level in path:
            children = _below(children, level)
        return children


def _rest(levels: list[str], at: int) -> str | None:
    """What comes after a level of a topic; None when it is the last one."""
    return "/".join(levels[at + 1 :]) if at + 1 < len(levels) else None


def _below(children: dict[str, _Place], level: str) -> dict[str, _Place]:
    """The children of a child, whatever stands for it."""
    place = children.get(level)
    if isinstance(place, _Branch):
        return place.children
    if isinstance(place, tuple):
        rest, number = place
        first, separator, rest = rest.partition("/")
        return {first: (rest, number) if separator else number}
    return {}


def _frame(branch: _Branch, level: str, prefix: str, depth: int, wanted: list[str]) -> _Frame:
    """Begin with a branch whose topics have ``depth`` levels and match so far."""
    children = branch.children
    names: Iterator[str]
    if depth < len(wanted) and wanted[depth] != "+":
        names = iter((wanted[depth],))
    elif depth == 0:
        # [MQTT-4.7.2-1]
        names = iter([name for name in children if not name.startswith("$")])
    else:
        names = iter(list(children))
    return _Frame(level, children, names, prefix)


def _resume(frames: list[_Frame], root: _Branch) -> None:
    """Find again what the frames stand in: branches come and go with the topics in them."""
    children = frames[0].children = root.children
    for frame in frames[1:]:
        children = frame.children = _below(children, frame.level)


def _fits(rest: str, wanted: list[str], depth: int, all_below: bool) -> bool:
    """Whether the rest of a topic matches what is wanted from ``depth`` on."""
    missing = len(wanted) - depth
    if missing <= 0:
        return all_below
    levels = rest.split("/")
    if len(levels) < missing or (len(levels) > missing and not all_below):
        return False
    pairs = zip(wanted[depth:], levels, strict=False)
    return all(want in ("+", level) for want, level in pairs)

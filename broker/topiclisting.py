"""Lists of topics for people: those that retain a message, and the levels of their tree.

There may be a million topics and as many filters, so a list is made a little at a time, and keeps
no more than one page: the first names after the last one of the page before.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from .access import Principal
from .reading import Later
from .topic import has_wildcards
from .topics import Topics
from .verbs import LevelInfo, TopicInfo

__all__ = ["LevelListing", "Listed", "TopicListing"]

_STEP_PLACES = 256  # looked at before others have their turn

T = TypeVar("T", TopicInfo, LevelInfo)
Listed = Callable[[object, list[T]], None]


class _Page(Generic[T]):
    """The first ``limit`` entries whose names come after ``after``."""

    def __init__(self, after: str, limit: int) -> None:
        self._after = after
        self._limit = limit
        self._last = ""  # nothing above it is wanted any more; "": everything
        self.entries: dict[str, T] = {}

    def wants(self, name: str) -> bool:
        if not name:  # an empty level: on a first page that does not end with it
            return not self._after and self._limit > 1
        return name > self._after and not (self._last and name > self._last)

    def put(self, name: str, entry: T) -> None:
        self.entries[name] = entry
        if len(self.entries) > 2 * self._limit:
            self.cut()

    def cut(self) -> list[T]:
        """Forget what is beyond the page; what is on it, in order."""
        names = sorted(self.entries)[: self._limit]
        self.entries = {name: self.entries[name] for name in names}
        if len(names) == self._limit:
            self._last = names[-1]
        return list(self.entries.values())


class _Listing(Generic[T]):
    """A page in the making; ``callback(argument, entries)`` comes later."""

    def __init__(
        self,
        topics: Topics,
        who: Principal,
        after: str,
        limit: int,
        later: Later,
        callback: Listed[T],
        argument: object,
    ) -> None:
        self._topics = topics
        self._who = who
        self._page: _Page[T] = _Page(after, limit)
        self._later = later
        self._callback: Listed[T] = callback
        self._argument = argument
        self._work = self._look()

    def start(self) -> None:
        """Begin; the answer never comes from within this call."""
        self._later(self._step)

    def _step(self) -> None:
        for _ in self._work:
            self._later(self._step)
            return
        self._callback(self._argument, self._page.cut())

    def _look(self) -> Iterator[None]:
        """Fill the page, with a pause now and then."""
        raise NotImplementedError


class TopicListing(_Listing[TopicInfo]):
    """The topics that match a filter and retain a message."""

    def __init__(
        self,
        topics: Topics,
        who: Principal,
        filter: str,
        after: str,
        limit: int,
        later: Later,
        callback: Listed[TopicInfo],
        argument: object,
    ) -> None:
        super().__init__(topics, who, after, limit, later, callback, argument)
        self._filter = filter

    def _look(self) -> Iterator[None]:
        page, retained = self._page, self._topics.retained
        left = _STEP_PLACES
        for found in retained.tree.steps(self._filter):
            left -= 1
            if found is not None and page.wants(found[0]):
                topic, number = found
                if self._who.allows("topic:Describe", topic):
                    size, expire_ms = retained.size(number), retained.expire_ms(number)
                    page.put(topic, TopicInfo(topic, size, expire_ms))
            if found is None or not left:
                left = _STEP_PLACES
                yield
        for info in page.cut():
            info.subscriptions = len(self._topics.router.match(info.topic))
            yield  # as many may match as there are


class LevelListing(_Listing[LevelInfo]):
    """What comes next after a prefix: in retained topics, and in filters."""

    def __init__(
        self,
        topics: Topics,
        who: Principal,
        prefix: str,
        after: str,
        limit: int,
        later: Later,
        callback: Listed[LevelInfo],
        argument: object,
    ) -> None:
        super().__init__(topics, who, after, limit, later, callback, argument)
        self._prefix = prefix
        self._path = prefix.removesuffix("/") + "/" if prefix else ""

    def _look(self) -> Iterator[None]:
        left = _STEP_PLACES
        for level, number, below in self._topics.retained.tree.children(self._prefix):
            info = self._level(level)
            if info is not None:
                info.retained = number is not None
                info.topics = below + info.retained
            left -= 1
            if not left:
                left = _STEP_PLACES
                yield
        router = self._topics.router
        for filter in router.filters():
            if filter.startswith(self._path):
                info = self._level(filter[len(self._path) :].partition("/")[0])
                if info is not None:
                    info.subscriptions += len(router.subscribers(filter))
            left -= 1
            if not left:
                left = _STEP_PLACES
                yield

    def _level(self, level: str) -> LevelInfo | None:
        page = self._page
        if not page.wants(level):
            return None
        info = page.entries.get(level)
        if info is None and self._is_visible(level):
            info = LevelInfo(level)
            page.put(level, info)
        return info

    def _is_visible(self, level: str) -> bool:
        path = self._path + level
        if has_wildcards(level):
            return self._who.allows_filter("topic:Describe", path)
        return self._who.allows("topic:Describe", path) or self._who.allows_filter(
            "topic:Describe", path + "/+"
        )

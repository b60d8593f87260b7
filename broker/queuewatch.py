"""Who wants every queue whose name fits: told of each one that is declared.

A filter is that of topics, and a queue's name is read as a topic: its words, between dots or
slashes, are levels. So ``PRICE/+`` is for ``PRICE.GOLD``, and ``#`` for all queues but the broker's
own, which begin with ``$``. What a declaration costs is what a publish costs: see ``router.py``.

A watcher is told in the middle of other people's work: it only takes a note.
"""

from typing import TYPE_CHECKING, Protocol

from .errors import LimitExceeded
from .router import FilterTree
from .topic import check_filter, matches

if TYPE_CHECKING:
    from .engine import Engine
    from .queue import Queue

__all__ = ["QueueWatch", "QueueWatcher"]


class QueueWatcher(Protocol):
    """Whoever watches."""

    def queue_declared(self, queue: "Queue") -> None:
        """There is one more."""


class QueueWatch:
    """The watchers of a broker's queues."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._watchers: FilterTree[QueueWatcher, QueueWatcher] = FilterTree()

    def watch(self, filter: str, watcher: QueueWatcher) -> "list[Queue]":
        """Tell a watcher of every queue that matches, from now on; those that are there, by name.

        Raises:
            InvalidArgument: it is no filter.
            LimitExceeded: it has wildcards at places where too many others have none.
        """
        limits = self._engine.limits
        check_filter(filter, limits.topic_bytes_max, limits.topic_levels_max)
        more = self._watchers.new_shapes(filter)
        if more and self._watchers.shapes + more > limits.filter_shapes_max:
            raise LimitExceeded("filters of queues have wildcards at too many different places")
        self._watchers.add(filter, watcher, watcher)
        queues = self._engine.queues
        names = sorted(name for name in queues if matches(filter, _topic(name)))
        return [queues[name] for name in names]

    def unwatch(self, filter: str, watcher: QueueWatcher) -> None:
        """Tell a watcher nothing more; one that is not there is no error."""
        self._watchers.remove(filter, watcher)

    def declared(self, queue: "Queue") -> None:
        """A queue is there."""
        if len(self._watchers):
            for watcher in self._watchers.match(_topic(queue.name)):
                watcher.queue_declared(queue)


def _topic(name: str) -> str:
    return name.replace(".", "/")

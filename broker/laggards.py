"""Publishers wait a little for subscribers that are slow, so that less is dropped.

Rules:

1. A subscriber whose connection takes nothing puts itself into ``Topics.slow`` when it is given a
   live message. Whoever published looks there, and reads nothing more from its client for a while.
2. It waits until all of them have caught up, for at most ``SLOW_WAIT_MS``. After that they are
   ``lagging``: nobody waits for them again until they have caught up.
"""

from collections.abc import Callable
from typing import Protocol

__all__ = ["SLOW_WAIT_MS", "Laggard", "Pause"]

SLOW_WAIT_MS = 100


class Laggard(Protocol):
    """A subscriber, as far as publishers wait for it.

    Attributes:
        lagging: publishers have waited in vain. publishers: who is to be told that it caught up.
    """

    lagging: bool
    publishers: "set[Pause]"


class Pause:
    """What a publisher's connection has of this. ``over`` is called when it may read on.

    Attributes:
        until_ms: how long it waits at most, unix ms; 0: it does not.
    """

    __slots__ = ("_laggards", "_over", "until_ms")

    def __init__(self, over: Callable[[], None]) -> None:
        self.until_ms = 0
        self._over = over
        self._laggards: set[Laggard] | None = None  # few connections ever wait

    def begin(self, slow: set[Laggard], own: Laggard | None, now_ms: int) -> bool:
        """Wait for those in ``slow``, which is emptied, but not for ``own``; whether it waits."""
        for laggard in slow:
            if laggard is not own:
                if self._laggards is None:
                    self._laggards = set()
                self._laggards.add(laggard)
                laggard.publishers.add(self)
                self.until_ms = now_ms + SLOW_WAIT_MS
        slow.clear()
        return self.until_ms > 0

    def go_on(self, laggard: Laggard) -> None:
        """One has caught up: read on, unless there are others."""
        if self._laggards is not None:
            self._laggards.discard(laggard)
        if self.until_ms and not self._laggards:
            self.until_ms = 0
            self._over()

    def tick(self, now_ms: int) -> None:
        """Wait no longer than it may."""
        if 0 < self.until_ms <= now_ms:
            self.until_ms = 0
            for laggard in self._laggards or ():
                laggard.lagging = True
            self._laggards = None

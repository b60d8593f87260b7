"""Clients that come back: a broker that was killed is asked again and again until it serves.

The pause before the first attempt is short, and each further one twice as long, up to a limit that
is still short beside what a broker takes to recover. A broker that is there and refuses is asked
again, too, but what it says is a problem of the run.
"""

from collections.abc import Callable
from typing import Final

from ..drivers.driver import Refused
from .loop import Loop
from .tally import Tally

__all__ = ["Returning"]

_PAUSE_NS_FIRST: Final = 20_000_000
_PAUSE_NS_MAX: Final = 500_000_000


class Returning:
    """Of one client: ``connect`` raises OSError or Refused, ``go_on`` is called when it did not."""

    def __init__(
        self, loop: Loop, tally: Tally, connect: Callable[[], None], go_on: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._tally = tally
        self._connect = connect
        self._go_on = go_on
        self._pause_ns = _PAUSE_NS_FIRST

    def begin(self) -> None:
        """The connection is gone."""
        self._pause_ns = _PAUSE_NS_FIRST
        self._loop.at(self._loop.now_ns() + self._pause_ns, self._try)

    def _try(self, now_ns: int) -> None:
        try:
            self._connect()
        except (OSError, Refused) as error:
            if isinstance(error, Refused):
                self._tally.problem(f"the broker would not have a client back: {error}")
            self._pause_ns = min(self._pause_ns * 2, _PAUSE_NS_MAX)
            self._loop.at(self._loop.now_ns() + self._pause_ns, self._try)
            return
        self._tally.reconnects += 1
        self._go_on(self._loop.now_ns())

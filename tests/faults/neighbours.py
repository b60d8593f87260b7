"""A well-behaved pair of clients beside hostile ones, and what these cost the broker in memory.

``async with Beside(daemon, most) as pair:`` has one client talk to another until the block ends.
Then every message has to have come, once and in order, and the broker may have grown by so much at
most. How they talk a dialect says: ``mqtt_neighbours.py``, ``stomp_neighbours.py``.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from .daemon import Daemon
from .waiting import until

__all__ = ["Pair", "rss_mib"]

WINDOW = 8
PAUSE_SECONDS = 0.002


def rss_mib(pid: int) -> float:
    """The process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Pair(ABC):
    """The pair, and the verdict on it.

    Args:
        grows_mib_max: what the broker may take beside what it had when the pair was warm.
    """

    ENOUGH_MESSAGES: ClassVar[int]  # in the middle of whatever happens beside them
    WARM_MESSAGES: ClassVar[int]

    def __init__(self, daemon: Daemon, grows_mib_max: float) -> None:
        self.daemon = daemon
        self.port = daemon.ports[1]
        self.grows_mib_max = grows_mib_max
        self.grown_mib = 0.0
        self.sent = 0
        self.peak_mib = 0.0
        self._task: asyncio.Task[None] | None = None
        self._began_mib = 0.0

    # What a dialect says ----------------------------------------------------------------------

    @abstractmethod
    async def meet(self) -> None:
        """Connect."""

    @abstractmethod
    def say(self, body: bytes) -> None:
        """Send a message. Raises Gone."""

    @property
    @abstractmethod
    def answered(self) -> int:
        """How many messages the broker has confirmed."""

    @property
    @abstractmethod
    def heard(self) -> Mapping[str, Sequence[bytes]]:
        """What has come, by each of the ways in which it should."""

    @abstractmethod
    def part(self) -> None:
        """Hang up."""

    # What all share ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.meet()
        self._task = asyncio.ensure_future(self._talk())
        await self.exchange(self.WARM_MESSAGES)
        self._began_mib = rss_mib(self.daemon.pid)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        if error is None:
            await self.exchange()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if error is None:
            await self._check()
        self.part()

    async def _check(self) -> None:
        """Say whether all was well."""
        assert await until(lambda: self._least_heard >= self.sent), self._state
        for way, bodies in self.heard.items():
            assert bodies == [b"%d" % number for number in range(1, self.sent + 1)], way
        assert await until(lambda: self.answered == self.sent), self._state
        self.look()
        self.grown_mib = self.peak_mib - self._began_mib
        text = f"the broker has grown by {self.grown_mib:.1f} MiB"
        assert self.grown_mib <= self.grows_mib_max, text

    @property
    def _least_heard(self) -> int:
        return min(len(bodies) for bodies in self.heard.values())

    @property
    def _state(self) -> str:
        heard = {way: len(bodies) for way, bodies in self.heard.items()}
        return f"sent {self.sent}, answered {self.answered}, came {heard}"

    def look(self) -> None:
        """Note how much memory the broker takes now."""
        self.peak_mib = max(self.peak_mib, rss_mib(self.daemon.pid))

    async def exchange(self, count: int = 0) -> None:
        """Return when they have exchanged so many more messages: they are not held up."""
        wanted = self.sent + (count or self.ENOUGH_MESSAGES)

        def done() -> bool:
            assert self._task is not None
            if self._task.done():
                self._task.result()
            return self._least_heard >= wanted

        assert await until(done), f"{self._state}, want {wanted}"
        self.look()

    async def _talk(self) -> None:
        while True:
            if self.sent - self.answered < WINDOW:
                self.sent += 1
                self.say(b"%d" % self.sent)
            await asyncio.sleep(PAUSE_SECONDS)

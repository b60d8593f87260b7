"""A campaign: one data directory, many runs of the daemon, one journal, one verdict.

What all dialects share is here; a dialect says how it puts load on the broker, how it looks at what
is there after a start, and how it has everything delivered. ``dialects.py`` lists them, and the
faults of ``test_kill.py``, ``test_power.py`` and others are tried on each.
"""

import asyncio
import os
import random
import statistics
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tests.figures import figures

from .daemon import Daemon
from .journal import Journal
from .waiting import GUARD_SECONDS

__all__ = ["Campaign", "Fault", "cycles"]

Fault = Callable[[Daemon], Awaitable[None]]

DRAINED_SHARE = 0.2  # of the runs begin with that, so that a long campaign does not pile up


def cycles(default: int) -> int:
    """How often to do it: BRAIDMQ_FAULT_CYCLES, or ``default`` in `make test`."""
    return int(os.environ.get("BRAIDMQ_FAULT_CYCLES", "0")) or default


class Campaign(ABC):
    """Runs of the daemon on one data directory, audited together.

    Args:
        data: the data directory; it may stand on a disk that breaks.
        scratch: a directory on one that does not.
        journal: of the dialect.

    Attributes:
        guard_seconds: of silence, after which what did not come is taken for missing.
    """

    FLAGS: ClassVar[Sequence[str]] = ()  # of the daemon
    GONE: ClassVar[tuple[type[Exception], ...]]  # what the dialect's clients raise when it is gone
    BUSY_ACKED_MAX: ClassVar[int]  # acknowledgements of about half a second of load

    def __init__(self, data: Path, scratch: Path, seed: int, journal: Journal) -> None:
        self.data = data
        self.scratch = scratch
        self.rng = random.Random(seed)
        self.journal = journal
        self.guard_seconds = GUARD_SECONDS
        self.recovered_seconds: list[float] = []
        self.replayed_bytes = 0
        self.dropped_bytes = 0

    # What a dialect says ----------------------------------------------------------------------

    @abstractmethod
    async def look(self, daemon: Daemon) -> None:
        """See what is there after a start, before anything new comes. Raises GONE."""

    @abstractmethod
    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        """Keep every client busy until ``fault`` has happened."""

    @abstractmethod
    async def drain(self, daemon: Daemon) -> None:
        """Have everything delivered that waits, and close that chapter of the journal. Raises GONE.

        Nothing else may have used the broker since it was looked at.
        """

    @abstractmethod
    def expect_write_errors(self) -> None:
        """The disk is about to fail: the broker may tell its clients so, and hang up."""

    # What all share ---------------------------------------------------------------------------

    def daemon(
        self,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Daemon:
        """A daemon on the data directory."""
        return Daemon(self.data, self.scratch, prefix, environment, [*self.FLAGS, *flags])

    async def begun(self, daemon: Daemon) -> None:
        """It has started: note how recovery went, and look at what is there. Raises GONE."""
        self.journal.run += 1
        report = daemon.logged("recovered")
        self.recovered_seconds.append(report["seconds"])
        self.replayed_bytes += report["bytes_replayed"]
        self.dropped_bytes += report["bytes_dropped"]
        await self.look(daemon)
        if self.rng.random() < DRAINED_SHARE:
            await self.drain(daemon)

    async def cycle(self, fault: Fault, daemon: Daemon | None = None) -> None:
        """Start, put load on it, break it while it is busy."""
        async with daemon or self.daemon() as running:
            try:
                await self.begun(running)
            except self.GONE:
                pass  # the fault was quicker
            await self.under_load(running, fault)

    async def busy(self, daemon: Daemon, share: float = 1.0) -> None:
        """Return at some moment of the load, or when the daemon has ended.

        The moment is found by what was acknowledged: a slow machine is as busy until then as a
        quick one. ``share`` is of ``BUSY_ACKED_MAX``.
        """
        counts = self.journal.counts
        wanted = counts["acked"] + self.rng.randint(1, int(self.BUSY_ACKED_MAX * share))
        while daemon.running and counts["acked"] < wanted:  # noqa: ASYNC110 - by chance, not at once
            await asyncio.sleep(0.001)
        await asyncio.sleep(self.rng.random() * 0.01)  # not always just after an answer

    async def finish(self) -> Journal:
        """Have everything delivered, stop in peace, and give the journal."""
        async with self.daemon() as daemon:
            await self.begun(daemon)
            await self.drain(daemon)
            assert await daemon.stop() == 0, daemon.log
        return self.journal

    @property
    def line(self) -> str:
        """The figures."""
        longest = max(self.recovered_seconds, default=0.0)
        median = statistics.median(self.recovered_seconds or [0.0])
        return (
            f"runs {self.journal.run}, {self.journal.figures()},"
            f" recovery {median * 1000:.1f} ms median, {longest * 1000:.1f} ms at most,"
            f" {self.replayed_bytes / 1e6:.1f} MB replayed, {self.dropped_bytes} B dropped"
        )

    def verdict(self, request: pytest.FixtureRequest, more: str = "") -> None:
        """Print the figures, and fail when a promise was broken."""
        figures(request, more + self.line)
        assert not self.journal.found(), "\n".join([self.line, *self.journal.findings])

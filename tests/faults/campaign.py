"""A campaign: one data directory, many runs of the daemon, one journal, one verdict."""

import os
import random
import statistics
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import pytest

from tests.figures import figures

from .audit import QUEUES, Journal
from .daemon import Daemon
from .load import Load, declare, drain, message_counts
from .wire import Gone, Refusal

__all__ = ["DRAINED_SHARE", "Campaign", "cycles"]

Fault = Callable[[Daemon], Awaitable[None]]

DRAINED_SHARE = 0.2  # of the runs begin with that, so that a long campaign does not pile up


def cycles(default: int) -> int:
    """How often to do it: BRAIDMQ_FAULT_CYCLES, or ``default`` in `make test`."""
    return int(os.environ.get("BRAIDMQ_FAULT_CYCLES", "0")) or default


class Campaign:
    """Runs of the daemon on one data directory, audited together.

    Args:
        data: the data directory; it may stand on a disk that breaks.
        scratch: a directory on one that does not.
    """

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        self.data = data
        self.scratch = scratch
        self.rng = random.Random(seed)
        self.journal = Journal()
        self.recovered_seconds: list[float] = []
        self.replayed_bytes = 0
        self.dropped_bytes = 0

    def daemon(
        self,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Daemon:
        """A daemon on the data directory."""
        return Daemon(self.data, self.scratch, prefix, environment, flags)

    async def begun(self, daemon: Daemon) -> None:
        """It has started: note how recovery went, and compare its counters with the journal."""
        self.journal.run += 1
        report = daemon.logged("recovered")
        self.recovered_seconds.append(report["seconds"])
        self.replayed_bytes += report["bytes_replayed"]
        self.dropped_bytes += report["bytes_dropped"]
        await declare(daemon.port)
        self.journal.check_counters(await message_counts(daemon.port))
        if self.rng.random() < DRAINED_SHARE:
            await drain(daemon.port, self.journal)

    async def cycle(
        self,
        fault: Fault,
        daemon: Daemon | None = None,
        queues: Collection[str] = tuple(QUEUES),
    ) -> None:
        """Start, put load on it, break it while it is busy."""
        async with daemon or self.daemon() as running:
            try:
                await self.begun(running)
            except (Gone, Refusal):
                pass  # the fault was quicker
            async with Load(running.port, self.journal, self.rng, queues):
                await fault(running)

    async def finish(self) -> Journal:
        """Empty all queues, stop in peace, and give the verdict."""
        async with self.daemon() as daemon:
            await self.begun(daemon)
            await drain(daemon.port, self.journal)
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

    def verdict(self, request: pytest.FixtureRequest) -> None:
        """Print the figures, and fail when a promise was broken."""
        figures(request, self.line)
        assert not self.journal.broken, "\n".join([self.line, *self.journal.findings])

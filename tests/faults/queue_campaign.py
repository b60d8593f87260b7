"""A campaign for queues, over the native protocol."""

from collections.abc import Collection
from pathlib import Path

from .audit import QUEUES, QueueJournal
from .campaign import Campaign, Fault
from .daemon import Daemon
from .load import Load, declare, drain, message_counts
from .wire import Gone, Refusal

__all__ = ["QueueCampaign"]


class QueueCampaign(Campaign):
    """See :class:`Campaign`.

    Attributes:
        queues: those that get messages under load.
    """

    GONE = (Gone, Refusal)
    BUSY_ACKED_MAX = 1_500
    journal: QueueJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, QueueJournal())
        self.queues: Collection[str] = tuple(QUEUES)

    async def look(self, daemon: Daemon) -> None:
        await declare(daemon.port)
        self.journal.check_counters(await message_counts(daemon.port))

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        async with Load(daemon.port, self.journal, self.rng, self.queues):
            await fault(daemon)

    async def drain(self, daemon: Daemon) -> None:
        await drain(daemon.port, self.journal)

    def expect_write_errors(self) -> None:
        """Those are known by their codes, see ``load.py``."""

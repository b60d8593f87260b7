"""A campaign for schedules: some are sent once, some often, some for ever, and some are removed.

Cron expressions name minutes. Here the daemon takes each half of a second for one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .actors import act_until
from .campaign import Campaign, Fault
from .daemon import Daemon
from .schedule_audit import PLACES, ScheduleJournal, Timing
from .schedule_load import (
    Client,
    NativePlanner,
    Remover,
    StompPlanner,
    Taker,
    declare,
    list_all,
    unschedule_all,
)
from .stomp_wire import Gone
from .stream_planting import planted
from .waiting import until

__all__ = ["QUICK_CRON", "ScheduleCampaign"]

QUICK_CRON = (
    "import braidmq.broker.schedule as schedule\n"
    "times = schedule._times\n"
    "def quick(cron, from_ms, back=False):\n"
    "    for time_ms in times(cron, from_ms * 120, back):\n"
    "        yield time_ms // 120\n"
    "schedule._times = quick\n"
)
AWAY_SHARE = 0.3  # of the runs in which a taker does not come


class ScheduleCampaign(Campaign):
    """See :class:`Campaign`. Who has Python run something else first adds QUICK_CRON to it."""

    FLAGS = ("--listen", "stomp://127.0.0.1:0")
    GONE = (Gone,)
    BUSY_ACKED_MAX = 60
    journal: ScheduleJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, ScheduleJournal())
        journal, rng = self.journal, self.rng
        self._is_new = True
        self._busy: list[Client] = [
            NativePlanner(journal, rng, "native"),
            StompPlanner(journal, rng, "stomp"),
            Remover(journal, rng, "remover"),
        ]
        self._takers = [Taker(journal, rng, place, hang_up_share=0.02) for place in PLACES]
        self._last = StompPlanner(journal, rng, "last")

    def daemon(
        self,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Daemon:
        quick = planted(self.scratch, QUICK_CRON) if "PYTHONPATH" not in (environment or {}) else {}
        return super().daemon(prefix, {**quick, **(environment or {})}, flags)

    def expect_write_errors(self) -> None:
        self.journal.expects_errors = True

    async def look(self, daemon: Daemon) -> None:
        """Make what has to be there, and hear what schedules are left after the start."""
        if self._is_new:
            await declare(daemon.port)
            for taker in self._takers:
                await taker.subscribe(daemon.ports)
                taker.hang_up()
            self._is_new = False
        await self._claim(daemon)

    async def _claim(self, daemon: Daemon) -> None:
        """What is told of schedules counts when something that came later is kept. Raises Gone."""
        ids, listed = await list_all(daemon.port, self.journal)
        wire = await self._last.connect(daemon.ports[1])
        try:
            self._last.send(wire, self._last.next_one("queue", Timing()))
            await self._last.until_answered(wire, 0)
            self.journal.unlisted(ids)
            self.journal.claimed(listed)
        finally:
            self._last.hang_up()

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        coming = [each for each in self._takers if self.rng.random() >= AWAY_SHARE]
        clients: list[Client] = [*self._busy, *coming]
        await act_until(fault(daemon), clients, daemon.ports, Gone)

    async def drain(self, daemon: Daemon) -> None:
        """See :meth:`Campaign.drain`: what has no end goes on, and is ended."""
        journal = self.journal
        endless = [
            (each, len(each.firings))
            for each in journal.planned.values()
            if each.is_sought and not each.timing.times
        ]
        try:
            for taker in self._takers:
                await taker.subscribe(daemon.ports)
            if not await self._until(
                lambda: all(len(each.firings) > before for each, before in endless)
            ):
                for each, before in endless:
                    if len(each.firings) == before:
                        journal.find("lost", f"{each.name} is not sent any more")
            await self._claim(daemon)
            await self._until(lambda: not journal.missing())
            journal.ending()
            await unschedule_all(daemon.port)
            wire = await self._last.connect(daemon.ports[1])
            ends = [self._last.send(wire, self._last.next_one(at, Timing())) for at in PLACES]
            await self._until(lambda: all(each.firings for each in ends))
            journal.emptied()
        finally:
            for client in (self._last, *self._takers):
                client.hang_up()

    async def _until(self, done: Callable[[], bool]) -> bool:
        """Wait until something is so, and all that came is settled. Raises Gone."""

        def over() -> bool:
            waiting = False
            for taker in self._takers:
                if taker.wire is None or taker.wire.gone:
                    raise Gone(taker.name)
                taker.settle()
                waiting = waiting or bool(taker.wire.unanswered)
            return done() and not waiting

        return await until(over, self.guard_seconds)

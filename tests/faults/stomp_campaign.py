"""A campaign for STOMP: transactions that move messages from a queue to two others and a topic.

Nobody takes from ``c`` under load: whatever transactions did has to outlast every fault there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .actors import act_until
from .campaign import Campaign, Fault
from .daemon import Daemon
from .stomp_audit import PLACES, StompJournal
from .stomp_load import Client, Consumer, Mover, Producer
from .stomp_ways import LISTENERS
from .stomp_wire import Gone
from .waiting import until

__all__ = ["LISTEN", "StompCampaign"]

LISTEN = ("--listen", "stomp://127.0.0.1:0")
DRAIN_PREFETCH = 200
AWAY_SHARE = 0.5  # of the runs in which the durable subscriber does not come


class StompCampaign(Campaign):
    """See :class:`Campaign`. Every connection has a version, dialect and transport by chance."""

    GONE = (Gone,)
    BUSY_ACKED_MAX = 300
    journal: StompJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, StompJournal())
        journal, rng = self.journal, self.rng
        self._told = Consumer(journal, rng, "told", "topic", hang_up_share=0.05)
        self._last = Producer(journal, rng, "last")
        self._clients: list[Client] = [
            Producer(journal, rng, "one"),
            Producer(journal, rng, "two"),
            *(Mover(journal, rng, f"mover-{number}") for number in range(3)),
            Consumer(journal, rng, "steady", "b"),
            Consumer(journal, rng, "leaving", "b", cumulative=True, hang_up_share=0.1),
        ]
        self._drains = [
            Consumer(journal, rng, f"drain-{place}", place, prefetch=DRAIN_PREFETCH)
            for place in PLACES
        ]

    def daemon(
        self,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Daemon:
        configuration = self.scratch / "listeners.toml"
        configuration.write_text(LISTENERS)
        return super().daemon(prefix, environment, ["--config", str(configuration), *flags])

    def expect_write_errors(self) -> None:
        self.journal.expects_errors = True

    async def look(self, daemon: Daemon) -> None:
        """Make the durable subscription, once; what else is there is seen when it is drained."""
        if not self.journal.subscribed:
            await self._told.subscribe(daemon.ports)
            self.journal.subscribed = True
            self._told.hang_up()

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        clients = list(self._clients)
        if self.rng.random() >= AWAY_SHARE:
            clients.append(self._told)
        await act_until(fault(daemon), clients, daemon.ports, Gone)

    async def drain(self, daemon: Daemon) -> None:
        """See :meth:`Campaign.drain`: what was sent last comes last, to each place."""
        everybody: list[Client] = [self._last, *self._drains]
        try:
            wire = await self._last.connect(daemon.ports)
            ends = [self._last.send(wire, place) for place in PLACES]
            for consumer in self._drains:
                await consumer.subscribe(daemon.ports)

            def all_came() -> bool:
                for consumer in self._drains:
                    consumer.settle()
                waiting = any(each.wire and each.wire.unanswered for each in everybody)
                return all(end.came for end in ends) and not waiting

            await self._until(all_came, everybody)
            self.journal.emptied()
        finally:
            for client in everybody:
                client.hang_up()

    async def _until(self, done: Callable[[], bool], clients: Sequence[Client]) -> None:
        """Wait until something is so, or nothing comes any more. Raises Gone."""

        def over() -> bool:
            for client in clients:
                if client.wire is None or client.wire.gone:
                    raise Gone(client.name)
            return done()

        heard = self.journal.counts.total()
        while not await until(over, self.guard_seconds):
            before, heard = heard, self.journal.counts.total()
            if heard == before:
                break

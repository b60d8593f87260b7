"""A world (``world.py``) whose people send, receive, acknowledge, give back and let leases end."""

from collections.abc import Mapping

from braidmq.broker.access import SYSTEM
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from tests.sim.audit import Audit
from tests.sim.clients import WINDOW_MS, Drainer, Producer, Puller, Pusher
from tests.sim.world import World

__all__ = ["QueueWorld"]

QUEUES: dict[str, QueueSettings] = {
    "plain": QueueSettings(max_receives=4, dead_letter="dead", visibility_timeout_ms=3_000),
    "fifo": QueueSettings(
        fifo=True, max_receives=6, dead_letter="fifo-dead", visibility_timeout_ms=3_000
    ),
}


class QueueWorld(World):
    """See the module."""

    LIMITS = Limits(dedup_window_ms=WINDOW_MS)
    SCRIPT_TURNS = 1_000
    RICH = {"again": 300, "dead": 30, "repeated": 10}

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.audit = Audit()
        super().__init__(seed, crash_at)

    def populate(self) -> None:
        for queue in QUEUES:
            for number in range(2):
                self.clients.append(Producer(self, f"{queue}-p{number}", queue))
                self.clients.append(Puller(self, f"{queue}-r{number}", queue))
            self.clients.append(Pusher(self, f"{queue}-c", queue))
        self.clients.append(Puller(self, "dead-r", "dead"))

    def declare(self) -> None:
        for name, settings in QUEUES.items():
            self.core.declare_queue(SYSTEM, name, settings, self.clock.ms)

    def restarted(self) -> None:
        self.audit.restarted()

    @property
    def counts(self) -> Mapping[str, int]:
        return self.audit.counts

    @property
    def delivered(self) -> int:
        return self.audit.counts["delivered"]

    @property
    def unheard(self) -> int:
        return self.audit.counts["sent"] - self.audit.counts["ok"]

    def finish(self) -> None:
        """Stop producing, settle what is held, then empty every queue and close the books."""
        self.all_leave()
        for _ in range(30):
            self.guarded(self.advance_far)
            for name in list(self.core.queues):
                self.guarded(Drainer(self, name).drain)
            if not sum(queue.live for queue in self.core.queues.values()):
                break
        self.audit.close()

    def advance_far(self) -> None:
        for _ in range(20):
            self.clock.ms += 500
            self.settle()

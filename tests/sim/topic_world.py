"""A world (``world.py``) whose people publish, subscribe and retain."""

from collections.abc import Mapping

from braidmq.broker.access import SYSTEM
from tests.sim.topic_audit import TopicAudit
from tests.sim.topic_clients import Member, Publisher, Retainer, message
from tests.sim.world import World
from tests.topic_client import search_all

__all__ = ["TopicWorld"]

SHARED = "$share/both/t/one"
TOPICS = ["r/1", "r/2", "r/3"]  # that retain something now and then


class TopicWorld(World):
    """See the module."""

    SCRIPT_TURNS = 600
    RICH = {"again": 100, "resent": 50, "retained": 300}

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.topic_audit = TopicAudit()
        self.members: list[Member] = []
        super().__init__(seed, crash_at)

    def populate(self) -> None:
        self.members = [
            Publisher(self, "one", 1),
            Publisher(self, "two", 2),
            Publisher(self, "reckless", 1, reckless=True),
            Retainer(self, "keeper", TOPICS),
            Member(self, "all", "t/+", 2),
            Member(self, "some", "t/#", 2),
            Member(self, "left", SHARED, 1),
            Member(self, "right", SHARED, 1),
            Member(self, "third", "t/+", 2),
        ]
        self.clients = list(self.members)

    def declare(self) -> None:
        """Nothing is there before somebody comes."""

    @property
    def counts(self) -> Mapping[str, int]:
        return self.topic_audit.counts

    @property
    def delivered(self) -> int:
        return self.topic_audit.counts["got"]

    @property
    def unheard(self) -> int:
        return sum(not sending.ok for sending in self.topic_audit.sendings.values())

    def look(self) -> None:
        """Whoever comes now is given what was retained last."""
        client = self.members[-1]
        if client.session is not None:
            search = self.core.topics.search_retained(client.session, "r/#", self._ask)
            self.topic_audit.check_retained(search_all(self, search))

    def finish(self) -> None:
        """Stop publishing, let all exchanges end, and close the books."""
        self.all_leave()
        self.until(lambda: all(member.rests for member in self.members), 1_000, "exchanges")
        self.guarded(self.look)
        self.topic_audit.close()
        self.check_rest()

    def check_rest(self) -> None:
        """Nothing is left of what is over: neither identifiers nor messages."""
        for member in self.members:
            assert member.session is not None and member.session.queue is not None
            assert not member.session.queue.inbound and not member.received, member.name
        for topic in TOPICS:
            self.core.topics.publish(SYSTEM, message(topic, b"", 0, True), self.clock.ms)
        self.settle()
        assert self.core.log.statistics().bytes_live_estimate == 0

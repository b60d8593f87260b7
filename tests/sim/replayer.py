"""Somebody who has an archive replayed to a queue, over every crash, and counts what comes.

Replays follow each other. Each of those that the broker knows of at the end has brought every
record that it covers, once and in order, whatever happened meanwhile; and the broker knows of each
that it confirmed.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.lease import Consumer
from braidmq.broker.message import REPLAYED_FROM, Delivery, unpack_headers
from braidmq.broker.replayverbs import ReplayInfo, ReplayPolicy
from braidmq.broker.settings import QueueSettings
from tests.sim.audit import Broken
from tests.sim.clients import Client

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Replayer"]

_REPLAYS_MAX = 3  # in one history


class Replayer(Client):
    """See the module."""

    def __init__(self, world: "World", name: str, filter: str, archive: str) -> None:
        super().__init__(world, name)
        self.filter = filter
        self.archive = archive
        self.target = Target("queue", name)
        self.consumer: Consumer | None = None
        self.held: list[Delivery] = []
        self.done = False
        # What survives everything:
        self.confirmed: set[int] = set()  # replays
        self.came: dict[
            int, int
        ] = {}  # the id of a message -> the number that it has in the archive

    def disconnected(self) -> None:
        super().disconnected()
        self.consumer = None
        self.held.clear()

    def leave(self) -> None:
        self.done = True

    def act(self) -> None:
        core, now_ms = self.world.core, self.world.clock.ms
        if self.consumer is None:
            core.declare_queue(SYSTEM, self.name, QueueSettings(), now_ms)
            core.bind(SYSTEM, self.filter, self.target, BindingSettings(), now_ms)
            self.consumer = core.consume(SYSTEM, self.name, self, 8, "", None, now_ms)
        elif self.held:
            core.ack(SYSTEM, self.name, [self.held.pop(0).receipt], now_ms)
            core.credit(self.consumer, 1)
        elif self.world.rng.random() < 0.1:
            self.begin()

    def begin(self) -> None:
        """Have the archive replayed once more, if nothing is replayed now."""
        replays = self.replays()
        idle = all(each.state == "done" for each in replays)
        if self.done or not idle or len(replays) >= _REPLAYS_MAX:
            return
        policy = ReplayPolicy(self.archive, rate=self.world.rng.choice([0, 0, 100]))
        core = self.world.core
        id = core.replay(SYSTEM, self.filter, self.target, policy, self.world.clock.ms).id
        self.world.note(f"replay {id} begins")
        self.when_kept(lambda: self.confirmed.add(id))

    def replays(self) -> list[ReplayInfo]:
        return self.world.core.list_replays(SYSTEM)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        if consumer is not self.consumer:
            return  # of an earlier life
        for delivery in deliveries:
            self.held.append(delivery)
            origin = str(unpack_headers(delivery.attributes).get(REPLAYED_FROM, ""))
            if origin:
                self.world.note(f"{self.name} got {origin}")
                self.came[delivery.id] = int(origin.rpartition("/")[2])

    def closed(self, consumer: Consumer, error: Exception) -> None:
        raise AssertionError(f"{self.name}: {error}")

    @property
    def rests(self) -> bool:
        """Whether all that was begun is done, and taken."""
        over = all(each.state != "running" for each in self.replays())
        return self.consumer is not None and over and not self.world.core.queues[self.name].live

    def close(self, archived: Mapping[int, int]) -> None:
        """Close the books; ``archived``: the time of each record that the filter matches."""
        replays = self.replays()
        if self.confirmed - {each.id for each in replays}:
            raise Broken("lost: a replay that was confirmed")
        counts = Counter(self.came.values())
        for number, time_ms in archived.items():
            due = sum(time_ms < each.policy.end_ms for each in replays)
            if counts[number] != due:
                word = "lost" if counts[number] < due else "duplicate"
                raise Broken(f"{word}: record {number} replayed {counts[number]} times, not {due}")
        if counts.keys() - archived.keys():
            raise Broken(f"phantom: {counts.keys() - archived.keys()}")
        numbers = [number for _, number in sorted(self.came.items())]
        turns = sum(number >= following for number, following in pairwise(numbers))
        if turns >= max(len(replays), 1):
            raise Broken(f"misordered: {len(replays)} replays begin anew {turns} times")

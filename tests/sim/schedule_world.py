"""A world (``places_world.py``) whose planners have messages sent later, some again and again.

Takers receive all that comes. Which promise was broken is the first word of :class:`Broken`:

lost     a schedule was confirmed, and its message was not sent as often as it was to be
often    a message was sent more often than it was to be
early    it was sent before its time
removed  it was sent after its removal was confirmed
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError
from braidmq.broker.message import Delivery
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled, ScheduleKind
from braidmq.broker.settings import QueueSettings
from tests.sim.audit import Broken
from tests.sim.clients import Client, Listener
from tests.sim.places_world import PlacesWorld

__all__ = ["ScheduleWorld"]

QUEUES = {
    "out": QueueSettings(),
    "fifo": QueueSettings(fifo=True),
    "narrow": QueueSettings(messages_max=2),
    "bound": QueueSettings(),
}
TARGETS = [("queue", "out"), ("queue", "fifo"), ("queue", "narrow"), ("topic", "t")]
TARGETS.append(("stream", "kept"))


@dataclass
class Planned:
    """A schedule, by what the audit knows of it."""

    first_ms: int
    times: int
    kept: bool = False
    removing: bool = False
    removed_ms: int = 0
    ids: set[int] = field(default_factory=set)  # of the messages that came


class ScheduleAudit:
    """See the module."""

    def __init__(self) -> None:
        self.planned: dict[bytes, Planned] = {}
        self.counts = dict.fromkeys(("planned", "kept", "removed", "sent", "again"), 0)

    def got(self, delivery: Delivery) -> None:
        """A taker was given a message."""
        body = delivery.body.rstrip(b".")
        planned = self.planned[body]
        if delivery.id in planned.ids:
            self.counts["again"] += 1
            return
        planned.ids.add(delivery.id)
        self.counts["sent"] += 1
        if delivery.time_ms < planned.first_ms:
            raise Broken(f"early: {body!r} at {delivery.time_ms}")
        if 0 < planned.removed_ms < delivery.time_ms:
            raise Broken(f"removed: {body!r} at {delivery.time_ms}")
        if len(planned.ids) > planned.times:
            raise Broken(f"often: {body!r} came {len(planned.ids)} times")

    def close(self) -> None:
        """Everything was sent and taken."""
        for body, planned in self.planned.items():
            some = 0 < len(planned.ids) < planned.times
            if not planned.removing and (some or (planned.kept and not planned.ids)):
                raise Broken(f"lost: {body!r} came {len(planned.ids)} of {planned.times} times")


class Planner(Client):
    """Schedules messages, and removes some."""

    world: "ScheduleWorld"

    def __init__(self, world: "ScheduleWorld", name: str) -> None:
        super().__init__(world, name)
        self.number = 0
        self.done = False

    def act(self) -> None:
        world, rng, now_ms = self.world, self.world.rng, self.world.clock.ms
        queue = world.core.schedules.queue
        if self.done or (queue is not None and queue.live > 20):
            return
        audit = world.schedule_audit
        self.number += 1
        body = b"%s-%d" % (self.name.encode(), self.number)
        timing = Timing(rng.randrange(200), rng.randrange(1, 40), rng.choice([0, 1, 4, 9]))
        first_ms = timing.first_ms(now_ms)
        planned = audit.planned[body] = Planned(first_ms, timing.repeat + 1)
        kind, name = rng.choice(TARGETS)
        message = Scheduled(
            kind=cast(ScheduleKind, kind),
            name=name,
            timing=timing,
            body=body + b"." * rng.choice([0, 0, 2_000]),
        )
        info = world.core.schedule(SYSTEM, message, now_ms)
        audit.counts["planned"] += 1
        self.when_kept(lambda: self.kept(planned, info.id))

    def kept(self, planned: Planned, id: int) -> None:
        planned.kept = True
        self.world.schedule_audit.counts["kept"] += 1
        if self.world.rng.random() < 0.2:
            planned.removing = True
            life = self.life

            def removed(argument: object, count: int | BraidError) -> None:
                if count == 1 and self.life == life:
                    self.when_kept(lambda: self.gone(planned))

            self.world.core.unschedule(SYSTEM, id, removed, None)

    def gone(self, planned: Planned) -> None:
        planned.removed_ms = self.world.clock.ms
        self.world.schedule_audit.counts["removed"] += 1

    def leave(self) -> None:
        self.done = True


class Taker(Listener):
    """Takes what comes to a queue."""

    world: "ScheduleWorld"

    def heard(self, delivery: Delivery) -> None:
        self.world.schedule_audit.got(delivery)


class ScheduleWorld(PlacesWorld):
    """See the module."""

    QUEUES = QUEUES
    TAKEN = (*QUEUES, "view")
    RICH = {"kept": 300, "removed": 20, "sent": 500, "again": 20}

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.schedule_audit = ScheduleAudit()
        super().__init__(seed, crash_at)

    def populate(self) -> None:
        takers = [Taker(self, f"from-{queue}", queue) for queue in self.TAKEN]
        self.clients = [Planner(self, "one"), Planner(self, "two"), *takers]

    @property
    def counts(self) -> Mapping[str, int]:
        return self.schedule_audit.counts

    @property
    def delivered(self) -> int:
        return self.schedule_audit.counts["sent"]

    @property
    def unheard(self) -> int:
        return self.schedule_audit.counts["planned"] - self.schedule_audit.counts["kept"]

    def finish(self) -> None:
        """Plan no more, let all be sent and taken, and close the books."""
        self.all_leave()
        self.until(self.is_empty, 3_000, "schedules")
        self.schedule_audit.close()

"""A world (``world.py``) with places of all kinds that messages go to, and people who take them.

There are queues, among them ``bound``, to which the topic ``t`` is bound, and the stream ``kept``,
which the queue ``view`` shows. Whoever fills them a subclass says.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stream_settings import StreamSettings
from tests.sim.world import World

__all__ = ["PlacesWorld"]


class PlacesWorld(World):
    """See the module.

    Attributes:
        QUEUES: and how they are. TAKEN: those from which somebody takes, and the view if it is.
    """

    LIMITS = Limits(shard_hot_lag_bytes_max=1)
    SCRIPT_TURNS = 600
    REHOMES = True
    QUEUES: ClassVar[Mapping[str, QueueSettings]]
    TAKEN: ClassVar[Collection[str]]

    def declare(self) -> None:
        core, now_ms = self.core, self.clock.ms
        for name, settings in self.QUEUES.items():
            core.declare_queue(SYSTEM, name, settings, now_ms)
        core.declare_stream(SYSTEM, "kept", StreamSettings(), 1, now_ms)
        core.declare_queue(SYSTEM, "view", QueueSettings(stream="kept"), now_ms)
        core.bind(SYSTEM, "t", Target("queue", "bound"), BindingSettings(), now_ms)

    def is_empty(self) -> bool:
        """Whether nothing is scheduled, and all was taken."""
        scheduled = self.core.schedules.queue
        queues = [self.core.queues[name] for name in self.TAKEN]
        waiting = scheduled is not None and scheduled.live
        return not waiting and not any(queue.live or queue.unread() for queue in queues)

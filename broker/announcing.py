"""What the broker says of itself, under ``$SYS/broker/``, as long as somebody listens.

The names are those that monitoring for other brokers knows. Values are published every
``INTERVAL_MS``, and soon after somebody subscribes; they are QoS 0 and not retained.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import InvalidArgument
from .publication import PlainPublication

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["INTERVAL_MS", "Announcing"]

INTERVAL_MS = 10_000
_PREFIX = "$SYS/broker/"


class Announcing:
    """The ``$SYS`` topics of a broker.

    Attributes:
        id, alarm_ms: for the engine's alarms, as a queue has them.
        gauges: the values, by name without the prefix; dialects add theirs, also while this tells.
            Each is asked for only when somebody listens to it, because some look at every queue.
    """

    id = -1  # 0 is that of clients.py, queues begin with 1

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._called = False  # to announce in the next turn
        self.alarm_ms = 0
        self.gauges: dict[str, Callable[[], object]] = {
            "version": lambda: f"BraidMQ {engine.version}",
            "uptime": lambda: f"{(engine.now_ms - engine.started_ms) // 1000} seconds",
            "clients/connected": self._connected,
            "clients/disconnected": lambda: len(engine.sessions) - self._connected(),
            "clients/expired": lambda: engine.clients.expired,
            "clients/total": lambda: len(engine.sessions),
            "subscriptions/count": lambda: engine.clients.subscriptions,
            "bindings/count": lambda: len(engine.bindings.by_id),
            "bindings/messages/dropped": lambda: engine.fanout.dropped,
            "bindings/messages/dead-lettered": lambda: engine.fanout.dead_lettered,
            "retained messages/count": lambda: len(engine.retained),
            "store/messages/count": lambda: sum(queue.live for queue in engine.entities()),
            "store/messages/bytes": lambda: sum(queue.bytes for queue in engine.entities()),
            "publish/messages/received": lambda: engine.topics.published,
            "publish/messages/dropped": lambda: engine.topics.dropped,
        }

    def _connected(self) -> int:
        return sum(session.sink is not None for session in self._engine.sessions.values())

    def soon(self) -> None:
        """Somebody may have subscribed."""
        if not self._called:
            self._called = True
            self._engine.later(self._announce)

    def tick(self, now_ms: int) -> None:
        """Tell again."""
        self.alarm_ms = 0
        self._announce()

    def values(self) -> dict[str, object]:
        """Every value by its name without the prefix."""
        return {name: gauge() for name, gauge in self.gauges.items()}

    def _announce(self) -> None:
        """Publish to whoever subscribed; begin to tell regularly while there is anybody."""
        self._called = False
        engine = self._engine
        topics = engine.topics
        heard = False
        for name, gauge in list(self.gauges.items()):  # telling one may add another
            topic = _PREFIX + name
            try:
                route = topics.route(topic)
            except InvalidArgument:
                continue  # longer, or deeper, than topics may be here
            if route.count:
                heard = True
                publication = PlainPublication(topic, str(gauge()).encode(), b"", 0)
                topics.distribute(route, publication, engine.now_ms)
        if heard and not self.alarm_ms:
            self.alarm_ms = engine.now_ms + INTERVAL_MS
            engine.alarm(self, self.alarm_ms)

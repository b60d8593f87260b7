"""What the broker says of itself, under ``$SYS/broker/``, as long as somebody listens.

The names are those that monitoring for other brokers knows. Values are published every
``INTERVAL_MS``, and soon after somebody subscribes; they are QoS 0 and not retained.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

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
        gauges: more values, by name without the prefix; dialects add theirs.
    """

    id = 0

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.alarm_ms = 0
        self.gauges: dict[str, Callable[[], object]] = {}

    def soon(self) -> None:
        """Somebody may have subscribed."""
        self._engine.later(self._announce)

    def tick(self, now_ms: int) -> None:
        """Tell again."""
        self.alarm_ms = 0
        self._announce()

    def values(self) -> dict[str, object]:
        """Every value by its name without the prefix."""
        engine = self._engine
        sessions = engine.sessions.values()
        connected = sum(session.sink is not None for session in sessions)
        return {
            "version": f"BraidMQ {engine.version}",
            "uptime": f"{(engine.now_ms - engine.started_ms) // 1000} seconds",
            "clients/connected": connected,
            "clients/disconnected": len(sessions) - connected,
            "clients/expired": engine.clients.expired,
            "clients/total": len(sessions),
            "subscriptions/count": engine.clients.subscriptions,
            "retained messages/count": len(engine.retained),
            "store/messages/count": sum(queue.live for queue in engine.entities()),
            "store/messages/bytes": sum(queue.bytes for queue in engine.entities()),
            "publish/messages/received": engine.topics.published,
            "publish/messages/dropped": engine.topics.dropped,
        } | {name: gauge() for name, gauge in self.gauges.items()}

    def _announce(self) -> None:
        """Publish to whoever subscribed; begin to tell regularly while there is anybody."""
        engine = self._engine
        topics = engine.topics
        heard = False
        for name, value in self.values().items():
            route = topics.route(_PREFIX + name)
            if route.count:
                heard = True
                body = str(value).encode()
                attributes = b""
                publication = PlainPublication(_PREFIX + name, body, attributes, 0)
                topics.distribute(route, publication, engine.now_ms)
        if heard and not self.alarm_ms:
            self.alarm_ms = engine.now_ms + INTERVAL_MS
            engine.alarm(self, self.alarm_ms)

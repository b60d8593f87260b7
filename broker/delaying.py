"""Publishing later: what was published to ``$delayed/SECONDS/TOPIC`` waits in a queue of its own.

The queue is in the log, so nothing is lost with the process; each message is published when its
time has come, never before, and taken out in the same frame of the log: once, also over a crash.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ..storage.log import RECORD_BYTES_MAX, Durability
from ..storage.record import encode_definition
from .access import Principal
from .errors import BraidError, PermissionDenied
from .lease import Consumer
from .limits import DELAY_MS_MAX
from .message import MQTT_QOS, MQTT_RETAIN, Delivery, Outgoing, unpack_headers
from .publication import PlainPublication
from .queue import Queue
from .registry import QueueDefinition
from .settings import QueueSettings

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["DELAYED_NAME", "Delaying"]

DELAYED_NAME = "$delayed"
_CREDIT = 256
_RETRY_MS = 1_000  # after somebody could not take it


class Delaying:
    """The messages of a broker that are to be published later."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def start(self) -> None:
        """Everything is recovered: go on with what waits."""
        queue = self._engine.shares.get(DELAYED_NAME)
        if queue is not None:
            self._consume(queue)

    def _consume(self, queue: Queue) -> None:
        queue.add(Consumer(queue.name, self, _CREDIT, 0, None, None))
        self._engine.changed(queue)

    def publish(
        self,
        who: Principal,
        topic: str,
        body: bytes,
        attributes: bytes,
        delay_ms: int,
        ttl_ms: int,
        now_ms: int,
        more: Sequence[tuple[int, int]] = (),
    ) -> Durability:
        """Publish after a delay of at most DELAY_MS_MAX; what to wait for.

        ``attributes`` are the packed headers, with the topic in them; ``more`` as in ``Core.send``.

        Raises:
            PermissionDenied, InvalidArgument, StorageFull, Overloaded: it was not taken.
        """
        who.check("topic:Publish", topic)
        engine = self._engine
        if engine.topics.route(topic).reserved:
            raise PermissionDenied(f"the topic {topic!r} is the broker's own")
        engine.admit()
        queue = engine.shares.get(DELAYED_NAME) or self._make(now_ms)
        message = Outgoing(body, attributes, min(delay_ms, DELAY_MS_MAX), ttl_ms)
        (result,) = queue.send([message], now_ms, more)
        if isinstance(result, BraidError):
            raise result
        engine.changed(queue)
        return queue.settings.durability

    def _make(self, now_ms: int) -> Queue:
        engine = self._engine
        definition = QueueDefinition(
            kind="share", name=DELAYED_NAME, settings=QueueSettings(), created_ms=now_ms
        )
        id = engine.take_id()
        engine.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
        queue = engine.define(id, definition)
        self._consume(queue)
        return queue

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Publish what is due."""
        engine = self._engine
        queue = consumer.queue
        assert queue is not None
        for delivery in deliveries:
            headers = unpack_headers(delivery.attributes)
            topic = engine.topics.topic_of(delivery.attributes)
            qos = {"0": 0, "2": 2}.get(str(headers.get(MQTT_QOS)), 1)
            publication = PlainPublication(
                topic,
                delivery.body,
                delivery.attributes,
                qos,
                MQTT_RETAIN in headers,
                delivery.expire_ms,
            )
            route = engine.topics.route(topic)
            try:
                # How much it comes to is not known before; it is far less than this.
                with engine.log.in_one_frame(RECORD_BYTES_MAX):
                    engine.topics.distribute(route, publication, engine.now_ms)
                    queue.ack([delivery.receipt])
            except BraidError:
                queue.nack([delivery.receipt], _RETRY_MS, True, engine.now_ms)
        queue.feed(consumer, len(deliveries))
        engine.keep()

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """The broker has failed."""

"""A client of topics without a dialect: what stands behind a session, and the sink of its queues.

It asks the core what MQTT, STOMP and the native protocol ask of it, and keeps all that it gets:

    client = Client(broker, "one")
    client.connect(expiry_ms=60_000); client.subscribe("a/+")
    client.send("a/b", b"x"); client.bodies(); client.ack()
"""

from typing import Any

import msgspec

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.errors import BraidError
from braidmq.broker.lease import Consumer
from braidmq.broker.message import MQTT_QOS, MQTT_RETAIN, TOPIC, Delivery, unpack_headers
from braidmq.broker.publication import Match, PlainPublication, Publication, Subscription
from braidmq.broker.queue import Queue
from braidmq.broker.retained import RetainedSearch
from braidmq.broker.session import SessionQueue
from braidmq.broker.willstore import WillMessage
from braidmq.storage.log import Durability
from tests.broker_harness import Harness

__all__ = ["Client", "publication_of", "search_all", "will_of"]


def publication_of(
    topic: str, body: bytes, qos: int = 1, retain: bool = False, expire_ms: int = 0, **more: str
) -> PlainPublication:
    """A publication as a dialect makes it."""
    attributes = _attributes(topic, qos, retain, more)
    return PlainPublication(topic, body, attributes, qos, retain, expire_ms)


def will_of(
    topic: str,
    body: bytes,
    delay_ms: int = 0,
    qos: int = 1,
    retain: bool = False,
    lifetime_ms: int = 0,
) -> WillMessage:
    """A will as a dialect makes it."""
    return WillMessage(
        topic=topic,
        body=body,
        attributes=_attributes(topic, qos, retain, {}),
        qos=qos,
        retain=retain,
        lifetime_ms=lifetime_ms,
        delay_ms=delay_ms,
    )


def _attributes(topic: str, qos: int, retain: bool, more: dict[str, str]) -> bytes:
    headers: dict[str, str] = {**more, TOPIC: topic}
    if qos != 1:
        headers[MQTT_QOS] = str(qos)
    if retain:
        headers[MQTT_RETAIN] = "1"
    return msgspec.msgpack.encode(headers)


class Client:
    """See the module.

    Attributes:
        live: what came past the queues: (topic, body, how). held: what is leased.
        ends: why the broker hung up, and which consumers it ended.
    """

    def __init__(
        self, broker: Harness, name: str = "c", who: Principal = SYSTEM, credit: int = 1_000
    ) -> None:
        self.broker: Any = broker  # also one that can be restarted
        self._core = broker.core
        self.name = name
        self.who = who
        self.credit = credit
        self.session: Any = None  # a Session while it is connected
        self.consumers: list[Any] = []
        self.live: list[tuple[str, bytes, Match]] = []
        self.held: list[tuple[Any, Delivery]] = []
        self.ends: list[object] = []

    # What the core calls ----------------------------------------------------------------------

    def publish(self, publication: Publication, match: Match) -> None:
        self.live += [(publication.topic, body, match) for body in publication.bodies]

    def attach(self, queue: Queue, subscription: Subscription | None) -> None:
        self.consumers.append(self._core.attach(queue, self, self.credit, subscription))

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.held += [(consumer, delivery) for delivery in deliveries]

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        self.ends.append(error)

    def replaced(self) -> None:
        self.ends.append("replaced")
        self.leave()

    def ended(self, reason: str) -> None:
        self.ends.append(reason)
        self.leave()

    # What a client does -----------------------------------------------------------------------

    def connect(
        self,
        expiry_ms: int = 60_000,
        clean: bool = False,
        settle: bool = True,
        will: WillMessage | None = None,
    ) -> bool:
        """Open the session; whether it was there before."""
        clients = self._core.clients
        now_ms = self.broker.clock.ms
        self.session, present = clients.open(
            self.who, self.name, self, clean, expiry_ms, now_ms, will
        )
        for queue, subscription in clients.sources(self.session):
            self.attach(queue, subscription)
        if settle:
            self.broker.settle()
        return present

    def leave(self, said_goodbye: bool = False) -> None:
        """The connection is gone, in the middle of whatever goes on."""
        session, self.session = self.session, None
        if session is None:
            return
        core, now_ms = self._core, self.broker.clock.ms
        for consumer in self.consumers:
            core.cancel(consumer, [], now_ms)
        self.consumers.clear()
        self.held.clear()
        core.clients.close(session, self, now_ms, said_goodbye)

    def disconnect(self, said_goodbye: bool = False) -> None:
        """Go, and leave the will if there is one, unless with a farewell."""
        self.leave(said_goodbye)
        self.broker.settle()

    def subscribe(self, filter: str, qos: int = 1, **options: Any) -> bool:
        subscription = Subscription(filter, qos, **options)
        now_ms = self.broker.clock.ms
        present = self._core.clients.subscribe(self.session, subscription, now_ms)
        self.broker.settle()
        return present

    def unsubscribe(self, filter: str) -> bool:
        core = self._core
        for consumer in [each for each in self.consumers if each.tag and each.tag.filter == filter]:
            self.consumers.remove(consumer)
            self.held = [each for each in self.held if each[0] is not consumer]
            core.cancel(consumer, [], self.broker.clock.ms)
        found = core.clients.unsubscribe(self.session, filter)
        self.broker.settle()
        return found

    def send(
        self,
        topic: str,
        body: bytes,
        qos: int = 1,
        retain: bool = False,
        expire_ms: int = 0,
        inbound: int = 0,
    ) -> tuple[Durability, int]:
        """Publish; what to wait for, and how many subscribed."""
        publication = publication_of(topic, body, qos, retain, expire_ms)
        publication.session = self.session
        publication.inbound = inbound
        result = self._core.topics.publish(self.who, publication, self.broker.clock.ms)
        self.broker.settle()
        return result

    def ack(self, count: int = -1) -> list[bytes]:
        """Acknowledge what is held, the first ``count``; their bodies."""
        taken = self.held[:count] if count >= 0 else list(self.held)
        del self.held[: len(taken)]
        for consumer, delivery in taken:
            assert consumer.queue is not None
            assert consumer.queue.ack([delivery.receipt]) == [None]
            self._core.credit(consumer, 1)
        self.broker.settle()
        return [delivery.body for _, delivery in taken]

    # Looking ----------------------------------------------------------------------------------

    @property
    def queue(self) -> SessionQueue:
        """The session's queue, of whoever is connected or not."""
        queue = self._core.sessions[self.name].queue
        assert queue is not None
        return queue

    @property
    def present(self) -> bool:
        """Whether the broker knows the session."""
        return self.name in self._core.sessions

    def bodies(self) -> list[bytes]:
        """What is leased."""
        return [delivery.body for _, delivery in self.held]

    def topics(self) -> list[str]:
        """Of what is leased."""
        return [str(unpack_headers(each.attributes)[TOPIC]) for _, each in self.held]

    def take_live(self) -> list[bytes]:
        """What came past the queues since the last call."""
        taken, self.live = self.live, []
        return [body for _, body, _ in taken]

    def retained(self, filter: str, most: int = 100) -> dict[str, bytes]:
        """The retained messages that a new subscription would be given."""
        woken: list[None] = []
        search = self._core.topics.search_retained(self.session, filter, lambda: woken.append(None))
        return search_all(self.broker, search, most)


def search_all(broker: Any, search: RetainedSearch, most: int = 100) -> dict[str, bytes]:
    """All that a search finds; each topic once."""
    found: dict[str, bytes] = {}
    for _ in range(100_000):
        for topic, _, message in search.take(most, broker.clock.ms):
            assert topic not in found
            found[topic] = message.body
        if search.done:
            return found
        broker.settle()
    raise AssertionError("the search does not end")

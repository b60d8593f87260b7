"""Clients of topics in the simulation: they keep to MQTT's exchanges, over every crash.

Their own memory survives, as that of a good client does: what was not acknowledged is sent again
after reconnecting, with the packet identifier it had, and a message of QoS 2 is told from its
repetition by that identifier.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from braidmq.broker.access import SYSTEM
from braidmq.broker.lease import Consumer
from braidmq.broker.message import MQTT_QOS, TOPIC, Delivery, unpack_headers
from braidmq.broker.publication import Match, PlainPublication, Publication, Subscription
from braidmq.broker.queue import Queue
from braidmq.broker.session import Session, SessionQueue, packet_id
from braidmq.broker.topic import parse_shared
from tests.sim.clients import Client

if TYPE_CHECKING:
    from tests.sim.topic_world import TopicWorld

__all__ = ["Member", "Publisher", "Retainer", "message"]

_EXPIRY_MS = 24 * 3_600_000
_WINDOW = 3


class Member(Client):
    """Somebody with a durable session. Also its subscriber, and the sink of its queues."""

    def __init__(self, world: "TopicWorld", name: str, filter: str = "", qos: int = 0) -> None:
        super().__init__(world, name)
        self.topics = world
        self.filter = filter
        self.qos = qos
        shared = parse_shared(filter) if filter else None
        self.application, self.interest = (name, filter) if shared is None else shared
        self.session: Session | None = None
        self.consumers: list[Consumer] = []
        self.held: list[tuple[Consumer, Delivery]] = []
        self.received: set[int] = set()  # packet identifiers of QoS 2; survives everything
        self.done = False

    # What the core calls ----------------------------------------------------------------------

    def publish(self, publication: Publication, match: Match) -> None:
        """QoS 0 is none of our business."""

    def attach(self, queue: Queue, subscription: Subscription | None) -> None:
        self.consumers.append(self.world.core.attach(queue, self, 4, subscription))

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        if consumer not in self.consumers:
            return  # of an earlier life
        for delivery in deliveries:
            self.world.note(f"{self.name} got {delivery.seq} {delivery.receives}")
            if not _is_exact(delivery):
                self.topics.topic_audit.got(self.application, delivery.body, delivery.id)
            elif packet_id(delivery.seq) not in self.received:
                self.received.add(packet_id(delivery.seq))
                self.topics.topic_audit.got(self.application, delivery.body, delivery.id)
            self.held.append((consumer, delivery))

    def closed(self, consumer: Consumer, error: Exception) -> None:
        raise AssertionError(f"{self.name}: {error}")

    def replaced(self) -> None:
        self.hang_up()

    def ended(self, reason: str) -> None:
        self.hang_up()

    # What it does -----------------------------------------------------------------------------

    def connect(self) -> None:
        core, now_ms = self.world.core, self.world.clock.ms
        self.session, _ = core.clients.open(SYSTEM, self.name, self, False, _EXPIRY_MS, now_ms)
        for each, subscription in core.clients.sources(self.session):
            self.attach(each, subscription)
        if self.filter and self.filter not in self.session.subscriptions:
            core.clients.subscribe(self.session, Subscription(self.filter, self.qos), now_ms)
        if self.filter:
            self.when_kept(self.on_subscribed)
        queue = self.session.queue
        assert queue is not None
        for number in list(queue.released):
            self.when_kept(self.on_release(number))

    def on_subscribed(self) -> None:
        """SUBACK came."""
        self.topics.topic_audit.subscribed[self.application] = self.interest

    def hang_up(self) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        core, now_ms = self.world.core, self.world.clock.ms
        for consumer in self.consumers:
            core.cancel(consumer, [], now_ms)
        self.disconnected()
        core.clients.close(session, self, now_ms)

    def disconnected(self) -> None:
        super().disconnected()
        self.session = None
        self.consumers.clear()
        self.held.clear()

    def act(self) -> None:
        rng = self.world.rng
        if self.session is None:
            self.connect()
        elif not self.done and rng.random() < 0.02:
            if rng.random() < 0.5:
                self.hang_up()
            else:
                self.connect()  # its other connection has not noticed yet
        elif self.held:
            self.settle_one(*self.held.pop(0))

    def settle_one(self, consumer: Consumer, delivery: Delivery) -> None:
        """Acknowledge a message, or say that it was received."""
        queue = consumer.queue
        assert queue is not None
        id, number = delivery.id, packet_id(delivery.seq)
        if _is_exact(delivery):
            assert isinstance(queue, SessionQueue)
            assert queue.release(*delivery.receipt)
            self.when_kept(self.on_release(number))
        else:
            assert queue.ack([delivery.receipt]) == [None]
            self.when_kept(lambda: self.topics.topic_audit.acknowledged(self.application, id))
        self.world.core.credit(consumer, 1)

    def on_release(self, number: int) -> Any:
        """The broker will not send it again: its identifier is free."""

        def release() -> None:
            self.received.discard(number)
            if self.session is not None and self.session.queue is not None:
                self.session.queue.complete(number)

        return release

    def leave(self) -> None:
        self.done = True

    @property
    def rests(self) -> bool:
        """Whether it has nothing to do any more."""
        queue = self.session.queue if self.session is not None else None
        if queue is None or queue.released or self.held:
            return False
        return not any(each.queue.live for each in self.consumers if each.queue is not None)


class Publisher(Member):
    """Publishes with QoS 1 or 2, and again what was not acknowledged; or once, ``reckless``."""

    def __init__(self, world: "TopicWorld", name: str, qos: int, reckless: bool = False) -> None:
        super().__init__(world, name, qos=qos)
        self.reckless = reckless
        self.number = 0
        # By packet identifier: the body, or None when it is to be released; in order.
        self.open: dict[int, bytes | None] = {}
        self.again: list[int] = []

    def connect(self) -> None:
        super().connect()
        if self.reckless:
            self.open.clear()
        self.again = list(self.open)

    def act(self) -> None:
        super().act()
        if self.session is None:
            return
        if self.again:
            self.send(self.again.pop(0))
        elif len(self.open) < _WINDOW and not self.done:
            self.number += 1
            pad = self.world.rng.choice([0, 20, 200])
            self.open[self.number] = b"%s|%d|" % (self.name.encode(), self.number) + b"." * pad
            self.send(self.number)

    def send(self, number: int) -> None:
        assert self.session is not None and self.session.queue is not None
        body = self.open.get(number, b"")
        if body is None:
            self.release(number)
            return
        queue = self.session.queue
        topic = f"t/{self.name}"
        self.topics.topic_audit.invoked(topic, body, self.name, number, self.qos)
        self.world.note(f"{self.name} sends {number}")
        if self.qos == 1 or number not in queue.inbound:
            publication = message(topic, body, self.qos)
            publication.session = self.session
            publication.inbound = number if self.qos == 2 else 0
            self.world.core.topics.publish(SYSTEM, publication, self.world.clock.ms)
        self.when_kept(lambda: self.taken(number, body))

    def taken(self, number: int, body: bytes) -> None:
        """PUBACK or PUBREC came."""
        if number not in self.open:
            return
        if self.qos == 1:
            del self.open[number]
            self.topics.topic_audit.finished(body)
        else:
            self.open[number] = None
            self.release(number)

    def release(self, number: int) -> None:
        """PUBREL: the message will not be sent again."""
        assert self.session is not None and self.session.queue is not None
        self.session.queue.release_inbound(number)
        name = b"%s|%d|" % (self.name.encode(), number)
        self.when_kept(lambda: self.released(number, name))

    def released(self, number: int, name: bytes) -> None:
        """PUBCOMP came."""
        if number in self.open:
            del self.open[number]
            audit = self.topics.topic_audit
            audit.finished(next(body for body in audit.sendings if body.startswith(name)))

    @property
    def rests(self) -> bool:
        return self.session is not None and not self.open


class Retainer(Member):
    """Has topics retain messages, and forget them, one at a time for each topic."""

    def __init__(self, world: "TopicWorld", name: str, topics: list[str]) -> None:
        super().__init__(world, name)
        self.names = topics
        self.number = 0
        self.open: dict[str, bytes] = {}

    def connect(self) -> None:
        super().connect()
        for topic in list(self.open):
            self.send(topic)

    def act(self) -> None:
        super().act()
        topic = self.world.rng.choice(self.names)
        if self.session is None or self.done or topic in self.open:
            return
        self.number += 1
        pad = self.world.rng.choice([0, 300])
        clears = self.world.rng.random() < 0.3
        self.open[topic] = b"" if clears else b"%d|" % self.number + b"." * pad
        self.send(topic)

    def send(self, topic: str) -> None:
        body = self.open[topic]
        self.topics.topic_audit.retaining(topic, body)
        publication = message(topic, body, 1, True)
        self.world.core.topics.publish(SYSTEM, publication, self.world.clock.ms)
        self.when_kept(lambda: self.taken(topic, body))

    def taken(self, topic: str, body: bytes) -> None:
        if self.open.get(topic) == body:
            del self.open[topic]
            self.topics.topic_audit.retained(topic, body)

    @property
    def rests(self) -> bool:
        return self.session is not None and not self.open


def message(topic: str, body: bytes, qos: int, retain: bool = False) -> PlainPublication:
    """A publication as a dialect makes it."""
    headers = {TOPIC: topic, MQTT_QOS: str(qos)}
    return PlainPublication(topic, body, msgspec.msgpack.encode(headers), qos, retain)


def _is_exact(delivery: Delivery) -> bool:
    return unpack_headers(delivery.attributes)[MQTT_QOS] == "2"

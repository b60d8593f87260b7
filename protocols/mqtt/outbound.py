"""The way out: messages to one client, their packet identifiers, and how many it may be sent ahead.

Messages come four ways:

    live     from whoever publishes, for subscriptions without durability and for QoS 0
    stored   leased from a queue: see ``stored.py``
    streamed read from a stream: see ``streamed.py``
    retained when a subscription is made: see ``subscribing.py``

Rules:

1. QoS 1 and 2 are sent as far as the client's Receive Maximum goes; the rest waits here, live ones
   up to ``live_queue_messages_max``, then they are dropped and counted. Stored ones are at most as
   many as the credit that was given to their queue.
2. Identifiers of the session's own messages follow from their sequence numbers
   (``broker/session.py``) and outlive everything; all others come from the other half.
3. A QoS 2 message of the session's queue is gone from it when PUBREC came; PUBREL is sent once
   that is kept, so that no restart can send the message again.
4. What the client cannot take, by its Maximum Packet Size, is dropped and counted. [MQTT-3.1.2-25]
"""

import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...broker.errors import BraidError
from ...broker.lease import Consumer
from ...broker.message import Delivery, Receipt
from ...broker.publication import Match, Publication
from ...broker.queue import Queue
from ...broker.session import PACKET_ID_SEQUENCED_MAX, SessionQueue
from ...storage.log import Durability
from ...storage.record import MessageContent
from .packets import (
    PUBREL,
    V5,
    Reason,
    encode_ack,
    encode_hop_properties,
    publish_head,
)
from .runs import PACKET_IDS, Run, Shape, write_packet_ids
from .server import MqttServer, seconds_left
from .stored import Held, Settling, Source, Stored
from .stretches import Stretch

if TYPE_CHECKING:
    from ...broker.laggards import Pause
    from .session import MqttSession

__all__ = ["Outbound"]

_LIVE_FIRST = PACKET_ID_SEQUENCED_MAX + 1
_LIVE_COUNT = 65_536 - _LIVE_FIRST
_LIVE_ALL = b"".join(PACKET_IDS[_LIVE_FIRST:])


class Outbound:
    """What goes to one client. Part of a session, which owns it."""

    __slots__ = (
        "_aliases",
        "_live",
        "_next_id",
        "_releases",
        "_session",
        "_waiting",
        "_waiting_bytes",
        "alias_maximum",
        "held",
        "lagging",
        "out",
        "out_bytes",
        "packet_bytes_max",
        "publishers",
        "slow",
        "stored",
        "window",
    )

    def __init__(self, session: "MqttSession") -> None:
        self._session = session
        self.out: list[bytes | bytearray] = []
        self.out_bytes = 0
        self.window = 0  # how many may be unacknowledged
        self.packet_bytes_max = 1 << 30
        self.alias_maximum = 0
        self.slow = False  # the transport holds much
        self.lagging = False  # publishers have waited in vain: not again until it caught up
        self.publishers: set[Pause] = set()  # who waits for it
        self._live: set[int] = set()  # identifiers of live QoS 1 messages
        self.held: dict[int, Held] = {}
        self._next_id = 0  # offset of the next live identifier
        self._releases = 0  # first PUBRELs that wait until what they speak of is kept
        self._waiting: deque[_Waiting] | None = None  # live, with QoS 1 or 2
        self._waiting_bytes = 0
        self.stored: Stored | None = None
        self._aliases: dict[bytes, int] | None = None

    # Bytes ------------------------------------------------------------------------------------

    def send(self, packet: bytes | bytearray) -> None:
        """Have a packet sent."""
        self.out.append(packet)
        self.out_bytes += len(packet)

    def send_when_kept(self, packet: bytes) -> None:
        """Send a packet when all that was logged so far is kept."""
        self._session.core.when_kept(Durability.SYNC, self._on_kept, packet)

    def _on_kept(self, packet: object, error: BraidError | None) -> None:
        assert isinstance(packet, bytes)
        session = self._session
        if session.finished:
            return
        if error is None:
            self.send(packet)
        else:
            session.fail_with(error)
        session.wake()

    def take(self) -> bytes | bytearray:
        """All that should be sent now; while the transport holds much, only last words."""
        out = self.out
        if not out or (self.slow and not self._session.finished):
            return b""
        self.out = []
        self.out_bytes = 0
        if self.stored is not None and self.stored.is_paused:
            self.stored.go_on()
        return out[0] if len(out) == 1 else b"".join(out)

    @property
    def is_full(self) -> bool:
        """Whether the client reads so little that nothing more should be taken from it."""
        return self.out_bytes > self._session.limits.outbound_bytes_max

    @property
    def room(self) -> int:
        """How many messages of QoS 1 or 2 may be sent now."""
        return 0 if self.slow else self.window - len(self._live) - len(self.held)

    # Live -------------------------------------------------------------------------------------

    def publish(self, publication: Publication, match: Match) -> None:
        """Take live messages."""
        each = match.each
        if each and self._session.options.overlapping == "each":
            for one in each:
                self.publish(publication, one)
            return
        qos = min(publication.qos, match.qos)
        retain = publication.retain and match.retain_as_published
        version = self._session.version
        if qos:
            self._publish_held(publication, match, qos, retain, version)
            return
        if self.slow and self._is_overrun():
            self.drop(publication.count)
            session = self._session.session
            if session is not None:
                advising = self._session.core.advising
                advising.discarded(session, publication.topic, publication.count)
            return
        if match.ids or self.alias_maximum:
            self._publish_own(publication, match, retain)
            return
        key = (version == V5) << 1 | retain
        packets = publication.wire.get(key)
        if packets is None:
            packets = publication.wire[key] = _encode_live(
                self._session.server, publication, version, retain
            )
        if len(packets) > self.packet_bytes_max:
            self._publish_own(publication, match, retain)
            return
        self.out.append(packets)
        self.out_bytes += len(packets)
        self._session.server.sent += publication.count
        self._session.wake()

    def _is_overrun(self) -> bool:
        """Whether QoS 0 is to be dropped; publishers wait for a slow client before."""
        if self.lagging or self.is_full:
            return True
        self._session.topics.slow.add(self)
        return False

    def drop(self, count: int) -> None:
        """Count messages that were not sent, and will not be."""
        self._session.server.dropped += count
        self._session.topics.dropped += count  # what operators look at, whatever the dialect

    def _publish_own(self, publication: Publication, match: Match, retain: bool) -> None:
        """QoS 0 packets that are this client's only: with its identifiers or aliases."""
        server = self._session.server
        properties = _expiry(server, publication) + _properties(server, publication, match.ids)
        wire = publication.topic.encode()
        for body in publication.bodies:
            self.send_publish(wire, 0, retain, False, properties, body)
        self._session.wake()

    def send_publish(
        self,
        wire: bytes,
        qos: int,
        retain: bool,
        dup: bool,
        properties: bytes,
        body: bytes,
        number: int = 0,
    ) -> bool:
        """Send a message, by an alias of its topic if the client takes those.

        False when the client does not take a packet of that size: it was dropped.
        """
        topic, alias = self._alias(wire)
        before, after = publish_head(
            self._session.version, topic, qos, retain, dup, alias + properties, len(body)
        )
        if qos:
            before += PACKET_IDS[number] + after
        if not self.send_message(before, body):
            return False
        if alias and topic and self._aliases is not None:  # the client knows it from now on
            self._aliases[wire] = len(self._aliases) + 1
        return True

    def send_message(self, before: bytes, behind: bytes) -> bool:
        """Send a packet unless the client does not take one of that size."""
        if len(before) + len(behind) > self.packet_bytes_max:
            self._session.server.too_large += 1
            return False
        self.out.append(before)
        self.out.append(behind)
        self.out_bytes += len(before) + len(behind)
        self._session.server.sent += 1
        return True

    def _alias(self, wire: bytes) -> tuple[bytes, bytes]:
        """The topic, and the alias property, as they go into the packet."""
        if not self.alias_maximum:
            return wire, b""
        aliases = self._aliases
        if aliases is None:
            aliases = self._aliases = {}
        alias = aliases.get(wire)
        if alias is not None:
            return b"", b"\x23" + PACKET_IDS[alias]
        if len(aliases) >= self.alias_maximum:
            return wire, b""
        return wire, b"\x23" + PACKET_IDS[len(aliases) + 1]

    def _publish_held(
        self, publication: Publication, match: Match, qos: int, retain: bool, version: int
    ) -> None:
        """Live messages of QoS 1 or 2."""
        count = publication.count
        plain = qos == 1 and not (match.ids or self.alias_maximum or self._waiting)
        if plain and isinstance(publication, Run) and count <= self.room:
            if self._publish_run(publication, retain, version):
                return
        properties = b""
        if version == V5:
            properties = _properties(self._session.server, publication, match.ids)
        expire_ms = publication.expire_ms
        topic = publication.topic
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = deque()
        limits = self._session.limits
        room = max(self.room, 0)
        for body in publication.bodies:
            if len(waiting) >= room + limits.live_queue_messages_max or (
                self._waiting_bytes > limits.live_queue_bytes_max
            ):
                self.drop(1)
                continue
            waiting.append((topic, qos, retain, properties, body, expire_ms))
            self._waiting_bytes += len(body)
        self._send_waiting()
        if self._waiting and not self.lagging:
            self._session.topics.slow.add(self)
        self._session.wake()

    def _publish_run(self, run: Run, retain: bool, version: int) -> bool:
        """A run of QoS 1 as a whole; False if that cannot be."""
        size, at = run.sizes(version, 1)
        if size > self.packet_bytes_max:
            return False
        if run.count == 1:
            ids = PACKET_IDS[self._take_live()]
        else:
            found = self._take_ids(run.count)
            if found is None:
                return False
            ids = found
        packets = run.packets(version, 1, retain)
        assert isinstance(packets, bytearray)
        if run.count == 1:
            packets[at : at + 2] = ids
        else:
            write_packet_ids(packets, at, size, ids)
        self.out.append(packets)
        self.out_bytes += len(packets)
        self._session.server.sent += run.count
        self._session.wake()
        return True

    def can_pass(self, shape: Shape, match: Match) -> bool:
        """Whether the client can be sent packets of this kind as they are, now."""
        if shape.qos and (not match.qos or self._waiting):
            return False
        session = self._session
        return (
            not (self.slow or self.alias_maximum)
            and session.is_open
            and (session.version == V5) is (shape.version == V5)
        )

    def pass_on(self, stretch: Stretch) -> None:
        """Send a stretch of what :meth:`can_pass` allows, for which there is room."""
        if stretch.qos:
            count = stretch.count
            ids = self._take_ids(count)
            if ids is None:
                ids = b"".join([PACKET_IDS[self._take_live()] for _ in range(count)])
            self.send(stretch.with_ids(ids))
        else:
            self.send(stretch.packets)
        self._session.server.sent += stretch.count
        self._session.wake()

    def _take_live(self) -> int:
        number = self.take_id()
        self._live.add(number)
        return number

    def _take_ids(self, count: int) -> bytes | None:
        """``count`` identifiers that are free, noted as those of live messages; None: no run."""
        begin = self._next_id
        end = begin + count
        if end > _LIVE_COUNT:
            self._next_id = begin = 0
            end = count
        numbers = range(_LIVE_FIRST + begin, _LIVE_FIRST + end)
        if not self._live.isdisjoint(numbers) or not self.held.keys().isdisjoint(numbers):
            return None
        self._next_id = end % _LIVE_COUNT
        self._live.update(numbers)
        return _LIVE_ALL[2 * begin : 2 * end]

    def take_id(self) -> int:
        """One identifier that is free."""
        while True:
            number = _LIVE_FIRST + self._next_id
            self._next_id = (self._next_id + 1) % _LIVE_COUNT
            if number not in self._live and number not in self.held:
                return number

    def send_retained(
        self, topic: str, qos: int, message: MessageContent, ids: tuple[int, ...]
    ) -> None:
        """Send a retained message, for which there is room."""
        server = self._session.server
        properties = b""
        if self._session.version == V5:
            left = seconds_left(message.expire_ms, server.core.now_ms)
            hop = encode_hop_properties(expiry_seconds=left, subscription_ids=ids)
            properties = hop + server.head(message.attributes).properties
        number = self.take_id() if qos else 0
        wire = topic.encode()
        if not self.send_publish(wire, qos, True, False, properties, message.body, number):
            return
        if qos == 1:
            self._live.add(number)
        elif qos:
            self.held[number] = Held(2, None, (0, 0))

    def _send_waiting(self) -> None:
        """Send live messages that wait, as far as there is room and the right to them."""
        waiting = self._waiting
        allows = self._session.who.allows
        while waiting and self.room > 0:
            topic, qos, retain, properties, body, expire_ms = waiting.popleft()
            self._waiting_bytes -= len(body)
            if not allows("topic:Subscribe", topic):  # it may have been taken meanwhile
                self.drop(1)
                continue
            if expire_ms:
                now_ms = self._session.core.now_ms
                if expire_ms <= now_ms:
                    self.drop(1)  # [MQTT-3.3.2-5]
                    continue
                left = seconds_left(expire_ms, now_ms)
                properties = encode_hop_properties(expiry_seconds=left) + properties
            number = self.take_id()
            wire = topic.encode()
            if not self.send_publish(wire, qos, retain, False, properties, body, number):
                continue
            if qos == 1:
                self._live.add(number)
            else:
                self.held[number] = Held(2, None, (0, 0))
        if waiting is not None and not waiting:
            self._waiting = None
            self._waiting_bytes = 0
            self._caught_up()

    def _caught_up(self) -> None:
        """Publishers need not wait any longer."""
        self.lagging = False
        publishers, self.publishers = self.publishers, set()
        for publisher in publishers:
            publisher.go_on(self)

    # Stored -----------------------------------------------------------------------------------

    def attach(self, queue: Queue, filter: str | None) -> None:
        """Consume from a queue, by a subscription; None: the session's own."""
        if self.stored is None:
            self.stored = Stored(self._session, self)
        self.stored.attach(queue, filter)

    def filter_of(self, consumer: Consumer) -> str | None:
        """The subscription that a consumer serves; None: it is the session's own."""
        source = consumer.tag
        assert isinstance(source, Source)
        return source.filter

    def detach(self, filter: str, now_ms: int) -> None:
        """A subscription ended: consume no more from its queues."""
        if self.stored is not None:
            self.stored.detach(filter, now_ms)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Send messages that were leased from a queue."""
        assert self.stored is not None
        self.stored.deliver(consumer, deliveries)

    def let_go(self, now_ms: int) -> None:
        """The connection is gone: all that was not acknowledged goes back."""
        if self.stored is not None:
            self.stored.let_go(now_ms)
        self.held.clear()
        self._live.clear()
        self._waiting = None
        self._caught_up()

    def resume(self, released: set[int]) -> None:
        """Begin with what was under way in the session. [MQTT-4.4.0-1]"""
        for number in sorted(released):
            held = Held(2, None, (0, 0))
            held.released = True
            self.held[number] = held
            self.send(encode_ack(PUBREL, self._session.version, number))

    # Acknowledgements -------------------------------------------------------------------------

    def on_pubacks(self, ids: bytes) -> None:
        """Some PUBACKs without a reason came in a row."""
        numbers = _numbers(ids)
        if self._live.issuperset(numbers):
            self._live.difference_update(numbers)
        else:
            receipts: dict[Settling, list[Receipt]] = {}
            for number in numbers:
                self._acknowledge(number, receipts)
            for source, each in receipts.items():
                source.settle(each)
        self._go_on()

    def _go_on(self) -> None:
        """There may be room again."""
        if self.stored is not None:
            self.stored.send()
        if self._waiting:
            self._send_waiting()

    def _acknowledge(self, number: int, receipts: dict[Settling, list[Receipt]]) -> None:
        if number in self._live:
            self._live.remove(number)
            return
        held = self.held.get(number)
        if held is None or held.qos != 1:
            return  # it may be of a connection before this one
        del self.held[number]
        if held.source is not None:
            receipts.setdefault(held.source, []).append(held.receipt)

    def on_pubrec(self, number: int, reason: int) -> None:
        """The client has a QoS 2 message, or refuses it."""
        session = self._session
        held = self.held.get(number)
        if held is None or held.qos != 2:
            if reason < 0x80:
                unknown = Reason.PACKET_IDENTIFIER_NOT_FOUND
                self.send(encode_ack(PUBREL, session.version, number, unknown))
            return
        if held.released:
            if reason < 0x80:  # not before the first one: that may still wait to be kept
                self.send_when_kept(encode_ack(PUBREL, session.version, number))
            return
        source = held.source
        assert source is None or isinstance(source, Source)
        own = source is not None and source.filter is None
        if reason >= 0x80:
            # [MQTT-4.3.3-3]: the exchange ends here
            del self.held[number]
            if source is not None:
                source.settle([held.receipt])
            self._go_on()
            return
        held.released = True
        release = encode_ack(PUBREL, session.version, number)
        if source is None:
            if not self._releases:
                self.send(release)
                return
        elif own and isinstance(source.queue, SessionQueue):
            source.queue.release(*held.receipt)
            source.credit(1)
        else:
            source.settle([held.receipt])
        # [MQTT-4.6.0-4]: those of live messages wait behind it
        self._releases += 1
        session.core.when_kept(Durability.SYNC, self._on_release_kept, release)

    def _on_release_kept(self, packet: object, error: BraidError | None) -> None:
        self._releases -= 1
        self._on_kept(packet, error)

    def on_pubcomp(self, number: int) -> None:
        """The client has forgotten the identifier."""
        held = self.held.get(number)
        if held is None or not held.released:
            return
        del self.held[number]
        queue = self._session.queue
        if queue is not None and number <= PACKET_ID_SEQUENCED_MAX:
            queue.complete(number)
        self._go_on()

    def on_room(self) -> None:
        """The client reads again."""
        self.slow = False
        self._go_on()
        if not self._waiting:
            self._caught_up()


def _numbers(ids: bytes) -> "array[int]":
    """Identifiers of two bytes each, as numbers."""
    numbers = array("H", ids)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _encode_live(server: MqttServer, publication: Publication, version: int, retain: bool) -> bytes:
    """QoS 0 packets that are the same for all clients of a version."""
    if isinstance(publication, Run):
        return bytes(publication.packets(version, 0, retain))
    wire = publication.topic.encode()
    properties = b""
    if version == V5:
        properties = _expiry(server, publication) + _properties(server, publication, ())
    parts: list[bytes] = []
    for body in publication.bodies:
        before, _ = publish_head(version, wire, 0, retain, False, properties, len(body))
        parts.append(before)
        parts.append(body)
    return b"".join(parts)


def _expiry(server: MqttServer, publication: Publication) -> bytes:
    """The property that tells how long the message still has, if that is limited."""
    if isinstance(publication, Run):
        return publication.expiry
    left = seconds_left(publication.expire_ms, server.core.now_ms)
    return encode_hop_properties(expiry_seconds=left)


def _properties(server: MqttServer, publication: Publication, ids: Sequence[int]) -> bytes:
    """All others for an MQTT 5 client with these subscription identifiers."""
    hop = encode_hop_properties(subscription_ids=ids)
    if isinstance(publication, Run):
        return hop + publication.shape.forward
    return hop + server.head(publication.attributes).properties


# Topic, QoS, retain, properties without the expiry, body, when it expires.
_Waiting = tuple[str, int, bool, bytes, bytes, int]

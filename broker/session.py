"""A session: what a client is to the broker, connected or not.

A session without durability lives as long as its connection and has no queue: what cannot be sent
at once waits in the dialect. A durable one has a queue in the log, which is an ordinary queue with
one consumer at a time, and with two sets of MQTT packet identifiers beside the messages:

    inbound    QoS 2 messages that were taken from the client and not released yet
    released   QoS 2 messages that the client has, whose PUBCOMP has not come yet

Both are kept by statements about sequence numbers in lanes of their own, so no record type is
needed for them: "received" adds an inbound identifier (or a target in the message's own record,
which makes taking the message and remembering it one atomic thing), "gone" removes it.

The identifier of a message is computed from its sequence number, so it is the same after every
restart without being written anywhere (see :func:`packet_id`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ..storage.log import Durability, Log
from ..storage.record import MessageContent, encode_ack, encode_receive
from .host import ACKED, DROPPED, RELEASED, Host
from .index import Lane
from .lease import Consumer, Lease
from .publication import Subscriber, Subscription
from .queue import Queue
from .settings import QueueSettings
from .state import LANE_SHIFT, NUMBER_MASK

if TYPE_CHECKING:
    from .access import Principal
    from .willstore import WillDefinition

__all__ = [
    "EXPIRY_NEVER_MS",
    "INBOUND",
    "PACKET_ID_SEQUENCED_MAX",
    "Session",
    "SessionDefinition",
    "SessionQueue",
    "SubscriptionDefinition",
    "packet_id",
]

# Lanes of a session's queue that hold packet identifiers; priorities use 0 to 9. On disk.
_INBOUND_LANE, _RELEASED_LANE = 16, 17
INBOUND = _INBOUND_LANE << LANE_SHIFT
_RELEASED = _RELEASED_LANE << LANE_SHIFT

# Identifiers up to here belong to messages of the session's queue; the rest to those that come
# from elsewhere, whose identifiers need not outlive the connection. On disk, in effect.
PACKET_ID_SEQUENCED_MAX = 32_767
EXPIRY_NEVER_MS = 0xFFFF_FFFF * 1000


def _always(session: "Session", attributes: bytes) -> bool:
    return True


def packet_id(seq: int) -> int:
    """The MQTT packet identifier of a message in a session's queue, 1 to 32,767."""
    return (seq - 1) % PACKET_ID_SEQUENCED_MAX + 1


class SessionDefinition(msgspec.Struct, kw_only=True):
    """The content of a session's DEFINITION record and of its QUEUE section."""

    kind: str = "session"
    name: str
    user: str
    expiry_ms: int
    ended_ms: int
    durability: Durability
    created_ms: int
    id: int = 0
    lanes: dict[int, int] = {}
    subscriptions: list[Subscription] | None = None  # in sections only; records have their own
    inbound: list[int] = []
    released: list[int] = []


class SubscriptionDefinition(msgspec.Struct, kw_only=True):
    """A subscription came or went: a DEFINITION record of the session's entity."""

    kind: str = "subscription"
    filter: str
    subscription: Subscription | None


class SessionQueue(Queue):
    """The queue of a durable session."""

    def __init__(
        self, host: Host, id: int, session: "Session", settings: QueueSettings, log: Log
    ) -> None:
        super().__init__(host, id, f"$session/{session.name}", settings, log, session.created_ms)
        self.session = session
        self.inbound: set[int] = set()
        self.released: set[int] = set()
        self.reader.renews = False  # links bring what a share handed over, or what is retained
        self.may_deliver: Callable[[Session, bytes], bool] = _always

    # Apply ------------------------------------------------------------------------------------

    def put(self, seq: int, lsn: int, size: int, due_ms: int, expire_ms: int, group: int) -> None:
        if seq >> LANE_SHIFT == _INBOUND_LANE:
            self.inbound.add(seq & NUMBER_MASK)
        else:
            super().put(seq, lsn, size, due_ms, expire_ms, group)

    def remove(self, seq: int, size: int = -1) -> tuple[int, int, int]:
        code = seq >> LANE_SHIFT
        if code == _INBOUND_LANE:
            self.inbound.discard(seq & NUMBER_MASK)
        elif code == _RELEASED_LANE:
            self.released.discard(seq & NUMBER_MASK)
        else:
            return super().remove(seq, size)
        return 0, 0, 0

    def settle(self, seq: int, reason: int) -> None:
        self.remove(seq)
        if reason == RELEASED:
            self.released.add(packet_id(seq))

    def note_receives(self, seq: int, count: int) -> None:
        if seq >> LANE_SHIFT == _INBOUND_LANE:
            self.inbound.add(seq & NUMBER_MASK)
        else:
            super().note_receives(seq, count)

    def definition(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self.session.definition())

    def _definition(self) -> bytes:
        definition = self.session.definition()
        definition.id = self.id
        definition.lanes = {code: lane.next for code, lane in self.by_code.items()}
        definition.subscriptions = list(self.session.subscriptions.values())
        definition.inbound = list(self.inbound)
        definition.released = list(self.released)
        return msgspec.msgpack.encode(definition)

    # Decide -----------------------------------------------------------------------------------

    def _is_due(
        self,
        consumer: Consumer,
        lane: Lane,
        number: int,
        message: MessageContent,
        receives: int,
        now_ms: int,
    ) -> bool:
        """Also: whether the user may still have it. Rights may have changed while it waited."""
        if not self.may_deliver(self.session, message.attributes):
            self.discard([lane.base | number], DROPPED)
            self.counters.dropped += 1
            return False
        if receives:
            message.expire_ms = 0  # [MQTT-4.3.3-7]: what was sent once does not expire any more
        return super()._is_due(consumer, lane, number, message, receives, now_ms)

    def give_back(self, seq: int, lease: Lease, due_ms: int, counted: bool, now_ms: int) -> None:
        if counted:
            lease.expire_ms = 0
        super().give_back(seq, lease, due_ms, counted, now_ms)

    def expire_if_idle(self, seq: int, now_ms: int) -> None:
        lane, number = self.locate(seq)
        if lane is not None and not lane.receives(number):
            super().expire_if_idle(seq, now_ms)

    def receive_inbound(self, packet: int) -> None:
        """A QoS 2 message came from the client that nothing else in the log tells of."""
        self.log.append((encode_receive(self.id, 1, [INBOUND | packet]),))
        self.inbound.add(packet)

    def release_inbound(self, packet: int) -> None:
        """The client has released a QoS 2 message of its own: its identifier is free again."""
        if packet in self.inbound:
            self.log.append((encode_ack(self.id, ACKED, [INBOUND | packet]),))
            self.inbound.discard(packet)

    def release(self, seq: int, token: int) -> bool:
        """The client has a QoS 2 message: it is gone, its identifier is not. False: not held."""
        (error,) = self.ack([(seq, token)], RELEASED)
        if error is None:
            self.released.add(packet_id(seq))
        return error is None

    def complete(self, packet: int) -> None:
        """The client has released what it received: the identifier is free again."""
        if packet in self.released:
            self.log.append((encode_ack(self.id, ACKED, [_RELEASED | packet]),))
            self.released.discard(packet)


class Session:
    """A client as the broker knows it: who it is, what it subscribed to, where it is now.

    Attributes:
        name: the client identifier. user: whose session it is; nobody else's.
        who: the principal that connected last; None after a restart.
        sink: the connection; None while it is away.
        queue: where messages wait; None without durability.
        expiry_ms: how long it outlives its connection; EXPIRY_NEVER_MS: for ever.
        ended_ms: when the connection ended, unix ms; 0 while connected, or when unknown.
        will: what to publish if it goes without a farewell, or comes back too late (``wills.py``).
        shapes: how many the router has because of its filters (``router.py``), about.
    """

    __slots__ = (
        "created_ms",
        "durability",
        "ended_ms",
        "expiry_ms",
        "name",
        "queue",
        "shapes",
        "sink",
        "subscriptions",
        "user",
        "who",
        "will",
    )

    def __init__(self, name: str, user: str, created_ms: int) -> None:
        self.name = name
        self.user = user
        self.created_ms = created_ms
        self.who: Principal | None = None
        self.sink: Subscriber | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.queue: SessionQueue | None = None
        self.durability = Durability.SYNC
        self.expiry_ms = 0
        self.ended_ms = 0
        self.will: WillDefinition | None = None
        self.shapes = 0

    @property
    def revoked(self) -> bool:
        """Whether it is connected, but its user may not be any more."""
        return self.sink is not None and self.who is not None and not self.who.active

    def definition(self) -> SessionDefinition:
        """What a DEFINITION record says of it."""
        return SessionDefinition(
            name=self.name,
            user=self.user,
            expiry_ms=self.expiry_ms,
            ended_ms=self.ended_ms,
            durability=self.durability,
            created_ms=self.created_ms,
        )

    def restore(self, definition: SessionDefinition) -> None:
        """Apply: the session is as the definition says."""
        self.expiry_ms = definition.expiry_ms
        self.ended_ms = definition.ended_ms
        for subscription in definition.subscriptions or ():
            self.subscriptions[subscription.filter] = subscription
        if self.queue is not None:
            self.queue.inbound.update(definition.inbound)
            self.queue.released.update(definition.released)

    def change_subscription(self, change: SubscriptionDefinition) -> None:
        """Apply: a subscription came or went."""
        if change.subscription is None:
            self.subscriptions.pop(change.filter, None)
        else:
            self.subscriptions[change.filter] = change.subscription

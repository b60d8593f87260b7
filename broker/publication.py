"""What is published, who wants it and how: types that topics, sessions and dialects share.

A publication is a run of messages that came together on one topic, with the same headers and the
same quality. Most runs have one message; a dialect that reads many equal packets at once makes one
run of them, so that what follows is paid once for all. A dialect may extend the class to cut the
bodies only when somebody asks for them.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from .queue import Queue
    from .session import Session

__all__ = ["ANY_MATCH", "Match", "PlainPublication", "Publication", "Subscriber", "Subscription"]


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """What a client asked for: a filter, and how its messages are to come.

    The options are those of MQTT 5 (3.8.3.1); ``id`` 0 means none. ``filter`` is as the client
    wrote it, with ``$share/GROUP/`` in front of a shared one.
    """

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    id: int = 0


class Match(msgspec.Struct, frozen=True, gc=False):
    """How a topic's messages come to one session: all of its matching subscriptions as one.

    ``each`` holds the same for every single subscription, for those who want a copy for each.
    ``foreign`` says that the session's own messages are not for it; ``own``, when there is
    one, how these come (some subscriptions want them, others do not).
    """

    qos: int
    ids: tuple[int, ...] = ()
    retain_as_published: bool = False
    foreign: bool = False
    own: "Match | None" = None
    each: tuple["Match", ...] = ()


ANY_MATCH = Match(2)  # for what was queued by a subscription that is gone


class Publication:
    """A run of messages with one topic. See the module.

    Attributes:
        topic: its full name. qos: 0 to 2, as published. retain: keep the last of them.
        expire_ms: not to be delivered at or after, unix ms; 0: never.
        attributes: the packed header map, with the topic in it, as it is stored.
        count: how many messages. session: who published, if that has a session.
        inbound: of a QoS 2 message of a durable session, its packet identifier; else 0.
        will: the number of the will that it is (``wills.py``); else 0.
        wire: encoded forms, by the dialects' own keys, so that each is made once.
    """

    uniform = False  # all bodies have one length
    will = 0

    __slots__ = ("count", "expire_ms", "inbound", "qos", "retain", "session", "topic", "wire")

    def __init__(
        self, topic: str, qos: int, retain: bool, expire_ms: int, count: int, session: Any = None
    ) -> None:
        self.topic = topic
        self.qos = qos
        self.retain = retain
        self.expire_ms = expire_ms
        self.count = count
        self.session: Session | None = session
        self.inbound = 0
        self.wire: dict[object, Any] = {}

    @property
    def bodies(self) -> Sequence[bytes]:
        """The bodies, in order."""
        raise NotImplementedError

    @property
    def attributes(self) -> bytes:
        """The packed header map."""
        raise NotImplementedError

    def singles(self) -> Iterator["Publication"]:
        """Each message as a publication of its own."""
        for body in self.bodies:
            single = PlainPublication(
                self.topic, body, self.attributes, self.qos, self.retain, self.expire_ms
            )
            single.session = self.session
            yield single


class PlainPublication(Publication):
    """One message whose body and headers are at hand."""

    __slots__ = ("_attributes", "_bodies")

    def __init__(
        self,
        topic: str,
        body: bytes,
        attributes: bytes,
        qos: int,
        retain: bool = False,
        expire_ms: int = 0,
    ) -> None:
        super().__init__(topic, qos, retain, expire_ms, 1)
        self._bodies = (body,)
        self._attributes = attributes

    @property
    def bodies(self) -> Sequence[bytes]:
        return self._bodies

    @property
    def attributes(self) -> bytes:
        return self._attributes


class Subscriber(Protocol):
    """Whoever stands behind a session while it is connected.

    Messages of its queues come by :meth:`deliver`, as to every consumer (``lease.py``).
    """

    def publish(self, publication: Publication, match: Match) -> None:
        """Take live messages. Called in the middle of somebody else's work: only take a note."""

    def attach(self, queue: "Queue", subscription: Subscription) -> None:
        """A shared subscription got another queue to consume from."""

    def replaced(self) -> None:
        """Another connection took the session over: hang up."""

    def ended(self, reason: str) -> None:
        """An operator ended the session or the connection: hang up."""

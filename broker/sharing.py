"""Shared subscriptions: each message goes to one of the members that share it.

A message of QoS 0 goes to the next member that is connected, and is lost with it. Any other waits
in a queue of the share, from which the connected members consume as from every queue: each takes
as much as it can use, and what one had not acknowledged when it went away goes to another.

The queue lives in memory while all members do. With the first durable member comes a second queue,
in the log, which takes all that is published from then on, and is there as long as the share.

A member may get a message from these queues that its user may not have. It is passed over: tried on
another member after a while, and dropped if no connected one may have it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from ..storage.record import encode_definition
from .host import DROPPED
from .message import Receipt
from .publication import Subscription
from .queue import Queue
from .registry import QueueDefinition
from .session import Session
from .settings import QueueSettings

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["PASSED_OVER_MS", "Share", "durable_queue", "share_name", "volatile_queue"]

PASSED_OVER_MS = 100  # before a message that one member may not have is tried on another


def share_name(group: str, filter: str) -> str:
    """The name of a share, and of its durable queue: the subscription as MQTT writes it."""
    return f"$share/{group}/{filter}"


def volatile_queue(engine: "Engine", name: str, settings: QueueSettings, now_ms: int) -> Queue:
    """A new queue of a share, in memory."""
    queue = Queue(engine.host(), engine.take_id(), name, settings, engine.memory, now_ms)
    queue.kind = "share"
    return queue


def durable_queue(engine: "Engine", name: str, settings: QueueSettings, now_ms: int) -> Queue:
    """A new queue of a share, in the log."""
    definition = QueueDefinition(kind="share", name=name, settings=settings, created_ms=now_ms)
    id = engine.take_id()
    engine.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
    return engine.define(id, definition)


class Share:
    """The members of one shared subscription and the queues they share.

    Attributes:
        name: ``$share/GROUP/FILTER``. filter: what it subscribes to. members: see :meth:`join`.
        volatile: the queue in memory. durable: the one in the log, or None.
    """

    __slots__ = ("_ring", "_turn", "durable", "filter", "members", "name", "volatile")

    def __init__(self, name: str, filter: str, volatile: Queue) -> None:
        self.name = name
        self.filter = filter
        self.members: dict[Session, Subscription] = {}
        self.volatile = volatile
        self.durable: Queue | None = None
        self._ring: list[Session] | None = None  # the members in their order, once it is asked for
        self._turn = 0

    def join(self, session: Session, subscription: Subscription) -> bool:
        """Make a session a member, or change its options; whether it is new."""
        new = session not in self.members
        self.members[session] = subscription
        if new:
            self._ring = None
        return new

    def leave(self, session: Session) -> bool:
        """A session is no member any more; whether it was one."""
        self._ring = None
        return self.members.pop(session, None) is not None

    @property
    def target(self) -> Queue:
        """Where the next message goes."""
        return self.durable or self.volatile

    @property
    def queues(self) -> Iterator[Queue]:
        """What members consume from."""
        yield self.volatile
        if self.durable is not None:
            yield self.durable

    def next_member(self, allowed: Callable[[Session], bool]) -> Session | None:
        """Whose turn it is among the members that are connected and ``allowed``, or None."""
        ring = self._ring
        if ring is None:
            ring = self._ring = list(self.members)
        for _ in ring:
            self._turn = (self._turn + 1) % len(ring)
            member = ring[self._turn]
            if member.sink is not None and allowed(member):
                return member
        return None

    def pass_over(
        self,
        member: Session,
        queue: Queue,
        receipt: Receipt,
        allowed: Callable[[Session], bool],
        now_ms: int,
    ) -> bool:
        """Take back a message that ``member`` may not have; whether it waits for another one."""
        waits = any(
            other is not member and other.sink is not None and allowed(other)
            for other in self.members
        )
        if waits:
            queue.nack([receipt], PASSED_OVER_MS, True, now_ms)
        else:
            queue.ack([receipt], DROPPED)
        return waits

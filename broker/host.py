"""What a queue needs of the broker around it, and what it counts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..storage.errors import StorageError
from .limits import Limits
from .message import Receipt

if TYPE_CHECKING:
    from .advising import Advising
    from .lease import Consumer
    from .queue import Queue

__all__ = ["ACKED", "DROPPED", "EXPIRED", "RELEASED", "Alarmed", "Counters", "Host"]

# Why messages are gone: the reason in an ACK record. Numbers are on disk.
ACKED = 0
EXPIRED = 1
DROPPED = 2
RELEASED = 3  # QoS 2: the receiver has it, its packet identifier is still to be released


class Alarmed(Protocol):
    """What can be ticked."""

    id: int  # its own: of two that are due at one time, the smaller one comes first
    alarm_ms: int  # what was asked for; 0: nothing

    def tick(self, now_ms: int) -> None:
        """Do what is due."""


class Host(Protocol):
    """What a queue needs of the broker around it."""

    limits: Limits
    instance: int  # names the log; with a message's id, the message
    on_fault: Callable[[Exception], None]  # what a sink has raised by mistake
    advising: "Advising"

    def wake(self, queue: "Queue") -> None:
        """Have the queue dispatched soon."""

    def alarm(self, queue: "Queue", due_ms: int) -> None:
        """Have the queue ticked at ``due_ms``, if nothing earlier is set."""

    def bury(self, queue: "Queue", seq: int, reason: str, receives: int, now_ms: int) -> None:
        """Move a message to the queue's dead-letter queue."""

    def damaged(self, queue: "Queue", seq: int, error: StorageError) -> None:
        """A message cannot be read back. It is kept, and held."""

    def evict(self, consumer: "Consumer", receipts: Sequence[Receipt]) -> None:
        """End a consumer whose sink is broken; what it was given, these too, goes back."""


class Counters:
    """What happened in a queue since the broker started."""

    __slots__ = (
        "acknowledged",
        "damaged",
        "dead_lettered",
        "delivered",
        "dropped",
        "duplicates",
        "expired",
        "returned",
        "sent",
    )

    def __init__(self) -> None:
        self.sent = self.delivered = self.acknowledged = self.returned = 0
        self.expired = self.dropped = self.dead_lettered = self.duplicates = self.damaged = 0

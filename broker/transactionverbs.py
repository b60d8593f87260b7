"""What can be asked about transactions: the verb, to await, and the steps that go in.

The broker in this process and the client of the native protocol both implement it. What steps mean
together is in ``transaction.py``.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from .message import Outgoing, Receipt, Sent
from .publishing import Posted
from .scheduleverbs import Scheduled, ScheduleInfo
from .streams import Appending, Position

__all__ = [
    "Ack",
    "Append",
    "DeadLetter",
    "Nack",
    "Publish",
    "Result",
    "Schedule",
    "Send",
    "Step",
    "TransactionVerbs",
]


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a message to a queue; the result is a :class:`Sent`."""

    queue: str
    message: Outgoing


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Publish a message; the result is how many subscriptions and bindings it matched."""

    topic: str
    message: Posted
    qos: int = 1


class Append(msgspec.Struct, frozen=True, gc=False):
    """Append records to a stream; the result is a list of their positions."""

    stream: str
    batch: Appending


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Settle messages that are held, of a queue, a session or a share; the result is None."""

    queue: str
    receipts: Sequence[Receipt]


class Nack(msgspec.Struct, frozen=True, gc=False):
    """Give messages back that are held. See :meth:`Core.nack`; the result is None."""

    queue: str
    receipts: Sequence[Receipt]
    delay_ms: int = 0
    counted: bool = True


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Move messages that are held to the dead-letter queue; the result is None."""

    queue: str
    receipts: Sequence[Receipt]
    reason: str = ""


class Schedule(msgspec.Struct, frozen=True, gc=False):
    """Have a message sent later; the result is a :class:`ScheduleInfo`."""

    message: Scheduled


Step = Send | Publish | Append | Ack | Nack | DeadLetter | Schedule
Result = Sent | int | list[Position] | ScheduleInfo | None


class TransactionVerbs(Protocol):
    """Everything a client can ask about transactions."""

    async def transact(self, steps: Sequence[Step]) -> list[Result]:
        """Do all steps or none; their results, in order, when all of it is kept.

        Raises what the first step that cannot be done would raise, with its number as ``step``.
        """

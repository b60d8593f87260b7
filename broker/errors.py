"""Every error the broker raises on purpose.

    BraidError
    ├── InvalidArgument        a value is outside its documented range
    ├── NotFound               no such queue, consumer or task
    ├── Conflict               exists with other settings, or is in use
    ├── Unauthenticated        who are you?
    ├── PermissionDenied       this principal may not do that
    ├── LimitExceeded          a documented limit is reached
    │   ├── QueueFull          the queue's own limit, policy "reject"
    │   ├── InFlightFull       too many messages are leased at once
    │   ├── Throttled          a shard lets no more through right now; try again later
    │   └── TooLarge           a message or frame is over its size limit
    ├── LeaseLost              it is no longer yours: expired, settled or taken over
    ├── Unavailable            try again later, nothing was taken
    │   ├── StorageFull        no room on disk for new messages
    │   ├── Overloaded         too much is waiting to be written
    │   ├── NoResponders       nobody is there to answer a request
    │   └── Disconnected       the connection to the broker is gone
    └── BrokerFailed           the log failed; the broker has stopped

``code`` is the error's stable name on the native wire and in ``--json`` output.
"""

from typing import ClassVar

__all__ = [
    "BraidError",
    "BrokerFailed",
    "Conflict",
    "Disconnected",
    "InFlightFull",
    "InvalidArgument",
    "LeaseLost",
    "LimitExceeded",
    "NoResponders",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "QueueFull",
    "StorageFull",
    "Throttled",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "at_step",
    "error_from_code",
]


class BraidError(Exception):
    """Base of all errors that the broker raises on purpose.

    Attributes:
        step: which step of a transaction could not be done, from 0; -1: it was no transaction.
    """

    code: ClassVar[str] = "internal"
    step = -1


class InvalidArgument(BraidError):
    """A value is outside its documented range; the message names it and the range."""

    code = "invalid-argument"


class NotFound(BraidError):
    """There is no such queue, consumer or task."""

    code = "not-found"


class Conflict(BraidError):
    """It exists with other settings, or something still depends on it."""

    code = "conflict"


class Unauthenticated(BraidError):
    """The user is unknown or the password is wrong; which of the two is not said."""

    code = "unauthenticated"


class PermissionDenied(BraidError):
    """The principal has no rule that allows the action, or one that denies it."""

    code = "permission-denied"


class LimitExceeded(BraidError):
    """A documented limit is reached."""

    code = "limit-exceeded"


class QueueFull(LimitExceeded):
    """The queue holds as much as its settings allow and its policy is ``reject``."""

    code = "queue-full"


class InFlightFull(LimitExceeded):
    """As many messages are leased as the queue allows; acknowledge some first."""

    code = "in-flight-full"


class Throttled(LimitExceeded):
    """The shard's rate is used up; what was refused can be sent again a moment later."""

    code = "throttled"


class TooLarge(LimitExceeded):
    """A message, batch or frame is larger than its limit."""

    code = "too-large"


class LeaseLost(BraidError):
    """The message is no longer held by this receipt, or the shard by this member of a group."""

    code = "lease-lost"


class Unavailable(BraidError):
    """Nothing was taken; trying again later can succeed."""

    code = "unavailable"


class StorageFull(Unavailable):
    """There is no room on disk for new messages. Receiving and acknowledging go on."""

    code = "storage-full"


class Overloaded(Unavailable):
    """More is waiting to be written than the limit allows."""

    code = "overloaded"


class NoResponders(Unavailable):
    """Nobody is subscribed to the topic of a request, so no answer can come."""

    code = "no-responders"


class Disconnected(Unavailable):
    """The connection to the broker is gone; what was asked for may or may not have happened."""

    code = "disconnected"


class BrokerFailed(BraidError):
    """The log failed, so the broker stopped: nothing more is accepted or delivered."""

    code = "broker-failed"


def at_step(error: BraidError, index: int, name: str = "") -> BraidError:
    """The same error, saying which step of a transaction it is about, from 0, and its name."""
    refusal = type(error)(f"step {index + 1}{name and ', '}{name}: {error}")
    refusal.step = index
    return refusal


def _by_code() -> dict[str, type[BraidError]]:
    found: dict[str, type[BraidError]] = {}
    todo: list[type[BraidError]] = [BraidError]
    while todo:
        kind = todo.pop()
        found[kind.code] = kind
        todo.extend(kind.__subclasses__())
    return found


_BY_CODE = _by_code()


def error_from_code(code: str, text: str) -> BraidError:
    """The error a peer named; an unknown code becomes a plain :class:`BraidError`."""
    return _BY_CODE.get(code, BraidError)(text)

"""What an ERROR says: the ``message`` header, and a body that tells what can be done about it."""

from ...broker.errors import (
    BraidError,
    BrokerFailed,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    QueueFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from .dialects import Refused

__all__ = ["words_of"]

# The first that fits: so special errors come before general ones.
_ADVICE: tuple[tuple[type[BraidError], str], ...] = (
    (Unauthenticated, "Connect with the login and passcode of a user of this broker."),
    (PermissionDenied, "The rules of this user do not allow it; whoever runs the broker can."),
    (TooLarge, "Send less at a time, or have the limit raised."),
    (QueueFull, "Consume from the queue, or give it another limit or overflow policy."),
    (LimitExceeded, "Use less of it, or have the limit raised in [limits]."),
    (NotFound, "It was never declared, or it was deleted meanwhile."),
    (Conflict, "Something else uses it, or it exists already and is different."),
    (InvalidArgument, "Correct the frame, then send it again."),
    (Unavailable, "Nothing was taken. Connect again and try later."),
    (BrokerFailed, "The log of the broker has failed: see what the broker logged."),
)
_OTHERWISE = "See what the broker logged."


def words_of(error: BraidError) -> tuple[str, str]:
    """The ``message`` and the body of an ERROR for ``error``."""
    if isinstance(error, Refused):
        return error.message, error.detail
    text = str(error)
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), _OTHERWISE)
    return text, f"{text}.\n{advice}\n"

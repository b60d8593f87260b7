"""What a message must be like to be taken at all, and what is kept of its fields in its headers."""

from .errors import InvalidArgument, TooLarge
from .limits import DELAY_MS_MAX, PRIORITY_MAX, RETENTION_MS_MAX, Limits
from .message import (
    DEDUP_ID,
    GROUP_ID,
    OWN_HEADERS,
    PRIORITY_DEFAULT,
    Headers,
    Outgoing,
    is_text,
    overlay,
    pack_headers,
)

__all__ = ["check_for_fifo", "check_for_standard", "with_ids"]


def _check(message: Outgoing, limits: Limits) -> None:
    if len(message.body) > limits.body_bytes_max:
        raise TooLarge(f"a body has at most {limits.body_bytes_max} bytes")
    if len(message.attributes) > limits.headers_bytes_max:
        raise TooLarge(f"headers have at most {limits.headers_bytes_max} bytes in all")
    if not 0 <= message.ttl_ms <= RETENTION_MS_MAX:
        raise InvalidArgument(f"a time to live is between 0 and {RETENTION_MS_MAX} ms")


def _check_ids(message: Outgoing, limits: Limits) -> None:
    if not is_text(message.group + message.dedup_id):
        raise InvalidArgument("groups and deduplication ids are UTF-8")
    if len(message.group.encode()) > limits.group_bytes_max:
        raise InvalidArgument(f"a group's name has at most {limits.group_bytes_max} bytes")
    if len(message.dedup_id.encode()) > limits.dedup_id_bytes_max:
        raise InvalidArgument(f"a deduplication id has at most {limits.dedup_id_bytes_max} bytes")


def check_for_standard(message: Outgoing, limits: Limits, sticky: bool = False) -> bytes:
    """The headers that a standard queue keeps of a message.

    ``sticky``: the queue has group affinity, so it knows groups. Raises TooLarge or
    InvalidArgument when it cannot take the message.
    """
    if (
        len(message.body) <= limits.body_bytes_max
        and not message.attributes
        and message.delay_ms == -1
        and not message.ttl_ms
        and message.priority == PRIORITY_DEFAULT
        and not message.group
        and not message.dedup_id
    ):
        return b""  # a body and nothing else: the most common case first
    _check(message, limits)
    if not -1 <= message.delay_ms <= DELAY_MS_MAX:
        raise InvalidArgument(f"a delay is between 0 and {DELAY_MS_MAX} ms")
    if not 0 <= message.priority <= PRIORITY_MAX:
        raise InvalidArgument(f"a priority is between 0 and {PRIORITY_MAX}")
    if message.group or message.dedup_id:
        if not sticky or message.dedup_id:
            raise InvalidArgument("message groups and deduplication need a FIFO queue")
        _check_ids(message, limits)
        return with_ids(message)
    return message.attributes


def check_for_fifo(message: Outgoing, limits: Limits) -> None:
    """Raise TooLarge or InvalidArgument for a message that a FIFO queue cannot take."""
    _check(message, limits)
    if message.delay_ms >= 0:
        raise InvalidArgument("a FIFO queue delays all its messages alike: set it on the queue")
    if message.priority != PRIORITY_DEFAULT:
        raise InvalidArgument("a FIFO queue knows no priorities")
    _check_ids(message, limits)


def with_ids(message: Outgoing) -> bytes:
    """The message's headers with its group and deduplication id among them."""
    ids: Headers = {}
    if message.group:
        ids[GROUP_ID] = message.group
    if message.dedup_id:
        ids[DEDUP_ID] = message.dedup_id
    return overlay(message.attributes, pack_headers(ids, OWN_HEADERS))

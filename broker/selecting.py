"""Asking a selector about a message of a queue.

Most selectors read headers and nothing else. What else there is of a message (``MessageFields``) is
put together only for those that ask for it.
"""

from typing import TYPE_CHECKING

from ..storage.record import MessageContent
from .message import Headers, unpack_headers
from .selectors import MessageFields, Selector
from .values import message_id

if TYPE_CHECKING:
    from .queue import Queue

__all__ = ["selects"]


def selects(
    selector: Selector,
    queue: "Queue",
    seq: int,
    message: MessageContent,
    headers: Headers | None = None,
) -> bool:
    """Whether a message is selected; ``headers`` are its own, if they were unpacked before."""
    if headers is None:
        headers = unpack_headers(message.attributes)
    if not selector.asks_fields:
        return selector.matches(headers)
    name = message_id(queue.host.instance, message.id)
    return selector.matches(headers, MessageFields(name, queue.priority(seq), message.time_ms))

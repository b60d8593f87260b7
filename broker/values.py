"""The plain values of the Python face: what goes in and out of queues, and seconds into ms.

No IO and no loop here; ``face.py`` has the objects that do something.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

import msgspec

from ..storage.log import Durability
from .errors import InvalidArgument
from .message import PRIORITY_DEFAULT, Browsed, HeaderMap, Headers, unpack_headers

__all__ = [
    "BrowsedMessage",
    "DurabilityName",
    "ExclusivityName",
    "NewMessage",
    "NewPublication",
    "OverflowName",
    "QueueChanges",
    "QueueOptions",
    "ScopeName",
    "Seconds",
    "SentMessage",
    "StateName",
    "ViewStart",
    "message_id",
    "milliseconds",
    "moment",
    "setting_values",
]

Seconds = float | timedelta
DurabilityName = Literal["sync", "os", "memory"]
OverflowName = Literal["reject", "drop-oldest", "dead-letter"]
ExclusivityName = Literal["shared", "preferred", "sole"]
ScopeName = Literal["queue", "group"]
ViewStart = Literal["earliest", "latest"] | datetime
StateName = Literal["all", "ready", "delayed", "in-flight"]


class QueueChanges(TypedDict, total=False):
    """What can be set on a queue and changed later. 0 means "none" for times and maxima."""

    visibility_timeout: Seconds  # how long a received message is yours; 30 s, at most 12 hours
    delay: Seconds  # every message waits so long before its first delivery
    ttl: Seconds  # time to live of messages that bring none of their own
    retention: Seconds  # no message lives longer
    max_receives: int  # after so many receives a message goes to the queue dead_letter
    dead_letter: str  # declared with this queue if it is missing
    dead_letter_expired: bool  # expired messages go there too, instead of away
    messages_max: int  # how much it may hold, and bytes_max, and
    bytes_max: int
    overflow: OverflowName  # ... what happens then; "reject"
    content_dedup: bool  # FIFO: the body identifies a message that has no dedup_id
    dedup_scope: ScopeName  # FIFO: whether an id is unique in the "queue" or in each "group"
    group_affinity: bool  # standard: messages of a group go to one consumer as long as it is there
    tags: dict[str, str]


class QueueOptions(QueueChanges, total=False):
    """What can be set on a queue when it is declared."""

    fifo: bool  # message groups in order, deduplication
    stream: str  # the queue shows the records of this stream, as messages; nothing is sent to it
    start: "ViewStart"  # ... from where on: "earliest", "latest", or the first that came at a time
    # What an acknowledgement means: "sync" (the default) survives a power cut, "os" the end of
    # the process, "memory" neither.
    durability: DurabilityName


def message_id(instance: int, number: int) -> str:
    """A message's name in the whole world: 32 hex digits, the log's instance and its number."""
    return f"{instance:016x}{number:016x}"


def milliseconds(value: Seconds, what: str) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    try:
        ms = round(seconds * 1000)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"{what} is a number of seconds or a timedelta") from None
    if ms < 0:
        raise InvalidArgument(f"{what} is not negative")
    return ms


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def setting_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are stored, of those that are not None."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name in ("visibility_timeout", "delay", "ttl", "retention"):
            changes[f"{name}_ms"] = milliseconds(value, name)
        elif name == "durability":
            if value not in ("sync", "os", "memory"):
                raise InvalidArgument("durability is sync, os or memory")
            changes[name] = Durability[value.upper()]
        elif name == "start" and isinstance(value, datetime):
            if value.tzinfo is None:
                raise InvalidArgument("a time to start at has a time zone")
            changes |= {"start": "time", "start_ms": round(value.timestamp() * 1000)}
        else:
            changes[name] = value
    return changes


class SentMessage(msgspec.Struct, frozen=True):
    """What became of a message that was sent."""

    instance: int  # names the broker's log
    number: int  # names the message in it
    sequence: int  # within its queue
    duplicate: bool  # FIFO: it had been sent before, and was not sent again

    @property
    def id(self) -> str:
        """32 hex digits, unique in the whole world."""
        return message_id(self.instance, self.number)


class NewMessage(msgspec.Struct, kw_only=True):
    """A message for :meth:`Queue.send_many` that is more than a body. See :meth:`Queue.send`."""

    body: bytes
    headers: HeaderMap = {}
    delay: Seconds | None = None
    ttl: Seconds = 0
    priority: int = PRIORITY_DEFAULT
    group: str = ""
    dedup_id: str = ""


class NewPublication(msgspec.Struct, kw_only=True):
    """A message for ``publish_many`` that is more than a body. See ``publish``."""

    body: bytes
    retain: bool = False
    headers: HeaderMap = {}
    ttl: Seconds = 0


class BrowsedMessage:
    """A message looked at in passing.

    Attributes:
        body: the bytes that were sent.
        id: 32 hex digits. sequence: its number in the queue.
        state: ready, delayed or in-flight, as it was. receives: how often it was received.
    """

    __slots__ = ("_attributes", "_time_ms", "body", "id", "receives", "sequence", "state")

    def __init__(self, browsed: Browsed, instance: int) -> None:
        self.body = browsed.body
        self.id = message_id(instance, browsed.id)
        self.sequence = browsed.seq
        self.state = browsed.state
        self.receives = browsed.receives
        self._attributes = browsed.attributes
        self._time_ms = browsed.time_ms

    def __repr__(self) -> str:
        return f"<BrowsedMessage {self.sequence} {self.state}, {len(self.body)} bytes>"

    @property
    def headers(self) -> Headers:
        """The header map, decoded at each call."""
        return unpack_headers(self._attributes)

    @property
    def sent_at(self) -> datetime:
        """When the broker took it, UTC."""
        return moment(self._time_ms)

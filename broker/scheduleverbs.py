"""What can be asked about schedules: the verbs, to await, and the values that go in and out.

The broker in this process and the client of the native protocol both implement them.
"""

from typing import Literal, Protocol

import msgspec

from .message import PRIORITY_DEFAULT
from .schedule import Timing

__all__ = ["ScheduleInfo", "ScheduleKind", "ScheduleVerbs", "Scheduled"]

ScheduleKind = Literal["queue", "topic", "stream"]


class Scheduled(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A message, where it is to be sent, and when.

    Attributes:
        kind, name: the queue, topic or stream.
        attributes: the packed header map, b"" for none.
        ttl_ms: how long it is good for, each time from when it is sent; 0: as the queue has it.
        priority, group, dedup_id: for queues, as in ``Outgoing``.
        retain: for topics, as in ``Posted``.
        key: for streams, the partition key; b"": as the headers say.
    """

    kind: ScheduleKind
    name: str
    timing: Timing
    body: bytes
    attributes: bytes = b""
    ttl_ms: int = 0
    priority: int = PRIORITY_DEFAULT
    group: str = ""
    dedup_id: str = ""
    retain: bool = False
    key: bytes = b""


class ScheduleInfo(msgspec.Struct, kw_only=True, gc=False):
    """A schedule as it is now.

    Attributes:
        user: whose rights it has.
        next_ms: when it is sent, or tried, next, unix ms; 0: at this moment.
        fired: how often it was sent, up to 65,535.
        size: of the message, body and headers, in bytes.
        error: why the last try failed, "" if it did not. Not known after a restart.
        attributes, body: the message; only where one schedule is asked for.
    """

    id: int
    kind: ScheduleKind
    name: str
    timing: Timing
    user: str
    created_ms: int
    next_ms: int
    fired: int
    size: int
    error: str = ""
    attributes: bytes = b""
    body: bytes = b""


class ScheduleVerbs(Protocol):
    """Everything a client can ask about schedules."""

    async def schedule(self, message: Scheduled) -> ScheduleInfo:
        """Have a message sent later, once or often; returns when that is on disk.

        Raises InvalidArgument, TooLarge, LimitExceeded, PermissionDenied.
        """

    async def list_schedules(
        self, start_ms: int = 0, end_ms: int = 0, after: int = 0, limit: int = 1000
    ) -> list[ScheduleInfo]:
        """Schedules in the order in which they were made, a page at a time: those after ``after``.

        Only those whose next time is at or after ``start_ms``, and before ``end_ms`` unless that
        is 0.
        """

    async def schedule_info(self, id: int) -> ScheduleInfo:
        """The schedule as it is now, with its message. Raises NotFound."""

    async def unschedule(self, id: int) -> None:
        """Remove a schedule: it is sent no more. Raises NotFound, PermissionDenied."""

    async def unschedule_between(self, start_ms: int, end_ms: int) -> int:
        """Remove those whose next time is in a span, as far as one may; how many they were.

        The span is that of :meth:`list_schedules`.
        """

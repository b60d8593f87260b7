"""What a queue is told to do: its settings, checked once, in one place.

Times are milliseconds here and on the wire; the Python face takes seconds or ``timedelta``.
"""

from typing import Any

import msgspec

from ..storage.log import Durability
from .errors import InvalidArgument
from .limits import (
    DELAY_MS_MAX,
    NAME_BYTES_MAX,
    RETENTION_MS_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    VISIBILITY_TIMEOUT_MS_MAX,
)
from .message import is_text

__all__ = ["QueueSettings", "check_name", "settings_from"]

_OVERFLOW = ("reject", "drop-oldest", "dead-letter")
_SCOPES = ("queue", "group")
_STARTS = ("earliest", "latest", "time")
# A view gets no messages but the stream's, which come when they are appended and go by themselves.
_NOT_OF_VIEWS = (
    "fifo group_affinity delay_ms ttl_ms retention_ms dead_letter_expired messages_max bytes_max"
    " content_dedup"
).split()


def check_name(name: str, what: str = "queue") -> None:
    """Refuse a name that is empty, too long, or holds control characters or wildcards."""
    if not name or not is_text(name) or len(name.encode()) > NAME_BYTES_MAX:
        raise InvalidArgument(f"a {what} name has 1 to {NAME_BYTES_MAX} bytes of UTF-8")
    if not name.isprintable() or any(c in "*#+? " for c in name) or name.startswith("$"):
        raise InvalidArgument(
            f"the {what} name {name!r} holds a space, a control character or one of * # + ?,"
            " or starts with $"
        )


class QueueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set on a queue. Zero means "none" for times and maxima."""

    fifo: bool = False  # message groups in order, deduplication; cannot be changed later
    durability: Durability = Durability.SYNC  # cannot be changed later
    visibility_timeout_ms: int = 30_000  # how long a received message is leased
    delay_ms: int = 0  # every message waits this long before its first delivery
    ttl_ms: int = 0  # time to live of messages that bring none of their own
    retention_ms: int = 0  # no message is kept longer, whatever its own time to live
    max_receives: int = 0  # after so many receives a message becomes a dead letter
    dead_letter: str = ""  # the queue where dead letters go; declared with this one
    dead_letter_expired: bool = False  # expired messages go there too, instead of away
    messages_max: int = 0
    bytes_max: int = 0  # bodies and headers
    overflow: str = "reject"  # at messages_max or bytes_max: reject, drop-oldest, dead-letter
    content_dedup: bool = False  # FIFO: a message without an id is identified by its body
    dedup_scope: str = "queue"  # FIFO: an id is unique within the queue, or within its group
    stream: str = ""  # the queue is a view: it shows the records of this stream; see streamview.py
    start: str = "earliest"  # a view's first records: earliest, latest, or those since a time
    start_ms: int = 0  # with start=time: unix ms
    group_affinity: bool = False  # standard: a group's messages go to one consumer; affinity.py
    tags: dict[str, str] = {}

    def check(self) -> None:
        """Raise InvalidArgument when a setting is out of range or two do not go together."""
        for name, most in (
            ("visibility_timeout_ms", VISIBILITY_TIMEOUT_MS_MAX),
            ("delay_ms", DELAY_MS_MAX),
            ("ttl_ms", RETENTION_MS_MAX),
            ("retention_ms", RETENTION_MS_MAX),
            ("max_receives", 65_535),
            ("messages_max", 2**40),
            ("bytes_max", 2**50),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise InvalidArgument(f"{name} is between 0 and {most}")
        if self.overflow not in _OVERFLOW:
            raise InvalidArgument(f"overflow is one of {', '.join(_OVERFLOW)}")
        if self.dedup_scope not in _SCOPES:
            raise InvalidArgument(f"dedup_scope is one of {', '.join(_SCOPES)}")
        if not self.fifo and (self.content_dedup or self.dedup_scope != "queue"):
            raise InvalidArgument("content_dedup and dedup_scope are for FIFO queues")
        if self.fifo and self.group_affinity:
            raise InvalidArgument("group_affinity is not for FIFO queues: they have groups")
        self._check_view()
        if self.dead_letter:
            check_name(self.dead_letter)
        elif self.max_receives or self.dead_letter_expired or self.overflow == "dead-letter":
            raise InvalidArgument(
                "max_receives, dead_letter_expired and overflow=dead-letter need dead_letter"
            )
        if len(self.tags) > TAGS_MAX:
            raise InvalidArgument(f"a queue has at most {TAGS_MAX} tags")
        tags = [name + value for name, value in self.tags.items()]
        if not all(is_text(tag) and len(tag.encode()) <= TAG_BYTES_MAX for tag in tags):
            raise InvalidArgument(f"a tag has at most {TAG_BYTES_MAX} bytes of UTF-8 in all")

    def _check_view(self) -> None:
        if self.start not in _STARTS:
            raise InvalidArgument(f"start is one of {', '.join(_STARTS)}")
        if self.start_ms < 0 or bool(self.start_ms) != (self.start == "time"):
            raise InvalidArgument("start_ms is a unix time in ms, and goes with start=time")
        if not self.stream:
            if self.start != "earliest":
                raise InvalidArgument("start is for queues that show a stream")
            return
        check_name(self.stream, "stream")
        for name in _NOT_OF_VIEWS:
            if getattr(self, name):
                raise InvalidArgument(f"{name} is not for a queue that shows a stream")

    def changed(self, changes: dict[str, Any]) -> "QueueSettings":
        """These settings with ``changes`` laid over them, checked."""
        for fixed in ("fifo", "durability", "stream", "start", "start_ms"):
            if fixed in changes and changes[fixed] != getattr(self, fixed):
                raise InvalidArgument(f"{fixed} cannot be changed after a queue is declared")
        settings = settings_from(msgspec.structs.asdict(self) | changes)
        settings.check()
        return settings


def settings_from(values: dict[str, Any]) -> QueueSettings:
    """Build settings from plain values (wire, TOML, JSON); InvalidArgument names what is wrong."""
    try:
        return msgspec.convert(values, QueueSettings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"queue settings: {error}") from None

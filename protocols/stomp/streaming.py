"""Subscriptions to streams: all shards, read on and on by a tail (``broker/tail.py``).

Where to begin says ``start``: ``earliest``, ``latest`` or a time, in ISO 8601 or unix ms; or, as
RabbitMQ has it, ``x-stream-offset``: ``first``, ``last``, ``next`` or ``timestamp=SECONDS``.
Without either it is what is appended from now on. Nothing is kept of how far a client was, so ACK
only says that more may come. More is read when what was read has been sent.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError, PermissionDenied
from ...broker.following import Following
from ...broker.selectors import MessageFields, Selector
from ...broker.streamreading import Chunk
from ...broker.streamrecord import Record, chunk_records
from ...broker.streamverbs import Start
from ...broker.tail import Tail
from .dialects import Dialect
from .frames import V12, append_message, encode_head, encode_headers
from .messages import Writer
from .sources import Source

if TYPE_CHECKING:
    from .session import StompSession
    from .subscribing import Subscription

__all__ = ["STREAMED_BYTES_MAX", "StreamSource", "start_of"]

STREAMED_BYTES_MAX: Final = 256 * 1024  # of blocks that wait here; one of each shard may be more
_RECORDS_PER_TURN: Final = 256  # then other connections get their turn
_DIGITS_MAX = 15  # of a time
_OFFSETS = {"first": "earliest", "last": "latest", "next": "latest"}


def start_of(headers: dict[str, str], dialect: Dialect) -> Start:
    """Where a SUBSCRIBE wants to begin. Raises Refused."""
    written = headers.get("start", "")
    name = "start"
    if not written and "x-stream-offset" in headers:
        name = "x-stream-offset"
        offset = headers[name]
        seconds = offset.removeprefix("timestamp=")
        if offset in _OFFSETS:
            written = _OFFSETS[offset]
        elif seconds != offset and _is_number(seconds):
            written = str(int(seconds) * 1000)
        else:
            raise dialect.bad_header(name, "it is first, last, next or timestamp=SECONDS")
    if written == "earliest":
        return Start("earliest")
    if written in ("", "latest"):
        return Start("latest")
    if _is_number(written):
        return Start("time", time_ms=int(written))
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return Start("time", time_ms=max(round(moment.timestamp() * 1000), 0))
    except (ValueError, OverflowError):
        raise dialect.bad_header(name, "it is earliest, latest, or a time") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


class _Batch:
    """Records of a shard that were read together."""

    __slots__ = ("bytes", "records")

    def __init__(self, shard: int, chunk: Chunk) -> None:
        self.records: Iterator[Record] = iter(chunk_records(chunk, shard))
        self.bytes = sum(map(len, chunk.blocks))


class StreamSource(Source):
    """A tail of a stream, and its sink."""

    def __init__(
        self,
        session: "StompSession",
        subscription: "Subscription",
        writer: Writer,
        name: str,
        selector: Selector | None,
    ) -> None:
        super().__init__(session, subscription, writer)
        self._name = name
        self._selector = selector
        self._waiting: deque[_Batch] = deque()
        self._following = Following(
            session.core, session.who, name, STREAMED_BYTES_MAX, self, self._fail
        )
        same = [("destination", writer.destination)]
        if writer.subscription:
            same.append(("subscription", writer.subscription))
        self._head = encode_head("MESSAGE", same, session.version)

    def begin(self, start: Start) -> None:
        """Read from ``start`` on. Raises NotFound, PermissionDenied, BrokerFailed."""
        self._following.begin(start)

    def _fail(self, error: BraidError) -> None:
        self.session.fail_with(error)
        self.session.wake()

    def tail_chunk(self, tail: Tail, shard: int, chunk: Chunk, last: bool) -> bool:
        """Records were read."""
        if chunk.count:
            self._waiting.append(_Batch(shard, chunk))
            self.session.subscribing.look_at(self)
        return True

    def tail_ended(self, tail: Tail, error: BraidError) -> None:
        """The broker ended it."""
        self._fail(error)

    def pump(self, now_ms: int) -> None:
        session = self.session
        if not self._waiting:
            return
        if not session.who.allows("stream:Read", self._name):
            text = f"{session.who.name} may not read the stream {self._name}"
            session.fail_with(PermissionDenied(text))
            return
        left = min(_RECORDS_PER_TURN, self.room)
        while left > 0 and self._waiting and len(session.out) < STREAMED_BYTES_MAX:
            batch = self._waiting[0]
            record = next(batch.records, None)
            if record is None:
                self._waiting.popleft()
                self._following.grant(batch.bytes)
                continue
            left -= 1
            if self._selector is None or self._selects(self._selector, record):
                self._send_record(record)
        if self._waiting and self.room > 0:
            session.subscribing.look_at(self)

    @staticmethod
    def _selects(selector: Selector, record: Record) -> bool:
        return selector.matches(record.headers, MessageFields(time_ms=record.time_ms))

    def _send_record(self, record: Record) -> None:
        session, subscription = self.session, self.subscription
        head = session.headers.head(record.raw_headers)
        name = f"{self._name}-{record.shard}-{record.number}"
        own = [
            ("message-id", name),
            ("shard", str(record.shard)),
            ("sequence-number", str(record.number)),
            ("timestamp", head.timestamp or str(record.time_ms)),
        ]
        if record.raw_key:
            own.append(("partition-key", record.key))
        if head.priority:
            own.append(("priority", head.priority))
        if subscription.acknowledges:
            tag = subscription.next_tag
            subscription.next_tag = tag + 1
            subscription.hold(tag, (self, "", (0, 0), name))
            self.unacknowledged += 1
            if session.version is V12:
                own.append(("ack", f"{subscription.number}-{tag}"))
        said = {name for name, _ in own}
        pairs = [*own, *(pair for pair in head.in_queue if pair[0] not in said)]
        lines = encode_headers(pairs, session.version)
        append_message(session.out, self._head, lines, record.body, not head.text)
        session.server.sent += 1

    def close(self, now_ms: int) -> None:
        self._waiting.clear()
        self._following.close()

"""Records of streams on their way to a client, and how far it is with them.

``$stream/NAME`` reads all shards with a tail (``broker/tail.py``), ``$share/GROUP/$stream/NAME`` as
a member of a consumer group (``broker/groups.py``). Rules:

1. What was read and not sent yet is about ``STREAMED_BYTES_MAX`` for each subscription. More is
   read when that was sent, so nothing is dropped: who is slow reads later.
2. Records of a shard are sent in their order; those of QoS 1 as far as Receive Maximum goes.
3. A member's checkpoint in a shard is the first record that it has not acknowledged. It is set each
   ``CHECKPOINT_MS``, or before when ``CHECKPOINT_RECORDS`` were acknowledged, and at once when the
   shard is asked back, was read to its end, or the subscription ends. With QoS 0 what was sent
   counts as acknowledged.
4. What the broker calls here takes a note; the work is done when the client is sent something.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError, PermissionDenied
from ...broker.following import Following
from ...broker.group import Member
from ...broker.groupverbs import GroupEvent
from ...broker.message import PARTITION_KEY, TOPIC, Receipt
from ...broker.streamreading import Chunk
from ...broker.streamrecord import Record, chunk_pieces
from ...broker.streamverbs import Start
from ...broker.tail import Tail
from ...storage.log import Durability
from .headers import properties_from
from .packets import V5, encode_hop_properties
from .primitives import is_text
from .properties import encode_user
from .special import STREAM_PREFIX
from .stored import Held

if TYPE_CHECKING:
    from .session import MqttSession
    from .streaming import Streaming

__all__ = [
    "CHECKPOINT_MS",
    "CHECKPOINT_RECORDS",
    "OUT_BYTES_MAX",
    "STREAMED_BYTES_MAX",
    "Joined",
    "Streamed",
    "Tailing",
]

STREAMED_BYTES_MAX: Final = 256 * 1024  # of blocks; one of each shard may be more
OUT_BYTES_MAX: Final = 256 * 1024  # waiting to be sent: records wait as well
CHECKPOINT_MS: Final = 1_000
CHECKPOINT_RECORDS: Final = 1_000


# What the broker says of a record, by user properties that nobody else can set.
_SAID: Final = frozenset([PARTITION_KEY, "shard", "sequence-number", "timestamp", TOPIC])
_NUMBER: Final = encode_user([("sequence-number", "")])[:-2]  # then its length and its digits


class _Batch:
    """Records of a shard that were read together: ``left`` of them were not sent yet."""

    __slots__ = (
        "_key",
        "_key_said",
        "_shard_said",
        "_time_ms",
        "_time_said",
        "bytes",
        "left",
        "records",
        "share",
    )

    def __init__(self, shard: int, chunk: Chunk, share: "_Share | None") -> None:
        self.records = _records(shard, chunk)
        self.left = chunk.count
        self.bytes = sum(map(len, chunk.blocks))
        self.share = share
        self._key, self._key_said = b"", encode_user([(PARTITION_KEY, "")])
        self._time_ms, self._time_said = -1, b""
        self._shard_said = encode_user([("shard", str(shard))])

    def properties_of(self, record: Record) -> bytes:
        """What MQTT 5 says of a record. Most of it is as it was of the record before."""
        if record.raw_key != self._key:
            key = record.key
            self._key = record.raw_key
            self._key_said = encode_user([(PARTITION_KEY, key)]) if is_text(key) else b""
        if record.time_ms != self._time_ms:
            self._time_ms = record.time_ms
            self._time_said = encode_user([("timestamp", str(record.time_ms))])
        digits = b"%d" % record.number
        number = b"%b\0%c%b" % (_NUMBER, len(digits), digits)
        said = self._key_said + self._shard_said + number + self._time_said
        if not record.raw_headers:
            return said
        headers = record.headers
        topic = headers.get(TOPIC)  # it came by a topic that the stream is bound to
        if isinstance(topic, str) and is_text(topic):
            said += encode_user([(TOPIC, topic)])
        return said + properties_from(headers, _SAID)


def _records(shard: int, chunk: Chunk) -> Iterator[Record]:
    for piece in chunk_pieces(chunk):
        yield from piece.records(shard)


class Streamed:
    """A subscription to a stream.

    Attributes:
        name: of the stream. qos: 0 or 1.
    """

    def __init__(self, streaming: "Streaming", session: "MqttSession", name: str) -> None:
        self._streaming = streaming
        self._session = session
        self._wire = (STREAM_PREFIX + name).encode()
        self._hop = b""
        self._waiting: deque[_Batch] = deque()
        self.name = name
        self.qos = 0

    def set_options(self, qos: int, identifier: int) -> None:
        """How its records come from now on."""
        self.qos = qos
        self._hop = encode_hop_properties(subscription_ids=(identifier,) if identifier else ())

    @property
    def waits(self) -> bool:
        """Whether there are records to be sent."""
        return bool(self._waiting)

    def send(self, count: int) -> int:
        """Send up to ``count`` records, as far as the client takes them: how many it were."""
        session = self._session
        out = session.out
        if self._waiting and not session.who.allows("stream:Read", self.name):
            text = f"{session.who.name} may not read the stream {self.name}"
            self._streaming.ended(self, PermissionDenied(text))
            return 0
        sent = 0
        while self._waiting and sent < count and not out.slow and out.out_bytes < OUT_BYTES_MAX:
            if self.qos and out.room <= 0:
                break
            batch = self._waiting[0]
            self._send_one(next(batch.records), batch)
            sent += 1
            batch.left -= 1
            if not batch.left:
                self._waiting.popleft()
            self._on_sent(batch)
        return sent

    def _send_one(self, record: Record, batch: _Batch) -> None:
        session = self._session
        out = session.out
        number = out.take_id() if self.qos else 0
        properties = b""
        if session.version == V5:
            properties = self._hop + batch.properties_of(record)
        sent = out.send_publish(self._wire, self.qos, False, False, properties, record.body, number)
        share = batch.share
        if number and sent:
            out.held[number] = Held(1, share, (record.number, 0))
        if share is not None:
            share.next = record.number + 1
            if number and sent:
                share.unacknowledged[record.number] = None
            else:
                share.acknowledged += 1

    def _on_sent(self, batch: _Batch) -> None:
        """A record of a batch was sent; the batch waits no longer if it was the last one."""
        raise NotImplementedError

    def keep(self, now_ms: int) -> None:
        """Have it kept how far the client is, where that is kept."""

    def end(self, now_ms: int) -> None:
        """Read nothing more."""
        raise NotImplementedError


class Tailing(Streamed):
    """A subscription to all shards of a stream, for this client alone."""

    def __init__(self, streaming: "Streaming", session: "MqttSession", name: str) -> None:
        super().__init__(streaming, session, name)
        self._following = Following(
            session.core, session.who, name, STREAMED_BYTES_MAX, self, self._fail
        )

    def begin(self, start: Start) -> None:
        """Read from ``start`` on. Raises NotFound, PermissionDenied, BrokerFailed."""
        self._following.begin(start)

    def _fail(self, error: BraidError) -> None:
        self._streaming.ended(self, error)

    def tail_chunk(self, tail: Tail, shard: int, chunk: Chunk, last: bool) -> bool:
        """Records were read."""
        if chunk.count:
            self._waiting.append(_Batch(shard, chunk, None))
            self._session.wake()
        return True

    def tail_ended(self, tail: Tail, error: BraidError) -> None:
        """The broker ended it."""
        self._fail(error)

    def _on_sent(self, batch: _Batch) -> None:
        if not batch.left:
            self._following.grant(batch.bytes)

    def end(self, now_ms: int) -> None:
        self._waiting.clear()
        self._following.close()


class _Share:
    """A shard that a member has.

    Attributes:
        next: behind the last record that was sent. kept: all below is checkpointed.
        unacknowledged: records that were sent, in order. acknowledged: how many were, since then.
        is_read: there is nothing more to be read, for it was split or merged.
        is_wanted: it is asked back. is_over: it is the member's no longer.
    """

    __slots__ = (
        "acknowledged",
        "epoch",
        "index",
        "is_over",
        "is_read",
        "is_wanted",
        "kept",
        "next",
        "source",
        "unacknowledged",
    )

    def __init__(self, source: "Joined", index: int, epoch: int, number: int) -> None:
        self.source = source
        self.index = index
        self.epoch = epoch
        self.next = self.kept = number
        self.unacknowledged: dict[int, None] = {}
        self.acknowledged = 0
        self.is_read = self.is_wanted = self.is_over = False

    def settle(self, receipts: Sequence[Receipt]) -> None:
        """The client has records."""
        for number, _ in receipts:
            self.unacknowledged.pop(number, None)
        self.acknowledged += len(receipts)
        self.source.progressed(self)


class Joined(Streamed):
    """A subscription as a member of a consumer group."""

    def __init__(self, streaming: "Streaming", session: "MqttSession", name: str) -> None:
        super().__init__(streaming, session, name)
        self._member: Member | None = None
        self._shares: dict[int, _Share] = {}
        self._noted: list[_Share] = []  # asked back since the last look

    def begin(self, group: str, start: Start, window: int) -> Durability:
        """Become a member; what to wait for.

        Raises NotFound, PermissionDenied, InvalidArgument, LimitExceeded, BrokerFailed.
        """
        session = self._session
        core = session.core
        most = min(window, core.limits.receive_messages_max)
        level, self._member = core.join_group(
            session.who,
            self.name,
            group,
            start,
            most,
            min(STREAMED_BYTES_MAX, core.limits.receive_bytes_max),
            self,
            None,
            core.now_ms,
        )
        return level

    # What the broker calls --------------------------------------------------------------------

    def group_event(self, member: Member, event: GroupEvent) -> None:
        """Something happened to a shard."""
        index = event.shard
        if event.kind == "assigned":
            self._shares[index] = _Share(self, index, event.epoch, event.number)
            return
        share = self._shares[index]
        assert share.epoch == event.epoch
        if event.kind == "records":
            assert event.chunk is not None
            share.is_read = event.chunk.ended
            self._waiting.append(_Batch(index, event.chunk, share))
        else:
            self._waiting = deque(batch for batch in self._waiting if batch.share is not share)
            share.is_wanted = True
            if event.kind == "revoked":
                self._noted.append(share)
            else:
                share.is_over = True
                del self._shares[index]
        self._session.wake()

    def group_ended(self, member: Member, error: BraidError) -> None:
        """The broker ended the membership."""
        self._streaming.ended(self, error)

    # What the client does ---------------------------------------------------------------------

    def send(self, count: int) -> int:
        noted, self._noted = self._noted, []
        for share in noted:
            self.progressed(share)
        return super().send(count)

    def _on_sent(self, batch: _Batch) -> None:
        share = batch.share
        assert share is not None and self._member is not None
        if not batch.left:
            self._session.core.more_records(self._member, share.index, share.epoch)
        if share.acknowledged or (share.is_read and not batch.left):
            self.progressed(share)

    def progressed(self, share: _Share) -> None:
        """The client has acknowledged records of a shard, or the shard is asked back."""
        if share.is_over:
            return
        if not share.unacknowledged and (share.is_wanted or self._is_sent(share)):
            self._checkpoint(share, self._session.core.now_ms)
            if share.is_wanted and self._member is not None:
                self._session.core.release_shard(self._member, share.index, share.epoch)
        elif share.acknowledged >= CHECKPOINT_RECORDS:
            self._checkpoint(share, self._session.core.now_ms)
        else:
            self._streaming.remind()

    def _is_sent(self, share: _Share) -> bool:
        """Whether a shard was read to its end, and all of it was sent."""
        return share.is_read and not any(batch.share is share for batch in self._waiting)

    def _checkpoint(self, share: _Share, now_ms: int) -> None:
        number = next(iter(share.unacknowledged), share.next)
        share.acknowledged = 0
        if share.is_over or number <= share.kept or self._member is None:
            return
        share.kept = number
        try:
            self._session.core.checkpoint(self._member, share.index, share.epoch, number, now_ms)
        except BraidError:  # the lease was lost, or the broker has failed: nothing counts any more
            share.is_over = True

    def keep(self, now_ms: int) -> None:
        for share in list(self._shares.values()):
            self._checkpoint(share, now_ms)

    def end(self, now_ms: int) -> None:
        self._waiting.clear()
        if self._member is not None:
            self.keep(now_ms)
            self._session.core.leave_group(self._member)
        for share in self._shares.values():
            share.is_over = True

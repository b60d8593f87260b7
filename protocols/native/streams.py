"""The server's side of streams and groups in the native protocol. Part of ``session.py``.

A tail is named by the number of its TAIL and gets blocks as they stand in the log, within a credit
in bytes. The core never knows of more of it than ``TAIL_BYTES``, and of none while the peer does
not read; and what it reads is not taken while too much waits to be sent, but read again. A member
of a group asks for each chunk, and what it has not asked on behind is bounded by the core.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ...broker.errors import BraidError, InvalidArgument, LeaseLost, LimitExceeded
from ...broker.message import Receipt, check_attributes
from ...broker.streamreading import Chunk
from ...broker.streams import Appending
from ...storage.log import Durability
from . import operations as op
from . import stream_operations as stream_op
from .frames import append_appended, append_frame, append_large_frame

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.group import Group, Member
    from ...broker.groupverbs import GroupEvent
    from ...broker.limits import Limits
    from ...broker.streamreading import ShardRead
    from ...broker.streamverbs import StreamInfo
    from ...broker.tail import Tail
    from ..session import Host

__all__ = [
    "LIST_STREAMS_MAX",
    "MEMBER_BYTES_MAX",
    "TAIL_BYTES",
    "StreamRequest",
    "StreamRequests",
    "StreamTail",
    "appending",
]

LIST_STREAMS_MAX: Final = 1_000  # in one answer
TAIL_BYTES: Final = 2 * 1024 * 1024
MEMBER_BYTES_MAX: Final = 256 * 1024 * 1024  # of chunks, for all members on a connection
_ENVELOPE_BYTES = 4 * 1024  # what a CHUNK or a GROUP_EVENT takes beside its blocks
_HASH_KEY_CHARACTERS_MAX = 39
_SYNC = Durability.SYNC


class StreamRequest:
    """Something that goes on after its request was read."""

    __slots__ = ("request",)

    def __init__(self, request: int) -> None:
        self.request = request

    def end(self, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        """Nobody wants it any more."""
        raise NotImplementedError


class _Reading(StreamRequest):
    """A READ that was not answered yet."""

    __slots__ = ("_core", "number", "read", "shard")

    def __init__(self, request: stream_op.Read, core: "Core") -> None:
        super().__init__(request.request)
        self.shard = request.shard
        self.number = request.number
        self.read: ShardRead | None = None
        self._core = core

    def end(self, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        if self.read is not None:
            self._core.streams.cancel(self.read)


class StreamTail(StreamRequest):
    """A TAIL: how much credit the client gave that the core does not know of yet."""

    __slots__ = ("starved", "tail", "wanted")

    def __init__(self, request: int, wanted: int) -> None:
        super().__init__(request)
        self.wanted = wanted
        self.tail: Tail | None = None
        self.starved = False  # stands in the list of those to pass credit on for

    def end(self, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        if self.tail is not None:
            self.tail.close()


class _Membership(StreamRequest):
    """A JOIN_GROUP."""

    __slots__ = ("_core", "member")

    def __init__(self, request: int, core: "Core") -> None:
        super().__init__(request)
        self.member: Member | None = None
        self._core = core

    def end(self, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        if self.member is not None:
            self._core.leave_group(self.member)


class StreamRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    finished: bool
    _core: "Core"
    _host: "Host"
    _limits: "Limits"
    _who: "Principal"
    _out: bytearray
    _open: dict[int, Any]
    _unanswered: int
    _sends: bool
    _peer_is_slow: bool
    _starved: list[StreamTail]

    def _answers(self, level: Durability, count: int = 1) -> bytearray:
        raise NotImplementedError

    def _wait_until_kept(self) -> None:
        raise NotImplementedError

    def _check_new(self, request: int) -> None:
        raise NotImplementedError

    def _error(self, request: int, error: BraidError) -> None:
        raise NotImplementedError

    # --- what the core calls ---

    def _on_chunk(self, reading: object, chunk: Chunk | BraidError) -> None:
        assert isinstance(reading, _Reading)
        if self._open.pop(reading.request, None) is None:
            return
        if isinstance(chunk, BraidError):
            self._error(reading.request, chunk)
        else:
            if self._peer_is_slow or len(self._out) > self._limits.outbound_bytes_max:
                chunk = Chunk([], 0, 0, reading.number, chunk.behind_ms)
            self._append_chunk(reading.request, True, reading.shard, chunk)
        self._host.wake()

    def _append_chunk(self, request: int, last: bool, shard: int, chunk: Chunk) -> None:
        append_large_frame(
            self._out, stream_op.ChunkReply(request, last, shard, stream_op.wire_chunk(chunk))
        )

    def tail_chunk(self, tail: "Tail", shard: int, chunk: Chunk, last: bool) -> bool:
        """Send what was read for a tail, if not too much waits to be sent."""
        stream_tail = tail.tag
        assert isinstance(stream_tail, StreamTail)
        self._host.wake()
        if len(self._out) > self._limits.outbound_bytes_max:
            stream_tail.wanted += max(tail.credit, 1)
            self._starve(stream_tail)
            return False
        self._append_chunk(stream_tail.request, last, shard, chunk)
        if last:
            self._open.pop(stream_tail.request, None)
        else:
            self._starve(stream_tail)
        return True

    def tail_ended(self, tail: "Tail", error: BraidError) -> None:
        """The broker ended a tail."""
        assert isinstance(tail.tag, StreamTail)
        self._ended(tail.tag, error)

    def group_event(self, member: "Member", event: "GroupEvent") -> None:
        """Tell a member what happened to one of its shards."""
        membership = member.tag
        assert isinstance(membership, _Membership)
        chunk = None if event.chunk is None else stream_op.wire_chunk(event.chunk)
        told = stream_op.WireGroupEvent(event.kind, event.shard, event.epoch, event.number, chunk)
        append_large_frame(self._out, stream_op.GroupEventReply(membership.request, told))
        self._host.wake()

    def group_ended(self, member: "Member", error: BraidError) -> None:
        """The broker ended a membership."""
        assert isinstance(member.tag, _Membership)
        self._ended(member.tag, error)

    def _ended(self, ended: StreamRequest, error: BraidError) -> None:
        if self._open.pop(ended.request, None) is not None:
            self._error(ended.request, error)
            self._host.wake()

    def _on_number(self, request: object, number: int | BraidError) -> None:
        assert isinstance(request, int)
        self._unanswered -= 1
        if self.finished:
            return
        if isinstance(number, BraidError):
            self._error(request, number)
        else:
            append_frame(self._out, stream_op.NumberReply(request, number))
        self._host.wake()

    def _on_reset(self, argument: object, group: "Group | BraidError") -> None:
        assert isinstance(argument, tuple)
        request, now_ms = argument
        self._unanswered -= 1
        if self.finished:
            return
        if isinstance(group, BraidError):
            self._error(request, group)
        else:
            info = self._core.describe_group(group, now_ms)
            append_frame(self._answers(_SYNC), stream_op.GroupsReply(request, [info]))
            self._wait_until_kept()
        self._host.wake()

    # --- what the session calls ---

    def _pass_bytes_on(self) -> None:
        """Tell the core of the credit of tails, as far as it may know."""
        starved, self._starved = self._starved, []
        for stream_tail in starved:
            stream_tail.starved = False
            tail = stream_tail.tail
            if tail is None or tail.closed:
                continue
            size = min(stream_tail.wanted, TAIL_BYTES - tail.credit)
            if size > 0:
                stream_tail.wanted -= size
                tail.grant(size)

    def _starve(self, stream_tail: StreamTail) -> None:
        if stream_tail.wanted and not stream_tail.starved:
            stream_tail.starved = True
            self._starved.append(stream_tail)

    def _give_bytes(self, stream_tail: StreamTail, size: int) -> None:
        stream_tail.wanted += size
        self._starve(stream_tail)

    def _fitting(self, size: int) -> int:
        """So many bytes of blocks, or as many as go into a frame."""
        room = self._limits.frame_bytes_max - _ENVELOPE_BYTES
        return room if room < size <= self._limits.receive_bytes_max else size

    # --- one method per operation: streams ---

    def on_declare_stream(self, request: stream_op.DeclareStream, now_ms: int) -> None:
        info = self._core.declare_stream(
            self._who, request.stream, request.settings, request.shards, now_ms
        )
        self._answer_stream(request.request, info)

    def on_update_stream(self, request: stream_op.UpdateStream, now_ms: int) -> None:
        info = self._core.update_stream(self._who, request.stream, request.changes, now_ms)
        self._answer_stream(request.request, info)

    def on_delete_stream(self, request: stream_op.DeleteStream, now_ms: int) -> None:
        self._core.delete_stream(self._who, request.stream)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))

    def on_stream_info(self, request: stream_op.StreamInfoRequest, now_ms: int) -> None:
        info = self._core.stream_info(self._who, request.stream)
        self._answer_stream(request.request, info)  # when what it shows is kept

    def on_list_streams(self, request: stream_op.ListStreams, now_ms: int) -> None:
        limit = min(request.limit, LIST_STREAMS_MAX)
        found = self._core.list_streams(self._who, request.prefix, request.after, limit)
        append_frame(self._out, stream_op.StreamsReply(request.request, found))

    def on_split_shard(self, request: stream_op.SplitShard, now_ms: int) -> None:
        info = self._core.split_shard(
            self._who, request.stream, request.shard, request.hash_key, now_ms
        )
        self._answer_stream(request.request, info)

    def on_merge_shards(self, request: stream_op.MergeShards, now_ms: int) -> None:
        info = self._core.merge_shards(
            self._who, request.stream, request.shard, request.other, now_ms
        )
        self._answer_stream(request.request, info)

    def on_rescale_stream(self, request: stream_op.RescaleStream, now_ms: int) -> None:
        info = self._core.rescale_stream(self._who, request.stream, request.shards, now_ms)
        self._answer_stream(request.request, info)

    def _answer_stream(self, request: int, info: "StreamInfo") -> None:
        append_frame(self._answers(_SYNC), stream_op.StreamsReply(request, [info]))

    # --- records ---

    def on_append(self, request: stream_op.Append, now_ms: int) -> None:
        batch = appending(request, self._limits)
        level, results = self._core.append(self._who, request.stream, batch, now_ms)
        append_appended(self._answers(level), request.request, results)
        self._sends = True

    def on_appends(
        self, like: stream_op.Append, requests: list[int], bodies: list[bytes], now_ms: int
    ) -> None:
        """APPENDs that differ from ``like``, which was handled, in request and body."""
        one = appending(like, self._limits)
        most = self._limits.batch_messages_max
        for at in range(0, len(requests), most):
            some = requests[at : at + most]
            batch = Appending(
                bodies[at : at + most],
                list(one.keys) * len(some),
                one.headers and list(one.headers) * len(some),
                one.hash_keys and list(one.hash_keys) * len(some),
            )
            try:
                level, results = self._core.append(self._who, like.stream, batch, now_ms)
            except BraidError as error:
                for request in some:
                    self._error(request, error)
            else:
                answers = self._answers(level, len(some))
                for request, result in zip(some, results, strict=True):
                    append_appended(answers, request, (result,))

    def on_find_number(self, request: stream_op.FindNumber, now_ms: int) -> None:
        self._unanswered += 1
        try:
            self._core.find_number(
                self._who,
                request.stream,
                request.shard,
                request.start.start(),
                self._on_number,
                request.request,
            )
        except BraidError:
            self._unanswered -= 1
            raise

    def on_read(self, request: stream_op.Read, now_ms: int) -> None:
        self._check_new(request.request)
        reading = _Reading(request, self._core)
        reading.read = self._core.read_shard(
            self._who,
            request.stream,
            request.shard,
            request.number,
            request.records_max,
            self._fitting(request.bytes_max),
            request.wait_ms,
            self._on_chunk,
            reading,
            now_ms,
        )
        self._open[request.request] = reading

    def on_tail(self, request: stream_op.Tail, now_ms: int) -> None:
        self._check_new(request.request)
        stream_tail = StreamTail(request.request, request.credit)
        stream_tail.tail = self._core.tail_shards(
            self._who,
            request.stream,
            dict(request.shards),
            0,
            request.follow,
            request.until_end,
            self,
            stream_tail,
        )
        self._open[request.request] = stream_tail
        append_frame(self._out, op.DoneReply(request.request))
        self._starve(stream_tail)

    # --- groups ---

    def on_join_group(self, request: stream_op.JoinGroup, now_ms: int) -> None:
        self._check_new(request.request)
        bytes_max = self._fitting(request.bytes_max)
        if self._member_bytes + bytes_max > MEMBER_BYTES_MAX:
            raise LimitExceeded(f"members on a connection take {MEMBER_BYTES_MAX} bytes in all")
        membership = _Membership(request.request, self._core)
        level, membership.member = self._core.join_group(
            self._who,
            request.stream,
            request.group,
            request.start.start(),
            request.records_max,
            bytes_max,
            self,
            membership,
            now_ms,
        )
        self._open[request.request] = membership
        reply = stream_op.JoinedReply(request.request, membership.member.id)
        append_frame(self._answers(level), reply)

    @property
    def _member_bytes(self) -> int:
        """What may wait to be sent to the members on this connection."""
        found = [each.member for each in self._open.values() if isinstance(each, _Membership)]
        return sum([member.bytes_max for member in found if member is not None])

    def _member(self, request: int) -> "Member | None":
        membership = self._open.get(request)
        return membership.member if isinstance(membership, _Membership) else None

    def on_more(self, request: stream_op.More, now_ms: int) -> None:
        member = self._member(request.request)
        if member is not None:
            self._core.more_records(member, request.shard, request.epoch)

    def on_checkpoint(self, request: stream_op.Checkpoint, now_ms: int) -> None:
        member = self._member(request.member)
        if member is None:
            raise LeaseLost(f"{request.member} is no membership any more")
        level = self._core.checkpoint(member, request.shard, request.epoch, request.number, now_ms)
        append_frame(self._answers(level), op.DoneReply(request.request))

    def on_release(self, request: stream_op.Release, now_ms: int) -> None:
        member = self._member(request.request)
        if member is not None:
            self._core.release_shard(member, request.shard, request.epoch)

    def on_list_groups(self, request: stream_op.ListGroups, now_ms: int) -> None:
        limit = min(request.limit, LIST_STREAMS_MAX)
        found = self._core.list_groups(
            self._who, request.stream, request.prefix, request.after, limit, now_ms
        )
        append_frame(self._out, stream_op.GroupsReply(request.request, found))

    def on_group_info(self, request: stream_op.GroupInfoRequest, now_ms: int) -> None:
        info = self._core.group_info(self._who, request.stream, request.group, now_ms)
        append_frame(self._out, stream_op.GroupsReply(request.request, [info]))

    def on_reset_group(self, request: stream_op.ResetGroup, now_ms: int) -> None:
        self._unanswered += 1
        try:
            self._core.reset_group(
                self._who,
                request.stream,
                request.group,
                request.start.start(),
                request.shard,
                request.force,
                self._on_reset,
                (request.request, now_ms),
                now_ms,
            )
        except BraidError:
            self._unanswered -= 1
            raise

    def on_delete_group(self, request: stream_op.DeleteGroup, now_ms: int) -> None:
        self._core.delete_group(self._who, request.stream, request.group)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))


def appending(request: stream_op.Append, limits: "Limits") -> Appending:
    """The records of an APPEND. Raises InvalidArgument, TooLarge."""
    for headers in request.headers:
        if headers:
            check_attributes(headers, limits)
    return Appending(
        request.bodies,
        request.keys or [b""] * len(request.bodies),
        request.headers or None,
        [_hash_key(each) for each in request.hash_keys] if request.hash_keys else None,
    )


def _hash_key(text: str) -> int:
    """What a hash key says; -1: nothing. Raises InvalidArgument."""
    if not text:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= _HASH_KEY_CHARACTERS_MAX):
        raise InvalidArgument("a hash key is a decimal number of at most 39 digits")
    return int(text)

"""The operations about streams and groups. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.groupverbs import GroupEvent, GroupInfo
from ...broker.stream_settings import StreamSettings
from ...broker.streamreading import Chunk
from ...broker.streamverbs import Start, StreamInfo

__all__ = [
    "OPERATIONS",
    "Append",
    "AppendedReply",
    "Checkpoint",
    "ChunkReply",
    "DeclareStream",
    "DeleteGroup",
    "DeleteStream",
    "FindNumber",
    "GroupEventReply",
    "GroupInfoRequest",
    "GroupsReply",
    "JoinGroup",
    "JoinedReply",
    "ListGroups",
    "ListStreams",
    "MergeShards",
    "More",
    "NumberReply",
    "Read",
    "Release",
    "Reply",
    "Request",
    "RescaleStream",
    "ResetGroup",
    "SplitShard",
    "StreamInfoRequest",
    "StreamsReply",
    "Tail",
    "UpdateStream",
    "WireChunk",
    "WireGroupEvent",
    "WireRefusal",
    "WireStart",
    "wire_chunk",
]

# As in operations.py, which gathers all operations and so cannot be imported here.
_BATCH_DECODED_MAX: Final = 65_536
_RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Change = bool | int | str | dict[str, str]
_Bytes = Annotated[list[bytes], msgspec.Meta(max_length=_BATCH_DECODED_MAX)]
_HashKeys = Annotated[list[str], msgspec.Meta(max_length=_BATCH_DECODED_MAX)]
_Places = Annotated[list[tuple[_Count, _Number]], msgspec.Meta(max_length=_BATCH_DECODED_MAX)]


class WireStart(Start, array_like=True, frozen=True, gc=False):
    """[kind, number, time_ms]"""

    def start(self) -> Start:
        """The same as the broker keeps it, in definitions of groups."""
        return Start(self.kind, self.number, self.time_ms)


class WireChunk(Chunk, array_like=True, gc=False):
    """[blocks, skip, count, next, behind_ms, ended, children]"""


def wire_chunk(c: Chunk) -> WireChunk:
    """A chunk as it travels."""
    return WireChunk(c.blocks, c.skip, c.count, c.next, c.behind_ms, c.ended, c.children)


class WireGroupEvent(GroupEvent, array_like=True, gc=False):
    """[kind, shard, epoch, number, chunk]"""

    chunk: WireChunk | None = None


class WireRefusal(msgspec.Struct, array_like=True, gc=False):
    """[index, code, text]: what is wrong with one record of a batch."""

    index: int
    code: str
    text: str


# --- requests ---


class DeclareStream(msgspec.Struct, array_like=True, tag=33):
    request: _RequestId
    stream: str
    settings: StreamSettings
    shards: _Count = 1


class UpdateStream(msgspec.Struct, array_like=True, tag=34):
    request: _RequestId
    stream: str
    changes: Annotated[dict[str, _Change], msgspec.Meta(max_length=64)]


class DeleteStream(msgspec.Struct, array_like=True, tag=35):
    request: _RequestId
    stream: str


class StreamInfoRequest(msgspec.Struct, array_like=True, tag=36):
    request: _RequestId
    stream: str


class ListStreams(msgspec.Struct, array_like=True, tag=37):
    request: _RequestId
    prefix: str = ""
    after: str = ""
    limit: _Count = 1000


class Append(msgspec.Struct, array_like=True, tag=38):
    """Columns of one length; one that is empty is not there."""

    request: _RequestId
    stream: str
    bodies: _Bytes
    keys: _Bytes = []
    headers: _Bytes = []
    hash_keys: _HashKeys = []


class FindNumber(msgspec.Struct, array_like=True, tag=39):
    request: _RequestId
    stream: str
    shard: _Count
    start: WireStart


class Read(msgspec.Struct, array_like=True, tag=40):
    request: _RequestId
    stream: str
    shard: _Count
    number: _Number
    records_max: _Count = 1_000
    bytes_max: _Count = 1024 * 1024
    wait_ms: _Count = 0


class Tail(msgspec.Struct, array_like=True, tag=41):
    """``request`` names the tail from now on. ``shards`` are pairs of a shard and a number."""

    request: _RequestId
    stream: str
    shards: _Places
    credit: _Count
    follow: bool = True
    until_end: bool = False


class SplitShard(msgspec.Struct, array_like=True, tag=42):
    request: _RequestId
    stream: str
    shard: _Count
    hash_key: str = ""


class MergeShards(msgspec.Struct, array_like=True, tag=43):
    request: _RequestId
    stream: str
    shard: _Count
    other: _Count


class RescaleStream(msgspec.Struct, array_like=True, tag=44):
    request: _RequestId
    stream: str
    shards: _Count


class JoinGroup(msgspec.Struct, array_like=True, tag=45):
    """``request`` names the member from now on."""

    request: _RequestId
    stream: str
    group: str
    start: WireStart
    records_max: _Count = 1_000
    bytes_max: _Count = 4 * 1024 * 1024


class More(msgspec.Struct, array_like=True, tag=46):
    """``request`` is the member's. Gets no reply."""

    request: _RequestId
    shard: _Count
    epoch: _Number


class Checkpoint(msgspec.Struct, array_like=True, tag=47):
    request: _RequestId
    member: _RequestId
    shard: _Count
    epoch: _Number
    number: _Number


class Release(msgspec.Struct, array_like=True, tag=52):
    """``request`` is the member's. Gets no reply."""

    request: _RequestId
    shard: _Count
    epoch: _Number


class ListGroups(msgspec.Struct, array_like=True, tag=53):
    request: _RequestId
    stream: str
    prefix: str = ""
    after: str = ""
    limit: _Count = 1000


class GroupInfoRequest(msgspec.Struct, array_like=True, tag=54):
    request: _RequestId
    stream: str
    group: str


class ResetGroup(msgspec.Struct, array_like=True, tag=55):
    request: _RequestId
    stream: str
    group: str
    start: WireStart
    shard: int = -1
    force: bool = False


class DeleteGroup(msgspec.Struct, array_like=True, tag=63):
    request: _RequestId
    stream: str
    group: str


Request = (
    DeclareStream
    | UpdateStream
    | DeleteStream
    | StreamInfoRequest
    | ListStreams
    | Append
    | FindNumber
    | Read
    | Tail
    | SplitShard
    | MergeShards
    | RescaleStream
    | JoinGroup
    | More
    | Checkpoint
    | Release
    | ListGroups
    | GroupInfoRequest
    | ResetGroup
    | DeleteGroup
)


# --- replies ---


class StreamsReply(msgspec.Struct, array_like=True, tag=83):
    request: int
    streams: list[StreamInfo]


class AppendedReply(msgspec.Struct, array_like=True, tag=84):
    """Two columns, 0 and 0 for the records that ``errors`` speaks of."""

    request: int
    shards: list[int]
    numbers: list[int]
    errors: list[WireRefusal] = []


class NumberReply(msgspec.Struct, array_like=True, tag=85):
    request: int
    number: int


class ChunkReply(msgspec.Struct, array_like=True, tag=86):
    """For a READ, or for a TAIL, which ends when ``last`` is true."""

    request: int
    last: bool
    shard: int
    chunk: WireChunk


class JoinedReply(msgspec.Struct, array_like=True, tag=87):
    request: int
    member: int


class GroupEventReply(msgspec.Struct, array_like=True, tag=88):
    request: int
    event: WireGroupEvent


class GroupsReply(msgspec.Struct, array_like=True, tag=89):
    request: int
    groups: list[GroupInfo]


Reply = (
    StreamsReply
    | AppendedReply
    | NumberReply
    | ChunkReply
    | JoinedReply
    | GroupEventReply
    | GroupsReply
)

OPERATIONS: Final[dict[str, int]] = {
    "DECLARE_STREAM": 33,
    "UPDATE_STREAM": 34,
    "DELETE_STREAM": 35,
    "STREAM_INFO": 36,
    "LIST_STREAMS": 37,
    "APPEND": 38,
    "FIND_NUMBER": 39,
    "READ": 40,
    "TAIL": 41,
    "SPLIT_SHARD": 42,
    "MERGE_SHARDS": 43,
    "RESCALE_STREAM": 44,
    "JOIN_GROUP": 45,
    "MORE": 46,
    "CHECKPOINT": 47,
    "RELEASE": 52,
    "LIST_GROUPS": 53,
    "GROUP_INFO": 54,
    "RESET_GROUP": 55,
    "DELETE_GROUP": 63,
    "STREAMS": 83,
    "APPENDED": 84,
    "NUMBER": 85,
    "CHUNK": 86,
    "JOINED": 87,
    "GROUP_EVENT": 88,
    "GROUPS": 89,
}

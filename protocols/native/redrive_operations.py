"""The operations about redrives. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.verbs import RedriveInfo

__all__ = [
    "OPERATIONS",
    "CancelRedrive",
    "ListRedrives",
    "Redrive",
    "RedrivesReply",
    "Request",
]

_RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Redrive(msgspec.Struct, array_like=True, tag=21):
    request: _RequestId
    source: str
    target: str = ""
    rate: float = 0
    limit: _Count = 0


class ListRedrives(msgspec.Struct, array_like=True, tag=22):
    request: _RequestId


class CancelRedrive(msgspec.Struct, array_like=True, tag=23):
    request: _RequestId
    redrive: int


class RedrivesReply(msgspec.Struct, array_like=True, tag=74):
    request: int
    redrives: list[RedriveInfo]


Request = Redrive | ListRedrives | CancelRedrive

OPERATIONS: Final[dict[str, int]] = {
    "REDRIVE": 21,
    "LIST_REDRIVES": 22,
    "CANCEL_REDRIVE": 23,
    "REDRIVES": 74,
}

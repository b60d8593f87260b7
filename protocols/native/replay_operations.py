"""The operations about replays. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.replayverbs import ReplayInfo, ReplayPolicy
from .binding_operations import WireTarget

__all__ = ["OPERATIONS", "ListReplays", "Replay", "ReplaysReply", "WirePolicy"]

_RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class WirePolicy(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """[archive, start_ms, end_ms, rate]; only the archive must be."""

    archive: str
    start_ms: _Milliseconds = 0
    end_ms: _Milliseconds = 0
    rate: float = 0

    def policy(self) -> ReplayPolicy:
        """The same as the broker has it."""
        return ReplayPolicy(self.archive, self.start_ms, self.end_ms, self.rate)


class Replay(msgspec.Struct, array_like=True, tag=14):
    request: _RequestId
    filter: str
    target: WireTarget
    policy: WirePolicy


class ListReplays(msgspec.Struct, array_like=True, tag=15):
    """``cancel``: one to stop first; then that one alone is answered. 0: none."""

    request: _RequestId
    cancel: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0


class ReplaysReply(msgspec.Struct, array_like=True, tag=113):
    request: int
    replays: list[ReplayInfo]


OPERATIONS: Final[dict[str, int]] = {"REPLAY": 14, "LIST_REPLAYS": 15, "REPLAYS": 113}

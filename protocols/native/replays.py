"""The server's side of replays in the native protocol. Part of ``session.py``."""

from ...storage.log import Durability
from . import replay_operations as replay_op
from .bindings import BindingRequests
from .frames import append_frame

__all__ = ["ReplayRequests"]

_SYNC = Durability.SYNC


class ReplayRequests(BindingRequests):
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    def on_replay(self, request: replay_op.Replay, now_ms: int) -> None:
        info = self._core.replay(
            self._who, request.filter, request.target.target(), request.policy.policy(), now_ms
        )
        append_frame(self._answers(_SYNC), replay_op.ReplaysReply(request.request, [info]))

    def on_list_replays(self, request: replay_op.ListReplays, now_ms: int) -> None:
        if request.cancel:
            found = [self._core.cancel_replay(self._who, request.cancel)]
        else:
            found = self._core.list_replays(self._who)
        # What a crash could take back is not told, not even how far they are.
        append_frame(self._answers(_SYNC), replay_op.ReplaysReply(request.request, found))

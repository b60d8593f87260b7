"""The client's side of replays in the native protocol. Part of ``client.py``."""

from typing import Any

from ...broker.bindingverbs import Target
from ...broker.replayverbs import ReplayInfo, ReplayPolicy
from .bindingclient import BindingCalls, Caller

__all__ = ["ReplayCalls"]


class ReplayCalls(BindingCalls):
    """The verbs of replays."""

    async def replay(self: Caller, filter: str, target: Target, policy: ReplayPolicy) -> ReplayInfo:
        fields = policy.archive, policy.start_ms, policy.end_ms, policy.rate
        return _one(await self.call("REPLAY", filter, (target.kind, target.name), fields))

    async def list_replays(self: Caller) -> list[ReplayInfo]:
        reply = await self.read("LIST_REPLAYS")
        found: list[ReplayInfo] = reply.replays
        return found

    async def cancel_replay(self: Caller, id: int) -> ReplayInfo:
        return _one(await self.call("LIST_REPLAYS", id))


def _one(reply: Any) -> ReplayInfo:
    (info,) = reply.replays
    assert isinstance(info, ReplayInfo)
    return info

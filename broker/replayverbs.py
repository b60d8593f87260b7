"""What can be asked about replays: the verbs, to await, and the values that go in and out.

The broker in this process and the client of the native protocol both implement them. The words are
those of SNS, where a subscription has a replay policy with a starting and an ending point.
"""

from typing import Literal, Protocol

import msgspec

from .bindingverbs import Target

__all__ = ["ReplayInfo", "ReplayPolicy", "ReplayState", "ReplayVerbs"]

ReplayState = Literal["running", "done", "cancelled", "failed"]


class ReplayPolicy(msgspec.Struct, frozen=True, gc=False):
    """What is to be replayed.

    Attributes:
        archive: the stream that has kept what was published.
        start_ms, end_ms: what it took from the one on and before the other, unix ms; an end of 0,
            or one that is yet to come: what it has now.
        rate: messages a second, 0: as fast as goes.
    """

    archive: str
    start_ms: int = 0
    end_ms: int = 0
    rate: float = 0


class ReplayInfo(msgspec.Struct):
    """A replay as it is now."""

    id: int
    filter: str
    target: Target
    policy: ReplayPolicy
    user: str  # whose rights it has
    created_ms: int
    state: ReplayState
    error: str  # why it failed
    examined: int  # records of the archive that were looked at
    remaining: int  # records of the archive that are still to be looked at, at most
    replayed: int  # messages that the target got
    refused: int  # messages that are too large for the target


class ReplayVerbs(Protocol):
    """Everything a client can ask about replays."""

    async def replay(self, filter: str, target: Target, policy: ReplayPolicy) -> ReplayInfo:
        """Have what an archive keeps of a topic put into what is bound to it, once more.

        Raises NotFound (the binding, the archive), Conflict (one is running for the binding).
        """

    async def list_replays(self) -> list[ReplayInfo]:
        """Replays that run, and those that ended lately."""

    async def cancel_replay(self, id: int) -> ReplayInfo:
        """Stop one; what the target got stays. Raises NotFound."""

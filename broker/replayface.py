"""Replays for people, the same in process and over the wire.

The part of a broker's face that is about replays; the rules are those of ``face.py``.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from .bindingface import BindingFace, one_target
from .errors import InvalidArgument
from .replayverbs import ReplayInfo, ReplayPolicy

if TYPE_CHECKING:
    from .replayverbs import ReplayVerbs

__all__ = ["ReplayFace"]


class ReplayFace(BindingFace):
    """What a broker can be asked about replays. ``verbs`` is that of the whole face."""

    if TYPE_CHECKING:

        @property
        def _replay_verbs(self) -> ReplayVerbs: ...

    else:

        @property
        def _replay_verbs(self):
            return self.verbs

    async def replay(
        self,
        topic: str,
        *,
        queue: str = "",
        stream: str = "",
        webhook: str = "",
        archive: str,
        start: datetime | None = None,
        end: datetime | None = None,
        rate: float = 0,
    ) -> ReplayInfo:
        """Have what an archive keeps of a topic put into what is bound to it, once more.

        It goes on by itself, also after a restart: :meth:`replays` tells how far it is. Messages
        come with the headers ``replayed``, ``replayed-from`` and ``replayed-time``, those of one
        partition key in their order; what the binding asks for is asked of them, too.

        Args:
            topic: a filter, as it was bound.
            queue, stream, webhook: what it is bound to; one of them.
            archive: the stream that was bound to the topic, then.
            start: what the archive took from this time on; None: all that it has.
            end: and before this one; None: up to now.
            rate: messages a second, 0: as fast as goes.

        Raises:
            NotFound: there is no such binding or archive. Conflict: one is running for this
            binding. InvalidArgument, PermissionDenied, LimitExceeded.
        """
        policy = ReplayPolicy(archive, _milliseconds(start), _milliseconds(end), rate)
        return await self._replay_verbs.replay(topic, one_target(queue, stream, webhook), policy)

    async def replays(self) -> list[ReplayInfo]:
        """Replays that run, and those that ended lately."""
        return await self._replay_verbs.list_replays()

    async def cancel_replay(self, id: int) -> ReplayInfo:
        """Stop one; what was replayed stays. Raises NotFound."""
        return await self._replay_verbs.cancel_replay(id)


def _milliseconds(time: datetime | None) -> int:
    if time is None:
        return 0
    if time.tzinfo is None:
        raise InvalidArgument("a time has a time zone")
    return max(round(time.timestamp() * 1000), 1)
